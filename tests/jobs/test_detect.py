"""The command: its exit codes, its one line for every mistake, its last words."""

from __future__ import annotations

import dataclasses
import functools
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import s3fs
import torch

from jobs import detect
from pipeline import Config, Summary, UsageError
from pipeline.driver import runner
from tests.support import seaweed
from tests.support.engines import PixelEngine
from tests.support.outputs import rows
from tests.support.runs import SMALL


def test_flags_before_yaml_before_defaults(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(
        "input: a\noutput: b\nreplicas: 3\nlimit: 5\n"
        "model: {min_size: 400, box_nms_thresh: 0.4}\nfetch_concurrency: 8\n"
    )
    flags = ["--config", str(path), "--limit", "7", "--min-size", "300", "--score-threshold", "0.3"]
    config, dry_run, refresh = detect.parse([*flags, "--extensions", "jpg", "png"])
    assert (
        not dry_run
        and not refresh
        and config
        == Config(
            input="a",
            output="b",
            replicas=3,
            limit=7,
            fetch_concurrency=8,
            extensions=("jpg", "png"),
            model={"min_size": 300, "box_nms_thresh": 0.4, "box_score_thresh": 0.3},
        )
    )
    assert detect.parse(["--input", "a", "--output", "b"])[0] == Config(input="a", output="b")


@pytest.mark.parametrize(
    "flags,fields",
    [
        ("--depth-range 0 4095", {"depth_range": (0, 4095)}),
        ("--depth-range auto --bands 4 3 2", {"depth_range": "auto", "bands": (4, 3, 2)}),
        ("--bands 4,3,2", {"bands": (4, 3, 2)}),
    ],
)
def test_flags_of_samples(flags: str, fields: dict[str, Any]) -> None:
    given = ["--input", "a", "--output", "b", *flags.split()]
    assert detect.parse(given)[0] == Config(input="a", output="b", **fields)


def test_failures_and_images_of_little_contrast_are_said(
    capsys: pytest.CaptureFixture[str],
) -> None:
    counts: dict[str, Any] = {
        "images": 9,
        "detections": 2,
        "errors": {},
        "duplicates": 0,
        "processed": 0,
    }
    found = Summary(
        **counts,
        low_contrast=1234,
        low_contrast_example="s3://b/a.tif",
        seconds=1,
        output="/out",
        max_error_rate=0,
    )
    detect.show(found)
    detect.show(dataclasses.replace(found, low_contrast=0))
    detect.show(dataclasses.replace(found, low_contrast=0, errors={"empty": 1}, output="/my out"))
    said = capsys.readouterr().out.splitlines()
    assert "retry them  the same command with --input '/my out/detections/status=error'" in said
    lines = [line for line in said if "contrast" in line]
    assert lines == [
        "contrast    1,234 images of more than 8 bits per sample use at most a 16th of the grey "
        "levels, such as s3://b/a.tif; see --depth-range"
    ]


def test_whole_numbers_as_yaml_takes_them() -> None:
    flags = ["--input", "a", "--output", "b"]
    more = "--limit 1e6 --max-pixels 1_000 --min-size 3e2 --max-detections 50.0".split()
    config = detect.parse([*flags, *more])[0]
    assert (config.limit, config.max_pixels) == (1_000_000, 1000) and type(config.limit) is int
    assert config.model == {"min_size": 300, "box_detections_per_img": 50}
    for wrong in ("--limit many", "--limit 1.5", "--min-size 1e-3"):
        with pytest.raises(UsageError, match="whole number"):
            detect.parse([*flags, *wrong.split()])


def test_flags_of_reading(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(
        "input: a\noutput: b\nhttp_headers: {referer: x, 'https://H:443': {x-key: k}}\n"
        "s3_options: {use_ssl: false}\n"
    )
    flags = ["--config", str(path), "--http-header", "Referer: http://y", "From: me"]
    more = ["--http-header", "accept: image/*", "--s3-option", "requester_pays=true"]
    config, *_ = detect.parse([*flags, *more, "--s3-anonymous"])
    everywhere = {"Referer": "http://y", "From": "me", "Accept": "image/*"}
    assert config.http_headers == {**everywhere, "https://h": {"X-Key": "k"}}
    assert config.s3_options == {"use_ssl": False, "requester_pays": True, "anon": True}
    assert detect.parse(["--config", str(path), "--s3-anonymous"])[0].s3_options == {
        "use_ssl": False,
        "anon": True,
    }


@pytest.mark.parametrize(
    "flags,complaint",
    [
        ("--http-header Authorization:c4n4ry", "--http-header: Authorization may be a secret"),
        ("--http-header Authorization: Bearer c4n4ry", "--http-header must be 'NAME: VALUE'"),
        ("--s3-option secret=c4n4ry", "--s3-option: secret looks like a credential"),
        ("--s3-option c4n4ry", "--s3-option must be NAME=VALUE"),
        ("--s3-option anno=true", "did you mean 'anon'?"),
    ],
)
def test_secrets_on_the_command_line(
    flags: str, complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """They are refused, and not said again."""
    assert detect.main(["--input", "a", "--output", "b", *flags.split()]) == 2
    err = capsys.readouterr().err
    assert complaint in err and err.count("\n") == 1 and "c4n4ry" not in err


@pytest.fixture
def images(folder: Path, tmp_path: Path) -> dict[str, str]:
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "x.jpg").write_bytes(b"")
    torch.save({"weight": torch.zeros(1)}, tmp_path / "other.pth")
    (tmp_path / "t.csv").write_text("a,b\n1,2\n")
    (tmp_path / "junk.parquet").write_bytes(b"junk")
    (tmp_path / "bad.yaml").write_text("inptu: x\n")
    (tmp_path / "model.yaml").write_text("model: {min_sise: 3}\n")
    return {"in": str(folder), "dir": str(tmp_path), "broken": str(broken)}


@pytest.mark.parametrize(
    "flags,complaint",
    [
        ("--inptu x", "unknown argument '--inptu' (did you mean '--input'?)"),
        ("--output o", "--input is missing"),
        ("--input i --output o --limit many", "--limit must be a whole number above 0, not 'many'"),
        ("--input i --output o --fps 50%", "--fps must be a number, not '50%'"),
        ("--input i --output o --tile 1", "--tile must be a whole number of at least 32, not 1"),
        (
            "--input i --output o --fps 1 --every-nth 2",
            "--fps, --every-nth and keyframes: give one of them",
        ),
        ("--input a.jpg b.jpg --output o", "--input takes one value, so 'b.jpg' is left over"),
        ("photos o ", "write --input photos --output o"),
        ("photos --output o", "write --input photos"),
        ("--input i --output o --dry-run x", "'x' belongs to no flag"),
        ("--input i --output o --device tpu", "device must be auto, cuda or cpu"),
        ("--config {dir}/bad.yaml", "unknown key 'inptu' (did you mean 'input'?)"),
        ("--config {dir}/model.yaml --input i --output o", "did you mean 'min_size'?"),
        ("--config {dir}/none.yaml", "none.yaml: No such file or directory"),
        ("--input {dir}/none --output {dir}/o", "none: it does not exist"),
        ("--input {dir}/broken --output {dir}/o --extensions tif", "no images under"),
        ("--input s3://not-a-bucket-of-ours/x --output {dir}/o", "it does not exist"),
        ("--input {in} --output {dir}/o --device cuda", "the cluster has no GPU"),
        ("--input {in} --output {dir}/o --weights {dir}/other.pth", "are not of a fasterrcnn"),
        ("--input {in} --output {dir}/o --weights {dir}/none.pth", "it does not exist"),
        ("--input {in} --output {dir}/o --weights {dir}", "it is a folder; give the file in it"),
        ("--input {dir}/junk.parquet --output {dir}/o", "cannot read"),
        ("--input {in} --output s3://", "names no bucket"),
        ("--input s3://buck[et/x --output {dir}/o", "is not a URL"),
        ("--input {dir}/t.csv --output {dir}/o", "has no column named"),
        ("--input {dir}/t.csv --output {dir}/o --uri-column c", "has no column 'c'"),
        ("--input {in} --output {dir}/o --cpus-per-replica 64", "too small for the run"),
    ],
)
def test_a_mistake_is_one_line_and_code_2(
    cluster: None,
    images: dict[str, str],
    flags: str,
    complaint: str,
    capfd: pytest.CaptureFixture[str],
) -> None:
    arguments = [word.format(**images) for word in flags.split()]
    weights = [] if "--weights" in flags else ["--weights", "random:0"]
    assert detect.main([*arguments, *weights]) == 2
    out, err = capfd.readouterr()
    (line,) = [line for line in err.splitlines() if line.startswith("prelabel detect: ")]
    assert complaint in line and "Traceback" not in err and out == ""


@pytest.fixture
def cheap(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The flags of a run whose network is none."""
    monkeypatch.setattr(runner, "run", functools.partial(runner.run, make_engine=PixelEngine))
    return ["--weights", "random:0"]


def test_too_many_errors(
    cluster: None, images: dict[str, str], capfd: pytest.CaptureFixture[str], cheap: list[str]
) -> None:
    flags = [*cheap, "--input", images["broken"], "--output", f"{images['dir']}/o"]
    assert detect.main(flags) == 3
    out, err = capfd.readouterr()
    assert "errors      1 (empty 1)" in out and "--input" in out
    assert "1 of 1 images failed, more than --max-error-rate 0.05 allows" in err
    assert detect.main([*flags, "--max-error-rate", "1"]) == 0


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """A folder into which a wheel is installed that was built of the sources."""
    root, source = Path(__file__).parents[2], tmp_path / "source"
    skipped = shutil.ignore_patterns("__pycache__")
    for name in ("pipeline", "jobs"):
        shutil.copytree(root / name, source / name, ignore=skipped)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(root / name, source)
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    alone = ["--no-deps", "--no-build-isolation", "--no-index"]
    wheels, site = tmp_path / "wheels", tmp_path / "site"
    subprocess.run([*pip, "wheel", *alone, "--wheel-dir", wheels, source], check=True)
    (wheel,) = wheels.iterdir()
    subprocess.run([*pip, "install", *alone, "--target", site, wheel], check=True)
    return site


@pytest.mark.ray
def test_the_command_from_outside(
    photographs: dict[str, bytes],
    installed: Path,
    tmp_path: Path,
    s3: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As a wheel has it, in a folder in which other packages have the names of ours.

    With a cluster of its own, all of whose processes have the rights of deploy/iam-policy.json: to
    read the input, and to write the output.
    """
    for name in ("pipeline", "jobs"):
        (tmp_path / "elsewhere" / name).mkdir(parents=True)
        (tmp_path / "elsewhere" / name / "__init__.py").write_text("raise ImportError('not this')")
    monkeypatch.chdir(tmp_path / "elsewhere")
    monkeypatch.setenv("PYTHONPATH", str(installed))
    for bucket in seaweed.NARROW:
        s3.create_bucket(Bucket=bucket)
    source, target = seaweed.NARROW
    for name, data in photographs.items():
        s3.put_object(Bucket=source, Key=f"images/{name}", Body=data)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", seaweed.NARROW_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", seaweed.NARROW_SECRET)
    with pytest.raises(PermissionError):
        s3fs.S3FileSystem(skip_instance_cache=True).pipe_file(f"{source}/images/new.png", b"no")

    (tmp_path / "run.yaml").write_text(f"model: {SMALL}\nweights: random:0\n")
    output = f"s3://{target}/labels"
    command = [
        str(installed / "bin" / "prelabel"),
        "detect",
        "--config",
        str(tmp_path / "run.yaml"),
        "--input",
        f"s3://{source}/images/",
        "--output",
        output,
    ]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ, timeout=200)
    assert done.returncode == 0, done.stderr
    assert "images      8" in done.stdout and "errors      0" in done.stdout
    for words in ("input ", "weights ", "UNTRAINED", "replicas ", "output "):
        assert words in done.stderr
    assert "Warning" not in done.stderr and "core_worker" not in done.stderr
    (look,) = [line for line in done.stdout.splitlines() if line.startswith("look at it")]
    look = look.removeprefix("look at it").strip()
    assert look.startswith("prelabel report ")
    page = tmp_path / "report.html"
    look = look.replace("report.html", str(page))
    shown = subprocess.run(f"{installed}/bin/{look}", shell=True)
    assert shown.returncode == 0 and "rocket.jpg" in page.read_text()
    assert len(rows(output)) == len(photographs)


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        detect.main(["--help"])
    assert stop.value.code == 0
    assert "--input URL" in capsys.readouterr().out


def test_the_exit_code_whatever_comes_after() -> None:
    """What Python would do at its end is left out, and nobody may be there to read."""
    code = "import atexit, os; from jobs import cli; atexit.register(os._exit, 1); print('done')"
    end, reader_gone = os.pipe()
    os.close(end)
    command = [sys.executable, "-c", f"{code}; cli.leave(3)"]
    buffered = os.environ | {"PYTHONUNBUFFERED": ""}
    done = subprocess.run(command, stdout=reader_gone, stderr=subprocess.PIPE, env=buffered)
    os.close(reader_gone)
    assert (done.returncode, done.stderr) == (3, b"")
