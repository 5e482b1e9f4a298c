"""What a second listing finds beside the first."""

from __future__ import annotations

from pathlib import Path

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
