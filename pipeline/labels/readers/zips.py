"""Zips of annotations, unpacked for as long as they are read."""

from __future__ import annotations

import contextlib
import posixpath
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

from pipeline.errors import UsageError
from pipeline.inputs.containers.zips import UTF_8, name_of
from pipeline.labels.readers.files import SUFFIXES, of_macos
from pipeline.labels.readers.yolo import CLASS_FILES
from pipeline.store import urls

ZIP = b"PK\x03\x04"
LABEL_FILES = (".json", ".json.gz", ".xml", ".parquet")
UNPACKED = (*LABEL_FILES, ".geojson", ".txt", ".yaml", ".names", ".csv")


@contextmanager
def unpacked(url: str) -> Iterator[str]:
    """The URL itself, or of a zip the folder of what it holds, images where the sizes
    of these are needed.
    """
    fs, path = urls.filesystem(url)
    with contextlib.ExitStack() as stack:
        if head(url) != ZIP:
            yield url
            return
        file: IO[bytes] = stack.enter_context(fs.open(path, "rb"))
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        with zipfile.ZipFile(file) as archive:
            members = archive.infolist()
            for member in members:
                member.filename = _name(member)
            bases = {posixpath.basename(member.filename): member for member in members}
            needs_sizes = "images.csv" not in bases and (
                not bases.keys().isdisjoint(CLASS_FILES) or _is_fiftyone(archive, bases)
            )
            wanted = (*UNPACKED, *SUFFIXES) if needs_sizes else UNPACKED
            for member in members:
                if member.filename.lower().endswith(wanted) and not of_macos(member.filename):
                    archive.extract(member, folder)
        try:
            yield folder
        except UsageError as error:  # which names what has been unpacked
            raise UsageError(str(error).replace(folder, urls.public(url))) from error


def _name(member: zipfile.ZipInfo) -> str:
    """With slashes, unlike those of old programs of Windows."""
    # what Python made of the bytes; newer versions of it look at an extra field, too
    told = member.orig_filename.partition("\0")[0]
    written = told.encode("utf-8" if member.flag_bits & UTF_8 else "cp437")
    return name_of(written, member.extra, member.flag_bits).replace("\\", "/")


def _is_fiftyone(archive: zipfile.ZipFile, members: dict[str, zipfile.ZipInfo]) -> bool:
    """Whether boxes are fractions; of COCO, too, FiftyOne writes a `labels.json`."""
    if "labels.json" not in members:
        return False
    with archive.open(members["labels.json"]) as file:
        return b'"classes"' in file.read(64)


def head(url: str) -> bytes:
    """The first bytes of a file; none of a folder.

    Raises:
        OSError: there is neither, or it cannot be read.
    """
    fs, path = urls.filesystem(url)
    try:
        with fs.open(path, "rb") as file:
            return bytes(file.read(4))
    except (FileNotFoundError, IsADirectoryError):
        if not fs.isdir(path):
            raise
        return b""
