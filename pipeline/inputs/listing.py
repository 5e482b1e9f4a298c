"""The files at, below or matching a path on any store, one at a time.

In memory is a page of S3, or what other stores and disks say of one folder.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from fsspec import AbstractFileSystem

from pipeline.errors import UsageError
from pipeline.inputs import globs, passed_over, s3_listing, web_listing
from pipeline.inputs.entries import Entry, version_of
from pipeline.store import failures, objects, urls


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
            too. Of a path that ends in a slash, why all in this folder is: it need not be readable.

    Raises:
        OSError: what the store says of a path that cannot be listed; see `unlisted`.
    """
    folder = root(fs, path)

    def is_left_out(place: str) -> bool:
        if folder != path and not globs.reaches(path, place):
            return True
        return bool(left_out and left_out(f"{below(place, folder).rstrip('/')}/"))

    entries = _walk(fs, folder, is_left_out)
    if folder != path:
        matches = globs.matcher(path)
        entries = (entry for entry in entries if matches(entry[0]))
    yield from chosen(entries, folder, extensions, passed, left_out)


def chosen(
    entries: Iterator[Entry],
    folder: str,
    extensions: tuple[str, ...],
    passed: Counter[str] | None = None,
    left_out: Callable[[str], str] | None = None,
) -> Iterator[Entry]:
    """Of files below a folder those with one of the extensions; see `list_files`."""
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
            passed_over.count(passed, extension)


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


def unlisted(url: str, fs: AbstractFileSystem, path: str, error: Exception) -> UsageError:
    """The line for an input that cannot be listed; of a folder in it, with what leaves it out.

    Args:
        url: of the input.
        fs, path: see `list_files`.
        error: that it raised.
    """
    said, place = failures.unusable("read", url, error), getattr(error, "filename", "")
    is_folder = urls.is_local(fs) and os.path.isdir(place or "")
    inner = below(place, root(fs, path)) if is_folder else ""
    return UsageError(f"{said}, or leave it out: --exclude '{inner}/**'") if inner else said


def _walk(fs: AbstractFileSystem, path: str, is_left_out: Callable[[str], bool]) -> Iterator[Entry]:
    if urls.is_local(fs):
        return _walk_local(path or "/", is_left_out)
    if "s3" in fs.protocol:
        return s3_listing.walk(fs, path)
    return _walk_any(fs, path, is_left_out)


def _walk_local(path: str, is_left_out: Callable[[str], bool]) -> Iterator[Entry]:
    if os.path.isfile(path):
        yield _local(path)
        return

    def failed(error: OSError) -> None:
        if not is_left_out(error.filename):
            raise error

    os.stat(path)  # os.walk passes over a folder that is not there
    above: list[tuple[str, tuple[int, int]]] = []
    for folder, subfolders, files in os.walk(path, followlinks=True, onerror=failed):
        while above and not folder.startswith(f"{above[-1][0].rstrip('/')}/"):
            above.pop()
        status = os.stat(folder)
        mark = status.st_dev, status.st_ino
        # A link that leads back up. What has another name besides is listed under each: a glob may
        # mean either.
        if any(mark == known for _, known in above):
            subfolders.clear()
            continue
        above.append((folder, mark))
        subfolders.sort()
        for name in sorted(files):
            file = f"{folder.rstrip('/')}/{name}"
            try:
                yield _local(file)
            except OSError as error:  # of a link that leads nowhere, what reads it will say
                if not (isinstance(error, FileNotFoundError) or os.path.islink(file)):
                    raise
                yield file, None, None


def _local(path: str) -> Entry:
    status = os.stat(path)
    return path, status.st_size, status.st_mtime_ns


def _walk_any(
    fs: AbstractFileSystem, path: str, is_left_out: Callable[[str], bool]
) -> Iterator[Entry]:
    # on the web everything is a file; the slash tells an index page
    info = {} if path.endswith("/") else _info(fs, path)
    if info.get("type") == "file":
        yield path, info.get("size"), version_of(info)
        return
    if "http" in fs.protocol:
        yield from web_listing.walk(fs, path, is_left_out)
        return
    folders, seen = [path], set()
    while folders:
        folder = folders.pop()
        # a store may have a folder in its own listing
        if folder.rstrip("/") in seen:
            continue
        seen.add(folder.rstrip("/"))
        within = []
        for name, info in sorted(_in_folder(fs, folder, path).items()):
            if info["type"] == "directory":
                within.append(name)
            else:
                yield name, info.get("size"), version_of(info)
        folders += reversed(within)


def _info(fs: AbstractFileSystem, path: str) -> dict[str, Any]:
    """What the store says of a path; empty where it says nothing, as of some folders.

    Of a container Azure does not, to a signature that may list it.
    """
    # not by `isfile`, for which a store that fails is one that has no such file
    try:
        found: dict[str, Any] = objects.retrying(lambda: fs.info(path), objects.FIRST_ATTEMPTS)
    except OSError as error:
        if failures.classify(error)[1]:
            raise
        return {}
    return found


def _in_folder(fs: AbstractFileSystem, folder: str, root: str) -> dict[str, dict[str, Any]]:
    """What is directly in a folder, by its path."""
    attempts = objects.FIRST_ATTEMPTS if folder == root else objects.ATTEMPTS
    found = objects.retrying(lambda: fs.ls(folder, detail=True), attempts)
    return {info["name"]: info for info in found}
