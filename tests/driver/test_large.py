"""The one row of each large image, wherever a run breaks off."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import itertools
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import tifffile

from pipeline.cluster.ledger import GIVEN_UP
from pipeline.config import Config
from pipeline.driver import large, planner, regions
from pipeline.driver.attempt import Attempt
from pipeline.driver.planner import Planner
from pipeline.driver.record import Record
from pipeline.errors import RunError
from pipeline.images import tiling
from pipeline.images.tiff_regions import Region
from pipeline.network.contract import Boxes, Weights
from pipeline.outputs import manifest, schema
from pipeline.outputs.finished import Finished
from pipeline.outputs.layout import Layout
from pipeline.outputs.manifest import LISTED, Manifest
from pipeline.outputs.schema import ROW
from pipeline.stages.chain import Chain, Stages
from pipeline.stages.download import Downloader
from pipeline.stages.merging import merged
from pipeline.stages.regions import REGION
from pipeline.stages.rows import WINDOW_BOXES, detections_column
from pipeline.stages.write import Destination, write
from pipeline.store import objects
from tests.support.engines import middle
from tests.support.fetching import Silent
from tests.support.outputs import files, rows
from tests.support.tiffs import pyramid
from tests.support.writing import leased

TILE, IMAGES, MARK = 64, 4, "mark"
# the image whose second region fails, the one that cannot be read in windows, and the one that has
# an overview, of each so-manieth row and column
FAILED, SIGNED, PYRAMID, STEP = 1, 2, 3, 4
# of the regions of the one that fails, by their places
SAID = {0: f"{GIVEN_UP}it ends", 1: "it ends"}


class Held:
    """A lease that nobody takes, or the watch over a run that goes on."""

    def check(self) -> None: ...

    def look(self) -> None: ...

    def kept(self, written: int) -> str:
        return f"{written} are written"


class Quiet(Silent):
    """A client that also lets ids be of other things."""

    def renumber(self) -> None: ...

    def flush(self) -> None: ...


class Killed(Exception):
    """The process is gone."""


def picture(number: int) -> np.ndarray:
    squares = np.random.default_rng(number).integers(0, 256, (5, 7, 3), np.uint8)
    return squares.repeat(40, axis=0).repeat(40, axis=1)


def begun(folder: Path) -> Chain:
    """A run whose large images have no more than their rows of status `large`."""
    (folder / "images").mkdir()
    (folder / "out").mkdir()
    output = leased(folder / "out")
    uris = [f"{folder}/images/{number}.tif" for number in range(IMAGES)]
    for number, uri in enumerate(uris):
        if number == PYRAMID:
            pyramid(Path(uri), picture(number), (STEP,), below=False, tile=(32, 32))
            continue
        values = picture(number).astype(np.int8) if number == SIGNED else picture(number)
        tifffile.imwrite(uri, values, tile=(32, 32), compression="zlib", photometric="rgb")
    config = Config(input=f"{folder}/images", output=output, tile=TILE, max_pixels=30_000)
    known = Manifest(IMAGES, 0, [], MARK)
    listed = {"image_uri": uris, "size_bytes": [Path(uri).stat().st_size for uri in uris]}
    layout = Layout.of(output)
    part = pa.table([*listed.values(), pa.nulls(IMAGES, pa.int64())], schema=LISTED)
    manifest.write_part(layout, 0, part)
    manifest.save(known, layout)
    written = schema.with_carried(pa.schema([]), {})
    destination = Destination(output, output, 1, "mine", written)
    for some in np.split(np.arange(IMAGES), [2]):  # two files of them
        write(destination, 0, "large", unfinished([uris[i] for i in some], some))
    parts: Any = {"placement": None, "weights": None, "make_engine": None, "client": Quiet()}
    return Chain(
        config, known, destination=destination, run_id="r", image_bytes=1, stages=Stages(), **parts
    )


def unfinished(uris: list[str], ids: np.ndarray) -> pa.Table:
    values = {
        "image_id": ids,
        "image_uri": uris,
        "image_bytes": [Path(uri).stat().st_size for uri in uris],
        "model_id": ["m"] * len(uris),
        "run_id": ["r"] * len(uris),
        "error_code": ["large"] * len(uris),
        "attempts": [1] * len(uris),
    }
    nulls = pa.nulls(len(uris))
    return pa.table([values.get(name, nulls) for name in ROW.names], schema=ROW)


def process(chain: Chain, part: Finished) -> Chain:
    """Gives each region that is missing its row, a file at a time."""
    table = chain.manifest.read_part(part.layout, 0).to_pylist()
    for row in table:
        if not part.done[row["image_id"]]:
            number = int(row["whole_uri"].rsplit("/")[-1].removesuffix(".tif"))
            first = min(r["image_id"] for r in table if r["whole_uri"] == row["whole_uri"])
            said = SAID.get(row["image_id"] - first) if number == FAILED else None
            rows = region_row(row, picture(number), said)
            write(chain.destination, 0, "error" if said else "ok", rows)
    part.load()
    return chain


def region_row(row: dict[str, Any], pixels: np.ndarray, said: str | None) -> pa.Table:
    x, y, width, height, overview = Region(*row[REGION])
    inside = pixels[y : y + height, x : x + width]
    places = tiling.tiles(height, width, TILE, 0.2)
    if overview:
        inside, places = pixels[::STEP, ::STEP], np.array([[0, 0, width, height]])
        assert inside.shape[:2] == (height, width)
    found = [middle(inside[y0:y1, x0:x1]) for x0, y0, x1, y1 in places]
    boxes = Boxes(*(np.concatenate([vars(b)[name] for b in found]) for name in vars(found[0])))
    values = {
        "image_id": [row["image_id"]],
        "image_uri": [row["image_uri"]],
        "detections": detections_column([None if said else boxes], {1: "x"}),
        "num_detections": [None if said else len(boxes.labels)],
        "model_id": ["m"],
        "run_id": ["r"],
        "error_stage": ["decode" if said else None],
        "error_code": ["truncated" if said else None],
        "error_message": [said],
        "attempts": [2],
    }
    table = pa.table([values.get(name, pa.nulls(1)) for name in ROW.names], schema=ROW)
    table = table.append_column(REGION, pa.array([row[REGION]], pa.list_(pa.int64())))
    counts = None if said else [len(part.labels) for part in found]
    return table.append_column(WINDOW_BOXES, pa.array([counts], WINDOW_BOXES.type))


class Local(Attempt):
    """An attempt whose regions are processed here."""

    def _process(self, chain: Chain, finished: Finished, *others: Any) -> Chain:
        return process(chain, finished)


def attempt(chain: Chain, **recorded: Any) -> Finished:
    """One attempt at the slice, to its seal."""
    layout, nothing = Layout.of(chain.config.output), None
    weights = Weights("m", "0", True, {1: "x"}, {}, {"min_size": 50, "max_size": 80})
    known = Record("r", {}, {}, {}, **recorded)
    of_run: Any = (layout, Held(), nothing, chain.manifest, known, 0.0, Stages())
    local = Local(chain.config, weights, *of_run)
    finished = local._finished(0)
    _, fresh = local._process_slice(chain, finished, Held(), 0)  # type: ignore[arg-type]
    return fresh


@contextlib.contextmanager
def killed_at(step: int) -> Iterator[Any]:
    """The process is gone before its so-manieth change of the store; yields how many it made."""
    made = itertools.count()
    last = [0]
    names = ("put", "delete", "delete_folder")
    whole = {name: getattr(objects, name) for name in names}

    def counted(name: str) -> Any:
        def change(*arguments: Any) -> Any:
            last[0] = next(made)
            if last[0] == step:
                if name == "delete_folder":  # in the middle of it
                    for path in Path(arguments[1]).rglob("*.parquet"):
                        path.unlink()
                raise Killed
            return whole[name](*arguments)

        return change

    with pytest.MonkeyPatch.context() as patch:
        for name in names:
            patch.setattr(objects, name, counted(name))
        yield last


def check(output: str, overviews: bool = True) -> None:
    found = rows(output)
    assert [row["image_id"] for row in found] == list(range(IMAGES))
    for number, row in enumerate(found):
        if number == FAILED:
            said = "in the region of 124x168 pixels from (156, 0) on: it ends"
            assert (row["status"], row["error_code"]) == ("error", "truncated")
            assert (row["error_message"], row["detections"]) == (said, None)
        elif number == SIGNED:
            assert (row["status"], row["error_code"]) == ("error", "unsupported_mode")
        else:
            check_boxes(row, picture(number), overviews and number == PYRAMID)
    assert not [name for name in files(output) if "windows" in name or "=large" in name]


def check_boxes(row: dict[str, Any], pixels: np.ndarray, overview: bool) -> None:
    height, width = pixels.shape[:2]
    places = tiling.tiles(height, width, TILE, 0.2)
    parts = [middle(pixels[y0:y1, x0:x1]) for x0, y0, x1, y1 in places]
    whole = middle(pixels[::STEP, ::STEP]) if overview else middle(np.zeros((1, 1, 3)))
    whole = dataclasses.replace(whole, xyxy=whole.xyxy * STEP)
    wanted = merged([whole, *parts], np.concatenate(([[0, 0, width, height]], places)))
    names = ("xmin", "ymin", "xmax", "ymax")
    found = [[box[name] for name in names] for box in row["detections"]]
    np.testing.assert_array_equal(found, wanted.xyxy)
    assert (row["width"], row["height"], row["num_detections"]) == (width, height, len(found))
    assert (row["attempts"], row["error_code"], row["status"]) == (2, None, "ok")
    assert len(found) > 10
    # what no tile shows as a whole
    middle_of_all = [width / 4, height / 4, 3 * width / 4, 3 * height / 4]
    assert (middle_of_all in found) == overview


def test_a_kill_at_every_step(tmp_path: Path) -> None:
    for step in itertools.count():
        folder = tmp_path / str(step)
        folder.mkdir()
        chain = begun(folder)
        with killed_at(step) as last, contextlib.suppress(Killed):
            attempt(chain, overviews=True)
        finished = attempt(chain, overviews=True)
        assert not finished.unfinished and finished.errors.total() == 2
        check(chain.config.output)
        if last[0] < step:  # it came to its end
            break
    assert step > 15


def test_a_run_that_began_without_overviews(tmp_path: Path) -> None:
    """It goes on without, also where its regions, of four numbers, are there."""
    chain = begun(tmp_path)
    layout = Layout.of(chain.config.output)
    finished = Finished.of(layout, chain.manifest, 0)
    finished.load()
    with pytest.MonkeyPatch.context() as patch:
        row = planner._row
        patch.setattr(planner, "_row", lambda *parts: row(*parts) | {REGION: [*parts[2][:4]]})
        reader = Planner(chain.config, Quiet(), None)  # type: ignore[arg-type]
        regions.write(layout, 0, MARK, large._large(finished), reader, Held().check)
    attempt(chain)
    check(chain.config.output, overviews=False)


def test_regions_of_other_images_are_not_taken(tmp_path: Path) -> None:
    """Nor those of a manifest that is not whole, or of another run."""
    chain = begun(tmp_path)
    layout, reader = Layout.of(chain.config.output), Planner(chain.config, Quiet(), None)  # type: ignore[arg-type]
    finished = Finished.of(layout, chain.manifest, 0)
    finished.load()
    some = list(large._large(finished))
    made = regions.write(layout, 0, MARK, iter(some[:2]), reader, Held().check)
    assert regions.load(layout, 0, MARK, np.array([0, 1])) is not None
    assert regions.load(layout, 0, "other", np.array([0])) is None
    assert not objects.names(layout.fs, layout.windows)
    made = regions.write(layout, 0, MARK, iter(some[:2]), reader, Held().check)
    assert regions.load(layout, 0, MARK, np.array([1, 2])) is None
    made = regions.write(layout, 0, MARK, iter(some), reader, Held().check)
    objects.delete(made.layout.fs, made.layout.manifest)
    assert regions.load(layout, 0, MARK, np.array([0])) is None


def test_credentials_that_expire_while_regions_are_planned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They end the run; the next attempt takes up nothing of what failed for want of them."""
    chain = begun(tmp_path)
    layout = Layout.of(chain.config.output)
    said: list[str] = []

    async def expired(*_: Any, **span: int) -> bytes:
        raise PermissionError("the token has expired") from Expired()

    def ended() -> None:
        if said:
            raise RunError(said[0])

    monkeypatch.setattr(Downloader, "_cat", expired)
    monkeypatch.setattr(Quiet, "fail", lambda _, reason: said.append(reason), raising=False)
    finished = Finished.of(layout, chain.manifest, 0)
    finished.load()
    reader = Planner(chain.config, Quiet(), None)  # type: ignore[arg-type]
    with pytest.raises(RunError, match="refuses the credentials"):
        regions.write(layout, 0, MARK, large._large(finished), reader, ended)
    assert regions.load(layout, 0, MARK, np.arange(IMAGES)) is None


