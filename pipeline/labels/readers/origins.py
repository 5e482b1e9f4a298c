"""The way back from the names in an export to the images of the run."""

from __future__ import annotations

import csv
import io
import json
import posixpath
import re
from array import array
from collections.abc import Iterable
from functools import cached_property
from typing import Any, NamedTuple
from urllib.parse import unquote

from fsspec import AbstractFileSystem

from pipeline import words
from pipeline.errors import UsageError
from pipeline.labels.image_names import SEVERAL, ImageNames, composed
from pipeline.labels.markup import valid
from pipeline.store import objects, urls

# a set of --accept, a directory, so many images
PARTS_DEEP = 3
COLUMNS = ["name", "image_id", "image_uri"]
# what Label Studio puts before the name of a file that was uploaded, or that it has fetched, and
# what it makes of a path
UPLOAD = re.compile(r"^[0-9a-f]{8}(?:-|__)")
UPLOADED = re.compile(r"/data/upload/(?:.*/)?([^/]+)$", re.DOTALL)
# what Roboflow makes of a name such as `a.png`: `a_png.rf.HASH`, and then the ending of its copy
ROBOFLOW = re.compile(r"_([A-Za-z]{3,5})\.rf\.[0-9A-Za-z]+(?:\.[A-Za-z]{3,5})?$")
LOCAL_FILE = re.compile(r"/data/local-files/\?d=(.*)$", re.DOTALL)


class Origin(NamedTuple):
    """An image of an export.

    Attributes:
        uri: of the image.
        size: width and height in pixels, upright; None where the export does not say.
    """

    uri: str
    size: tuple[int, int] | None


class Origins:
    """The images of an export, to be found by what other programs have made of their names.

    Empty where the folder holds no `images.csv`.
    """

    def __init__(self, record: dict[str, Any] | None = None) -> None:
        """
        Args:
            record: the content of `export.json`.
        """
        self.record = record
        self.names: list[str] = []
        self.uris: list[str] = []
        self.sizes = array("i")
        classes = [str(entry["name"]) for entry in (record or {}).get("classes", ())]
        self.classes = {valid(name): name for name in classes}

    @property
    def attempt(self) -> int:
        """The number of the run's attempt after which it was made; 0 if it does not say."""
        return int((self.record or {}).get("attempt", 0))

    def add(self, name: str, uri: str, width: int, height: int) -> None:
        self.names.append(name)
        self.uris.append(uri)
        self.sizes.extend((width, height))

    def label(self, name: str) -> str:
        """The class that is called so in a format that cannot hold every character."""
        return self.classes.get(name, name)

    def find(self, name: str) -> Origin | None:
        """The image that is called so: by its whole name or URI, or by as much of it as no other
        image has, with or without the start that Label Studio gives to uploads.
        """
        place = self._exact.get(name)
        if place is None:
            place = self._by_uri.get(name)
        if place is None:
            place = self._loose(name)
        return None if place is None else self._origin(place)

    def of_uri(self, uri: str) -> Origin | None:
        """The image with this URI."""
        place = self._by_uri.get(uri)
        return None if place is None else self._origin(place)

    def find_stem(self, *stems: str) -> Origin | None:
        """Likewise by a name without its ending, or by the second of two such."""
        bases = _bases(stems[-1], "")
        for known, wanted in ((self._stems, stems), (self._base_stems, bases)):
            for stem in wanted:
                place = known.get(stem, known.get(composed(stem), SEVERAL))
                if place != SEVERAL:
                    return self._origin(place)
        return None

    def _origin(self, place: int) -> Origin:
        width, height = self.sizes[2 * place : 2 * place + 2]
        return Origin(self.uris[place], (width, height) if width else None)

    def _loose(self, name: str) -> int | None:
        if not self.names:
            return None
        for candidate in (name, *_bases(name)):
            for known in (self._names, self._readable):
                found = known.place(candidate)
                # a URI says where the image is, so that one of the same name elsewhere is none
                if found and (found[1] or "://" not in name):
                    return found[0]
        return None

    @cached_property
    def _exact(self) -> dict[str, int]:
        return {name: place for place, name in enumerate(self.names)}

    @cached_property
    def _by_uri(self) -> dict[str, int]:
        return {uri: place for place, uri in enumerate(self.uris)}

    @cached_property
    def _names(self) -> ImageNames:
        return ImageNames(self.names)

    @cached_property
    def _readable(self) -> ImageNames:
        """Names that XML cannot hold, as it holds them."""
        return ImageNames(["" if valid(name) == name else valid(name) for name in self.names])

    @cached_property
    def _stems(self) -> dict[str, int]:
        return _unique(posixpath.splitext(name)[0] for name in self.names)

    @cached_property
    def _base_stems(self) -> dict[str, int]:
        return _unique(posixpath.splitext(posixpath.basename(name))[0] for name in self.names)


