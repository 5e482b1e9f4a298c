"""The steps of a forward that can be computed in more than one way, and the way taken."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from pipeline.network import kernels, nms, roi_align
from pipeline.network.convolution import Epilogue


@dataclass(frozen=True)
class Ways:
    """One way for each of these steps; as it stands, the plain ones, in torch's operations.

    Attributes:
        best_at_once: non-maximum suppression without waiting for the device.
        roi_align: RoIAlign, each box on its own map.
        epilogue: what follows a convolution, in one pass; None for one pass each.
    """

    best_at_once: Callable[..., tuple[Tensor, Tensor, Tensor]] = nms.best_at_once
    roi_align: Callable[..., Tensor] = roi_align.roi_align
    epilogue: Epilogue | None = None


PLAIN = Ways()
# by kernels of our own. They have run in Triton's interpreter only: not the default until a GPU has
# shown that they are right and faster there
KERNELS = Ways(kernels.best_at_once, kernels.roi_align, kernels.epilogue)
