"""One bad bundle: what is done to a good one, and the code it must get. Numbers are those of BAD_INPUTS."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tests.simulators.bundle_maker import BundleMaker

Spoil = Callable[[BundleMaker], None]


@dataclass(frozen=True)
class Case:
    """`spoil` gets a signed, good bundle; what it leaves on the medium must be refused with `code`."""

    item: int
    name: str
    code: str
    spoil: Spoil

    def __str__(self) -> str:
        return f"{self.item}-{self.name}"


CASES: list[Case] = []


def bad(item: int, code: str) -> Callable[[Spoil], Spoil]:
    """Register a function as one item of the corpus."""

    def add(spoil: Spoil) -> Spoil:
        CASES.append(Case(item, spoil.__name__, code, spoil))
        return spoil

    return add


def each(item: int, code: str, **spoils: Spoil) -> None:
    """Register several small items of one number."""
    for name, spoil in spoils.items():
        CASES.append(Case(item, name, code, spoil))
