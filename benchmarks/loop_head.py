"""A network of which the predictor alone is trained: all before it is computed once an image."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor
from torchvision.models.detection.roi_heads import fastrcnn_loss
from torchvision.models.detection.transform import resize_boxes
from torchvision.ops import box_iou, clip_boxes_to_image

from pipeline.config import Config
from pipeline.labels import boxes
from pipeline.labels.boxes import BoxBatch
from pipeline.labels.match import FOUND
from pipeline.labels.review.batch import Batch
from pipeline.labels.truth import Truth
from pipeline.network.contract import Boxes
from pipeline.stages.rows import detections_column
from pipeline.training import pixels
from pipeline.training.pixels import Image

STEPS = 100
IMAGES_A_STEP = 4
LR = 3e-3
WEIGHT_DECAY = 1e-2


@dataclass(frozen=True)
class Frozen:
    """What of an image stays the same while the predictor learns.

    Attributes:
        uri: of it.
        size: height and width in pixels.
        seen: likewise as the network sees it; `proposals` are in these pixels.
        own: number of the RPN's proposals, which stand first; the annotated boxes follow.
        proposals: [p, 4] float32.
        features: [p, 1024] float32, of the box head.
        labels: [p] int64, 0 for background.
        targets: [p, 4] float32, what `bbox_pred` should say.
        xyxy: [n, 4] float64, the annotated boxes in pixels of the image.
        classes: [n] int64, from 0.
    """

    uri: str
    size: tuple[int, int]
    seen: tuple[int, int]
    own: int
    proposals: Tensor
    features: Tensor
    labels: Tensor
    targets: Tensor
    xyxy: np.ndarray
    classes: np.ndarray


@dataclass(frozen=True)
class Detected:
    """Detections of an image, as torchvision's `postprocess_detections` gives them.

    Attributes:
        xyxy: [n, 4] float32, pixels of the image.
        scores: [n] float32, highest first.
        labels: [n] int64, from 1.
        probabilities: [n, classes + 1] float32, of the proposal behind each.
        tightness: [n] float32, IoU with that proposal.
    """

    xyxy: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    probabilities: np.ndarray
    tightness: np.ndarray


@torch.inference_mode()
def freeze(
    model: FasterRCNN, config: Config, truth: Truth, given: Sequence[Image], names: Sequence[str]
) -> list[Frozen]:
    """Trunk, FPN, RPN and box head, once an image; proposals are matched as torchvision's
    `select_training_samples` does, and all of them kept. `names` are of the classes from 0 on.
    """
    heads, found = model.roi_heads, []
    labels_of = {truth.category_ids[name]: k + 1 for k, name in enumerate(names)}
    for place, image in enumerate(pixels.read_many(config, given)):
        if isinstance(image, str):
            raise OSError(f"{given[place].uri}: {image}")
        height, width = image.shape[:2]
        mine = (truth.image_places == place) & ~truth.crowds
        xyxy = truth.xywh[mine].copy()
        xyxy[:, 2:] += xyxy[:, :2]
        xyxy = np.clip(xyxy, 0, [width, height, width, height])
        real = (xyxy[:, 2:] - xyxy[:, :2]).min(1) >= 1
        xyxy, classes = xyxy[real], truth.box_categories[mine][real]
        tensor = torch.tensor(image).permute(2, 0, 1).float() / 255
        boxes_there = torch.tensor(xyxy, dtype=torch.float32)
        labels = torch.tensor([labels_of[k] for k in classes.tolist()], dtype=torch.int64)
        images, targets = model.transform([tensor], [{"boxes": boxes_there, "labels": labels}])
        maps = model.backbone(images.tensors)
        (own,), _ = model.rpn(images, maps)
        seen, there = images.image_sizes[0], targets[0]["boxes"]
        (proposals,) = heads.add_gt_proposals([own], [there])
        (matched,), (assigned,) = heads.assign_targets_to_proposals([proposals], [there], [labels])
        (encoded,) = heads.box_coder.encode([there[matched]], [proposals])
        heads.box_roi_pool.scales = None  # which torchvision keeps from the first image
        features = heads.box_head(heads.box_roi_pool(maps, [proposals], [seen]))
        found.append(
            Frozen(
                given[place].uri,
                (height, width),
                seen,
                len(own),
                proposals,
                features,
                assigned,
                encoded,
                xyxy,
                labels.numpy() - 1,
            )
        )
    return found


def fresh(classes: int, seed: int) -> FastRCNNPredictor:
    """A predictor with torchvision's random weights."""
    torch.manual_seed(seed)
    return FastRCNNPredictor(1024, classes + 1)


