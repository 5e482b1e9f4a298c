"""The folders of an export on any store, and what is refused."""

from __future__ import annotations

import gc
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks.readback import compare
from benchmarks.readers import Found
from benchmarks.readers.light import coco_pycocotools, huggingface_datasets
from jobs.export import main
from pipeline.errors import RunError, UsageError
from pipeline.labels.export import parts
from pipeline.labels.export.exporter import export
from pipeline.labels.export.formats import huggingface
from pipeline.labels.export.target import Options
from tests.support import outputs, synthetic
from tests.support.exports import LABELS, by_base, expected, names_of, run


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An output of 60 images in three directories, one after the other."""
    names = [f"{'abc'[number // 20]}/{number:02d}.jpg" for number in range(60)]
    return synthetic.write(tmp_path_factory.mktemp("folders") / "out", 60, 6, 16, names=names)


@pytest.mark.parametrize("kind", LABELS)
def test_split_into_folders_of_n(kind: str, output: Path, tmp_path: Path) -> None:
    assert run(output, tmp_path / "a", "--tasks-per-file", "25", format=kind) == 0
    folders = sorted(path.name for path in (tmp_path / "a").iterdir() if path.is_dir())
    assert folders == ["0001", "0002", "0003"]
    assert [len(names_of(tmp_path / "a" / name)) for name in folders] == [25, 25, 10]


def test_a_folder_for_each_directory(output: Path, tmp_path: Path) -> None:
    assert run(output, tmp_path / "a", "--by-directory") == 0
    found: Found = {}
    for name in "abc":
        part = coco_pycocotools(str(tmp_path / "a" / name))
        assert len(part) == 20 and all(key.startswith(f"{name}/") for key in part)
        found |= part
    assert compare(expected(output), by_base(found))[0] <= 0.0101


def test_directories_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "MAX_OPEN", 2)
    names = [f"{'xyzx'[number // 5]}/v1.{number % 2}/{number}.jpg" for number in range(20)]
    output = synthetic.write(tmp_path / "out", 20, 3, names=names)
    assert run(output, tmp_path / "a", "--by-directory") == 0
    folders = sorted(path.name for path in (tmp_path / "a").iterdir() if path.is_dir())
    assert [name for name in folders if name.startswith("x")] == [
        "x__v1_0",
        "x__v1_0-0002",
        "x__v1_1",
        "x__v1_1-0002",
    ]
    uris = [uri for name in folders for uri in names_of(tmp_path / "a" / name)]
    assert len(uris) == len(set(uris)) == 20
    assert run(output, tmp_path / "b", "--by-directory", "--tasks-per-file", "2") == 0
    found = sorted(
        str(path.parent.relative_to(tmp_path / "b"))
        for path in (tmp_path / "b").rglob("instances.json")
    )
    assert found[:4] == ["x__v1_0/0001", "x__v1_0/0002", "x__v1_0/0003", "x__v1_1/0001"]


@pytest.mark.parametrize("kind", ["coco", "yolo", "huggingface"])
def test_to_s3(kind: str, output: Path, tmp_path: Path, bucket: str) -> None:
    assert (
        main([str(output), "--format", kind, "--to", f"s3://{bucket}/x/", "--tasks-per-file", "40"])
        == 0
    )
    assert run(output, tmp_path / "a", "--tasks-per-file", "40", format=kind) == 0
    there, here = outputs.files(f"s3://{bucket}/x"), outputs.files(str(tmp_path / "a"))
    assert set(there) == set(here)
    for name in set(here) - {"export.json"}:
        assert there[name] == here[name], name
    assert main([str(output), "--format", kind, "--to", f"s3://{bucket}/x/"]) == 2


def test_huggingface_files_end_at_a_size(
    output: Path, tmp_path: Path, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(huggingface, "GROUP_ROWS", 8)
    monkeypatch.setattr(huggingface, "FILE_BYTES", 2000)
    for to in (str(tmp_path / "a"), f"s3://{bucket}/x"):
        export(str(output), Options(format="huggingface", to=to))
    here = outputs.files(str(tmp_path / "a"))
    files = sorted(name for name in here if name.endswith(".parquet"))
    assert files[0] == "data/train-00000.parquet" and len(files) > 2
    assert outputs.files(f"s3://{bucket}/x")[files[0]] == here[files[0]]
    found = huggingface_datasets(str(tmp_path / "a"))
    moved, rescored = compare(expected(output), by_base(found))
    assert moved == pytest.approx(0, abs=1e-3) and rescored == 0.0


def test_a_target_that_may_not_be_written_is_found_at_once(
    output: Path, bucket: str, no_rights: None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(output), "--format", "coco", "--to", f"s3://{bucket}/x"]) == 2
    assert f"s3://{bucket}/x: no permission" in capsys.readouterr().err


# ------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("flags", "complaint"),
    [
        (["--format", "coc", "--to", "NEW"], "did you mean 'coco'"),
        (["--format", "coco", "--to", "FULL"], "not empty (it holds 'kept.txt')"),
        (
            ["--format", "coco", "--to", "NEW", "--confidence"],
            "works only with --format yolo or voc or cvat or cvat-video",
        ),
        (
            ["--format", "yolo", "--to", "NEW", "--annotations", "x"],
            "--annotations works only with",
        ),
        (
            ["--format", "yolo", "--to", "NEW", "--image-prefix", "x"],
            "--image-prefix works only with",
        ),
        (["--format", "coco", "--to", "NEW", "--tasks-per-file", "0"], "must be above 0"),
        (["--format", "coco", "--to", "NEW", "--category", "persn=0.5"], "did you mean 'person'"),
        (["--format", "coco", "--to", "FULL/kept.txt"], "kept.txt is a file; give the name of a"),
        (["--format", "coco"], "--to is missing"),
    ],
)
def test_refusals(
    flags: list[str],
    complaint: str,
    output: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full/kept.txt").write_text("mine")
    places = {"NEW": str(tmp_path / "new"), "FULL": str(tmp_path / "full")}
    given = [places.get(flag, flag.replace("FULL", places["FULL"])) for flag in flags]
    assert main([str(output), *given]) == 2
    assert complaint in capsys.readouterr().err
    assert not (tmp_path / "new").exists()
    assert (tmp_path / "full/kept.txt").read_text() == "mine"


def test_an_output_that_lacks_a_file_is_not_exported(tmp_path: Path) -> None:
    output = synthetic.write(tmp_path / "out", 40, 3, 16)
    sorted((output / "detections/status=ok").iterdir())[1].unlink()
    with pytest.raises(RunError, match="jobs.verify"):
        export(str(output), Options(format="huggingface", to=str(tmp_path / "a")))
    gc.collect()  # nor does its end have a traceback, as of a writer whose file is closed
    assert not (tmp_path / "a/export.json").exists()
    with pytest.raises(pa.ArrowInvalid):
        pq.read_schema(tmp_path / "a/data/train-00000.parquet")
    with pytest.raises(UsageError, match="not an output of prelabel detect"):
        export(str(tmp_path), Options(format="coco", to=str(tmp_path / "b")))
