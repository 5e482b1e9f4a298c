"""A GPU that is this CPU, but tells nothing of what it has done before it is waited for.

It needs neither a GPU nor a CUDA library, and has of `torch.cuda` what an engine uses.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class RecordedCuda(TorchFunctionMode):
    """While it lasts, "cuda" is the CPU; what is copied from it to the host is 0 until waited for.

    Attributes:
        log: what was done, in this order.
        capturing: whether a graph is being recorded.
    """

    def __init__(self) -> None:
        super().__init__()
        self.log: list[str] = []
        self.capturing = False
        self.late: list[tuple[Tensor, Tensor]] = []

    @contextlib.contextmanager
    def __call__(self) -> Iterator[RecordedCuda]:
        """As long as it lasts, there is a GPU."""
        with contextlib.ExitStack() as stack:
            for name, value in {
                "is_available": lambda: True,
                "get_device_name": lambda: "recorded",
                "graph_pool_handle": lambda: "pool",
                "empty_cache": lambda: self.log.append("emptied"),
                "synchronize": lambda: self.arrive("synchronized", self.late),
                "CUDAGraph": lambda: _Graph(self),
                "Event": lambda blocking: _Event(self, blocking),
                "graph": _Capture,
            }.items():
                stack.enter_context(mock.patch.object(torch.cuda, name, value))
            yield stack.enter_context(self)

    def arrive(self, how: str, copies: list[tuple[Tensor, Tensor]]) -> None:
        self.log.append(how)
        with torch.inference_mode():
            for copy, values in copies:
                copy.copy_(values)

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if func is torch.device:
            return func(*args, **(kwargs or {}))
        if func is Tensor.pin_memory:
            return args[0]
        if func is Tensor.to and args[1:2] == ("cpu",):
            copy = torch.zeros_like(args[0])
            self.late.append((copy, args[0].clone()))
            return copy
        options = {name: _here(x) for name, x in (kwargs or {}).items() if name != "pin_memory"}
        return func(*map(_here, args), **options)


def _here(x: Any) -> Any:
    """The CPU, if it is the GPU."""
    return "cpu" if isinstance(x, torch.device | str) and str(x) == "cuda" else x


class _Event:
    """Who waits for it has all copies to the host that were asked for before it was recorded."""

    def __init__(self, cuda: RecordedCuda, blocking: bool) -> None:
        assert blocking, "a host that waits shall not spin"
        self.cuda = cuda

    def record(self) -> None:
        self.cuda.log.append("event")
        self.copies = self.cuda.late[:]

    def synchronize(self) -> None:
        self.cuda.arrive("waited", self.copies)


class _Graph:
    """Does again, with the same memory, what was done while it was recorded."""

    def __init__(self, cuda: RecordedCuda) -> None:
        self.cuda, self.asked = cuda, list[tuple[Any, Any, Any, Any]]()

    def replay(self) -> None:
        self.cuda.log.append("replayed")
        for func, args, kwargs, made in self.asked:
            again = func(*args, **kwargs)
            for old, new in zip(tree_leaves(made), tree_leaves(again), strict=True):
                if old.data_ptr() != new.data_ptr():
                    old.copy_(new)

    def __del__(self) -> None:
        self.cuda.log.append("dropped")


class _Capture(TorchDispatchMode):
    def __init__(self, graph: _Graph, pool: str, capture_error_mode: str) -> None:
        super().__init__()
        assert (pool, capture_error_mode) == ("pool", "thread_local")
        self.graph = graph

    def __enter__(self) -> Any:
        self.graph.cuda.capturing = True
        return super().__enter__()

    def __exit__(self, *raised: Any) -> None:
        super().__exit__(*raised)
        self.graph.cuda.capturing = False
        self.graph.cuda.log.append("failed" if raised[0] else "recorded")

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if func is torch.ops.aten._local_scalar_dense.default:
            raise RuntimeError("a recording waits for a value")
        made = func(*args, **(kwargs or {}))
        self.graph.asked.append((func, args, kwargs or {}, made))
        return made
