"""The images themselves, sorted into folders by what is in them."""

from __future__ import annotations

import os
from typing import ClassVar

from pipeline.errors import UsageError
from pipeline.labels.export.folder import Folder
from pipeline.labels.export.naming import safe_part
from pipeline.labels.export.target import Item, Job, Shard
from pipeline.store import urls

NOTHING = "_nothing"


class Folders(Shard):
    """Each image, bytes unchanged, in the folder of every category that it has a box of."""

    images = None
    needs_images = True
    how: ClassVar[str] = "a folder for each category: {to}/CATEGORY"

    def __init__(self, folder: Folder, job: Job) -> None:
        self.folder = folder
        self.names = job.classes.names

    def add(self, item: Item) -> None:
        places = sorted(set(item.image.classes.tolist()))
        folders = {safe_part(self.names[place]) for place in places} or {NOTHING}
        for folder in sorted(folders):
            if item.data is None:
                self.folder.link(f"{folder}/{item.name}", _path(item.image.uri))
            else:
                self.folder.put(f"{folder}/{item.name}", item.data)

    def close(self) -> None:
        pass


def _path(uri: str) -> str:
    """
    Raises:
        UsageError: the image is not on this machine.
    """
    path = urls.filesystem(uri)[1] if urls.protocol(uri) == "file" else ""
    if not os.path.isfile(path):
        raise UsageError(f"--link needs image files on this machine, not {urls.public(uri)}")
    return path
