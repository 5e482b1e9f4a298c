"""A GPU that knows shapes, types and places, and computes nothing; what an engine launches on it.

`python -m tests.support.fake_cuda` prints the tables. It needs neither a GPU nor a CUDA library nor
Triton.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import inspect
import math
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._subclasses import fake_tensor
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensorMode,
)
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torchvision.models.detection import FasterRCNN, fasterrcnn_resnet50_fpn_v2

from pipeline.network import kernels
from pipeline.network.contract import Weights
from pipeline.network.engine import Engine
from pipeline.network.precision import DTYPES
from pipeline.network.ways import KERNELS, PLAIN

# (height, width) of the pictures that are counted; 800x1088 in the network
PICTURE = (480, 640)
IMAGES = (1, 3, 8)
CAPABILITY = (9, 0)
# what is launched by the replay of a graph would not be seen
WAYS = {"plain": PLAIN, "kernels": dataclasses.replace(KERNELS, graphs=False)}
# which stage an operation belongs to: that of the innermost of these functions it was called in
STAGES = {
    "_given": "transform",
    "_body": "body",
    "_pyramid": "pyramid",
    "_proposals": "proposals",
    "multiscale_roi_align": "roi align",
    "_box_head": "box head",
    "_detections": "detections",
}
REST = "rest"

COPYING = {"_to_copy", "copy_"}
# no views by their schema, and no kernels all the same
NO_KERNEL = {"_unsafe_view", "_reshape_alias", "empty", "empty_like", "empty_strided", "new_empty"}
# the value of their first argument does not matter
OVERWRITING = {"copy_", "fill_", "zero_", "zeros_like", "ones_like", "full_like"}
OVERWRITING |= {"new_zeros", "new_ones", "new_full"}
# of their first argument they read what the second one names
SELECTING = {"index", "gather", "index_select"}
# torch's shape functions let them have masks, whose true values CUDA counts first
ASSIGNING = {"index_put_", "index_put", "_index_put_impl_"}
# torch's shape functions let some of these mix types, which no CUDA kernel does
BAGS = {"_embedding_bag", "_embedding_bag_forward_only"}
FUSED = {"cudnn_convolution_relu", "cudnn_convolution_add_relu"}
CONVOLUTIONS = {"convolution"} | FUSED
ONE_DTYPE = {"mm", "addmm", "bmm", "baddbmm"} | CONVOLUTIONS | BAGS

# `pipeline.network.kernels` that it launches by itself, and what each reads and writes
TRITON: dict[str, Callable[[Mapping[str, Any]], int]] = {
    # in place
    "_epilogue": lambda given: _extents(given) + _extent(given["y"]),
    "_max_pool": lambda given: _extents(given),
    "_nms": lambda given: _extents(given),
    # four pixels for each sample, of all channels; each of them for each sample, as for `BAGS`
    "_roi_align": lambda given: (
        _extents({name: x for name, x in given.items() if name != "maps"})
        + _extent(given["out"]) * 4 * given["RATIO"] ** 2
    ),
    "_transform": lambda given: _extents(given),
}


class Refused(Exception):
    """What a forward that is launched at once must not do, or what no CUDA kernel can."""


class Launched(BaseException):
    """The engine waits for the device: all is launched. No error, so no `except` may catch it."""


@dataclasses.dataclass
class Work:
    """What a stage asks for.

    Attributes:
        operations: on the device, each one kernel at least; copies to and from it among them.
        views: of its tensors, which cost only the host.
        host: operations on tensors of the CPU.
        pageable: copies to the device from memory that is not pinned; its driver may wait for all
            that was launched before one.
        moved: bytes read and written by the operations on the device, none twice by one operation.
    """

    operations: int = 0
    views: int = 0
    host: int = 0
    pageable: int = 0
    moved: int = 0

    def __add__(self, other: Work) -> Work:
        pairs = zip(dataclasses.astuple(self), dataclasses.astuple(other), strict=True)
        return Work(*(a + b for a, b in pairs))


class Counter(TorchDispatchMode):
    """Counts all that torch is asked for, and kernels, and refuses what waits for the device.

    Attributes:
        asked: by stage and name of the operation.
    """

    def __init__(self) -> None:
        super().__init__()
        self.asked: defaultdict[tuple[str, str], Work] = defaultdict(Work)

    @property
    def stages(self) -> dict[str, Work]:
        """What each stage asks for; those that ask for nothing are there too."""
        found = {name: Work() for name in (*STAGES.values(), REST)}
        for (stage, _), work in self.asked.items():
            found[stage] += work
        return found

    @property
    def total(self) -> Work:
        return sum(self.asked.values(), Work())

    def table(self) -> str:
        lines = [f"{'':<12}{'operations':>11}{'views':>7}{'host':>6}{'pageable':>10}{'MB':>11}"]
        for name, work in (*self.stages.items(), ("total", self.total)):
            counts = f"{work.operations:11,}{work.views:7,}{work.host:6,}{work.pageable:10,}"
            lines.append(f"{name:<12}{counts}{work.moved / 1e6:11,.1f}")
        return "\n".join(lines)

    def operations(self) -> str:
        """Of each stage the operations on the device, the most frequent first, and their MB."""
        lines = []
        for stage in self.stages:
            found = [
                (-work.operations, name, work.moved)
                for (other, name), work in self.asked.items()
                if other == stage and work.operations
            ]
            parts = (
                f"{name} {-count} ({moved / 1e6:,.1f})" for count, name, moved in sorted(found)
            )
            lines.append(f"{stage}: {', '.join(parts)}")
        return "\n".join(lines)

    def launched(self, name: str, given: Mapping[str, Any]) -> None:
        """A kernel of ours, with these arguments."""
        tensors = [x for x in tree_leaves(given) if isinstance(x, Tensor)]
        if any(x.device.type != "cuda" for x in tensors):
            raise Refused(f"{_stage()}: {name} of tensors of the host")
        self.asked[_stage(), name] += Work(operations=1, moved=TRITON[name](given))

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if func.namespace == "prim":
            return func(*args, **kwargs)
        composite = torch._C.DispatchKey.CompositeImplicitAutograd
        if torch._C._dispatch_has_kernel_for_dispatch_key(func.name(), composite):
            # in inference mode these arrive whole; of their parts each is counted
            with self:
                return func._op_dk(composite, *args, **kwargs)
        name = func.overloadpacket.__name__
        given = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
        self._check(name, args, kwargs, given)
        try:
            result = _fused(*args) if name in FUSED else func(*args, **kwargs)
        except (DataDependentOutputException, DynamicOutputShapeException) as error:
            raise Refused(f"{_stage()}: {func} waits for a value") from error
        arguments = func._schema.arguments
        named = {a.name: x for a, x in zip(arguments, args, strict=False)} | kwargs
        changed = [named.get(a.name) for a in arguments if a.alias_info and a.alias_info.is_write]
        unique = {id(x): x for x in tree_leaves((result, changed)) if isinstance(x, Tensor)}
        made = list(unique.values())
        self._count(func, name, given, made)
        if kwargs.get("pin_memory") or (func.is_view and is_pinned(given[0])):
            for x in made:
                pinned(x)
        return result

    def _check(
        self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any], given: list[Tensor]
    ) -> None:
        places = {x.device.type for x in given}
        if name in COPYING:
            places |= {torch.device(kwargs["device"]).type} if kwargs.get("device") else set()
            waits = not kwargs.get("non_blocking") and args[2:] != (True,)
            if len(places) > 1 and waits:
                raise Refused(f"{_stage()}: the host waits for a copy from or to the device")
        elif len({x.device.type for x in given if x.dim()} | (places - {"cpu"})) > 1:
            # a GPU indexes by a tensor of the host too, for which it waits
            raise Refused(f"{_stage()}: {name} of tensors of {' and '.join(sorted(places))}")
        masked = any(x.dtype in (torch.bool, torch.uint8) for x in given[1:-1])
        if masked and name in ASSIGNING and "cuda" in places:
            raise Refused(f"{_stage()}: {name} where a mask is true waits for a value")
        floats = {x.dtype for x in given if x.is_floating_point()}
        if name in ONE_DTYPE and len(floats) > 1:
            raise Refused(f"{_stage()}: {name} of {' and '.join(sorted(map(str, floats)))}")

    def _count(self, func: Any, name: str, given: list[Tensor], made: list[Tensor]) -> None:
        work = self.asked[_stage(), name]
        if all(x.device.type != "cuda" for x in given + made):
            work.host += 1
        elif func.is_view or name in NO_KERNEL:
            work.views += 1
        else:
            work.operations += 1
            work.moved += _moved(name, given, made)
            if name in COPYING and given[-1].device.type == "cpu" and not is_pinned(given[-1]):
                work.pageable += 1
        if name in CONVOLUTIONS:
            maps = [x for x in given if x.dim() == 4]
            apart = [x for x in maps if not x.is_contiguous(memory_format=torch.channels_last)]
            if apart:
                # what is not in its order is copied before
                self.asked[_stage(), f"{name}'s copies"] += Work(
                    operations=len(apart), moved=2 * sum(map(_extent, apart))
                )
        if name == "convolution" and len(given) > 2:
            # cuDNN computes it without, and torch adds the bias to what comes out
            self.asked[_stage(), f"{name}'s bias"] += Work(operations=1, moved=2 * _extent(made[0]))


def _fused(x: Tensor, weight: Tensor, *others: Any) -> Tensor:
    """What cuDNN's convolution gives that takes along a residual, if there is one, and max(0, .).

    torch knows no shapes of it.
    """
    *residual, bias, stride, padding, dilation, groups = others
    y = F.conv2d(x, weight, bias, stride, padding, dilation, groups)
    if bias is None or (residual and residual[0].shape != y.shape):
        raise Refused(f"{_stage()}: cuDNN fuses no convolution without a bias, or with another map")
    return y.contiguous(memory_format=torch.channels_last)


def _moved(name: str, given: list[Tensor], made: list[Tensor]) -> int:
    """Bytes that an operation reads and writes."""
    if name in BAGS:
        # a row of the table for each index; what else comes out is empty
        table, index, *_ = given
        rows = index.numel() * table.shape[1] * table.element_size()
        return rows + sum(map(_extent, given[1:])) + _extent(made[0])
    if name in OVERWRITING:
        given = given[1:]
    written = sum(map(_extent, made))
    if name in SELECTING:
        return 2 * written + sum(map(_extent, given[1:]))
    if name == "convolution":
        given = given[:2]
    return written + sum(map(_extent, {id(x): x for x in given}.values()))


def _extents(given: Mapping[str, Any]) -> int:
    return sum(_extent(x) for x in tree_leaves(given) if isinstance(x, Tensor))


def _extent(x: Tensor) -> int:
    """Bytes of the elements that lie at different places; an expanded dimension has one."""
    sides = zip(x.shape, x.stride(), strict=True)
    return math.prod(side for side, stride in sides if stride or not side) * x.element_size()


def pinned(x: Tensor) -> Tensor:
    """`x.pin_memory()`, by word alone."""
    x.__dict__["pinned"] = True
    return x


def is_pinned(x: Tensor) -> bool:
    return "pinned" in x.__dict__


def _stage() -> str:
    frame = sys._getframe(1)
    while frame.f_back:
        if frame.f_code.co_name in STAGES:
            return STAGES[frame.f_code.co_name]
        frame = frame.f_back
    return REST


class _Mode(FakeTensorMode):
    """The same whether or not there is a GPU, and without a word to it."""

    @property
    def avoid_device_init(self) -> bool:
        return True


class _Event:
    """Of `torch.cuda`; the one thing that an engine may wait for."""

    def __init__(self, **options: bool) -> None:
        self.recorded = False

    def record(self, stream: object = None) -> None:
        self.recorded = True

    def synchronize(self) -> None:
        assert self.recorded, "nothing is waited for"
        raise Launched


def _synchronize(device: object = None) -> None:
    raise Refused(f"{_stage()}: torch.cuda.synchronize waits for all that was ever launched")


class FakeCuda:
    """Engines whose tensors are fake ones on "cuda", and what they launch.

    A device or a type that does not fit raises, as does whatever depends on a value. An operator
    of one's own is one operation; it needs torch's `register_fake`. A kernel of `TRITON` is one
    too. What else launches without torch's dispatcher, or is replayed as a CUDA graph, is not seen.
    """

    def __init__(self) -> None:
        self.mode = _Mode(allow_non_fake_inputs=True)
        self.counter = Counter()

    @contextlib.contextmanager
    def __call__(self) -> Iterator[None]:
        """As long as it lasts, there is a GPU."""
        with contextlib.ExitStack() as stack:
            for target, name, value in (
                (fake_tensor, "init_gpu_context", lambda device: None),
                (torch.cuda, "is_available", lambda: True),
                (torch.cuda, "Event", _Event),
                (torch.cuda, "synchronize", _synchronize),
                (torch.cuda, "get_device_name", lambda device=None: "fake"),
                (torch.cuda, "get_device_capability", lambda device=None: CAPABILITY),
                (Tensor, "pin_memory", pinned),
                (nn.Module, "_apply", _converted),
                (kernels, "triton", SimpleNamespace(cdiv=lambda a, b: -(-a // b))),
                *((kernels, kernel, self._kernel(kernel)) for kernel in TRITON),
            ):
                stack.enter_context(mock.patch.object(target, name, value))
            stack.enter_context(self.mode)
            yield

    def _kernel(self, name: str) -> Any:
        """What stands for a kernel, and is launched as one."""
        kernel = getattr(kernels, name)
        parameters = inspect.signature(getattr(kernel, "fn", kernel))

        def launch(grid: tuple[int, ...], *args: Any, **options: Any) -> None:
            known = {key: x for key, x in options.items() if key in parameters.parameters}
            given = parameters.bind(*args, **known).arguments
            if not all(side > 0 for side in grid):
                raise Refused(f"{_stage()}: {name} of nothing")
            self.counter.launched(name, given)

        class Kernel:
            def __getitem__(self, grid: tuple[int, ...]) -> Any:
                return functools.partial(launch, grid)

        return Kernel()

    def engine(self, precision: str = "fp32", ways: str = "plain", **options: Any) -> Engine:
        """An engine of a network with these options, whose weights take no memory."""
        weights = Weights("fake", "", False, {}, {}, {"num_classes": 91, **options})
        with self(), mock.patch("pipeline.network.engine.build", _build):
            return Engine(weights, "cuda", 1, precision, WAYS[ways])

    @contextlib.contextmanager
    def counting(self) -> Iterator[Counter]:
        """As long as it lasts, there is a GPU, and what it is asked for is counted."""
        self.counter = Counter()
        with self(), self.counter:
            yield self.counter

    def count(self, engine: Engine, images: int) -> Counter:
        """What the engine launches for so many pictures, until it first waits.

        Raises:
            Refused: it waits for something else.
        """
        pictures = [np.zeros((*PICTURE, 3), np.uint8) for _ in range(images)]
        with mock.patch("pipeline.network.engine.packed", _packed), self.counting() as counter:
            try:
                found = engine(pictures)
            except Launched:
                return counter
        raise Refused(f"{len(found)} results without waiting for the device")


def _packed(images: Sequence[np.ndarray], pinned: bool) -> Tensor:
    """Nobody reads fake pixels, so none are copied."""
    count = sum(image.size for image in images)
    return torch.empty(count, dtype=torch.uint8, pin_memory=pinned)


def _build(state: Any, options: dict[str, Any]) -> FasterRCNN:
    return fasterrcnn_resnet50_fpn_v2(weights=None, weights_backbone=None, **options).eval()


def _converted(
    module: nn.Module, convert: Callable[[Tensor], Tensor], recurse: bool = True
) -> nn.Module:
    """`module.to`, by new parameters: a fake one cannot become one of another device in place."""
    for part in module.modules() if recurse else [module]:
        for name, parameter in part._parameters.items():
            if parameter is not None:
                part._parameters[name] = nn.Parameter(convert(parameter.detach()))
        for name, buffer in part._buffers.items():
            if buffer is not None:
                part._buffers[name] = convert(buffer)
    return module


def report() -> None:
    """Prints what today's engine launches, by stage, and the budgets for all of it."""
    cuda, budgets = FakeCuda(), []
    for ways in WAYS:
        for precision in DTYPES:
            engine = cuda.engine(precision=precision, ways=ways)
            for images in IMAGES:
                counter = cuda.count(engine, images)
                print(f"{ways}, {precision}, images: {images}\n{counter.table()}\n")
                total, key = counter.total, (ways, precision, images)
                megabytes = math.ceil(total.moved * 1.005 / 1e7) * 10
                budgets.append(f"    {key}: ({total.operations:_}, {megabytes:_}),")
            print(f"{counter.operations()}\n")
    print("\n".join(budgets).replace("'", '"'))


if __name__ == "__main__":
    report()
