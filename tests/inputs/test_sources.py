"""Every form of input, into a manifest; and what is refused."""

from __future__ import annotations

import errno
import io
import os
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as pq
import pytest
import tenacity
from fsspec.implementations.memory import MemoryFileSystem

from pipeline.config import ARCHIVE_EXTENSIONS, VIDEO_EXTENSIONS, Config
from pipeline.errors import UsageError
from pipeline.inputs import passed_over, sniffing
from pipeline.inputs.sources import open_source
from pipeline.store import objects, urls
from tests.support.listings import listed, uris


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    names = ("b.jpg", "a.PNG", "_x/.hidden.webp", "deep/er/c.jpeg", "notes.txt", "jpg", "d.gif")
    for name in names:
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"12345")
    return tmp_path / "in"


def test_folder(tree: Path, tmp_path: Path) -> None:
    (tree / "loop").symlink_to(tree)
    (tree / "linked.jpg").symlink_to(tree / "b.jpg")
    (tree / "dangling.jpg").symlink_to(tree / "gone.jpg")
    (tree / "itself.jpg").symlink_to("itself.jpg")
    table, _ = listed(tmp_path, input=str(tree))
    sizes = {Path(row["image_uri"]).name: row["size_bytes"] for row in table.to_pylist()}
    read = ("a.PNG", "b.jpg", "d.gif", ".hidden.webp", "c.jpeg", "linked.jpg")
    assert sizes == dict.fromkeys(read, 5) | {"dangling.jpg": None, "itself.jpg": None}
    (tree / "alias").symlink_to(tree / "deep")
    (tree / "deep" / "er" / "loop").symlink_to(tree / "deep")
    assert uris(tmp_path, input=f"{tree}/d*/**/c.jpeg") == ["in/deep/er/c.jpeg"]
    found = uris(tmp_path, input=str(tree), extensions="jpeg")
    assert found == ["in/alias/er/c.jpeg", "in/deep/er/c.jpeg"]


class Pages(BaseHTTPRequestHandler):
    """Index pages with the links that web servers write into theirs."""

    pages = {
        "/": '<a href="./up.jpg">',
        "/in/": '<a href="../../"><a href="../"><a href="./"><a href="./sub/"><a href="/in/b.jpg">'
        '<a href="./a.jpg"><a href="/up.jpg"><a href="?C=N"><a href="sub/c.jpg?sig=../1">',
        "/in/sub/": '<a href="/in/"><a href="c.jpg?sig=../1"><a href="../b.jpg"><a href="/in/d/">',
        "/in/d/": "<p>Empty",
        "/in/a.jpg/": "",
        "/odd/": """<A class="a>b" HREF=http_1.jpg>x</A><a href="it's.jpg"><a href='a&amp;b.jpg'>
        <a href="a&#39;b.jpg#top"><a href="c%20d.jpg"><a href="e.jpg?a=1&timestamp=2&reg=3">
        <a href="HTTPS://HOST/odd/f.jpg"><a href="//HOST/odd/g//h.jpg">
        <a href="http://127.0.0.1:9/odd/i.jpg"><a href="data:image/jpg"><a href="./j:k.jpg">
        <a href="./?C=N/"><a href="no/"><a name="l.jpg"> http://HOST/odd/m.jpg""",
    }
    busy = ["/in/sub/", "/in/a.jpg", "/in/a.jpg"]

    def do_HEAD(self) -> None:
        busy = self.path in self.busy
        if busy:
            self.busy.remove(self.path)
        is_known = f"{self.path.rstrip('/')}/" in self.pages and self.path != "/in/d"
        self.send_response(503 if busy else 200 if is_known else 404)
        self.send_header("Content-Type", "text/html")
        self.end_headers()

    def do_GET(self) -> None:
        self.do_HEAD()
        page = self.pages.get(self.path, "")
        self.wfile.write(page.replace("HOST", self.headers["Host"]).encode())

    def log_message(self, *_: Any) -> None: ...


