"""The kinds of change there are. A kind declares its facts, its quorum and its executor.

Kinds are declared by the apps that own them, when Django is ready; this ledger knows none by name. The executor is a
dotted name, looked up when a change of that kind is carried out.
"""

from __future__ import annotations

from dataclasses import dataclass

from appliance.changes.errors import FactsError
from provisioning.approval import LEAST_QUORUM

_KINDS: dict[str, Kind] = {}


@dataclass(frozen=True)
class Kind:
    """What an approval of this kind covers, how many it needs, and what then happens."""

    name: str
    label: str
    required_facts: frozenset[str]
    executor: str
    quorum: int = LEAST_QUORUM

    def __post_init__(self) -> None:
        if self.quorum < LEAST_QUORUM:
            msg = f"{self.name}: a quorum under {LEAST_QUORUM} is one person's decision"
            raise ValueError(msg)


def register(kind: Kind) -> None:
    """Make a kind known; the same declaration twice is harmless, two different ones are a bug."""
    known = _KINDS.setdefault(kind.name, kind)
    if known != kind:
        msg = f"{kind.name} is declared twice"
        raise RuntimeError(msg)


def get(name: str) -> Kind:
    """The kind of that name; FactsError when there is none."""
    if name not in _KINDS:
        raise FactsError(f"There is no kind of change called {name}.")
    return _KINDS[name]


def label(name: str) -> str:
    """For people; the name itself when the kind is gone."""
    return _KINDS[name].label if name in _KINDS else name
