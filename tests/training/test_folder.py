"""A training's folder, in a bucket as on a disk."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline.errors import RunError, UsageError
from pipeline.network.brought import brought
from pipeline.network.checkpoints import state_dict
from pipeline.training.folder import CHECKPOINT, Folder

CPU = torch.device("cpu")
RECORD: dict[str, Any] = {"identity": {}, "epochs": [], "finished": None}
NAME = "roi_heads.box_predictor.cls_score.weight"


@pytest.fixture(params=["disk", "s3"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Folder:
    if request.param == "disk":
        return Folder(f"{tmp_path}/to/")
    return Folder(f"s3://{request.getfixturevalue('bucket')}/to")


def test_what_is_written_is_read(folder: Folder) -> None:
    assert folder.record() is None and folder.state(CPU) is None
    folder.write_record(RECORD | {"name": "ä"})
    history = [{"loss": 0.5, "metrics": None}]
    folder.write_state({"model": {NAME: torch.ones(2)}, "history": history})
    again: Folder = pickle.loads(pickle.dumps(folder))
    assert again.url == folder.url and again.record() == RECORD | {"name": "ä"}
    state = again.state(CPU)
    assert state and state["history"][0]["loss"] == 0.5
    assert state["model"][NAME].tolist() == [1, 1]
    folder.forget()
    folder.forget()
    assert folder.state(CPU) is None


def test_a_user_s_files_stay(folder: Folder) -> None:
    """`--to` is often the data set's own folder, with its images in `images/`."""
    kept, copy = ["images/1.png", f"images/{'a' * 64}", "_copies/mine.png"], f"_copies/{'0f' * 32}"
    for name in (*kept, copy):
        folder.write(name, b"data")
    folder.forget()
    assert folder.fs.find(folder.path) == sorted(f"{folder.path}/{name}" for name in kept)


def test_a_checkpoint_says_what_it_knows(tmp_path: Path) -> None:
    folder = Folder(str(tmp_path))
    options: dict[str, Any] = {"min_size": 64, "num_classes": 3, "rpn_positive_fraction": 0.5}
    folder.write_checkpoint({NAME: torch.ones(3, 4)}, {1: "a", 2: "ü"}, options)
    data = (tmp_path / CHECKPOINT).read_bytes()
    found = brought("url", data)
    assert found.categories == {1: "a", 2: "ü"} and found.options == {"min_size": 64}
    assert state_dict("url", data)[NAME].shape == (3, 4)


def test_a_state_that_is_cut_off_is_one_line(tmp_path: Path) -> None:
    folder = Folder(str(tmp_path))
    folder.write_state({"history": []})
    file = tmp_path / "last.pth"
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(UsageError, match="cannot read .*/last.pth: "):
        folder.state(CPU)


def test_a_file_in_the_folder_s_place(tmp_path: Path) -> None:
    (tmp_path / "to").write_bytes(b"")
    with pytest.raises(UsageError):
        Folder(f"{tmp_path}/to").write_record({})


@pytest.mark.parametrize("content", ["null", "[1]", "{}", '{"a": 1}', '{"epochs": [3]}'])
def test_a_record_of_another_program(tmp_path: Path, content: str) -> None:
    (tmp_path / "train.json").write_text(content)
    with pytest.raises(
        UsageError, match="train.json is not the record of a training: give another"
    ):
        Folder(str(tmp_path)).record()


def test_the_last_one_started_owns_it(tmp_path: Path) -> None:
    folder = Folder(str(tmp_path))
    with pytest.raises(RunError, match="does not see .*train.json: as --to give a URL, or a path"):
        folder.own("mine")
    folder.write_record(RECORD | {"attempt": "mine"})
    assert folder.own("mine")["epochs"] == []
    with pytest.raises(RunError, match="another training has taken over "):
        folder.own("other")
