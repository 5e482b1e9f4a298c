"""Sessions with web servers: which headers they get, and what their refusals say."""

from __future__ import annotations

import asyncio
import contextlib
import html
import re
from collections.abc import Mapping
from functools import partial
from typing import Any

import aiohttp

from pipeline.reading import PUBLIC_HEADERS
from pipeline.words import printable, version

# of an answer that is an error, so much is read, for so long, and so much of it is said
BODY_BYTES = 4096
BODY_SECONDS = 5.0
LINE_CHARACTERS = 200
# An answer may take as long as it comes: it may be a table that is read as a stream. Images have
# `fetch_timeout`.
TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=30, sock_read=300)
RANGE = re.compile(r"bytes=(\d+)-(\d+)")
# of a file from a server that answers with all of it in the place of a range
WHOLE_BYTES = 16 * 2**20
TAG = re.compile(r"<(script|style)\b.*?</\1>|<[^>]*>", re.DOTALL | re.IGNORECASE)
# of secrets, wholes and their parts; what is shorter gives nothing away
WHOLE, PART = re.compile(r"[^\s&=;,]{6,}"), re.compile(r"\w{6,}")


class HttpError(aiohttp.ClientError):
    """An answer that is an error: its status, reason, and the first line of its body."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(status, message)
        self.status = status

    def __str__(self) -> str:
        return " ".join(map(str, self.args)).strip()


class Unranged(HttpError):
    """The whole of a large file in the place of a small range of it."""


async def client(headers: Mapping[str, Any], **options: Any) -> aiohttp.ClientSession:
    """A session whose error answers are raised as `HttpError`.

    Args:
        headers: see `pipeline.reading.Reading`. Those of an origin go to no other, wherever a
            redirect leads.
        options: more of `aiohttp.ClientSession`.
    """
    public = {name: value for name, value in headers.items() if "://" not in name}

    async def add(
        request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        request.headers.update(headers.get(str(request.url.origin()), {}))
        response = await handler(request)
        _check_range(request, response)
        return response

    return aiohttp.ClientSession(
        headers={"User-Agent": "/".join(filter(None, ("prelabel", version())))} | public,
        middlewares=(add,),
        raise_for_status=partial(_raise, secrets=_values(headers)),
        timeout=TIMEOUT,
        **options,
    )


def _check_range(request: aiohttp.ClientRequest, response: aiohttp.ClientResponse) -> None:
    """Refuse the whole of a large file where a small range of it was asked for.

    Raises:
        Unranged: the server gives no ranges, and would send all of it for each.
    """
    asked, whole = RANGE.fullmatch(request.headers.get("Range", "")), response.content_length or 0
    if response.status != 200 or not asked or whole <= WHOLE_BYTES:
        return
    if int(asked[2]) - int(asked[1]) < WHOLE_BYTES:
        response.close()
        raise Unranged(
            response.status,
            f"{response.reason}: the server ignores ranges and sends all {whole:,} bytes of the "
            f"file, more than the {WHOLE_BYTES:,} that are accepted; put the file where ranges "
            "can be read, or unpack it",
        )


def _values(headers: Mapping[str, Any]) -> list[str]:
    """Those that go to one origin alone, and which it may send elsewhere by a redirect."""
    private = [more for name, more in headers.items() if "://" in name]
    return [value for more in private for value in more.values()]


async def _raise(response: aiohttp.ClientResponse, secrets: list[str]) -> None:
    if response.status < 400:
        return
    body = bytearray()
    with contextlib.suppress(aiohttp.ClientError, TimeoutError):
        async with asyncio.timeout(BODY_SECONDS):
            while len(body) < BODY_BYTES:
                chunk = await response.content.read(BODY_BYTES - len(body))
                if not chunk:
                    break
                body += chunk
    response.release()
    reason = printable(response.reason or "", LINE_CHARACTERS)
    said = first_line(body.decode(errors="replace"), f"{response.status} {reason}")
    line = printable(_without([*secrets, *_secrets(response)], said), LINE_CHARACTERS)
    raise HttpError(response.status, f"{reason}: {line}" if line else reason)


def first_line(body: str, status: str) -> str:
    """The first line of an answer that says more than its status, without tags; "" for none."""
    for line in TAG.sub(" ", body).splitlines():
        text = " ".join(html.unescape(line).split())
        if re.search(r"\w", text) and text.lower() not in status.lower():
            return text
    return ""


def _secrets(response: aiohttp.ClientResponse) -> list[str]:
    """What the server was sent and may say again: queries, and headers that may be secret."""
    headers = response.request_info.headers.items()
    values = [value for name, value in headers if name.title() not in PUBLIC_HEADERS]
    return [response.url.query_string, response.url.raw_query_string, *values]


def _without(secrets: list[str], line: str) -> str:
    text = " ".join(secrets)
    for word in sorted({*WHOLE.findall(text), *PART.findall(text)}, key=len, reverse=True):
        line = re.sub(re.escape(word), "…", line, flags=re.IGNORECASE)
    return line
