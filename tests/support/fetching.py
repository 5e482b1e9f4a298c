"""A fetch stage in this process, without a run around it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import ray

from pipeline.cluster.ledger import Begun
from pipeline.config import Config
from pipeline.inputs import enumeration
from pipeline.outputs.layout import Layout
from pipeline.stages.fetch import Fetch


class Silent:
    """A client of no coordinator: nothing is suspicious, and nobody counts along."""

    stopping = False

    def join(self) -> None: ...

    def ready(self) -> None: ...

    def begin(self, ids: Sequence[int], wholes: Sequence[str] = ()) -> Begun:
        return Begun()

    def end(self, ids: Sequence[int]) -> None: ...

    def add(self, **amounts: float) -> None: ...

    def failed(self, code: str, uri: str) -> None: ...


def fetched(tmp_path: Path, source: str, **options: Any) -> list[dict[str, Any]]:
    """The rows of an input's first 128 images, as `Fetch` yields them."""
    config = Config(input=source, output=str(tmp_path / "out"), **options)
    found = enumeration.write(config, Layout.of(config.output), "")
    done = ray.put(np.zeros(found.rows, bool))
    stage = Fetch(config, found, 0, done, Silent())  # type: ignore[arg-type]
    ranges = pa.table({"start": [0], "rows": [128]})
    rows: list[dict[str, Any]] = pa.concat_tables(stage(ranges)).to_pylist()
    return rows
