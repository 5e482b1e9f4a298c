"""Names under which images and their labels can stand in a folder, on any system."""

from __future__ import annotations

import hashlib
import os
import posixpath
import re
import unicodedata
from urllib.parse import quote_from_bytes

from pipeline.config import IMAGE_EXTENSIONS

MAX_BYTES = 180
# what Windows, macOS, a shell or XML would not take in the name of a file; and what parts names
UNSAFE = re.compile(r'[\x00-\x1f\x7f<>:"|?*/\\#%\ufffe\uffff]')
IMAGE_SUFFIXES = tuple(f".{extension}" for extension in IMAGE_EXTENSIONS)
# of a frame of a video, the end of its URI
FRAME = re.compile(r"#t=(\d+)(\.\d+)\Z")
RESERVED = {"con", "prn", "aux", "nul", *(f"{n}{i}" for n in ("com", "lpt") for i in range(10))}


def relative_name(uri: str, folders: tuple[str, ...]) -> str:
    """The image's path below the input folder; elsewhere, its URI without the scheme.

    A frame of a video is a file in a folder of the video's name: of `#t=12.480`, `000012.480.png`.

    Args:
        uri: of the image.
        folders: of the run's input, as from `input_folder`.
    """
    uri = FRAME.sub(lambda time: f"/{time[1]:0>6}{time[2]}.png", uri)
    if uri.startswith("file://"):  # a path that is no UTF-8, with all of it quoted
        folders = tuple(f"file://{quote_from_bytes(os.fsencode(folder))}" for folder in folders)
    for folder in folders:
        if uri.startswith(f"{folder}/") and (name := uri[len(folder) + 1 :].lstrip("/")):
            return name
    return uri.partition("://")[2] if "://" in uri else uri.lstrip("/")


def frame_name(uri: str, number: int, folders: tuple[str, ...]) -> str:
    """As CVAT calls a frame, in a folder of the video's name; arguments of `relative_name`.

    >>> frame_name("s3://b/in/a.mp4#t=0.480", 12, ("s3://b/in",))
    'a.mp4/frame_000012'
    """
    return f"{relative_name(FRAME.sub('', uri), folders)}/frame_{number:06d}"


def input_folder(url: str) -> tuple[str, ...]:
    """What the images of a run's input may stand in: the input itself, or else the folder before a
    glob's wildcards, or of one image or table.

    A folder's name may look like any of these. What stands in it begins with its name, and what
    the others find does not.
    """
    itself = url.rstrip("/")
    wildcard = re.search(r"[*?\[]", url)
    if wildcard:
        return itself, url[: wildcard.start()].rpartition("/")[0].rstrip("/")
    if re.search(r"\.[A-Za-z0-9]{2,7}$", url):
        return itself, url.rpartition("/")[0].rstrip("/")
    return (itself,)


class Names:
    """Hands out relative paths, each once. Needs about 100 bytes an image."""

    def __init__(self) -> None:
        self.taken: set[bytes] = set()

    def safe(self, name: str, image_id: int) -> str:
        """`name` with every part made safe for a file.

        Where it differs from another's only in case or in its suffix, the image id is added.
        """
        *folders, base = [part for part in name.split("/") if part] or ["image"]
        path = "/".join([*map(_safe_folder, folders), safe_part(base)])
        stem, suffix = posixpath.splitext(path)
        number = str(image_id)
        while (key := _key(stem)) in self.taken:
            stem, number = f"{stem}-{number}", "1"
        self.taken.add(key)
        return stem + suffix

    def own(self, name: str, image_id: int) -> str:
        """`name` as it stands; where another has the very same, the image id is added."""
        stem, suffix = posixpath.splitext(name)
        number = str(image_id)
        while (key := _digest(stem + suffix)) in self.taken:
            stem, number = f"{stem}-{number}", "1"
        self.taken.add(key)
        return stem + suffix


def _key(stem: str) -> bytes:
    # macOS takes composed and decomposed letters for the same
    return _digest(unicodedata.normalize("NFC", stem.casefold()))


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode(), digest_size=12).digest()


def _safe_folder(part: str) -> str:
    # on an object store, an image and a prefix can have the same name
    part = safe_part(part)
    return f"{part}_" if part.lower().endswith(IMAGE_SUFFIXES) else part


def safe_part(part: str) -> str:
    """A name as that of a file or a folder on any system."""
    part = UNSAFE.sub("_", part).rstrip(". ") or "_"
    if part.partition(".")[0].lower() in RESERVED:
        part = f"_{part}"
    encoded = part.encode()
    if len(encoded) > MAX_BYTES:
        stem, suffix = posixpath.splitext(part)
        suffix = suffix if len(suffix) < 8 else ""
        digest = hashlib.blake2b(encoded, digest_size=8).hexdigest()
        short = stem.encode()[: MAX_BYTES - 24].decode(errors="ignore")
        part = f"{short}-{digest}{suffix}"
    return part
