"""What a configuration refuses, each in one clear line."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from pipeline.config import AT_LEAST_ONE, Config, from_yaml
from pipeline.errors import UsageError


@pytest.mark.parametrize(
    "options,complaint",
    [
        ({"limit": 0}, "limit must be a whole number above 0"),
        ({"replicas": 1.5}, "replicas must be a whole number"),
        ({"gpus_per_replica": -1}, "gpus_per_replica must be a number above 0"),
        ({"gpus_per_replica": 1.5}, "fraction of one GPU or a whole number"),
        ({"max_error_rate": 2}, "within 0 and 1"),
        ({"device": "tpu"}, "auto, cuda or cpu"),
        ({"uri_column": "a", "bytes_column": "b"}, "not both"),
        ({"extensions": []}, "at least one"),
        ({"extensions": 3}, "list of words"),
        ({"input": "s3://key:secret@bucket/x"}, "holds credentials"),
        ({"model": {"min_szie": 3}}, "did you mean 'min_size'"),
        ({"limit": True}, "limit must be a whole number above 0, not True"),
        ({"limit": "many"}, "limit must be a whole number above 0, not 'many'"),
        ({"limit": "1e-3"}, "limit must be a whole number above 0, not 0.001"),
        ({"fetch_timeout": float("nan")}, "fetch_timeout must be a number above 0, not nan"),
        ({"grace": True}, "grace must be a number above 0, not True"),
        ({"max_error_rate": float("nan")}, "max_error_rate must be within 0 and 1, not nan"),
        ({"max_error_rate": False}, "max_error_rate must be within 0 and 1, not False"),
        ({"uri_column": False}, "uri_column must be a name, not False"),
        ({"bytes_column": 3}, "bytes_column must be a name, not 3"),
        ({"input": ""}, "must be a path or URL"),
        (
            {"input": "zip://images::/x.zip"},
            "input is a chained URL of fsspec .*: unpack an archive",
        ),
        ({"input": "ZIP://images.zip"}, "input is a chained URL of fsspec"),
        ({"output": "simplecache::s3://b/out"}, "output is a chained URL of fsspec"),
        ({"weights": "s3::file://x.pth"}, "weights is a chained URL of fsspec"),
        ({"input": "file://server/a"}, "input must begin with file:/// or be a path"),
        ({"stall_timeout": 300}, r"must be above fetch_timeout \(300\) and decode_timeout"),
        ({"fps": 1, "stall_timeout": 450}, "must be above 1.5 times fetch_timeout"),
        (
            {"fps": float("inf")},
            "fps must be a number above 0 and at most 1,000,000 .--every-nth 1",
        ),
        ({"accept_truncated": 0}, "accept_truncated must be above 0 and at most 1, not 0"),
        ({"accept_truncated": 95}, "accept_truncated must be above 0 and at most 1, not 95"),
        ({"accept_truncated": True}, "accept_truncated must be above 0 and at most 1, not True"),
        ({"sniff": 1}, "sniff must be true or false, not 1"),
        (
            {"input": "s3:/b/in"},
            "input has only one slash after its scheme: write s3://, not s3:/$",
        ),
        ({"weights": "COCO_V2"}, "weights must be COCO_V1, the path or URL"),
        ({"score_threshold": 30}, "model.box_score_thresh .--score-threshold. must be"),
    ],
)
def test_refused(options: dict[str, Any], complaint: str) -> None:
    with pytest.raises(UsageError, match=complaint):
        Config(**({"input": "in", "output": "out"} | options))


@pytest.mark.parametrize(
    "line,expected",
    [
        ("depth_range: [0, 4095]", (0, 4095)),
        ("depth_range: 7e3 9040", (7000, 9040)),
        ("depth_range: auto", "auto"),
        ("bands: [4, 3, 2]", (4, 3, 2)),
        ("bands: 4,3,2", (4, 3, 2)),
        ("bands: 8", (8,)),
    ],
)
def test_what_samples_become(tmp_path: Path, line: str, expected: Any) -> None:
    (tmp_path / "run.yaml").write_text(line)
    config = Config(input="in", output="out", **from_yaml(str(tmp_path / "run.yaml")))
    name = line.partition(":")[0]
    assert getattr(config, name) == expected
    assert config.identity()[name] == (expected if expected == "auto" else list(expected))


@pytest.mark.parametrize(
    "value", [[5, 5], [9, 3], [0], [-1, 9], [0, 65536], [0, 0.5], "aut", [], True, {}]
)
def test_no_range(value: Any) -> None:
    words = "depth_range must be auto, or two whole numbers within 0 and 65535, the smaller one"
    with pytest.raises(UsageError, match=words):
        Config(input="in", output="out", depth_range=value)


@pytest.mark.parametrize(
    "value", [[1, 2], [0, 1, 2], "red", [1, 2, 3, 4], [], ["1", "b", 3], 1.5, False]
)
def test_no_bands(value: Any) -> None:
    with pytest.raises(UsageError, match="bands must be three whole numbers above 0, or one, not"):
        Config(input="in", output="out", bands=value)


@pytest.mark.parametrize(
    "fields,reason",
    [
        ({"tile": 31}, "tile must be a whole number of at least 32, not 31"),
        ({"tile": 640.5}, "tile must be a whole number of at least 32, not 640.5"),
        ({"tile": True}, "tile must be a whole number of at least 32, not True"),
        ({"tile": 640, "tile_overlap": 1}, "tile_overlap must be a number from 0 to 0.9, not 1"),
        ({"tile": 640, "tile_overlap": -0.1}, "tile_overlap must be a number from 0 to 0.9"),
        ({"tile": 640, "tile_overlap": None}, "tile_overlap must be a number from 0 to 0.9"),
        ({"tile": 640, "tile_overlap": 128}, "tile_overlap must be a number from 0 to 0.9"),
        ({"tile_overlap": 0.3}, "tile_overlap goes with tile, the side of a tile in pixels"),
    ],
)
def test_no_tiles(fields: dict[str, Any], reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        Config(input="in", output="out", **fields)


def test_tiles_as_yaml_takes_them() -> None:
    config = Config(input="in", output="out", tile="1e3", tile_overlap="2e-1")  # type: ignore[arg-type]
    assert (config.tile, config.tile_overlap) == (1000, 0.2)


def test_paths_are_made_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = Config(input="in/", output="out/", weights="model.pth", extensions=("JPG", ".png"))
    assert config.input == f"{tmp_path}/in" and config.output == f"{tmp_path}/out"
    assert config.weights == f"{tmp_path}/model.pth"
    assert config.extensions == ("jpg", "png")
    assert Config(input="s3://b/x/", output="s3://b/y/").input == "s3://b/x/"
    assert Config(input="s3://b/zip::x/", output="o").input == "s3://b/zip::x/"
    assert Config(input="/a::b/", output="o").input == "/a::b"
    for url in ("file:///a%20b/c#1/d?e/", "FILE://localhost/a b/c%231/d%3Fe"):  # as in a table
        assert Config(input=url, output="o").input == "/a b/c#1/d?e"
    assert Config(input="file:///%FF", output="o").input == "file:///%FF"


def test_yaml(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("input: in\nmodel:\n  min_size: 400\n")
    assert from_yaml(str(path)) == {"input": "in", "model": {"min_size": 400}}
    path.write_text("inptu: in\n")
    with pytest.raises(UsageError, match="unknown key 'inptu' .did you mean 'input'"):
        from_yaml(str(path))
    path.write_text("!!python/object/apply:os.system ['true']")
    with pytest.raises(UsageError, match="cannot read"):
        from_yaml(str(path))
    for text, complaint in (
        (
            "model:\n  min_size: 400\nlimit: 3\nmodel:\n  max_size: 900\n",
            "model is given twice .*line 4",
        ),
        ("limit: 2026-13-45", "cannot read --config .*: month must be in 1..12"),
    ):
        path.write_text(text)
        with pytest.raises(UsageError, match=complaint):
            from_yaml(str(path))
    path.write_text("- a\n- b\n")
    with pytest.raises(UsageError, match="must hold"):
        from_yaml(str(path))
    with pytest.raises(UsageError, match="cannot read"):
        from_yaml(str(tmp_path / "absent.yaml"))


@pytest.mark.parametrize(
    "line,expected",
    [
        ("limit: 1e6", 1_000_000),
        ("limit: 1.0e+6", 1_000_000),
        ("max_pixels: 2E8", 200_000_000),
        ("max_object_bytes: 1_000_000", 1_000_000),
        ("fetch_attempts: '7'", 7),
        ("rows_per_file: 64.0", 64),
        ("max_error_rate: 1e-3", 0.001),
        ("max_error_rate: .5e-1", 0.05),
        ("cpus_per_replica: 1.5e0", 1.5),
        ("stall_timeout: 1e4", 10_000),
        ("grace: +5e1", 50),
        ("accept_truncated: 9.5e-1", 0.95),
    ],
)
def test_numbers_as_people_write_them(tmp_path: Path, line: str, expected: float) -> None:
    (tmp_path / "run.yaml").write_text(f"input: in\noutput: out\n{line}\n")
    config = Config(**from_yaml(str(tmp_path / "run.yaml")))
    found = getattr(config, line.partition(":")[0])
    assert found == expected
    assert line.partition(":")[0] not in AT_LEAST_ONE or type(found) is int


def test_what_is_no_number_to_its_field_stays_text(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("input: in\noutput: 1e6\nuri_column: 1e3\ncarry: [1e-3]\n")
    config = Config(**from_yaml(str(path)))
    assert config.output.endswith("/1e6") and config.uri_column == "1e3"
    assert config.carry == ("1e-3",)


def test_limits_are_no_part_of_the_identity() -> None:
    one, other = (Config(input="a", output="b", max_pixels=n) for n in (10, 20))
    assert one.identity() == other.identity()
    for change in ({"limit": 3}, {"precision": "fp16"}, {"sniff": True}, {"accept_truncated": 1}):
        assert one.identity() != Config(input="a", output="b", **change).identity()


def test_short_names_of_the_network() -> None:
    """As flags have them; they win over `model`, and a changed copy keeps what they said."""
    given: dict[str, Any] = {"input": "i", "output": "o"}
    given["model"] = {"min_size": 400, "box_nms_thresh": 0.4}
    config = Config(**given, score_threshold=0.3, max_detections=7, min_size=300)
    expected = {"box_score_thresh": 0.3, "box_detections_per_img": 7, "box_nms_thresh": 0.4}
    assert config.model == expected | {"min_size": 300}
    assert dataclasses.replace(config, limit=3).model == config.model


def test_paths_of_pathlib(tmp_path: Path) -> None:
    names: dict[str, Any] = {"input": "i", "output": "o", "weights": "w.pth", "categories": "c"}
    paths: dict[str, Any] = {name: tmp_path / value for name, value in names.items()}
    texts: dict[str, Any] = {name: str(path) for name, path in paths.items()}
    assert Config(**paths) == Config(**texts)


def test_short_names_and_keywords_in_yaml(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("min_size: 300\nscore_threshold: 0.3\nmodel:\nlimit:\n")
    assert from_yaml(str(path)) == {"min_size": 300, "score_threshold": 0.3}
    path.write_text("box_nms_thresh: 0.3\n")
    with pytest.raises(UsageError, match="box_nms_thresh belongs under `model:`"):
        from_yaml(str(path))


@pytest.mark.parametrize(
    "url", ["zip://a.zip::s3://KEY:c4n4ry@b/x", "https:/me:c4n4ry@h/x?sig=c4n4ry", "s3:/K:c4n4ry@b"]
)
def test_what_is_refused_for_its_form_is_not_repeated(url: str) -> None:
    with pytest.raises(UsageError) as refused:
        Config(input=url, output="o")
    assert "c4n4ry" not in str(refused.value)


def test_one_glob_may_hold_a_blank() -> None:
    assert Config(input="i", output="o", exclude="my photos/**").exclude == ("my photos/**",)  # type: ignore[arg-type]
