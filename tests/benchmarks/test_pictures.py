"""What stands on a terminal in the end, and its picture."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from benchmarks import pictures


def test_what_is_written_over_is_gone() -> None:
    text = "1 of 2\r\x1b[K2 of 2\r\n\x1b[31mred\x1b[0m\r\nlong line\rshort\r\n"
    assert pictures.screen(text) == ["2 of 2", "red", "shortline"]


def test_long_lines_are_wrapped() -> None:
    assert pictures.screen("x" * (pictures.COLUMNS + 1)) == ["x" * pictures.COLUMNS, "x"]


def test_a_command_has_a_terminal(tmp_path: Path) -> None:
    (tmp_path / "size.py").write_text("import os\nprint(os.get_terminal_size(2).columns)\n")
    assert pictures.screen(pictures.call("python size.py", tmp_path)) == [str(pictures.COLUMNS)]


def test_a_command_that_fails_ends_it(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="(?s)unknown job.*exit code 2"):
        pictures.call("prelabel nothing", tmp_path)


def test_the_drawing_holds_the_text() -> None:
    root = ET.fromstring(pictures.drawn(["$ prelabel a <b>", "", "said & done"]))
    assert [node.text for node in root.iter() if node.text and node.text.strip()] == [
        "$ prelabel a <b>",
        "said & done",
    ]
