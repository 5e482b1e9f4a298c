"""Text in XML 1.0, which cannot hold every character."""

from __future__ import annotations

import re
from xml.sax import saxutils

INVALID = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def valid(text: str) -> str:
    """`text` with U+FFFD where XML knows no such character."""
    return INVALID.sub("\ufffd", text)


def escape(text: str) -> str:
    """`text` as the content of an element."""
    return saxutils.escape(valid(text), {"\r": "&#13;"})


def quote(text: str) -> str:
    """`text` as an attribute's value, its quotes included."""
    return saxutils.quoteattr(valid(text))
