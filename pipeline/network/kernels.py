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
from torch import Tensor
from torchvision.ops import MultiScaleRoIAlign

from pipeline.network import nms

try:
    import triton
    import triton.language as tl
    from triton.language import constexpr
except ImportError:
    triton = None

# Sizes of blocks, and what the compiler is told. Without fusion a product and a sum are rounded
# one after the other, as by torch; where one rounding is as good, `tl.fma` asks for it.
NMS = {"BLOCK": 32, "num_warps": 8, "num_stages": 1, "maxnreg": 128, "enable_fp_fusion": False}
EPILOGUE = {"BLOCK": 1024, "num_warps": 4, "enable_fp_fusion": False}
ROI_ALIGN = {"BLOCK": 256, "num_warps": 8, "maxnreg": 64, "enable_fp_fusion": False}
POINTWISE = {"BLOCK": 64, "num_warps": 8, "num_stages": 3, "enable_fp_fusion": False}


def available() -> bool:
    """Whether Triton can be imported; the functions below need it, and tensors on a GPU."""
    return triton is not None


def _jit(function: Callable[..., Any]) -> Any:
    # nothing is compiled anew for another size of image
    sizes = ["k", "count", "pixels", "width"]
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


# -------------------------------------------------------------- what follows a convolution


def epilogue(y: Tensor, bias: Tensor, residual: Tensor | None, relu: bool) -> Tensor:
    """`relu(y + bias + residual)`, in y's place if that is channels_last; rounded once, of float32.

    The reference is the same in torch's operations, in float32.

    Args:
        y: [N, C, H, W] float16 or float32, channels_last.
        bias: [C] float32.
        residual: as y in shape and memory, float16 or float32; or none.
        relu: whether max(0, .) is the last step; it lets NaN through, as torch's does.
    """
    y = y.contiguous(memory_format=torch.channels_last)
    assert _fits(residual, y.shape)
    n, c = y.numel(), y.shape[1]
    _epilogue[(triton.cdiv(n, EPILOGUE["BLOCK"]),)](y, bias, residual, n, c, relu, **EPILOGUE)
    return y


@_jit
def _epilogue(y, bias, residual, n, C: constexpr, RELU: constexpr, BLOCK: constexpr):
    first = tl.program_id(0).to(tl.int64) * BLOCK
    index = first + tl.arange(0, BLOCK)
    channel = ((first % C).to(tl.int32) + tl.arange(0, BLOCK)) % C
    value = tl.load(y + index, mask=index < n).to(tl.float32) + tl.load(bias + channel)
    if residual is not None:
        value += tl.load(residual + index, mask=index < n).to(tl.float32)
    if RELU:
        value = tl.where(value < 0, 0.0, value)
    tl.store(y + index, value.to(y.dtype.element_ty), mask=index < n)


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
                place = (y[corner // 2] * width + x[corner % 2]) * c
                value = tl.load(pixels + place, mask=there, other=0.0).to(tl.float32)
                weight = y[2 + corner // 2] * x[2 + corner % 2] / (RATIO * RATIO)
                total = tl.fma(value, weight, total)
    out += ((box * tl.num_programs(1) + row) * COLUMNS + column) * c + channel
    tl.store(out, total.to(out.dtype.element_ty), mask=there)


# ------------------------------------------------------------------------ 1x1 convolutions


def pointwise(
    x: Tensor, weight: Tensor, bias: Tensor, residual: Tensor | None, relu: bool
) -> tuple[Tensor, Tensor]:
    """A 1x1 convolution of float16 operands that is rounded to float16 once, at its very end.

    The reference is `F.conv2d` of x and weight in float32, and the rest likewise. Below compute
    capability 8.0 Triton uses no tensor cores, and this is no gain.

    Args:
        x: [N, C, H, W] float16 with channels beside each other in memory; for a stride above 1,
            `x[:, :, ::stride, ::stride]`, which copies nothing.
        weight: [K, C, 1, 1] float16.
        bias: [K] float32.
        residual: [N, K, H, W] float16 or float32, channels_last, added before max(0, .); or none.
        relu: whether max(0, .) is the last step; it lets NaN through, as torch's does.

    Returns:
        [N, K, H, W] float32, what another residual sum takes; and the same in float16, what
        another convolution takes; both channels_last.
    """
    (n, c, height, width), k = x.shape, len(weight)
    assert x.stride(1) == 1 and _fits(residual, (n, k, height, width))
    stream = x.new_empty(n, height, width, k, dtype=torch.float32)
    operand = torch.empty_like(stream, dtype=x.dtype)
    sizes = (n * height * width, height * width, width)
    steps = (c, k, x.stride(0), x.stride(2), x.stride(3))
    given = (x, weight.view(k, c), bias, residual, (stream, operand), *sizes, steps)
    tiles = triton.cdiv(sizes[0], 2 * POINTWISE["BLOCK"]) * triton.cdiv(k, POINTWISE["BLOCK"])
    _pointwise[(tiles,)](*given, RELU=relu, **POINTWISE)
    return stream.permute(0, 3, 1, 2), operand.permute(0, 3, 1, 2)


@_jit
def _pointwise(
    x, weight, bias, residual, out, count, pixels, width, steps, RELU: constexpr, BLOCK: constexpr
):
    """A tile of 2 BLOCK pixels and BLOCK channels a program; neighbours read the same pixels."""
    c, k, by_image, by_row, by_pixel = steps
    first = tl.program_id(0) // tl.cdiv(k, BLOCK) * (2 * BLOCK)
    row = first + tl.arange(0, 2 * BLOCK)
    column = tl.program_id(0) % tl.cdiv(k, BLOCK) * BLOCK + tl.arange(0, BLOCK)
    place = row % pixels // width * by_row + row % width * by_pixel
    x += ((row // pixels).to(tl.int64) * by_image + place)[:, None]
    weight += column[None, :] * c
    total = tl.zeros((2 * BLOCK, BLOCK), tl.float32)
    for start in range(0, c, BLOCK):
        depth = start + tl.arange(0, BLOCK)
        there = (row < count)[:, None] & (depth < c)[None, :]
        a = tl.load(x + depth[None, :], mask=there, other=0.0)
        there = (depth < c)[:, None] & (column < k)[None, :]
        b = tl.load(weight + depth[:, None], mask=there, other=0.0)
        total = tl.dot(a, b, total)
    total += tl.load(bias + column, mask=column < k, other=0.0)[None, :]
    # in int64 what a program has once, in int32 what each value has
    first = first.to(tl.int64) * k
    index = tl.arange(0, 2 * BLOCK)[:, None] * k + column[None, :]
    there = (row < count)[:, None] & (column < k)[None, :]
    if residual is not None:
        total += tl.load(residual + first + index, mask=there).to(tl.float32)
    if RELU:
        total = tl.where(total < 0, 0.0, total)
    tl.store(out[0] + first + index, total, mask=there)
    tl.store(out[1] + first + index, total.to(tl.float16), mask=there)
