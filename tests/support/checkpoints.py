"""Checkpoints of a few values, saved in many ways."""

from __future__ import annotations

import argparse
import collections
import datetime
import io
import pathlib
import tarfile
import types
import zipfile
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.errors import UsageError
from pipeline.network.checkpoints import CLASSIFIER, state_dict

URL = "/models/w.bin"
State = dict[str, torch.Tensor]


def saved(value: object, **options: Any) -> bytes:
    file = io.BytesIO()
    torch.save(value, file, **options)
    return file.getvalue()


def zipped(**files: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return file.getvalue()


def tarred(**files: bytes) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return file.getvalue()


def refusal(data: bytes) -> str:
    with pytest.raises(UsageError) as refused:
        state_dict(URL, data)
    line = str(refused.value)
    assert "\n" not in line and line.startswith(f"weights {URL} ") and len(line) < 900
    return line


def tiny() -> State:
    """Some names of the network, of few values."""
    random = torch.Generator().manual_seed(5)
    shapes: dict[str, tuple[int, ...]] = {
        "backbone.body.conv1.weight": (4, 3, 2, 2),
        "backbone.fpn.inner_blocks.0.0.weight": (2, 4, 1, 1),
        "rpn.head.cls_logits.bias": (3,),
        CLASSIFIER: (3, 8),
    }
    state = {name: torch.randn(shape, generator=random) for name, shape in shapes.items()}
    return {**state, "backbone.body.bn1.num_batches_tracked": torch.tensor(7)}


def check(found: State, expected: State, tolerance: float = 0) -> None:
    assert set(found) == set(expected)
    for name, tensor in found.items():
        torch.testing.assert_close(tensor, expected[name], rtol=0, atol=tolerance)
        assert type(tensor) is torch.Tensor and not tensor.requires_grad
        assert tensor.numpy().shape == expected[name].shape


def beside() -> dict[str, Any]:
    """What training leaves in a checkpoint."""
    best = collections.defaultdict(list)
    best["mAP"].append(0.5)
    return {
        "epoch": 3,
        "loss": np.float64(0.25),
        "steps": np.int64(7),
        "flag": np.bool_(True),
        "history": np.arange(6.0).reshape(2, 3),
        "names": np.array(["a", "b"]),
        "nothing": np.array([], "f4"),
        "day": np.datetime64("2026-01-01"),
        "random": (np.random.get_state(), torch.get_rng_state()),
        "best": best,
        "counts": collections.defaultdict(int, a=1),
        "recent": collections.deque([1, 2], maxlen=5),
        "seen": collections.Counter("aab"),
        "ordered": collections.OrderedDict(a=1),
        "path": pathlib.Path("/runs/1"),
        "pure": pathlib.PureWindowsPath("C:/runs"),
        "args": argparse.Namespace(lr=0.1, out=pathlib.Path("x"), kind=float),
        "space": types.SimpleNamespace(a=1),
        "when": datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC),
        "took": datetime.timedelta(seconds=5),
        "torch": torch.__version__,
        "dtype": torch.float16,
        "device": torch.device("cpu"),
        "size": torch.Size([1, 2]),
        "some": {1, 2},
        "fixed": frozenset([1]),
        "range": range(3),
        "optimizer": {
            "state": {0: {"exp_avg": torch.ones(3), "step": torch.tensor(5.0)}},
            "param_groups": [{"lr": 0.1, "betas": (0.9, 0.99), "params": [0, 1]}],
        },
    }
