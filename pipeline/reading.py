"""How what others own is read: headers for web servers, options of S3."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pipeline.errors import UsageError, nearest

# headers that any server may be sent and anyone may see; what is not here may be a secret
PUBLIC_HEADERS = {"User-Agent", "Referer", "Origin", "From", "Accept", "Accept-Language"}
HEADER_NAME = re.compile(r"[\w!#$%&'*+.^`|~-]+", re.ASCII)
# those of s3fs that decide how objects are read; credentials are never options
S3_OPTIONS: dict[str, type] = {
    "anon": bool,
    "requester_pays": bool,
    "use_ssl": bool,
    "endpoint_url": str,
    "profile": str,
}
CREDENTIALS = re.compile("key|secret|token|password|username", re.IGNORECASE)
TRUTH = {"true": True, "false": False}


@dataclass(frozen=True)
class Reading:
    """How an input, its images, weights and class names are read, beside what their URLs say.

    Attributes:
        http_headers: name to value of what every web server is sent; and origin, such as
            `https://host`, to such a mapping, sent to that origin alone, which may be secret.
        s3_options: some of s3fs, of `S3_OPTIONS`.
    """

    http_headers: Mapping[str, Any] = field(default_factory=dict, repr=False)
    s3_options: Mapping[str, Any] = field(default_factory=dict)


def checked_headers(value: Any) -> dict[str, Any]:
    """The headers with their names and origins in one spelling; see `Reading`.

    Raises:
        UsageError: they are none, or one that may be a secret would be sent to every server. The
            line has no value of theirs.
    """
    checked: dict[str, Any] = {}
    for name, content in _mapping("http_headers", value).items():
        if "://" in name:
            inner = _mapping(f"http_headers of {_origin(name)}", content)
            headers = dict(_header(*header) for header in inner.items())
            checked.setdefault(_origin(name), {}).update(headers)
            continue
        known, text = _header(name, content)
        if known not in PUBLIC_HEADERS:
            raise UsageError(
                f"http_headers: {known} may be a secret, which others can see on a command line, "
                "and every server that a table names would get it: in a --config file, put it "
                f"below its server, `http_headers: {{https://HOST: {{{known}: ...}}}}`"
            )
        checked[known] = text
    return checked


def _header(name: str, value: Any) -> tuple[str, str]:
    if not HEADER_NAME.fullmatch(name):
        raise UsageError("http_headers must be `Name: value`; one has no valid name")
    if not isinstance(value, str) or not value.strip() or not value.isprintable():
        raise UsageError(f"http_headers: the value of {name} must be a line of text")
    return name.title(), value.strip()


def _origin(url: str) -> str:
    import yarl  # late: the network is used where nothing is installed that reads from the web

    try:
        server = yarl.URL(url)
        if server.scheme in ("http", "https") and server == server.origin():
            return str(server.origin())
    except ValueError:  # that of a port, for instance
        pass
    raise UsageError("http_headers: a server is written https://HOST or https://HOST:PORT")


def checked_s3(value: Any) -> dict[str, Any]:
    """The options of S3, each of its type.

    Raises:
        UsageError: one is unknown, a credential, or of another type.
    """
    checked: dict[str, Any] = {}
    for name, given in _mapping("s3_options", value).items():
        if CREDENTIALS.search(name):
            raise UsageError(
                f"s3_options: {name} looks like a credential; give it in the AWS environment or "
                "profile instead"
            )
        if name not in S3_OPTIONS:
            known = ", ".join(S3_OPTIONS)
            raise UsageError(f"s3_options has an unknown name {nearest(name, S3_OPTIONS)}: {known}")
        if S3_OPTIONS[name] is bool:
            given = TRUTH.get(str(given).lower())
            if given is None:
                raise UsageError(f"s3_options: {name} must be true or false")
        elif not isinstance(given, str) or not given:
            raise UsageError(f"s3_options: {name} must be text")
        if name == "endpoint_url" and "@" in given:
            raise UsageError(
                "s3_options: endpoint_url holds credentials; give them in the AWS environment or "
                "profile instead"
            )
        checked[name] = given
    return checked


def _mapping(what: str, value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping) or not all(isinstance(name, str) for name in value):
        raise UsageError(f"{what} must hold `name: value` lines")
    return value


def shown(headers: Mapping[str, Any]) -> dict[str, Any]:
    """What may be recorded of headers: of those for one origin, the names."""
    return {name: v if isinstance(v, str) else sorted(v) for name, v in headers.items()}


def recorded(config: Mapping[str, Any]) -> Reading:
    """How a run read, by its record, without what was secret."""
    headers = {n: v for n, v in config.get("http_headers", {}).items() if isinstance(v, str)}
    return Reading(headers, config.get("s3_options", {}))
