"""How far each precision moves boxes, beside what torchvision's own default on a GPU does.

`python -m benchmarks.precision --weights W --categories NAMES --images DIR --annotations COCO_JSON`

On a CPU, TF32 is emulated: the operands of convolutions are rounded to 10 bits of mantissa, which
is what a GPU's tensor cores do to them, and the sums are float32.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pycocotools.coco import COCO
from torch.overrides import TorchFunctionMode

from benchmarks.compared import average_precision, moved
from pipeline import Config
from pipeline.bench.rows import Eager, Reference
from pipeline.images.decode import decode, read_header
from pipeline.network.contract import Boxes
from pipeline.network.engine import Engine
from pipeline.network.weights import resolve
from pipeline.store import objects


def tf32(x: torch.Tensor) -> torch.Tensor:
    """Rounded to 10 bits of mantissa, halves to even."""
    bits = x.contiguous().view(torch.int32)
    return ((bits + 0xFFF + ((bits >> 13) & 1)) & ~0x1FFF).view(torch.float32)


class Emulated(TorchFunctionMode):
    """torch's convolutions round their operands, while in a `with` block."""

    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: Sequence[type],
        arguments: Sequence[Any] = (),
        keywords: Mapping[str, Any] | None = None,
    ) -> Any:
        # a convolution layer gives both by position
        if function is torch.nn.functional.conv2d:
            x, weight, *others = arguments
            arguments = (tf32(x), tf32(weight), *others)
        return function(*arguments, **(keywords or {}))


def asked() -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", required=True)
    parser.add_argument("--categories", required=True)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--annotations", required=True)
    parser.add_argument(
        "--model", type=json.loads, default={}, help="JSON of the network's keywords"
    )
    return parser.parse_args()


def main() -> None:
    given = asked()
    config = Config(
        input=str(given.images),
        output="none",
        weights=given.weights,
        categories=given.categories,
        model=given.model,
    )
    weights = resolve(config, objects.read)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    threads = torch.get_num_threads()
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(given.annotations)
    ids = sorted(truth.getImgIds())
    pixels = [
        decode(read_header((given.images / entry["file_name"]).read_bytes(), config.max_pixels))
        for entry in truth.loadImgs(ids)
    ]
    ways: dict[str, tuple[Callable[[Sequence[np.ndarray]], list[Boxes]], Any]] = {
        "fp32": (Reference(weights, device), contextlib.nullcontext),
        # on a GPU what torch makes of it there; elsewhere its rounding, emulated
        "TF32": (
            (Eager(weights, device), contextlib.nullcontext)
            if device == "cuda"
            else (Reference(weights, device), Emulated)
        ),
        "engine fp32": (Engine(weights, device, threads, "fp32"), contextlib.nullcontext),
        "engine fp16": (Engine(weights, device, threads, "fp16"), contextlib.nullcontext),
    }
    reference: list[Boxes] | None = None
    print(f"{'':12} {'tight':>7} {'loose':>7} {'score':>9} {'pixels':>9} {'AP':>7} {'AP50':>7}")
    for name, (forward, setting) in ways.items():
        with setting():
            found = [forward([image])[0] for image in pixels]
        reference = reference or found
        moves, ap = moved(found, reference), average_precision(found, ids, truth)
        print(
            f"{name:12} {moves.tight:7.2%} {moves.loose:7.2%} {moves.score_mean:9.2e} "
            f"{moves.corner_mean:9.2e} {ap['AP']:7.4f} {ap['AP50']:7.4f}"
        )


if __name__ == "__main__":
    main()
