"""What a client may be granted, what a key or a user takes away from it, and when a key counts. Pure.

- The rights of a request are key ∩ user: `narrow` is the only way from one set of rights to another, and it can only
  take away. A key or an assertion that names something its client is not granted gains nothing.
- A key's scope never changes after it was issued; another scope is another key.
- What bounds a key to a place (networks, a certificate) must be proved at each use; what cannot be proved is refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network
from typing import TypeVar

from inference.clients.errors import ClientRefusedError
from inference.policy.catalog import FEATURES, LANES, PURPOSES, TASKS, Feature, Lane
from inference.policy.rules import Rights

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

LONGEST_LIFE = timedelta(days=730)
LONGEST_OVERLAP = timedelta(days=30)
MOST_NETWORKS = 32
MOST_NAMES = 64
# S4-7: this many refused attempts within this time are an alert, named by this and the client.
MOST_ATTEMPTS = 5
ATTEMPTS_WITHIN = timedelta(minutes=10)
ATTEMPTS_KEY = "clients.phi_attempts."
_NAME = re.compile(r"[a-z][a-z0-9-]{1,63}")
_TOOL = re.compile(r"[A-Za-z0-9_-]{1,64}")
_MODEL = re.compile(r"[A-Za-z0-9._-]{1,128}")
_ISSUER = re.compile(r"[\x21-\x7e]{1,255}")
_FINGERPRINT = re.compile(r"[0-9a-f]{64}")
_T = TypeVar("_T", bound=str)
_URGENCY = tuple(Lane)  # most urgent first


@dataclass(frozen=True)
class Narrowing:
    """Only these, of whatever there was; None takes nothing away."""

    tasks: frozenset[str] | None = None
    purposes: frozenset[str] | None = None
    lane: Lane | None = None
    phi: bool = True
    models: frozenset[str] | None = None
    features: frozenset[Feature] | None = None
    tools: frozenset[str] | None = None


@dataclass(frozen=True)
class Bounds:
    """Where a key may be used from; empty means anywhere, with any certificate or none."""

    networks: tuple[Network, ...] = ()
    certificate: str = ""
    """SHA-256 of the DER certificate of the one app that holds the key."""


@dataclass(frozen=True)
class Scope:
    """What one key leaves of its client's grants, and where it may be used from."""

    only: Narrowing = Narrowing()
    bounds: Bounds = Bounds()


def narrow(rights: Rights, by: Narrowing) -> Rights:
    """What is left of these rights. Never more than there was, in any field."""
    return replace(
        rights,
        tasks=_only(rights.tasks, by.tasks),
        purposes=_only(rights.purposes, by.purposes),
        lane=rights.lane if by.lane is None else max(rights.lane, by.lane, key=_URGENCY.index),
        phi=rights.phi and by.phi,
        models=by.models if rights.models is None else _only(rights.models, by.models),
        features=_only(rights.features, by.features),
        tools=_only(rights.tools, by.tools),
    )


def covers(now: Rights, then: Rights) -> bool:
    """True while today's rights hold everything that work begun earlier was given.

    The lane is not asked: a client moved to a slower lane has lost its place, not its right to the answer.
    """
    return (
        then.tasks <= now.tasks
        and then.purposes <= now.purposes
        and then.phi <= now.phi
        and then.features <= now.features
        and then.tools <= now.tools
        and (now.models is None or (then.models is not None and then.models <= now.models))
    )


def left(then: Rights, now: Rights) -> Rights:
    """What is left today of rights that were accepted earlier: no more than either, and for the same user."""
    return narrow(then, Narrowing(**{name: getattr(now, name) for name in Narrowing.__dataclass_fields__}))


def within(bounds: Bounds, *, address: Address | None) -> bool:
    """Is that address in one of the key's networks? An address nobody can prove is in none."""
    if not bounds.networks:
        return True
    return address is not None and any(address in network for network in bounds.networks)


def check_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise ClientRefusedError("client_name", "a name is 2 to 64 of a-z, 0-9 and -, beginning with a letter")


