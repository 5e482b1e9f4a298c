"""What torch does in many passes over memory, in one: for GPUs, written in Triton.

torch's builds for CUDA bring Triton along. Where it is missing, this module can be imported, and
each function's reference, which it names, is the way to go. No function waits for the device.
"""

# kernels' parameters have types that Python does not know
# mypy: allow-untyped-defs, allow-incomplete-defs

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import MultiScaleRoIAlign

from pipeline.network import nms
from pipeline.words import explain

try:
    import triton
    import triton.language as tl
    from triton.language import constexpr
except ImportError:
    triton = None

# Sizes of blocks, and what the compiler is told. Without fusion a product and a sum are rounded
# one after the other, as by torch; where one rounding is as good, `tl.fma` asks for it.
NMS = {"BLOCK": 32, "num_warps": 8, "num_stages": 1, "maxnreg": 128, "enable_fp_fusion": False}
EPILOGUE = {"num_warps": 8, "enable_fp_fusion": False}
ROI_ALIGN = {"BLOCK": 256, "num_warps": 8, "maxnreg": 64, "enable_fp_fusion": False}
MAX_POOL = {"num_warps": 4, "enable_fp_fusion": False}
TRANSFORM = {"BLOCK": 256, "num_warps": 4, "enable_fp_fusion": False}
# values of a map that a program works on at a time
VALUES = 2048


def available() -> bool:
    """Whether Triton can be imported; the functions below need it, and tensors on a GPU."""
    return triton is not None


def check() -> None:
    """Compile a kernel and run it.

    Raises:
        RuntimeError: neither goes here; a C compiler is what lacks most often.
    """
    x = torch.zeros(1, 1, 1, 1, device="cuda")
    try:
        max_pool(x)
    except Exception as error:  # of Triton, of its compiler, of the system
        raise RuntimeError(
            f"Triton, which came with torch, cannot run a kernel on this node ({explain(error)}): "
            "it needs a C compiler, the headers of Python and a folder to write to (apt install "
            "gcc python3-dev; TRITON_CACHE_DIR)"
        ) from error


def _jit(function: Callable[..., Any]) -> Any:
    # nothing is compiled anew for another size of image
    sizes = ["k", "count", "pixels", "height", "width", "rows", "columns", "last"]
    return triton.jit(function, do_not_specialize=sizes) if triton else function


def _fits(x: Tensor | None, shape: Sequence[int]) -> bool:
    """Whether a kernel can take it for a channels_last map of that shape, or there is none."""
    return x is None or (x.shape == shape and x.is_contiguous(memory_format=torch.channels_last))


# ------------------------------------------------------------------ non-maximum suppression


def best_at_once(
    boxes: Tensor, scores: Tensor, groups: Tensor, good: Tensor, threshold: float, limit: int
) -> tuple[Tensor, Tensor, Tensor]:
    """`nms.best_at_once`, its reference, but exact for chains of any length.

    Takes and returns what `nms.best` does.
    """
    moved, order = nms.apart(boxes, scores, groups, good)
    sides = moved.transpose(2, 3).contiguous()
    kept, room, (n, sets, k) = good.new_zeros(good.shape), torch.empty_like(sides), good.shape
    _nms[(n * sets,)](sides, good.sum(-1), room, kept, threshold, k, **NMS)
    return *nms.ranked(scores, order, kept, limit), good.new_ones(())


@_jit
def _corners(boxes, place, there, k):
    left, top = tl.load(boxes + place, mask=there), tl.load(boxes + k + place, mask=there)
    boxes += 2 * k
    return left, top, tl.load(boxes + place, mask=there), tl.load(boxes + k + place, mask=there)


@_jit
def _iou(a, b):
    """[A, B] of each two; in the order of operations of torchvision's kernel."""
    width = tl.minimum(a[2][:, None], b[2][None, :]) - tl.maximum(a[0][:, None], b[0][None, :])
    height = tl.minimum(a[3][:, None], b[3][None, :]) - tl.maximum(a[1][:, None], b[1][None, :])
    both = tl.maximum(width, 0.0) * tl.maximum(height, 0.0)
    areas = ((a[2] - a[0]) * (a[3] - a[1]))[:, None] + ((b[2] - b[0]) * (b[3] - b[1]))[None, :]
    return tl.div_rn(both, areas - both)


