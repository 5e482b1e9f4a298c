"""Non-maximum suppression against torchvision's, as it is on a GPU."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torchvision.ops.boxes import _batched_nms_coordinate_trick

from pipeline.network import nms


def candidates(n: int, sets: int, k: int, seed: int) -> dict[str, Any]:
    """Crowded boxes of few different scores, some of which do not count."""
    random = torch.Generator().manual_seed(seed)
    corner = torch.rand(n, sets, k, 2, generator=random) * 300
    side = torch.rand(n, sets, k, 2, generator=random) * 80 + 5
    groups = torch.arange(sets)[:, None] * 3 + torch.randint(3, (n, sets, k), generator=random)
    return {
        "boxes": torch.cat((corner, corner + side), -1),
        "scores": torch.randint(1, 40, (n, sets, k), generator=random) / 40,
        "groups": groups,
        "good": torch.rand(n, sets, k, generator=random) < 0.9,
    }


@pytest.mark.parametrize("n,sets,k", [(3, 5, 200), (2, 1, 300), (1, 1, 1), (2, 3, 7)])
@pytest.mark.parametrize("threshold", [0.7, 0.5, 0.1])
def test_both_ways_are_torchvisions(n: int, sets: int, k: int, threshold: float) -> None:
    for seed in range(5):
        given = candidates(n, sets, k, seed)
        for way in (nms.best, nms.best_at_once):
            index, found, settled = way(**given, threshold=threshold, limit=min(150, sets * k))
            assert settled
            for image in range(n):
                boxes, scores, groups, good = (x[image].flatten(0, 1) for x in given.values())
                kept = good.nonzero()[:, 0]
                order = _batched_nms_coordinate_trick(
                    boxes[kept], scores[kept], groups[kept], threshold
                )
                expected = kept[order][:150].tolist()
                assert index[image][found[image]].tolist() == expected
                assert len(expected) == int(found[image].sum())


def test_none_is_good() -> None:
    given = candidates(2, 2, 10, 0)
    given["good"][0] = False
    for way in (nms.best, nms.best_at_once):
        _, found, settled = way(**given, threshold=0.5, limit=5)
        assert settled and not found[0].any() and found[1].any()


@pytest.mark.parametrize("length", [nms.ROUNDS - 1, nms.ROUNDS, nms.ROUNDS + 1, 200])
def test_a_chain_of_overlapping_boxes(length: int) -> None:
    """Each overlaps only its neighbours, so each hangs on the one before it."""
    left = torch.arange(length) * 4.0
    boxes = torch.stack((left, left * 0, left + 10, left * 0 + 10), -1)[None, None]
    given: dict[str, Any] = {
        "boxes": boxes,
        "scores": torch.linspace(1, 0.1, length)[None, None],
        "groups": torch.ones(1, 1, length, dtype=torch.int64),
        "good": torch.ones(1, 1, length, dtype=torch.bool),
        "threshold": 0.3,
        "limit": length,
    }
    index, found, settled = nms.best_at_once(**given)
    assert bool(settled) == (length <= nms.ROUNDS)
    if settled:
        assert index[found].tolist() == list(range(0, length, 2))
    index, found, settled = nms.best(**given)
    assert settled and index[found].tolist() == list(range(0, length, 2))
