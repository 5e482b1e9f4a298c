"""What stands beside the tensors of a checkpoint: harmless classes, and what stands in for them.

torch reads a pickle without calling anything that is not on a list. What is added to the list here
is never the class itself: arguments, paths and dates become objects that hold nothing.
"""

from __future__ import annotations

import io
import pickle
import re
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from pipeline.words import printable

PICKLED_NUMBERS = re.compile(r"b1|[iu][1248]|f[248]")


class Unneeded:
    """In place of an object that a forward has no use for."""

    def __new__(cls, *given: object) -> Unneeded:
        return super().__new__(cls)

    def __init__(self, *given: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        pass


class Dtype:
    """In place of NumPy's `dtype`."""

    def __init__(self, code: Any = "", *flags: object) -> None:
        self.code, self.order = code, "="

    def __setstate__(self, state: Any) -> None:
        self.order = state[1]

    def numpy(self) -> np.dtype[Any] | None:
        """NumPy's own, if it is of numbers."""
        if not isinstance(self.code, str) or not PICKLED_NUMBERS.fullmatch(self.code):
            return None
        return np.dtype(self.code).newbyteorder("<" if self.order == "<" else ">")


class Array:
    """In place of NumPy's `ndarray`, and of its scalars."""

    def __init__(self, *given: object) -> None:
        self.shape: Any = ()
        self.dtype, self.data = given if len(given) == 2 else (None, b"")
        self.fortran = False

    def __setstate__(self, state: Any) -> None:
        _, self.shape, self.dtype, self.fortran, self.data = state

    def tensor(self) -> torch.Tensor | None:
        """Its numbers, if it holds such."""
        dtype = self.dtype.numpy() if isinstance(self.dtype, Dtype) else None
        if dtype is None or not isinstance(self.data, bytes):
            return None
        try:
            values = np.frombuffer(self.data, dtype).astype(dtype.newbyteorder("="))
            return torch.from_numpy(values.reshape(self.shape, order="F" if self.fortran else "C"))
        except (ValueError, TypeError):  # no shape, or not its own
            return None


def _array(*given: object) -> Array:
    """`numpy.core.multiarray._reconstruct`: its state comes later."""
    return Array()


def _mapping(*given: object) -> dict[Any, Any]:
    """`defaultdict`, of which torch's reader fills only the plain one."""
    return {}


def _list(*given: object) -> list[Any]:
    return []


def _bytes(*given: object) -> bytes:
    """`bytes`, which is asked only for those without any."""
    return b""


HARMLESS: dict[str, Callable[..., Any]] = {
    "collections.defaultdict": _mapping,
    "collections.deque": _list,
    "builtins.bytes": _bytes,
    "numpy.dtype": Dtype,
    "numpy.ndarray": Unneeded,
    **dict.fromkeys(
        ["numpy.core.multiarray._reconstruct", "numpy._core.multiarray._reconstruct"], _array
    ),
    **dict.fromkeys(["numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar"], Array),
    **dict.fromkeys(
        [
            f"{module}.{name}"
            for module in ("pathlib", "pathlib._local")
            for name in "Path PosixPath WindowsPath PurePath PurePosixPath PureWindowsPath".split()
        ],
        Unneeded,
    ),
    **dict.fromkeys(
        "argparse.Namespace types.SimpleNamespace datetime.datetime datetime.date datetime.time "
        "datetime.timedelta datetime.timezone decimal.Decimal fractions.Fraction uuid.UUID "
        "torch.torch_version.TorchVersion builtins.frozenset builtins.slice builtins.range "
        # of a `defaultdict`, and types among the arguments
        "builtins.list builtins.dict builtins.tuple builtins.int builtins.float builtins.bool "
        "builtins.str".split(),
        Unneeded,
    ),
}


class WouldExecute(Exception):
    """A pickle asks for what is not on the list; the message names it."""


def load(data: bytes) -> Any:
    """What `torch.save` has written, with `Array` for NumPy's arrays.

    Raises:
        WouldExecute: it asks for a class or function that is not on the list.
        Exception: whatever torch makes of a damaged file.
    """
    allowed: list[Any] = [(stand_in, name) for name, stand_in in HARMLESS.items()]
    try:
        with torch.serialization.safe_globals(allowed), warnings.catch_warnings():
            warnings.simplefilter(
                "ignore"
            )  # of what is refused in the end, or matters to no forward
            return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        named = re.search(r"GLOBAL (\S+)", str(error))
        # of a file that is cut off, only the beginning of a name may be left
        last = named[1].rpartition(".")[2].encode() if named else b""
        if named is None or not last or (data[:2] != b"PK" and last + b"\n" not in data):
            raise
        raise WouldExecute(printable(named[1], 200)) from error
