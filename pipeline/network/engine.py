"""Pixels to boxes, labels and scores: the forward of torchvision's Faster R-CNN V2, for inference.

In the order of the forward: transform, body (ResNet-50), pyramid (FPN), proposals (RPN), RoIAlign,
box head, detections. What torchvision computes for training, or for boxes that it then drops, is
left out; names and arithmetic are torchvision's.
"""

from __future__ import annotations

import math
import threading
import traceback
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.network import kernels, nms
from pipeline.network.boxes import clipped, decoded, large
from pipeline.network.build import build
from pipeline.network.contract import Boxes, DeviceLost, ShortOfMemory, Weights
from pipeline.network.graphs import Graphs
from pipeline.network.layers import CHANNELS, Layers
from pipeline.network.precision import DTYPES, chosen
from pipeline.network.roi_align import inferred_scale, multiscale_roi_align
from pipeline.network.ways import KERNELS, PLAIN, Ways

# torchvision's, which it does not let one set
RPN_MIN_SIZE, BOX_MIN_SIZE = 1e-3, 1e-2
# of an image's boxes of sufficient score, those that a GPU has room for
CANDIDATES = 2048


class Engine:
    """torchvision's `fasterrcnn_resnet50_fpn_v2` on one device.

    torchvision pads a batch to its largest image, which moves boxes a little. In a batch of one
    padded shape each image gets what it gets alone; `padded_shape` tells which images may share
    one.

    Args:
        weights: of the network, with its keywords.
        device: "cuda" or "cpu".
        threads: that the CPU may use for it.
        precision: of `DTYPES`, or "auto", see `chosen`. Sizes, coordinates, scores and the layers
            that predict them are float32 in any case, but for what the one that predicts proposals
            multiplies.
        ways: of the steps for which there are several; by default those that suit the device.

    Raises:
        RuntimeError: there is no GPU, or none that kernels can be compiled for.
    """

    def __init__(
        self,
        weights: Weights,
        device: str,
        threads: int,
        precision: str,
        ways: Ways | None = None,
    ) -> None:
        if device == "cuda" and not torch.cuda.is_available():
            raise RuntimeError(
                "Ray gave this replica a GPU, but torch sees none: install torch with CUDA and a "
                "driver on the GPU nodes, or pass --device cpu"
            )
        self.device = torch.device(device)
        self.ways = ways or (KERNELS if device == "cuda" and kernels.available() else PLAIN)
        if ways is None and self.ways is KERNELS:
            kernels.check()
        # a GPU gets the whole forward before it has begun, and the next one while it computes; a
        # CPU has nothing to wait for
        self.at_once = device == "cuda"
        self.in_flight = 2 if device == "cuda" else 1
        self.launching = threading.Lock()
        if device == "cpu":
            torch.set_num_threads(threads)
        model = build(weights.state, weights.options)
        self.transform, self.rpn, self.roi_heads = model.transform, model.rpn, model.roi_heads
        if precision == "auto":
            tf32 = device == "cuda" and torch.cuda.get_device_capability() >= (8, 0)
            precision = chosen(tf32, weights.options)
        self.dtype = DTYPES[precision]
        gpu = torch.cuda.get_device_name() if device == "cuda" else "CPU"
        self.name = f"{gpu}, {precision}"
        self.mean = torch.tensor(self.transform.image_mean, device=device)
        self.std = torch.tensor(self.transform.image_std, device=device)
        self.layers = Layers(model, self.device, self.dtype, self.ways)
        self.graphs = Graphs(self._found) if self.ways.graphs else None

    def __call__(self, images: Sequence[np.ndarray]) -> list[Boxes]:
        """Detect objects in images of one padded shape. Thread-safe.

        Args:
            images: each [height, width, 3] RGB uint8.

        Raises:
            ShortOfMemory: the micro-batch does not fit the GPU.
            DeviceLost: the GPU has failed.
        """
        try:
            try:
                return self._forward(images)
            except torch.OutOfMemoryError as error:
                traceback.clear_frames(error.__traceback__)  # which hold what was computed so far
                if not self._without_graphs():
                    raise ShortOfMemory(str(error)) from None
            except RuntimeError:
                # that the GPU has failed, cuDNN, cuBLAS and Triton say in words of their own
                if self.device.type == "cuda":
                    with self.launching:
                        torch.cuda.synchronize()
                raise
            return self(images)
        except torch.AcceleratorError as error:
            raise DeviceLost(str(error)) from error

    def _without_graphs(self) -> bool:
        """Give back the memory that is not in use; returns whether graphs had some."""
        with self.launching:
            recorded = self.graphs is not None
            if recorded:
                torch.cuda.synchronize()  # one may still be replayed
                self.graphs = None
            torch.cuda.empty_cache()
        return recorded

    @torch.inference_mode()
    def _forward(self, images: Sequence[np.ndarray]) -> list[Boxes]:
        pixels = packed(images, pinned=self.device.type == "cuda")
        sizes = [self.resized_shape(*image.shape[:2]) for image in images]
        known = self._known(sizes, self.padded_shape(*images[0].shape[:2]))
        with self.launching:
            given = self._given(pixels, images, sizes, known)
            found, flags = (self.graphs or self._found)(*given)
            found, flags = (x.to("cpu", non_blocking=True) for x in (found, flags))
            copied = self._event()
        if copied:
            copied.synchronize()
        settled, finite = flags.tolist()
        if not settled and finite:
            with self.launching:
                given = self._given(pixels, images, sizes, known)
                found, flags = self._found(*given, at_once=False)
                found, finite = found.cpu(), bool(flags[1])
        if not finite:
            raise FloatingPointError(
                "the network's values are not finite numbers"
                + ("; pass --precision fp32" if self.dtype == torch.float16 else "")
            )
        results = zip(found.numpy(), images, sizes, strict=True)
        return [_boxes(values, image, size) for values, image, size in results]

    def _event(self) -> torch.cuda.Event | None:
        """What tells, on a GPU, that it has done all that it was given until now."""
        if self.device.type != "cuda":
            return None
        event = torch.cuda.Event(blocking=True)
        event.record()
        return event

    # ------------------------------------------------------------------------- transform

    def resized_shape(self, height: int, width: int) -> tuple[int, int]:
        """(height, width) of an image in the network; `_resize_image_and_masks` of torchvision."""
        transform = self.transform
        if transform.fixed_size is not None:
            return (transform.fixed_size[1], transform.fixed_size[0])
        scale = min(
            transform.min_size[-1] / min(height, width), transform.max_size / max(height, width)
        )
        return (math.floor(height * scale), math.floor(width * scale))

    def padded_shape(self, height: int, width: int) -> tuple[int, int]:
        """(height, width) of the network's input for an image, after resizing and padding.

        Raises:
            ValueError: the image is so thin that resizing leaves nothing of its short side.
        """
        resized = self.resized_shape(height, width)
        if min(resized) < 1:
            raise ValueError(
                f"{width}x{height} shrinks to {resized[1]}x{resized[0]} in the network"
            )
        multiple = self.transform.size_divisible
        return (
            math.ceil(resized[0] / multiple) * multiple,
            math.ceil(resized[1] / multiple) * multiple,
        )

    def _known(self, sizes: list[tuple[int, int]], padded: tuple[int, int]) -> Tensor:
        """[N, 8] float32 of the host: the largest x and y in each image, twice, and its scales of
        the four maps.
        """
        sides = [padded[0]]
        for _ in range(5):
            sides.append(math.ceil(sides[-1] / 2))
        known = torch.tensor(
            [
                [
                    width,
                    height,
                    width,
                    height,
                    *(inferred_scale(side, height) for side in sides[2:]),
                ]
                for height, width in sizes
            ],
            device="cpu",
        )
        # of other memory a driver may make the host wait until it has been copied
        return known.pin_memory() if self.device.type == "cuda" else known

    def _given(
        self,
        pixels: Tensor,
        images: Sequence[np.ndarray],
        sizes: list[tuple[int, int]],
        known: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Batch [N, 4, H, W], channels_last, and `known`, on the device.

        Args:
            pixels: of all images, as `packed` has them.
            images: whose shapes tell which pixels are whose.
            sizes: (height, width) of each in the network.
            known: of `_known`.
        """
        height, width = self.padded_shape(*images[0].shape[:2])
        shape = (len(images), height, width, CHANNELS)
        batch = torch.empty(shape, dtype=self.dtype, device=self.device).permute(0, 3, 1, 2)
        pixels, known = (x.to(self.device, non_blocking=True) for x in (pixels, known))
        parts = pixels.split([image.size for image in images])
        for image, part, out, size in zip(images, parts, batch, sizes, strict=True):
            self.ways.transform(part.view(image.shape), out, size, self.mean, self.std)
        return batch, known

    def _found(
        self, batch: Tensor, known: Tensor, at_once: bool | None = None
    ) -> tuple[Tensor, Tensor]:
        """What `_detect` gives, of what `_given` gives."""
        maps = self._pyramid(self._body(batch))
        at_once = self.at_once if at_once is None else at_once
        limits, scales = known.split(4, dim=1)
        return self._detect(maps, batch.shape[2:], limits, scales, at_once)

    # ---------------------------------------------------------------------- feature maps

    def _body(self, x: Tensor) -> list[Tensor]:
        """[N, 4, H, W] to the four stages' maps, at strides 4, 8, 16 and 32."""
        x = self.ways.max_pool(self.layers.stem(x))
        maps = []
        for stage in self.layers.stages:
            for conv1, conv2, conv3, *downsample in stage:
                identity = downsample[0](x) if downsample else x
                x = conv3(conv2(conv1(x)), identity)
            maps.append(x)
        return maps

    def _pyramid(self, maps: list[Tensor]) -> list[Tensor]:
        """The same in 256 channels, finest first, and a fifth map of half the last one's size."""
        levels = list(zip(maps, self.layers.inner_blocks, self.layers.layer_blocks, strict=True))
        inner: Tensor | None = None
        found: list[Tensor] = []
        for x, inner_block, layer_block in reversed(levels):
            inner = inner_block(x, inner)
            found.insert(0, layer_block(inner))
        return [*found, found[-1][:, :, ::2, ::2]]

    # ------------------------------------------------------------------------- proposals

    def _detect(
        self,
        maps: list[Tensor],
        padded: Sequence[int],
        limits: Tensor,
        scales: Tensor,
        at_once: bool,
    ) -> tuple[Tensor, Tensor]:
        """Feature maps to what `_detections` gives.

        If `at_once`, every shape is known before any value is, and the device is not waited for.

        Args:
            maps: finest first.
            padded: (height, width) of the network's input.
            limits: [N, 4], the largest x and y in each image, twice.
            scales: [N, 4], of each image on the first four maps.
            at_once: see above.

        Returns:
            The detections, and [2] bool: whether they are torchvision's, and whether all numbers
            were finite.
        """
        proposals, there, settled, finite = self._proposals(maps, padded, limits, at_once)
        n, p = there.shape
        pooler = self.roi_heads.box_roi_pool
        rows = None if at_once else there.flatten().nonzero()[:, 0]
        places = torch.arange(n * p, device=self.device) if rows is None else rows
        rois = proposals.flatten(0, 1)
        rois = rois if rows is None else rois[rows]
        align = self.ways.roi_align
        pooled = multiscale_roi_align(maps[:-1], rois, places // p, scales, pooler, align)
        logits, deltas = self._box_head(pooled)
        finite &= logits.isfinite().all() & deltas.isfinite().all()
        if rows is not None:
            logits, deltas = (
                x.new_zeros(n * p, *x.shape[1:]).index_copy_(0, rows, x) for x in (logits, deltas)
            )
        logits, deltas = logits.unflatten(0, (n, p)), deltas.unflatten(0, (n, p))
        found, fitted = self._detections(logits, deltas, proposals, there, limits, at_once)
        return found, torch.stack((settled & fitted, finite))

    def _proposals(
        self, maps: list[Tensor], padded: Sequence[int], limits: Tensor, at_once: bool
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Boxes [N, P, 4] in the network's pixels, highest objectness first.

        Args:
            maps: finest first.
            padded: (height, width) of the network's input.
            limits: [N, 4], the largest x and y in each image.
            at_once: see `_detect`.

        Returns:
            The boxes; [N, P] bool, whether there is one; [] bool, whether they are torchvision's;
            [] bool, whether all scores were finite.
        """
        levels = [self._best_anchors(level, x, padded) for level, x in enumerate(maps)]
        most = max(logits.shape[1] for logits, *_ in levels)
        # a level of fewer anchors is filled up with such as have no size
        short = [most - logits.shape[1] for logits, *_ in levels]
        logits, deltas, anchors = (
            torch.stack(
                [F.pad(x, (0, 0) * (x.dim() - 2) + (0, n)) for x, n in zip(xs, short, strict=True)],
                1,
            )
            for xs in zip(*levels, strict=True)
        )
        boxes = decoded(deltas, anchors, self.rpn.box_coder.weights)
        scores = logits.sigmoid()
        finite = logits.isfinite().all() & boxes.isfinite().all()
        # a box that is no number has no level, and to ask for it would end a GPU's process
        boxes = clipped(boxes.nan_to_num(), limits[:, None, None])
        good = large(boxes, RPN_MIN_SIZE) & (scores >= self.rpn.score_thresh)
        level = torch.arange(len(maps), device=self.device)[:, None].expand_as(scores)
        limit = min(self.rpn.post_nms_top_n(), len(maps) * most)
        best = self.ways.best_at_once if at_once else nms.best
        index, there, settled = best(boxes, scores, level, good, self.rpn.nms_thresh, limit)
        image = torch.arange(len(boxes), device=self.device)[:, None]
        return boxes.flatten(1, 2)[image, index], there, settled, finite

    def _best_anchors(
        self, level: int, x: Tensor, padded: Sequence[int]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Logits [N, K], deltas and boxes [N, K, 4] of a map's K anchors of highest objectness.

        Only theirs are decoded: of 217 thousand anchors in a photograph, fewer than 5 thousand.
        """
        cell = self.layers.cell_anchors[level]
        for conv in self.layers.rpn_convs:
            x = conv(x)
        n, _, height, width = x.shape
        predicted = self.ways.linear(
            x.permute(0, 2, 3, 1).flatten(0, 2), *self.layers.rpn_predictor
        )
        objectness = predicted[:, : len(cell)].reshape(n, -1)
        deltas = predicted[:, len(cell) : 5 * len(cell)].reshape(n, -1, 4)
        top_n = min(self.rpn.pre_nms_top_n(), objectness.shape[1])
        logits, index = objectness.topk(top_n, dim=1)
        place = index // len(cell)
        # anchors are so far apart, which is not always the map's stride
        x_shift = place % width * (padded[1] // width)
        y_shift = place // width * (padded[0] // height)
        shifts = torch.stack((x_shift, y_shift, x_shift, y_shift), -1)
        best = deltas.gather(1, index[..., None].expand(-1, -1, 4))
        return logits, best, shifts + cell[index % len(cell)]

    # ------------------------------------------------------------------------ detections

    def _box_head(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """[P, 256, 7, 7] to class logits [P, classes] and deltas [P, classes, 4]."""
        for conv in self.layers.box_convs:
            x = conv(x)
        x = x.permute(0, 2, 3, 1).flatten(1)
        x = self.ways.linear(x, *self.layers.fc).relu_()
        predicted = self.ways.linear(x, *self.layers.box_predictor)
        classes = self.layers.classes
        return predicted[:, :classes], predicted[:, classes : 5 * classes].unflatten(1, (-1, 4))

    def _detections(
        self,
        logits: Tensor,
        deltas: Tensor,
        proposals: Tensor,
        there: Tensor,
        limits: Tensor,
        at_once: bool,
    ) -> tuple[Tensor, Tensor]:
        """Detections [N, D, 7], highest score first.

        Only boxes of a sufficient score are decoded: hundreds of 91 thousand.

        Args:
            logits, deltas: [N, P, classes] and [N, P, classes, 4].
            proposals, there: of `_proposals`.
            limits: [N, 4], the largest x and y in each image.
            at_once: see `_detect`.

        Returns:
            Boxes in the network's pixels, label, score, and 1, or 0 where there is none; and []
            bool, whether they are torchvision's.
        """
        heads, labels = self.roi_heads, logits.shape[-1] - 1
        scores = logits.softmax(-1)[..., 1:]
        good = ((scores > heads.score_thresh) & there[..., None]).flatten(1)
        count = good.sum(1).max()
        room = min(CANDIDATES, good.shape[1]) if at_once else int(count)
        # in the order of torchvision, which decides between equal scores
        _, index = scores.flatten(1).where(good, -1).topk(room, sorted=False)
        index, _ = index.sort()
        image = torch.arange(len(index), device=self.device)[:, None]
        roi, label = index // labels, index % labels + 1
        scores, good = scores.flatten(1)[image, index], good[image, index]
        boxes = decoded(deltas[image, roi, label], proposals[image, roi], heads.box_coder.weights)
        boxes = clipped(boxes, limits[:, None])
        good &= large(boxes, BOX_MIN_SIZE)
        best = self.ways.best_at_once if at_once else nms.best
        limit = min(heads.detections_per_img, room)
        one_level = boxes[:, None], scores[:, None], label[:, None], good[:, None]
        index, found, settled = best(*one_level, heads.nms_thresh, limit)
        values = torch.cat((boxes, label[..., None], scores[..., None]), -1)[image, index]
        return torch.cat((values, found[..., None]), -1), settled & (count <= room)


def packed(images: Sequence[np.ndarray], pinned: bool) -> Tensor:
    """[values] uint8: the images' pixels one after the other.

    Args:
        images: each [height, width, 3] RGB uint8.
        pinned: in memory that a GPU fetches from by itself.
    """
    pixels = torch.empty(sum(image.size for image in images), dtype=torch.uint8, pin_memory=pinned)
    np.concatenate([image.reshape(-1) for image in images], out=pixels.numpy())
    return pixels


def _boxes(values: np.ndarray, image: np.ndarray, size: tuple[int, int]) -> Boxes:
    """What `_detections` gives for an image, in the image's own pixels."""
    xyxy, label, score, found = np.split(values, (4, 5, 6), axis=1)
    there = found[:, 0] > 0
    original = np.array(image.shape[1::-1] * 2, np.float32)
    scale = original / np.array(size[::-1] * 2, np.float32)
    return Boxes(
        # by rounding, one may end a ten-thousandth of a pixel outside
        xyxy=np.minimum(xyxy[there] * scale, original),
        labels=label[there, 0].astype(np.int64),
        scores=score[there, 0],
    )
