"""Listings that are killed or lose their lease on the way, and what the next one makes of it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline import Config, RunError, UsageError
from pipeline.driver import refresh, start
from pipeline.driver.record import Record
from pipeline.inputs import difference, enumeration
from pipeline.inputs.difference import CHANGED, Difference
from pipeline.inputs.fresh import Fresh
from pipeline.outputs import manifest
from pipeline.outputs.layout import Layout
from pipeline.outputs.lease import Lease, LeaseLost
from pipeline.outputs.manifest import LISTED, Manifest
from pipeline.store import objects

MARK = "mark"


class Input:
    """A folder of images and the output of it, listed."""

    def __init__(self, folder: Path) -> None:
        self.images = folder / "in"
        self.images.mkdir()
        for name in "abc":
            self.write(name, 1)
        self.config = Config(input=str(self.images), output=f"{folder}/out", weights="random:0")
        self.output = Layout.of(self.config.output)
        enumeration.write(self.config, self.output, MARK)

    def write(self, name: str, size: int) -> None:
        (self.images / f"{name}.jpg").write_bytes(bytes(size))
        os.utime(self.images / f"{name}.jpg", (size, size))

    def refresh(self) -> Manifest:
        refresh.refresh(self.config, self.output, MARK)
        assert objects.get(self.output.fs, self.output.refreshing) is None
        return manifest.load(self.output, MARK) or pytest.fail("it is gone")


@pytest.fixture
def listed(tmp_path: Path) -> Input:
    return Input(tmp_path)


def killed(*_: Any) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_kill_around_the_manifest(
    listed: Input, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    """The next one notes what was done, once, and the one after that has nothing to do."""
    listed.write("b", 2)
    with monkeypatch.context() as patch:
        if moment == "before":
            patch.setattr(manifest, "save", killed)
        else:
            delete = objects.delete
            patch.setattr(
                objects,
                "delete",
                lambda fs, path, *how: killed() if "refreshing" in path else delete(fs, path, *how),
            )
        with pytest.raises(KeyboardInterrupt):
            listed.refresh()
    known = listed.refresh()
    (note,) = known.refreshed
    assert (note["new"], note["changed"], note["gone"]) == (0, 1, 0)
    assert listed.refresh() == known


def test_as_many_come_back_as_go(listed: Input) -> None:
    def gone() -> list[int]:
        listed.refresh()
        found: list[int] = pq.read_table(listed.output.gone)["image_id"].to_pylist()
        return found

    (listed.images / "a.jpg").unlink()
    assert gone() == [0]
    listed.write("a", 1)
    (listed.images / "c.jpg").unlink()
    assert gone() == [2]
    listed.write("c", 1)
    assert gone() == []


def take_over(output: Layout) -> None:
    objects.put(output.fs, output.lease, json.dumps({"token": "another run"}).encode())


def test_a_refresh_that_loses_its_lease(listed: Input, monkeypatch: pytest.MonkeyPatch) -> None:
    listed.write("d", 1)
    objects.put(listed.output.fs, listed.output.success, b"")
    compare = difference.compare

    def suspended(*of_run: Any) -> Difference:
        found = compare(*of_run)
        take_over(listed.output)
        return found

    monkeypatch.setattr(refresh, "compare", suspended)
    with pytest.raises(RunError, match="another run has taken over this output"):
        listed.refresh()
    known = manifest.load(listed.output, MARK)
    assert known and known.rows == 3
    assert objects.get(listed.output.fs, listed.output.success) is not None


def test_a_refresh_knows_what_the_one_before_has_done(
    listed: Input, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which held the lease when this one came."""
    enter = Lease.__enter__

    def waited(lease: Lease) -> Lease:
        monkeypatch.setattr(Lease, "__enter__", enter)
        listed.write("d", 1)
        listed.refresh()
        (listed.images / "d.jpg").unlink()
        listed.write("e", 1)
        return enter(lease)

    monkeypatch.setattr(Lease, "__enter__", waited)
    known = listed.refresh()
    uris = known.read_part(listed.output, 0)["image_uri"].to_pylist()
    assert [Path(uri).stem for uri in uris] == ["a", "b", "c", "d", "e"]


def test_a_retry_over_an_interrupted_refresh(listed: Input) -> None:
    """The parts may be those of either listing."""
    objects.put(listed.output.fs, listed.output.refreshing, b"{}")
    errors = f"{listed.config.output}/detections/status=error"
    retry = Config(input=errors, output=listed.config.output, weights="random:0")
    with pytest.raises(UsageError, match="a --refresh of .* was interrupted; complete it first"):
        start._refreshed(retry, listed.output, Record("r", {}, {}, {}), False, False)


def test_a_listing_that_loses_its_lease(tmp_path: Path) -> None:
    images = Input(tmp_path)
    objects.delete(images.output.fs, images.output.manifest)
    with Lease(images.output) as lease:
        take_over(images.output)
        with pytest.raises(LeaseLost):
            enumeration.write(images.config, images.output, MARK, lease=lease)
    assert manifest.load(images.output, MARK) is None


def test_a_part_that_hangs_until_another_run_lists(
    listed: Input, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What that run has listed stays, whose rows go by it."""
    before = Path(listed.output.part(0)).read_bytes()
    listed.write("d", 1)
    with Lease(listed.output) as lease:
        theirs = Path(listed.output.lease)
        monkeypatch.setattr(os, "fsync", lambda _: theirs.write_text('{"token": "another run"}'))
        with pytest.raises(LeaseLost):
            enumeration.write(listed.config, listed.output, MARK, lease=lease)
    assert Path(listed.output.part(0)).read_bytes() == before


def test_changed_rows_from_all_over_a_listing(tmp_path: Path) -> None:
    generator, listing = np.random.default_rng(0), tmp_path / "listed.arrow"
    schema = LISTED.append(pa.field("tag", pa.string()))
    with pa.ipc.new_file(str(listing), schema) as file:
        for first, last in ((0, 70), (70, 70), (70, 71), (71, 200)):
            ids = range(first, last)
            table = [[f"/{i}" for i in ids], [*ids], [-i for i in ids], [f"tag {i}" for i in ids]]
            file.write_batch(
                pa.RecordBatch.from_arrays(
                    [pa.array(c, f.type) for c, f in zip(table, schema, strict=True)], schema=schema
                )
            )
    changed = np.zeros(50, CHANGED)
    changed["image_id"] = np.arange(0, 100, 2)
    changed["row"] = generator.permutation(200)[:50]
    marks = np.zeros(200, bool)
    found = Difference(listing, schema, 0, marks, marks, changed)
    some = found.changes(11, 41)
    assert some["image_id"].tolist() == [*range(12, 41, 2)]
    table = Fresh(found).take(some["row"])
    assert table["size_bytes"].to_pylist() == some["row"].tolist()
    assert table["tag"].to_pylist() == [f"tag {row}" for row in some["row"]]
