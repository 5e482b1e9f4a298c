"""An S3 server's bad days: a proxy on loopback that forwards requests and injects faults."""

from __future__ import annotations

import asyncio
import contextlib
import random
import re
import socket
import struct
import threading
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

# answers in place of the server's; S3 itself says 400 where other services say 403
REFUSALS = {
    "SlowDown": (503, "Please reduce your request rate."),
    "InternalError": (500, "We encountered an internal error. Please try again."),
    "ExpiredToken": (400, "The provided token has expired."),
    "AccessDenied": (403, "Access Denied"),
    "InvalidObjectState": (403, "The operation is not valid for the object's storage class"),
    "InsufficientStorage": (507, "There is no room for this."),
}
# what else can happen to a request
RESET = "reset"  # before the server sees it
RESET_LATE = "reset_late"  # the server has done it, the answer is lost
RESET_AMID = "reset_amid"  # in the middle of the body
CUT = "cut"  # the body ends in its middle
SHORTENED = "shortened"  # likewise, and Content-Length says that this is all
UNCHECKED = "unchecked"  # likewise, and without the checksum that would tell
OVERSTATED = "overstated"  # Content-Length says more than there is
TRICKLE = "trickle"  # a byte a second
SILENCE = "silence"  # not one byte, and the connection stays
LATE = "late"  # half a second
ACT = "act"  # something is done to the store before the request reaches it


@dataclass
class Fault:
    """What becomes of some requests.

    Attributes:
        kind: one of the names above, or an error code in `REFUSALS`.
        share: fraction of the matching requests that are hit.
        method: regular expression that the whole HTTP method must match.
        path: regular expression to be found in the path with its query.
        status: in place of the code's own.
        act: for `ACT`, called with the path; only a path's first request is hit.
    """

    kind: str
    share: float = 1.0
    method: str = "GET"
    path: str = ""
    status: int | None = None
    act: Callable[[str], Any] | None = None


