"""What the tests of several pages share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser

from tests.support import pages


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with pages.launched() as started:
        yield started
