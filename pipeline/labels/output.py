"""A finished output, read in order of image id: one file of it in memory at a time."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.config import fingerprint
from pipeline.errors import RunError
from pipeline.labels.ahead import ahead
from pipeline.labels.progress import progress
from pipeline.locations import checked_url
from pipeline.outputs import files, manifest
from pipeline.outputs.files import FileName
from pipeline.outputs.layout import Layout
from pipeline.outputs.manifest import Manifest
from pipeline.outputs.schema import STATUSES
from pipeline.outputs.status import finished_record

READ_AHEAD = 4
TABLE_ROWS = 2048


@dataclass(frozen=True)
class Output:
    """A run's output.

    Attributes:
        layout: of it; its URL as given, paths made absolute.
        record: the content of `run.json`.
        detector: the `detector` key of its files.
        schema: of its files.
    """

    layout: Layout
    record: dict[str, Any]
    detector: dict[str, Any]
    schema: pa.Schema

    @property
    def url(self) -> str:
        return self.layout.url

    @cached_property
    def manifest(self) -> Manifest:
        """
        Raises:
            OSError: it cannot be read.
        """
        known = manifest.load(self.layout, fingerprint(self.record["identity"]))
        if known is None:
            raise OSError(f"{self.layout.url_of(self.layout.manifest)} does not belong to this run")
        return known

    @cached_property
    def part(self) -> Callable[[int], pa.Table]:
        """Reads a part of the manifest; images that follow each other share it."""
        return lru_cache(maxsize=2)(partial(self.manifest.read_part, self.layout))

    @property
    def counts(self) -> dict[str, Any]:
        """`images`, `ok`, `errors` by code, `detections`."""
        return dict(self.record["counts"])

    @property
    def input(self) -> str:
        return str(self.record["identity"]["input"])

    @property
    def categories(self) -> dict[int, str]:
        """Label id to name; ids without a name (`N/A` in torchvision's COCO list) left out."""
        named = {int(k): str(v) for k, v in self.detector["categories"].items() if v != "N/A"}
        classes = int(self.detector["options"]["num_classes"])
        return named or {label: f"class_{label}" for label in range(1, classes)}

    @property
    def every_category(self) -> dict[int, str]:
        """Label id to name, for all ids that the network can give."""
        classes, named = range(1, int(self.detector["options"]["num_classes"])), self.categories
        return {label: named.get(label, f"unnamed {label}") for label in classes}

    def files(self, statuses: Sequence[str] = STATUSES) -> list[FileName]:
        """The files of detections, by first id."""
        found = files.listed(self.layout, statuses)
        return sorted(found, key=lambda name: (name.first_id, str(name)))

    def tables(
        self,
        columns: Sequence[str],
        statuses: Sequence[str] = STATUSES,
        task: str | None = None,
        counted: Callable[[FileName, int], None] | None = None,
    ) -> Iterator[pa.Table]:
        """The rows of all files in order of id, with the columns in the order asked for, in tables
        of at most `TABLE_ROWS`.

        Args:
            columns: `image_id` among them, `status` possibly.
            statuses: whose rows.
            task: shown with the progress on stderr; without it none is.
            counted: called with each file and the number of its rows.

        Raises:
            RunError: a file is damaged or gone, or rows are missing.
        """
        names = self.files(statuses)
        total = self.counts["ok"] if "error" not in statuses else self.counts["images"]
        seen = 0

        def read() -> Iterator[pa.Table]:
            nonlocal seen
            for name, future in self.read_files(names, columns):
                table = future.result()
                bar.update(table.num_rows)
                seen += table.num_rows
                if counted:
                    counted(name, table.num_rows)
                yield table

        with progress(task, total) as bar:
            yield from _in_order(names, read())
        files.check_count(self.layout, seen, total)

    def read_files(
        self, names: list[FileName], columns: Sequence[str] | None = None
    ) -> Iterator[tuple[FileName, Future[pa.Table]]]:
        """What `read_file` gives for each, the next ones read while the caller works."""
        return ahead(lambda name: self.read_file(name, columns), names, READ_AHEAD)

    def read_file(self, name: FileName, columns: Sequence[str] | None = None) -> pa.Table:
        """As `files.read`, but that `status` may be one of the columns; of all it is none."""
        if columns is None or "status" not in columns:
            return files.read(self.layout, name, columns)
        table = files.read(self.layout, name, [one for one in columns if one != "status"])
        statuses = pa.array([name.status] * len(table), pa.string())
        return table.append_column("status", statuses).select(columns)


def _in_order(names: list[FileName], tables: Iterator[pa.Table]) -> Iterator[pa.Table]:
    """The rows of the files' tables in order of id.

    Files overlap where replicas worked side by side or a run was resumed, so rows wait until no
    file that is still to come can hold a smaller id.
    """
    waiting: list[pa.Table] = []
    rows = 0
    for number, table in enumerate(tables, start=1):
        waiting.append(table)
        rows += table.num_rows
        last = number == len(names)
        if rows < TABLE_ROWS and not last:
            continue
        merged = pa.concat_tables(waiting).sort_by("image_id")
        ids = merged["image_id"].to_numpy()
        cut = len(ids) if last else int(np.searchsorted(ids, names[number].first_id))
        for start in range(0, cut, TABLE_ROWS):
            yield merged.slice(start, min(TABLE_ROWS, cut - start))
        waiting, rows = [merged.slice(cut)], len(ids) - cut


def locate(url: str) -> Layout:
    """
    Raises:
        UsageError: it is no URL, or nothing serves its protocol.
    """
    url = checked_url("OUTPUT", url)
    return Layout.of(url.rstrip("/") if url.rpartition("://")[2].strip("/") else url)


def open_output(url: str) -> Output:
    """
    Raises:
        UsageError: there is no run, or it is not finished.
    """
    layout = locate(url)
    known = finished_record(layout)
    return _described(Output(layout, known, {}, pa.schema([])))


def _described(output: Output) -> Output:
    for name in output.files():
        schema = output.read_file(name).schema
        if b"detector" in (schema.metadata or {}):
            detector = json.loads(schema.metadata[b"detector"])
            return dataclasses.replace(output, detector=detector, schema=schema)
    raise RunError(f"no file in {output.url}/detections says what network made it")
