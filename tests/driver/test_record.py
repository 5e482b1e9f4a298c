"""Whose output it is."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from pipeline.cluster.placement import Placement
from pipeline.config import Config
from pipeline.driver import record
from pipeline.errors import UsageError
from pipeline.network.weights import resolve
from pipeline.store import objects
from tests.support.runs import SMALL


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
    for name in ("precision", "sniff", "accept_truncated"):
        del known.identity[name]
    record.check_same(known, config, weights)
    assert record.continued(known, config).precision == "fp32"
    half = dataclasses.replace(config, precision="fp16")
    with pytest.raises(UsageError, match="precision was 'fp32' and is now 'fp16'"):
        record.check_same(known, half, weights)
    share = dataclasses.replace(config, accept_truncated=0.9)
    with pytest.raises(UsageError, match="accept_truncated was None and is now 0.9"):
        record.check_same(known, share, weights)


def test_signatures_are_not_written_down(tmp_path: Path) -> None:
    url = "https://host/list.csv?X-Signature=canary"
    config = Config(input=url, output=str(tmp_path), weights="random:0")
    content = record.new(config, resolve(config, objects.read))
    record.begin(content, config, Placement("cpu", 1, 0, 1, 0, 1, 1, 1, 1))
    assert "canary" not in str(content) and "https://host/list.csv" in str(content)


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
    with pytest.raises(UsageError, match=f"precision was '{before}' and is now"):
        record.check_same(known, other, weights)


def test_what_computed_is_written_down(tmp_path: Path) -> None:
    config = Config(input="/in", output=str(tmp_path), weights="random:0")
    content = record.new(config, resolve(config, objects.read))
    record.begin(content, config, Placement("cuda", 3, 1, 1, 0, 1, 1, 16, 4096))
    sums: dict[str, float] = {
        "processed": 7,
        "engine NVIDIA L4, fp16": 2,
        "engine Tesla T4, fp32": 1,
    }
    record.end(content, sums, 1.0)
    assert content.attempts[-1]["engines"] == {"NVIDIA L4, fp16": 2, "Tesla T4, fp32": 1}


@pytest.mark.parametrize("before", record.EXTENSIONS_BEFORE)
def test_a_run_goes_on_with_the_endings_it_was_begun_with(before: list[str]) -> None:
    config = Config(input="/in", output="/out", weights="random:0", model=SMALL)
    weights = resolve(config, objects.read)
    old = dataclasses.replace(config, extensions=tuple(before))
    known = record.new(old, weights)
    record.check_same(known, config, weights)
    assert record.continued(known, config).extensions == old.extensions != config.extensions
    fewer = dataclasses.replace(config, extensions=("jpg",))
    with pytest.raises(UsageError, match="extensions was .* and is now .*jpg"):
        record.check_same(known, fewer, weights)
    assert record.continued(record.new(config, weights), config) == config
