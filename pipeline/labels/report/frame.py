"""What every page is made of: the document, and as many pictures as there is room for."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import resources

from pipeline import words
from pipeline.labels.output import Output
from pipeline.labels.report import gallery, text
from pipeline.labels.report.gallery import Gallery, Picture

MOST_BYTES = 15_000_000
HEADING_BYTES = 1000
PLACE = "<!--galleries-->"

Cards = list[tuple[Picture, str]]


@dataclass(frozen=True)
class Page:
    """A page with pictures.

    Attributes:
        data: the file's content.
        pictures: number of pictures in it.
        unread: images without an error that cannot be read or decoded any more; their cards say
            why.
    """

    data: bytes
    pictures: int
    unread: int

    @property
    def told(self) -> str:
        """Its size and what is in it, for a person."""
        unread = f"; {words.count(self.unread, 'image')} could not be read" if self.unread else ""
        return f"{text.size(len(self.data))}, {words.count(self.pictures, 'picture')}{unread}"


def document(kind: str, of: str, body: str, script: str, data: str = "{}") -> str:
    """A page.

    Args:
        kind: of page, for its title.
        of: what it is about, likewise.
        body: HTML.
        script: file beside this one that runs after pictures.js; empty for none.
        data: JSON for it.
    """
    css = _file("report.css")
    code = "".join(map(_file, ["pictures.js", *filter(None, [script])]))
    policy = (
        f"default-src 'none'; img-src data:; style-src {_digest(css)}; "
        f"script-src {_digest(code)}; base-uri 'none'; form-action 'none'"
    )
    return f"""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{text.escaped(of, 60)}: {kind}</title>
<style>{css}</style>
<main>
{body}
</main>
<dialog id="large" aria-label="Enlarged picture"><div class="stage"></div>
<div class="bar"><p class="caption"></p><button type="button" data-step="-1">Previous</button>
<button type="button" data-step="1">Next</button>
<button type="button" data-close>Close</button></div>
</dialog>
<script type="application/json" id="data">{data}</script>
<script>{code}</script>
</html>
"""


def _file(name: str) -> str:
    return (resources.files("pipeline.labels.report") / name).read_text("utf-8")


def _digest(content: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}'"


def filled(
    page: str, output: Output, galleries: Sequence[Gallery], card: Callable[[Picture], str]
) -> Page:
    """The page with its galleries at `PLACE`, ended at about `MOST_BYTES`.

    Args:
        page: a document.
        output: whose images are read again.
        galleries: that are wanted.
        card: a picture as HTML.
    """
    cards: dict[str, Cards] = {one.name: [] for one in galleries}
    room = MOST_BYTES - len(page.encode()) - HEADING_BYTES * len(galleries)
    for one, picture in gallery.read(output, galleries):
        html = card(picture)
        room -= len(html.encode())
        if room < 0:
            break
        cards[one.name].append((picture, html))
    html = page.replace(PLACE, "".join(_gallery(one, cards[one.name]) for one in galleries), 1)
    shown = [picture for some in cards.values() for picture, _ in some]
    unread = {p.sample.image.image_id for p in shown if not (p.data or p.sample.code)}
    pictures = sum(1 for picture in shown if picture.data)
    return Page(html.encode(errors="replace"), pictures, len(unread))


def _gallery(one: Gallery, cards: Cards) -> str:
    left = len(one.samples) - len(cards)
    note = f" {left:,} more would not fit into the file." if left else ""
    return (
        f'<section id="{one.name}" class="gallery"><h2>{one.title}</h2><p>{one.note}{note} '
        f'<span data-in-view></span></p><div class="cards">{"".join(card for _, card in cards)}'
        "</div></section>"
    )
