"""The images of an export, found by what programs have made of their names."""

from __future__ import annotations

import pytest

from pipeline.labels.readers.origins import Origins


def test_letters_in_parts() -> None:
    known = Origins()
    known.add("x/\xe9.jpg", "s3://b/1", 0, 0)
    found = known.find("x/e\u0301.jpg")
    assert found == known.find_stem("x/e\u0301") == known.find_stem("train/e\u0301") is not None
    known = Origins()
    for name in ("x/\xe9", "x/e\u0301", "x/o\u0301"):
        known.add(f"{name}.jpg", name, 0, 0)
    for name in known.uris:
        assert (found := known.find_stem(name)) and found.uri == name
    assert known.find_stem("x/\xf3") == known.find_stem("x/o\u0301")


@pytest.mark.parametrize(
    "name",
    [
        "images/1a2b3c4d__a%20b.jpg",  # Label Studio, of an image that it has fetched
        "images\\1a2b3c4d-a b.jpg",  # the same on Windows
        "train/a b_jpg.rf.0f1e2d3c4b5a69788796a5b4c3d2e1f0.jpg",  # Roboflow
        "C:\\x\\a b.jpg",
    ],
)
def test_names_of_other_programs(name: str) -> None:
    known = Origins()
    known.add("x/a b.jpg", "s3://b/x/a b.jpg", 200, 100)
    known.add("x/a.jpg", "s3://b/x/a.jpg", 200, 100)
    assert (found := known.find(name)) and found.uri == "s3://b/x/a b.jpg"
    assert known.find_stem(name.rpartition(".")[0]) == found
