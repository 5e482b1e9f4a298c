"""The libtiff inside Pillow: its voice, and what it was built without."""

from __future__ import annotations

import contextlib
import ctypes
import functools

from PIL import _imaging


def silence() -> None:
    """No line of libtiff's on stderr; the row of an image has its error."""
    with contextlib.suppress(OSError, AttributeError):  # a build that shows no such function
        set_handler = _library().TIFFSetErrorHandler
        set_handler.argtypes, set_handler.restype = [ctypes.c_void_p], ctypes.c_void_p
        set_handler(None)


def can_decode(compression: int) -> bool:
    """Whether there is a codec of that number; True where libtiff cannot be asked."""
    try:
        return bool(_library().TIFFIsCODECConfigured(ctypes.c_uint16(compression)))
    except (OSError, AttributeError):
        return True


@functools.cache
def _library() -> ctypes.CDLL:
    # it is bundled under a name of its own; the loader finds it from what was linked to it
    return ctypes.CDLL(_imaging.__file__)
