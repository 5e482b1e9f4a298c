"""Network and images can be used where Ray and the clients of stores are not installed."""

from __future__ import annotations

import subprocess
import sys

import pytest

# a finder that comes before Python's own, as if these were not installed
PROGRAM = """
import importlib, pkgutil, sys

class Missing:
    names = {"ray", "tenacity", "s3fs", "fsspec", "aiohttp", "yarl"}

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in self.names:
            raise ImportError(f"{name} is not installed here")

sys.meta_path.insert(0, Missing())
room = importlib.import_module(sys.argv[1])
names = [module.name for module in pkgutil.walk_packages(room.__path__, f"{room.__name__}.")]
for name in names:
    importlib.import_module(name)
print(*names)
"""


@pytest.mark.parametrize(
    "room,one", [("pipeline.network", "engine"), ("pipeline.images", "decode")]
)
def test_a_room_needs_neither_ray_nor_stores(room: str, one: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, room], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert f"{room}.{one}" in done.stdout.split()
