"""Which archives are opened, which of their members are images, and how those are called."""

from __future__ import annotations

import io
import struct
import tarfile
import zipfile
import zlib
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from pipeline.config import Config
from pipeline.errors import UsageError
from pipeline.inputs.containers.members import Lack
from pipeline.inputs.containers.ranged import Ranged
from pipeline.inputs.sources import open_source
from tests.support import packed
from tests.support.listings import listed, uris

JPEG = b"\xff\xd8\xff\xe0 and so on"


def write(folder: Path, **files: bytes) -> Path:
    """Files of `folder/in`, a dot for each two underscores of a name."""
    (folder / "in").mkdir(exist_ok=True)
    for name, data in files.items():
        (folder / "in" / name.replace("__", ".")).write_bytes(data)
    return folder / "in"


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    tar = packed.tar([("b/1.jpg", b"1"), ("b/1.json", b"{}"), ("b/2.PNG", b"22")])
    gz = packed.tar([("1.jpg", b"333")], "w:gz")
    zipped = packed.zipped([("c/", b""), ("c/1.jpg", b"4444")])
    archives = {"b__tar": tar, "c__zip": zipped, "d__tar__gz": gz, "e__gz": b""}
    return write(tmp_path, a__jpg=b"5", f__jpg=b"6", **archives)


