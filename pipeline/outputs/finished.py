"""Which images of a slice are done, told by the files that hold them: each exactly once.

The output is its own checkpoint: a file appears whole or not at all and is never overwritten, so
the ids in the files are the images that are done. Whatever is executed twice shows as an id that
is there already, and goes.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.errors import RunError
from pipeline.outputs.files import SUMMARY, FileName, encode, listed, read_columns
from pipeline.outputs.layout import Layout
from pipeline.outputs.manifest import Manifest
from pipeline.outputs.schema import LARGE
from pipeline.store import objects
from pipeline.words import explain

log = logging.getLogger(__name__)
READERS = 32


@dataclass
class Finished:
    """The images of one slice that are done, and the files that hold them.

    Attributes:
        layout: of the output.
        index: number of the slice.
        rows: number of its images.
        first_id: of its images.
        retry_from: error rows of earlier attempts than this do not count: they are being redone.
        done: [rows] bool.
        large: [rows] bool, the images whose rows say so far only that they are read in windows;
            they count as done.
        files: their names.
        detections: in them.
        errors: number of failed images by error code.
        repeats: whether files hold rows that are in others, too.
        check: called right before each change of a file, as that of `objects.put`.
    """

    layout: Layout
    index: int
    rows: int
    first_id: int
    retry_from: int
    done: np.ndarray
    large: np.ndarray
    files: set[str] = field(default_factory=set)
    detections: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    repeats: bool = False
    check: Callable[[], None] | None = None

    @classmethod
    def of(
        cls,
        layout: Layout,
        manifest: Manifest,
        index: int,
        retry_from: int = 0,
        check: Callable[[], None] | None = None,
    ) -> Finished:
        """Of a slice of a manifest, with no file looked at yet."""
        rows, first_id = manifest.rows_of(index), manifest.first_id(index)
        made = cls(layout, index, rows, first_id, retry_from, *np.zeros((2, rows), bool))
        made.check = check
        return made

    @property
    def missing(self) -> int:
        """Number of images still to be done."""
        return self.rows - int(np.count_nonzero(self.done))

    @property
    def unfinished(self) -> int:
        """Number of images without a row that stays."""
        return self.missing + int(np.count_nonzero(self.large))

    def load(self) -> None:
        """Take in every file of the slice that is not known yet, and remove rows that repeat.

        Raises:
            RunError: one is damaged, or one that was taken in is gone.
        """
        names = self._listed()
        self._check_there(self.files.difference(map(str, names)))
        for name, table in self._unknown(names):
            self._take(name, table)
        if self.repeats:
            self._remove_repeats()

    def _check_there(self, unlisted: Collection[str]) -> None:
        # by itself, for network disks keep a listing for up to a minute
        for name in sorted(unlisted):
            path = self.layout.file(name)
            if not objects.retrying(partial(self.layout.fs.exists, path)):
                raise RunError(
                    f"{self.layout.url_of(path)} is gone, although this run had counted it; run "
                    "the same command again to redo its images"
                )

    def look(self) -> None:
        """Take in what the files hold at this moment, repeats and all; nothing is changed."""
        for name, table in self._unknown(self._listed()):
            self._take(name, table)

    def _unknown(self, names: list[FileName]) -> Iterator[tuple[FileName, pa.Table]]:
        """Those of the files that are not known yet, by the `SUMMARY` columns of their rows."""
        names = [n for n in names if str(n) not in self.files and not self._superseded(n)]
        with ThreadPoolExecutor(READERS) as threads:
            yield from zip(names, threads.map(self._read, names), strict=True)

    def add(self, path: str, table: pa.Table) -> None:
        """Take in a file that was just written.

        Args:
            path: of it below `detections/`.
            table: the `SUMMARY` columns of its rows.
        """
        name = FileName.parse(path)
        assert name, path
        self._take(name, table)

    def _remove_repeats(self) -> None:
        """Remove the rows that files repeat which come before in `FileName.order`.

        Every attempt keeps the same ones by that. Else a removal that is late, by one that was
        taken over from, could take away the rows that its successor has kept.
        """
        names = sorted(filter(None, map(FileName.parse, self.files)), key=lambda name: name.order)
        self.done[:] = self.large[:] = self.repeats = False
        self.files, self.detections, self.errors = set(), 0, Counter()
        for name, table in self._unknown(names):
            kept: FileName | None = name
            if not (fresh := self._fresh(table)).all():
                log.info("%s repeats %d rows; removing them", name, int((~fresh).sum()))
                kept, table = self._filtered(name, fresh), table.filter(pa.array(fresh))
            if kept:
                self._take(kept, table)

    def _fresh(self, table: pa.Table) -> np.ndarray:
        """Which rows are neither done elsewhere nor repeats of others in the table."""
        places = table["image_id"].to_numpy() - self.first_id
        fresh: np.ndarray = ~self.done[places]
        fresh &= np.isin(np.arange(len(places)), np.unique(places, return_index=True)[1])
        return fresh

    def _take(self, name: FileName, table: pa.Table) -> None:
        fresh = self._fresh(table)
        self.repeats |= not fresh.all()
        table = table.filter(pa.array(fresh))
        places = table["image_id"].to_numpy() - self.first_id
        self.done[places] = True
        self.files.add(str(name))
        if name.status == LARGE:
            self.large[places] = True
            return
        self.detections += pc.sum(table["num_detections"]).as_py() or 0
        self.errors.update(code for code in table["error_code"].to_pylist() if code)

    def forget(self, ids: np.ndarray) -> None:
        """Take the rows of these images out of the slice's files."""
        names = self._listed()
        with ThreadPoolExecutor(READERS) as threads:
            for name, table in zip(names, threads.map(self._read, names), strict=True):
                keep = ~np.isin(table["image_id"].to_numpy(), ids)
                if not keep.all():
                    self._filtered(name, keep)

    def large_files(self) -> list[FileName]:
        """Those with the rows of `large`, by their first ids."""
        names = [name for name in self._listed() if name.status == LARGE]
        return sorted(names, key=lambda name: name.first_id)

    def remove_superseded(self) -> None:
        """Delete the error rows that a retry has redone."""
        for name in self._listed() if self.retry_from else ():
            if self._superseded(name):
                objects.delete(self.layout.fs, self.layout.file(name), self.check)

    def _superseded(self, name: FileName) -> bool:
        return name.status == "error" and name.attempt < self.retry_from

    def _listed(self) -> list[FileName]:
        return listed(self.layout, index=self.index)

    def _read(self, name: FileName) -> pa.Table:
        path = self.layout.file(name)
        url = self.layout.url_of(path)
        try:
            found = objects.retrying(lambda: read_columns(self.layout.fs, path, list(SUMMARY)))
        except pa.ArrowException as error:
            raise RunError(
                f"{url} is damaged ({explain(error)}); delete it "
                f"and run the same command to redo its images"
            ) from error
        if found.num_rows and pc.max(found["image_id"]).as_py() >= self.first_id + self.rows:
            raise RunError(
                f"{url} has images that the manifest lacks, as after a write of an older manifest "
                "that came very late; delete the file and run the command with --refresh"
            )
        return found

    def _filtered(self, name: FileName, keep: np.ndarray) -> FileName | None:
        """Put a file with some of a file's rows in its place; returns its name, if any are left."""
        fs, path, new_name = self.layout.fs, self.layout.file(name), None
        if keep.any():
            data = objects.retrying(lambda: fs.cat_file(path))
            rows = pq.read_table(pa.BufferReader(data), partitioning=None)
            rows = rows.filter(pa.array(keep))
            new_name = name.successor()
            objects.put(fs, self.layout.file(new_name), encode(rows, rows.schema), self.check)
        objects.delete(fs, path, self.check)
        return new_name
