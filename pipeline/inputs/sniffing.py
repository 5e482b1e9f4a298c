"""Files without an ending: which of them are images, by their first bytes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice

from fsspec import AbstractFileSystem

from pipeline.images.formats import SIGNATURE_BYTES, is_image
from pipeline.inputs.entries import Entry
from pipeline.inputs.listing import extension_of
from pipeline.store import objects

BATCH = 4096
READS = 64  # at once
ATTEMPTS = 4


def sniffed(
    fs: AbstractFileSystem, entries: Iterator[Entry], passed: Counter[str]
) -> Iterator[Entry]:
    """The entries in their order, of those without an ending only what begins as an image does.

    One that cannot be read is kept, so that its row says what is wrong.

    Args:
        fs: their store.
        entries: of any number; `BATCH` of them are in memory.
        passed: counts the others, as `list_files` does.
    """
    with ThreadPoolExecutor(READS) as threads:
        while batch := list(islice(entries, BATCH)):
            kept = threads.map(lambda entry: extension_of(entry[0]) or _is_kept(fs, entry), batch)
            for entry, keep in zip(batch, kept, strict=True):
                if keep:
                    yield entry
                else:
                    passed[""] += 1


def _is_kept(fs: AbstractFileSystem, entry: Entry) -> bool:
    path, size, _ = entry
    if size == 0:  # what stores keep for a folder, and no image anyway
        return False
    span = {"start": 0, "end": SIGNATURE_BYTES}
    try:
        start = objects.retrying(lambda: fs.cat_file(path, **span), ATTEMPTS)
    except Exception:  # each file system has its own
        return True
    return is_image(bytes(start[:SIGNATURE_BYTES]))
