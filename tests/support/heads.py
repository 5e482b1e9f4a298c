"""A Ray head as `ray start` makes it, on this machine."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from tests.support.chaos import kill
from tests.support.seaweed import free_port

START_SECONDS = 120


@contextlib.contextmanager
def head(environment: Mapping[str, str], port: int, *flags: str) -> Iterator[int]:
    """The head's process, for as long as the block; all that it has started ends with it.

    Its files lie in a folder of their own, with the short name that sockets want: Ray's usual one
    would be joined by every `ray.init()` on this machine.

    Args:
        environment: of the head.
        port: of its control service.
        flags: more of them for `ray start`.
    """
    ports = {
        name: free_port() for name in ("ray-client-server-port", "dashboard-agent-listen-port")
    }
    ports["port"] = port
    with tempfile.TemporaryDirectory(
        prefix="ray", dir="/tmp", ignore_cleanup_errors=True
    ) as temporary:
        said = Path(temporary, "said")
        with said.open("wb") as file:
            process = subprocess.Popen(
                [
                    Path(sys.executable).parent / "ray",
                    "start",
                    "--head",
                    "--block",
                    "--disable-usage-stats",
                    f"--temp-dir={temporary}",
                    *(f"--{name}={number}" for name, number in ports.items()),
                    *flags,
                ],
                env=environment,
                stdout=file,
                stderr=file,
            )
        try:
            deadline = time.monotonic() + START_SECONDS
            while "block forever" not in said.read_text():
                assert process.poll() is None and time.monotonic() < deadline, said.read_text()
                time.sleep(0.1)
            yield process.pid
        finally:
            kill(process.pid)
            process.wait()
