"""Whether images have the size that their annotations say, for boxes are pixels of it."""

from __future__ import annotations

from pipeline import words
from pipeline.errors import UsageError
from pipeline.labels.truth import Truth
from pipeline.store import urls


class Sizes:
    """Images that are of another size than in their annotations, as programs that resize or turn
    them write these.
    """

    def __init__(self, truth: Truth) -> None:
        self.truth = truth
        self.others = 0
        self.example = ""

    def look(self, place: int, uri: str, width: int | None, height: int | None) -> None:
        """
        Args:
            place: of the image in `Truth.ids`.
            uri: of the image.
            width, height: in pixels, upright; None where they are not known.
        """
        there, here = tuple(self.truth.sizes[place].tolist()), (width, height)
        if there == here or not all((*there, *here)):
            return
        self.others += 1
        if not self.example:
            said, found = ("x".join(map(str, size)) for size in (there, here))
            turned = ", turned" if there == here[::-1] else ""
            name = words.printable(urls.public(uri), 200)
            self.example = f"{name}: {said} there, {found} here{turned}"

    def check(self) -> None:
        """
        Raises:
            UsageError: an image is of another size.
        """
        if self.others:
            raise UsageError(
                f"{words.count(self.others, 'image')} of {self.truth.url} with another size than "
                f"the annotations say, such as {self.example}; boxes are pixels of the upright "
                "image: give annotations of the images as they are, neither resized nor turned "
                "(or without width and height, if only these are wrong)"
            )
