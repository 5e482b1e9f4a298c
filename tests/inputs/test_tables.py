"""Tables of URIs of every kind, and what is said of those that are none."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import itertools
import json
import lzma
import os
import random
import threading
from collections.abc import Callable
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as pq
import pytest
import tenacity

from pipeline.errors import UsageError
from pipeline.inputs import arrow_ipc, readers
from pipeline.inputs.access import URI_BYTES
from pipeline.store import objects
from tests.support.faulty import CUT, Fault, Proxy
from tests.support.listings import listed, uris

PACKED: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    ".gz": gzip.compress,
    ".BZ2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": lambda data: bytes(pa.compress(data, "zstd", asbytes=True)),
}


def content(kind: str, names: list[str]) -> bytes:
    """A table of URIs and of a column `split`."""
    table = pa.table({"split": ["t"] * len(names), "uri": names})
    sink = pa.BufferOutputStream()
    if kind == "parquet":
        pq.write_table(table, sink)
    elif kind in ("arrow", "feather"):  # as streams and as files
        make = pa.ipc.new_stream if kind == "arrow" else pa.ipc.new_file
        with make(sink, table.schema) as writer:
            writer.write_table(table, max_chunksize=2)
    elif kind in ("csv", "tsv"):
        mark = "," if kind == "csv" else "\t"
        lines = (f'{row["split"]}{mark}"{row["uri"]}"\n' for row in table.to_pylist())
        return f"split{mark}uri\n{''.join(lines)}".encode()
    elif kind == "json":
        return json.dumps({"info": {"images": []}, "images": table.to_pylist()}).encode()
    elif kind == "jsonl":
        return "".join(json.dumps(row) + "\n" for row in table.to_pylist()).encode()
    else:
        return "\n".join(names).encode()
    return bytes(sink.getvalue())


@pytest.mark.parametrize(
    "kind",
    [
        *("parquet", "arrow", "feather"),
        *(f"{kind}{end}" for kind in ("csv", "tsv", "json", "jsonl", "txt") for end in PACKED),
    ],
)
def test_tables(kind: str, tmp_path: Path) -> None:
    names = ["a.jpg", "s3://b/c, d.jpg", "/abs/é.jpg", "a.jpg", "http://h/x?y=1#z"]
    kind, dot, end = kind.partition(".")
    data = PACKED[f"{dot}{end}"](content(kind, names))
    path = tmp_path / f"list.{kind.upper() if dot else kind}{dot}{end}"
    path.write_bytes(data)
    carry: dict[str, Any] = {} if kind == "txt" else {"carry": ["split"]}
    table, found = listed(tmp_path, input=str(path), **carry)
    assert table["image_uri"].to_pylist() == [f"{tmp_path}/a.jpg", *names[1:3], names[4]]
    assert found.duplicates == 1 and found.columns == list(carry.get("carry", []))
    assert carry == {} or table["split"].to_pylist()[0] == "t"
    if kind != "txt":  # whose lines are whole wherever it ends
        path.write_bytes(data[:-20])
        with pytest.raises(UsageError, match="cannot read .*list|no rows") as error:
            listed(tmp_path, input=str(path))
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("kind", ["parquet", "feather", "csv", "tsv", "jsonl", "json", "txt"])
def test_any_names(kind: str, tmp_path: Path) -> None:
    """Random ones come through every kind of table as they are, each as its row."""
    random.seed(kind)
    signs = "ab.# \t,;'\"\\|%?&{}[]*é日\U0001f600\u2028\u00a0\x7f" + (
        "" if kind == "txt" else "\n\r"
    )
    names = ["/" + "".join(random.choices(signs, k=random.randint(1, 12))) for _ in range(500)]
    names = list(dict.fromkeys(names))
    path = tmp_path / f"t.{kind}"
    if kind in ("csv", "tsv"):
        with open(path, "w", newline="") as file:
            writer = csv.writer(file, dialect="excel-tab" if kind == "tsv" else "excel")
            writer.writerows([("uri", "b"), *((name, "1") for name in names)])
    else:
        path.write_bytes(content(kind, names))
    assert uris(tmp_path, input=str(path)) == names


@pytest.mark.parametrize(
    "text,expected",
    [
        ('["a.jpg", null, "s3://b/é.jpg"]', ["a.jpg", "", "s3://b/é.jpg"]),
        ('\ufeff [{"path": "/a", "n": 1}, {"n": 2.5, "x": [{}]}]', ["/a", ""]),
        ('{"annotations": [{"image_id": 1}], "images": [{"file_name": "x/a.jpg"}]}', ["x/a.jpg"]),
        ('["/a", {"uri": "/b"}]', ["/a", "/b"]),
        ("[]", "is not a list of texts or objects"),
        ('{"files": ["a"]}', "is not a list of texts or objects, and has none under `images`"),
        ("[1]", "one of its items is neither a text nor an object: 1"),
        ('["a.jpg", "b', "cannot read .*list.json"),
        ('"a.jpg"', "is not a list"),
        ("", "cannot read .*list.json"),
        ('[{"uri": 5}]', "column 'uri': Expected bytes, got a 'int' object; write all .* texts"),
        ('[{"uri": "/a", "n": NaN}]', "it has NaN, which is no JSON; write null"),
    ],
    ids=itertools.count(),
)
def test_json(text: str, expected: list[str] | str, tmp_path: Path) -> None:
    (tmp_path / "list.json").write_text(text)
    if isinstance(expected, list):
        assert uris(tmp_path, input=str(tmp_path / "list.json")) == expected
        return
    with pytest.raises(UsageError, match=expected) as error:
        listed(tmp_path, input=str(tmp_path / "list.json"))
    assert "\n" not in str(error.value)


def test_json_of_many_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readers, "BATCH_ROWS", 7)
    rows: list[Any] = [{"uri": f"/{n}", "n": n} for n in range(50)]
    path = tmp_path / "list.json"
    path.write_text(json.dumps(rows))
    assert uris(tmp_path, input=str(path), carry=["n"]) == [f"/{n}" for n in range(50)]
    path.write_text(json.dumps([*rows, {"uri": "/x", "n": "many"}]))
    assert uris(tmp_path, input=str(path))[-1] == "/x"
    with pytest.raises(UsageError, match="list.json: .* column 'n': .*; write all"):
        listed(tmp_path, input=str(path), carry=["n"])


# values of a column, of which each block has one type; what Arrow makes of all of them
LATE: list[tuple[list[Any], pa.DataType]] = [
    ([1, 0.97], pa.float64()),
    ([None, 5, None], pa.int64()),
    ([{"x": 1}, {"y": None}, {"x": 2.7, "y": "z"}], pa.struct({"x": "double", "y": "string"})),
    ([[], [1], [0.5]], pa.list_(pa.float64())),
    (["2024-01-02", "unknown"], pa.string()),
]


@pytest.mark.parametrize("values,kind", LATE, ids=lambda value: str(value)[:9])
@pytest.mark.parametrize("ending", ["json", "jsonl"])
def test_types_that_later_rows_widen(
    values: list[Any], kind: pa.DataType, ending: str, tmp_path: Path, monkeypatch: Any
) -> None:
    """Also those of other files, and beside columns of several types that nobody asked for."""
    monkeypatch.setattr(readers, "BATCH_ROWS", 1)
    monkeypatch.setattr(readers, "BLOCK_BYTES", 150)
    rows = [{"uri": f"/{n}", "v": v, "m": 0, "pad": "x" * 80} for n, v in enumerate(values)]
    others = [{"uri": "/x", "v": values[0], "m": "a"}, {"uri": "/y", "m": [2]}]
    for name, held in (("a", others), ("b", rows)):
        lines = "\n".join(map(json.dumps, held))
        text = json.dumps(held) if ending == "json" else lines
        (tmp_path / f"{name}.{ending}").write_text(text)
    table, _ = listed(tmp_path, input=f"{tmp_path}/*.{ending}", carry=["v"])
    expected = pa.array([values[0], None, *values], kind)
    assert table["v"].combine_chunks().equals(expected)


@pytest.mark.parametrize("ending", ["json", "jsonl"])
@pytest.mark.parametrize(
    "text", ["[2.5, 9007199254740993]", "18446744073709551615", '{"x": 0.5, "y": [1e400]}']
)
def test_numbers_that_no_column_holds(text: str, ending: str, tmp_path: Path) -> None:
    row = f'{{"uri": "/9007199254740993", "v": {text}, "id": 9007199254740993, "w": 0.5}}'
    (tmp_path / f"t.{ending}").write_text(f"[{row}]" if ending == "json" else f"{row}\n")
    options: dict[str, Any] = {"input": str(tmp_path / f"t.{ending}")}
    with pytest.raises(UsageError, match="column 'v': .*; write all|Number too big"):
        listed(tmp_path, carry=["v"], **options)
    if "e400" not in text:  # of which Arrow reads no line
        table, _ = listed(tmp_path, carry=["id", "w"], **options)
        assert table.select(["id", "w"]).to_pylist() == [{"id": 2**53 + 1, "w": 0.5}]


# of a column in two tables; None, where the first one's type does not hold those of the second
PAIRS: list[tuple[pa.Array, pa.Array, list[Any] | None]] = [
    (pa.array([1]), pa.array([2.0, None]), [1, 2, None]),
    (pa.array(["a"]), pa.array(["b"]).dictionary_encode(), ["a", "b"]),
    (pa.array([{"x": 1, "y": 2}]), pa.array([{"x": 3}]), [{"x": 1, "y": 2}, {"x": 3, "y": None}]),
    (pa.array([1]), pa.array([0.5]), None),
    (pa.array([1]), pa.array(["007"]), None),
    (pa.array([True]), pa.array([7]), None),
    (pa.array([{"x": 1}]), pa.array([{"x": 3, "y": 4}]), None),
]


@pytest.mark.parametrize(
    "first,second,expected", PAIRS, ids=lambda value: str(getattr(value, "type", value))
)
@pytest.mark.parametrize("ending", ["parquet", "arrow"])
@pytest.mark.parametrize("image", [None, b"\xff\xd8"], ids=["named", "embedded"])
def test_tables_that_hold_a_column_in_other_types(
    first: pa.Array,
    second: pa.Array,
    expected: list[Any] | None,
    ending: str,
    image: bytes | None,
    tmp_path: Path,
) -> None:
    for name, values in (("a", first), ("b", second)):
        images = [f"/{name}{n}" if image is None else image for n in range(len(values))]
        table = pa.table({"uri" if image is None else "image": images, "v": values})
        if ending == "parquet":
            pq.write_table(table, tmp_path / f"{name}.parquet")
        else:
            feather.write_feather(table, str(tmp_path / f"{name}.arrow"))
    options: dict[str, Any] = {"input": f"{tmp_path}/*.{ending}", "carry": ["v"]}
    options |= {} if image is None else {"bytes_column": "image"}
    if expected is None:
        with pytest.raises(UsageError, match="column 'v' holds .* in the first table|truncated"):
            listed(tmp_path, **options)
    else:
        table, _ = listed(tmp_path, **options)
        assert table["v"].to_pylist() == expected


def test_json_beside_a_table_and_by_products(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    (tmp_path / "in").mkdir()
    for name in ("a.csv", "._a.csv", "info.json", "notes.md"):
        (tmp_path / "in" / name).write_text("uri,b\n/a.jpg,1\n")
    assert uris(tmp_path, input=str(tmp_path / "in"), uri_column="uri") == ["/a.jpg"]
    said = caplog.messages[0]
    assert said.startswith("passed over ") and "1 by-product" in said
    assert "1 .json" in said and "1 .md" in said and "--extensions" not in said


def test_comments_and_empty_lines(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    lines = ["\ufeff# of May", "/a.jpg", "", "  \t", "#", "#b.jpg", "./# c.jpg", "#\td", "/e # f"]
    (tmp_path / "list.txt").write_text("\r\n".join(lines))
    found = uris(tmp_path, input=str(tmp_path / "list.txt"))
    assert found == ["/a.jpg", "#b.jpg", "./# c.jpg", "/e # f"]
    assert caplog.messages[0] == "passed over 4 blank or commented lines"
    (tmp_path / "list.csv").write_text("uri,b\n# c.jpg,1\n")  # no such lines elsewhere
    assert uris(tmp_path, input=str(tmp_path / "list.csv")) == ["# c.jpg"]


def test_uri_column_nulls_and_folders_of_tables(tmp_path: Path) -> None:
    (tmp_path / "tables").mkdir()
    for part in range(2):
        table = pa.table({"link": [f"/{part}.jpg", None, ""], "n": pa.array([1, None, 3])})
        pq.write_table(table, tmp_path / "tables" / f"{part}.parquet")
    table, found = listed(tmp_path, input=str(tmp_path / "tables"), uri_column="link", carry=["n"])
    # a row without URI is a row all the same, and no repetition of another one
    assert table["image_uri"].to_pylist() == ["/0.jpg", "", "", "/1.jpg", "", ""]
    assert table["n"].to_pylist() == [1, None, 3] * 2 and found.duplicates == 0


def test_tables_in_several_folders(tmp_path: Path) -> None:
    for split in ("test", "train"):
        (tmp_path / "in" / split).mkdir(parents=True)
        (tmp_path / "in" / split / "metadata.csv").write_text("file_name,n\n1.jpg,5\n2.jpg,6\n")
    assert uris(tmp_path, input=f"{tmp_path}/in/*/metadata.csv", carry=["n"]) == [
        "in/test/1.jpg",
        "in/test/2.jpg",
        "in/train/1.jpg",
        "in/train/2.jpg",
    ]
    (tmp_path / "in" / "more.txt").write_text("/x.jpg")
    with pytest.raises(UsageError, match="has tables of several kinds"):
        listed(tmp_path, input=str(tmp_path / "in"), uri_column="file_name")


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_tables_that_are_empty_or_lack_the_column(
    kind: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """As Spark leaves parts of its folders; first or last, and packed."""
    caplog.set_level("INFO")
    for part, names in enumerate(([], ["/a.jpg"], [])):
        data = content(kind, names) if names else b""
        (tmp_path / f"{part}.{kind}.gz").write_bytes(gzip.compress(data))
    options: dict[str, Any] = {"input": f"{tmp_path}/*.{kind}.gz"}
    assert uris(tmp_path, **options) == ["/a.jpg"]
    assert caplog.messages[0] == "passed over 2 empty tables"
    other = content(kind, ["/b.jpg"]).replace(b"uri", b"url")
    (tmp_path / f"3.{kind}.gz").write_bytes(gzip.compress(other))
    with pytest.raises(UsageError, match="3.* has no column 'uri'; it has split, url: rename one"):
        listed(tmp_path, **options)


@pytest.mark.parametrize(
    "values",
    [
        pa.array(["/a.jpg", "b.jpg", None, "/a.jpg"]),
        pa.array(["/a.jpg", "b.jpg", None, "/a.jpg"], pa.large_string()),
        pa.array(["/a.jpg", "b.jpg", None, "/a.jpg"], pa.string_view()),
        pa.array(["/a.jpg", "b.jpg", None, "/a.jpg"]).dictionary_encode(),
    ],
    ids=lambda values: str(values.type)[:12],
)
def test_types_of_texts(values: pa.Array, tmp_path: Path) -> None:
    # pandas' metadata tells pandas how to read the column, and nobody else
    table = pa.table({"uri": values}).replace_schema_metadata({"pandas": '{"columns": "x"}'})
    pq.write_table(table, tmp_path / "t.parquet", row_group_size=2)
    assert uris(tmp_path, input=str(tmp_path / "t.parquet")) == ["/a.jpg", "b.jpg", ""]


def test_nothing_but_nulls(tmp_path: Path) -> None:
    for kind in (pa.string(), pa.null()):
        pq.write_table(pa.table({"uri": pa.nulls(3, kind)}), tmp_path / "t.parquet")
        assert uris(tmp_path, input=str(tmp_path / "t.parquet")) == [""] * 3
    (tmp_path / "t.jsonl").write_text('{"uri": null}\n{}\n')
    assert uris(tmp_path, input=str(tmp_path / "t.jsonl"), uri_column="uri") == [""] * 2


def test_tables_of_one_column_that_differ_in_type(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    pq.write_table(pa.table({"uri": pa.nulls(1)}), tmp_path / "in" / "0.parquet")
    pq.write_table(
        pa.table({"uri": pa.array(["/a"]).dictionary_encode()}), tmp_path / "in" / "1.parquet"
    )
    options: dict[str, Any] = {"input": f"{tmp_path}/in/*.parquet", "uri_column": "uri"}
    assert uris(tmp_path, **options) == ["", "/a"]
    pq.write_table(pa.table({"uri": [[1]]}), tmp_path / "in" / "3.parquet")
    with pytest.raises(UsageError, match="cannot read .*3.parquet"):
        listed(tmp_path, **options)


@pytest.mark.parametrize(
    "name,content,expected",
    [
        ("bom.csv", "\ufeffuri,b\r\n/a.jpg,1\r\n/b.jpg,2\r\n".encode(), ["/a.jpg", "/b.jpg"]),
        ("bom.txt", "\ufeff/a.jpg\r\n/b.jpg".encode(), ["/a.jpg", "/b.jpg"]),
        ("bom.jsonl", '\ufeff{"uri": "/a.jpg"}\r\n'.encode(), ["/a.jpg"]),
        (
            "quotes.csv",
            b'uri,b\n"/a""b"".jpg",1\n"/c\nd.jpg",2\n"/e, f.jpg",3',
            ['/a"b".jpg', "/c\nd.jpg", "/e, f.jpg"],
        ),
        ("quotes.txt", b'"/a.jpg"\n/b,c.jpg\n', ['"/a.jpg"', "/b,c.jpg"]),
        ("words.csv", b'uri\n/NULL\n""\n/nan\n/1\n', ["/NULL", "", "/nan", "/1"]),
        (
            "dates.jsonl",
            b'{"uri": "/2024-01-01"}\n{"uri": "2024-01-01"}\n',
            ["/2024-01-01", "2024-01-01"],
        ),
        (
            "days.jsonl",
            b'{"uri": "2024-01-01"}\n{"uri": "2024-01-02T03:04:05Z"}\n',
            ["2024-01-01", "2024-01-02T03:04:05Z"],
        ),
        ("one.jsonl", rb'{"uri": "/a\n\u00e9\ud83d\ude00.jpg"}', ["/a\n\u00e9\U0001f600.jpg"]),
        ("two.ndjson", b'{"x": 1}\n{"uri": "/a.jpg"}', ["", "/a.jpg"]),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_texts(name: str, content: bytes, expected: list[str], tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    assert uris(tmp_path, input=str(tmp_path / name)) == expected


def test_line_ends_within_fields_of_a_large_csv(tmp_path: Path) -> None:
    # of all sizes, so that some reads end between quotes
    names = [f"/{n:06d}\n{'x' * (n % 97)}\n.jpg" for n in range(30_000)]
    (tmp_path / "t.csv").write_text("uri,b\n" + "".join(f'"{name}",1\n' for name in names))
    assert os.path.getsize(tmp_path / "t.csv") > 100 * io.DEFAULT_BUFFER_SIZE
    assert uris(tmp_path, input=str(tmp_path / "t.csv")) == names


@pytest.mark.parametrize("kind", ["csv", "jsonl", "json", "txt"])
def test_no_thread_reads_ahead(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that called a file of Python's at the process's exit would end it by a signal."""
    monkeypatch.setattr(readers, "BLOCK_BYTES", 100)
    threads: list[int] = []

    class Watched(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            threads.append(threading.get_ident())
            return super().read(size)

        read1 = read

    names = [f"/{number}" for number in range(20_000)]
    path = tmp_path / f"t.{kind}"
    path.write_bytes(content(kind, names))
    monkeypatch.setattr(readers, "opened", lambda *_: Watched(path.read_bytes()))
    assert uris(tmp_path, input=str(path), limit=2) == ["/0", "/1"]
    assert set(threads) == {threading.get_ident()}


def test_columns_that_nobody_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readers, "BLOCK_BYTES", 60)
    lines = [f'{{"uri": "/{n}", "n": 1}}' for n in range(300)]
    lines += ['{"uri": "/b", "n": "x", "m": {}}', '{"uri": "/c"}']
    (tmp_path / "t.jsonl").write_text("\n".join(lines))
    found = uris(tmp_path, input=str(tmp_path / "t.jsonl"))
    assert found == [*(f"/{n}" for n in range(300)), "/b", "/c"]
    with pytest.raises(UsageError, match="column 'n' holds int64 and string; write all"):
        listed(tmp_path, input=str(tmp_path / "t.jsonl"), carry=["n"])
    # in the first rows, too, and what no column could hold
    rows = [{"uri": "/a", "x": 2**70, "y": [1]}, {"uri": "/b", "x": "1", "y": {"z": 2}}]
    for name, text in (
        ("u.json", json.dumps({"images": rows})),
        ("u.jsonl", "\n".join(map(json.dumps, rows))),
        ("u.csv", "\ufeffuri,n,n,,\r\n/a,1,2,,\r\n/b,3,4,,\r\n"),
    ):
        (tmp_path / name).write_text(text)
        assert uris(tmp_path, input=str(tmp_path / name)) == ["/a", "/b"]
        carried = "n" if name == "u.csv" else "y"
        with pytest.raises(UsageError, match=f"column.* '{carried}'.*; (rename|write) all"):
            listed(tmp_path, input=str(tmp_path / name), carry=[carried])


