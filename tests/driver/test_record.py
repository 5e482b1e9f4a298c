"""Whose output it is."""

from __future__ import annotations

import dataclasses
import fnmatch
from pathlib import Path
from typing import Any

import pytest

from pipeline.cluster.placement import Placement
from pipeline.config import EXTENSIONS_BEFORE, Config
from pipeline.driver import changes, record
from pipeline.driver.summary import summarize
from pipeline.errors import UsageError
from pipeline.network.contract import Weights
from pipeline.network.weights import resolve
from pipeline.reading import Reading, recorded
from pipeline.store import objects
from tests.support.runs import SMALL


@pytest.fixture(scope="module")
def weights() -> Weights:
    config = Config(input="/in", output="/out", weights="random:0", model=SMALL)
    return resolve(config, objects.read)


def test_an_output_with_other_file_names_is_refused() -> None:
    """Its files would not be found, and their images would be done again."""
    config = Config(input="/in", output="/out", weights="random:0", model=SMALL)
    weights = resolve(config, objects.read)
    known = record.new(config, weights)
    record.check_same(known, config, weights)
    content = dataclasses.asdict(known)
    del content["layout"]  # as before there was a number for it
    with pytest.raises(UsageError, match="/out was written by another version of this program"):
        record.check_same(record.Record(**content), config, weights)


def test_an_output_from_before_a_field_was_known_goes_on() -> None:
    config = Config(input="/in", output="/out", weights="random:0", model=SMALL)
    weights = resolve(config, objects.read)
    known = record.new(config, weights)
    for name in ("precision", "sniff", "accept_truncated", "tile", "tile_overlap"):
        del known.identity[name]
    record.check_same(known, config, weights)
    assert record.continued(known, config).precision == "fp32"
    half = dataclasses.replace(config, precision="fp16")
    with pytest.raises(UsageError, match="--precision was fp32 and is now fp16"):
        record.check_same(known, half, weights)
    share = dataclasses.replace(config, accept_truncated=0.9)
    with pytest.raises(UsageError, match="--accept-truncated was not given and is now 0.9"):
        record.check_same(known, share, weights)
    tiled = dataclasses.replace(config, tile=1024)
    with pytest.raises(UsageError, match="--tile was not given and is now 1024"):
        record.check_same(known, tiled, weights)
    overlapping = dataclasses.replace(tiled, tile_overlap=0.3)
    with pytest.raises(UsageError, match="--tile-overlap was 0.2 and is now 0.3"):
        record.check_same(record.new(tiled, weights), overlapping, weights)


def test_limits_of_a_run_with_tiles_from_before_they_mattered(weights: Weights) -> None:
    options: dict[str, Any] = {"input": "/in", "output": "/out", "weights": "random:0"}
    config = Config(**options, model=SMALL, tile=1024, max_pixels=50_000_000)
    known = record.new(config, weights)
    known.config = {"max_pixels": 50_000_000}
    for name in ("max_pixels", "max_object_bytes"):
        del known.identity[name]
    record.check_same(known, config, weights)
    with pytest.raises(UsageError, match="--max-pixels was 50000000 and is now 60000000"):
        record.check_same(known, dataclasses.replace(config, max_pixels=60_000_000), weights)


def test_signatures_are_not_written_down(tmp_path: Path) -> None:
    url = "https://host/list.csv?X-Signature=canary"
    config = Config(input=url, output=str(tmp_path), weights="random:0")
    content = record.new(config, resolve(config, objects.read))
    record.begin(content, config, Placement("cpu", 1, 0, 1, 0, 1, 1, 1, 1))
    assert "canary" not in str(content) and "https://host/list.csv" in str(content)


def test_headers_of_one_server_are_not_written_down(tmp_path: Path, weights: Weights) -> None:
    """What is read again for a report is read with the others."""
    headers = {"Referer": "r", "https://h": {"Authorization": "canary", "Cookie": "canary"}}
    config = Config(
        input="/in",
        output=str(tmp_path),
        weights="random:0",
        http_headers=headers,
        s3_options={"anon": True},
    )
    content = record.new(config, weights)
    record.begin(content, config, Placement("cpu", 1, 0, 1, 0, 1, 1, 1, 1))
    assert "canary" not in str(content)
    assert content.config["http_headers"]["https://h"] == ["Authorization", "Cookie"]
    assert recorded(content.config) == Reading({"Referer": "r"}, {"anon": True})


