"""Where things stand below an output's URL."""

from __future__ import annotations

from dataclasses import dataclass

from fsspec import AbstractFileSystem


@dataclass
class Output:
    """The places below an output URL."""

    url: str
    fs: AbstractFileSystem
    root: str

    @property
    def detections(self) -> str:
        return f"{self.root}/detections"

    @property
    def run(self) -> str:
        return f"{self.root}/_run"

    @property
    def success(self) -> str:
        return f"{self.root}/_SUCCESS"

    @property
    def refreshing(self) -> str:
        """What the manifest is being brought up to date with; there as long as that goes on."""
        return f"{self.run}/refreshing"

    def slice_record(self, index: int) -> str:
        return f"{self.run}/slices/{index:05d}.json"
