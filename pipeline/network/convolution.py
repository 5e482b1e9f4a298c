"""A convolution as inference wants it: batch normalisation folded in, channels last."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import nn

from pipeline.network.winograd import Winograd

# in place: bias [K] float32 and a residual added to a map [N, K, H, W], and max(0, .) if told so
Epilogue = Callable[[torch.Tensor, torch.Tensor, torch.Tensor | None, bool], torch.Tensor]
# the fewer the input channels, the more the transforms weigh beside the products
WINOGRAD_CHANNELS = 128


class Convolution:
    """A convolution, the batch normalisation behind it, and max(0, .) behind that.

    The normalisation is folded into weight and bias in float64. On a CPU, 3x3 convolutions of
    stride 1 in float32 are computed by Winograd's algorithm.

    Args:
        convolution: with its weights, in eval mode.
        norm: what follows it, if anything.
        relu: whether max(0, .) follows, after `residual` if one is added.
        device: where it shall run.
        dtype: what it computes with.
        epilogue: adds bias and residual and takes max(0, .), in one pass over a new map; by default
            that is done in torch's operations.
    """

    def __init__(
        self,
        convolution: nn.Conv2d,
        norm: nn.BatchNorm2d | None,
        relu: bool,
        device: torch.device,
        dtype: torch.dtype = torch.float32,
        epilogue: Epilogue | None = None,
    ) -> None:
        weight, bias = folded(convolution, norm)
        self.stride, self.padding = convolution.stride, convolution.padding
        self.relu, self.epilogue = relu, epilogue
        self.winograd = None
        if (
            device.type == "cpu"
            and dtype == torch.float32
            and weight.shape[1] >= WINOGRAD_CHANNELS
            and (convolution.kernel_size, self.stride, self.padding) == ((3, 3), (1, 1), (1, 1))
        ):
            self.winograd = Winograd(weight, bias, relu)
        else:
            self.weight = weight.to(dtype).to(device, memory_format=torch.channels_last)
            self.bias = bias.to(torch.float32 if epilogue else dtype).to(device)

    def __call__(self, x: torch.Tensor, residual: torch.Tensor | None = None) -> torch.Tensor:
        """[N, C, H, W] to [N, K, H', W'], both of its dtype and channels_last.

        Args:
            x: the input.
            residual: [N, K, H', W'], added to the result, before max(0, .).
        """
        if self.winograd:
            assert residual is None, "only 1x1 convolutions have one"
            return self.winograd(x)
        if self.epilogue:
            y = F.conv2d(x, self.weight, None, self.stride, self.padding)
            return self.epilogue(y, self.bias, residual, self.relu)
        y = F.conv2d(x, self.weight, self.bias, self.stride, self.padding)
        if residual is not None:
            y += residual
        return y.relu_() if self.relu else y


def folded(
    convolution: nn.Conv2d, norm: nn.BatchNorm2d | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Weight [K, C, h, w] and bias [K], float64, of a convolution and its normalisation as one."""
    weight = convolution.weight.detach().double()
    if convolution.bias is None:
        bias = weight.new_zeros(weight.shape[0])
    else:
        bias = convolution.bias.detach().double()
    if norm is not None:
        mean, variance = norm.running_mean, norm.running_var
        assert mean is not None and variance is not None
        gain = norm.weight.detach().double() / (variance.double() + norm.eps).sqrt()
        weight = weight * gain[:, None, None, None]
        bias = norm.bias.detach().double() + (bias - mean.double()) * gain
    return weight, bias
