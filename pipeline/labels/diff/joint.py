"""The rows of two outputs brought together, image by image, in bounded memory."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from urllib.parse import quote

import numpy as np
import pyarrow as pa

from pipeline import words
from pipeline.errors import RunError, UsageError
from pipeline.inputs.digests import Digested, repeats
from pipeline.labels import boxes
from pipeline.labels.export.naming import input_folder, relative_name
from pipeline.labels.image_names import fold
from pipeline.labels.output import TABLE_ROWS, Output
from pipeline.store import urls

COLUMNS = (*boxes.COLUMNS, "status", "image_bytes")
NAMED = 5
# of a temporary file, which is in memory at once; each of two sides has MOST_FILES at most
FILE_ROWS = 65_536
MOST_FILES = 256

Key = Callable[[str], str]


@dataclass
class Joint:
    """Two outputs over the same images, as far as they are the same.

    Attributes:
        a, b: the outputs.
        by: `URI`, or `name`: the path below the input's folder, where no URI is on both sides.
        in_order: whether each id is the same image on both sides.
        lacking: number of images that only A, only B has; known once `tables` is through.
        examples: URIs of some of them.
    """

    a: Output
    b: Output
    by: str
    in_order: bool
    lacking: tuple[int, int] = (0, 0)
    examples: tuple[list[str], list[str]] = field(default_factory=lambda: ([], []))

    def tables(self) -> Iterator[tuple[pa.Table, pa.Table]]:
        """Rows of both sides with `COLUMNS`: the same images in the same order.

        Raises:
            RunError: a file is damaged, or rows are missing.
            UsageError: two images of one side have one name.
        """
        return self._in_step() if self.in_order else self._by_key()

    def _in_step(self) -> Iterator[tuple[pa.Table, pa.Table]]:
        ours, theirs = self.a.tables(COLUMNS, task="comparing"), self.b.tables(COLUMNS)
        left, right = next(ours, None), next(theirs, None)
        while left is not None and right is not None:
            rows = min(len(left), len(right))
            pair = left.slice(0, rows), right.slice(0, rows)
            if not pair[0]["image_id"].equals(pair[1]["image_id"]):
                raise RunError(
                    f"{self.a.url} or {self.b.url} does not have each id exactly once; "
                    f"{words.command('verify')} tells which"
                )
            yield pair
            left = left.slice(rows) if rows < len(left) else next(ours, None)
            right = right.slice(rows) if rows < len(right) else next(theirs, None)

    def _by_key(self) -> Iterator[tuple[pa.Table, pa.Table]]:
        images = max(self.a.counts["images"], self.b.counts["images"])
        files = min(-(-images // FILE_ROWS), MOST_FILES)
        with ExitStack() as stack:
            sides = []
            for name, output in (("A", self.a), ("B", self.b)):
                side = _Spread(stack, files, _key(output, self.by))
                for table in output.tables(COLUMNS, task=f"reading {name}"):
                    side.add(table)
                sides.append(side)
            for number in range(files):
                yield from self._joined(sides[0].read(number), sides[1].read(number))

    def _joined(self, a: pa.Table, b: pa.Table) -> Iterator[tuple[pa.Table, pa.Table]]:
        keys = [side["key"].to_numpy(zero_copy_only=False).astype("S16") for side in (a, b)]
        for output, table, own in ((self.a, a, keys[0]), (self.b, b, keys[1])):
            _check_once(output, table, own)
        common, of_a, of_b = np.intersect1d(
            keys[0], keys[1], assume_unique=True, return_indices=True
        )
        alone = [np.isin(own, common, invert=True) for own in keys]
        self.lacking = (
            self.lacking[0] + int(alone[0].sum()),
            self.lacking[1] + int(alone[1].sum()),
        )
        for named, table, rows in zip(self.examples, (a, b), alone, strict=True):
            places = np.flatnonzero(rows)[: NAMED - len(named)]
            named.extend(table["image_uri"].take(places).to_pylist())
        for start in range(0, len(common), TABLE_ROWS):
            part = slice(start, start + TABLE_ROWS)
            yield a.take(of_a[part]), b.take(of_b[part])


def join(a: Output, b: Output) -> Joint:
    """Find out how the images of two outputs pair, from their manifests.

    Raises:
        UsageError: no image is on both sides.
        OSError: a manifest cannot be read.
    """
    for by in ("URI", "name"):
        if _same_order(a, b, by):
            return Joint(a, b, by, in_order=True)
    for by in ("URI", "name"):
        if _any_common(a, b, by):
            return Joint(a, b, by, in_order=False)
    first, second = (next((part[0].as_py() for part in _uris(side)), "nothing") for side in (a, b))
    raise UsageError(
        f"no image of {a.url} is in {b.url}: the first has {words.printable(first, 200)!r}, the "
        f"second {words.printable(second, 200)!r}; give two outputs over the same images"
    )


def _key(output: Output, by: str) -> Key:
    if by == "URI":
        return urls.folded
    folders = input_folder(output.input)
    # quoted anew, for what escapes stand for need be no text
    return lambda uri: quote(fold(relative_name(uri, folders)), errors="surrogateescape")


def _uris(output: Output) -> Iterator[pa.ChunkedArray]:
    """Those of the images, part by part of the manifest, in order of id."""
    manifest = output.manifest
    for number in manifest.parts:
        yield manifest.known_part(output.layout, number)["image_uri"]


def _same_order(a: Output, b: Output, by: str) -> bool:
    if (a.manifest.rows, a.manifest.part_rows) != (b.manifest.rows, b.manifest.part_rows):
        return False
    keys = [_key(output, by) for output in (a, b)]
    return all(
        ours.equals(theirs)
        if by == "URI"
        else list(map(keys[0], ours.to_pylist())) == list(map(keys[1], theirs.to_pylist()))
        for ours, theirs in zip(_uris(a), _uris(b), strict=True)
    )


def _any_common(a: Output, b: Output, by: str) -> bool:
    with Digested("side") as digested:
        for side, output in enumerate((a, b)):
            key = _key(output, by)
            for uris in _uris(output):
                keys = pa.chunked_array([pa.array(map(key, uris.to_pylist()), pa.string())])
                digested.add(keys, np.full(len(uris), side))
        for records in digested:
            records = np.sort(records, order=["high", "low", "side"])
            met = np.flatnonzero(repeats(records))
            if (records["side"][met] != records["side"][met - 1]).any():
                return True
    return False


def _check_once(output: Output, table: pa.Table, keys: np.ndarray) -> None:
    order = np.argsort(keys, kind="stable")
    twice = np.flatnonzero(keys[order][1:] == keys[order][:-1])
    if len(twice):
        uris = table["image_uri"].take(order[twice[0] : twice[0] + 2]).to_pylist()
        first, second = (words.printable(uri, 200) for uri in uris)
        raise UsageError(
            f"{output.url} has two images of the same name, {first!r} and {second!r}, and its "
            "input is not that of the other output: run both over the same input"
        )


class _Spread:
    """Rows spread over temporary files, so that those of equal keys are in files of one number."""

    def __init__(self, stack: ExitStack, files: int, key: Key) -> None:
        self.key = key
        opened = (tempfile.TemporaryFile() for _ in range(files))  # noqa: SIM115 - the stack is one
        self.files = [stack.enter_context(file) for file in opened]
        self.writers: list[pa.RecordBatchStreamWriter] = []
        self.waiting: list[pa.Table] = []

    def add(self, table: pa.Table) -> None:
        texts = map(self.key, table["image_uri"].to_pylist())
        keys = [hashlib.blake2b(text.encode(), digest_size=16).digest() for text in texts]
        self.waiting.append(table.append_column("key", pa.array(keys, pa.binary(16))))
        if sum(map(len, self.waiting)) >= FILE_ROWS:
            self._write()

    def _write(self) -> None:
        table = pa.concat_tables(self.waiting).combine_chunks()
        self.waiting.clear()
        if not self.writers:
            self.writers = [pa.ipc.new_stream(file, table.schema) for file in self.files]
        firsts = table["key"].to_numpy(zero_copy_only=False).astype("S16").view("<u8")[::2]
        numbers = firsts % np.uint64(len(self.files))
        order = np.argsort(numbers, kind="stable")
        table = table.take(order)
        bounds = np.searchsorted(numbers[order], np.arange(len(self.files) + 1, dtype=np.uint64))
        for number, writer in enumerate(self.writers):
            writer.write_table(table.slice(bounds[number], bounds[number + 1] - bounds[number]))

    def read(self, number: int) -> pa.Table:
        """The rows of one file."""
        if self.waiting:
            self._write()
        self.writers[number].close()
        self.files[number].seek(0)
        return pa.ipc.open_stream(self.files[number]).read_all()
