"""Runs whose input has changed since: what is new and what has changed is done, nothing else."""

from __future__ import annotations

import json
import logging
import os
import random
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from jobs import verify
from pipeline import Config, UsageError
from pipeline.driver import refresh
from pipeline.driver.runner import run
from pipeline.driver.summary import Summary
from pipeline.inputs import difference, enumeration
from pipeline.outputs import manifest
from pipeline.outputs.layout import Layout
from pipeline.outputs.manifest import Manifest
from pipeline.store import urls
from tests.support import packed, tiles
from tests.support.engines import PixelEngine
from tests.support.outputs import files, rows
from tests.support.runs import listed_in_slices

RUN: dict[str, Any] = {"weights": "random:0"}


def go(refresh: bool = True, **options: Any) -> Summary:
    summary = run(Config(**RUN, **options), PixelEngine, refresh=refresh)
    assert summary
    return summary


def seen(output: str) -> list[tuple[int, str, int]]:
    """Id, name, and the tile that was in the image."""
    found = []
    for row in rows(output):
        level = round(row["detections"][0]["score"] * 256 * 3) - 100
        found.append((row["image_id"], Path(row["image_uri"]).name, level))
    return found


def put(s3: Any, bucket: str, name: str, number: int) -> None:
    s3.put_object(Bucket=bucket, Key=f"images/{name}.png", Body=tiles.tile(number))


