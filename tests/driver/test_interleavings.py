"""Commands on one output that are killed, stand still and wake, in orders that nobody thought of.

All is real but Ray, the network and the store: each range of ids is written by a process of its
own, which may outlive its run.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
from collections import Counter, defaultdict
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tenacity

from pipeline.cluster import connection
from pipeline.cluster.placement import Placement
from pipeline.config import Config
from pipeline.driver import attempt, record, start
from pipeline.driver.attempt import Attempt
from pipeline.errors import RunError, UsageError
from pipeline.inputs import enumeration
from pipeline.network.contract import EngineFactory, Weights
from pipeline.outputs import finished, lease
from pipeline.outputs.finished import Finished
from pipeline.stages.write import Destination, Writer
from pipeline.store import objects
from tests.support.fetching import Silent
from tests.support.interleaved import Killed, Store, Task, World, world
from tests.support.writing import SCHEMA, finished_rows

OUTPUT = "interleaved://out"
WEIGHTS = Weights("m", "0", True, {1: "x"}, {}, {})
PLACEMENT = Placement("cpu", 1, 0, 1, 0, 1, 1, 2, 2)
NOTHING: Any = None
# of the images of a range, that fail
FAIL = 0.3


class Chain:
    """In the place of that of Ray Data."""

    def __init__(self, of: Attempt) -> None:
        self.of, self.world = of, Store.world

    def execute(self, finished: Finished, _: Any) -> Iterator[pa.Table]:
        ids = np.flatnonzero(~finished.done) + finished.first_id
        for some in np.split(ids, range(2, len(ids), 2)):
            rows = self._rows(some.tolist())
            write = partial(self._writer(finished.index), rows)
            while (summary := self._written(write)) is None:
                pass
            yield summary

    def _written(self, write: partial[pa.Table]) -> pa.Table | None:
        """What a writer says, unless it is gone or was given up."""
        writer = self.world.process("writer", write)
        until = self.world.now + self.world.random.choice((3, 200))
        while not (writer.ended or writer.process.dead or self.world.now > until):
            self.world.step(1.0)
        if writer.error and not isinstance(writer.error, Killed):
            raise writer.error
        return writer.result

    def _writer(self, index: int) -> Writer:
        of = self.of
        place = Destination(OUTPUT, OUTPUT, of.record.attempt, of.lease.token, SCHEMA)
        return Writer(place, index, Silent())  # type: ignore[arg-type]

    def _rows(self, ids: list[int]) -> pa.Table:
        """With the size of each image as its manifest has it."""
        rows = finished_rows(ids, [i for i in ids if self.world.random.random() < FAIL])
        known, sizes = self.of.manifest, []
        for number, place in map(known.place, ids):
            part = known.read_part(self.of.layout, number)
            sizes.append(part["size_bytes"][place].as_py())
        column = rows.column_names.index("image_bytes")
        return rows.set_column(column, rows.field(column), pa.array(sizes, pa.int64()))


class Following:
    """In the place of what follows a run."""

    state = SimpleNamespace(sums=Counter(), examples={})
    lost = grown = False
    over = None

    def __init__(self, *_: Any) -> None: ...

    def __enter__(self) -> Following:
        return self

    def __exit__(self, *_: object) -> None: ...

    def check(self) -> None: ...


@pytest.fixture(autouse=True)
def without_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    def whole(fs: Any, path: str, columns: list[str]) -> pa.Table:
        return pq.ParquetFile(io.BytesIO(fs.cat_file(path))).read(columns)

    small = partial(enumeration.write, part_rows=2, slice_rows=4)
    following = dict.fromkeys(("Watch", "Metrics"), Following)
    others: dict[Any, dict[str, Any]] = {
        start: {"resolve": lambda *_: WEIGHTS, "summarize": lambda known, *_: known},
        connection: {
            "connect": lambda: None,
            "await_gpu": lambda *_: None,
            "place": lambda *_: PLACEMENT,
        },
        attempt: {
            "Client": lambda *_: None,
            "coordinating": contextlib.nullcontext,
            "preview": lambda *_: None,
            "summarize": lambda known, *_: known,
            **following,
        },
        Attempt: {"_chain": lambda of, *_: Chain(of)},
        record: {"versions": lambda *_: {}},
        enumeration: {"write": small},
        finished: {"read_columns": whole},
        lease: {"is_gone": lambda _: False},
        objects: {"RETRY_WAIT": tenacity.wait_none()},
    }
    for place, name in ((place, name) for place, names in others.items() for name in names):
        monkeypatch.setattr(place, name, others[place][name])
    monkeypatch.setattr(logging.getLogger("pipeline"), "disabled", True)


class Scene:
    """An input, commands, and what is wrong with the output whenever it says that it is finished.

    Attributes:
        wrong: each fault that was seen.
    """

    def __init__(self, made: World, folder: Path) -> None:
        self.world, self.folder = made, folder
        self.versions = 0
        self.tables: dict[str, pa.Table] = {}
        self.wrong: set[str] = set()
        for name in "abcdef":
            self.image(name)
        made.changed = self._changed

    def image(self, name: str) -> None:
        """A new one, or another one in its place."""
        self.versions += 1
        path = self.folder / f"{name}.jpg"
        path.write_bytes(bytes(self.versions))
        os.utime(path, (self.versions, self.versions))

    def command(self, kind: str) -> Task:
        is_retry, is_refresh = kind == "retry", kind == "refresh"
        source = f"{OUTPUT}/detections/status=error" if is_retry else str(self.folder)
        config = Config(input=source, output=OUTPUT, weights="random:0")
        if is_refresh:
            self.image(self.world.random.choice("abcdefgh"))
        engine: EngineFactory = NOTHING
        return self.world.process(
            kind, partial(start.start, config, engine, False, is_refresh, 0.0)
        )

    def play(self) -> None:
        """Commands of an impatient user, until the last one comes to its end."""

        def user() -> None:
            for kind in ["plain", *self.world.random.choices(("plain", "refresh", "retry"), k=4)]:
                given = self.command(kind)
                until = self.world.now + self.world.random.choice((5, 50, 1000))
                while not (given.ended or given.process.dead or self.world.now > until):
                    self.world.step(5.0)
                self._note(given)

        self.world.run(self.world.process("user", user))
        self.world.faults = 0
        for _ in range(2):
            self.world.run(last := self.command("plain"))
            self._note(last)
            self.world.run()  # whoever still stands still
        if last.error or "out/_SUCCESS" not in self.world.objects:
            self.wrong.add(f"no end: {last.error}")

    def _note(self, given: Task) -> None:
        """A command ends in one clear line, if it does not end well."""
        if given.error and not isinstance(given.error, (Killed, UsageError, RunError)):
            self.wrong.add(repr(given.error))

    def _changed(self, path: str) -> None:
        store = self.world.objects
        if path.startswith("out/detections/"):
            self.tables.pop(path, None)
            if path in store:
                self.tables[path] = pq.ParquetFile(io.BytesIO(store[path])).read()
        if "out/_SUCCESS" in store:
            self.wrong |= self._wrong()

    def _wrong(self) -> set[str]:
        store = self.world.objects
        rows = json.loads(store["out/_run/manifest.json"])["rows"]
        parts = [store[path] for path in sorted(store) if path.startswith("out/_run/manifest/")]
        tables = [pq.ParquetFile(io.BytesIO(part)).read(["size_bytes"]) for part in parts]
        sizes = pa.concat_tables(tables)["size_bytes"].to_pylist()[:rows]
        if len(sizes) < rows:
            return {"unlisted"}
        found = defaultdict(list)
        for table in self.tables.values():
            for row in table.select(["image_id", "image_bytes"]).to_pylist():
                found[row["image_id"]].append(row["image_bytes"])
        wrong = {"lost"} if set(range(rows)) - set(found) else set()
        wrong |= {"twice"} if any(len(held) > 1 for held in found.values()) else set()
        kept = [(sizes[i], found[i]) for i in range(rows) if len(found[i]) == 1]
        return wrong | ({"stale"} if any([size] != held for size, held in kept) else set())


def played(seed: int, folder: Path, late: bool) -> set[str]:
    folder.mkdir()
    with world(seed, faults=6, late=late) as made:
        scene = Scene(made, folder)
        scene.play()
    return scene.wrong


@pytest.mark.parametrize("seeds", [range(16), pytest.param(range(500), marks=pytest.mark.soak)])
def test_kills_and_processes_that_stand_still(tmp_path: Path, seeds: range) -> None:
    """At no moment is a row lost, twice or of an older image in a finished output."""
    for seed in seeds:
        assert not played(seed, tmp_path / f"{seed}", late=False), f"seed {seed}"


@pytest.mark.parametrize("seeds", [range(8), pytest.param(range(500), marks=pytest.mark.soak)])
def test_requests_that_are_late(tmp_path: Path, seeds: range) -> None:
    """What no lease can end may repeat rows, or give older ones or an older manifest, which ends in
    a line that says what to do; it loses none.
    """
    for seed in seeds:
        wrong = played(seed, tmp_path / f"{seed}", late=True)
        wrong = {fault for fault in wrong if "the manifest lacks" not in fault}
        assert wrong <= {"twice", "stale"}, f"seed {seed}"


def test_a_file_that_is_deleted_from_a_finished_output(tmp_path: Path) -> None:
    with world(0, faults=0, late=False) as made:
        scene = Scene(made, tmp_path)
        made.run(scene.command("plain"))
        path = next(iter(scene.tables))
        del made.objects[path], scene.tables[path]
        again = scene.command("plain")
        made.run(again)
        assert not again.error and "out/_SUCCESS" in made.objects and not scene._wrong()
