"""Which kind of annotations a file or folder holds, by its content."""

from __future__ import annotations

import contextlib
import posixpath
from itertools import islice
from typing import NamedTuple

import ijson
from fsspec import AbstractFileSystem

from pipeline import words
from pipeline.errors import UsageError
from pipeline.labels import instances
from pipeline.labels.readers import parquet
from pipeline.labels.readers.files import SUFFIXES, of_macos
from pipeline.labels.readers.yolo import CLASS_FILES
from pipeline.labels.readers.zips import LABEL_FILES, head
from pipeline.store import objects, urls

PARQUET = b"PAR1"
# what a folder holds -> what that is, where its content need not tell
FOLDER_MARKS = {"Annotations": "voc", **dict.fromkeys(CLASS_FILES, "yolo")}
FILES = ("corrections.parquet", "instances.json", "result.json", "annotations.xml", "labels.json")
# of ours, beside annotations
OWN = {
    "export.json",
    "review.json",
    "data.json",
    "dataset_meta.json",
    "results.json",
    "label_config.xml",
}
SIDECAR = ".aux.xml"  # of GDAL and QGIS, beside an image
KNOWN = "COCO, Label Studio, CVAT for images, YOLO, Pascal VOC, FiftyOne, Hugging Face"


class Source(NamedTuple):
    """
    Attributes:
        kind: of the annotations.
        url: of the file, or of the folder that only as a whole is something.
        folder: URL of the folder that would hold an export's `images.csv`.
        top: URL of the one that may, where that does not: what was given, if it is a folder.
    """

    kind: str
    url: str
    folder: str
    top: str


def find(url: str) -> list[Source]:
    """The annotations in a file, or in a folder, or in each folder of that.

    Raises:
        UsageError: there are none.
        OSError: it cannot be read.
    """
    fs, path = urls.filesystem(url)
    local = urls.protocol(url) == "file"
    if not (url.startswith(("http://", "https://")) or fs.isfile(path)) and fs.isdir(path):
        folder = urls.url_of(fs, path).rstrip("/") if local else url.rstrip("/")
        if found := _in_folder(folder) or _in_folders(folder):
            return [source._replace(top=folder) for source in found]
        # refused for what it is, but where it stands alone
        for name in _names(fs, path):
            if name.endswith(".geojson"):
                return [_file(f"{folder}/{name}")]
        raise _unknown(url)
    return [_file(url)]


def _unknown(url: str) -> UsageError:
    shown = words.printable(urls.public(url), 200)
    return UsageError(f"{shown} holds no annotations of a known format: {KNOWN}")


def _detected(url: str) -> UsageError:
    shown = words.printable(urls.public(url), 200)
    return UsageError(
        f"{shown} is an output of prelabel detect, not annotations: give the corrected export of "
        "it, or what prelabel review has written"
    )


def _file(url: str) -> Source:
    folder = url.rpartition("/")[0] or "."
    if url.endswith((".yaml", ".yml")):
        return Source("yolo", folder, folder, folder)
    kind = _content(url)
    if kind == "voc":
        raise UsageError(
            f"{url} is the Pascal VOC file of one image: give the folder that holds all of them"
        )
    return Source(kind, url, folder, folder)


def _content(url: str) -> str:
    if head(url) == PARQUET:
        return _table(url)
    with instances.opened(url) as text:
        start = text.read(2048).lstrip()
    if start[:1] == b"<":
        if b"<annotations" in start:
            return "cvat"
        if b"<annotation>" in start or b"<annotation " in start:
            return "voc"
        raise UsageError(f"{url} is XML, but neither CVAT for images nor Pascal VOC")
    if start[:1] == b"[":
        return _list(url)
    if start[:1] != b"{":
        raise _unknown(url)
    return _object(url)


def _table(url: str) -> str:
    """Of Parquet."""
    schema = parquet.schema_of(url)
    if b"detector" in (schema.metadata or {}):
        raise _detected(url)
    if {"detections", "image_uri"} <= set(schema.names):
        return "corrections"
    if {"objects", "image"} <= set(schema.names):
        return "huggingface"
    if "geometry" in schema.names:
        raise _on_a_map(url)
    raise UsageError(f"{url} is Parquet, but holds no annotations of a known format")


