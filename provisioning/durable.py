"""Put bytes under a name so that a reader, or the machine after a power cut, finds the old bytes or the new.

Decides nothing about the bytes. A half-written order or floor record would be worse than none: both fail closed.
"""

from __future__ import annotations

import os
from pathlib import Path


def replace_whole(file: Path, data: bytes, *, mode: int) -> None:
    """Write beside, make durable, rename, make the rename durable."""
    fresh = file.with_name(f".{file.name}.{os.getpid()}.new")
    # A left-over of a killed process may have another mode; only a fresh file gets ours.
    fresh.unlink(missing_ok=True)
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        fresh.replace(file)
    except OSError:
        fresh.unlink(missing_ok=True)
        raise
    folder = os.open(file.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
