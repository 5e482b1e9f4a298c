"""What stages measure on: the network's weights, pictures, and the engine's variants."""

from __future__ import annotations

import dataclasses
import gc
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from benchmarks.gpu import folder
from benchmarks.gpu.plan import Asked
from pipeline.bench import device, mix, standin
from pipeline.config import Config
from pipeline.images.decode import decode, read_header
from pipeline.network.contract import Boxes, Weights
from pipeline.network.engine import Engine
from pipeline.network.precision import DTYPES
from pipeline.network.ways import KERNELS, PLAIN, Ways

TINY = {"min_size": 64, "max_size": 96, "rpn_post_nms_top_n_test": 8}
TINY_PICTURES, MADE_UP = 2, 8
# of COCO, with the background
CLASSES = 91
# An untrained head on a trained body, such that of a photograph's boxes some hundreds have a
# sufficient score, as a trained one's have.
HEAD_STD, HEAD_BACKGROUND, HEAD_DELTA_STD = 0.016, 4.0, 0.001
CLASSIFIER, REGRESSOR = "roi_heads.box_predictor.cls_score", "roi_heads.box_predictor.bbox_pred"


@dataclass(frozen=True)
class Variant:
    """A precision and a way to compute it.

    Attributes:
        precision: of the engine's.
        way: its name: `plain`, `kernels` or `kernels+graphs`.
        ways: which that is.
        tf32: of `device.rounding` where it is built and called.
    """

    precision: str
    way: str
    ways: Ways
    tf32: bool = True

    @property
    def name(self) -> str:
        return f"{self.precision} {self.way}{'' if self.tf32 else ', TF32 off'}"

    @property
    def graphs(self) -> bool:
        return self.ways.graphs

    def engine(self, weights: Weights, where: str) -> Engine:
        return Engine(weights, where, torch.get_num_threads(), self.precision, self.ways)