def check_grants(
    *, tasks: Iterable[str], purposes: Iterable[str], lane: str, features: Iterable[str], tools: Iterable[str]
) -> None:
    """Each grant is registered; a client without a task and a purpose is a key without a registered use."""
    tasks, purposes = set(tasks), set(purposes)
    if not tasks or not tasks <= TASKS.keys():
        raise ClientRefusedError("task_unknown", f"grant at least one task of: {', '.join(TASKS)}")
    if not purposes or not purposes <= set(PURPOSES):
        raise ClientRefusedError("purpose_unknown", f"grant at least one purpose of: {', '.join(PURPOSES)}")
    if lane not in LANES:
        raise ClientRefusedError("lane_unknown", f"the lane is one of: {', '.join(LANES)}")
    if not set(features) <= set(FEATURES):
        raise ClientRefusedError("feature_unknown", f"features are of: {', '.join(FEATURES)}")
    _check_names(tools, _TOOL, code="tool_name", says="a tool's name is 1 to 64 of letters, digits, _ and -")


def check_scope(scope: Scope, of: Rights) -> None:
    """A key is issued only with what its client has: naming more would promise what `narrow` then takes away."""
    only = scope.only
    if (only.tasks is not None and not only.tasks) or (only.purposes is not None and not only.purposes):
        raise ClientRefusedError("scope_empty", "a key keeps at least one task and one purpose")
    if only.lane is not None and _URGENCY.index(only.lane) < _URGENCY.index(of.lane):
        raise ClientRefusedError("lane_not_granted", "a key's lane is never more urgent than its client's")
    for named, granted in (
        (only.tasks, of.tasks),
        (only.purposes, of.purposes),
        (only.features, of.features),
        (only.tools, of.tools),
    ):
        if named is not None and not named <= granted:
            raise ClientRefusedError("scope_not_granted", "a key may only narrow what its client is granted")
    _check_names(only.models or (), _MODEL, code="model_name", says="a model's name has letters, digits, ., _ and -")
    if len(scope.bounds.networks) > MOST_NETWORKS:
        raise ClientRefusedError("too_many_networks", f"a key names at most {MOST_NETWORKS} networks")
    if scope.bounds.certificate and not _FINGERPRINT.fullmatch(scope.bounds.certificate):
        raise ClientRefusedError("certificate_fingerprint", "a certificate is named by 64 hexadecimal digits (SHA-256)")


def networks(texts: Iterable[str]) -> tuple[Network, ...]:
    """Networks as people write them. One with host bits set is a typing error, not a wider network."""
    try:
        return tuple(sorted({ip_network(text.strip()) for text in texts if text.strip()}, key=str))
    except ValueError as error:
        raise ClientRefusedError("network_invalid", "a network is written as 10.1.2.0/24 or fd00:1::/64") from error


def fingerprint(text: str) -> str:
    """A SHA-256 fingerprint as tools print it (AA:BB:...) in the one form that is kept."""
    return text.strip().replace(":", "").lower()


def check_issuer(iss: str) -> None:
    if not _ISSUER.fullmatch(iss):
        raise ClientRefusedError("issuer_iss", "an iss is 1 to 255 printable characters without a space")


def check_life(life: timedelta) -> None:
    if not timedelta(0) < life <= LONGEST_LIFE:
        raise ClientRefusedError("key_life", f"a key lives at most {LONGEST_LIFE.days} days")


def check_overlap(overlap: timedelta) -> None:
    if not timedelta(0) <= overlap <= LONGEST_OVERLAP:
        raise ClientRefusedError("key_overlap", f"two keys overlap for at most {LONGEST_OVERLAP.days} days")


def counts(*, now: datetime, expires: datetime, revoked_at: datetime | None, client_active: bool) -> bool:
    """Does this key open the door at this moment: yes or no."""
    return client_active and revoked_at is None and now < expires


def _only(had: frozenset[_T], named: frozenset[_T] | None) -> frozenset[_T]:
    return had if named is None else had & named


def _check_names(names: Iterable[str], form: re.Pattern[str], *, code: str, says: str) -> None:
    names = list(names)
    if len(names) > MOST_NAMES or not all(form.fullmatch(name) for name in names):
        raise ClientRefusedError(code, f"{says}, and there are at most {MOST_NAMES}")
