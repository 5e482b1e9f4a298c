"""Where the images of annotations are: files, and members of containers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pipeline import words
from pipeline.config import VIDEO_EXTENSIONS, Config
from pipeline.errors import UsageError
from pipeline.inputs import access
from pipeline.inputs.containers import archives, lance_rows
from pipeline.inputs.containers.parquet import open_embedded
from pipeline.inputs.lance_tables import open_lance
from pipeline.inputs.listing import extension_of
from pipeline.inputs.references import absolute
from pipeline.inputs.source import Source
from pipeline.inputs.sources import open_source
from pipeline.inputs.tables import GROUPED
from pipeline.labels.truth import Truth
from pipeline.outputs.manifest import MEMBER
from pipeline.store import failures, urls
from pipeline.training.pixels import Image

NOT_FOUND = "not found"
# whose members' URIs are CONTAINER#MEMBER
CONTAINERS = {*archives.KINDS, *GROUPED, lance_rows.KIND, *VIDEO_EXTENSIONS}


def locate(truth: Truth, config: Config, listed: bool) -> list[Image | str]:
    """Each image of the truth, or the reason why there is none.

    Args:
        truth: the annotations.
        config: `input` is what the images are in, or the folder that relative names start from.
        listed: whether it is the first of these: then images are found by their names, as
            `jobs.evaluate` finds them.

    Raises:
        UsageError: no image is found, or two are called the same.
    """
    return _listed(truth, config) if listed else _named(truth, config)


def _named(truth: Truth, config: Config) -> list[Image | str]:
    uris = [absolute(name, config.input) if name else "" for name in truth.names]
    found: dict[str, Image | str] = {uri: Image(uri) for uri in uris if uri}
    inside: dict[tuple[str, int | None], list[str]] = {}
    for name, uri in zip(truth.names, uris, strict=True):
        container, mark, _ = uri.rpartition("#")
        if mark and extension_of(container) in CONTAINERS:
            inside.setdefault((container, truth.versions.get(name)), []).append(uri)
    for (container, version), members in inside.items():
        found |= _members(container, version, config, members)
    return [found.get(uri, NOT_FOUND) for uri in uris]


def _members(
    container: str, version: int | None, config: Config, uris: list[str]
) -> dict[str, Image | str]:
    """Members of one container, or the reason why there is none, by their URIs."""
    found: dict[str, Image | str] = dict.fromkeys(uris, NOT_FOUND)
    wanted = pa.array(uris, pa.string())
    try:
        for table in _opened(container, version, config).read():
            mine = table.filter(pc.is_in(table["image_uri"], value_set=wanted))
            for row in mine.select(["image_uri", *MEMBER.names]).to_pylist():
                uri = row.pop("image_uri")
                found[uri] = _image(uri, row)
    except UsageError as error:
        return dict.fromkeys(uris, words.printable(error))
    except OSError as error:
        return dict.fromkeys(uris, failures.reason(error))
    return found


def _opened(container: str, version: int | None, config: Config) -> Source:
    fs, path = access.locate(container, config.input, config.trust_uris, reading=config.reading)
    ending = extension_of(container)
    inside = replace(config, input=container, carry=(), fps=None, every_nth=None, keyframes=False)
    if ending in GROUPED:
        return open_embedded(inside, fs, path, [path])
    if ending == lance_rows.KIND:
        return open_lance(inside, fs, path, embedded=True, version=version)
    if ending in VIDEO_EXTENSIONS:  # the annotations say which frames
        inside = replace(inside, every_nth=1)
    return archives.open_archives(inside, fs, path)


def _image(uri: str, row: dict[str, Any] | None) -> Image:
    """Of its columns of `MEMBER`, which a source of files alone does not have."""
    return Image(uri, row if row and row["source_uri"] is not None else None)


def _listed(truth: Truth, config: Config) -> list[Image | str]:
    whole: list[Image | str] = [NOT_FOUND] * len(truth.ids)
    by_end: list[Image | str] = [NOT_FOUND] * len(truth.ids)
    example = ""
    for table in open_source(config).read():
        has_members = "source_uri" in table.column_names
        rows = table.select(MEMBER.names).to_pylist() if has_members else [None] * len(table)
        for uri, row in zip(table.column(0).to_pylist(), rows, strict=True):
            example = example or uri
            if (place := truth.place(uri)) is None:
                continue
            known = whole if place[1] else by_end
            other = known[place[0]]
            if isinstance(other, Image) and other.uri != uri:
                pair = " and ".join(words.printable(u, 200) for u in (other.uri, uri))
                raise UsageError(
                    f"{pair} both match {words.printable(truth.names[place[0]], 200)} of "
                    f"{truth.url}; give the folder of one of them as --images"
                )
            known[place[0]] = _image(uri, row)
            _check_version(truth, place[0], uri, row)
    found = next((x for x in (whole, by_end) if any(isinstance(i, Image) for i in x)), None)
    if not found:
        there = words.printable(truth.names[0], 200)
        here = (
            f"the input has {words.printable(example, 200)!r}" if example else "the input has none"
        )
        raise UsageError(
            f"no image of {truth.url} is in {urls.public(config.input)}: the annotations have "
            f"{there!r}, {here}; give the annotations and the images that belong together"
        )
    return found


def _check_version(truth: Truth, place: int, uri: str, row: dict[str, Any] | None) -> None:
    version = truth.versions.get(truth.names[place])
    if version and row and row["source_place"][0] != version:
        raise UsageError(
            f"{words.printable(uri, 200)} is of version {row['source_place'][0]} of its table, "
            f"and {truth.url} of version {version}: leave --images out to read that version"
        )