class Scene:
    """
    Args:
        asked: what all stages are told.

    Attributes:
        gpu: whether it is on one.
        micro_batch: images of one forward.
        options: keywords of the network at its default size; of a tiny one, if so asked.
    """

    def __init__(self, asked: Asked) -> None:
        self.asked, self.where, self.tiny = asked, asked.device, asked.tiny
        self.gpu = asked.device == "cuda"
        self.micro_batch = 2 if asked.tiny else 8
        self.options: dict[str, Any] = dict(TINY) if asked.tiny else {}
        if asked.tiny:
            # threads that wait for each other take longest where others are at work, too
            torch.set_num_threads(1)

    # --------------------------------------------------------------------------- weights

    @cached_property
    def _brought(self) -> dict[str, np.ndarray]:
        path = Path(self.asked.bring or "", folder.WEIGHTS)
        state = torch.load(path, map_location="cpu", weights_only=True)
        return {name: x.numpy() for name, x in folder.unpacked(state).items()}

    def trained_options(self) -> dict[str, Any]:
        """Keywords that the brought network was trained for."""
        brought = json.loads(Path(self.asked.bring or "", folder.OPTIONS).read_text())
        return {**brought, **self.options}

    def weights(self, **options: Any) -> Weights:
        """The brought network, else a stand-in, with these keywords."""
        if not self.asked.bring:
            return dataclasses.replace(self._standin(), options={"num_classes": CLASSES, **options})
        return _weights(self._brought, options)

    def wide(self) -> Weights:
        """A network of COCO's number of classes, at the default size."""
        if not self.asked.bring:
            return self.weights(**self.options)
        state = dict(self._brought)
        random = torch.Generator().manual_seed(0)
        width = state[f"{CLASSIFIER}.weight"].shape[1]
        background = torch.zeros(CLASSES)
        background[0] = HEAD_BACKGROUND
        head = {
            f"{CLASSIFIER}.weight": torch.randn(CLASSES, width, generator=random) * HEAD_STD,
            f"{CLASSIFIER}.bias": background,
            f"{REGRESSOR}.weight": torch.randn(4 * CLASSES, width, generator=random)
            * HEAD_DELTA_STD,
            f"{REGRESSOR}.bias": torch.zeros(4 * CLASSES),
        }
        state |= {name: x.numpy() for name, x in head.items()}
        return _weights(state, self.options)

    def _standin(self) -> Weights:
        """Made once for all stages, as that takes a while."""
        path = Path(self.asked.scratch, "standin.pth")
        if path.exists():
            state = {name: x.numpy() for name, x in torch.load(path, weights_only=True).items()}
            return _weights(state, {})
        size = (64, 96) if self.tiny else (480, 640)
        made = standin.weights(self.options, size)
        torch.save({name: torch.tensor(x) for name, x in made.state.items()}, path)
        return made

    # -------------------------------------------------------------------------- pictures

    @cached_property
    def annotations(self) -> list[dict[str, Any]]:
        """Of the brought pictures: COCO's entries, in the order of their ids."""
        path = Path(self.asked.bring or "", folder.ANNOTATIONS)
        entries = sorted(json.loads(path.read_text())["images"], key=lambda entry: entry["id"])
        return entries[:TINY_PICTURES] if self.tiny else entries

    @cached_property
    def pictures(self) -> list[np.ndarray]:
        """The brought ones, else made-up ones, each [height, width, 3] RGB uint8."""
        if not self.asked.bring:
            random = np.random.default_rng(0)
            return [
                mix.picture(640, 480, random)
                for _ in range(TINY_PICTURES if self.tiny else MADE_UP)
            ]
        files = [
            Path(self.asked.bring, folder.PICTURES, Path(entry["file_name"]).name)
            for entry in self.annotations
        ]
        return [decode(read_header(file.read_bytes(), Config.max_pixels)) for file in files]

    def shaped(self, shapes: Sequence[tuple[int, int]]) -> list[np.ndarray]:
        """Pictures resized to each (height, width), one after the other."""
        return [
            np.array(Image.fromarray(self.pictures[i % len(self.pictures)]).resize((width, height)))
            for i, (height, width) in enumerate(shapes)
        ]

    # -------------------------------------------------------------------------- variants

    def variants(self) -> list[Variant]:
        """Every precision in every way that makes sense on the device, slowest way first."""
        ways = {"plain": PLAIN}
        if self.gpu:
            ways["kernels"] = dataclasses.replace(KERNELS, graphs=False)
            ways["kernels+graphs"] = KERNELS
        return [
            Variant(precision, name, which) for precision in DTYPES for name, which in ways.items()
        ]

    def fastest(self) -> list[Variant]:
        """Every precision in the way that should be its fastest."""
        return list({variant.precision: variant for variant in self.variants()}.values())

    def by_kernels(self) -> list[Variant]:
        """Every precision by kernels, with graphs and without; where there are none, plain."""
        return [variant for variant in self.variants() if variant.way != "plain" or not self.gpu]

    def few(self, variants: list[Variant]) -> list[Variant]:
        """All of them, or one where as little as possible is asked for."""
        return variants[-1:] if self.tiny else variants

    def arithmetic(self, precision: str, tf32: bool = True) -> str:
        """Of its products, as `device.peaks` calls it."""
        if not self.gpu:
            return "fp32"
        if precision == "fp32":
            return "tf32" if tf32 else "fp32"
        return "fp16"

    def synchronize(self) -> None:
        device.synchronize(self.where)

    def clear(self) -> None:
        """Give back what the GPU's memory holds for nobody; an engine with graphs is a cycle."""
        gc.collect()
        if self.gpu:
            torch.cuda.empty_cache()


def _weights(state: dict[str, np.ndarray], options: dict[str, Any]) -> Weights:
    classes = len(state[f"{CLASSIFIER}.bias"])
    return Weights("visit", "", True, {}, state, {"num_classes": classes, **options})


def equal(found: Sequence[Boxes], others: Sequence[Boxes]) -> bool:
    """Whether they are the same to the last bit."""
    return all(
        np.array_equal(getattr(ours, name), getattr(theirs, name))
        for ours, theirs in zip(found, others, strict=True)
        for name in ("xyxy", "labels", "scores")
    )