def test_what_opens_an_archive(
    mixed: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tar, zipped = ["in/b.tar#b/1.jpg", "in/b.tar#b/2.PNG"], ["in/c.zip#c/1.jpg"]
    gz, files = ["in/d.tar.gz#1.jpg"], ["in/a.jpg", "in/f.jpg"]
    assert uris(tmp_path, input=str(mixed)) == files
    assert uris(tmp_path, input=f"{mixed}/b.tar") == tar
    assert uris(tmp_path, input=f"{mixed}/*.{{tar,zip}}") == tar + zipped
    assert uris(tmp_path, input=f"{mixed}/*.tar.gz") == gz
    assert uris(tmp_path, input=f"{mixed}/*.{{jpg,zip}}") == [files[0], *zipped, files[1]]
    everything = "jpg png tar tar.gz tgz zip"
    found = [files[0], *tar, *zipped, *gz, files[1]]
    assert uris(tmp_path, input=str(mixed), extensions=everything) == found
    assert uris(tmp_path, input=str(mixed), extensions="tar") == tar
    assert uris(tmp_path, input=str(mixed), extensions="png zip tar") == tar[1:]
    assert uris(tmp_path, input=str(mixed), extensions=everything, limit=3) == found[:3]
    with pytest.raises(
        UsageError,
        match="^no images under .*, but 3 archives: add --extensions tar tar.gz zip .looked for",
    ):
        uris(tmp_path, input=str(mixed), extensions="bmp")
    caplog.set_level("INFO")
    uris(tmp_path, input=f"{mixed}/b.tar")
    assert "passed over 1 file: 1 .json" in caplog.text


def test_a_folder_that_is_called_like_an_archive(tmp_path: Path) -> None:
    (tmp_path / "x.tar").mkdir()
    (tmp_path / "x.tar/a.jpg").write_bytes(b"1")
    table, _ = listed(tmp_path, input=f"{tmp_path}/x.tar")
    assert table["image_uri"].to_pylist() == [f"{tmp_path}/x.tar/a.jpg"]
    assert "source_uri" not in table.column_names


def test_the_manifest(mixed: Path, tmp_path: Path) -> None:
    table, found = listed(tmp_path, input=str(mixed), extensions="jpg tar zip tar.gz")
    assert table["size_bytes"].to_pylist() == [1, 1, 4, 3, 1]
    assert table["source_kind"].to_pylist() == [None, "tar", "zip", "tgz", None]
    assert table["source_uri"].to_pylist()[1] == f"{mixed}/b.tar"
    assert found.columns == []
    versions = table["object_version"].to_pylist()
    assert None not in versions and len(set(versions)) == 5


# names of members, to what stands behind the # of their URIs
NAMES = {
    "../../etc/passwd.jpg": "../../etc/passwd.jpg",
    "/etc/a.jpg": "/etc/a.jpg",
    "C:\\x\\a.jpg": "C:\\x\\a.jpg",
    "a b/é.jpg": "a b/é.jpg",
    "50%.jpg": "50%25.jpg",
    "x.tar#y.jpg": "x.tar%23y.jpg",
    "what?.jpg": "what%3F.jpg",
    "@1024/a.jpg": "%401024/a.jpg",
    "line\nend.jpg": "line%0Aend.jpg",
    "\udcff.jpg": "%FF.jpg",
}


@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_names(tmp_path: Path, kind: str) -> None:
    names = [name for name in NAMES if kind == "tar" or name != "\udcff.jpg"]
    data = [(name, b"x") for name in names]
    content = packed.tar(data) if kind == "tar" else packed.zipped(data)
    write(tmp_path, **{f"a__{kind}": content})
    found = uris(tmp_path, input=f"{tmp_path}/in/a.{kind}")
    assert found == [f"in/a.{kind}#{NAMES[name]}" for name in names]


def test_names_of_a_zip_that_are_not_said_to_be_utf_8(tmp_path: Path) -> None:
    """As Linux's `zip` and macOS write them, WinRAR, and old programs of Windows."""
    told = [zipfile.ZipInfo(name) for name in ("old.jpg", "new.jpg")]
    for info in told:
        said = struct.pack("<BL", 1, zlib.crc32(b"old.jpg")) + "фото.jpg".encode()
        info.extra = struct.pack("<2H", 0x7075, len(said)) + said
    files: list[Any] = [("снимок/é.jpg", b"1"), ("é__.jpg", b"2"), *((info, b"3") for info in told)]
    data = packed.zipped(files).replace("é__.jpg".encode(), b"\x82___.jpg")
    for before in (b"PK\3\4\x14\0", b"PK\1\2\x14\3\x14\0"):
        data = data.replace(before + b"\0\x08", before + b"\0\0")
    write(tmp_path, a__zip=data)
    found = uris(tmp_path, input=f"{tmp_path}/in/a.zip")
    names = ("снимок/é.jpg", "é___.jpg", "фото.jpg", "new.jpg")
    assert found == [f"in/a.zip#{name}" for name in names]


def test_a_name_of_a_zip_that_is_neither_text_nor_ends(tmp_path: Path) -> None:
    data = packed.zipped([("é_0123.jpg", b"x"), ("b.jpg", b"y")])
    write(tmp_path, a__zip=data.replace("é_0123".encode(), b"\xe9__\x00123"))
    found = uris(tmp_path, input=f"{tmp_path}/in/a.zip")
    assert found == ["in/a.zip#%E9__%00123.jpg", "in/a.zip#b.jpg"]


@pytest.mark.filterwarnings("ignore:Duplicate name:UserWarning")
@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_names_that_come_twice(tmp_path: Path, kind: str) -> None:
    """Each is an image of its own; the first is called as it is."""
    data = [("x/a.jpg", b"1"), ("b.jpg", b"2"), ("x/a.jpg", b"3"), ("x/a.jpg", b"4")]
    write(tmp_path, a__tar=packed.tar(data), a__zip=packed.zipped(data))
    table, _ = listed(tmp_path, input=f"{tmp_path}/in/a.{kind}")
    names = [uri.partition("#")[2] for uri in table["image_uri"].to_pylist()]
    offsets = {"tar": (2048, 3072), "zip": (74, 112)}[kind]
    assert names == ["x/a.jpg", "b.jpg", *(f"@{offset}/x/a.jpg" for offset in offsets)]


def test_what_is_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for kind in (tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE):
            info = tarfile.TarInfo("a.jpg")
            info.type, info.linkname = kind, "/etc/passwd"
            tar.addfile(info)
        for name in ("__MACOSX/._a.jpg", "x/a.jpg", "x/y/a.jpg", "README", "jpeg", "x.zip"):
            info = tarfile.TarInfo(name)
            data = JPEG if name == "jpeg" else b"text" * 10
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    link = zipfile.ZipInfo("link.jpg")
    link.create_system, link.external_attr = 3, 0o120777 << 16
    zipped = packed.zipped([(link, b"/etc/passwd"), ("jpeg", JPEG), ("no", b"")])  # type: ignore[list-item]
    write(tmp_path, a__tar=buffer.getvalue(), b__zip=zipped)
    caplog.set_level("INFO")
    found = uris(tmp_path, input=f"{tmp_path}/in/*.{{tar,zip}}", exclude=["x/y/**"], sniff=True)
    assert found == ["in/a.tar#x/a.jpg", "in/a.tar#jpeg", "in/b.zip#jpeg"]
    said = caplog.messages[-1]
    options = {"include": ["x/**"], "exclude": ["b.zip", "x/y/*"]}
    for named in ("*.{tar,zip}", "a.tar"):
        assert uris(tmp_path, input=f"{tmp_path}/in/{named}", **options) == found[:1]
    assert said.startswith("passed over 9 files: ") and "3 links" in said
    assert "--extensions zip" not in said
    for reason in (
        "1 nested archive",
        "1 by-product",
        "1 excluded file",
        "1 special file",
        "2 without an ending",
    ):
        assert reason in said


def test_archives_that_cannot_be_read_to_their_end(tmp_path: Path) -> None:
    """What is before the damage is listed, and the rest is a row of the archive."""
    whole = packed.tar([(f"{n}.jpg", bytes(700)) for n in range(3)])
    zipped = packed.zipped([("a.jpg", b"1")])
    damaged = bytearray(whole)
    damaged[1536 + 3] ^= 1
    folder = write(
        tmp_path,
        a__tar=whole[:4000],
        b__tar=whole[: 3 * 1536],
        c__tar=bytes(damaged),
        d__tar=b"no archive at all" * 99,
        e__tgz=packed.tar([(f"{n}.jpg", bytes([n]) * 70_000) for n in range(3)], "w:gz")[:-60],
        f__zip=zipped[:-10],
        g__zip=b"nothing",
        h__tar=b"",
        i__jpg=b"1",
        j__tar=whole * 2,
        k__tar=whole + b"left by another program" * 99,
    )
    table, _ = listed(tmp_path, input=str(folder), extensions="jpg tar tgz zip")
    found: dict[str, list[Any]] = {}
    for row in table.to_pylist():
        name, _, member = row["image_uri"].removeprefix(f"{folder}/").partition("#")
        lack = Lack(row["source_place"][0]).name if row["source_kind"] == "unreadable" else member
        found.setdefault(name, []).append(lack)
    assert found == {
        "a.tar": ["0.jpg", "1.jpg", "2.jpg", "CUT"],
        "b.tar": ["0.jpg", "1.jpg", "2.jpg", "UNENDED"],
        "c.tar": ["0.jpg", "DAMAGED"],
        "d.tar": ["NOT_ONE"],
        "e.tgz": ["0.jpg", "1.jpg", "2.jpg", "CUT"],
        "f.zip": ["CUT"],
        "g.zip": ["NOT_ONE"],
        "h.tar": ["NOT_ONE"],
        "i.jpg": [""],
        "j.tar": ["0.jpg", "1.jpg", "2.jpg", "JOINED"],
        "k.tar": ["0.jpg", "1.jpg", "2.jpg"],
    }
    for name in ("d.tar", "f.zip"):
        with pytest.raises(UsageError, match=f"cannot read {folder}/{name}: "):
            uris(tmp_path, input=f"{folder}/{name}")


def header(name: str, size: bytes, kind: bytes = tarfile.REGTYPE) -> bytes:
    """A tar header of any size field, with the right checksum."""
    block = bytearray(tarfile.TarInfo(name).tobuf(tarfile.GNU_FORMAT))
    block[124:136], block[156:157], block[148:156] = size, kind, b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


@pytest.mark.parametrize(
    "block",
    [
        header("a", b"\xff" * 12),  # below zero
        header("a", b"\x80" + b"\x7f" * 11),
        header("a", b"\x80" + bytes(7) + b"\x7f" * 4, tarfile.XHDTYPE),  # records of 2 GB
        header("a", b"\xff" * 12, tarfile.GNUTYPE_LONGNAME),
        header("a", b"00000001000\0", tarfile.XHDTYPE) * 3000,  # a record of a record of ...
    ],
    ids=["negative", "huge", "long-records", "negative-name", "nested"],
)
def test_hostile_headers(tmp_path: Path, block: bytes) -> None:
    first = packed.tar([("0.jpg", b"1")])[:1024]
    folder = write(tmp_path, a__tar=first + block + bytes(10_240))
    table, _ = listed(tmp_path, input=f"{folder}/a.tar")
    assert table["image_uri"].to_pylist() == [f"{folder}/a.tar#0.jpg", f"{folder}/a.tar"]


def test_only_the_first_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who looks whether there is an image does not wait for all headers of all archives."""
    data = packed.tar([(f"{n}.jpg", bytes(100_000)) for n in range(300)])
    folder = write(tmp_path, **{f"a{n}__tar": data for n in range(4)})
    read: Counter[str] = Counter()
    fill = Ranged._fill

    def counted(file: Ranged) -> None:
        read[file.path] += 1
        fill(file)

    monkeypatch.setattr(Ranged, "_fill", counted)
    config = Config(input=f"{folder}/*.tar", output=str(tmp_path / "o"))
    rows = open_source(config).read()
    assert next(iter(rows)).num_rows == 1
    rows.close()  # type: ignore[attr-defined]
    assert 0 < read.total() < 4 * 300


@pytest.mark.parametrize("kind", ["tar", "tgz", "zip"])
def test_fields_of_the_json_beside_an_image(
    tmp_path: Path, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    """As text, whether it stands before or after; of no JSON, or none that can be read, null."""
    data = [
        ("x/0.json", b'{"label": "cat", "size": [1, 2.5], "other": 3}'),
        ("x/0.jpg", b"0"),
        ("x/1.left.jpg", b"1"),
        ("x/1.right.jpg", b"2"),
        ("x/1.json", '{"label": 7, "size": ["é\\ud800"]}'.encode()),
        ("y/1.jpg", b"3"),
        ("y/2.json", b'{"label": '),
        ("y/2.jpg", b"4"),
        ("y/3.json", b"[1]"),
        ("y/3.jpg", b"5"),
    ]
    mode = "w:gz" if kind == "tgz" else "w"
    content = packed.zipped(data) if kind == "zip" else packed.tar(data, mode)
    folder = write(tmp_path, **{f"a__{kind}": content, "b__jpg": b"6"})
    caplog.set_level("INFO")
    extensions, carry = f"jpg {kind}", ["label", "size"]
    table, found = listed(tmp_path, input=str(folder), extensions=extensions, carry=carry)
    assert found.columns == carry
    assert table["label"].to_pylist() == ["cat", "7", "7", *[None] * 4]
    assert table["size"].to_pylist() == ["[1, 2.5]", '["é?"]', '["é?"]', *[None] * 4]
    assert "2 unreadable JSON files" in caplog.text
    with pytest.raises(UsageError, match="'status' cannot be carried"):
        listed(tmp_path, input=str(folder), extensions=extensions, carry=["status"])


def test_images_that_wait_for_their_json_are_kept_where_the_archive_breaks_off(
    tmp_path: Path,
) -> None:
    data = packed.tar([("a.jpg", bytes(700)), ("a.json", b'{"x": 1}')])
    folder = write(tmp_path, a__tar=data[: 3 * 512])
    table, _ = listed(tmp_path, input=f"{folder}/a.tar", carry=["x"])
    assert table["image_uri"].to_pylist() == [f"{folder}/a.tar#a.jpg", f"{folder}/a.tar"]