def test_index_pages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What lies below the input, under names without dots, from a server that is busy once."""
    monkeypatch.setattr(objects, "RETRY_WAIT", tenacity.wait_none())
    server = ThreadingHTTPServer(("127.0.0.1", 0), Pages)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}/in"
    try:
        found = uris(tmp_path, input=f"{url}/", exclude=["sub/**"])
        assert found == [f"{url}/a.jpg", f"{url}/b.jpg"]
        found = uris(tmp_path, input=f"{url}/")
        assert found == [f"{url}/a.jpg", f"{url}/b.jpg", f"{url}/sub/c.jpg?sig=../1"]
        assert uris(tmp_path, input=f"{url}/a.jpg") == [f"{url}/a.jpg"]
        odd = f"http://127.0.0.1:{server.server_port}/odd/"
        names = "a&b.jpg a'b.jpg c%20d.jpg e.jpg?a=1&timestamp=2&reg=3 f.jpg g//h.jpg http_1.jpg"
        names += " it's.jpg j:k.jpg"
        found = uris(tmp_path, input=odd, exclude=["no/**"])
        assert found == [f"{odd}{name}" for name in names.split()]
        with pytest.raises(UsageError, match=f"cannot read {odd}no/: it does not exist"):
            listed(tmp_path, input=odd)
        with pytest.raises(
            UsageError, match="no images under .*; the URL of a folder .* must end in"
        ):
            listed(tmp_path, input=url)
    finally:
        server.shutdown()
        server.server_close()


def test_extensions_limit_and_globs(tree: Path, tmp_path: Path) -> None:
    found = uris(tmp_path, input=str(tree), extensions=["jpg", "txt"])
    assert found == ["in/b.jpg", "in/notes.txt"]
    assert uris(tmp_path, input=str(tree), extensions="JPG,.txt") == found
    assert len(uris(tmp_path, input=str(tree), limit=2)) == 2
    assert uris(tmp_path, input=f"{tree}/*.jpg") == ["in/b.jpg"]
    assert uris(tmp_path, input=f"{tree}/**/*.jp*g") == ["in/b.jpg", "in/deep/er/c.jpeg"]
    assert uris(tmp_path, input=f"{tree}/b.jpg") == ["in/b.jpg"]
    assert uris(tmp_path, input=f"{tree}/{{b.jpg,d{{eep/er/c.jpeg,.gif}}}}") == [
        "in/b.jpg",
        "in/d.gif",
        "in/deep/er/c.jpeg",
    ]
    assert uris(tmp_path, input=f"{tree}/**/*.{{jpg,JPG,webp}}") == [
        "in/b.jpg",
        "in/_x/.hidden.webp",
    ]
    for name in ("{b,c}", "{x}"):
        (tree / name).mkdir()
        (tree / name / "f.jpg").write_bytes(b"1")
        assert uris(tmp_path, input=f"{tree}/{name}") == [f"in/{name}/f.jpg"]
    assert uris(tmp_path, input=f"{tree}/{{x}}/*.jp*") == ["in/{x}/f.jpg"]
    (tree / "[x]").mkdir()
    (tree / "[x]" / "e.jpg").write_bytes(b"1")
    assert uris(tmp_path, input=f"{tree}/[x]") == ["in/[x]/e.jpg"]


def test_what_is_passed_over_is_said(
    tree: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("a.psd", "b.PSD", "c.d/e", *(f"{n}.x{n}" for n in range(9))):
        (tree / name).parent.mkdir(exist_ok=True)
        (tree / name).write_bytes(b"1")
    caplog.set_level("INFO")
    assert len(uris(tmp_path, input=str(tree))) == 5
    said, *_ = caplog.messages
    assert said.startswith("passed over 14 files: 2 .psd, 2 without an ending, 1 .")
    assert said.endswith(
        ", 4 others; --extensions sets what is read, --sniff reads 2 files without an ending"
    )


def test_of_endings_beyond_number_some_are_told_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """And whatever a flag is named for."""
    monkeypatch.setattr(passed_over, "MOST_ENDINGS", 5)
    numbers = [f"1.2.840.{number}" for number in range(10)]
    told = ["z", *(f"z.{ending}" for ending in (*ARCHIVE_EXTENSIONS, *VIDEO_EXTENSIONS))]
    for name in ("a.jpg", *numbers, *told):
        (tmp_path / name).write_bytes(b"")
    caplog.set_level("INFO")
    config = Config(input=str(tmp_path), output="out")
    source = open_source(config)
    assert sum(table.num_rows for table in source.read()) == 1
    assert source.passed[passed_over.OTHERS] == 5 and len(source.passed) == 6 + len(told)
    passed_over.say(config, source)
    said = caplog.messages[-1]
    assert said.startswith(f"passed over {10 + len(told)} files: 1 .0, 1 .1, ")
    assert "other ending" not in said and "reads 4 archives" in said
    assert f"reads {len(VIDEO_EXTENSIONS)} videos" in said and "1 file without an ending" in said


# a name of a file, and whether it is an image without an ending
STARTS = {
    "jpeg": b"\xff\xd8\xff\xe0",
    "of a camera/0001": b"\x89PNG\r\n\x1a\n" + bytes(99),
    "heic": b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic",
}
OTHERS = {"README": b"This is no image", "_SUCCESS": b"", "x": b"B", "text.txt": b"\xff\xd8\xff"}


def test_files_without_an_ending_by_their_first_bytes(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name, start in (STARTS | OTHERS | {"with.jpg": b"whatever"}).items():
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).write_bytes(start)
    (tmp_path / "in" / "gone").symlink_to(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "in" / "pipe")
    caplog.set_level("INFO")
    assert uris(tmp_path, input=str(tmp_path / "in")) == ["in/with.jpg"]
    found = ["in/gone", "in/heic", "in/jpeg", "in/with.jpg", "in/of a camera/0001"]
    assert uris(tmp_path, input=str(tmp_path / "in"), sniff=True) == found
    said = caplog.messages[-1]
    assert said == (
        "passed over 5 files: 4 without an ending, 1 .txt; --extensions sets what is read"
    )
    only = str(tmp_path / "in" / "jpeg")
    assert uris(tmp_path, input=only, sniff=True) == ["in/jpeg"]
    with pytest.raises(
        UsageError, match="^no images under .*, but 1 file without an ending: add --sniff "
    ):
        uris(tmp_path, input=only)


def test_many_files_without_an_ending_keep_their_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sniffing, "BATCH", 7)
    (tmp_path / "in").mkdir()
    for number in range(50):
        start = STARTS["jpeg"] if number % 3 else b"text"
        (tmp_path / "in" / f"{number:02d}").write_bytes(start)
    found = uris(tmp_path, input=str(tmp_path / "in"), sniff=True)
    assert found == [f"in/{number:02d}" for number in range(50) if number % 3]


def test_objects_without_an_ending(s3: Any, bucket: str, tmp_path: Path) -> None:
    for name, start in (STARTS | OTHERS | {"folder/": b""}).items():
        s3.put_object(Bucket=bucket, Key=name, Body=start)
    found = uris(tmp_path, input=f"s3://{bucket}", sniff=True)
    assert found == [f"s3://{bucket}/{name}" for name in sorted(STARTS)]


BY_PRODUCTS = (
    "__MACOSX/a.jpg __macosx/x/a.jpg x/._a.jpg @eaDir/a.jpg/thumb.jpg .thumbnails/a.png "
    "x/Thumbs.db .DS_Store $RECYCLE.BIN/a.jpg .Trash-1000/files/a.jpg desktop.ini"
).split()


def test_by_products_and_exclusions(
    tree: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    named = [*BY_PRODUCTS, "thumbs/x/a.jpg", "x/a_s.jpg", ".Trash/../a_s.jpg", "x/MACOSX/a.jpg"]
    for name in named:
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_bytes(b"1")
    caplog.set_level("INFO")
    found = uris(tmp_path, input=str(tree), extensions=["jpg"])
    assert found == [
        "in/a_s.jpg",
        "in/b.jpg",
        "in/thumbs/x/a.jpg",
        "in/x/a_s.jpg",
        "in/x/MACOSX/a.jpg",
    ]
    assert "passed over 16 files: 10 by-products, 1 ." in caplog.messages[0]
    options: dict[str, Any] = {"input": f"{tree}/**/*.jpg", "exclude": ["thumbs/**", "*_{s,m}.jpg"]}
    caplog.clear()
    assert uris(tmp_path, **options) == ["in/b.jpg", "in/x/a_s.jpg", "in/x/MACOSX/a.jpg"]
    assert "2 excluded files" in caplog.messages[0] and "--extensions" not in caplog.messages[0]
    options |= {"input": str(tree), "include": ["x/**", "*/b.jpg"]}
    assert uris(tmp_path, **options) == ["in/x/a_s.jpg", "in/x/MACOSX/a.jpg"]
    # what is named itself is meant
    for name in ("__MACOSX", "x/._a.jpg", ".thumbnails"):
        assert len(uris(tmp_path, input=f"{tree}/{name}")) == 1
    (tree / "list.txt").write_text("__MACOSX/a.jpg\n")
    assert uris(tmp_path, input=f"{tree}/list.txt") == ["in/__MACOSX/a.jpg"]
    with pytest.raises(UsageError, match="exclude is for a listing"):
        listed(tmp_path, input=f"{tree}/list.txt", exclude=["*"])
    with pytest.raises(UsageError, match="include is for a listing"):
        listed(tmp_path, input=f"{tree}/list.txt", include=["*"])
    with pytest.raises(UsageError, match="no images under .*passed over 1 file: 1 by-product"):
        listed(tmp_path, input=f"{tree}/.D*")


def test_a_folder_that_may_not_be_read(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scandir = os.scandir

    def guarded(path: str) -> Any:
        if Path(path).name in (".Trashes", "lost+found"):
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", guarded)
    (tree / ".Trashes").mkdir()
    everything = uris(tmp_path, input=str(tree))
    assert len(everything) == 5
    again = open_source(Config(input=str(tree), output=str(tmp_path)), by_products=True)
    assert sum(table.num_rows for table in again.read()) == 5
    (tree / "deep" / "lost+found").mkdir()
    needing: list[dict[str, Any]] = [{}, {"include": ["**/*.jpg", "x"]}, {"include": ["deep/*/a"]}]
    # of members of archives
    needing += [{"extensions": ["zip"], "include": ["_x/**"]}]
    for options in needing:
        with pytest.raises(
            UsageError, match=r"/lost\+found, or .*: --exclude 'deep/lost\+found/\*\*'$"
        ):
            listed(tmp_path, input=str(tree), **options)
    assert uris(tmp_path, input=str(tree), exclude=["deep/lost+found/**"]) == everything
    assert len(uris(tmp_path, input=str(tree), include=["{_x,deep/er}/**"])) == 2
    assert len(uris(tmp_path, input=f"{tree}/*/.*.webp")) == 1


def test_s3(s3: Any, bucket: str, tmp_path: Path) -> None:
    keys = [f"images/{number:04d}.jpg" for number in range(1100)]  # over one page of 1000
    for key in [*keys, "images2/x.jpg", "images.jpg", "one.jpg", "deep/a/b.png", "deep/c.txt"]:
        s3.put_object(Bucket=bucket, Key=key, Body=b"123")
    root = f"s3://{bucket}"
    assert uris(tmp_path, input=f"{root}/images/") == [f"{root}/{key}" for key in keys]
    assert uris(tmp_path, input=f"{root}/images") == [f"{root}/{key}" for key in keys]
    assert uris(tmp_path, input=f"{root}/one.jpg") == [f"{root}/one.jpg"]
    assert uris(tmp_path, input=f"{root}/**/b.png") == [f"{root}/deep/a/b.png"]
    assert uris(tmp_path, input=f"{root}/{{one,images}}.jpg") == [
        f"{root}/images.jpg",
        f"{root}/one.jpg",
    ]
    assert len(uris(tmp_path, input=root, exclude=["images/**", "one.*"])) == 3
    assert uris(tmp_path, input=f"{root}/images/000?.jpg") == [f"{root}/{key}" for key in keys[:10]]
    assert len(uris(tmp_path, input=root)) == 1104
    table, _ = listed(tmp_path, input=f"{root}/one.jpg")
    assert table["size_bytes"].to_pylist() == [3]


def test_a_container_that_tells_nothing_of_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As Azure's for a signature that may list it; a store that fails is no such container."""
    told: list[Exception] = [PermissionError("not authorized")]

    def info(self: Any, path: str) -> Any:
        raise told[0]

    MemoryFileSystem().pipe("/container/a.jpg", b"1")
    monkeypatch.setattr(MemoryFileSystem, "info", info)
    monkeypatch.setattr(objects, "RETRY_WAIT", tenacity.wait_none())
    assert uris(tmp_path, input="memory://container") == ["memory:///container/a.jpg"]
    told[0] = ConnectionError("away")
    with pytest.raises(UsageError, match="cannot read memory://container: ConnectionError: away"):
        listed(tmp_path, input="memory://container")