@pytest.mark.parametrize(
    "before,now,same",
    [
        ("s3://b/images/", "s3://b/images", True),
        ("s3://b/images", "s3://b/images//", True),
        ("s3://b/*/2026/", "s3://b/*/2026", True),
        ("s3://b/", "s3://b", True),
        ("/images", "/images/", True),
        ("https://h/images/", "https://h/images", False),
        ("s3://b/images/", "s3://b/image", False),
    ],
)
def test_a_slash_at_the_end(before: str, now: str, same: bool, weights: Weights) -> None:
    """Also in a record of an older version, which kept it."""
    config = Config(input=now, output="/out", weights="random:0", model=SMALL)
    known = record.new(dataclasses.replace(config, input=before), weights)
    for recorded_input in (known.identity["input"], before):
        known.identity["input"] = recorded_input
        if same:
            record.check_same(known, config, weights)
            retry = dataclasses.replace(config, input="/out/detections/status=error")
            record.check_same(known, retry, weights)
        else:
            with pytest.raises(UsageError, match="input was .* and is now"):
                record.check_same(known, config, weights)


@pytest.mark.parametrize("before", ["auto", "fp32", "fp16"])
def test_a_run_goes_on_in_its_precision(before: str) -> None:
    """Where the next call leaves the choice; another one than the run's is refused."""
    config = Config(input="/in", output="/out", weights="random:0", model=SMALL)
    weights = resolve(config, objects.read)
    assert config.precision == "auto"
    known = record.new(dataclasses.replace(config, precision=before), weights)
    record.check_same(known, config, weights)
    assert record.continued(known, config).precision == before
    other = dataclasses.replace(config, precision="fp16" if before != "fp16" else "fp32")
    with pytest.raises(UsageError, match=f"--precision was {before} and is now"):
        record.check_same(known, other, weights)


def test_what_computed_is_written_down(tmp_path: Path) -> None:
    config = Config(input="/in", output=str(tmp_path), weights="random:0")
    content = record.new(config, resolve(config, objects.read))
    record.begin(content, config, Placement("cuda", 3, 1, 1, 0, 1, 1, 16, 4096))
    sums: dict[str, float] = {
        "processed": 7,
        "engine NVIDIA L4, fp16": 2,
        "engine Tesla T4, fp32": 1,
        "low_contrast": 3,
    }
    record.end(content, sums, {"low_contrast": ["a.png"], "corrupt": ["b.png"]}, 1.0)
    assert content.attempts[-1]["engines"] == {"NVIDIA L4, fp16": 2, "Tesla T4, fp32": 1}
    assert content.attempts[-1]["low_contrast"] == {"images": 3, "examples": ["a.png"]}


def test_attempts_add_up_to_the_images_of_little_contrast() -> None:
    config = Config(input="/in", output="/out", weights="random:0")
    content = record.Record(run_id="1", identity={}, config={}, weights={})
    content.counts = {"images": 9, "detections": 0, "errors": {}, "duplicates": 0}
    content.attempts.append({"images": 2})  # of an older version, or killed
    for count, examples in ((0, []), (3, ["a.png", "b.png"]), (2, ["c.png"])):
        record.begin(content, config, Placement("cpu", 1, 0, 1, 0, 1, 1, 1, 1))
        sums: dict[str, float] = {"processed": 3, "low_contrast": count}
        record.end(content, sums, {"low_contrast": examples}, 1.0)
    found = summarize(content, config, 3, 0)
    assert (found.low_contrast, found.low_contrast_example) == (5, "a.png")


