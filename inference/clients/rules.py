"""What a client may be granted, and when a key counts. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import datetime, timedelta

from inference.clients.errors import ClientRefusedError
from inference.policy.catalog import LANES, PURPOSES, TASKS

LONGEST_LIFE = timedelta(days=730)
_NAME = re.compile(r"[a-z][a-z0-9-]{1,63}")


def check_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise ClientRefusedError("client_name", "a client's name is 2 to 64 of a-z, 0-9 and -, beginning with a letter")


def check_grants(*, tasks: Iterable[str], purposes: Iterable[str], lane: str) -> None:
    """Each grant is registered, and there is at least one of each: a key without a registered use is not issued."""
    tasks, purposes = set(tasks), set(purposes)
    if not tasks or not tasks <= TASKS.keys():
        raise ClientRefusedError("task_unknown", f"grant at least one task of: {', '.join(TASKS)}")
    if not purposes or not purposes <= set(PURPOSES):
        raise ClientRefusedError("purpose_unknown", f"grant at least one purpose of: {', '.join(PURPOSES)}")
    if lane not in LANES:
        raise ClientRefusedError("lane_unknown", f"the lane is one of: {', '.join(LANES)}")


def check_life(life: timedelta) -> None:
    if not timedelta(0) < life <= LONGEST_LIFE:
        raise ClientRefusedError("key_life", f"a key lives at most {LONGEST_LIFE.days} days")


def counts(*, now: datetime, expires: datetime, revoked_at: datetime | None, client_active: bool) -> bool:
    """Does this key open the door at this moment: yes or no."""
    return client_active and revoked_at is None and now < expires
