"""What several of these files use: a store that can be disturbed, and what engines say."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.chaos import Nodes
from tests.support.faulty import Proxy


@pytest.fixture(scope="module")
def proxy(s3: Any) -> Iterator[Proxy]:
    """A proxy before the S3 server, to which the AWS environment points."""
    with pytest.MonkeyPatch.context() as patch, Proxy(s3.meta.endpoint_url) as proxy:
        patch.setenv("AWS_ENDPOINT_URL", proxy.url)
        yield proxy


@pytest.fixture
def engine_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder where the engines of this test's runs say what they do."""
    folder = tmp_path / "engines"
    folder.mkdir()
    monkeypatch.setenv("ENGINE_LOG", str(folder))
    return folder


@pytest.fixture
def nodes(proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> Iterator[Nodes]:
    """Two, on which `MiddleEngine` is the network of commands."""
    monkeypatch.setenv("ENGINE_MIDDLE", "1")
    nodes = Nodes(2)
    yield nodes
    nodes.shutdown()