def test_other_samples_are_another_run() -> None:
    plain = Config(input="/in", output="/out", weights="random:0", model=SMALL)
    weights = resolve(plain, objects.read)
    for name, value in (("depth_range", (0, 4095)), ("depth_range", "auto"), ("bands", (4, 3, 2))):
        changes: dict[str, Any] = {name: value}
        other = dataclasses.replace(plain, **changes)
        record.check_same(record.new(other, weights), other, weights)
        for before, now in ((plain, other), (other, plain)):
            with pytest.raises(UsageError, match=f"--{name.replace('_', '-')} was .* and is now"):
                record.check_same(record.new(before, weights), now, weights)
        old = record.new(plain, weights)
        del old.identity[name]  # as before there was such a field
        record.check_same(old, plain, weights)
        with pytest.raises(
            UsageError, match=f"--{name.replace('_', '-')} was not given and is now"
        ):
            record.check_same(old, other, weights)


def test_a_run_begun_before_overviews_were_used(weights: Weights) -> None:
    config = Config(input="in", output="out")
    new = dataclasses.asdict(record.new(config, weights))
    assert record.Record(**new).overviews
    del new["overviews"]
    assert not record.Record(**new).overviews


@pytest.mark.parametrize("name", ["include", "exclude"])
def test_a_run_that_knew_no_exclusions_goes_on_without_one(name: str) -> None:
    config = Config(input="/in", output="/out", weights="random:0", model=SMALL)
    weights = resolve(config, objects.read)
    known = record.new(config, weights)
    del known.identity[name]
    record.check_same(known, config, weights)
    with pytest.raises(UsageError, match=f"{name} was .* and is now"):
        changed: dict[str, Any] = {name: ("x/**",)}
        record.check_same(known, dataclasses.replace(config, **changed), weights)


@pytest.mark.parametrize("before", EXTENSIONS_BEFORE)
def test_a_run_goes_on_with_the_endings_it_was_begun_with(before: tuple[str, ...]) -> None:
    config = Config(input="/in", output="/out", weights="random:0", model=SMALL)
    weights = resolve(config, objects.read)
    old = dataclasses.replace(config, extensions=before)
    known = record.new(old, weights)
    record.check_same(known, config, weights)
    assert record.continued(known, config).extensions == old.extensions != config.extensions
    fewer = dataclasses.replace(config, extensions=("jpg",))
    with pytest.raises(UsageError, match="extensions was .* and is now .*jpg"):
        record.check_same(known, fewer, weights)
    assert record.continued(record.new(config, weights), config) == config


@pytest.mark.parametrize(
    "before,now,told",
    [
        (
            {},
            {"box_score_thresh": 0.3},
            "--score-threshold was not given and is now 0.3; choose another output, or leave "
            "--score-threshold out; to see fewer boxes without a new run, give --score-threshold "
            "to report or export",
        ),
        (
            {"box_score_thresh": 0.3},
            {},
            "--score-threshold was 0.3 and is now not given; choose another output, or give "
            "--score-threshold 0.3",
        ),
        (
            {"max_size": 128},
            {"max_size": 256, "box_score_thresh": 0.1},
            "--score-threshold was not given and is now 0.1; choose another output, or leave "
            "--score-threshold out; also changed: model.max_size",
        ),
    ],
)
def test_of_the_network_s_keywords_those_that_differ(
    weights: Weights, before: dict[str, Any], now: dict[str, Any], told: str
) -> None:
    old, new = (
        Config(input="/in", output="/out", weights="random:0", model={**SMALL, **changed})
        for changed in (before, now)
    )
    with pytest.raises(UsageError) as refused:
        record.check_same(record.new(old, weights), new, weights)
    assert str(refused.value) == f"/out belongs to another run: {told}"


@pytest.mark.parametrize(
    "name,before,now,told",
    [
        ("tile_overlap", 0, 0.2, "--tile-overlap was 0 and is now 0.2;*or give --tile-overlap 0"),
        ("sniff", True, False, "--sniff was given and is now not given;*or give --sniff"),
        (
            "exclude",
            ["a", "b"],
            [],
            "--exclude was a b and is now not given;*or give --exclude a b",
        ),
        ("categories", {"1": "x"}, {"1": "y"}, "--categories was 1 name and is now 1 name, not*"),
        ("max_pixels", 7, 8, "--max-pixels was 7 and is now 8;*or give --max-pixels 7"),
    ],
)
def test_a_change_as_it_is_typed(name: str, before: Any, now: Any, told: str) -> None:
    said = changes.told(name, before, now)
    assert fnmatch.fnmatchcase(said, told)
