"""What a model of the time said before anything was measured, to be shown beside what is.

For each kernel the model takes the longest of 2.5 microseconds, its bytes at 85 % of the memory's
speed and its operations at 60 % of the peak; micro-batches of 8 at 800x1088.
"""

from __future__ import annotations

# by the word that tells a device's name, then by stage and row
PREDICTED: dict[str, dict[tuple[str, str], str]] = {
    "H200": {
        ("card", "copy, read and write"): "3,655",
        ("card", "peak fp16"): "790",
        ("card", "peak tf32"): "400",
        ("card", "peak fp32"): "50",
        ("rates", "loop"): "75-100",
        ("rates", "fp32 plain"): "161",
        ("rates", "fp16 plain"): "300",
        ("rates", "fp32 kernels"): "266",
        ("rates", "fp16 kernels"): "541",
        ("rates", "fp32 kernels+graphs"): "266",
        ("rates", "fp16 kernels+graphs"): "541",
        ("profile", "fp32 plain"): "50 ms",
        ("profile", "fp16 plain"): "27 ms",
        ("profile", "fp16 kernels+graphs"): "15 ms",
    },
    "H100": {
        ("card", "copy, read and write"): "2,550",
        ("card", "peak fp16"): "790",
        ("card", "peak tf32"): "400",
        ("card", "peak fp32"): "50",
        ("rates", "loop"): "75-100",
        ("rates", "fp32 plain"): "137",
        ("rates", "fp16 plain"): "248",
        ("rates", "fp32 kernels"): "255",
        ("rates", "fp16 kernels"): "511",
        ("rates", "fp32 kernels+graphs"): "255",
        ("rates", "fp16 kernels+graphs"): "511",
        ("profile", "fp32 plain"): "58 ms",
        ("profile", "fp16 plain"): "32 ms",
        ("profile", "fp16 kernels+graphs"): "16 ms",
    },
}


def predicted(stage: str, what: str, device: str) -> str | None:
    """The prediction for a row, if there is one for that device."""
    for word, rows in PREDICTED.items():
        if word in device:
            return rows.get((stage, what))
    return None
