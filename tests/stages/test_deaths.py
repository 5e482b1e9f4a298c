"""Which images are given up, and when it is the process: stages in this process, which 'die'."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pyarrow as pa
import pytest
import ray

from pipeline.cluster.coordinator import Coordinator
from pipeline.cluster.ledger import CONDEMNED_IN_A_ROW, DEATHS, Begun
from pipeline.config import Config
from pipeline.errors import Failure
from pipeline.inputs import enumeration
from pipeline.network.contract import Boxes, DeviceLost, Weights
from pipeline.outputs.layout import Layout
from pipeline.stages.fetch import Fetch
from pipeline.stages.regions import FIELDS, REGION
from tests.support import packed
from tests.support.detecting import detector, png, rows_of
from tests.support.engines import PixelEngine
from tests.support.fetching import Silent

BAD = CONDEMNED_IN_A_ROW + 5


class Dead(BaseException):
    """The process has ended."""


class Noted(Silent):
    """A client of a coordinator that is no actor."""

    def __init__(self, stage: str) -> None:
        self.coordinator = Coordinator()
        self.stage = stage

    @property
    def stopping(self) -> bool:  # type: ignore[override]
        return self.coordinator.stopping

    def begin(self, ids: Sequence[int], wholes: Sequence[str] = ()) -> Begun:
        return self.coordinator.begin(self.stage, ids, wholes)[1]

    def end(self, ids: Sequence[int]) -> None:
        self.coordinator.ledgers[self.stage].end(ids)

    def begin_alone(self, image_id: int, file: str, whole: str | None = None) -> Failure | None:
        return self.coordinator.begin_alone(self.stage, image_id, "a", file, whole)

    def end_alone(self, image_id: int) -> None:
        self.coordinator.end_alone(self.stage, image_id, "a")

    @property
    def in_doubt(self) -> bool:
        return self.coordinator.in_doubt(self.stage, "a")

    def broken(self, why: str) -> None:
        self.coordinator.broken(self.stage, "a", why)

    def die(self, reason: str, image_id: int | None = None) -> NoReturn:
        raise Dead


class Bright(PixelEngine):
    """Dies of bright images."""

    def __call__(self, images: Sequence[np.ndarray]) -> list[Boxes]:
        if any(image.mean() > 100 for image in images):
            raise DeviceLost("an illegal address")
        return super().__call__(images)


class Broken(PixelEngine):
    """Dies of any image."""

    def __call__(self, images: Sequence[np.ndarray]) -> list[Boxes]:
        raise DeviceLost("the GPU fell off the bus")


def alive(stage: Any, rows: pa.Table) -> tuple[list[dict[str, Any]], int]:
    """The rows of a stage that is started again after each death, and the number of deaths."""
    for deaths in range(1000):
        try:
            return [row for table in stage(rows) for row in table.to_pylist()], deaths
        except Dead:
            pass
    raise AssertionError("no end")


@pytest.fixture(scope="module")
def weights(cluster: None, calibrated: Weights) -> ray.ObjectRef[Weights]:
    return ray.put(calibrated)


def codes(found: list[dict[str, Any]]) -> list[str | None]:
    return [row["error_code"] for row in found]


def test_many_images_in_a_row_that_kill_a_sound_replica(weights: ray.ObjectRef[Weights]) -> None:
    bright, dark = (png(np.full((40, 40, 3), level, np.uint8)) for level in (200, 50))
    stage = detector(weights, Bright)
    stage.client = Noted("detect")  # type: ignore[assignment]
    found, deaths = alive(stage, rows_of([bright] * BAD + [dark]))
    assert codes(found) == ["killed_worker"] * BAD + [None]
    assert deaths == 1 + DEATHS * BAD and not stage.client.coordinator.state.failure


def test_a_replica_that_dies_with_a_blank_image_too(weights: ray.ObjectRef[Weights]) -> None:
    stage = detector(weights, Broken)
    stage.client = Noted("detect")  # type: ignore[assignment]
    found, deaths = alive(stage, rows_of([png(np.full((40, 40, 3), 50, np.uint8))] * BAD))
    assert codes(found) == ["killed_worker"] * CONDEMNED_IN_A_ROW
    assert deaths == 1 + DEATHS * (CONDEMNED_IN_A_ROW + 1)
    assert "dies with every image, even with a blank one" in stage.client.coordinator.state.failure


def test_with_a_region_that_kills_its_image_is_given_up(weights: ray.ObjectRef[Weights]) -> None:
    bright, dark = (png(np.full((40, 40, 3), level, np.uint8)) for level in (200, 50))
    stage = detector(weights, Bright, tile=1024)
    stage.client = Noted("detect")  # type: ignore[assignment]
    wholes = ["/bad.tif"] * BAD + ["/good.tif"]
    rows = rows_of([bright] * BAD + [dark]).drop_columns(REGION)
    values: tuple[Any, ...] = (
        wholes,
        *([one] * (BAD + 1) for one in (1, [40, 40], [0, 0, 40, 40])),
    )
    for field, column in zip(FIELDS, values, strict=True):
        rows = rows.append_column(field, pa.array(column, field.type))
    found, deaths = alive(stage, rows)
    assert codes(found) == ["killed_worker"] * BAD + [None]
    assert deaths == 1 + DEATHS


@pytest.mark.parametrize("archives", [1, CONDEMNED_IN_A_ROW])
def test_containers_that_kill_a_fetch_actor(
    cluster: None, tmp_path: Path, archives: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One has its own images fail; many in a row are held to be a fault of the actor."""
    folder, members = tmp_path / "in", -(-BAD // archives)
    folder.mkdir()
    for number in range(archives):
        content = packed.tar([(f"{n}.jpg", b"x" * 100) for n in range(members)])
        (folder / f"{number:02d}.tar").write_bytes(content)
    config = Config(input=f"{folder}/*.tar", output=str(tmp_path / "out"))
    known = enumeration.write(config, Layout.of(config.output), "")
    done = ray.put(np.zeros(known.rows, bool))
    stage = Fetch(config, known, 0, done, Noted("fetch"))  # type: ignore[arg-type]

    def kill(*_: Any) -> NoReturn:
        raise Dead

    monkeypatch.setattr(stage.reads, "of", kill)
    found, deaths = alive(stage, pa.table({"start": [0], "rows": [128]}))
    failure = stage.client.coordinator.state.failure
    if archives == 1:
        assert codes(found) == ["killed_worker"] * BAD and not failure
        assert deaths == 1 + DEATHS * BAD
    else:
        assert failure == (
            "a fetch actor on the machine None dies with every image, most recently with one of "
            f"{folder}/19.tar: the process died 3 times while it worked on this image alone. If "
            "that file is the cause, move it away; its images then become error rows. The reason "
            "is in the actor's log, among Ray's logs on that machine"
        )
