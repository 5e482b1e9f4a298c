"""Which URIs a table may name: whoever wrote it may lack the rights of whoever runs it."""

from __future__ import annotations

import ipaddress
import socket
from typing import Any

import aiohttp
import fsspec
import yarl
from fsspec import AbstractFileSystem

from pipeline import words
from pipeline.errors import Code, UsageError
from pipeline.reading import Reading
from pipeline.store import urls, web
from pipeline.store.failures import UriError

# what servers and clients should take at least, says RFC 9110, section 4.1
URI_BYTES = 8000
WEB = ("http", "https")
# Stores that are the same from every machine. Not among fsspec's many others: this machine's files
# and memory, archives within files, chains of one protocol behind another.
STORES = {"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "hf", *WEB}
LOOPBACK = ("localhost", "127.0.0.1", "::1")

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
# the services of AWS, Google, Oracle, Alibaba, Azure that give a machine its credentials, where
# their addresses are not link-local
METADATA = [
    ipaddress.ip_network(network)
    for network in (
        "fd00:ec2::/32",
        "fd20:ce::/32",
        "fd00:c1::/32",
        "192.0.0.192/32",
        "100.100.100.200/32",
        "168.63.129.16/32",
    )
]
NAT64 = ipaddress.ip_network("64:ff9b::/96")


def locate(
    uri: str,
    source: str,
    trusted: bool = False,
    connections: int = 64,
    reading: Reading | None = None,
) -> tuple[AbstractFileSystem, str]:
    """The file system and the path of an image that a table or a listing names.

    Files and servers of this machine may be named only by an input on this machine; addresses
    that are link-local or a cloud's metadata service by none. Private networks are allowed: image
    servers stand there.

    Args:
        uri: of the image.
        source: URL of the input that names it.
        trusted: the input may name everything.
        connections, reading: see `urls.filesystem`.

    Raises:
        UriError: the URI cannot be one (`invalid_uri`, `uri_too_long`), nothing can read it
            (`unknown_protocol`), or it may not be named (`uri_not_allowed`). The addresses behind
            an http URI are judged when it is read.
    """
    kind, home = urls.protocol(uri), urls.protocol(source)
    if not trusted and kind not in STORES and kind != home:
        known = kind.split("::")[0] in fsspec.available_protocols()
        what = f"protocol {kind[:100]!r}, named by an input on {home!r}"
        raise UriError(Code.URI_NOT_ALLOWED if known else Code.UNKNOWN_PROTOCOL, what)
    _check_form(kind, uri)
    client = local_client if home == "file" or _host(source) in LOOPBACK else remote_client
    try:
        fs, path = urls.filesystem(uri, connections, None if trusted else client, reading)
    except UsageError as error:
        raise UriError(Code.UNKNOWN_PROTOCOL, words.printable(error)) from error
    if "\0" in path:
        raise UriError(Code.INVALID_URI, "it holds a zero byte")
    return fs, path


def _check_form(kind: str, uri: str) -> None:
    """Refuse what readers would take for the name of another object, or of none."""
    complaint = None
    if len(uri.encode()) > URI_BYTES:
        raise UriError(Code.URI_TOO_LONG, f"more than {URI_BYTES} bytes")
    if kind in WEB:
        if any(c < " " or c == "\x7f" for c in uri):  # line ends and tabs would be left out
            complaint = "it holds control characters"
        elif not _host(uri):
            complaint = "it names no host"
        elif _in_disguise(str(_host(uri))):
            raise UriError(
                Code.URI_NOT_ALLOWED,
                "its host is an IPv4 address that is not written as four numbers",
            )
    elif uri.endswith("/"):
        complaint = "it names a folder"
    elif kind in ("s3", "s3a"):
        bucket, _, key = uri.partition("://")[2].partition("/")
        if not bucket or not key:
            complaint = "it names no object"
        elif "?versionId=" in key:  # s3fs would read the latest version of the key before it
            complaint = "a version of an object cannot be named; leave out ?versionId="
    if complaint:
        raise UriError(Code.INVALID_URI, complaint)


def _in_disguise(host: str) -> bool:
    try:  # takes what resolvers take: octal, hexadecimal, fewer numbers
        return socket.inet_ntoa(socket.inet_aton(host.rstrip("."))) != host
    except OSError:
        return False


def _host(url: str) -> str | None:
    try:
        return yarl.URL(url).host if urls.protocol(url) in WEB else None
    except ValueError:
        return None


# ------------------------------------------------------------------------------- sockets


async def local_client(**options: Any) -> aiohttp.ClientSession:
    """For URIs of an input on this machine."""
    return await _client(_socket, options)


async def remote_client(**options: Any) -> aiohttp.ClientSession:
    """For URIs of an input elsewhere."""
    return await _client(_socket_to_others, options)


async def _client(make_socket: Any, options: dict[str, Any]) -> aiohttp.ClientSession:
    # here, since only here names are resolved and redirects followed; reads are bounded elsewhere
    connector = aiohttp.TCPConnector(limit=0, socket_factory=make_socket)
    return await web.client(connector=connector, **options)


def _socket(info: aiohttp.AddrInfoType) -> socket.socket:
    family, kind, protocol, _, address = info
    found = reached(str(address[0]))
    if found.is_link_local or any(found in network for network in METADATA):
        raise UriError(
            Code.URI_NOT_ALLOWED, "its host is a link-local address or that of a metadata service"
        )
    return socket.socket(family, kind, protocol)


def _socket_to_others(info: aiohttp.AddrInfoType) -> socket.socket:
    found = reached(str(info[4][0]))
    if found.is_loopback or found.is_unspecified:  # the latter, too, reaches this machine
        raise UriError(
            Code.URI_NOT_ALLOWED,
            "its host is this machine itself, which a remote input must not name",
        )
    return _socket(info)


def reached(address: str) -> Address:
    """The address that a packet comes to: the IPv4 one within an IPv6 one, if there is one."""
    found = ipaddress.ip_address(address)
    if isinstance(found, ipaddress.IPv6Address):
        if found in NAT64:
            return ipaddress.IPv4Address(int(found) & 0xFFFFFFFF)
        return found.ipv4_mapped or found.sixtofour or found
    return found
