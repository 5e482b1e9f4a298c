"""Detectors that cost no time, for faults and scale."""

from __future__ import annotations

import ctypes
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import ray

from pipeline.network.contract import Boxes, DeviceLost, Weights


class PixelEngine:
    """One box an image, a function of its pixels alone; none for a dark image."""

    name = "fake"
    in_flight = 1

    def __init__(self, weights: Weights, device: str, threads: int, precision: str) -> None:
        self.device = device

    def padded_shape(self, height: int, width: int) -> tuple[int, int]:
        return (-(-height // 32) * 32, -(-width // 32) * 32)

    def __call__(self, images: Sequence[np.ndarray]) -> list[Boxes]:
        return [boxes(image) for image in images]


class MiddleEngine(PixelEngine):
    """`PixelEngine` whose boxes are the middles of images, so that no border cuts one.

    At about 100 images/s.
    """

    def __call__(self, images: Sequence[np.ndarray]) -> list[Boxes]:
        time.sleep(0.01 * len(images))
        return [middle(image) for image in images]


class SlowEngine(PixelEngine):
    """`PixelEngine` at about 50 images/s."""

    def __call__(self, images: Sequence[np.ndarray]) -> list[Boxes]:
        time.sleep(0.02 * len(images))
        return super().__call__(images)


class LoggedEngine(PixelEngine):
    """`PixelEngine` at a given speed; each image it sees is a line in a file of its process.

    Args:
        folder: of these files; a line is the Unix time, the node's id and the tile's number.
        seconds: an image takes.
        slow: number of a tile that takes a minute.
    """

    def __init__(
        self, *of_replica: Any, folder: str, seconds: float, slow: int | None = None
    ) -> None:
        super().__init__(*of_replica)
        self.log = Path(folder) / f"{os.getpid()}.log"
        self.node = ray.get_runtime_context().get_node_id()
        self.seconds = seconds
        self.slow = slow

    def __call__(self, images: Sequence[np.ndarray]) -> list[Boxes]:
        numbers = [tile_number(image) for image in images]
        with self.log.open("a") as log:
            for number in numbers:
                log.write(f"{time.time()} {self.node} {number}\n")
        time.sleep(60 if self.slow in numbers else self.seconds * len(images))
        return super().__call__(images)


class PoisonedEngine(PixelEngine):
    """`PixelEngine` at about 200 images/s, to which something happens at certain tiles.

    Args:
        folder: each time that it happens, a file here gets a line: the tile's number.
        marked: numbers of these tiles.
        fate: what happens; one of the functions below.
    """

    def __init__(
        self, *of_replica: Any, folder: str, marked: Sequence[int], fate: Callable[[], None]
    ) -> None:
        super().__init__(*of_replica)
        self.log = Path(folder) / "fates.log"
        self.marked = set(marked)
        self.fate = fate

    def __call__(self, images: Sequence[np.ndarray]) -> list[Boxes]:
        time.sleep(0.005 * len(images))
        for image in images:
            self.meet(tile_number(image))
        return super().__call__(images)

    def meet(self, number: int) -> None:
        if number in self.marked:
            with self.log.open("a") as log:
                log.write(f"{number}\n")
            self.fate()


class PoisonedDecoder(PoisonedEngine):
    """The same, but it happens while a tile is decoded in the replica."""

    def __init__(self, *of_replica: Any, **poison: Any) -> None:
        super().__init__(*of_replica, **poison)
        from pipeline.stages import micro_batches

        loader: Any = micro_batches
        decode = loader.decode

        def poisoned(header: Any, accept_truncated: float | None) -> np.ndarray:
            pixels: np.ndarray = decode(header, accept_truncated)
            self.meet(tile_number(pixels))
            return pixels

        loader.decode = poisoned

    def __call__(self, images: Sequence[np.ndarray]) -> list[Boxes]:
        return [boxes(image) for image in images]


def end_process() -> None:
    os._exit(1)


def segfault() -> None:
    ctypes.string_at(0)


def hang() -> None:
    time.sleep(10_000)


def lose_device() -> None:
    raise DeviceLost("CUDA error: device-side assert triggered")


class OnceBroken(PoisonedEngine):
    """Loses its device at a marked tile, once; from then on every call in that process fails."""

    broken = False

    def __call__(self, images: Sequence[np.ndarray]) -> list[Boxes]:
        if self.broken:
            lose_device()
        if self.log.exists():
            self.marked = set()
        try:
            return super().__call__(images)
        except DeviceLost:
            self.broken = True
            raise


class Unending(PixelEngine):
    """An engine in a process that does not come to its end when it exits."""

    def __init__(self, *of_replica: Any) -> None:
        super().__init__(*of_replica)
        libc = ctypes.CDLL(None)
        getattr(libc, "__cxa_atexit")(libc.pause, None, None)


class Unbuildable(PixelEngine):
    """An engine whose every start fails."""

    def __init__(self, *of_replica: Any, fate: Callable[[], None]) -> None:
        fate()
        super().__init__(*of_replica)


def no_such_kernel() -> None:
    raise RuntimeError("no kernel image is available for execution on the device")


def tile_number(image: np.ndarray) -> int:
    """The number of a tile of `tests.support.tiles`, by its colour."""
    return int(image[0, 0, 0]) + 251 * int(image[0, 0, 1])


def middle(image: np.ndarray) -> Boxes:
    """The box of `boxes`, of half its sides."""
    found = boxes(image)
    height, width = image.shape[:2]
    inner = np.array([width, height, 3 * width, 3 * height], np.float32) / 4
    return Boxes(np.repeat(inner[None], len(found.labels), axis=0), found.labels, found.scores)


def boxes(image: np.ndarray) -> Boxes:
    height, width = image.shape[:2]
    count = 0 if image.mean() < 1 else 1
    return Boxes(
        xyxy=np.array([[0, 0, width, height]] * count, np.float32).reshape(-1, 4),
        labels=np.ones(count, np.int64),
        scores=np.full(count, image.mean() / 256, np.float32),
    )
