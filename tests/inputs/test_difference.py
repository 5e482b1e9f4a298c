"""What a second listing finds beside the first."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from pipeline.config import Config
from pipeline.inputs import enumeration
from pipeline.inputs.difference import compare
from pipeline.inputs.sources import open_source
from pipeline.outputs.layout import Layout


def test_by_products_that_an_older_version_listed(tmp_path: Path) -> None:
    """They are not gone while they are there; those that come anew are none of the run's."""
    for name in ("in/a.jpg", "in/._a.jpg", "in/@eaDir/b.jpg", "in/._gone.jpg", "work/x"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"1")
    config = Config(input=str(tmp_path / "in"), output=str(tmp_path / "out"))
    layout = Layout.of(config.output)
    known = enumeration.write(config, layout, "", open_source(config, by_products=True))
    assert known.rows == 4
    (tmp_path / "in" / "._a.jpg").write_bytes(b"12")
    (tmp_path / "in" / "._gone.jpg").unlink()
    for name in ("c.jpg", "._c.jpg", "@eaDir/d.jpg"):
        (tmp_path / "in" / name).write_bytes(b"1")
    found = compare(config, layout, known, tmp_path / "work")
    assert found.counts() == {"new": 1, "changed": 1, "gone": 1}


@pytest.mark.parametrize("now", ["S3://b/a.jpg\ns3://b/a.jpg\ns3://b/c.jpg", "s3://b/a.jpg"])
def test_schemes_that_an_older_version_told_apart(now: str, tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("S3://b/a.jpg\ns3://b/a.jpg\ns3://b/b.jpg")
    config = Config(input=str(tmp_path / "list.txt"), output=str(tmp_path / "out"))
    layout = Layout.of(config.output)
    source = dataclasses.replace(open_source(config), may_repeat=False)
    known = enumeration.write(config, layout, "", source)
    assert known.rows == 3
    (tmp_path / "list.txt").write_text(now)
    found = compare(config, layout, known, tmp_path)
    assert found.counts() == {"new": now.count("c.jpg"), "changed": 0, "gone": 1}
