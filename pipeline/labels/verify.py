"""Proof from the files alone that an output is complete and says nothing impossible."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from concurrent.futures import Future
from functools import lru_cache
from typing import Any, TypeGuard

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline import words
from pipeline.config import fingerprint
from pipeline.errors import RunError, UsageError
from pipeline.labels import rules
from pipeline.labels.output import Output, locate
from pipeline.labels.progress import progress
from pipeline.labels.rules import Check
from pipeline.outputs import status
from pipeline.outputs.files import FileName
from pipeline.outputs.layout import Layout
from pipeline.outputs.manifest import Manifest
from pipeline.outputs.schema import LARGE, ROW, STATUSES
from pipeline.store import failures, objects, urls


class Verification:
    """All checks of one output.

    Attributes:
        checks: by their short names.
        images: rows seen.
        files: files seen.
    """

    def __init__(self, url: str) -> None:
        """
        Raises:
            UsageError: there is no output at all.
        """
        self.layout = locate(url)
        self.url = self.layout.url
        self.manifest = Manifest(0, 0, [])
        self.images = self.files = 0
        self.counted: Counter[str] = Counter()
        self.errors: Counter[str] = Counter()
        self.checks = {
            "finished": Check("_SUCCESS exists, and run.json can be read"),
            "manifest": Check("the manifest belongs to this run and holds as many rows as it says"),
            "files": Check("every file of detections can be read, and there are no other files"),
            "schema": Check("all files have the schema of version 1, and the same `detector`"),
            "once": Check("every id of the manifest is in exactly one row"),
            **{name: Check(rule) for name, rule in rules.RULES.items()},
            "counts": Check("the counts in run.json are those of the files"),
        }

    @property
    def breaches(self) -> int:
        return sum(check.breaches for check in self.checks.values())

    def run(self) -> None:
        """Read everything, slice by slice."""
        record = self._record()
        known = self.manifest = self._manifest(record)
        output = self._output(record)
        files = output.files()
        self._strangers({self.layout.file(name) for name in files})
        self.files = len(files)
        by_slice: dict[int, list[FileName]] = {}
        for name in files:
            by_slice.setdefault(name.first_id // known.slice_rows, []).append(name)
        with progress("verifying", known.rows) as bar:
            for index in sorted({*known.slices, *by_slice}):
                first = known.first_id(index)
                seen = np.zeros(max(0, known.rows_of(index)), np.uint8)
                for name, read in output.read_files(by_slice.get(index, [])):
                    bar.update(self._file(output, name, read, seen, first))
                self._once(seen, first)
        self._counts(record)

    def _json(self, path: str, check: str) -> dict[str, Any]:
        name = path.removeprefix(f"{self.layout.root}/")
        try:
            data = objects.get(self.layout.fs, path)
            content = json.loads(data) if data is not None else None
            if isinstance(content, dict):
                return content
            self.checks[check].breach(
                f"{name} is missing" if data is None else f"{name}: not a JSON object"
            )
        except (OSError, ValueError) as error:
            self.checks[check].breach(f"{name}: {words.explain(error)}")
        return {}

    def _record(self) -> dict[str, Any]:
        if objects.get(self.layout.fs, self.layout.success) is None:
            self.checks["finished"].breach("_SUCCESS is missing: the run has not finished")
        return self._json(self.layout.record, "finished")

    def _manifest(self, record: dict[str, Any]) -> Manifest:
        """What the manifest says of itself, with its rows as far as its parts go."""
        check = self.checks["manifest"]
        content = self._json(self.layout.manifest, "manifest")
        if content.get("fingerprint") != fingerprint(record.get("identity", {})):
            check.breach("manifest.json belongs to another run than run.json")
        names = ("part_rows", "slice_rows")
        sizes = {n: content[n] for n in names if _is_count(content.get(n))}
        known = Manifest(0, 0, [], **sizes)
        held = self._held(known)
        rows = content.get("rows")
        # nothing larger is believed, for memory is taken for each row
        if not _is_count(rows) or rows != held:
            check.breach(f"its parts hold {held:,} rows, but manifest.json says {rows!r}")
        believed = min(rows, held) if _is_count(rows) else held
        return dataclasses.replace(known, rows=believed)

    def _held(self, known: Manifest) -> int:
        """Number of rows in the manifest's parts."""
        check, layout = self.checks["manifest"], self.layout
        parts = [n for n in objects.names(layout.fs, layout.parts) if n.startswith("part-")]
        for number, name in enumerate(parts):
            if name != layout.part_name(number):
                check.breach(f"{layout.part_name(number)} is missing")
                break
        last = len(parts) - 1
        try:
            return last * known.part_rows + len(self._uris(last)) if parts else 0
        except (OSError, pa.ArrowException, KeyError) as error:
            check.breach(f"{parts[-1]}: {words.explain(error)}")
            return len(parts) * known.part_rows

    @lru_cache(maxsize=16)  # noqa: B019 - lives as long as the job
    def _uris(self, part: int) -> pa.ChunkedArray:
        path = self.layout.part(part)
        data = objects.retrying(lambda: self.layout.fs.cat_file(path))
        return pq.read_table(pa.BufferReader(data), columns=["image_uri"])["image_uri"]

    def _output(self, record: dict[str, Any]) -> Output:
        """With the schema and the `detector` key of the first file that can be read."""
        output = Output(self.layout, record, {}, ROW)
        for name in output.files():
            try:
                schema = output.read_file(name).schema
                detector = json.loads((schema.metadata or {})[b"detector"])
            except (RunError, KeyError, ValueError):
                continue
            if not isinstance(detector, dict):
                continue
            return dataclasses.replace(output, detector=detector, schema=schema)
        return output

    def _strangers(self, known: set[str]) -> None:
        folders = [self.layout.detections]
        folders += [self.layout.file(f"status={status}") for status in (*STATUSES, LARGE)]
        for folder in folders:
            for name in objects.names(self.layout.fs, folder):
                path = f"{folder}/{name}"
                # what a killed writer left on a disk begins with a dot, and is no file to readers
                if path not in known and path not in folders and not name.startswith("."):
                    self.checks["files"].breach(f"{path} does not belong to this run")

    def _file(
        self, output: Output, name: FileName, read: Future[pa.Table], seen: np.ndarray, first: int
    ) -> int:
        try:
            table = read.result()
        except RunError as error:
            self.checks["files"].breach(str(error))
            return 0
        for difference in rules.differences(table.schema, output):
            self.checks["schema"].breach(f"{name}: {difference}")
        try:
            table = table.select(ROW.names).cast(ROW)
        except (KeyError, ValueError, pa.ArrowException):  # ValueError for nulls that may not be
            return 0  # said by the check of schemas
        self.images += len(table)
        self._note(table, name.status)
        ids = table["image_id"].to_numpy()
        if len(ids) and ids.min() < name.first_id:
            self.checks["files"].breach(
                f"{name} holds the id {ids.min()}, below the first one in its name"
            )
        places = ids - first
        inside = (places >= 0) & (places < len(seen))
        for image_id in ids[~inside].tolist():
            self.checks["once"].breach(f"{name}: id {image_id} is not in this slice")
        held, counts = np.unique(places[inside], return_counts=True)
        seen[held] = np.minimum(seen[held] + counts, 2)  # more than twice would not fit for ever
        found = rules.broken(table, name.status, output, self._expected(table))
        for rule, rows, reason in found:
            uri = urls.public(table["image_uri"][int(rows[0])].as_py())
            where = f"{name}: image {ids[rows[0]]} ({words.printable(uri, 200)})"
            self.checks[rule].breach(f"{where} {reason}", len(rows))
        return len(table)

    def _expected(self, table: pa.Table) -> pa.Array:
        """The manifest's URI for each row, null where it has none."""
        ids, part_rows = table["image_id"].to_numpy(), self.manifest.part_rows
        expected = np.full(len(ids), None, object)
        for part in np.unique(ids // part_rows).tolist():
            mine = ids // part_rows == part
            try:
                uris = self._uris(part)
            except (OSError, pa.ArrowException, KeyError):
                continue  # said by the check of the manifest, or of the ids
            offsets = ids[mine] % part_rows
            known = offsets < len(uris)
            rows = np.flatnonzero(mine)[known]
            expected[rows] = uris.take(pa.array(offsets[known])).to_pylist()
        return pa.array(expected, pa.string())

    def _note(self, table: pa.Table, status: str) -> None:
        self.counted[status] += len(table)
        self.counted["detections"] += pc.sum(table["num_detections"]).as_py() or 0
        if status == "error":
            self.errors.update(str(code) for code in table["error_code"].to_pylist())

    def _once(self, seen: np.ndarray, first: int) -> None:
        for places, what in ((seen == 0, "is in no row"), (seen > 1, "is in several rows")):
            if count := int(np.count_nonzero(places)):
                self.checks["once"].breach(f"id {first + int(np.argmax(places))} {what}", count)

    def _counts(self, record: dict[str, Any]) -> None:
        counts = record.get("counts")
        counts = counts if isinstance(counts, dict) else {}
        found = {
            "images": self.images,
            "ok": self.counted["ok"],
            "errors": dict(self.errors),
            "detections": self.counted["detections"],
        }
        for name, value in found.items():
            if counts.get(name) != value:
                example = f"{name}: {counts.get(name)} in run.json, {value} in the files"
                self.checks["counts"].breach(example)


def check_finished(layout: Layout) -> None:
    """
    Raises:
        UsageError: the run has not come to its end, so there is nothing to prove yet.
    """
    if objects.get(layout.fs, layout.success) is not None:
        return
    try:
        unfinished = objects.get_json(layout.fs, layout.record)["counts"] is None
        so_far = status.look(layout.url) if unfinished else None
    except (ValueError, TypeError, KeyError, UsageError):  # damage, which the checks tell of
        return
    if so_far:
        told = f"{so_far.written:,} of {so_far.images:,} images are written"
        raise UsageError(
            f"{layout.url} is not finished: {told}; run its detect command again to continue"
        )


def _is_count(value: Any) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def verify(url: str) -> Verification:
    """
    Raises:
        UsageError: there is no output at all, it cannot be read, or its run is not finished by its
            own word.
    """
    found = Verification(url)
    try:
        check_finished(found.layout)
        if not {"_run", "detections"} & set(objects.names(found.layout.fs, found.layout.root)):
            raise status.no_output(found.layout, "_run")
        found.run()
    except OSError as error:
        raise failures.unusable("read", found.url, error) from error
    return found
