"""Datasets of Hugging Face: which table files a repository, a downloaded one or a saved one means.

Repositories: https://huggingface.co/docs/hub/datasets-file-names-and-splits and
https://huggingface.co/docs/hub/datasets-manual-configuration, of which Parquet is taken.
"""

from __future__ import annotations

import json
import posixpath
import re
from collections import Counter
from collections.abc import Iterator
from itertools import chain
from typing import Any

import yaml
from fsspec import AbstractFileSystem

from pipeline.config import Config
from pipeline.errors import UsageError
from pipeline.inputs import globs
from pipeline.inputs.access import WEB
from pipeline.inputs.listing import below, list_files
from pipeline.store import failures, objects, urls

# of a dataset's repository on the hub, and of its copy in the cache of huggingface_hub
REPOSITORY = re.compile(r"datasets/[^/]+/[^/@]+(@refs/(convert|pr)/[^/]+|@[^/]+)?(?=/|\Z)")
SNAPSHOT = re.compile(r".*/datasets--[^/]+/snapshots/[^/]+(?=/|\Z)")
SHARD = re.compile(r"(?P<split>.+?)-(?P<number>\d{5})-of-(?P<total>\d{5})(-[0-9a-f]+)?\.parquet")
DEFAULT = "default"
# of a folder whose images are files
NOTES = "metadata.parquet"
# what a folder of `save_to_disk` holds, of one dataset and of several
SAVED, SAVED_SPLITS = "state.json", "dataset_dict.json"
# subset to split to files
Subsets = dict[str, dict[str, list[str]]]


def find_dataset(config: Config, fs: AbstractFileSystem, path: str) -> list[str]:
    """The table files of the dataset that a path means; none where it means something else.

    Raises:
        UsageError: the dataset cannot be read, or the path does not tell which of its parts.
    """
    if urls.protocol(config.input) in WEB:
        return []
    try:
        root = (REPOSITORY if "hf" in fs.protocol else SNAPSHOT).match(path)
        if root:
            return _of_repository(fs, root[0], below(path, root[0]).strip("/"))
        return list(_saved(fs, path.rstrip("/")))
    except Exception as error:  # each file system has its own
        raise failures.unusable("read", config.input, error) from error


def _saved(fs: AbstractFileSystem, folder: str) -> Iterator[str]:
    """The files that `save_to_disk` of Hugging Face's datasets wrote into a folder."""
    splits = _content(fs, f"{folder}/{SAVED_SPLITS}").get("splits", [""])
    for home in (posixpath.join(folder, split).rstrip("/") for split in splits):
        for file in _content(fs, f"{home}/{SAVED}").get("_data_files", ()):
            yield f"{home}/{file['filename']}"


def _content(fs: AbstractFileSystem, path: str) -> dict[str, Any]:
    """Of a JSON file; empty where there is none, or one of another program's."""
    # the path of a file, with another name behind it, is on a disk an error of its own
    if not objects.retrying(lambda: fs.exists(path)):
        return {}
    try:
        content = json.loads(objects.get(fs, path) or b"")
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}


def _of_repository(fs: AbstractFileSystem, root: str, part: str) -> list[str]:
    listed = (below(name, root) for name, *_ in list_files(fs, root, ("parquet",)))
    found = [name for name in listed if posixpath.basename(name) != NOTES]
    if not found:
        return []
    card = (objects.get(fs, f"{root}/README.md") or b"").decode(errors="replace")
    known = subsets(found, card)
    where = urls.url_of(fs, root)
    splits = _chosen(known, _default(known, card), part, where)
    if splits is None:
        return []
    for name, files in splits.items():
        _check_whole(files, f"split {name!r} of {where}")
    # a file of several splits is one
    return [f"{root}/{file}" for file in dict.fromkeys(chain(*splits.values()))]


def subsets(files: list[str], card: str) -> Subsets:
    """The subsets of a repository and their splits.

    Args:
        files: paths of its Parquet files.
        card: its README.md, whose front matter may say; else names and folders do.
    """
    found: Subsets = {}
    for config in _configs(card):
        for split, patterns in _patterns(config):
            for pattern in patterns:
                path = posixpath.join(config.get("data_dir", ""), pattern)
                matches = globs.matcher(posixpath.normpath(path))
                for file in filter(matches, files):
                    splits = found.setdefault(_name(config), {})
                    if file not in splits.setdefault(split, []):
                        splits[split].append(file)
    return found or _by_names(files)


def _default(known: Subsets, card: str) -> str | None:
    """The subset that is meant where none is named; None where one has to be."""
    said = (_name(config) for config in _configs(card) if config.get("default") is True)
    names = (*said, DEFAULT, *(known if len(known) == 1 else ()))
    return next((name for name in names if name in known), None)


def _name(config: dict[str, Any]) -> str:
    return str(config.get("config_name", DEFAULT))


def _configs(card: str) -> list[dict[str, Any]]:
    front = re.match(r"---\r?\n(.*?\n)---", card, re.DOTALL)
    try:
        said = yaml.safe_load(front[1]) if front else None
    except yaml.YAMLError:
        said = None
    configs = said.get("configs") if isinstance(said, dict) else None
    return [config for config in configs or [] if isinstance(config, dict)]


def _patterns(config: dict[str, Any]) -> Iterator[tuple[str, list[str]]]:
    """Each split of a configuration, and the globs of its files."""
    given = config.get("data_files")
    if isinstance(given, dict):
        given = [{"split": split, "path": path} for split, path in given.items()]
    for item in [given] if isinstance(given, str) else given or []:
        split, path = (item["split"], item["path"]) if isinstance(item, dict) else ("train", item)
        yield str(split), [path] if isinstance(path, str) else path


def _by_names(files: list[str]) -> Subsets:
    """Of `FOLDER/SPLIT-00000-of-00002.parquet`, `SUBSET/SPLIT/FILE.parquet`, `SPLIT.parquet`."""
    found: Subsets = {}
    for file in files:
        folder, name = posixpath.split(file)
        if shard := SHARD.fullmatch(name):
            split = shard["split"]
        elif "/" in folder:
            folder, split = posixpath.split(folder)
        else:
            split = name.removesuffix(".parquet")
        subset = DEFAULT if folder in ("", "data") else folder
        found.setdefault(subset, {}).setdefault(split, []).append(file)
    return found


def _chosen(
    known: Subsets, default: str | None, part: str, where: str
) -> dict[str, list[str]] | None:
    """The splits that a path within a repository means; None where it is that of files."""
    for subset, splits in known.items():
        if part == subset:
            return splits
        for split, files in splits.items():
            if part == f"{subset}/{split}":
                return {split: files}
    if default is None and part in ("", *chain(*known.values())):
        raise UsageError(f"{where} has several subsets; choose one: {_named(known, where)}")
    splits = known[default] if default is not None else {}
    if not part:
        return splits
    return {part: splits[part]} if part in splits else None


def _named(known: Subsets, where: str) -> str:
    return ", ".join(f"{where}/{name}" for name in known)


def _check_whole(files: list[str], what: str) -> None:
    """A copy may hold some of the files alone, of which their names tell."""
    shards = [shard for file in files if (shard := SHARD.fullmatch(posixpath.basename(file)))]
    homes = Counter((posixpath.dirname(shard.string), shard["total"]) for shard in shards)
    if any(number < int(total) for (_, total), number in homes.items()):
        there, total = sum(homes.values()), sum(int(total) for _, total in homes)
        raise UsageError(f"only {there} of {total} files of {what} are there; download the others")
