"""Steps of the forward in torch's own operations: what runs on a CPU, and without Triton."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def transform(
    pixels: Tensor, out: Tensor, size: tuple[int, int], mean: Tensor, std: Tensor
) -> None:
    """An image normalised, resized and padded, as torchvision's `GeneralizedRCNNTransform` does.

    Args:
        pixels: [h, w, 3] uint8, of an image.
        out: [C, H, W], where it goes, channels beside each other in memory; what is beyond the
            image, and channels beyond the third, become 0.
        size: (height, width) of the image in it.
        mean, std: [3] float32.
    """
    # in place: of 48 megapixels each copy takes 576 MB
    values = pixels.permute(2, 0, 1).float().div_(255)
    normalized = values.sub_(mean[:, None, None]).div_(std[:, None, None])
    out.zero_()
    out[:3, : size[0], : size[1]] = F.interpolate(
        normalized[None], size=size, mode="bilinear", align_corners=False
    )[0]


def convolution(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    residual: Tensor | None,
    relu: bool,
    stride: tuple[int, int],
    padding: tuple[int, int],
) -> Tensor:
    """`relu(conv2d(x) + bias + residual)`.

    Args:
        x: [N, C, H, W].
        weight: [K, C, h, w], of its type, as a residual is.
        bias: [K], float32 or of its type, or none.
        residual: [N, K, H', W'] or smaller, resized then to the nearest; or none.
        relu: whether max(0, .) is the last step.
        stride, padding: of the convolution.

    Returns:
        [N, K, H', W'], of x's type.
    """
    bias = None if bias is None else bias.to(x.dtype)
    y = F.conv2d(x, weight, bias, stride, padding)
    if residual is not None:
        y += resized(residual, y)
    return y.relu_() if relu else y


def resized(x: Tensor, like: Tensor) -> Tensor:
    """[N, C, H, W] in the height and width of another map."""
    if x.shape[2:] == like.shape[2:]:
        return x
    return F.interpolate(x, size=like.shape[2:], mode="nearest")


def linear(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """[P, K] float32 of [P, C], [K, C] of one type and [K] float32, summed up in float32."""
    return F.linear(x.float(), weight.float(), bias)


def max_pool(x: Tensor) -> Tensor:
    """[N, C, H, W] to [N, C, H / 2, W / 2], rounded up: of 3x3 the largest; NaN if one is."""
    return F.max_pool2d(x, kernel_size=3, stride=2, padding=1)
