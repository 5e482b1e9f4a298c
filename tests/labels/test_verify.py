"""A whole output passes; each way of damaging it is caught, by the check that is meant for it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from jobs import verify as job
from pipeline.labels.progress import progress
from pipeline.labels.verify import verify
from tests.support import synthetic
from tests.support.synthetic import replaced, rewrite

IMAGES = 300


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return synthetic.write(tmp_path_factory.mktemp("verify") / "out", IMAGES, rows_per_file=64)


@pytest.fixture
def output(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "out"))


def part(output: Path, status: str = "ok", number: int = 1) -> Path:
    return sorted((output / "detections" / f"status={status}").iterdir())[number]


def detections(change: Callable[[list[dict[str, Any]]], Any]) -> Callable[[Path], None]:
    """Change the detections of the first image in a file that has at least two."""

    def apply(output: Path) -> None:
        def changed(table: pa.Table) -> pa.Table:
            lists = table["detections"].to_pylist()
            change(next(found for found in lists if len(found) > 1))
            return replaced(table, "detections", lists)

        rewrite(part(output), changed)

    return apply


def first_value(name: str, value: Any, status: str = "ok") -> Callable[[Path], None]:
    def apply(output: Path) -> None:
        def changed(table: pa.Table) -> pa.Table:
            values = [value, *table[name].to_pylist()[1:]]
            return replaced(table, name, values)

        rewrite(part(output, status), changed)

    return apply


def record(change: Callable[[dict[str, Any]], Any], name: str = "run") -> Callable[[Path], None]:
    def apply(output: Path) -> None:
        path = output / "_run" / f"{name}.json"
        content = json.loads(path.read_text())
        change(content)
        path.write_text(json.dumps(content))

    return apply


def drop_a_row(output: Path) -> None:
    rewrite(part(output), lambda table: table.slice(1))


def repeat_a_row(output: Path) -> None:
    rewrite(part(output), lambda table: pa.concat_tables([table, table.slice(0, 1)]))


def repeat_a_row_often(output: Path) -> None:
    rewrite(part(output), lambda table: pa.concat_tables([table, *[table.slice(0, 1)] * 256]))


def name_a_larger_id(output: Path) -> None:
    path = part(output)
    path.rename(path.with_name("part-00000-0001-000000000070-0123456789ab.parquet"))


def repeat_a_file(output: Path) -> None:
    path = part(output)
    shutil.copy(path, path.with_name("part-00000-0002-000000000064-0123456789ab.parquet"))


def lose_a_file(output: Path) -> None:
    part(output).unlink()


def cut_a_file(output: Path) -> None:
    path = part(output)
    path.write_bytes(path.read_bytes()[:-100])


def leave_a_stranger(output: Path) -> None:
    shutil.copy(part(output), output / "detections" / "status=ok" / "copy.parquet")


def add_a_column(output: Path) -> None:
    rewrite(part(output), lambda t: t.append_column("extra", pa.nulls(len(t), pa.string())))


def null_where_none_may_be(output: Path) -> None:
    nulls = pa.nulls(64 - 1, pa.string())
    rewrite(part(output), lambda t: t.drop("run_id").append_column("run_id", nulls[: len(t)]))


def other_detector(output: Path) -> None:
    path = part(output)
    table = pq.ParquetFile(path).read()
    detector = {**synthetic.DETECTOR, "weights_sha256": "f" * 64}
    pq.write_table(table.replace_schema_metadata({"detector": json.dumps(detector)}), path)


def swap_two_uris(output: Path) -> None:
    def swapped(table: pa.Table) -> pa.Table:
        uris = table["image_uri"].to_pylist()
        return replaced(table, "image_uri", [uris[1], uris[0], *uris[2:]])

    rewrite(part(output), swapped)


def lose_a_part_of_the_manifest(output: Path) -> None:
    (output / "_run/manifest/part-000000.parquet").unlink()


def shorten_the_manifest(output: Path) -> None:
    path = output / "_run/manifest/part-000000.parquet"
    pq.write_table(pq.read_table(path).slice(0, IMAGES - 1), path)


BREACHES: list[tuple[str, Callable[[Path], object], set[str]]] = [
    ("no _SUCCESS", lambda output: (output / "_SUCCESS").unlink(), {"finished"}),
    (
        "run.json cut",
        lambda output: (output / "_run/run.json").write_text("{"),
        {"finished", "manifest", "schema", "run", "counts"},
    ),
    (
        "manifest of another run",
        record(lambda c: c.update(fingerprint="0"), "manifest"),
        {"manifest"},
    ),
    ("manifest gone", lose_a_part_of_the_manifest, {"manifest", "once", "uris"}),
    ("manifest short", shorten_the_manifest, {"manifest", "once", "uris"}),
    ("manifest odd", record(lambda c: c.update(rows=10**15), "manifest"), {"manifest"}),
    ("row lost", drop_a_row, {"once", "counts"}),
    ("row twice", repeat_a_row, {"once", "counts"}),
    ("row 257 times", repeat_a_row_often, {"once", "counts"}),
    ("file twice", repeat_a_file, {"once", "counts"}),
    ("file lost", lose_a_file, {"once", "counts"}),
    ("file cut", cut_a_file, {"files", "once", "counts"}),
    ("stranger", leave_a_stranger, {"files"}),
    ("misnamed", name_a_larger_id, {"files"}),
    ("unknown id", first_value("image_id", 10**12), {"once", "uris"}),
    ("column added", add_a_column, {"schema"}),
    ("null", null_where_none_may_be, {"schema", "once", "counts"}),
    ("other detector", other_detector, {"schema"}),
    ("URIs swapped", swap_two_uris, {"uris"}),
    ("other run", first_value("run_id", "0"), {"run"}),
    ("other model", first_value("model_id", "0"), {"run"}),
    ("ok without detections", first_value("detections", None), {"status", "sizes"}),
    ("ok with an error", first_value("error_code", "truncated"), {"status"}),
    ("error without code", first_value("error_code", None, "error"), {"status", "counts"}),
    ("ok with a message", first_value("error_message", "x"), {"status"}),
    ("error without stage", first_value("error_stage", None, "error"), {"status"}),
    ("error with a number", first_value("num_detections", 0, "error"), {"status"}),
    ("error with detections", first_value("detections", [], "error"), {"status"}),
    ("no width", first_value("width", None), {"sizes"}),
    ("wrong number", first_value("num_detections", 77), {"sizes", "counts"}),
    ("box outside", detections(lambda d: d[0].update(xmax=5000.0)), {"boxes"}),
    ("box negative", detections(lambda d: d[0].update(ymin=-1.0)), {"boxes"}),
    ("box flat", detections(lambda d: d[0].update(ymax=d[0]["ymin"])), {"boxes"}),
    ("box NaN", detections(lambda d: d[0].update(xmin=float("nan"))), {"boxes"}),
    ("scores unsorted", detections(lambda d: d.reverse()), {"scores"}),
    ("score above 1", detections(lambda d: d[0].update(score=1.5)), {"scores"}),
    ("score below threshold", detections(lambda d: d[-1].update(score=0.01)), {"scores"}),
    ("unknown class", detections(lambda d: d[0].update(label_id=91)), {"labels"}),
    ("background", detections(lambda d: d[0].update(label_id=0)), {"labels"}),
    ("wrong name", detections(lambda d: d[0].update(label="zebra")), {"labels"}),
    ("other weights", record(lambda c: c["weights"].update(sha256="f" * 64)), {"schema"}),
    ("no counts", record(lambda c: c.update(counts=[1])), {"counts"}),
    ("wrong counts", record(lambda c: c["counts"].update(detections=1)), {"counts"}),
]


@pytest.mark.parametrize("name,damage,expected", BREACHES, ids=[name for name, _, _ in BREACHES])
def test_damage_is_caught(
    output: Path,
    name: str,
    damage: Callable[[Path], object],
    expected: set[str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    damage(output)
    assert job.main([str(output)]) == 1
    found = verify(str(output)).checks
    assert {check for check, result in found.items() if result.breaches} == expected
    printed = capsys.readouterr()
    for check in expected:
        assert found[check].examples[0] in printed.out
    assert printed.err.count("\n") == 1 and "fails verification" in printed.err


def test_a_whole_output(whole: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert job.main([str(whole)]) == 0
    printed = capsys.readouterr().out
    assert f"{IMAGES} images, one row each, in 8 files" in printed
    assert "breaches" not in printed


def test_what_killed_writers_leave_is_no_breach(output: Path) -> None:
    for folder in ("detections/status=ok", "detections", "_run/manifest"):
        (output / folder / ".0123456789abcdef.tmp").write_bytes(b"half")
    assert verify(str(output)).breaches == 0


def test_an_output_on_s3_with_folder_markers(
    s3: Any, bucket: str, whole: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in whole.rglob("*"):
        name = str(path.relative_to(whole))
        if path.is_dir():
            s3.put_object(Bucket=bucket, Key=f"out/{name}/", Body=b"")
        else:
            s3.put_object(Bucket=bucket, Key=f"out/{name}", Body=path.read_bytes())
    output = f"s3://{bucket}/out"
    assert job.main([output]) == 0
    s3.delete_object(Bucket=bucket, Key=f"out/{part(whole).relative_to(whole)}")
    assert job.main([f"{output}/"]) == 1
    assert "is in no row" in capsys.readouterr().out


def test_more_rows_than_there_should_be_with_a_terminal(
    output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    bar = progress("verifying", 10)
    bar.delay = bar.mininterval = 0
    bar.update(300)
    assert "300 of 10 images" in str(bar)


def test_each_breach_is_counted(output: Path) -> None:
    rewrite(part(output), lambda table: table.filter(pc.greater(table["image_id"], 70)))
    assert verify(str(output)).checks["once"].breaches == 7
