"""A convolution as inference wants it: batch normalisation folded in, channels last."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pipeline.network.ways import PLAIN, Ways
from pipeline.network.winograd import Winograd

# the fewer the input channels, the more the transforms weigh beside the products
WINOGRAD_CHANNELS = 128


class Convolution:
    """A convolution, and max(0, .) behind it.

    On a CPU, 3x3 convolutions of stride 1 in float32 are computed by Winograd's algorithm.

    Args:
        folded: weight [K, C, h, w] and bias [K], or none; see `folded`.
        convolution: whose stride and padding it has.
        relu: whether max(0, .) follows, after a residual if one is added.
        device: where it shall run.
        dtype: of what it takes, multiplies and gives.
        ways: of the steps for which there are several.
    """

    def __init__(
        self,
        folded: tuple[Tensor, Tensor | None],
        convolution: nn.Conv2d,
        relu: bool,
        device: torch.device,
        dtype: torch.dtype = torch.float32,
        ways: Ways = PLAIN,
    ) -> None:
        weight, bias = folded
        self.stride, self.padding = convolution.stride, convolution.padding
        self.relu, self.ways = relu, ways
        self.winograd = None
        if (
            device.type == "cpu"
            and dtype == torch.float32
            and bias is not None
            and weight.shape[1] >= WINOGRAD_CHANNELS
            and (convolution.kernel_size, self.stride, self.padding) == ((3, 3), (1, 1), (1, 1))
        ):
            self.winograd = Winograd(weight, bias, relu)
            return
        self.weight = weight.to(dtype).to(device, memory_format=torch.channels_last)
        # cuDNN takes max(0, .) along with a bias of the same type alone
        self.bias = None if bias is None else bias.to(device, dtype if relu else torch.float32)

    def __call__(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        """[N, C, H, W] to [N, K, H', W'], both of its dtype and channels_last.

        Args:
            x: the input.
            residual: [N, K, H', W'] of its dtype, or smaller, resized then to the nearest; added to
                the result, before max(0, .).
        """
        if self.winograd:
            assert residual is None, "only 1x1 convolutions have one"
            return self.winograd(x)
        return self.ways.convolution(
            x, self.weight, self.bias, residual, self.relu, self.stride, self.padding
        )


def folded(convolution: nn.Conv2d, norm: nn.BatchNorm2d | None = None) -> tuple[Tensor, Tensor]:
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
