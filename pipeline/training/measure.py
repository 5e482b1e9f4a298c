"""AP of the network on the images that are held out, as `jobs.evaluate` measures it."""

from __future__ import annotations

import logging
from collections.abc import Callable

import numpy as np
import torch
from torch import nn
from torch.nn.utils import parameters_to_vector, vector_to_parameters
from torchvision.models.detection import FasterRCNN

from pipeline import words
from pipeline.config import Config
from pipeline.labels.evaluate import Evaluation, evaluate
from pipeline.labels.match import FOUND, Matched
from pipeline.labels.truth import Truth
from pipeline.training import pixels
from pipeline.training.pixels import Image

log = logging.getLogger(__name__)


def share_buffers(model: nn.Module, gather: Callable[[np.ndarray], list[np.ndarray]]) -> None:
    """Give a process the buffers of rank 0, which the checkpoint has.

    Without that, the statistics of each process are of its own last batch.

    Args:
        model: of this process.
        gather: what each process gives, in the order of their ranks.
    """
    buffers = [buffer for buffer in model.buffers() if buffer.is_floating_point()]
    mine = parameters_to_vector(buffers)
    first = torch.tensor(gather(mine.cpu().numpy())[0])
    vector_to_parameters(first.to(mine.device), buffers)


def detections(
    model: FasterRCNN,
    images: dict[int, Image],
    category_ids: np.ndarray,
    config: Config,
    device: torch.device,
) -> np.ndarray:
    """What the network finds, each image alone.

    Args:
        model: on the device; is in eval mode then.
        images: by their places in the truth.
        category_ids: [classes] int64, the truth's id of each label, -1 where it has none.
        config: how images are read.
        device: of the model.

    Returns:
        [n] of dtype `FOUND`.
    """
    model.eval()
    parts = [np.empty(0, FOUND)]
    read = pixels.read_many(config, images.values())
    for (place, image), content in zip(images.items(), read, strict=True):
        if isinstance(content, str):
            shown = words.printable(image.uri, 200)
            log.warning(
                "%s can no longer be read, counted as an image with nothing found: %s",
                shown,
                content,
            )
            continue
        tensor = torch.tensor(content).to(device).permute(2, 0, 1).float() / 255
        model.roi_heads.box_roi_pool.scales = None  # which torchvision keeps from the first image
        with torch.inference_mode():
            (found,) = model([tensor])
        part = np.empty(len(found["scores"]), FOUND)
        part["place"], part["score"] = place, found["scores"].cpu().numpy()
        part["xyxy"] = found["boxes"].cpu().numpy()
        part["category"] = category_ids[found["labels"].cpu().numpy()]
        parts.append(part[part["category"] >= 0])
    return np.concatenate(parts)


def measured(
    truth: Truth, found: np.ndarray, gather: Callable[[np.ndarray], list[np.ndarray]]
) -> Evaluation:
    """
    Args:
        truth: of the images that are held out.
        found: of this process.
        gather: gives what all of them found.
    """
    matched = Matched(truth, True)
    every = np.concatenate(gather(found))
    # whoever found it: of equal scores the first one counts
    matched.found = every[np.argsort(every["place"], kind="stable")]
    return evaluate(truth, matched)
