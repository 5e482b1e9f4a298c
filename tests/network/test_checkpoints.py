"""Checkpoints as people save them: the network is found in each, or it is said what is there."""

from __future__ import annotations

import argparse
import collections
import itertools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch

from pipeline.network.checkpoints import CLASSIFIER, state_dict
from tests.support import checkpoints
from tests.support.checkpoints import URL, State, check, refusal, saved

NAMES = "model_state_dict state_dict model_ema ema net model weights".split()
PREFIXES = [
    "".join(f"{word}." for word in words)
    for length in range(4)
    for words in itertools.product(["model", "module", "_orig_mod"], repeat=length)
]


@pytest.fixture(scope="module")
def tiny() -> State:
    return checkpoints.tiny()


def under(name: str) -> Callable[[Any], Any]:
    return lambda state: {name: state, "epoch": 3}


WRAPPINGS: dict[str, Callable[[Any], Any]] = {
    "alone": lambda s: s,
    "ordered": collections.OrderedDict,
    **{name: under(name) for name in NAMES},
    "twice": lambda s: {"checkpoint": {"model": s}, "n": 1},
    "module in ema": lambda s: {"ema": {"module": s, "updates": 5, "decay": 0.9}},
    "another name": lambda s: {"my_detector": s, "optimizer": {"state": {0: torch.ones(2)}}},
    "pair": lambda s: (s, {"state": {}}),
    "numbers beside": lambda s: {**s, "epoch": 3, "lr": 0.1, "note": "x"},
}
KINDS: dict[str, Callable[[torch.Tensor], Any]] = {
    "tensor": lambda t: t,
    "parameter": lambda t: torch.nn.Parameter(t, requires_grad=t.is_floating_point()),
    "double": lambda t: t.double() if t.is_floating_point() else t,
    "array": lambda t: t.numpy(),
    "fortran": lambda t: np.array(t.numpy(), order="F"),
    "big endian": lambda t: t.numpy().astype(t.numpy().dtype.newbyteorder(">")),
}


@pytest.mark.parametrize("wrapping", WRAPPINGS)
def test_wrappings_prefixes_and_kinds(wrapping: str, tiny: State) -> None:
    for prefix, (kind, made) in itertools.product(PREFIXES, KINDS.items()):
        values = {f"{prefix}{name}": made(tensor) for name, tensor in tiny.items()}
        found = state_dict(URL, saved(WRAPPINGS[wrapping](values)))
        assert set(found) == set(tiny), (prefix, kind)
        check(found, tiny)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_halves(dtype: torch.dtype, tiny: State) -> None:
    low = {n: t.to(dtype) if t.is_floating_point() else t for n, t in tiny.items()}
    check(state_dict(URL, saved(low)), tiny, tolerance=0.02)


def test_averaged(tiny: State) -> None:
    averaged = {"n_averaged": torch.tensor(9), **{f"module.{n}": t for n, t in tiny.items()}}
    compiled = {f"_orig_mod.{name}": tensor for name, tensor in averaged.items()}
    stripped = {**tiny, "n_averaged": torch.tensor(9)}
    for state in (averaged, compiled, stripped, {"model_ema": averaged}):
        check(state_dict(URL, saved(state)), tiny)


def test_only_a_part_was_wrapped(tiny: State) -> None:
    odd = {n.replace("backbone.", "backbone._orig_mod.module."): t for n, t in tiny.items()}
    odd = {n.replace("box_predictor.", "box_predictor.module."): t for n, t in odd.items()}
    check(state_dict(URL, saved(odd)), tiny)


def test_parts_saved_apart(tiny: State) -> None:
    parts: dict[str, Any] = {
        part: {n.removeprefix(f"{part}."): t for n, t in tiny.items() if n.startswith(part)}
        for part in ("backbone", "rpn", "roi_heads")
    }
    check(state_dict(URL, saved({**parts, "optimizer": {"state": {0: torch.ones(2)}}})), tiny)


def test_which_of_several(tiny: State) -> None:
    """The network itself before its average, the named before the unnamed; else none."""
    other = {name: tensor + 1 for name, tensor in tiny.items()}
    for content in (
        {"model_ema": other, "model": tiny},
        {"ema": other, "state_dict": tiny},
        {"teacher": other, "model": tiny},
        {"teacher": other, **tiny},
        {**{f"ema.{n}": t for n, t in other.items()}, **{f"net.{n}": t for n, t in tiny.items()}},
        {**{f"ema.{n}": t for n, t in other.items()}, **tiny},
    ):
        check(state_dict(URL, saved(content)), tiny)
    same = {"best": tiny, "model_copy": tiny}  # one object under two names
    check(state_dict(URL, saved(same)), tiny)
    line = refusal(saved({"best": tiny, "last": other}))
    assert "hold several networks, such as best and last; save the one that is meant" in line
    doubled = {**tiny, "backbone.module.body.conv1.weight": torch.zeros(1)}
    assert "hold backbone.body.conv1.weight twice" in refusal(saved(doubled))


