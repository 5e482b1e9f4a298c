"""The parts of an image that the network is given, and what it finds in them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipeline.config import Config
from pipeline.network.contract import Boxes
from pipeline.stages.merging import merged
from pipeline.stages.micro_batches import Outcome


@dataclass
class View:
    """A part of an image.

    Attributes:
        outcome: of the image.
        place: [4] int64 x0, y0, x1, y1, where in the image.
        pixels: [height, width, 3] uint8, not copied.
        boxes: what the network finds there, in pixels of the view; None until then.
    """

    outcome: Outcome
    place: np.ndarray
    pixels: np.ndarray
    boxes: Boxes | None = None


def cut(outcome: Outcome, pixels: np.ndarray, config: Config) -> list[View]:
    """The views of a decoded image; a small one, or without `config.tile`, is all of its one.

    Those of a region are the tiles of its image that lie in it; that of an overview is all of it.
    """
    height, width = pixels.shape[:2]
    places = outcome.places(height, width, config)
    return [View(outcome, box, pixels[box[1] : box[3], box[0] : box[2]]) for box in places]


def joined(views: list[View]) -> Boxes | None:
    """The boxes of an image from those of all its views; None where one has none.

    Those of a region stay as they are, one view's after the other's, for its image is not whole.
    """
    found = [view.boxes for view in views if view.boxes is not None]
    if len(found) < len(views):
        return None
    if views[0].outcome.region:
        views[0].outcome.window_boxes = [len(boxes.labels) for boxes in found]
        return Boxes(
            xyxy=np.concatenate([boxes.xyxy for boxes in found]),
            labels=np.concatenate([boxes.labels for boxes in found]),
            scores=np.concatenate([boxes.scores for boxes in found]),
        )
    return found[0] if len(found) == 1 else merged(found, np.stack([view.place for view in views]))
