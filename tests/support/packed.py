"""Tar and zip archives of what they are given, also such as no program would write."""

from __future__ import annotations

import io
import tarfile
import zipfile
from collections.abc import Iterable
from typing import Any, cast

File = tuple[str, bytes]
# of each file: another one than the archive's, whose bytes are to be the same
MTIME = 1_700_000_000


def tar(files: Iterable[File], mode: str = "w", mtime: int = MTIME, **options: Any) -> bytes:
    """
    Args:
        files: names and contents, in the archive's order.
        mode: of `tarfile.open`.
        mtime: of all files.
        options: more of `tarfile.open`.
    """
    buffer = io.BytesIO()
    with tarfile.open(None, cast(Any, mode), buffer, **options) as archive:
        for name, data in files:
            info = tarfile.TarInfo(name)
            info.size, info.mtime = len(data), mtime
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def zipped(files: Iterable[File], method: int = zipfile.ZIP_STORED, **options: Any) -> bytes:
    """
    Args:
        files: names and contents, in the archive's order.
        method: of compression.
        options: of `zipfile.ZipFile`.
    """
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method, **options) as archive:
        for name, data in files:
            archive.writestr(name, data)
    return buffer.getvalue()
