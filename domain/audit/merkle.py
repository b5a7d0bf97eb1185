"""Merkle tree hashes as in Certificate Transparency (RFC 6962, 2.1), over the hashes of audit rows."""

import hashlib
from collections.abc import Iterable

EMPTY_ROOT = hashlib.sha256(b"").digest()
"""RFC 6962: the hash of the empty tree."""


def leaf_hash(entry: bytes) -> bytes:
    """The hash of one leaf; the prefix keeps a leaf from passing for a node."""
    return hashlib.sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """The hash of an inner node."""
    return hashlib.sha256(b"\x01" + left + right).digest()


def root_of(entries: Iterable[bytes]) -> bytes:
    """The root over all entries in order, in memory that grows with the logarithm of their number.

    A stack of complete subtrees, largest first: two of the same size become one of the double size, which is how
    RFC 6962's split at the largest power of two comes out when the leaves arrive one by one.
    """
    stack: list[tuple[int, bytes]] = []
    for entry in entries:
        size, top = 1, leaf_hash(entry)
        while stack and stack[-1][0] == size:
            _, left = stack.pop()
            size, top = size * 2, node_hash(left, top)
        stack.append((size, top))
    if not stack:
        return EMPTY_ROOT
    _, root = stack.pop()
    while stack:
        root = node_hash(stack.pop()[1], root)
    return root
