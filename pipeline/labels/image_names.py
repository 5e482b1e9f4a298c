"""Images found by their names, however these are written: escaped, composed, with backslashes."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from urllib.parse import unquote

from pipeline import words
from pipeline.errors import UsageError
from pipeline.store import urls

SEVERAL = -1


def fold(name: str) -> str:
    r"""A name as it compares: percent-decoded, in composed letters, with slashes.

    >>> fold("cells%20(1)\\a.jpg")
    'cells (1)/a.jpg'
    """
    if "%" in name:
        name = unquote(name, errors="surrogateescape")
    if "\\" in name:
        name = name.replace("\\", "/")
    while name.startswith("./"):
        name = name[2:]
    return composed(name)


def composed(name: str) -> str:
    """A name in composed letters, for macOS may write them in parts."""
    return name if name.isascii() else unicodedata.normalize("NFC", name)


class ImageNames:
    """The names of a list of images, to find the one that a URI means.

    Names are held once where folding changes nothing, for there may be millions.
    """

    def __init__(self, names: Sequence[str]) -> None:
        """
        Args:
            names: a file name, path or URL for each image, empty where it has none.
        """
        self.names = names
        self.whole: dict[str, int] = {}
        self.same: dict[str, list[int]] = {}  # names that fold to one, which is rare
        self.bases: dict[str, int] = {}
        self.folded_bases: dict[str, int] = {}
        for place, name in enumerate(names):
            if not name:
                continue
            written = urls.public(name).lstrip("/")
            folded = fold(written).lstrip("/")
            self._add(folded, place)
            base, folded_base = _base(written), _base(folded)
            self.bases[base] = SEVERAL if base in self.bases else place
            if folded != written:
                self._add(written, place)
            if folded_base != base:
                several = folded_base in self.folded_bases
                self.folded_bases[folded_base] = SEVERAL if several else place

    def _add(self, name: str, place: int) -> None:
        if (first := self.whole.setdefault(name, place)) != place:
            self.same.setdefault(name, [first]).append(place)

    def place(self, uri: str) -> tuple[int, bool] | None:
        """The place of the image that is called so, and whether all of its name is.

        All of its name is the end of the URI, the longest such name if there are several; or else
        only the last part is, and no other image has the same.

        Raises:
            UsageError: two images are called so, and neither as it is written.
        """
        path = urls.public(uri)
        text = fold(path)
        while text:
            if text in self.same:
                return self._as_written(self.same[text], path), True
            if (place := self.whole.get(text)) is not None:
                return place, True
            text = text.partition("/")[2]
        place = self._by_base(path)
        return None if place is None or place == SEVERAL else (place, False)

    def _as_written(self, places: list[int], path: str) -> int:
        exact = [
            place
            for place in places
            if f"/{path}".endswith(f"/{urls.public(self.names[place]).lstrip('/')}")
        ]
        if len(exact) != 1:
            first, second = (
                words.printable(self.names[place], 200) for place in (exact or places)[:2]
            )
            raise UsageError(
                f"the annotations list two images, {first!r} and {second!r}, that both match "
                f"{words.printable(path, 200)!r}: remove or rename one of them"
            )
        return exact[0]

    def _by_base(self, path: str) -> int | None:
        base = path.rpartition("/")[2]
        if base in self.bases:
            return self.bases[base]
        folded = _base(fold(path))
        found = [known[folded] for known in (self.bases, self.folded_bases) if folded in known]
        return found[0] if len(found) == 1 else None


def _base(name: str) -> str:
    return name.rpartition("/")[2]
