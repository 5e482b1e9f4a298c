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

    63 bits of a digest, which a manifest holds better than the text that stores give.
    """
    for name in VERSIONS:
        if info.get(name):
            digest = hashlib.blake2b(str(info[name]).encode(), digest_size=8).digest()
            return int.from_bytes(digest) >> 1
    return None
