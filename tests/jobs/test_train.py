"""`jobs.train` as a command: what it writes, how it goes on, and how it refuses."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from jobs import train
from pipeline.config import Config
from pipeline.network.weights import resolve
from pipeline.store import objects
from pipeline.training import loop
from tests.support import drawn


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory, calibrated_file: str) -> Path:
    """A folder with images/, truth.json, val.json of the third image, and run.yaml."""
    folder = tmp_path_factory.mktemp("train") / "data"
    content = json.loads(drawn.draw(folder, images=3).read_text())
    for name, places in (("truth", (0, 1)), ("val", (2,))):
        part = {
            "images": [x for x in content["images"] if x["id"] in places],
            "annotations": [x for x in content["annotations"] if x["image_id"] in places],
        }
        drawn.write(folder / f"{name}.json", content | part)
        content["categories"][0]["name"] = "Disc"  # as other people write it
    options = drawn.TINY | {"trainable_backbone_layers": 0}
    config = {"weights": calibrated_file, "model": options}
    (folder / "run.yaml").write_text(yaml.safe_dump(config))
    return folder


def arguments(data: Path, folder: Path, **more: str) -> list[str]:
    flags = {"images": f"{data}/images", "config": f"{data}/run.yaml", "to": str(folder)}
    flags |= {"val": f"{data}/val.json", "epochs": "2", "batch": "2", "optimizer": "sgd", **more}
    words = [word for name, value in flags.items() for word in (f"--{name}", value)]
    return [f"{data}/truth.json", "--new-predictor", *words]


@pytest.fixture(scope="module")
def trained(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    to = tmp_path_factory.mktemp("trained") / "to"
    assert train.main(arguments(data, to)) == 0
    return to


def record(to: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((to / "train.json").read_text())
    return content


def test_the_checkpoint_brings_its_names_and_options(trained: Path) -> None:
    assert {p.name for p in trained.iterdir()} == {
        "checkpoint.safetensors",
        "train.json",
        "report.html",
    }
    config = Config(input="in", output="out", weights=f"{trained}/checkpoint.safetensors")
    found = resolve(config, objects.read)
    assert found.categories == {1: "disc", 2: "bar"}
    assert found.options["min_size"] == 64 and found.options["num_classes"] == 3
    assert "box_batch_size_per_image" not in found.options
    page = (trained / "report.html").read_text()
    assert page.count('class="curve"') == 2 and "disc" in page
    content = record(trained)
    assert content["finished"] and [e["epoch"] for e in content["epochs"]] == [1, 2]
    assert content["images"] == 2 and content["held_out"] == 1 and content["boxes"] == 4
    assert content["epochs"][0]["categories"].keys() == {"disc", "bar"}
    assert re.search(r"<th>disc</th><td class=\"n\">1</td><td class=\"n\">\d", page)


def broken_off(data: Path, to: Path, patch: pytest.MonkeyPatch) -> None:
    """A training of two epochs that was broken off in the second."""
    whole = loop._train

    def broken(task: Any, world: Any, wrapped: Any, chosen: Any, epoch: int) -> Any:
        if epoch == 2:
            raise KeyboardInterrupt
        return whole(task, world, wrapped, chosen, epoch)

    with patch.context() as inner:
        inner.setattr(loop, "_train", broken)
        assert train.main(arguments(data, to)) == 130


def test_broken_off_it_goes_on_to_the_same_weights(
    data: Path,
    trained: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    broken_off(data, tmp_path / "to", monkeypatch)
    assert (tmp_path / "to/last.pth").exists()
    assert train.main(arguments(data, tmp_path / "to", seed="1")) == 2
    assert "holds a training that differs in seed (0, now 1)" in capsys.readouterr().err
    assert train.main(arguments(data, tmp_path / "to")) == 0
    assert not (tmp_path / "to/last.pth").exists()
    same = [(to / "checkpoint.safetensors").read_bytes() for to in (trained, tmp_path / "to")]
    assert same[0] == same[1]
    keys = ("loss", "losses", "metrics", "lr")
    ours, theirs = (
        [{k: e[k] for k in keys} for e in record(to)["epochs"]] for to in (trained, tmp_path / "to")
    )
    assert ours == theirs


def test_finished_it_says_so(
    data: Path, trained: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level("INFO")
    assert train.main(arguments(data, trained)) == 0
    assert "is finished already; nothing to do" in caplog.text
    assert "checkpoint  " in capsys.readouterr().out
    assert train.main(arguments(data, trained, epochs="3")) == 2
    assert "differs in epochs (2, now 3)" in capsys.readouterr().err


def test_a_state_that_is_not_of_its_record(
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    to = tmp_path / "to"
    broken_off(data, to, monkeypatch)
    state, checkpoint = to / "last.pth", (to / "checkpoint.safetensors").read_bytes()
    own = torch.load(state)
    torch.save(own | {"identity": {}}, state)
    assert train.main(arguments(data, to)) == 2
    assert "holds epochs but a last.pth of another training: give" in capsys.readouterr().err
    state.unlink()
    assert train.main(arguments(data, to)) == 2
    assert "holds epochs but no last.pth: give another folder" in capsys.readouterr().err
    assert (to / "checkpoint.safetensors").read_bytes() == checkpoint
    torch.save(own, state)
    (to / "train.json").write_text(json.dumps(record(to) | {"epochs": []}))
    assert train.main(arguments(data, to, epochs="1")) == 0
    assert "last.pth belongs to another training; this one starts from the beginning" in caplog.text
    assert [e["epoch"] for e in record(to)["epochs"]] == [1]


def test_its_end_is_noted_once_all_epochs_are_done(
    data: Path, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    to = tmp_path / "to"
    shutil.copytree(trained, to)
    for finished in (None, 1.0):  # broken off before the note, and before the state was removed
        (to / "train.json").write_text(json.dumps(record(to) | {"finished": finished}))
        (to / "last.pth").write_bytes(b"")
        assert train.main(arguments(data, to)) == 0
        assert record(to)["finished"] and not (to / "last.pth").exists()
    with monkeypatch.context() as patch:
        patch.setattr(loop, "run", lambda *_: None)
        assert train.main(arguments(data, tmp_path / "none")) == 1
    assert record(tmp_path / "none")["finished"] is None


def test_another_training_takes_over(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def overtaken(*given: Any) -> Any:
        (to / "train.json").write_text(json.dumps(record(to) | {"attempt": "other"}))
        return whole(*given)

    to, whole = tmp_path / "to", loop._train
    monkeypatch.setattr(loop, "_train", overtaken)
    assert train.main(arguments(data, to)) == 1
    assert "another training has taken over " in capsys.readouterr().err
    assert [path.name for path in to.iterdir()] == ["train.json"]


@pytest.mark.parametrize(
    "more,words",
    [
        ({"images": "/nowhere"}, "/nowhere"),
        ({"val": ""}, "--val is empty"),
        ({"batch": "0"}, "batch must be a whole number above 0"),
        ({"config": "TILED"}, "tile does not apply to a training"),
        ({"val": "TRUTH"}, "2 images of --val would also be trained on, such as "),
    ],
)
def test_what_cannot_be_is_one_line(
    data: Path,
    tmp_path: Path,
    more: dict[str, str],
    words: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    tiled = tmp_path / "tiled.yaml"
    tiled.write_text("tile: 64\n")
    paths = {"TRUTH": f"{data}/truth.json", "TILED": str(tiled)}
    more = {name: paths.get(value, value) for name, value in more.items()}
    assert train.main(arguments(data, tmp_path / "to", **more)) == 2
    err = capsys.readouterr().err
    assert words in err and err.count("\n") == 1 and not (tmp_path / "to").exists()


def test_without_a_box_or_without_held_out_images(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = json.loads((data / "truth.json").read_text())
    empty = drawn.write(tmp_path / "empty.json", content | {"annotations": []})
    given = arguments(data, tmp_path / "to")
    assert train.main([str(empty), *given[1:]]) == 2
    assert "has no box to learn from" in capsys.readouterr().err
    place = given.index("--val")
    split = [*given[:place], *given[place + 2 :], "--holdout", "0.0001"]
    assert train.main(split) == 2
    assert "holds no image out, because there are few" in capsys.readouterr().err


def test_another_program_s_checkpoint_is_not_written_over(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save({}, tmp_path / "checkpoint.safetensors")
    assert train.main(arguments(data, tmp_path)) == 2
    assert "holds a checkpoint.safetensors without a train.json" in capsys.readouterr().err
