"""Even samples of an input."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

from pipeline import Config
from pipeline.forecast.sample import draw
from tests.support import packed


def test_a_sample_is_spread_over_the_whole_input(tmp_path: Path) -> None:
    table = tmp_path / "list.txt"
    lines = [f"/images/{number:06d}.jpg\n" for number in range(100_000)]
    table.write_text("".join([*lines, lines[0]]))
    config = Config(input=str(table), output="o")
    sample = draw(config, 400)
    (rows,) = sample.source.read()
    places = [int(uri[-10:-4]) for uri in rows["image_uri"].to_pylist()]
    assert len(set(places)) == 400 and places == sorted(places)
    assert np.histogram(places, 4, (0, 100_000))[0].min() > 60
    assert (sample.counted.rows, sample.counted.duplicates) == (100_000, 1)
    few = draw(dataclasses.replace(config, limit=30), 400)
    assert sum(table.num_rows for table in few.source.read()) == few.counted.rows == 30


def test_a_sample_of_archives(tmp_path: Path) -> None:
    for name in "ab":
        files = [(f"{n}.jpg", b"x" * n) for n in range(50)]
        (tmp_path / f"{name}.tar").write_bytes(packed.tar(files))
    sample = draw(Config(input=f"{tmp_path}/*.tar", output="o"), 30)
    (rows,) = sample.source.read()
    assert (sample.counted.rows, sample.counted.known_bytes) == (100, 2 * sum(range(50)))
    for row in rows.to_pylist():
        first, size, _ = row["source_place"]
        assert Path(row["source_uri"]).read_bytes()[first : first + size] == b"x" * size
        assert row["image_uri"] == f"{row['source_uri']}#{size}.jpg"
