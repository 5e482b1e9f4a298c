"""What a checkpoint says of its network, which anyone may have written."""

from __future__ import annotations

import json
from typing import Any

import pytest
import safetensors.torch
import torch

from pipeline.config import Config
from pipeline.errors import UsageError
from pipeline.network import weights
from pipeline.network.brought import METADATA, Brought, brought
from pipeline.network.contract import Weights

MODEL = {"min_size": 128, "max_size": 256}


def saved(content: Any, key: str = METADATA) -> bytes:
    text = content if isinstance(content, str) else json.dumps(content)
    data: bytes = safetensors.torch.save({"a": torch.ones(1)}, {key: text})
    return data


def test_others_metadata_says_nothing() -> None:
    assert brought("url", saved({"categories": {}}, "categories")) == Brought()
    assert brought("url", b"\x80\x02no safetensors") == Brought()
    header = b'{"__metadata__":null}'  # which safetensors reads
    assert brought("url", len(header).to_bytes(8, "little") + header) == Brought()


@pytest.mark.parametrize(
    "content",
    [
        "no JSON",
        [],
        {"categories": {}},
        {"categories": {"one": "a"}, "model": {}},
        {"categories": {"1": ""}, "model": {}},
        {"categories": {"1": "a"}, "model": {"min_size": -1}},
        {"categories": {"1": "a"}, "model": {"unknown": 1}},
    ],
)
def test_what_makes_no_sense_is_one_line(content: Any) -> None:
    with pytest.raises(
        UsageError, match="have a description of their network that makes no sense"
    ) as refused:
        brought("url", saved(content))
    line = str(refused.value)
    assert "\n" not in line and line.endswith("or use the version that they were trained with")


@pytest.fixture(scope="module")
def data(calibrated: Weights) -> bytes:
    """A checkpoint that says it was trained at 128 pixels."""
    tensors = {name: torch.tensor(array) for name, array in calibrated.state.items()}
    content = {"categories": {"1": "cat", "90": "dog"}, "model": MODEL}
    made: bytes = safetensors.torch.save(tensors, {METADATA: json.dumps(content)})
    return made


def test_what_is_given_wins(data: bytes) -> None:
    def resolved(**model: Any) -> Weights:
        config = Config(input="in", output="out", weights="w.safetensors", model=model)
        return weights.resolve(config, lambda what, url: data)

    found = resolved(box_score_thresh=0.3)
    assert found.categories == {1: "cat", 90: "dog"}
    assert found.options == {**MODEL, "box_score_thresh": 0.3, "num_classes": 91}
    assert resolved(min_size=200).options["min_size"] == 200
    with pytest.raises(UsageError, match="max_size must be at least model.min_size, 800, not 256"):
        resolved(min_size=800)
