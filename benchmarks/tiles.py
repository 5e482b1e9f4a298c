"""What tiles find on large images made of small ones, by which rule of merging, and beside SAHI.

`python -m benchmarks.tiles WHAT --weights W --images DIR --annotations COCO_JSON --model JSON`

WHAT is `mosaics` (AP of rules of merging), `planted` (share of objects that are found on an empty
picture), `sahi` (agreement and time; needs `pip install sahi`, best in an environment of its own),
or `cost` (time of a merge; needs no weights).
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import tile_mosaics, tile_rules
from benchmarks.tile_mosaics import Truth, found_in, mosaics, pictures
from pipeline import Config
from pipeline.bench.matching import iou, match
from pipeline.images import tiling
from pipeline.network.build import build
from pipeline.network.contract import Boxes, Weights
from pipeline.network.engine import Engine
from pipeline.network.weights import resolve
from pipeline.stages.merging import merged
from pipeline.store import objects

SURE = 0.5  # score from which a planted object counts as found


def planted(given: argparse.Namespace) -> tuple[np.ndarray, Truth]:
    """Cut out objects, with what is around them, at random places of a picture in the colour of
    the background.
    """
    random = np.random.default_rng(0)
    patches = [
        (pixels[max(0, y - m) : y + h + m, max(0, x - m) : x + w + m], label, (x, y, w, h), m)
        for pixels, truth in pictures(given)
        for label, box in truth
        for x, y, w, h in [list(map(int, box))]
        for m in [16]
    ]
    colour = np.median(np.concatenate([p.reshape(-1, 3)[::97] for p, *_ in patches]), axis=0)
    size = given.planted
    whole = (colour + random.normal(0, 3, (size, size, 1))).clip(0, 255).astype(np.uint8)
    truth: Truth = []
    cell = 400  # one object in each of so many pixels
    places = random.permutation((size // cell) ** 2)[: given.objects]
    for place in places.tolist():
        patch, label, (x, y, w, h), m = patches[random.integers(len(patches))]
        if max(patch.shape[:2]) > cell:
            continue
        free = cell - np.array(patch.shape[:2])
        top, left = random.integers(0, free + 1) + cell * np.array(divmod(place, size // cell))
        whole[top : top + patch.shape[0], left : left + patch.shape[1]] = patch
        truth.append((label, [float(left + min(m, x)), float(top + min(m, y)), w, h]))
    return whole, truth


def measure_planted(given: argparse.Namespace, weights: Weights) -> None:
    engine = Engine(weights, "cpu", given.threads, "fp32")
    pixels, truth = planted(given)
    labels = np.array([label for label, _ in truth])
    boxes = np.array([[x, y, x + w, y + h] for _, (x, y, w, h) in truth])
    for tile in (None, *given.tile):
        views = tiling.views(given.planted, given.planted, tile, given.overlap[0])
        started, cpu = time.monotonic(), time.process_time()
        parts = found_in(engine, pixels, views)
        all_found = merged(parts, views) if tile else parts[0]
        seconds, cpu = time.monotonic() - started, time.process_time() - cpu
        sure = all_found.scores >= SURE
        same = iou(boxes, all_found.xyxy[sure]) > 0.5
        same &= labels[:, None] == all_found.labels[sure]
        shares = [f"{same[labels == k].any(1).mean():.1%}" for k in np.unique(labels)]
        print(
            f"| {tile or 'off'} | {len(views)} | {same.any(1).mean():.1%} | {' | '.join(shares)} | "
            f"{(~same.any(0)).sum()} | {seconds:.0f} | {cpu:.0f} |",
            flush=True,
        )


def measure_sahi(given: argparse.Namespace, weights: Weights) -> None:
    """The same weights, the same tiles of one mosaic, both in this process, one after the other."""
    import torch
    from sahi.models.torchvision import TorchVisionDetectionModel
    from sahi.predict import get_sliced_prediction

    torch.set_num_threads(given.threads)
    pixels, _ = next(mosaics(given))
    names = {str(k): str(k) for k in range(weights.options["num_classes"])}
    model = TorchVisionDetectionModel(
        model=build(weights.state, weights.options),
        confidence_threshold=0.05,
        category_mapping=names,
        device="cpu",
    )
    engine = Engine(weights, "cpu", given.threads, "fp32")
    tile = given.tile[0]
    height, width = pixels.shape[:2]
    views = tiling.views(height, width, tile, given.overlap[0])

    def sahi() -> Boxes:
        # by itself it takes this rule, too, with a threshold as low as ours
        with torch.inference_mode():
            result = get_sliced_prediction(
                pixels, model, tile, tile, given.overlap[0], given.overlap[0], False, "NMS", "IOU"
            )
        return tile_rules.boxes_of(result.object_prediction_list)

    ways: dict[str, Callable[[], Boxes]] = {
        "SAHI, NMS, IOU": sahi,
        "the same by our engine": lambda: tile_rules.by_nms(
            found_in(engine, pixels, views[1:]), views[1:]
        ),
        "ours": lambda: merged(found_in(engine, pixels, views), views),
    }
    results = {}
    for name, way in ways.items():
        started, cpu = time.monotonic(), time.process_time()
        results[name] = way()
        seconds, cpu = time.monotonic() - started, time.process_time() - cpu
        same = match([results[name]], [results["SAHI, NMS, IOU"]])
        print(
            f"| {name} | {len(results[name].labels)} | {same.tight:.1%} | {same.loose:.1%} | "
            f"{seconds:.1f} | {cpu:.1f} |",
            flush=True,
        )


def measure_cost() -> None:
    for side, number, overlap in ((82_000, 590_000, 0.2), (30_000, 590_000, 0.2)):
        views, parts = tile_rules.made_up(side, number, 1024, overlap)
        given_boxes = sum(len(part.labels) for part in parts)
        started, cpu = time.monotonic(), time.process_time()
        kept = len(merged(parts, views).labels)
        seconds, cpu = time.monotonic() - started, time.process_time() - cpu
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(
            f"| {side:,} | {len(views) - 1:,} | {given_boxes:,} | {kept:,} | {cpu:.1f} | "
            f"{seconds:.1f} | {peak:.0f} |",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("mosaics", "planted", "sahi", "cost"))
    parser.add_argument("--weights")
    parser.add_argument("--images", type=Path)
    parser.add_argument("--annotations")
    parser.add_argument("--model", type=json.loads, default={})
    parser.add_argument("--tile", type=int, nargs="+", default=[640])
    parser.add_argument("--overlap", type=float, nargs="+", default=[Config.tile_overlap])
    parser.add_argument("--mosaics", type=int, default=1000, help="at most")
    parser.add_argument("--cache", type=Path, help="folder for the boxes of mosaics' tiles")
    parser.add_argument("--planted", type=int, default=12_000, help="pixels a side")
    parser.add_argument("--objects", type=int, default=400)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    if given.what == "cost":
        measure_cost()
        return
    config = Config(input="none", output="none", weights=given.weights, model=given.model)
    weights = resolve(config, objects.read)
    measures: dict[str, Callable[[argparse.Namespace, Weights], Any]] = {
        "mosaics": tile_mosaics.measure,
        "planted": measure_planted,
        "sahi": measure_sahi,
    }
    measures[given.what](given, weights)


if __name__ == "__main__":
    main()
