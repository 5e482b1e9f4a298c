"""The same image on both sides, whatever order, folder or number of images they have."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipeline.errors import RunError, UsageError
from pipeline.labels.diff import joint
from pipeline.labels.diff.joint import Joint, join
from pipeline.labels.output import open_output
from tests.support import synthetic


def names(order: list[int]) -> list[str]:
    return [f"{number % 7}/{number:04d}.jpg" for number in order]


def joined(a: Path, b: Path) -> tuple[Joint, list[tuple[str, str]]]:
    """How they pair, and the URIs that meet."""
    found = join(open_output(str(a)), open_output(str(b)))
    pairs = []
    for ours, theirs in found.tables():
        assert ours.column_names[:7] == [*joint.COLUMNS] == theirs.column_names[:7]
        uris = ours["image_uri"].to_pylist(), theirs["image_uri"].to_pylist()
        pairs += list(zip(*uris, strict=True))
    return found, pairs


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("joint") / "out"
    return synthetic.write(folder, 300, 3, 37, names=names([*range(300)]))


def test_in_step(first: Path, tmp_path: Path) -> None:
    second = synthetic.write(tmp_path / "b", 300, 3, 100, names=names([*range(300)]), seed=1)
    found, pairs = joined(first, second)
    assert (found.by, found.in_order, found.lacking) == ("URI", True, (0, 0))
    assert len(pairs) == 300 and all(ours == theirs for ours, theirs in pairs)


def test_another_folder_in_step(first: Path, tmp_path: Path) -> None:
    second = synthetic.write(tmp_path / "b", 300, 3, names=names([*range(300)]), input="/copy")
    found, pairs = joined(first, second)
    assert (found.by, found.in_order) == ("name", True)
    assert pairs[299] == ("s3://bucket/images/5/0299.jpg", "/copy/5/0299.jpg")


@pytest.mark.parametrize("folder", ["s3://bucket/images", "/copy"])
@pytest.mark.parametrize("file_rows", [joint.FILE_ROWS, 40])
def test_another_order(
    first: Path, tmp_path: Path, folder: str, file_rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(joint, "FILE_ROWS", file_rows)
    order = [*range(310, 20, -1)]
    second = synthetic.write(tmp_path / "b", len(order), 3, names=names(order), input=folder)
    found, pairs = joined(first, second)
    assert (found.by, found.in_order) == ("URI" if folder.startswith("s3") else "name", False)
    assert len({*pairs}) == len(pairs) == 279
    for ours, theirs in pairs:
        assert ours.removeprefix("s3://bucket/images") == theirs.removeprefix(folder)
    assert found.lacking == (21, 11)
    assert len(found.examples[0]) == len(found.examples[1]) == 5
    assert {*found.examples[0]} <= {f"s3://bucket/images/{name}" for name in names([*range(21)])}


def test_letters_composed_and_escaped(tmp_path: Path) -> None:
    ours = ["e\u0301 1.jpg", "b.jpg", "50%effort.jpg"]  # %ef alone is no letter
    theirs = ["b.jpg", "50%effort.jpg", "x.jpg", "\u00e9%201.jpg"]
    a = synthetic.write(tmp_path / "a", 3, names=ours)
    b = synthetic.write(tmp_path / "b", 4, names=theirs, input="/c")
    _, pairs = joined(a, b)
    assert len(pairs) == 3
    assert ("s3://bucket/images/e\u0301 1.jpg", "/c/\u00e9%201.jpg") in pairs


def test_nothing_in_common(first: Path, tmp_path: Path) -> None:
    second = synthetic.write(tmp_path / "b", 3, names=["a.jpg", "b.jpg", "c.jpg"], input="/copy")
    with pytest.raises(
        UsageError, match=r"no image of .* the first has .*0000.jpg', the second '/copy/a.jpg"
    ):
        joined(first, second)


def test_a_name_twice(tmp_path: Path) -> None:
    a = synthetic.write(tmp_path / "a", 2, names=["x y.jpg", "b.jpg"])
    b = synthetic.write(tmp_path / "b", 2, names=["x y.jpg", "x%20y.jpg"], input="/copy")
    with pytest.raises(UsageError, match="has two images of the same name, '/copy/x"):
        joined(a, b)


def test_an_id_twice(first: Path, tmp_path: Path) -> None:
    second = synthetic.write(tmp_path / "b", 300, 3, names=names([*range(300)]))

    def doubled(table):  # type: ignore[no-untyped-def]
        ids = table["image_id"].to_pylist()
        return synthetic.replaced(table, "image_id", [ids[1], *ids[1:]])

    synthetic.rewrite(next((second / "detections/status=ok").iterdir()), doubled)
    with pytest.raises(RunError, match="does not have each id exactly once; .*verify"):
        joined(first, second)


def test_a_manifest_of_another_run(first: Path, tmp_path: Path) -> None:
    second = synthetic.write(tmp_path / "b", 3)
    path = second / "_run/manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"fingerprint": "?"}))
    with pytest.raises(OSError, match="does not belong to this run"):
        joined(first, second)
