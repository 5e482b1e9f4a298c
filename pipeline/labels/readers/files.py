"""Many small files read ahead, and the sizes of the images that lie beside them."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Iterator
from functools import cached_property

from fsspec import AbstractFileSystem

from pipeline.config import IMAGE_EXTENSIONS, Config
from pipeline.errors import UsageError
from pipeline.images.decode import DecodeError, read_header
from pipeline.labels.ahead import ahead
from pipeline.store import objects

READERS = 16
SUFFIXES = tuple(f".{extension}" for extension in IMAGE_EXTENSIONS)


def below(fs: AbstractFileSystem, folder: str) -> list[str]:
    """The sorted paths of all files in a folder and those in it; none where it is not there."""
    try:
        return sorted(path for path in fs.find(folder) if not of_macos(path))
    except FileNotFoundError:
        return []


def of_macos(path: str) -> bool:
    """Whether it is no file of the user's, but what macOS keeps of one of that name."""
    return posixpath.basename(path).startswith("._")


def contents(fs: AbstractFileSystem, paths: Iterable[str]) -> Iterator[tuple[str, bytes]]:
    """Each file with its bytes, the next ones read while the caller works.

    Raises:
        OSError: one cannot be read.
    """

    def read(path: str) -> bytes:
        return bytes(objects.retrying(lambda: fs.cat_file(path)))

    # no expression, which would keep the threads for as long as a traceback is kept
    for path, data in ahead(read, paths, READERS):
        yield path, data.result()


class Pictures:
    """The image files below a folder, by their names without ending."""

    def __init__(self, fs: AbstractFileSystem, folder: str) -> None:
        self.fs = fs
        self.folder = folder

    @cached_property
    def by_stem(self) -> dict[str, str]:
        """Name below the folder, without its ending, to path."""
        start = f"{self.folder.lstrip('/')}/"
        return {
            posixpath.splitext(path.partition(start)[2])[0]: path
            for path in below(self.fs, self.folder)
            if path.lower().endswith(SUFFIXES)
        }

    def size(self, stem: str) -> tuple[int, int] | None:
        """Upright width and height, in pixels; None where there is no such file.

        Raises:
            UsageError: it is no image.
        """
        path = self.by_stem.get(stem)
        if path is None:
            return None
        data = objects.retrying(lambda: self.fs.cat_file(path))
        try:
            header = read_header(data, Config.max_pixels)
        except DecodeError as error:
            raise UsageError(
                f"{path} beside the annotations cannot be read as an image: {error}"
            ) from error
        return header.width, header.height
