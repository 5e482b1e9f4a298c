"""The best number of images for one forward, and the memory it takes."""

from __future__ import annotations

from benchmarks.gpu.rates import SHAPE, ours
from benchmarks.gpu.record import Record
from benchmarks.gpu.scene import Scene
from benchmarks.gpu.timing import rotate

SIZES, TINY_SIZES = (1, 2, 4, 8, 16, 32), (2,)
FEWER = (4, 8, 16)
SECONDS = 0.4


def run(record: Record) -> None:
    scene = Scene(record.asked)
    weights = scene.wide()
    for variant in scene.few(scene.by_kernels())[::-1]:
        sizes = SIZES if variant.precision == "fp16" else FEWER
        for size in TINY_SIZES if scene.tiny else sizes:
            row = ours(scene, variant, weights, [scene.shaped([SHAPE] * size)])
            row.name = f"{variant.name}, micro-batch {size}"
            for done in rotate(record, scene, [row], SECONDS):
                record.say(
                    done.name,
                    rate=done.rate,
                    least=min(done.rates),
                    most=max(done.rates),
                    peak=done.peak,
                    held=done.held,
                )
