"""A file as a listing has it."""

from __future__ import annotations

import hashlib
from typing import Any

# path, bytes, what differs where the content does
Entry = tuple[str, int | None, int | None]
# where file systems say that
VERSIONS = ("ETag", "etag", "md5Hash", "LastModified", "last_modified", "mtime")


def version_of(info: dict[str, Any]) -> int | None:
    """What differs where the content does, as far as what a store says of an object tells.

    A number, which a manifest holds better than the text that stores give.
    """
    for name in VERSIONS:
        if info.get(name):
            return digest(str(info[name]).encode())
    return None


def digest(data: bytes) -> int:
    """63 bits, for a column of int64."""
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest()) >> 1
