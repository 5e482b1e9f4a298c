"""A picture of a report as HTML: SVG boxes over the thumbnail, in pixels of the image."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.labels.report import text
from pipeline.labels.report.gallery import Picture
from pipeline.labels.report.statistics import hundredths
from pipeline.store import urls
from pipeline.words import count, printable

COLOURS = 7  # in report.css; beyond, the same ones dashed, then dotted
MOST_BOXES = 300
NAME = 24  # characters of a category on a box
# a label in pixels of the screen, and the size that a picture has there
LABEL_HEIGHT, PADDING = 17.0, 4.0
NARROW, WIDE = " .,:;'|!ijlfrtI()[]-/", "mwMW@%"
SHOWN_WIDTH, SHOWN_HEIGHT = 400.0, 300.0


@dataclass(frozen=True)
class Style:
    """What is the same for all pictures.

    Attributes:
        names: [classes].
        ranks: [classes] place by number of detections, which gives the colour.
        threshold: hundredths; boxes below are there, but hidden.
    """

    names: list[str]
    ranks: np.ndarray
    threshold: int

    def colour(self, place: int) -> str:
        """The CSS classes of a category."""
        rank = int(self.ranks[place])
        dashes = ("", " dashed", " dotted")[min(rank // COLOURS, 2)]
        return f"c{rank % COLOURS}{dashes}"


@dataclass(frozen=True)
class Label:
    """What stands at a box.

    Attributes:
        words: name of the category and score.
        length: pixels of the screen.
        scale: pixels of the image for one of the screen.
        x, y: its top left corner in pixels of the image, inside the picture.
    """

    words: str
    length: float
    scale: float
    x: float
    y: float

    def meets(self, other: Label) -> bool:
        return (
            self.x < other.x + other.length * other.scale
            and other.x < self.x + self.length * self.scale
            and abs(self.y - other.y) < LABEL_HEIGHT * self.scale
        )


@dataclass(frozen=True)
class Mark:
    """A box to be drawn.

    Attributes:
        xyxy: pixels of the image.
        words: what it is.
        kind: its CSS classes.
        data: its attributes for scripts.
        hidden: whether it is there, but not seen.
        labelled: whether the words stand at it, and not only where it is pointed at.
    """

    xyxy: tuple[float, float, float, float]
    words: str
    kind: str
    data: str = ""
    hidden: bool = False
    labelled: bool = True


def card(picture: Picture, style: Style) -> str:
    """The picture with its boxes, name and, where there is one, problem."""
    bins = hundredths(picture.sample.image.scores)
    found = count(int(np.sum(bins >= style.threshold)), "box")
    remarks = []
    if len(bins) > MOST_BOXES:
        remarks.append(f"<span data-best>best {MOST_BOXES} of {len(bins):,} drawn</span>")
    return framed(picture, found, _marks(picture, style, bins[:MOST_BOXES].tolist()), remarks)


def framed(picture: Picture, found: str, marks: Sequence[Mark], remarks: Sequence[str]) -> str:
    """A picture with boxes as a card.

    Args:
        picture: of an image.
        found: what was found there, in words.
        marks: the boxes, what matters most first.
        remarks: more lines of HTML.
    """
    sample, image = picture.sample, picture.sample.image
    uri = urls.public(image.uri)
    name = uri.rstrip("/").rsplit("/", 1)[-1] or uri
    lines = [f'<span class="name" title="{text.escaped(uri)}">{text.escaped(name, 80)}</span>']
    if not sample.code:
        lines.append(f"<span data-found>{found}</span>")
    if image.width:
        lines.append(f"<span>{image.width:,} × {image.height:,}</span>")
    lines += remarks
    if sample.code:
        words = text.escaped(f"{sample.code}: {sample.message}", 160)
        lines.append(f'<p class="bad" title="{text.escaped(sample.message)}">{words}</p>')
    if picture.problem:
        lines.append(f"<p>The image {text.escaped(picture.problem)}</p>")
    canvas = _canvas(picture, marks, f"{name}: {found}")
    return f'<figure class="card">{canvas}<figcaption>{"".join(lines)}</figcaption></figure>'


def _canvas(picture: Picture, marks: Sequence[Mark], label: str) -> str:
    if not picture.data:
        return '<div class="canvas"><span>no picture</span></div>'
    boxes = "" if picture.problem else _boxes(picture, marks)
    width, height = picture.width, picture.height
    return (
        f'<div class="canvas"><svg class="picture" viewBox="0 0 {width} {height}" role="img" '
        f'aria-label="{text.escaped(label, 120)}"><image width="{width}" height="{height}" '
        f'preserveAspectRatio="none" href="data:image/webp;base64,{picture.data}"/>{boxes}</svg>'
        "</div>"
    )


def _marks(picture: Picture, style: Style, bins: list[int]) -> list[Mark]:
    """Highest score first."""
    image = picture.sample.image
    marks = []
    for i, hundredth in enumerate(bins):
        place = int(image.classes[i])
        left, top, right, bottom = image.xyxy[i].astype(float).tolist()
        hidden = hundredth < style.threshold
        marks.append(
            Mark(
                (left, top, right, bottom),
                # rounded down like the bins: what says 0.50 is there at a threshold of 0.50
                f"{printable(style.names[place], NAME)} {hundredth / 100:.2f}",
                f"{style.colour(place)}{' off' if hidden else ''}",
                f'data-b="{hundredth}" data-c="{place}"',
                hidden,
            )
        )
    return marks


def _boxes(picture: Picture, marks: Sequence[Mark]) -> str:
    """Boxes, the first on top; over them labels, but none where an earlier one's is."""
    taken: list[Label] = []
    boxes, labels = [], []
    for mark in marks:
        left, top, right, bottom = mark.xyxy
        boxes.append(
            f'<g class="box {mark.kind}" {mark.data}><title>{text.escaped(mark.words)}</title>'
            f"{_lines(left, top, right - left, bottom - top)}</g>"
        )
        if not mark.labelled:
            continue
        label = _label(picture, mark.words, left, top, bottom)
        covered = "" if mark.hidden or not any(map(label.meets, taken)) else " covered"
        if not mark.hidden and not covered:
            taken.append(label)
        labels.append(
            f'<g class="label {mark.kind}{covered}" {mark.data} data-x="{left:.5g}" '
            f'data-y="{top:.5g}" data-bottom="{bottom:.5g}" {_label_html(label)}</g>'
        )
    return "".join(boxes[::-1] + labels)


