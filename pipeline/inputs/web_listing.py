"""The files below a folder of a web server: what its index pages link to.

By itself, for fsspec takes links by an expression that cuts them at an apostrophe, leaves `&amp;`
in them, and passes over names that begin with `http`.
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Iterator
from html.parser import HTMLParser

from fsspec.asyn import sync
from fsspec.implementations.http import HTTPFileSystem

from pipeline.inputs.entries import Entry
from pipeline.inputs.references import resolved
from pipeline.store import failures, objects, urls

REFERENCE = re.compile(r"&#?\w+;")
SCHEME = re.compile(r"[a-z][a-z0-9+.-]*:", re.IGNORECASE)
AUTHORITY = re.compile(r"(?:https?:)?//([^/?]*)/?", re.IGNORECASE)


def walk(fs: HTTPFileSystem, root: str, is_left_out: Callable[[str], bool]) -> Iterator[Entry]:
    """The files below a URL that its index pages link to, each once, in the order of their folders.

    What ends in a slash is a folder, with a page of its own; one of them is in memory, and the
    links to files in other folders than the page's.

    Args:
        fs: the web.
        root: URL of the first page.
        is_left_out: whether all files in a folder are, by its URL: it need not be readable.

    Raises:
        OSError, HttpError: the first page cannot be read.
        UsageError: another one cannot.
    """
    top = f"{_folder(root)}/"
    folders, seen = [root], set()
    elsewhere: set[str] = set()
    while folders:
        url = folders.pop()
        folder = _folder(url)
        if folder in seen:
            continue
        seen.add(folder)
        try:
            targets = _targets(fs, url, root)
        except Exception as error:
            if is_left_out(url):
                continue
            if url == root:
                raise
            raise failures.unusable("read", url, error) from error
        below = sorted(name for name in targets if name.startswith(top))
        for name in below:
            home = _folder(name)
            if urls.public(name).endswith("/") or name in elsewhere:
                continue
            if home != folder:
                if home in seen:
                    continue
                elsewhere.add(name)
            yield name, None, None
        # with a query it is the same page again, such as in another order
        folders += [name for name in reversed(below) if name.endswith("/") and "?" not in name]


def _targets(fs: HTTPFileSystem, url: str, root: str) -> set[str]:
    attempts = objects.FIRST_ATTEMPTS if url == root else objects.ATTEMPTS
    page = objects.retrying(lambda: sync(fs.loop, _page, fs, url), attempts)
    return {_target(link, _folder(url)) for link in _links(page)}


async def _page(fs: HTTPFileSystem, url: str) -> str:
    """The text of a page; empty if it is not HTML."""
    session = await fs.set_session()
    async with session.get(fs.encode_url(url)) as response:
        is_html = "html" in response.headers.get("Content-Type", "html")
        return str(await response.text(errors="replace")) if is_html else ""


class _Parser(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "a":
            self.found += [value for name, value in attrs if name == "href" and value]


def _links(page: str) -> list[str]:
    parser = _Parser()
    # Python's parser takes `&times` of `?a=1&timestamp=2` for a sign, so it shall see none
    parser.feed(page.replace("&", "&amp;"))
    parser.close()
    return [REFERENCE.sub(lambda found: html.unescape(found[0]), link) for link in parser.found]


def _target(link: str, folder: str) -> str:
    """The URL of a page's link, spelled as that of the page; empty if it is of another server.

    http and https are the same server, of which one may lie behind the other.
    """
    link = link.partition("#")[0].strip()
    scheme, _, rest = folder.partition("://")
    host = rest.partition("/")[0]
    if authority := AUTHORITY.match(link):
        if authority[1].lower() != host.lower():
            return ""
        link = f"/{link[authority.end() :]}"
    if link.startswith("/"):
        return resolved(f"{scheme}://{host}", link[1:])
    return "" if SCHEME.match(link) else resolved(folder, link)


def _folder(url: str) -> str:
    return urls.public(url).rpartition("/")[0].rstrip("/")