def test_a_name_that_is_no_utf8(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for name in (b"caf\xe9.jpg", b"b.jpg"):
        (Path(os.fsdecode(os.fsencode(tmp_path / "in") + b"/" + name))).write_bytes(b"1")
    escaped = f"file://{tmp_path}/in/caf%E9.jpg"
    assert uris(tmp_path, input=str(tmp_path / "in")) == ["in/b.jpg", escaped]
    assert urls.filesystem(escaped)[1] == os.fsdecode(f"{tmp_path}/in/".encode() + b"caf\xe9.jpg")
    table = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.csv"))
    table.write_text("uri\n/a.jpg\n")
    assert uris(tmp_path, input=f"{tmp_path}/*.csv") == ["/a.jpg"]
    table.rename(table.with_suffix(".parquet"))
    with pytest.raises(UsageError, match=f"cannot read file://{tmp_path}/%FF.parquet"):
        listed(tmp_path, input=f"{tmp_path}/*.parquet")
    feather.write_feather(pa.table({"image": [b"1"]}), file := io.BytesIO())
    table.with_suffix(".arrow").write_bytes(file.getvalue())
    found, _ = listed(tmp_path, input=f"{tmp_path}/*.arrow", bytes_column="image")
    assert found["source_uri"].to_pylist() == [f"file://{tmp_path}/%FF.arrow"]


def test_embedded_bytes(tmp_path: Path) -> None:
    for part in range(2):
        images = [{"bytes": b"%d" % n, "path": f"{n}.jpg"} for n in range(5)]
        table = pa.table({"image": images, "label": list(range(5))})
        pq.write_table(table, tmp_path / f"{part}.parquet", row_group_size=2)
    table, found = listed(
        tmp_path, input=f"{tmp_path}/*.parquet", bytes_column="image", carry=["label"]
    )
    assert found.rows == 10 and found.columns == ["label"]
    assert table["image_uri"].to_pylist()[4:6] == [
        f"{tmp_path}/0.parquet#4",
        f"{tmp_path}/1.parquet#0",
    ]
    assert table["source_place"].to_pylist()[:5] == [[0, 0], [0, 1], [1, 0], [1, 1], [2, 0]]
    assert table["label"].to_pylist() == [*range(5), *range(5)]


def test_unusable_inputs(s3: Any, bucket: str, tree: Path, tmp_path: Path) -> None:
    def complaint(**options: Any) -> str:
        with pytest.raises(UsageError) as error:
            listed(tmp_path, **options)
        return str(error.value)

    assert "absent: it does not exist" in complaint(input=str(tree / "absent"))
    assert "no images under" in complaint(input=str(tree), extensions=["bmp"])
    said = complaint(input=str(tree), extensions=["bmp"])
    assert "(looked for bmp; passed over 7 files: " in said and "1 without an ending" in said
    assert "does not exist" in complaint(input="s3://no-such-bucket-here/x/")
    assert f"no images under s3://{bucket}/x/" in complaint(input=f"s3://{bucket}/x/")
    assert "cannot open zz://x" in complaint(input="zz://x")
    said = complaint(input="az://container/x")
    assert "cannot open az://container/x: " in said and "AZURE_STORAGE_ACCOUNT_NAME" in said
    assert "is a listing" in complaint(input=str(tree), carry=["x"])
    broken = tmp_path / "t.parquet"
    broken.write_bytes(b"PAR1 no, it is not")
    assert "cannot read" in complaint(input=str(broken))
    pq.write_table(pa.table({"image": ["text"]}), broken)
    assert "not image bytes" in complaint(input=str(broken), bytes_column="image")
    assert "has no column 'x'" in complaint(input=str(broken), bytes_column="x")


def test_no_permission(bucket: str, tmp_path: Path, no_rights: None) -> None:
    with pytest.raises(UsageError, match="no permission; check the credentials"):
        listed(tmp_path, input=f"s3://{bucket}/")


def test_a_slash_lists_the_same(s3: Any, bucket: str, tmp_path: Path) -> None:
    """With an object of the folder's own name beside it, too."""
    for key in ("set.jpg", "set.jpg/a.jpg", "set.jpgs/b.jpg"):
        s3.put_object(Bucket=bucket, Key=key, Body=b"x")
    for url in (f"s3://{bucket}/set.jpg", f"s3://{bucket}/set.jpg/"):
        assert uris(tmp_path, input=url) == [
            f"s3://{bucket}/set.jpg",
            f"s3://{bucket}/set.jpg/a.jpg",
        ]