def test_a_bucket(
    cluster: None,
    s3: Any,
    bucket: str,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """New, changed in content but not in size, gone; interrupted on the way; then nothing."""
    for number, name in enumerate("abcdefghijkl"):
        put(s3, bucket, name, number)
    options: dict[str, Any] = {"input": f"s3://{bucket}/images/", "output": f"s3://{bucket}/out"}
    listed_in_slices(Config(**RUN, **options), 8)
    assert go(**options).processed == 12  # of what is not there yet, there is nothing to refresh
    put(s3, bucket, "j", 50)
    put(s3, bucket, "aa", 60)
    put(s3, bucket, "z", 70)
    s3.delete_object(Bucket=bucket, Key="images/f.png")
    before = files(options["output"])
    with caplog.at_level(logging.INFO):
        assert run(Config(**RUN, **options), PixelEngine, dry_run=True, refresh=True) is None
    assert "2 new, 1 changed, 1 gone of 12 images" in caplog.text
    assert files(options["output"]) == before

    with monkeypatch.context() as patch:
        patch.setattr(manifest, "save", interrupt)
        with pytest.raises(KeyboardInterrupt):
            go(**options)
    with pytest.raises(UsageError, match="was interrupted; complete it first"):
        go(False, **options | {"input": f"{options['output']}/detections/status=error"})
    caplog.clear()
    with caplog.at_level(logging.INFO):
        summary = go(False, **options)  # the plain command goes on with it
    assert (summary.images, summary.processed) == (14, 3)
    assert f"gone: image 5, s3://{bucket}/images/f.png" in caplog.text
    levels = [*range(9), 50, 10, 11, 60, 70]
    names = [*"abcdefghijkl", "aa", "z"]
    assert seen(options["output"]) == [
        (number, f"{name}.png", level)
        for number, (name, level) in enumerate(zip(names, levels, strict=True))
    ]
    assert verify.main([options["output"]]) == 0
    fs, root = urls.filesystem(options["output"])
    gone = pq.read_table(fs.open(f"{root}/_run/gone.parquet"))
    assert gone.to_pylist() == [{"image_id": 5, "image_uri": f"s3://{bucket}/images/f.png"}]
    (note,) = json.loads(fs.cat_file(f"{root}/_run/manifest.json"))["refreshed"]
    assert (note["new"], note["changed"], note["gone"]) == (2, 1, 1)

    before = files(options["output"])
    assert go(**options).processed == 0
    assert files(options["output"]) == before


def interrupt(*_: Any) -> None:
    raise KeyboardInterrupt


def test_a_table(tmp_path: Path) -> None:
    """It tells nothing of sizes: what it names anew is added, with its carried columns."""
    table = tmp_path / "list.jsonl"

    def write(*rows: tuple[str, object]) -> None:
        table.write_text("\n".join(json.dumps({"path": path, "tag": tag}) for path, tag in rows))

    write(("0.png", "x"), ("1.png", "y"), ("", "nothing"))
    config = Config(input=str(table), output=str(tmp_path / "out"), carry=("tag",), **RUN)
    output = Layout.of(config.output)
    known = enumeration.write(config, output, "mark")
    write(("2.png", "new"), ("", "nothing"), ("1.png", "other"), ("2.png", "new"))
    refresh.refresh(config, output, "mark")
    part = known.read_part(output, 0)
    names = [Path(uri).name for uri in part["image_uri"].to_pylist()]
    assert names == ["0.png", "1.png", "", "2.png"]
    assert part["tag"].to_pylist() == ["x", "y", "nothing", "new"]
    fresh = manifest.load(output, "mark")
    assert fresh
    (note,) = fresh.refreshed
    assert (note["new"], note["changed"], note["gone"]) == (1, 0, 1)
    write(("2.png", 1))
    with pytest.raises(UsageError, match="column 'tag' of the input is now int64 and was string"):
        refresh.refresh(config, output, "mark")


@pytest.mark.parametrize("seed", range(20))
def test_manifests(tmp_path: Path, seed: int) -> None:
    """Whatever happens to a folder, its manifest keeps its ids and comes to hold all of it."""
    chance, images = random.Random(seed), tmp_path / "images"
    images.mkdir()
    config = Config(input=str(images), output=str(tmp_path / "out"), **RUN)
    output = Layout.of(config.output)

    def write(number: int) -> None:
        path = images / f"{number:03d}.jpg"
        path.write_bytes(bytes(chance.randrange(1, 9)))
        os.utime(path, ns=(chance.randrange(10**9), chance.randrange(10**9)))

    for number in chance.sample(range(100), chance.randrange(1, 20)):
        write(number)
    known = enumeration.write(config, output, "mark", part_rows=4, slice_rows=8)
    for _ in range(3):
        before = listed(output, known)
        for number in chance.sample(range(100), chance.randrange(20)):
            write(number)
        for path in chance.sample(sorted(images.iterdir()), chance.randrange(3)):
            path.unlink()
        write(200)  # never empty
        refresh.refresh(config, output, "mark")
        known = manifest.load(output, "mark") or pytest.fail("it is gone")
        after = listed(output, known)
        assert [uri for uri, *_ in after[: len(before)]] == [uri for uri, *_ in before]
        there = {str(path): path.stat() for path in images.iterdir()}
        now = {uri: (size, version) for uri, size, version in after}
        assert len(now) == len(after) and there.keys() <= now.keys()
        assert all(now[uri] == (s.st_size, s.st_mtime_ns) for uri, s in there.items())
        assert known.known_bytes == sum(size for size, _ in now.values())


def test_archives(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A member that only lies elsewhere by now is not processed again, but found there.

    Nor does an archive stay an error that was cut off when it was listed.
    """
    folder, old = tmp_path / "in", [(f"{n}.jpg", b"%d" % n * 100) for n in range(4)]
    folder.mkdir()
    for name in ("appended", "moved", "timeless"):
        (folder / f"{name}.tar").write_bytes(packed.tar(old, mtime=int(name != "timeless")))
    (folder / "z.zip").write_bytes(packed.zipped(old))
    cut, whole = folder / "cut.tar", packed.tar(old, mtime=1)
    cut.write_bytes(whole[:2300])  # in the third header
    options: dict[str, Any] = {"input": f"{folder}/*.{{tar,zip}}", "output": f"{tmp_path}/out"}
    config = Config(**options, **RUN)
    output = Layout.of(config.output)
    known = enumeration.write(config, output, "mark", part_rows=5, slice_rows=10)
    before = {row["image_uri"]: row for row in members(output, known)}
    assert before[str(cut)]["source_kind"] == "unreadable"

    refresh.refresh(config, output, "mark")
    assert manifest.load(output, "mark") == known  # nothing has changed
    added = [("new.jpg", b"n")]
    (folder / "appended.tar").write_bytes(packed.tar(old + added, mtime=1))
    (folder / "moved.tar").write_bytes(packed.tar(added + old[1:], mtime=1))
    (folder / "timeless.tar").write_bytes(packed.tar(added + old, mtime=0))
    (folder / "z.zip").write_bytes(packed.zipped([*old[:2], ("2.jpg", b"x" * 100), old[3]]))
    cut.write_bytes(whole)
    with caplog.at_level(logging.INFO):
        refresh.refresh(config, output, "mark")
    assert "4 new, 6 changed, 1 gone of 19 images" in caplog.text
    known = manifest.load(output, "mark") or pytest.fail("it is gone")
    after = {row["image_uri"]: row for row in members(output, known)}
    stayed = [f"{folder}/appended.tar#new.jpg" if uri == str(cut) else uri for uri in before]
    assert [*after][:19] == stayed and len(after) == 23
    del before[str(cut)]
    for uri, row in after.items():
        archive, _, name = uri.partition("#")
        if uri == f"{folder}/moved.tar#0.jpg":  # which is gone
            assert row == before[uri]
        elif archive.endswith(".tar"):
            first, size, _ = row["source_place"]
            content = Path(archive).read_bytes()[first : first + size]
            assert content == dict(old + added)[name]
            same = uri in before and "timeless" not in archive
            assert not same or row["object_version"] == before[uri]["object_version"]
    changed = {
        uri for uri in before if after[uri]["object_version"] != before[uri]["object_version"]
    }
    assert changed == {
        *(f"{folder}/timeless.tar#{n}.jpg" for n in range(4)),
        f"{folder}/z.zip#2.jpg",
    }
    refresh.refresh(config, output, "mark")
    assert manifest.load(output, "mark") == known
    for content in (whole[:2300], whole):
        cut.write_bytes(content)
        refresh.refresh(config, output, "mark")
    known = manifest.load(output, "mark") or pytest.fail("it is gone")
    told = [(note["new"], note["changed"], note["gone"]) for note in known.refreshed[1:]]
    assert told == [(1, 0, 3), (0, 0, 2)]  # without a new image the row stays
    assert members(output, known)[23]["image_uri"] == str(cut)


def members(output: Layout, known: Manifest) -> list[dict[str, Any]]:
    parts = [known.read_part(output, number) for number in known.parts]
    found = [row for part in parts for row in part.to_pylist()]
    assert [row["image_id"] for row in found] == list(range(known.rows))
    return found


def listed(output: Layout, known: Manifest) -> list[tuple[str, int, int]]:
    parts = [known.read_part(output, number) for number in known.parts]
    found = [row for part in parts for row in part.to_pylist()]
    assert [row["image_id"] for row in found] == list(range(known.rows))
    assert len(list(Path(output.parts).iterdir())) == len(parts)
    return [(row["image_uri"], row["size_bytes"], row["object_version"]) for row in found]


@pytest.mark.parametrize(
    "options,complaint",
    [
        ({"limit": 3}, "cannot be combined with --limit"),
        ({"bytes_column": "image", "input": "/t.parquet"}, "new images of a bytes_column"),
        ({"input": "/o/detections/status=error"}, "not the table of failed images"),
    ],
)
def test_what_cannot_be_listed_again(options: dict[str, Any], complaint: str) -> None:
    with pytest.raises(UsageError, match=complaint):
        refresh.check(Config(**{"input": "/i", "output": "/o"} | RUN | options))


def test_an_output_of_an_earlier_release(tmp_path: Path) -> None:
    """Its manifest has no versions: sizes alone tell."""
    images = tmp_path / "images"
    images.mkdir()
    for name in "ab":
        (images / f"{name}.jpg").write_bytes(b"1")
    config = Config(input=str(images), output=str(tmp_path / "out"), **RUN)
    output = Layout.of(config.output)
    known = enumeration.write(config, output, "mark")
    path = tmp_path / "out/_run/manifest/part-000000.parquet"
    pq.write_table(pq.read_table(path).drop_columns("object_version"), path)
    (images / "a.jpg").write_bytes(b"2")
    (images / "b.jpg").write_bytes(b"22")
    (images / "c.jpg").write_bytes(b"3")
    found = difference.compare(config, output, known, tmp_path)
    assert found.counts() == {"new": 1, "changed": 1, "gone": 0}
    refresh.refresh(config, output, "mark")
    assert pq.read_table(path)["size_bytes"].to_pylist() == [1, 2, 1]