def _label(picture: Picture, words: str, left: float, top: float, bottom: float) -> Label:
    """Above the box; where there is no room, in it, or below it if it would be hidden."""
    length = sum(map(_width, words)) + 2 * PADDING
    scale = max(picture.width / SHOWN_WIDTH, picture.height / SHOWN_HEIGHT)
    tall = LABEL_HEIGHT * scale
    x = max(0.0, min(left, picture.width - length * scale))
    y = top - tall if top >= tall else top if bottom - top > 2 * tall else bottom
    y = max(0.0, min(y, picture.height - tall))
    return Label(words, length, scale, x, y)


def _width(character: str) -> float:
    """Pixels, roughly; `textLength` makes them true in any font."""
    if unicodedata.east_asian_width(character) in "WF":
        return 12.5
    return 4.2 if character in NARROW else 10.5 if character in WIDE else 7.2


def _lines(x: float, y: float, width: float, height: float) -> str:
    """A light line on a dark one, which is seen on any picture."""
    place = f'x="{x:.5g}" y="{y:.5g}" width="{width:.5g}" height="{height:.5g}"'
    return f'<rect class="under" {place}/><rect class="line" {place}/>'


def _label_html(label: Label) -> str:
    return (
        f'data-length="{label.length:.4g}" '
        f'transform="translate({label.x:.5g} {label.y:.5g}) scale({label.scale:.4g})">'
        f'<rect width="{label.length:.4g}" height="{LABEL_HEIGHT:g}"/>'
        f'<text x="{PADDING:g}" y="12.5" textLength="{label.length - 2 * PADDING:.4g}" '
        f'lengthAdjust="spacingAndGlyphs">{text.escaped(label.words)}</text>'
    )
