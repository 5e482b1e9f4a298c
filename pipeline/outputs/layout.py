"""Where things stand below an output's URL."""

from __future__ import annotations

from dataclasses import dataclass

from fsspec import AbstractFileSystem

from pipeline.store import urls


@dataclass(frozen=True)
class Layout:
    """The places below an output URL.

    Attributes:
        url: of the output, without a slash at its end.
        fs: its file system.
        root: the output's path there; all places are paths on `fs`.
    """

    url: str
    fs: AbstractFileSystem
    root: str

    @classmethod
    def of(cls, url: str) -> Layout:
        """
        Raises:
            UsageError: nothing serves the URL's protocol, or it names no folder.
        """
        return cls(url, *urls.filesystem(url))

    @property
    def detections(self) -> str:
        """The folder of the files of detections, one below it for each status."""
        return f"{self.root}/detections"

    def file(self, name: object) -> str:
        """A file of detections, by its `FileName`."""
        return f"{self.detections}/{name}"

    @property
    def run(self) -> str:
        """The folder of what the run knows of itself."""
        return f"{self.root}/_run"

    @property
    def success(self) -> str:
        return f"{self.root}/_SUCCESS"

    @property
    def record(self) -> str:
        return f"{self.run}/run.json"

    @property
    def lease(self) -> str:
        return f"{self.run}/lease.json"

    @property
    def manifest(self) -> str:
        """What is known of the manifest as a whole; there once all of its parts are."""
        return f"{self.run}/manifest.json"

    @property
    def parts(self) -> str:
        """The folder of the manifest's parts."""
        return f"{self.run}/manifest"

    def part(self, number: int) -> str:
        return f"{self.parts}/{self.part_name(number)}"

    @staticmethod
    def part_name(number: int) -> str:
        return f"part-{number:06d}.parquet"

    def seal(self, index: int) -> str:
        """What is known of a slice that is done."""
        return f"{self.run}/slices/{index:05d}.json"

    @property
    def windows(self) -> str:
        """The folder of the outputs of large images' windows, one for each slice at work."""
        return f"{self.run}/windows"

    @property
    def refreshing(self) -> str:
        """What the manifest is being brought up to date with; there as long as that goes on."""
        return f"{self.run}/refreshing"

    @property
    def gone(self) -> str:
        """The images that the input does not hold any more."""
        return f"{self.run}/gone.parquet"

    def url_of(self, path: str) -> str:
        """The URL of one of these places, as a user would write it."""
        return f"{self.url}{path.removeprefix(self.root)}"
