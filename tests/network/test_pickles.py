"""What may stand beside the tensors of a checkpoint, and what is never called."""

from __future__ import annotations

import argparse
import collections
import pathlib
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.network.checkpoints import state_dict
from tests.support import checkpoints
from tests.support.checkpoints import URL, State, beside, check, refusal, saved
from tests.support.exploits import Exploit


@pytest.fixture(scope="module")
def tiny() -> State:
    return checkpoints.tiny()


@pytest.mark.parametrize("zip_format", [True, False])
def test_what_stands_beside(zip_format: bool, tiny: State) -> None:
    for name, value in beside().items():
        content = {"model": tiny, name: value}
        data = saved(content, _use_new_zipfile_serialization=zip_format)
        check(state_dict(URL, data), tiny)
    everything = {**beside(), "model_state_dict": tiny}
    check(state_dict(URL, saved(everything, _use_new_zipfile_serialization=zip_format)), tiny)


class Unknown:
    """A class of somebody's own."""


class OwnDict(dict[str, Any]):
    """Likewise."""


def test_the_class_that_it_needs_is_named(tiny: State, tmp_path: pathlib.Path) -> None:
    exploit = Exploit(tmp_path / "owned")
    for value, name in (
        (exploit, "posix.system"),
        (Unknown(), f"{__name__}.Unknown"),
        (OwnDict(a=1), f"{__name__}.OwnDict"),
        (torch.nn.Linear(1, 1), "torch.nn.modules.linear.Linear"),
        (saved, f"{saved.__module__}.saved"),
        (eval, "eval"),
    ):
        for zip_format in (True, False):
            data = saved({"model": tiny, "x": value}, _use_new_zipfile_serialization=zip_format)
            line = refusal(data)
            assert f"refused: besides tensors, the file needs {name}, and loading that" in line
            assert "could execute code; save model.state_dict()" in line
    assert not (tmp_path / "owned").exists()


class Calls:
    """Asks a harmless stand-in for what only the real thing could do."""

    def __init__(self, function: Any, *arguments: object) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple[Any, ...]:
        return self.call


def test_stand_ins_hold_nothing_and_do_nothing(tiny: State, tmp_path: pathlib.Path) -> None:
    """Also when they are called with what nobody would call them with."""
    for call in (
        Calls(list, range(3)),
        Calls(int, "3"),
        Calls(pathlib.Path, str(tmp_path / "owned")),
        Calls(argparse.Namespace),
        Calls(collections.defaultdict, list, {"a": 1}),
        Calls(np.dtype, "O8"),
        Calls(bytes, 3),
    ):
        check(state_dict(URL, saved({"model": tiny, "x": call})), tiny)
    assert list(tmp_path.iterdir()) == []
    objects = {"model": {**tiny, "x": np.array([1, "a"], dtype=object)}}
    assert "x" not in state_dict(URL, saved(objects))


def test_torch_is_left_as_it_was(tiny: State) -> None:
    before = set(torch.serialization.get_safe_globals())
    state_dict(URL, saved({"model": tiny, "args": argparse.Namespace(a=1)}))
    assert set(torch.serialization.get_safe_globals()) == before
