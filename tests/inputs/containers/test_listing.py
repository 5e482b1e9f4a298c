"""What is found in archives, beside what Python's own readers find, and by how many requests."""

from __future__ import annotations

import io
import random
import tarfile
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from fsspec import AbstractFileSystem
from fsspec.implementations.local import LocalFileSystem

from pipeline.inputs.containers import ranged
from pipeline.inputs.containers.archives import MODULES, open_container
from pipeline.inputs.containers.members import Broken, Entry
from tests.support import packed

NAMES = ("a.jpg", "é/ü.png", "x" * 150 + ".jpg", "y/" * 140 + "z.jpg", "../../etc/a.jpg", "/b.jpg")


class Counting(LocalFileSystem):  # type: ignore[misc]
    """Local files, and what was asked of them."""

    cachable = False

    def __init__(self) -> None:
        super().__init__()
        self.spans: list[tuple[int, int]] = []

    def cat_file(self, path: str, start: Any = None, end: Any = None, **_: Any) -> bytes:
        with open(path, "rb") as file:
            file.seek(start)
            data = file.read(end - start)
        self.spans.append((start, len(data)))
        return data


def found(tmp_path: Path, data: bytes, kind: str) -> list[packed.File]:
    """The files of an archive, read as a run reads them."""
    path = tmp_path / f"archive.{kind}"
    path.write_bytes(data)
    entries = listed(Counting(), path, kind)
    whole = open_container(Counting(), str(path), len(data), kind).read() if kind == "tgz" else data
    read = []
    for entry in entries:
        start, end = MODULES[kind].span(entry.place)
        content = MODULES[kind].image(entry.place, whole[start:end])
        assert len(content) == entry.size == MODULES[kind].size(entry.place) or kind == "zip"
        read.append((entry.name, content))
    return read


def listed(fs: AbstractFileSystem, path: Path, kind: str) -> list[Entry]:
    file = open_container(fs, str(path), None, kind)
    return list(MODULES[kind].entries(file, kind, 1, Counter()))


def files(chance: random.Random) -> list[packed.File]:
    names = [f"{number}/{chance.choice(NAMES)}" for number in range(chance.randrange(1, 12))]
    sizes = (0, 1, 511, 512, 513, 5000, 70_000, 300_000)
    return [(name, chance.randbytes(chance.choice(sizes))) for name in names]


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_tars(tmp_path: Path, seed: int, form: int) -> None:
    chance = random.Random(seed)
    written = files(chance)
    if form == tarfile.USTAR_FORMAT:  # has no such names
        written = [(f"{number}/a.jpg", data) for number, (_, data) in enumerate(written)]
    mode = chance.choice(["w", "w:gz"])
    data = packed.tar(written, mode, format=form)
    assert found(tmp_path, data, "tar" if mode == "w" else "tgz") == written


@pytest.mark.parametrize("seed", range(20))
def test_zips(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    methods = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
    written = files(chance)
    if chance.random() < 0.3:
        written = [(name, bytes(len(data))) for name, data in written]  # which compresses well
    data = packed.zipped(written, chance.choice(methods))
    if chance.random() < 0.5:
        data = b"before" * chance.randrange(100) + data
    if chance.random() < 0.3:
        buffer = io.BytesIO(data)
        with zipfile.ZipFile(buffer, "a") as archive:
            archive.comment = b"PK\5\6 a comment"
        data = buffer.getvalue()
    assert found(tmp_path, data, "zip") == written


def test_a_zip_that_was_streamed(tmp_path: Path) -> None:
    """Its local headers have no sizes; and it has entries of Zip64."""

    class Pipe(io.RawIOBase):
        def __init__(self) -> None:
            self.data = bytearray()

        def writable(self) -> bool:
            return True

        def write(self, data: Any) -> int:
            self.data += data
            return len(data)

    pipe = Pipe()
    written = [(f"{number}.jpg", b"%d" % number * 999) for number in range(5)]
    with zipfile.ZipFile(pipe, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in written:
            with archive.open(name, "w", force_zip64=True) as file:
                file.write(data)
    assert found(tmp_path, bytes(pipe.data), "zip") == written


def test_more_files_than_a_plain_zip_can_have(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(zipfile, "ZIP_FILECOUNT_LIMIT", 3)
    written = [(f"{number}.jpg", b"x") for number in range(3000)]
    data = packed.zipped(written)
    assert b"PK\6\6" in data
    path = tmp_path / "a.zip"
    path.write_bytes(b"first" + data)
    fs = Counting()
    names = [entry.name for entry in listed(fs, path, "zip")]
    assert names == [name for name, _ in written]
    assert len(fs.spans) < 10


@pytest.mark.parametrize("size,most", [(3000, 20), (200_000, 500)])
def test_requests_for_the_headers_of_a_tar(tmp_path: Path, size: int, most: int) -> None:
    """Large images are passed over; small ones cost less to read through than to be asked for."""
    data = packed.tar([(f"{number}.jpg", bytes(size)) for number in range(400)])
    (tmp_path / "a.tar").write_bytes(data)
    fs = Counting()
    assert len(listed(fs, tmp_path / "a.tar", "tar")) == 400
    assert len(fs.spans) <= most
    if size > ranged.GAP:
        assert sum(length for _, length in fs.spans) < 0.03 * len(data)


@pytest.mark.parametrize("seed", range(60))
def test_damage(tmp_path: Path, seed: int) -> None:
    """Whatever is wrong with an archive, it is told as such, and what comes is of the archive."""
    chance = random.Random(seed)
    written = [(f"{n}.jpg", chance.randbytes(chance.randrange(3000))) for n in range(20)]
    kind = chance.choice(["tar", "tgz", "zip"])
    data = bytearray(
        packed.zipped(written, chance.choice([0, 8]))
        if kind == "zip"
        else packed.tar(written, "w" if kind == "tar" else "w:gz")
    )
    if chance.random() < 0.4:
        del data[chance.randrange(len(data)) :]
    for _ in range(chance.randrange(1, 40)):
        if data:
            data[chance.randrange(len(data))] = chance.randrange(256)
    path = tmp_path / "a"
    path.write_bytes(data)
    fs = Counting()
    module, good = MODULES[kind], dict(written)
    try:
        file = open_container(fs, str(path), len(data), kind)
        for entry in module.entries(file, kind, 1, Counter()):
            if kind != "zip" or entry.kind != kind:
                continue
            start, end = module.span(entry.place)
            assert start >= 0 and end <= len(data)
            try:
                content = module.image(entry.place, bytes(data[start:end]))
            except OSError:
                continue
            assert content in good.values() or len(content) < 4
    except Broken as error:
        assert error.offset >= 0
