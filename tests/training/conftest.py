"""What trainings of the tests start from."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support import drawn


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with images/ and truth.json; not to be changed."""
    folder = tmp_path_factory.mktemp("drawn") / "data"
    drawn.draw(folder)
    return folder