def test_names_that_hold_anything(tiny: State) -> None:
    line = refusal(saved({f"a\nb{'c' * 5000}": torch.ones(1)}))
    assert "they have 1 tensor (a\N{REPLACEMENT CHARACTER}bccc" in line
    both = {**tiny, f"backbone.{'module.' * 999}body.conv1.weight": torch.ones(1)}
    assert "hold backbone.body.conv1.weight twice, once as backbone.module." in refusal(saved(both))


def test_what_is_not_of_the_network_is_seen(tiny: State) -> None:
    """A key beside those that fit is not passed over: it may have changed the boxes."""
    for content in (
        {**tiny, "neck.weight": torch.ones(2)},
        {"model": {**tiny, "neck.weight": torch.ones(2)}},
    ):
        assert "neck.weight" in state_dict(URL, saved(content))


def test_the_content_says_the_kind(tiny: State) -> None:
    torch_data, safe_data = saved(tiny), safetensors.torch.save(tiny)
    legacy = saved(tiny, _use_new_zipfile_serialization=False)
    for ending in ("pth", "safetensors", "SAFETENSORS", "Safetensors", "ckpt", "bin", "zip"):
        for data in (torch_data, safe_data, legacy):
            check(state_dict(f"/models/w.{ending}", data), tiny)
    length = int.from_bytes(safe_data[:8], "little")
    for padded in range(length, length + 256):  # one begins as JSON does, others as text does
        header = safe_data[8 : 8 + length].ljust(padded)
        data = padded.to_bytes(8, "little") + header + safe_data[8 + length :]
        check(state_dict(URL, data), tiny)
    prefixed = {f"model.module.{name}": tensor for name, tensor in tiny.items()}
    check(state_dict(URL, safetensors.torch.save(prefixed, {"format": "pt"})), tiny)


@pytest.mark.parametrize(
    "content,expected",
    [
        ({"fc.weight": torch.ones(2), "a": 1}, "they have 1 tensor (fc.weight) and no roi_heads.b"),
        (
            {f"l{i}": torch.ones(1) for i in range(9)},
            "they have 9 tensors (l0, l1, l2, ...) and no",
        ),
        (
            {"epoch": 3, "args": argparse.Namespace()},
            "they have no tensor (epoch, args) and no roi",
        ),
        (
            {},
            "they have no tensor () and no roi_heads.box_predictor.cls_score.weight; give a state",
        ),
        ([], "they have no tensor () and no"),
        (torch.ones(2), "hold a Tensor, not a state dict; save model.state_dict()"),
        (argparse.Namespace(a=1), "hold a Unneeded, not a state dict; save model.state_dict()"),
        ("text", "hold a str, not a state dict; save model.state_dict()"),
        (None, "hold a NoneType, not a state dict; save"),
    ],
)
def test_no_network_in_it(content: Any, expected: str) -> None:
    assert expected in refusal(saved(content))


@pytest.mark.filterwarnings("ignore:torch.quantize:UserWarning")
def test_values_of_other_kinds(tiny: State) -> None:
    quantized = torch.quantize_per_tensor(torch.ones(3, 8), 0.1, 0, torch.qint8)
    for value, expected in (
        (torch.eye(3).to_sparse(), "it is torch.sparse_coo, torch.float32"),
        (quantized, "it is torch.strided, torch.qint8"),
        (torch.ones(2, dtype=torch.complex64), "it is of complex numbers"),
        (torch.ones(2, device="meta"), "it is on device meta"),
    ):
        line = refusal(saved({**tiny, CLASSIFIER: value}))
        assert f"hold a tensor that is not plain, {CLASSIFIER}: {expected}; save" in line


def test_in_a_circle(tiny: State) -> None:
    content: dict[str, Any] = {"model": tiny}
    content["self"] = content["list"] = [content]
    check(state_dict(URL, saved(content)), tiny)
    deep: Mapping[str, Any] = tiny
    for _ in range(200):
        deep = {"x": deep}
    assert "they have no tensor (x) and no" in refusal(saved(deep))
