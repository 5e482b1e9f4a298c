"""The steps of a forward that are computed one way on a CPU and another way on a GPU."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from pipeline.network import kernels, nms, roi_align, steps


@dataclass(frozen=True)
class Ways:
    """One way for each of these steps; as it stands, in torch's own operations.

    Attributes:
        transform, convolution, linear, max_pool: see `steps`.
        best_at_once: non-maximum suppression without waiting for the device; see `nms`.
        roi_align: RoIAlign, each box on its own map; see `roi_align`.
        graphs: whether all behind the transform is recorded once, and replayed; on a GPU only, and
            only with a `roi_align` that takes nothing from the host.
    """

    transform: Callable[..., None] = steps.transform
    convolution: Callable[..., Tensor] = steps.convolution
    linear: Callable[..., Tensor] = steps.linear
    max_pool: Callable[[Tensor], Tensor] = steps.max_pool
    best_at_once: Callable[..., tuple[Tensor, Tensor, Tensor]] = nms.best_at_once
    roi_align: Callable[..., Tensor] = roi_align.roi_align
    graphs: bool = False


PLAIN = Ways()
# by kernels of our own, and by cuDNN's fused ones
KERNELS = Ways(
    kernels.transform,
    kernels.convolution,
    kernels.linear,
    kernels.max_pool,
    kernels.best_at_once,
    kernels.roi_align,
    graphs=True,
)
