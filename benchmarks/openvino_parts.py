"""The two heavy parts of the forward on a CPU: torchvision's own, OpenVINO's of it, and ours.

`pip install openvino`, then `python -m benchmarks.openvino_parts`, in a replica's environment:
MALLOC_ARENA_MAX=1 MALLOC_MMAP_THRESHOLD_=1073741824 MALLOC_TRIM_THRESHOLD_=2147483647. Stand-in
weights, a photograph of 640x480 (800x1088 in the network), 1,000 proposals; all in float32.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN

from pipeline.bench import standin
from pipeline.network.build import build
from pipeline.network.engine import Engine

Part = Callable[[Tensor], object]
INPUTS = {"feature maps and RPN head": (1, 3, 800, 1088), "box head": (1000, 256, 7, 7)}


class Maps(nn.Module):
    """Image to feature maps, objectness and deltas."""

    def __init__(self, model: FasterRCNN) -> None:
        super().__init__()
        self.backbone, self.head = model.backbone, model.rpn.head

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        maps = list(self.backbone(x).values())
        objectness, deltas = self.head(maps)
        return (*maps, *objectness, *deltas)


class Heads(nn.Module):
    """Pooled features to class logits and deltas."""

    def __init__(self, model: FasterRCNN) -> None:
        super().__init__()
        self.head, self.predictor = model.roi_heads.box_head, model.roi_heads.box_predictor

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        logits, deltas = self.predictor(self.head(x))
        return logits, deltas


def with_openvino(module: nn.Module, x: Tensor, threads: int) -> Part:
    import openvino

    converted = openvino.convert_model(module, example_input=x, input=[tuple(x.shape)])
    settings = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32"}
    compiled = openvino.compile_model(converted, "CPU", settings)
    return lambda x: compiled(x.numpy())


def with_engine(engine: Engine) -> list[Part]:
    def maps(x: Tensor) -> list[Tensor]:
        maps = engine._pyramid(engine._body(x.contiguous(memory_format=torch.channels_last)))
        for level in range(len(maps)):
            engine._best_anchors(level, maps[level], x.shape[2:])
        return maps

    return [maps, lambda x: engine._box_head(x.contiguous(memory_format=torch.channels_last))]


def seconds(part: Part, x: Tensor) -> float:
    started = time.monotonic()
    part(x)
    return time.monotonic() - started


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    rounds, threads = parser.parse_args().rounds, os.cpu_count() or 1
    try:
        import openvino
    except ImportError:
        sys.exit("benchmarks.openvino_parts: OpenVINO is missing; pip install openvino")
    weights = standin.weights({})
    ours = with_engine(Engine(weights, "cpu", threads, "fp32"))
    model = build(weights.state, weights.options)
    print(f"OpenVINO {openvino.__version__}, torch {torch.__version__}, {threads} threads")
    print("| part | torchvision, s | OpenVINO, s | ours, s | OpenVINO, x | ours, x |")
    print("| --- | --- | --- | --- | --- | --- |")
    modules = (Maps(model).eval(), Heads(model).eval())
    for (name, shape), module, engine in zip(INPUTS.items(), modules, ours, strict=True):
        x = torch.rand(shape)
        ways: list[Part] = [module, with_openvino(module, x, threads), engine]
        turns = [[seconds(way, x) for way in ways] for _ in range(rounds)][1:]
        eager, *others = (statistics.median(way) for way in zip(*turns, strict=True))
        figures = [f"{t:.2f}" for t in (eager, *others)] + [f"{eager / t:.2f}" for t in others]
        print(f"| {name} | {' | '.join(figures)} |")


if __name__ == "__main__":
    main()