@pytest.mark.parametrize("kind", ["parquet", "csv", "jsonl", "txt"])
def test_texts_of_ten_megabytes(kind: str, tmp_path: Path) -> None:
    long = [f"/{'x' * 10_000_000}{end}" for end in "abc"]
    path = tmp_path / f"t.{kind}"
    if kind == "parquet":
        pq.write_table(pa.table({"uri": ["/a", *long, *long, "/z"]}), path)
    else:
        line = {"csv": "{},1\n", "jsonl": '{{"uri": "{}"}}\n', "txt": "{}\n"}[kind]
        head = "uri,b\n" if kind == "csv" else ""
        path.write_text(head + "".join(line.format(uri) for uri in ["/a", *long, *long, "/z"]))
    found = uris(tmp_path, input=str(path))
    assert (found[0], found[-1], len(found)) == ("/a", "/z", 5)
    # too long to be read, short enough to be kept, and told apart
    assert all(URI_BYTES < len(uri) < URI_BYTES + 100 for uri in found[1:-1])
    assert len(set(found)) == 5


@pytest.mark.parametrize(
    "content,options,complaint",
    [
        (b"a,b\n1,2\n", {}, "no column named .* choose one .* uri_column: a, b"),
        (b"a,b\n1,2\n", {"uri_column": "c"}, "has no column 'c'; it has a, b"),
        (b"uri,b\n1,2\n", {"carry": ["x"]}, "has no column 'x'"),
        (b"uri,width\n1,2\n", {"carry": ["width"]}, "cannot be carried"),
        (
            b"uri,recovered_share\n1,2\n",
            {"carry": ["recovered_share"], "accept_truncated": 0.9},
            "cannot be carried",
        ),
        (b"", {}, "cannot read"),
        (b'uri,b\n"x', {}, "cannot read|no images"),
        (b"uri,b\n", {}, "no images in .*: the table has no rows"),
        (b"uri,b\n/a,1\n/b\n", {}, "cannot read .* Expected 2 columns, got 1"),
        (b"uri,b\n/a,1\n/b,1,2\n", {}, "cannot read .* Expected 2 columns, got 3"),
        (b"uri,b\n/caf\xe9,1\n", {}, "cannot read .* byte 0xe9"),
        ("uri,b\n/a,1\n".encode("utf-16"), {}, "cannot read .*; save the file as UTF-8"),
        (b'{"uri": "/a"}\nnull\n"/b"\n', {}, "one of its lines is no object: '/b'"),
        (b'{"uri": "/caf\xe9"}\n', {}, "cannot read .* byte 0xe9 is not UTF-8; save the file"),
        (b"uri,uri\n/a,/b\n", {}, "has several columns 'uri'; rename all but one"),
        (b"uri,b\n/" + b"x" * 40_000_000, {}, "it has a row of more than 16,777,216 bytes"),
    ],
    ids=itertools.count(),
)
def test_unusable_tables(
    content: bytes, options: dict[str, Any], complaint: str, tmp_path: Path
) -> None:
    path = tmp_path / ("t.jsonl" if content.startswith(b"{") else "t.csv")
    path.write_bytes(content)
    with pytest.raises(UsageError, match=complaint) as error:
        listed(tmp_path, input=str(path), **options)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("kind", ["json", "jsonl"])
