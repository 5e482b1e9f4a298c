"""Convolutions of 3x3 with a quarter of the multiplications, for CPUs."""

from __future__ import annotations

import torch
import torch.nn.functional as F

# F(4x4, 3x3) of Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", 2015: tiles of
# 6x6 input pixels, 4 apart, give 4x4 output pixels each
TILE, STEP = 6, 4
INPUT = torch.tensor(
    [
        [4, 0, -5, 0, 1, 0],
        [0, -4, -4, 1, 1, 0],
        [0, 4, -4, -1, 1, 0],
        [0, -2, -1, 2, 1, 0],
        [0, 2, -1, -2, 1, 0],
        [0, 4, 0, -5, 0, 1],
    ],
    dtype=torch.float64,
)
WEIGHT = torch.tensor(
    [
        [1 / 4, 0, 0],
        [-1 / 6, -1 / 6, -1 / 6],
        [-1 / 6, 1 / 6, -1 / 6],
        [1 / 24, 1 / 12, 1 / 6],
        [1 / 24, -1 / 12, 1 / 6],
        [0, 0, 1],
    ],
    dtype=torch.float64,
)
OUTPUT = torch.tensor(
    [[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]],
    dtype=torch.float64,
)
# tiles that are taken together, so that what lies between the steps stays in the cache
TILES = 512


class Winograd:
    """A convolution of 3x3, stride 1 and padding 1, float32 on the CPU.

    Each step is a batch of matrix products: the transforms are linear, so that of a tile is one
    product with a Kronecker product, vec(B'dB) = (B' (x) B') vec(d). The result differs from that
    of a direct convolution by about 2e-6 of its norm.

    Args:
        weight: [K, C, 3, 3] float64.
        bias: [K] float64.
        relu: whether max(0, .) follows.
    """

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor, relu: bool) -> None:
        k, c, height, width = weight.shape
        tiles = weight.transpose(0, 1).reshape(c * k, height * width)
        self.weight = (torch.kron(WEIGHT, WEIGHT) @ tiles.T).float().view(TILE * TILE, c, k)
        self.bias = bias.float()
        self.input = torch.kron(INPUT, INPUT).float()
        self.output = torch.kron(OUTPUT, OUTPUT).float()
        self.relu = relu

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """[N, C, H, W] to [N, K, H, W], both channels_last."""
        n, c, h, w = x.shape
        k = self.weight.shape[2]
        rows, columns = -(-h // STEP), -(-w // STEP)
        padding = (0, 0, 1, STEP * columns - w + 1, 1, STEP * rows - h + 1)
        padded = F.pad(x.permute(0, 2, 3, 1), padding)
        image, row, pixel, _ = padded.stride()
        tiles = padded.as_strided(
            (n, rows, columns, TILE, TILE, c),
            (image, STEP * row, STEP * pixel, row, pixel, 1),
        )
        y = x.new_empty(n, rows, STEP, columns, STEP, k)
        images = max(1, TILES // (rows * columns))
        height = rows if images > 1 else max(1, TILES // columns)
        for i in range(0, n, images):
            for r in range(0, rows, height):
                part = tiles[i : i + images, r : r + height]
                result = self._transformed(part.reshape(-1, TILE * TILE, c))
                result = result.view(*part.shape[:3], STEP, STEP, k)
                y[i : i + images, r : r + height] = result.permute(0, 1, 3, 2, 4, 5)
        return y.view(n, STEP * rows, STEP * columns, k)[:, :h, :w].permute(0, 3, 1, 2)

    def _transformed(self, tiles: torch.Tensor) -> torch.Tensor:
        """Tiles of input [T, 36, C] to tiles of output [T, 16, K]."""
        x = torch.bmm(self.input.expand(len(tiles), -1, -1), tiles)
        x = torch.bmm(x.transpose(0, 1), self.weight)
        x = torch.bmm(self.output.expand(len(tiles), -1, -1), x.transpose(0, 1))
        x += self.bias
        return x.relu_() if self.relu else x