class Expired(Exception):
    """What botocore raises."""

    def __init__(self) -> None:
        self.response = {"Error": {"Code": "ExpiredToken"}}


def test_a_signal_while_regions_are_planned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run does not wait for a store that does not answer."""
    chain, looks, ended = begun(tmp_path), itertools.count(), threading.Event()
    answered: list[bool] = []

    async def late(*_: Any, **span: int) -> bytes:
        answered.append(await asyncio.to_thread(ended.wait, 10))
        return b""

    def interrupted(_: Held) -> None:
        if next(looks) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(planner, "LOOK_SECONDS", 0.01)
    monkeypatch.setattr(Downloader, "_cat", late)
    monkeypatch.setattr(Held, "check", interrupted)
    with pytest.raises(KeyboardInterrupt) as stopped:
        attempt(chain)
    assert not answered and stopped.value.__notes__ == ["0 are written"]
    ended.set()


def test_a_signal_while_rows_are_put_together(tmp_path: Path) -> None:
    """The run ends before the next image, and the next attempt does what is left."""
    chain, looks = begun(tmp_path), itertools.count()

    def interrupted(_: Held) -> None:
        # one look each and one more as they are planned, then two images
        if next(looks) == IMAGES + 3:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(planner, "LOOK_SECONDS", 100)
        patch.setattr(Held, "check", interrupted)
        with pytest.raises(KeyboardInterrupt) as stopped:
            attempt(chain, overviews=True)
    assert stopped.value.__notes__ == ["2 are written"]
    assert not attempt(chain, overviews=True).unfinished
    check(chain.config.output)
