"""Ids that count once however often they were written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from pipeline.errors import RunError
from pipeline.outputs import seal
from pipeline.outputs.files import SUMMARY, FileName
from pipeline.outputs.finished import Finished
from pipeline.outputs.layout import Layout
from pipeline.outputs.lease import LeaseLost
from pipeline.outputs.manifest import Manifest
from pipeline.stages.write import by_file
from tests.support.outputs import rows, tables
from tests.support.writing import leased, write

OK = "detections/status=ok"


@pytest.fixture
def output(tmp_path: Path) -> str:
    return leased(tmp_path)


def finished(output: str, count: int, **options: Any) -> Finished:
    """Of an output of one slice."""
    return Finished.of(Layout.of(output), Manifest(count, 0, []), 0, **options)


def ids(output: str) -> list[int]:
    return [row["image_id"] for row in rows(output)]


def test_loading_counts_what_is_there(output: str) -> None:
    write(output, [0, 1, 2], failed=[1])
    write(output, [5, 6])
    state = finished(output, 8)
    state.load()
    assert np.flatnonzero(~state.done).tolist() == [3, 4, 7] and state.missing == 3
    assert state.detections == 4 and state.errors == {"truncated": 1}
    state.load()  # files that are known are not taken in again
    assert ids(output) == [0, 1, 2, 5, 6]


def test_repeated_rows_go(output: str) -> None:
    write(output, [0, 1, 2], failed=[2])
    write(output, [2, 3])  # in part there already
    write(output, [0, 1])  # wholly
    state = finished(output, 4)
    state.load()
    assert ids(output) == [0, 1, 2, 3] and state.missing == 0
    assert state.detections + sum(state.errors.values()) == 4
    assert len({str(table.schema) for table in tables(output).values()}) == 1
    again = finished(output, 4)
    again.load()
    assert (again.detections, again.errors) == (state.detections, state.errors)


def test_every_attempt_removes_the_same(tmp_path: Path) -> None:
    """Whatever it took in first: else one that is late would take what another one has kept."""
    kept = set[str]()
    for first in range(2):
        (tmp_path / f"{first}").mkdir()
        output = leased(tmp_path / f"{first}")
        for name in ("a", "b"):
            write(output, [0, 1])
            (made,) = (p for p in (Path(output) / OK).iterdir() if len(p.stem) > 40)
            made.rename(made.with_name(f"part-00000-0001-000000000000-{name}.parquet"))
        state = finished(output, 2)
        path = sorted((Path(output) / OK).iterdir())[first]
        state.add(f"status=ok/{path.name}", pq.read_table(path, columns=list(SUMMARY)))
        state.load()
        assert ids(output) == [0, 1] and state.missing == 0
        kept |= {path.name for path in (Path(output) / OK).iterdir()}
    assert len(kept) == 1


def test_a_file_with_some_of_the_rows_keeps_its_place() -> None:
    files = [FileName.new("ok", 0, 1, 0) for _ in range(9)]
    ranked = sorted(files, key=lambda name: name.order)
    for _ in range(3):
        files = [name.successor() for name in files]
        again = sorted(files, key=lambda name: name.order)
        assert [name.random[:12] for name in again] == [name.random[:12] for name in ranked]
    assert len(str(files[0])) < 120


def test_nothing_is_removed_without_the_lease(output: str) -> None:
    def lost() -> None:
        raise LeaseLost

    write(output, [0, 1, 2], failed=[2])
    write(output, [1, 3])
    write(output, [0])
    for change in (Finished.load, lambda state: state.forget(np.array([3]))):
        with pytest.raises(LeaseLost):
            change(finished(output, 4, check=lost))
    assert ids(output) == [0, 0, 1, 1, 2, 3]


def test_a_seal_holds_for_the_images_and_files_that_it_was_made_of(output: str) -> None:
    layout = Layout.of(output)
    Path(layout.seal(0)).parent.mkdir()
    Path(layout.seal(0)).write_text(
        '{"attempt": 1, "images": 3, "detections": 3, "errors": {}, "files": 2}'
    )
    for number, holds in enumerate((False, True, False)):
        write(output, [number])
        assert bool(seal.standing(layout, 0, 3, 0)) == holds
        assert not seal.standing(layout, 0, 4, 0)


def test_a_manifest_that_lacks_images(output: str) -> None:
    write(output, [2, 3])
    with pytest.raises(RunError, match="part-.* has images that the manifest lacks"):
        finished(output, 3).load()
    finished(output, 4).load()


def test_a_repeated_row_within_one_file(output: str) -> None:
    write(output, [0, 1, 1])
    state = finished(output, 2)
    state.load()
    assert ids(output) == [0, 1]


def test_a_zombies_file_is_found_at_the_end(output: str) -> None:
    state = finished(output, 4)
    state.load()
    for name, table in by_file(write(output, [0, 1, 2, 3], attempt=2)):
        state.add(name, table)
    write(output, [2, 3], attempt=1)  # by a worker of the run before, after its death
    state.load()
    assert ids(output) == [0, 1, 2, 3]


def test_other_slices_are_not_touched(output: str) -> None:
    write(output, [8, 9])
    write(output, [10, 11], index=1)
    second = Finished.of(Layout.of(output), Manifest(15, 0, [], slice_rows=10), 1)
    assert second.rows == 5
    second.load()
    assert np.flatnonzero(second.done).tolist() == [0, 1]


def test_superseded_errors(output: str) -> None:
    write(output, [0, 1, 2, 3], failed=[1, 2])
    state = finished(output, 4, retry_from=2)
    state.load()
    assert np.flatnonzero(~state.done).tolist() == [1, 2]
    for name, table in by_file(write(output, [1, 2], failed=[2], attempt=2)):
        state.add(name, table)
    assert ids(output) == [0, 1, 1, 2, 2, 3]  # both, until the retry is complete
    state.remove_superseded()
    assert ids(output) == [0, 1, 2, 3]
    assert [row["status"] for row in rows(output)] == ["ok", "ok", "error", "ok"]


def test_a_file_that_is_gone_is_missed(output: str) -> None:
    write(output, [0, 1])
    state = finished(output, 2)
    state.load()
    (path,) = (Path(output) / "detections/status=ok").iterdir()
    path.unlink()
    with pytest.raises(RunError, match=f"{path.name} is gone, .*run the same command again"):
        state.load()


def test_a_file_that_is_not_listed_yet_is_not_missed(
    output: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a network disk, to which another machine has written it."""
    state = finished(output, 2)
    for name, table in by_file(write(output, [0, 1])):
        state.add(name, table)
    monkeypatch.setattr("pipeline.outputs.finished.listed", lambda *_, **__: [])
    state.load()
    assert state.missing == 0


def test_a_damaged_file_is_named(output: str) -> None:
    write(output, [0, 1])
    (path,) = (Path(output) / "detections/status=ok").iterdir()
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(RunError, match=f"{path.name} is damaged .*delete it and run"):
        finished(output, 2).load()