def _object(url: str) -> str:
    """Of a JSON object, by the first key that tells."""
    with contextlib.suppress(ijson.JSONError):
        for key in instances.keys(url):
            if key in ("images", "annotations", "categories"):
                return "coco"
            if key == "labels":
                return "fiftyone"
            if key == "features" and any(True for _ in instances.items(url, key)):
                raise _on_a_map(url)
            if key == "features":
                raise UsageError(
                    f"{url} was written by save_to_disk() of datasets: write it with to_parquet()"
                )
            if key == "shapes":
                raise UsageError(
                    f"{url} is LabelMe's JSON, which is not supported: convert it to COCO"
                )
    return "coco"


def _on_a_map(url: str) -> UsageError:
    return UsageError(
        f"{url} has boxes in map coordinates; give annotations in pixels, such as COCO"
    )


def _list(url: str) -> str:
    """Label Studio's two forms are lists."""
    entry = next(iter(islice(instances.items(url, ""), 1)), None)
    if not isinstance(entry, dict):
        return "coco"
    if "data" in entry:
        return "labelstudio"
    if "image_id" in entry and "bbox" in entry:
        raise UsageError(f"{url} holds only detections; give the file that also lists the images")
    if not {"annotation_id", "annotator"} & set(entry):
        raise _unknown(url)  # such as CreateML's
    return "labelstudio-min"


def _in_folder(url: str) -> list[Source]:
    fs, path = urls.filesystem(url)
    names = _names(fs, path)
    if {"_run", "detections"} <= set(names):
        raise _detected(url)
    zips = [name for name in names if name.endswith(".zip")]
    if zips and "export.json" in names:
        raise _several(url, ["an export", *zips])
    for name in FILES:
        if name in names:
            _check_alone(url, name, names)
            return [_file(f"{url}/{name}")]
    for mark, kind in FOLDER_MARKS.items():
        if mark in names:
            return [Source(kind, url, url, url)]
    # as FiftyOne writes Pascal VOC
    if "labels" in names and any(n.endswith(".xml") for n in _names(fs, f"{path}/labels")):
        return [Source("voc", url, url, url)]
    for inner in ("data", "annotations"):
        found = _names(fs, f"{path}/{inner}") if inner in names else []
        files = [name for name in found if name.endswith((".parquet", ".json"))]
        if files:
            sources = [_file(f"{url}/{inner}/{name}") for name in files]
            return [source._replace(folder=url) for source in sources]
    files = _label_files(names)
    if files and _content(f"{url}/{files[0]}") == "voc":  # a file beside each image
        return [Source("voc", url, url, url)]
    if len(files) > 1:
        raise _several(url, files)
    if not files and _has_texts_of_images(names):
        return [Source("yolo", url, url, url)]
    return [_file(f"{url}/{name}") for name in files]


def _check_alone(url: str, known: str, names: list[str]) -> None:
    """
    Raises:
        UsageError: another file may be what came back, and this one what was exported.
    """
    if others := [name for name in _label_files(names) if name != known]:
        raise _several(url, [known, *others])


def _several(url: str, files: list[str]) -> UsageError:
    return UsageError(
        f"{url} holds {', '.join(files[:5])}: give the path of the one with the corrections"
    )


def _names(fs: AbstractFileSystem, folder: str) -> list[str]:
    return [name for name in objects.names(fs, folder) if not of_macos(name)]


def _label_files(names: list[str]) -> list[str]:
    files = [name for name in names if name.lower().endswith(LABEL_FILES) and name not in OWN]
    files = [name for name in files if not name.endswith(SIDECAR)]
    if len(files) > 1 and "tasks.json" in files:
        files.remove("tasks.json")  # what the export wrote, beside what came back
    return files


def _has_texts_of_images(names: list[str]) -> bool:
    texts = {name.removesuffix(".txt") for name in names if name.endswith(".txt")}
    return any(posixpath.splitext(n)[0] in texts for n in names if n.lower().endswith(SUFFIXES))


def _in_folders(url: str) -> list[Source]:
    """An export that was split, each part come back on its own."""
    fs, path = urls.filesystem(url)
    found: list[Source] = []
    for name in objects.names(fs, path):
        if fs.isdir(f"{path}/{name}"):
            found += _in_folder(f"{url}/{name}") or _in_folders(f"{url}/{name}")
    return found