def trained(start: FastRCNNPredictor, images: Sequence[Frozen], seed: int) -> FastRCNNPredictor:
    """The predictor after `STEPS` steps of AdamW on torchvision's loss, from `start` on."""
    predictor = copy.deepcopy(start)
    chosen = torch.optim.AdamW(predictor.parameters(), LR, weight_decay=WEIGHT_DECAY)
    rates = torch.optim.lr_scheduler.OneCycleLR(chosen, LR, total_steps=STEPS)
    random = np.random.default_rng(seed)
    order: list[int] = []
    for _ in range(STEPS):
        while len(order) < IMAGES_A_STEP:
            order += random.permutation(len(images)).tolist()
        batch, order = [images[k] for k in order[:IMAGES_A_STEP]], order[IMAGES_A_STEP:]
        logits, deltas = predictor(torch.cat([image.features for image in batch]))
        labels, targets = [i.labels for i in batch], [i.targets for i in batch]
        loss = sum(fastrcnn_loss(logits, deltas, labels, targets))
        chosen.zero_grad(set_to_none=True)
        loss.backward()
        chosen.step()
        rates.step()
    return predictor.eval()


@torch.inference_mode()
def detect(model: FasterRCNN, predictor: FastRCNNPredictor, image: Frozen) -> Detected:
    """What the network finds with this predictor."""
    proposals = image.proposals[: image.own]
    logits, deltas = predictor(image.features[: image.own])
    found, scores, labels = (
        kind[0]
        for kind in model.roi_heads.postprocess_detections(
            logits, deltas, [proposals], [image.seen]
        )
    )
    every = logits.softmax(-1)
    # a score is one of these numbers, so that it tells its proposal
    behind = (every[:, labels] - scores).abs().argmin(0)
    tight = box_iou(found, clip_boxes_to_image(proposals[behind], image.seen)).diagonal()
    resized = resize_boxes(found, image.seen, image.size)
    values = (resized, scores, labels, every[behind], tight)
    return Detected(*(value.numpy() for value in values))


def table(images: Sequence[Frozen], found: Sequence[Detected]) -> pa.Table:
    """The rows of an output, of the columns that `pipeline.labels` reads."""
    columns = {
        "image_id": pa.array(range(len(images)), pa.int64()),
        "image_uri": pa.array([image.uri for image in images], pa.string()),
        "width": pa.array([image.size[1] for image in images], pa.int32()),
        "height": pa.array([image.size[0] for image in images], pa.int32()),
        "detections": detections_column([Boxes(d.xyxy, d.labels, d.scores) for d in found], {}),
    }
    return pa.table(columns)


def reviewed(images: Sequence[Frozen], found: Sequence[Detected], threshold: float) -> Batch:
    """What a person who leaves the annotated boxes does to those that are shown."""
    every: BoxBatch = boxes.from_table(table(images, found))
    shown = every.keep(every.scores >= threshold, every.labels - 1)
    owners = np.repeat(np.arange(len(images)), [len(image.classes) for image in images])
    classes = np.concatenate([image.classes for image in images])
    return Batch(shown, owners, classes, np.concatenate([image.xyxy for image in images]))


def as_found(found: Sequence[Detected], truth: Truth, names: Sequence[str]) -> np.ndarray:
    """[n] of dtype `FOUND`, the detections of each image of the truth."""
    ids, parts = [truth.category_ids[name] for name in names], [np.empty(0, FOUND)]
    for place, image in enumerate(found):
        part = np.empty(len(image.scores), FOUND)
        part["place"], part["xyxy"], part["score"] = place, image.xyxy, image.scores
        part["category"] = [ids[label - 1] for label in image.labels.tolist()]
        parts.append(part)
    return np.concatenate(parts)