@_jit
def _nms(boxes, counts, room, kept, threshold, k, BLOCK: constexpr):
    """One set a program: block after block, each after what survived of those before it.

    Args:
        boxes: [S, 4, K] float32, in each of S sets the box of highest score first.
        counts: [S] int64, of how many boxes at its start a set consists.
        room: [S, 4, K] float32, where survivors are gathered.
        kept: [S, K] bool, where those that survive are marked.
    """
    WIDE: constexpr = 2 * BLOCK
    first = tl.program_id(0).to(tl.int64) * k
    boxes += 4 * first
    room += 4 * first
    count = tl.load(counts + tl.program_id(0)).to(tl.int32)
    found = 0
    for start in range(0, count, BLOCK):
        place = start + tl.arange(0, BLOCK)
        here = _corners(boxes, place, place < count, k)
        alive = place < count
        for begin in range(0, found, WIDE):
            before = begin + tl.arange(0, WIDE)
            over = _iou(_corners(room, before, before < found, k), here) > threshold
            alive = alive & (tl.max(((before < found)[:, None] & over).to(tl.int32), 0) == 0)
        over = (place[:, None] < place[None, :]) & (_iou(here, here) > threshold)
        stays = alive
        changes = 1
        while changes > 0:
            settled = alive & (tl.max((over & stays[:, None]).to(tl.int32), 0) == 0)
            changes = tl.sum((stays != settled).to(tl.int32), 0)
            stays = settled
        tl.store(kept + first + place, stays, mask=place < count)
        rank = found + tl.cumsum(stays.to(tl.int32), 0) - 1
        for side in tl.static_range(4):
            tl.store(room + side * k + rank, here[side], mask=stays)
        found += tl.sum(stays.to(tl.int32), 0)
        # the next block reads what other threads have just written
        tl.debug_barrier()


# ---------------------------------------------------------------------------- convolutions


def convolution(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    residual: Tensor | None,
    relu: bool,
    stride: tuple[int, int],
    padding: tuple[int, int],
) -> Tensor:
    """`steps.convolution`, its reference: bias, residual and max(0, .) in the pass that writes it.

    Where max(0, .) is the last step cuDNN takes all three along, and rounds once.
    """
    if relu:
        shape = (stride, padding, (1, 1), 1)
        if residual is None:
            return torch.cudnn_convolution_relu(x, weight, bias, *shape)
        return torch.cudnn_convolution_add_relu(x, weight, residual, 1.0, bias, *shape)
    y = F.conv2d(x, weight, None, stride, padding)
    return y if bias is None else epilogue(y, bias, residual)


