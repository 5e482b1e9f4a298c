"""What URI a row means: schemes, dot segments, blanks, quotes; and what is said where none is."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import pytest

from pipeline.config import Config
from pipeline.inputs.references import absolute, hint
from tests.support.fetching import fetched
from tests.support.listings import uris

BUCKET = "s3://b/lists/2026"


@pytest.mark.parametrize("folder", ["http://h/lists/2026", "https://h"])
def test_dot_segments_as_the_standard_has_them(folder: str) -> None:
    """Random names against Python's own `urljoin`, which leaves out empty ones otherwise."""
    random.seed(6)
    for _ in range(2000):
        names = random.choices([".", "..", "...", "a", ".b", "c d", "é", "x.jpg"], k=6)
        row = "/".join(names[: random.randint(1, 6)])
        row += random.choice(["", "", "?x=../y/./z", "#../x"])
        assert absolute(row, folder) == urljoin(f"{folder}/", row)


@pytest.mark.parametrize(
    "row,expected",
    [
        ("./a.jpg", f"{BUCKET}/a.jpg"),
        ("x/../a.jpg", f"{BUCKET}/a.jpg"),
        ("../a.jpg", "s3://b/lists/a.jpg"),
        ("../../../../a.jpg", "s3://b/a.jpg"),  # never out of the bucket
        ("a//../b.jpg", f"{BUCKET}/a/b.jpg"),
        ("a/..", f"{BUCKET}/"),
        ("a?/../b#.jpg", f"{BUCKET}/b#.jpg"),
        ("s3://b/./x/../a.jpg", "s3://b/./x/../a.jpg"),  # keys with such names
        ("S3://b/a.jpg", "S3://b/a.jpg"),
        ("/x/../a.jpg", "/x/../a.jpg"),
        # what can only be left out, and what a name may be
        (' "s3://b/a.jpg" ', "s3://b/a.jpg"),
        ("'HTTP://h/a.jpg'", "HTTP://h/a.jpg"),
        ("\ts3://b/a.jpg ", "s3://b/a.jpg "),
        ("http://h/a.jpg \r", "http://h/a.jpg"),
        ('"a.jpg"', f'{BUCKET}/"a.jpg"'),
        (" a.jpg\r", f"{BUCKET}/ a.jpg\r"),
        (r"x\a.jpg", rf"{BUCKET}/x\a.jpg"),
        (None, ""),
        ("", ""),
    ],
)
def test_rows(row: str | None, expected: str) -> None:
    assert absolute(row, BUCKET) == expected


def test_on_a_disk_the_system_resolves_names() -> None:
    assert absolute("./x/../a.jpg", "/data") == "/data/./x/../a.jpg"


@pytest.mark.parametrize(
    "uri,words",
    [
        ("s3://b/a.jpg ", "ends in a space or a line break"),
        ("/in/a.jpg\r", "ends in a space or a line break"),
        (r"s3://b/x\a.jpg", "has backslashes; here names are separated by /"),
        ("s3://b/'x/a.jpg'", "is in quotes"),
        ("s3://b/0.tar.gz#cam/a.jpg", "images in an archive, table or video, give that as --input"),
        ("/in/clip.mp4#t=0.240", "images in an archive, table or video"),
        ("hf://datasets/o/n/0.parquet#12", "images in an archive, table or video"),
        ("s3://b/#x", "comments of a text list"),
    ],
)
def test_hints(uri: str, words: str) -> None:
    assert words in hint(uri)
    assert hint("s3://b/it's/a b.jpg") == hint("/in/tar#t=1.jpg") == ""


def test_schemes_in_any_case(cluster: None, s3: Any, bucket: str, tmp_path: Path) -> None:
    """One object is one row, under the name that came first; odd keys are read as they are."""
    for key in ("in/a.jpg", "in/b.jpg "):
        s3.put_object(Bucket=bucket, Key=key, Body=key.encode())
    rows = [f"S3://{bucket}/in/a.jpg", f"s3://{bucket}/in/a.jpg", "./a.jpg", "b.jpg ", "b.jpg"]
    rows += [r"x\a.jpg"]
    s3.put_object(Bucket=bucket, Key="in/list.csv", Body="\n".join(["uri", *rows]).encode())
    found = fetched(tmp_path, f"S3://{bucket}/in/list.csv", fetch_attempts=1)
    outcomes = {row["image_uri"]: row["encoded"] or row["error_message"] for row in found}
    here = f"s3://{bucket}/in"
    absent, backslashes = outcomes.pop(f"{here}/b.jpg"), outcomes.pop(rf"{here}/x\a.jpg")
    assert outcomes == {rows[0]: b"in/a.jpg", f"{here}/b.jpg ": b"in/b.jpg "}
    assert "backslashes" in backslashes and "(" not in absent
    assert uris(tmp_path, input=f"S3://{bucket}/in/") == [f"{here}/a.jpg"]


def test_schemes_of_a_configuration() -> None:
    config = Config(input="S3://B/X/", output="HTTP://h/O/", weights="GS://b/W.pth")
    assert (config.input, config.output, config.weights) == (
        "s3://B/X/",
        "http://h/O",
        "gs://b/W.pth",
    )
    assert Config(input="FILE:///X", output="o").input == "/X"
