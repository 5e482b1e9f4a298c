"""What every reader of images raises."""

from __future__ import annotations

from pipeline.errors import Code


class DecodeError(Exception):
    """An image that cannot be decoded.

    Attributes:
        code: one of `errors.STAGE_CODES["decode"]`.
    """

    def __init__(self, code: Code, message: str) -> None:
        super().__init__(message)
        self.code = code
