"""The room an engine runs in: a network with nothing in it, a process tree that ends with its keeper.

Decides how much isolation this machine gives, and says what it got: measured, not assumed. In production systemd has
already done most of it (PrivateNetwork and the rest) and the kernel refuses ours; that is fine.

- As root: a network, a process and a mount namespace of its own. When its first process dies, the kernel ends the
  rest: no engine outlives its keeper, not even by SIGKILL. Before the engine starts, the box's secrets and servers
  are mounted away, the release becomes read-only, and every capability is given up (SECURITY.md T28, T29).
- Otherwise: a network namespace if the kernel lets users make one, and the process tree is ended by hand.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import signal
import socket
import struct
from collections.abc import Callable, Iterable
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_PR_CAPBSET_DROP = 24
_PR_SET_NO_NEW_PRIVS = 38
_CAPABILITY_VERSION_3 = 0x20080522
_CLONE_NEWNS = 0x00020000
_CLONE_NEWUSER = 0x10000000
_CLONE_NEWPID = 0x20000000
_CLONE_NEWNET = 0x40000000
_MS_RDONLY = 1
_MS_NOSUID_NODEV_NOEXEC = 2 | 4 | 8
_MS_REMOUNT = 32
_MS_BIND = 4096
_MS_PRIVATE_EVERYWHERE = (1 << 18) | 16384
_SIOCSIFFLAGS = 0x8914
_IFF_UP = 1

POLITE = signal.SIGTERM
NOW = signal.SIGUSR1
"""To the guard of a cell: ask the engine to end; end everything at once. The second is also what a dead keeper sends."""

_libc = ctypes.CDLL(None, use_errno=True)


def guard(keeper: int, inside: Callable[[bool], None], tell: Callable[[int], None]) -> int:
    """Run `inside` as the first process of a new cell, and return its exit status when it, and all it left, are gone.

    `inside` hears whether it has a mount namespace of its own, and ends by `exec` or by `os._exit`. `tell` hears its
    process id as the outside sees it.
    """
    _prctl(_PR_SET_PDEATHSIG, NOW)
    if os.getppid() != keeper:
        return 1  # the keeper died before it could be noticed dying
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    enclosed = _enclose()
    child = os.fork()
    if child == 0:
        _first_process(enclosed, inside)
    signal.signal(POLITE, lambda _number, _frame: _send(child, signal.SIGTERM))
    signal.signal(NOW, lambda _number, _frame: _send(child, signal.SIGKILL))
    tell(child)
    _, status = os.waitpid(child, 0)
    _end_descendants()
    return os.waitstatus_to_exitcode(status)


def network() -> str:
    """What this process can reach, from the interfaces it sees."""
    return "empty namespace" if [name for _, name in socket.if_nameindex()] == ["lo"] else "host"


def seal(release: Path, hidden: Iterable[Path]) -> None:
    """For a process with a mount namespace: make `release` read-only, `hidden` empty, and lose the right to undo it."""
    _mount(str(release), str(release), None, _MS_BIND)
    _mount("none", str(release), None, _MS_BIND | _MS_REMOUNT | _MS_RDONLY | _MS_NOSUID_NODEV_NOEXEC)
    for path in hidden:
        if path.is_dir():
            _mount("none", str(path), "tmpfs", _MS_RDONLY | _MS_NOSUID_NODEV_NOEXEC)
        elif path.exists():
            _mount("/dev/null", str(path), None, _MS_BIND)
    for capability in range(64):
        if _libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0) != 0:
            break  # the kernel knows no more of them
    header = struct.pack("Ii", _CAPABILITY_VERSION_3, 0)
    _check(_libc.capset(header, bytes(24)))


def _enclose() -> bool:
    """New namespaces for the children of this process; True when processes are among them."""
    if os.geteuid() == 0 and _libc.unshare(_CLONE_NEWNET | _CLONE_NEWPID) == 0:
        _loopback_up()
        return True
    uid, gid = os.geteuid(), os.getegid()
    if _libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNET) == 0:
        with contextlib.suppress(OSError):
            Path("/proc/self/setgroups").write_text("deny", encoding="ascii")
            Path("/proc/self/uid_map").write_text(f"{uid} {uid} 1", encoding="ascii")
            Path("/proc/self/gid_map").write_text(f"{gid} {gid} 1", encoding="ascii")
        _loopback_up()
    return False


def _first_process(enclosed: bool, inside: Callable[[bool], None]) -> None:  # noqa: FBT001 - said once, right above
    """In the child: tied to its guard, with its own /proc, then `inside`."""
    try:
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        _prctl(_PR_SET_NO_NEW_PRIVS, 1)
        os.setsid()
        if enclosed:
            # vLLM looks at processes by number: /proc must be the one those numbers belong to. Only for us: the guard
            # stays outside and needs its own.
            _check(_libc.unshare(_CLONE_NEWNS))
            _mount("none", "/", None, _MS_PRIVATE_EVERYWHERE)
            _mount("proc", "/proc", "proc", _MS_NOSUID_NODEV_NOEXEC)
        inside(enclosed)
    finally:
        os._exit(1)


def _loopback_up() -> None:
    """Torch's own store talks over loopback, inside the namespace."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        fcntl.ioctl(sock, _SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", _IFF_UP))


def _end_descendants() -> None:
    """Whatever the engine left behind became our child (subreaper); end it, and what it leaves, until none is left."""
    me = os.getpid()
    while children := Path(f"/proc/{me}/task/{me}/children").read_text(encoding="ascii").split():
        for child in children:
            _send(int(child), signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(-1, 0)


def _send(process: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(process, number)


def _prctl(option: int, value: int) -> None:
    _check(_libc.prctl(option, value, 0, 0, 0))


def _mount(source: str, target: str, kind: str | None, flags: int) -> None:
    name = kind.encode() if kind else None
    _check(_libc.mount(os.fsencode(source), os.fsencode(target), name, ctypes.c_ulong(flags), None))


def _check(result: int) -> None:
    if result != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