def plain(name: str) -> str:
    """The image's name before Label Studio had it, in uploads and in local storage.

    >>> plain("/data/upload/1/1a2b3c4d-a%20b.jpg"), plain("/data/local-files/?d=x/a.jpg")
    ('a b.jpg', '/x/a.jpg')
    """
    if local := LOCAL_FILE.search(name):
        return f"/{unquote(local[1]).lstrip('/')}"
    if uploaded := UPLOADED.search(name):
        return UPLOAD.sub("", unquote(uploaded[1]))
    return name


def _bases(name: str, ending: str = r".\1") -> Iterable[str]:
    """The last part of a name, as it stands, without escapes, without the start of an upload, and
    as it was before Roboflow had it, then with this ending.
    """
    bases = [name.rpartition("/")[2], re.split(r"[/\\]", name)[-1]]  # of Windows
    bases += map(unquote, tuple(bases))
    bases += [UPLOAD.sub("", base) for base in bases]
    return dict.fromkeys([*bases, *(ROBOFLOW.sub(ending, base) for base in bases)])


def _unique(keys: Iterable[str]) -> dict[str, int]:
    """The place of each key, and of it in composed letters, unless that is another key."""
    found: dict[str, int] = {}
    for place, key in enumerate(keys):
        found[key] = SEVERAL if key in found else place
    like: dict[str, int] = {}
    for key, place in found.items():
        if (other := composed(key)) not in found:
            like[other] = SEVERAL if other in like else place
    return found | like


def load(folder: str) -> Origins:
    """What the export in this folder, if it is one, says of its images.

    Args:
        folder: as a path or URL; `export.json` may also stand up to `PARTS_DEEP` folders above, as
            in an export that was split.

    Raises:
        UsageError: its `images.csv` is not as it was written.
        OSError: it cannot be read.
    """
    if urls.protocol(folder) in ("http", "https"):  # what it says of other files may mean nothing
        return Origins()
    fs, path = urls.filesystem(folder)
    record, above = None, path
    for _ in range(PARTS_DEEP + 1):
        record = record or _record(fs, f"{above}/export.json")
        above = posixpath.dirname(above) or above
    origins = Origins(record)
    data = _get(fs, f"{path}/images.csv")
    if data is None:
        return origins
    try:
        _add_rows(origins, data)
    except (ValueError, IndexError, csv.Error) as error:
        raise UsageError(
            f"{urls.public(folder)}/images.csv cannot be read ({words.explain(error)}): take it "
            f"from the export again, or save it in UTF-8 with all of its columns"
        ) from error
    return origins


def _add_rows(origins: Origins, data: bytes) -> None:
    # names may hold NUL, which Python's reader takes since 3.11
    text = io.TextIOWrapper(io.BytesIO(data), encoding="utf-8-sig", newline="")
    # which is how a spreadsheet saves it where numbers have a comma, or as text
    other = re.match(rb'(?:\xef\xbb\xbf)?"?name"?([;\t])', data)
    rows = csv.reader(text, delimiter=other[1].decode() if other else ",")
    head = next(rows, [])
    if head[:3] != COLUMNS:
        return
    sized = head[3:5] == ["width", "height"]
    for row in filter(None, rows):  # an editor may leave an empty line
        width, height = map(int, row[3:5]) if sized else (0, 0)
        origins.add(row[0], row[2], width, height)


def _record(fs: AbstractFileSystem, path: str) -> dict[str, Any] | None:
    data = _get(fs, path)
    try:
        record = json.loads(data) if data else None
    except ValueError:
        return None
    return record if isinstance(record, dict) and "run_id" in record else None


def _get(fs: AbstractFileSystem, path: str) -> bytes | None:
    """A file's bytes; None where there is none, or none that may be seen."""
    try:
        return objects.get(fs, path)
    except PermissionError:
        return None
