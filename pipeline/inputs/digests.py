"""Rows that are too many for memory, brought together by the digests of their URIs."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.errors import RunError
from pipeline.store import urls

FILES = 64


class Digested:
    """Rows spread over temporary files by their URI's digest, so that equal URIs meet in one.

    Digests of 128 bits are spread evenly, so a file is a 64th of all rows. Rows without a URI are
    like no others, and left out. URIs are equal if they are the same text but for the case of
    their scheme.

    Args:
        values: names of what a row brings along, each int64.
    """

    def __init__(self, *values: str) -> None:
        self.values = values
        numbers = [(name, "<i8") for name in values]
        self.record = np.dtype([("high", "<u8"), ("low", "<u8"), *numbers])

    def __enter__(self) -> Digested:
        self.stack = ExitStack()
        files = (tempfile.TemporaryFile() for _ in range(FILES))  # noqa: SIM115 - the stack is one
        self.files = [self.stack.enter_context(file) for file in files]
        return self

    def __exit__(self, *exception: object) -> None:
        with suppress(OSError):  # of what a full disk did not take, which has been told
            self.stack.close()

    def add(self, uris: pa.ChunkedArray, *values: np.ndarray) -> None:
        """Take in rows.

        Args:
            uris: [rows] string, empty where there is none.
            values: [rows] int64 each.

        Raises:
            RunError: the disk of the temporary files is full.
        """
        texts = uris.to_pylist()
        keys = (urls.folded(uri).encode() for uri in texts)
        joined = b"".join(hashlib.blake2b(key, digest_size=16).digest() for key in keys)
        records = np.empty(len(texts), self.record)
        records["high"], records["low"] = np.frombuffer(joined, "<u8").reshape(-1, 2).T
        for name, column in zip(self.values, values, strict=True):
            records[name] = column
        records = records[pc.not_equal(uris, "").to_numpy()]
        file = records["high"] % FILES
        with _written():
            for number in np.unique(file):
                self.files[number].write(records[file == number].tobytes())

    def __iter__(self) -> Iterator[np.ndarray]:
        """The rows of one file after the other, in the order of their coming.

        Raises:
            RunError: as by `add`.
        """
        for file in self.files:
            with _written():
                file.seek(0)
            yield np.frombuffer(file.read(), self.record)


@contextmanager
def _written() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        folder = tempfile.gettempdir()
        told = f"cannot write to {folder} ({error.strerror}); set TMPDIR to a folder with more room"
        raise RunError(told) from error


def repeats(records: np.ndarray) -> np.ndarray:
    """[rows] bool: whether a row of sorted ones has the URI of the row before it."""
    found = np.zeros(len(records), bool)
    found[1:] = (records["high"][1:] == records["high"][:-1]) & (
        records["low"][1:] == records["low"][:-1]
    )
    return found