def test_json_in_utf_16(kind: str, tmp_path: Path) -> None:
    (tmp_path / f"t.{kind}").write_bytes('{"uri": "/a"}'.encode("utf-16"))
    with pytest.raises(UsageError, match="byte 0xff is not UTF-8; save the file as UTF-8"):
        listed(tmp_path, input=str(tmp_path / f"t.{kind}"))


@pytest.mark.parametrize(
    "values,held",
    [
        ([1, 2], "int64"),
        ([1.5], "double"),
        ([b"/a"], "binary"),
        ([["/a"]], "list<"),
        ([{"a": "/a"}], "struct<"),
        (pa.array([5], pa.timestamp("ms")), "timestamp"),
        (pa.array([5], pa.date32()), "date32"),
        (pa.array([b"0" * 16], pa.binary(16)).cast(pa.uuid()), "extension<arrow.uuid>"),
        (pa.array([1, 2]).dictionary_encode(), "int64"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_columns_of_no_texts(values: Any, held: str, tmp_path: Path) -> None:
    pq.write_table(pa.table({"uri": values}), tmp_path / "t.parquet")
    with pytest.raises(UsageError, match=f"column 'uri' of .* holds {held}.*, not URIs"):
        listed(tmp_path, input=str(tmp_path / "t.parquet"))


@pytest.mark.parametrize(
    "content",
    [
        b'{"uri": 5}\n',
        b'{"uri": ["/a"]}\n',
        b'{"uri": {"a": 1}}\n',
        b'{"uri": "/a"}\n{"uri": 5}\n',
        b'{"uri": "/a"}\n' * 2_000_000 + b'{"uri": [5]}\n',
        b'{"uri": "/a"}\n{"uri":\n{"uri": "/b"}\n',
        b'[{"uri": "/a"}]',
        b'null\n{"uri": "/a"}\n',  # at which Arrow's reader would end the process
        rb'{"uri": "/a\ud800"}',
        b"",
        b"\n\n",
    ],
    ids=itertools.count(),
)
def test_unusable_lines(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_bytes(content)
    with pytest.raises(UsageError, match="not URIs|cannot read|no column named|no rows") as error:
        listed(tmp_path, input=str(tmp_path / "t.jsonl"))
    assert "\n" not in str(error.value)


def test_damaged_tables(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"

    def complaint(data: bytes) -> str:
        path.write_bytes(data)
        with pytest.raises(UsageError) as error:
            listed(tmp_path, input=str(path))
        assert "\n" not in str(error.value)
        return str(error.value)

    pq.write_table(pa.table({"uri": [f"/{n}.jpg" for n in range(1000)]}), path)
    whole = path.read_bytes()
    assert uris(tmp_path, input=str(path), limit=1) == ["/0.jpg"]
    for damaged in (
        b"",
        whole[:100],
        whole[: len(whole) // 2],
        whole[:-300] + bytes(200) + whole[-100:],  # the footer
        whole[:-8] + b"\xff\xff\xff\x7fPAR1",  # its length
        whole[:100] + bytes(200) + whole[300:],  # the pages
    ):
        assert "cannot read" in complaint(damaged)
    wrong = pa.Array.from_buffers(
        pa.string(), 1, [None, pa.py_buffer(b"\0\0\0\0\3\0\0\0"), pa.py_buffer(b"/a\xff")]
    )
    for table, carry in (
        (pa.table({"uri": wrong}), []),
        (pa.table({"uri": ["/a"], "name": wrong}), ["name"]),
    ):
        pq.write_table(table, path)
        with pytest.raises(UsageError, match="cannot read .* a text in it is not UTF-8"):
            listed(tmp_path, input=str(path), carry=carry)
    pq.ParquetWriter(path, pa.schema([("uri", pa.string())])).close()
    assert pq.ParquetFile(path).num_row_groups == 0
    assert "the table has no rows" in complaint(path.read_bytes())
    pq.write_table(pa.table({"uri": pa.array([], pa.string())}), path)
    assert "the table has no rows" in complaint(path.read_bytes())
    zipped = gzip.compress(b"uri,b\n" + b"".join(b"/%d.jpg,1\n" % n for n in range(10**5)))
    for data in (b"uri,b\n/a.jpg,1\n", zipped[:1000], zipped[:-9] + b"\0" * 9):
        (tmp_path / "t.csv.gz").write_bytes(data)
        with pytest.raises(UsageError, match="cannot read .*t.csv.gz"):
            listed(tmp_path, input=str(tmp_path / "t.csv.gz"))


@pytest.mark.parametrize("kind", ["parquet", "csv"])
def test_a_store_that_fails_while_a_table_is_read(
    kind: str, s3: Any, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(objects, "RETRY_WAIT", tenacity.wait_none())
    names = [f"/{number}" for number in range(2_000)]
    s3.put_object(Bucket=bucket, Key=f"t.{kind}", Body=content(kind, names))
    with Proxy(s3.meta.endpoint_url) as proxy:
        proxy.faults = [Fault("SlowDown", 0.5, path="/t[.]"), Fault(CUT, 0.5, path="/t[.]")]
        options: dict[str, Any] = {"s3_options": {"endpoint_url": proxy.url}}
        assert uris(tmp_path, input=f"s3://{bucket}/t.{kind}", **options) == names
    assert set(proxy.injected) == {"SlowDown", CUT}


@pytest.mark.parametrize("kind", ["parquet", "arrow"])
def test_columns_of_one_name(kind: str, tmp_path: Path) -> None:
    """Of what is wanted there can be but one; others are no concern of ours."""
    path = tmp_path / f"t.{kind}"
    pages = [pa.array(values) for values in ([b"1"], [b"2"], ["x"])]

    def write(*names: str) -> None:
        table = pa.table(pages, names=names)
        if kind == "parquet":
            pq.write_table(table, path)
            return
        with pa.ipc.new_file(path, table.schema) as file:
            file.write_table(table)

    write("image", "image", "label")
    options: dict[str, Any] = {"input": str(path), "bytes_column": "image"}
    with pytest.raises(UsageError, match="has several columns 'image'; rename all but one"):
        listed(tmp_path, **options)
    write("image", "note", "note")
    with pytest.raises(UsageError, match="has several columns 'note'; rename all but one"):
        listed(tmp_path, carry="note", **options)
    assert listed(tmp_path, **options)[0].num_rows == 1


class Counted(io.BytesIO):
    """Knows how many bytes were read."""

    count = 0

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(size)
        self.count += len(data)
        return data


def test_of_arrow_only_the_columns_are_read_that_are_wanted() -> None:
    table = pa.table({"image": [bytes(10**6)] * 4, "uri": ["/a"] * 4})
    feather.write_feather(table, file := Counted(), chunksize=2, compression="uncompressed")
    file.seek(0)
    schema, batches = arrow_ipc.read(file, ["uri", "of another file"])
    assert schema.names == ["image", "uri"]
    assert [batch.to_pydict() for batch in batches] == [{"uri": ["/a", "/a"]}] * 2
    assert file.count < 10_000


class Whole(SimpleHTTPRequestHandler):
    """Answers to every range with the whole file, and has clients unpack what is packed."""

    def log_message(self, *_: Any) -> None: ...

    def end_headers(self) -> None:
        if self.path.endswith(".gz"):
            self.send_header("Content-Encoding", "gzip")
        super().end_headers()


@pytest.mark.parametrize("kind", ["parquet", "csv", "csv.gz"])
def test_a_web_server_without_ranges(kind: str, tmp_path: Path) -> None:
    """Of a table of more than fsspec asks for at once, which is 5 MiB."""
    chance = random.Random(0)
    names = [f"/{chance.randbytes(100).hex()}" for _ in range(30_000)]
    data = content(kind.removesuffix(".gz"), names)
    (tmp_path / f"t.{kind}").write_bytes(gzip.compress(data) if kind == "csv.gz" else data)
    handler = partial(Whole, directory=tmp_path)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/t.{kind}"
        assert uris(tmp_path, input=url) == names
        server.shutdown()
