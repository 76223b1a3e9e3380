"""The RFC 6962 Merkle tree over all records, kept as its right edge.

A tree of n leaves is held as the roots of its full subtrees, largest first: one hash for each one-bit of n. Appending
and computing the root cost O(log n), and the edge is all the sealer needs to go on after a restart.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

_HASH_BYTES = 32
EMPTY_ROOT = hashlib.sha256(b"").digest()


def node(left: bytes, right: bytes) -> bytes:
    """RFC 6962 2.1: SHA-256(0x01 || left || right)."""
    return hashlib.sha256(b"\x01" + left + right).digest()


@dataclass
class Tree:
    """A growing tree: `size` leaves and the hashes of its right edge."""

    size: int = 0
    edge: list[bytes] = field(default_factory=list)

    def append(self, leaf: bytes) -> None:
        """Add one leaf hash (32 bytes)."""
        self.edge.append(leaf)
        self.size += 1
        count = self.size
        while count % 2 == 0:
            right = self.edge.pop()
            self.edge[-1] = node(self.edge[-1], right)
            count //= 2

    def root(self) -> bytes:
        """The tree head; SHA-256 of nothing for the empty tree (RFC 6962 2.1)."""
        if not self.edge:
            return EMPTY_ROOT
        root = self.edge[-1]
        for left in reversed(self.edge[:-1]):
            root = node(left, root)
        return root

    def dump(self) -> bytes:
        """The edge as bytes, for `load`."""
        return b"".join(self.edge)

    @classmethod
    def load(cls, size: int, edge: bytes) -> Tree:
        """A tree from its stored edge; ValueError when the edge cannot belong to that size."""
        hashes = [edge[i : i + _HASH_BYTES] for i in range(0, len(edge), _HASH_BYTES)]
        if len(edge) % _HASH_BYTES or len(hashes) != size.bit_count():
            msg = f"{len(edge)} bytes are not the edge of a tree of {size}"
            raise ValueError(msg)
        return cls(size, hashes)
