"""A store that does not answer for a while."""

from __future__ import annotations

from typing import Any

import pytest
import tenacity
from fsspec import AbstractFileSystem

from pipeline.store import objects


def away_for(fs: AbstractFileSystem, reads: int, patch: pytest.MonkeyPatch) -> None:
    """So many reads of objects fail, and are tried again without a pause."""
    read, errors = fs.cat_file, iter([ConnectionError("away")] * reads)

    def cat_file(*given: Any, **options: Any) -> bytes:
        for error in errors:
            raise error
        return bytes(read(*given, **options))

    patch.setattr(objects, "RETRY_WAIT", tenacity.wait_none())
    patch.setattr(fs, "cat_file", cat_file)