@dataclass
class Proxy:
    """Forwards each request as it came, its Host too, which S3's signatures need.

    Attributes:
        target: URL of the server.
        seed: decides which requests are hit: the same ones whatever the order of requests.
        faults: tried in order, the first that hits counts; may be replaced at any time.
        injected: number of faults by kind.
    """

    target: str
    seed: int = 0
    faults: list[Fault] = field(default_factory=list)
    injected: Counter[str] = field(default_factory=Counter)

    def __enter__(self) -> Proxy:
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()
        self.requests: Counter[tuple[str, str]] = Counter()
        self.open: set[asyncio.StreamWriter] = set()
        self.port = 0
        self._do(self._listen())
        return self

    def __exit__(self, *exception: object) -> None:
        self._do(self._end())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @contextlib.contextmanager
    def down(self) -> Iterator[None]:
        """Refuse every connection, and break those that are open."""
        self._do(self._refuse())
        self.injected["down"] += 1
        yield
        self._do(self._listen())

    def _do(self, action: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(action, self.loop).result()

    async def _listen(self) -> None:
        self.server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self.server.sockets[0].getsockname()[1]

    async def _refuse(self) -> None:
        self.server.close()
        for writer in list(self.open):
            writer.transport.abort()

    async def _end(self) -> None:
        """Refuse, and leave no answer half done."""
        await self._refuse()
        waiting = asyncio.all_tasks() - {asyncio.current_task()}
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One request and its answer; the connection is not used again."""
        self.open.add(writer)
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            head, body = await _request(reader, writer)
            method, path, _ = head.split(b"\r\n")[0].decode().split(" ")
            fault = self._fault(method, path)
            if fault:
                self.injected[fault.kind] += 1
                await self._misbehave(fault, path, head, body, reader, writer)
            else:
                writer.write(await self._forward(head, body))
            await writer.drain()
        self.open.discard(writer)
        writer.close()

    def _fault(self, method: str, path: str) -> Fault | None:
        self.requests[method, path] += 1
        number = self.requests[method, path]
        name = path.partition("?")[0].rpartition("/")[2]
        for fault in self.faults:
            if not re.fullmatch(fault.method, method) or not re.search(fault.path, path):
                continue
            if fault.kind == ACT and number > 1:
                continue
            chance = random.Random(f"{self.seed} {fault.kind} {method} {name} {number}").random()
            if chance < fault.share:
                return fault
        return None

    async def _forward(self, head: bytes, body: bytes) -> bytes:
        """The server's whole answer."""
        address = urlsplit(self.target)
        reader, writer = await asyncio.open_connection(address.hostname, address.port)
        try:
            writer.write(head + body)
            return await reader.read()
        finally:
            writer.close()

    async def _misbehave(
        self,
        fault: Fault,
        path: str,
        head: bytes,
        body: bytes,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        if fault.kind in REFUSALS:
            refusal = _refusal(fault.kind, fault.status)
            # an answer to HEAD has no body
            only_head = refusal[: refusal.index(b"\r\n\r\n") + 4]
            writer.write(only_head if head.startswith(b"HEAD ") else refusal)
            return
        if fault.kind == SILENCE:
            await reader.read()  # until the other side has had enough
            return
        if fault.kind == RESET:
            _reset(writer)
            return
        if fault.kind == LATE:
            await asyncio.sleep(0.5)
        if fault.act:
            await asyncio.to_thread(fault.act, path)
        answer = await self._forward(head, body)
        start, _, content = answer.partition(b"\r\n\r\n")
        half = content[: len(content) // 2]
        if fault.kind in (ACT, LATE):
            writer.write(answer)
        elif fault.kind == SHORTENED:
            writer.write(_with_length(start, len(half)) + half)
        elif fault.kind == UNCHECKED:
            start = re.sub(rb"\r\nx-amz-checksum[^\r]*", b"", start, flags=re.IGNORECASE)
            writer.write(_with_length(start, len(half)) + half)
        elif fault.kind == OVERSTATED:
            writer.write(_with_length(start, len(content) + 1000) + content)
        elif fault.kind == CUT:
            writer.write(start + b"\r\n\r\n" + half)
        elif fault.kind == RESET_AMID:
            writer.write(start + b"\r\n\r\n" + half)
            await writer.drain()
            _reset(writer)
        elif fault.kind == RESET_LATE:
            _reset(writer)
        elif fault.kind == TRICKLE:
            writer.write(start + b"\r\n\r\n")
            for place in range(len(content)):
                await asyncio.sleep(1)
                writer.write(content[place : place + 1])
                await writer.drain()
        else:
            raise ValueError(fault.kind)


async def _request(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> tuple[bytes, ...]:
    head = await reader.readuntil(b"\r\n\r\n")
    if re.search(rb"\r\nExpect: *100-continue\r\n", head, re.IGNORECASE):
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    length = re.search(rb"\r\nContent-Length: *(\d+)\r\n", head, re.IGNORECASE)
    body = await reader.readexactly(int(length[1])) if length else b""
    # what concerns one connection alone is not signed
    head = re.sub(rb"\r\n(Connection|Expect):[^\r]*(?=\r\n)", b"", head, flags=re.IGNORECASE)
    return head.removesuffix(b"\r\n") + b"Connection: close\r\n\r\n", body


def _refusal(code: str, other_status: int | None) -> bytes:
    status, message = REFUSALS[code]
    body = f"<Error><Code>{code}</Code><Message>{message}</Message></Error>".encode()
    head = f"HTTP/1.1 {other_status or status} {code}\r\nContent-Type: application/xml\r\n"
    head += "Connection: close\r\nContent-Length: 0"
    return _with_length(head.encode(), len(body)) + body


def _with_length(head: bytes, length: int) -> bytes:
    pattern = rb"(\r\nContent-Length: *)\d+"
    changed, count = re.subn(pattern, b"\\g<1>%d" % length, head, flags=re.IGNORECASE)
    if not count:
        raise ValueError("an answer without Content-Length cannot have a wrong one")
    return changed + b"\r\n\r\n"


def _reset(writer: asyncio.StreamWriter) -> None:
    linger = struct.pack("ii", 1, 0)  # close with RST in place of FIN
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    writer.transport.abort()
