"""The files at, below or matching a path on any store, one at a time and never all in memory."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from fsspec import AbstractFileSystem

from pipeline.inputs import globs
from pipeline.store import objects, urls

# path, bytes, what differs where the content does
Entry = tuple[str, int | None, int | None]
# where file systems say that
VERSIONS = ("ETag", "etag", "md5Hash", "LastModified", "last_modified", "mtime")


def list_files(
    fs: AbstractFileSystem,
    path: str,
    extensions: tuple[str, ...],
    passed: Counter[str] | None = None,
    left_out: Callable[[str], str] | None = None,
) -> Iterator[Entry]:
    """The files with one of the extensions, in the store's order.

    A path with `*`, `?`, `[` or `{a,b}` is a glob (`**` crosses folders), unless it exists as it
    stands. Names that begin with `_` or `.` are files like any other.

    Args:
        fs: the store.
        path: in it.
        extensions: in lower case, without their dots; "" for none.
        passed: counts the other files by their extension, likewise.
        left_out: why a file is left out, by its path below `root`; empty if it is not. Counted,
            too.

    Raises:
        OSError: what the store says of a path that cannot be listed.
    """
    folder = root(fs, path)
    entries = _walk(fs, folder)
    if folder != path:
        matches = globs.matcher(path)
        entries = (entry for entry in entries if matches(entry[0]))
    for entry in entries:
        reason = left_out(below(entry[0], folder)) if left_out else ""
        if reason:
            if passed is not None:
                passed[reason] += 1
            continue
        extension = extension_of(entry[0])
        if extension in extensions:
            yield entry
        elif passed is not None:
            passed[extension] += 1


def root(fs: AbstractFileSystem, path: str) -> str:
    """The folder below which the files of a path are: of a glob, that before its wildcards."""
    folder = None if "http" in fs.protocol else globs.folder(path)
    if folder is None or objects.retrying(lambda: fs.exists(path)):
        return path
    return folder


def below(name: str, folder: str) -> str:
    """A name relative to the folder that it is in."""
    return name.removeprefix(folder).lstrip("/")


def extension_of(path: str) -> str:
    """In lower case, without its dot; empty if there is none. Of `a.tar.gz` it is `tar.gz`."""
    stem, dot, extension = urls.public(path).lower().rpartition("/")[2].rpartition(".")
    if extension == "gz" and stem.endswith(".tar"):
        return "tar.gz"
    return extension if dot else ""


def _walk(fs: AbstractFileSystem, path: str) -> Iterator[Entry]:
    if urls.is_local(fs):
        return _walk_local(path or "/")
    if "s3" in fs.protocol:
        return _walk_s3(fs, path)
    return _walk_any(fs, path)


def _walk_local(path: str) -> Iterator[Entry]:
    if os.path.isfile(path):
        yield _local(path)
        return
    os.stat(path)  # os.walk passes over a folder that is not there
    seen = set()
    for folder, subfolders, files in os.walk(path, followlinks=True, onerror=_raise):
        status = os.stat(folder)
        if (status.st_dev, status.st_ino) in seen:  # a link that leads back up
            subfolders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        subfolders.sort()
        for name in sorted(files):
            file = f"{folder.rstrip('/')}/{name}"
            try:
                yield _local(file)
            except FileNotFoundError:  # a dangling link: reading it will say so in its row
                yield file, None, None


def _local(path: str) -> Entry:
    status = os.stat(path)
    return path, status.st_size, status.st_mtime_ns


def _raise(error: OSError) -> None:
    raise error


def _walk_s3(fs: Any, path: str) -> Iterator[Entry]:
    # page by page, since s3fs's own find() holds every key with all its metadata
    bucket, key, _ = fs.split_path(path)
    if key and not key.endswith("/"):
        for entry in _s3_page(fs, Bucket=bucket, Prefix=key, MaxKeys=1).get("Contents", ()):
            if entry["Key"] == key:
                yield f"{bucket}/{key}", entry["Size"], _version(entry)
    request = {"Bucket": bucket, "Prefix": f"{key.rstrip('/')}/" if key else ""}
    while True:
        page = _s3_page(fs, **request)
        for entry in page.get("Contents", ()):
            yield f"{bucket}/{entry['Key']}", entry["Size"], _version(entry)
        if not page.get("IsTruncated"):
            return
        request["ContinuationToken"] = page["NextContinuationToken"]


def _s3_page(fs: Any, **request: Any) -> dict[str, Any]:
    page: dict[str, Any] = objects.retrying(lambda: fs.call_s3("list_objects_v2", **request))
    return page


def _walk_any(fs: AbstractFileSystem, path: str) -> Iterator[Entry]:
    # on the web everything is a file; the slash tells an index page
    if not path.endswith("/") and fs.isfile(path):
        info = fs.info(path)
        yield path, info.get("size"), _version(info)
        return
    for _, _, files in fs.walk(path, detail=True, on_error="raise"):
        for _, info in sorted(files.items()):
            yield info["name"], info.get("size"), _version(info)


def _version(info: dict[str, Any]) -> int | None:
    """63 bits of a digest, which a manifest holds better than the text that stores give."""
    for name in VERSIONS:
        if info.get(name):
            digest = hashlib.blake2b(str(info[name]).encode(), digest_size=8).digest()
            return int.from_bytes(digest) >> 1
    return None
