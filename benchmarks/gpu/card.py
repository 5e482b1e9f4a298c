"""What the device is: versions, memory's speed, peaks, and how it rounds to TF32."""

from __future__ import annotations

import platform
import shutil
import subprocess
import time

import torch
import torch.nn.functional as F
import torchvision

from benchmarks.gpu.record import Record
from benchmarks.gpu.scene import Scene
from pipeline.bench import device

COPIES = 10
# between two numbers of 10 bits of mantissa, nearer to the upper one
STEP, ABOVE = 2.0**-10, 0.75


def run(record: Record) -> None:
    scene = Scene(record.asked)
    record.say("device", note=device.name(scene.where))
    record.say(
        "versions",
        note=f"Python {platform.python_version()}, torch {torch.__version__}, "
        f"torchvision {torchvision.__version__}",
    )
    record.say("settings", note=device.settings(scene.where))
    if scene.gpu:
        cudnn = torch.backends.cudnn.version()
        record.say("driver", note=f"{_driver()}, CUDA {torch.version.cuda}, cuDNN {cudnn}")
        properties = torch.cuda.get_device_properties(0)
        record.say("memory", value=properties.total_memory / 1e9, unit="GB")
        record.say("multiprocessors", value=properties.multi_processor_count, unit="")
    record.say("copy, read and write", value=_bandwidth(scene), unit="GB/s")
    for arithmetic, peak in device.peaks(scene.where).items():
        record.say(f"peak {arithmetic}", value=peak, unit="TFLOP/s")
    if not scene.gpu:
        record.say("TF32", note="needs a GPU")
        return
    for name, rounded in _rounding(scene).items():
        record.say(f"TF32 {name}", note=f"rounds {rounded}")


def _driver() -> str | None:
    program = shutil.which("nvidia-smi")
    if not program:
        return None
    command = [program, "--query-gpu=driver_version", "--format=csv,noheader"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=20)
    return done.stdout.strip() or None


def _bandwidth(scene: Scene) -> float:
    """GB/s of copying a large tensor, what is read and what is written."""
    x = torch.empty(2**25 if scene.tiny else 2**30, dtype=torch.uint8, device=scene.where)
    y = torch.empty_like(x)
    y.copy_(x)
    scene.synchronize()
    started = time.perf_counter()
    for _ in range(COPIES):
        y.copy_(x)
    scene.synchronize()
    return 2 * COPIES * x.numel() / (time.perf_counter() - started) / 1e9


def _rounding(scene: Scene) -> dict[str, str]:
    """What becomes of operands of float32, by kind of product: each a product with one."""
    value = 1 + ABOVE * STEP
    found = {}
    with device.tf32(True, True):
        for side in (1, 3):
            x = torch.full((2, 64, 32, 32), value, device=scene.where)
            weight = torch.zeros(64, 64, side, side, device=scene.where)
            weight[:, :, side // 2, side // 2] = torch.eye(64)
            x, weight = (z.to(memory_format=torch.channels_last) for z in (x, weight))
            y = F.conv2d(x, weight, padding=side // 2)
            found[f"convolution {side}x{side}"] = _rounded(y[0, 0, 5, 5].item())
        y = torch.full((64, 64), value, device=scene.where) @ torch.eye(64, device=scene.where)
        found["matrix product"] = _rounded(y[0, 0].item())
    return found


def _rounded(value: float) -> str:
    steps = (value - 1) / STEP
    names = {1.0: "to the nearest", 0.0: "by cutting off", ABOVE: "not at all"}
    return names.get(steps, f"{ABOVE} to {steps}")
