"""Hostile files: each gives its pixels or its error, in bounded memory, alone and in a run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pipeline.config import IMAGE_EXTENSIONS
from pipeline.images.decode import DecodeError, decode, read_header
from pipeline.labels.verify import verify
from tests.support.engines import boxes
from tests.support.hostile import MAX_PIXELS, Case, corpus, scan_bomb
from tests.support.outputs import rows
from tests.support.runs import go

# of a whole process that holds the corpus and decodes it, one file after the other; a bomb that
# went off would take gigabytes
MEMORY_BOUND = 256 * 2**20


@pytest.fixture(scope="module")
def cases() -> list[Case]:
    return corpus()


def outcome(data: bytes) -> np.ndarray | str:
    try:
        return decode(read_header(data, MAX_PIXELS))
    except DecodeError as error:
        assert "\n" not in str(error)
        return error.code


def wrong(case: Case, came: np.ndarray | str) -> str | None:
    """What is wrong with an outcome; None if nothing is."""
    if isinstance(case.answer, str) or isinstance(came, str):
        said = [x if isinstance(x, str) else "pixels" for x in (came, case.answer)]
        return None if said[0] == said[1] else f"{case.name}: {said[0]}, not {said[1]}"
    if came.dtype != np.uint8 or came.shape != case.answer.shape:
        return f"{case.name}: {came.dtype} {came.shape}, not {case.answer.shape}"
    off = int(np.abs(came.astype(int) - case.answer).max())
    return f"{case.name}: off by {off}" if off > case.tolerance else None


def test_the_corpus_is_what_it_says(cases: list[Case]) -> None:
    assert len(cases) > 900
    assert len({case.name for case in cases}) == len(cases)
    again = corpus()
    assert [case.data for case in again] == [case.data for case in cases]
    codes = {case.answer for case in cases if isinstance(case.answer, str)}
    assert codes == {
        "empty",
        "not_an_image",
        "too_many_pixels",
        "truncated",
        "corrupt",
        "unsupported_mode",
    }
    for case in cases:
        assert case.name.rpartition(".")[2] in IMAGE_EXTENSIONS


def test_each_has_its_answer(cases: list[Case]) -> None:
    complaints = [wrong(case, outcome(case.data)) for case in cases]
    assert [complaint for complaint in complaints if complaint] == []


def test_memory_stays_bounded() -> None:
    """And nothing is logged, were it for a billion such files."""
    command = [sys.executable, "-W", "always", "-m", "tests.support.hostile"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert int(done.stdout) < MEMORY_BOUND
    assert done.stderr == ""  # neither Pillow's warnings nor libtiff's lines


def test_a_run_over_the_corpus(cluster: None, cases: list[Case], tmp_path: Path) -> None:
    images = tmp_path / "images"
    images.mkdir()
    for case in cases:
        (images / case.name).write_bytes(case.data)
    options = {"max_error_rate": 1, "accept_truncated": 1}
    summary = go(input=str(images), output=str(tmp_path / "out"), **options)
    checks = verify(str(tmp_path / "out")).checks
    broken = {name for name, check in checks.items() if check.breaches}
    assert broken <= {"scores"}  # those of the engine are colours
    found = rows(str(tmp_path / "out"))
    assert summary.images == len(found) == len(cases)
    deep = [case for case in cases if _is_low(case)]
    assert summary.low_contrast == len(deep) > 0
    example = summary.low_contrast_example.rsplit("/", 1)[-1]
    assert example in {case.name for case in deep}
    by_name = {row["image_uri"].rsplit("/", 1)[-1]: row for row in found}
    assert by_name.keys() == {case.name for case in cases}
    for case in cases:
        row = by_name[case.name]
        if isinstance(case.answer, str):
            came = (row["status"], row["error_stage"], row["error_code"])
            assert came == ("error", "decode", case.answer), case.name
            assert row["detections"] is None and row["error_message"], case.name
            assert row["recovered_share"] is None, case.name
        else:
            height, width = case.answer.shape[:2]
            assert (row["status"], row["width"], row["height"]) == ("ok", width, height), case.name
            assert row["recovered_share"] == 1, case.name
            scores = [detection["score"] for detection in row["detections"]]
            expected = boxes(case.answer).scores
            assert scores == pytest.approx(expected, abs=(case.tolerance + 0.01) / 256), case.name


def _is_low(case: Case) -> bool:
    if isinstance(case.answer, str) or int(case.answer.max()) - int(case.answer.min()) > 15:
        return False
    return read_header(case.data, MAX_PIXELS).is_deep


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seconds", [5, pytest.param(1800, marks=pytest.mark.soak)])
def test_fuzzing_finds_nothing(seconds: int, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.support.fuzz_decode", "--keep", str(tmp_path)]
    done = subprocess.run(
        [*command, "--seconds", str(seconds)], stdout=subprocess.PIPE, text=True, check=False
    )
    print(done.stdout)
    assert done.returncode == 0 and list(tmp_path.iterdir()) == []


def test_the_scan_bomb_is_within_all_limits_but_time() -> None:
    bomb = scan_bomb()
    assert len(bomb) < 5 * 2**20
    header = read_header(bomb, MAX_PIXELS)
    assert (header.width, header.height) == (8000, 8000)
    small = decode(read_header(scan_bomb(side=64, scans=3), MAX_PIXELS))
    assert small.shape == (64, 64, 3) and (small == 128).all()
