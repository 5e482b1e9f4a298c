"""A run made in this process, and what is told of it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from jobs import status
from pipeline import Config, Summary, run
from pipeline.config import fingerprint
from pipeline.driver import record
from pipeline.inputs import enumeration
from pipeline.network.weights import resolve
from pipeline.outputs.layout import Layout
from pipeline.outputs.manifest import Manifest
from pipeline.store import objects
from tests.support.engines import PixelEngine

# the real network with little work to do, for two cores
SMALL = {"min_size": 128, "max_size": 256, "rpn_post_nms_top_n_test": 50}


def go(engine: Any = PixelEngine, **options: Any) -> Summary:
    summary: Summary | None = run(Config(weights="random:0", **options), engine)
    assert summary
    return summary


def listed_in_slices(config: Config, slice_rows: int) -> Manifest:
    """Write the manifest that `run(config)` will find, in slices of so many images.

    So a few images are a run of many slices.
    """
    mark = fingerprint(record.identity(config, resolve(config, objects.read)))
    layout = Layout.of(config.output)
    return enumeration.write(config, layout, mark, slice_rows=slice_rows)


def told(capsys: pytest.CaptureFixture[str], output: str) -> dict[str, Any]:
    """What `jobs.status --json` says of an output."""
    capsys.readouterr()
    assert status.main([output, "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found