def epilogue(y: Tensor, bias: Tensor, residual: Tensor | None, relu: bool = False) -> Tensor:
    """`relu(y + bias + residual)`, in y's place if that is channels_last; rounded once, of float32.

    The reference is the same in torch's operations, in float32.

    Args:
        y: [N, C, H, W] float16 or float32, channels_last.
        bias: [C] float32.
        residual: [N, C, H, W], or of half its height and width, each value then added to four;
            channels_last, float16 or float32; or none.
        relu: whether max(0, .) is the last step; it lets NaN through, as torch's does.
    """
    y = y.contiguous(memory_format=torch.channels_last)
    residual, up = _residual(residual, y.shape)
    (n, c, height, width), columns = y.shape, _columns(y.shape[1])
    pixels = n * height * width
    grid = (triton.cdiv(pixels, VALUES // columns), triton.cdiv(c, columns))
    given = (y, bias, residual, pixels, width, c, relu, up, VALUES // columns, columns)
    _epilogue[grid](*given, **EPILOGUE)
    return y


def _columns(c: int) -> int:
    """So many of a map's channels a program works on."""
    return min(1 << (c - 1).bit_length(), 256)


def _residual(x: Tensor | None, shape: Sequence[int]) -> tuple[Tensor | None, bool]:
    """It, as a kernel takes it for a map of that shape; and whether it is of half its sides."""
    if x is None or x.shape == shape:
        assert _fits(x, shape)
        return x, False
    if (2 * x.shape[2], 2 * x.shape[3]) == tuple(shape[2:]):
        assert _fits(x, x.shape)
        return x, True
    x = F.interpolate(x, size=shape[2:], mode="nearest")
    return x.contiguous(memory_format=torch.channels_last), False


@_jit
def _below(pixel, width):
    """Of each pixel of maps of that even width and an even height, the one in the maps of half."""
    return pixel // width // 2 * (width // 2) + pixel % width // 2


@_jit
def _epilogue(
    y,
    bias,
    residual,
    count,
    width,
    C: constexpr,
    RELU: constexpr,
    UP: constexpr,
    ROWS: constexpr,
    COLUMNS: constexpr,
):
    """ROWS pixels, of all images one after the other, and COLUMNS channels a program."""
    pixel = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    channel = (tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS))[None, :]
    there = (pixel < count)[:, None] & (channel < C)
    place = pixel.to(tl.int64)[:, None] * C + channel
    value = tl.load(y + place, mask=there).to(tl.float32)
    value += tl.load(bias + channel, mask=channel < C)
    if residual is not None:
        if UP:
            place_below = _below(pixel, width).to(tl.int64)[:, None] * C + channel
            value += tl.load(residual + place_below, mask=there).to(tl.float32)
        else:
            value += tl.load(residual + place, mask=there).to(tl.float32)
    if RELU:
        value = tl.where(value < 0, 0.0, value)
    tl.store(y + place, value.to(y.dtype.element_ty), mask=there)


# ------------------------------------------------------------------------------- RoIAlign


def roi_align(
    maps: list[Tensor], boxes: Tensor, image: Tensor, level: Tensor, pooler: MultiScaleRoIAlign
) -> Tensor:
    """`roi_align.roi_align`, its reference, but with float32 weights for maps of any type.

    Args:
        maps: four, each [N, C, H, W] float16 or float32; copied where they are not channels_last.
        boxes, image, level, pooler: as for the reference.

    Returns:
        [P, C, h, w] of the maps' type, channels_last.
    """
    assert len(maps) == 4
    maps = [x.contiguous(memory_format=torch.channels_last) for x in maps]
    (rows, columns), c = pooler.output_size, maps[0].shape[1]
    out = maps[0].new_empty(len(boxes), rows, columns, c)
    # as float, since in a tuple whole numbers would be what is compiled anew for
    sizes = tuple((float(x.shape[2]), float(x.shape[3])) for x in maps)
    given = (tuple(maps), sizes, boxes.contiguous(), image, level, out, c, columns)
    grid = (len(boxes), rows, triton.cdiv(c, ROI_ALIGN["BLOCK"]))
    _roi_align[grid](*given, pooler.sampling_ratio, **ROI_ALIGN)
    return out.permute(0, 3, 1, 2)


@_jit
def _sample(start, end, length, bin, bins, part, RATIO: constexpr):
    """Along one axis, the two pixels that a bin's sample lies between, and their weights."""
    size = tl.div_rn(tl.maximum(end - start, 1.0), bins + 0.0)
    at = start + bin * size + tl.div_rn((part + 0.5) * size, RATIO + 0.0)
    inside = tl.where((at >= -1.0) & (at <= length), 1.0, 0.0)
    at = tl.minimum(tl.maximum(at, 0.0), length + 0.0)
    low = tl.minimum(at.to(tl.int32), length - 1)
    beyond = tl.where(low < length - 1, at - low, 0.0)
    return low, tl.minimum(low + 1, length - 1), (1 - beyond) * inside, beyond * inside


@_jit
def _roi_align(
    maps, sizes, boxes, image, level, out, c, COLUMNS: constexpr, RATIO: constexpr, BLOCK: constexpr
):
    """A box's bins of one row, BLOCK channels of each, a program."""
    box, row = tl.program_id(0).to(tl.int64), tl.program_id(1)
    channel = (tl.program_id(2) * BLOCK + tl.arange(0, BLOCK))[None, :]
    column = tl.arange(0, triton.next_power_of_2(COLUMNS))[:, None]
    there = (column < COLUMNS) & (channel < c)
    here = tl.load(level + box)
    pixels, height, width = maps[0], sizes[0][0], sizes[0][1]
    for other in tl.static_range(1, 4):
        pixels = tl.where(here == other, maps[other], pixels)
        height = tl.where(here == other, sizes[other][0], height)
        width = tl.where(here == other, sizes[other][1], width)
    height, width = height.to(tl.int32), width.to(tl.int32)
    pixels += tl.load(image + box) * height * width * c + channel
    left, top = tl.load(boxes + 4 * box), tl.load(boxes + 4 * box + 1)
    right, bottom = tl.load(boxes + 4 * box + 2), tl.load(boxes + 4 * box + 3)
    total = tl.zeros(there.shape, tl.float32)
    for i in range(RATIO):
        y = _sample(top, bottom, height, row, tl.num_programs(1), i, RATIO)
        for j in range(RATIO):
            x = _sample(left, right, width, column, COLUMNS, j, RATIO)
            for corner in tl.static_range(4):
                place = (y[corner // 2] * width + x[corner % 2]).to(tl.int64) * c
                value = tl.load(pixels + place, mask=there, other=0.0).to(tl.float32)
                weight = y[2 + corner // 2] * x[2 + corner % 2] / (RATIO * RATIO)
                total = tl.fma(value, weight, total)
    out += ((box * tl.num_programs(1) + row) * COLUMNS + column) * c + channel
    tl.store(out, total.to(out.dtype.element_ty), mask=there)


# ------------------------------------------------------------------------------- the others


def linear(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """`steps.linear`, its reference, by cuBLAS."""
    return torch.mm(x, weight.T, out_dtype=torch.float32).add_(bias)


def max_pool(x: Tensor) -> Tensor:
    """`steps.max_pool`, its reference.

    Args:
        x: [N, C, H, W], channels_last.
    """
    assert _fits(x, x.shape)
    (n, c, height, width), columns = x.shape, _columns(x.shape[1])
    rows, across = (height + 1) // 2, (width + 1) // 2
    y = x.new_empty(n, rows, across, c)
    grid = (triton.cdiv(n * rows * across, VALUES // columns), triton.cdiv(c, columns))
    sizes = (height, width, rows, across, n * rows * across)
    _max_pool[grid](x, y, *sizes, c, VALUES // columns, columns, **MAX_POOL)
    return y.permute(0, 3, 1, 2)


@_jit
def _max_pool(
    x, y, height, width, rows, columns, count, C: constexpr, ROWS: constexpr, COLUMNS: constexpr
):
    """ROWS pixels of y, of all images one after the other, and COLUMNS channels a program."""
    pixel = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    channel = (tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS))[None, :]
    there = (pixel < count)[:, None] & (channel < C)
    top = pixel // columns % rows * 2 - 1
    left = pixel % columns * 2 - 1
    x += (pixel // columns // rows).to(tl.int64)[:, None] * height * width * C + channel
    most = tl.full(there.shape, float("-inf"), x.dtype.element_ty)
    for place in tl.static_range(9):
        at_y, at_x = top + place // 3, left + place % 3
        inside = (at_y >= 0) & (at_y < height) & (at_x >= 0) & (at_x < width)
        value = tl.load(
            x + (at_y * width + at_x).to(tl.int64)[:, None] * C,
            mask=there & inside[:, None],
            other=float("-inf"),
        )
        most = tl.maximum(most, value, propagate_nan=tl.PropagateNan.ALL)
    tl.store(y + pixel.to(tl.int64)[:, None] * C + channel, most, mask=there)


def transform(
    pixels: Tensor, out: Tensor, size: tuple[int, int], mean: Tensor, std: Tensor
) -> None:
    """`steps.transform`, its reference."""
    (height, width, _), (_, rows, columns) = pixels.shape, out.shape
    assert out.stride(0) == 1 and mean.numel() == 3
    grid = (rows, triton.cdiv(columns, TRANSFORM["BLOCK"]))
    sizes = (height, width, *size, columns)
    _transform[grid](pixels, out, mean, std, *sizes, len(out), **TRANSFORM)


@_jit
def _source(place, length, resized):
    """Along one axis, the two pixels that a resized one lies between, and the second's weight."""
    scale = tl.div_rn(length.to(tl.float32), resized.to(tl.float32))
    at = tl.maximum((place.to(tl.float32) + 0.5) * scale - 0.5, 0.0)
    low = tl.minimum(at.to(tl.int32), length - 1)
    return low, tl.minimum(low + 1, length - 1), at - low


@_jit
def _normal(image, place, there, mean, std):
    value = tl.load(image + place, mask=there, other=0).to(tl.float32)
    return tl.div_rn(tl.div_rn(value, 255.0) - mean, std)


@_jit
def _transform(
    image,
    out,
    mean,
    std,
    height,
    width,
    rows,
    columns,
    last,
    CHANNELS: constexpr,
    BLOCK: constexpr,
):
    """BLOCK pixels of one row of the network's input a program, with all CHANNELS."""
    row = tl.program_id(0)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    channel = tl.arange(0, CHANNELS)[None, :]
    there = (column < tl.where(row < rows, columns, 0))[:, None] & (channel < 3)
    mean = tl.load(mean + channel, mask=channel < 3, other=0.0)
    std = tl.load(std + channel, mask=channel < 3, other=1.0)
    top, bottom, down = _source(row, height, rows)
    left, right, across = _source(column, width, columns)
    left, right, across = left[:, None] * 3 + channel, right[:, None] * 3 + channel, across[:, None]
    upper = image + top.to(tl.int64) * width * 3
    lower = image + bottom.to(tl.int64) * width * 3
    first = (1.0 - across) * _normal(upper, left, there, mean, std)
    first += across * _normal(upper, right, there, mean, std)
    second = (1.0 - across) * _normal(lower, left, there, mean, std)
    second += across * _normal(lower, right, there, mean, std)
    value = tl.where(there, (1.0 - down) * first + down * second, 0.0)
    place = (row.to(tl.int64) * last + column[:, None]) * CHANNELS + channel
    tl.store(out + place, value.to(out.dtype.element_ty), mask=(column < last)[:, None])
