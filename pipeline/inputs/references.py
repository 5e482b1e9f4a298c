"""The URI that a row of a table means, and why it may not be what its writer meant."""

from __future__ import annotations

import hashlib
import re

from pipeline.inputs.access import URI_BYTES, WEB
from pipeline.store import urls

# a URI with a scheme, alone in quotes or after blanks: no scheme begins so
WRAPPED = re.compile(
    r"""\s*(["'])([a-z][a-z0-9+.-]*://.*)\1\s*|\s+([a-z][a-z0-9+.-]*://.*)""", re.I
)
HINTS = (
    (re.compile(r"\s\Z"), "the URI ends in a space or a line break"),
    (re.compile(r"""(\A|/)(["']).*\2\s*\Z"""), "the name is in quotes"),
    (re.compile(r"\\"), "the URI has backslashes; here names are separated by /"),
    (
        re.compile(r"\.(tar|tar\.gz|tgz|zip|parquet|arrow|feather|lance)#|#t=\d+\.\d+\Z", re.I),
        "rows name files; to read the images in an archive, table or video, give that as --input",
    ),
    (re.compile(r"/#"), "a name begins with #; comments of a text list begin with # and a space"),
)


def absolute(text: str | None, folder: str) -> str:
    """The URI of a row, as the manifest has it; empty where the row has none.

    Quotes and blanks around a URI with a scheme are left out, and blanks at the end of one of the
    web: there they can be nothing else. A key of a bucket and a file may well end in a blank, or
    be in quotes, so a name is taken as it stands.

    Args:
        text: of the row.
        folder: URL of the table's, at which relative rows start.
    """
    uri = text or ""  # a row without URI stays a row: it ends as an error, not as an absence
    if wrapped := WRAPPED.fullmatch(uri):
        uri = wrapped[2] or wrapped[3]
    if urls.protocol(uri) in WEB:
        uri = uri.rstrip()
    if uri and "://" not in uri and not uri.startswith("/"):
        uri = f"{folder}/{uri}" if urls.protocol(folder) == "file" else resolved(folder, uri)
    return shortened(uri)


def shortened(uri: str) -> str:
    """A URI of more than `URI_BYTES` by its start and a digest; others as they are."""
    encoded = uri.encode()
    if len(encoded) <= URI_BYTES:
        return uri
    # still too long to be read, and like no other
    start = encoded[:URI_BYTES].decode(errors="ignore")
    return f"{start}...sha256:{hashlib.sha256(encoded).hexdigest()}"


def resolved(folder: str, relative: str) -> str:
    """Without the dot segments of the relative part, as RFC 3986, section 5.2.4, has it.

    On a disk the system does that, which knows the links among the folders.
    """
    scheme, _, rest = folder.partition("://")
    authority, *parts = rest.split("/")
    query = ""
    if scheme in WEB:
        path = re.split(r"[?#]", relative, maxsplit=1)[0]
        relative, query = path, relative[len(path) :]
    names = relative.split("/")
    for name in names:
        if name == "..":
            del parts[-1:]
        elif name != ".":
            parts.append(name)
    if names[-1] in (".", ".."):
        parts.append("")
    return f"{scheme}://{'/'.join((authority, *parts))}{query}"


def hint(uri: str) -> str:
    """What is odd about a URI at which there is nothing, in parentheses; empty if nothing is."""
    found = "; ".join(words for pattern, words in HINTS if pattern.search(uri))
    return f" ({found})" if found else ""
