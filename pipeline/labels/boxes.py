"""The detections of many images as flat arrays, so that choosing among a million is quick."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

COLUMNS = ("image_id", "image_uri", "width", "height", "detections")


@dataclass(frozen=True)
class Image:
    """One image and the detections that are kept of it.

    Attributes:
        image_id: of the run.
        uri: of the image.
        width, height: in pixels, upright.
        classes: [n] int, place in `Classes.names`.
        scores: [n] float32, highest first.
        xyxy: [n, 4] float32, pixels of the upright image.
        frame: place in its video; -1 where it is none's, or that was not read.
    """

    image_id: int
    uri: str
    width: int
    height: int
    classes: np.ndarray
    scores: np.ndarray
    xyxy: np.ndarray
    frame: int = -1


@dataclass(frozen=True)
class BoxBatch:
    """The detections of n images, m in all.

    Attributes:
        ids: [n] int64.
        uris: [n].
        sizes: [n, 2] int64, width and height.
        starts: [n + 1] int64; image i has the detections starts[i] to starts[i + 1] - 1.
        labels: [m] int64, the model's label ids, or places in `Classes.names` once chosen.
        scores: [m] float32, highest first within an image.
        xyxy: [m, 4] float32, pixels of the upright image.
        frames: [n] int64, see `Image.frame`; None where they were not read.
    """

    ids: np.ndarray
    uris: list[str]
    sizes: np.ndarray
    starts: np.ndarray
    labels: np.ndarray
    scores: np.ndarray
    xyxy: np.ndarray
    frames: np.ndarray | None = None

    @property
    def owners(self) -> np.ndarray:
        """[m] the image, 0 to n - 1, that each detection belongs to."""
        return np.repeat(np.arange(len(self.ids)), np.diff(self.starts))

    def keep(self, chosen: np.ndarray, labels: np.ndarray) -> BoxBatch:
        """The same images with some of their detections.

        Args:
            chosen: [m] bool.
            labels: [m] new labels.
        """
        before = np.concatenate([[0], np.cumsum(chosen)])
        return BoxBatch(
            self.ids,
            self.uris,
            self.sizes,
            before[self.starts],
            labels[chosen],
            self.scores[chosen],
            self.xyxy[chosen],
            self.frames,
        )

    def image(self, i: int) -> Image:
        """One of them, once the labels are places in `Classes.names`."""
        span = slice(self.starts[i], self.starts[i + 1])
        width, height = self.sizes[i].tolist()
        return Image(
            int(self.ids[i]),
            self.uris[i],
            width,
            height,
            self.labels[span],
            self.scores[span],
            self.xyxy[span],
            -1 if self.frames is None else int(self.frames[i]),
        )

    def images(self) -> Iterator[Image]:
        """One by one."""
        return map(self.image, range(len(self.ids)))


def from_table(table: pa.Table) -> BoxBatch:
    """The detections of rows with status ok, which have `COLUMNS`, and `frame_index` or not.

    A missing size becomes 0.
    """
    lists = table["detections"].combine_chunks()
    values = lists.flatten()
    lengths = lists.value_lengths().to_numpy(zero_copy_only=False)
    sizes = [pc.fill_null(table[name], 0).to_numpy() for name in ("width", "height")]
    has_frames = "frame_index" in table.column_names
    frames = pc.fill_null(table["frame_index"], -1).to_numpy() if has_frames else None
    corners = [values.field(name).to_numpy() for name in ("xmin", "ymin", "xmax", "ymax")]
    return BoxBatch(
        ids=table["image_id"].to_numpy(),
        uris=table["image_uri"].to_pylist(),
        sizes=np.stack(sizes, 1).astype(np.int64),
        starts=np.concatenate([[0], np.cumsum(lengths)]),
        labels=values.field("label_id").to_numpy().astype(np.int64),
        scores=values.field("score").to_numpy(),
        xyxy=np.stack(corners, 1).reshape(-1, 4),
        frames=frames,
    )
