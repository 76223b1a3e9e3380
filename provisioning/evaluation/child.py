"""What a child process becomes between fork and exec: which user it is, and what happens to it when we die.

Decides: the user a server runs as, so that PostgreSQL, which refuses root, runs anywhere a clone can lie.
Leaves to others: what the child runs (servers, supervisor).

- As root, the child becomes another user where that user can reach every path it needs. Where it cannot (a clone under
  /root), it enters a user namespace in which our own files and our own connections belong to an ordinary user.
- The functions here run in the child with one thread and allocate little; callers fork from their main thread.
"""

from __future__ import annotations

import ctypes
import os
import pwd
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

PR_SET_PDEATHSIG = 1
CLONE_NEWUSER = 0x10000000


class NoIdentityError(Exception):
    """There is no user a server could run as. The message says what to do."""


def die_with_parent(number: int) -> Callable[[], None]:
    """For preexec_fn: ask the kernel to send this signal when the parent is gone, however it went."""
    libc = ctypes.CDLL(None, use_errno=True)
    parent = os.getpid()

    def arrange() -> None:
        libc.prctl(PR_SET_PDEATHSIG, number, 0, 0, 0)
        if os.getppid() != parent:  # it died between fork and prctl
            os._exit(1)

    return arrange


@dataclass(frozen=True)
class Identity:
    """Who a server process is: how to become it, and what PostgreSQL will believe our user name is."""

    uid: int
    gid: int
    namespace: bool
    client: str

    @property
    def switches(self) -> bool:
        """Whether the child changes its user; in a namespace it stays ours and only appears as another."""
        return not self.namespace and self.uid != os.geteuid()

    @property
    def user(self) -> int | None:
        return self.uid if self.switches else None

    @property
    def group(self) -> int | None:
        return self.gid if self.switches else None

    @property
    def groups(self) -> list[int] | None:
        return [] if self.switches else None

    def enter(self) -> None:
        """In the child: with a namespace, become an ordinary user that owns what root owned."""
        if not self.namespace:
            return
        if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWUSER) != 0:
            os._exit(126)
        Path("/proc/self/setgroups").write_text("deny", encoding="ascii")
        Path("/proc/self/uid_map").write_text(f"{self.uid} 0 1", encoding="ascii")
        Path("/proc/self/gid_map").write_text(f"{self.gid} 0 1", encoding="ascii")


def identity_for(paths: list[Path]) -> Identity:
    """The user PostgreSQL shall run as, given what it must be able to reach."""
    me = pwd.getpwuid(os.geteuid())
    if me.pw_uid != 0:
        return Identity(me.pw_uid, me.pw_gid, namespace=False, client=me.pw_name)
    other = _ordinary_user()
    if all(_reachable_by_others(path) for path in paths):
        return Identity(other.pw_uid, other.pw_gid, namespace=False, client="root")
    # Inside the namespace root's files and root's connections both appear as this user's.
    return Identity(other.pw_uid, other.pw_gid, namespace=True, client=other.pw_name)


def _ordinary_user() -> pwd.struct_passwd:
    for name in ("postgres", "daemon", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise NoIdentityError(
        "root cannot run PostgreSQL and there is no user postgres, daemon or nobody; run as an ordinary user"
    )


def _reachable_by_others(path: Path) -> bool:
    return all(parent.stat().st_mode & stat.S_IXOTH for parent in (path, *path.parents) if parent.is_dir())
