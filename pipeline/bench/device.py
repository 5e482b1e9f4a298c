"""The device that is measured: what it is, how it rounds, and how fast it multiplies."""

from __future__ import annotations

import contextlib
import os
import platform
import time
from collections.abc import Iterator
from pathlib import Path

import torch

TRIES = 10


def name(device: str) -> str:
    """The GPU if it is one, and the CPU with its number of cores."""
    gpu = f"{torch.cuda.get_device_name()}; " if device == "cuda" else ""
    return f"{gpu}{cpu()}, {os.cpu_count()} cores"


def cpu() -> str:
    """The processor's name, as well as the system knows it."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def synchronize(device: str) -> None:
    """Wait for all that the device was given to do."""
    if device == "cuda":
        torch.cuda.synchronize()


@contextlib.contextmanager
def tf32(convolutions: bool, products: bool) -> Iterator[None]:
    """Whether a GPU may round the operands of float32 to 10 bits of mantissa, within the block."""
    # the older names, for some of torch's own readers refuse what was set by the newer ones
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    before = cudnn.allow_tf32, matmul.allow_tf32
    cudnn.allow_tf32, matmul.allow_tf32 = convolutions, products
    try:
        yield
    finally:
        cudnn.allow_tf32, matmul.allow_tf32 = before


def rounding(default: bool) -> contextlib.AbstractContextManager[None]:
    """torch's defaults within the block, or else TF32 off."""
    return contextlib.nullcontext() if default else tf32(False, False)


def settings(device: str) -> str:
    """What decides how torch's own convolutions and products are computed."""
    if device == "cpu":
        return f"torch's threads: {torch.get_num_threads()}"
    words = {True: "on", False: "off"}
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    return (
        f"torch's default: TF32 {words[cudnn.allow_tf32]} in convolutions, "
        f"{words[matmul.allow_tf32]} in other products; cudnn.benchmark {words[cudnn.benchmark]}"
    )


def peaks(device: str) -> dict[str, float]:
    """TFLOP/s of the best of a few products of two large square matrices, by arithmetic."""
    if device == "cpu":
        return {"fp32": _peak(device, torch.float32, 2048)}
    found = {"fp16": _peak(device, torch.float16, 8192)}
    for arithmetic in ("tf32", "fp32"):
        with tf32(convolutions=False, products=arithmetic == "tf32"):
            found[arithmetic] = _peak(device, torch.float32, 8192)
    return found


def _peak(device: str, dtype: torch.dtype, side: int) -> float:
    a, b = torch.randn(2, side, side, device=device).to(dtype)
    best = float("inf")
    for _ in range(TRIES):
        synchronize(device)
        started = time.perf_counter()
        torch.matmul(a, b)
        synchronize(device)
        best = min(best, time.perf_counter() - started)
    return 2 * side**3 / best / 1e12
