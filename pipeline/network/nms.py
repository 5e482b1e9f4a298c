"""Non-maximum suppression of a micro-batch; on a GPU without waiting for it."""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.ops import batched_nms

# How long a chain of boxes, each overlapping the next, may be until a GPU's result is not trusted.
# Photographs through a trained network had chains of up to 12.
ROUNDS = 32


def best(
    boxes: Tensor, scores: Tensor, groups: Tensor, good: Tensor, threshold: float, limit: int
) -> tuple[Tensor, Tensor, Tensor]:
    """The boxes that torchvision's `batched_nms` keeps, image by image.

    Args:
        boxes: [N, S, K, 4] float32 xyxy, not below 0; S sets that have no group in common.
        scores: [N, S, K] float32.
        groups: [N, S, K] int64; boxes of different groups do not suppress each other.
        good: [N, S, K] bool; the others are as if they were not there.
        threshold: of the IoU above which the box of lower score goes.
        limit: so many of an image's at most.

    Returns:
        [N, limit] int64, indices into S x K, highest score first; [N, limit] bool, whether there
        is one; and [] bool, that this is so.
    """
    boxes, scores, groups, good = (x.flatten(1, 2) for x in (boxes, scores, groups, good))
    index = groups.new_zeros(len(boxes), limit)
    found = good.new_zeros(len(boxes), limit)
    for image, here in enumerate(good):
        candidates = here.nonzero()[:, 0]
        chosen = (x[image, candidates] for x in (boxes, scores, groups))
        kept = candidates[batched_nms(*chosen, threshold)][:limit]
        index[image, : len(kept)] = kept
        found[image, : len(kept)] = True
    return index, found, good.new_ones(())


def best_at_once(
    boxes: Tensor, scores: Tensor, groups: Tensor, good: Tensor, threshold: float, limit: int
) -> tuple[Tensor, Tensor, Tensor]:
    """The same for all images at once, in steps that do not depend on what comes up.

    A box stays if none that stays has a higher score and overlaps it. Asked of all boxes again and
    again, that settles the best box, then at least one more each time; where nothing changes any
    more, all are settled. Groups are told apart as torchvision does on a GPU, by moving each to
    where no other one is.

    Args:
        boxes, scores, groups, good, threshold, limit: as for `best`.

    Returns:
        As `best`; the last is false where so many rounds did not settle all boxes.
    """
    moved, order = apart(boxes, scores, groups, good)
    there = good.gather(2, order)
    # enough to tell none from some, and on a GPU half as long to read
    dtype = torch.float16 if boxes.is_cuda else torch.float32
    overlap = (_iou(moved) > threshold).triu(1).to(dtype)
    kept = before = there
    for _ in range(ROUNDS):
        before = kept
        kept = there & (before[..., None, :].to(dtype) @ overlap == 0)[..., 0, :]
    return *ranked(scores, order, kept, limit), (kept == before).all()


def apart(boxes: Tensor, scores: Tensor, groups: Tensor, good: Tensor) -> tuple[Tensor, Tensor]:
    """Each set's boxes, highest score first and those that are not good last, with each group moved
    to where no other one is; and the order, [N, S, K] int64 places in the set.
    """
    far = boxes.where(good[..., None], 0).amax((1, 2, 3)) + 1
    moved = boxes + (groups * far[:, None, None])[..., None]
    order = scores.where(good, -torch.inf).argsort(dim=-1, descending=True, stable=True)
    return moved.gather(2, order[..., None].expand_as(moved)), order


def ranked(scores: Tensor, order: Tensor, kept: Tensor, limit: int) -> tuple[Tensor, Tensor]:
    """The first two results of `best`, of what is kept of each set in the order of `apart`."""
    found = torch.zeros_like(kept).scatter(2, order, kept).flatten(1)
    ranks = scores.flatten(1).where(found, -torch.inf)
    index = ranks.argsort(dim=-1, descending=True, stable=True)[:, :limit]
    return index, found.gather(1, index)


def _iou(boxes: Tensor) -> Tensor:
    """[..., K, K] of boxes [..., K, 4]; in the order of operations of torchvision's kernel."""
    left, top, right, bottom = boxes.unbind(-1)
    both = _shared(left, right).mul_(_shared(top, bottom))
    area = (right - left) * (bottom - top)
    return both / (area[..., :, None] + area[..., None, :]).sub_(both)


def _shared(start: Tensor, end: Tensor) -> Tensor:
    """[..., K, K], what each two of the intervals [..., K] have in common."""
    last = end[..., :, None].minimum(end[..., None, :])
    return last.sub_(start[..., :, None].maximum(start[..., None, :])).clamp_(min=0)
