"""The real parts that tests share: an S3 server, a Ray cluster, photographs."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
import s3fs
import torch
from PIL import Image

from pipeline import Config, run
from pipeline.bench import standin
from pipeline.driver import start
from pipeline.network import weights
from pipeline.network.contract import Weights
from tests.support import seaweed
from tests.support.runs import SMALL

# Every Ray cluster of a test is started with this. Ray ends idle processes beyond one a CPU, and
# to start another for each task takes longer than most tasks here.
os.environ |= {"RAY_num_workers_soft_limit": "8", "RAY_DATA_USAGE_DISABLED": "1"}

PILLOWS_LIMIT = Image.MAX_IMAGE_PIXELS


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whatever takes the shared cluster, and each whole run, has the mark `ray`."""
    for item in items:
        whole = item.path.parent.name == "whole"
        if whole or "cluster" in getattr(item, "fixturenames", ()):
            item.add_marker("ray")


@pytest.fixture(autouse=True)
def pillows_own_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """A header that is read sets it for the whole process; the next test begins with Pillow's."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", PILLOWS_LIMIT)


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A boto3 client of an S3 server to which the AWS environment points."""
    with seaweed.serve(tmp_path_factory.mktemp("seaweedfs")) as client:
        yield client


@pytest.fixture
def bucket(s3: Any, request: pytest.FixtureRequest) -> str:
    """A fresh bucket's name."""
    name = "".join(c if c.isalnum() else "-" for c in request.node.name.lower()).strip("-")
    name = f"{name[:40].strip('-')}-{time.time_ns()}"
    s3.create_bucket(Bucket=name)
    return name


@pytest.fixture
def no_rights(s3: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The credentials of this process are those of a user who may do nothing."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", seaweed.NO_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", seaweed.NO_SECRET)
    s3fs.S3FileSystem.clear_instance_cache()
    yield
    s3fs.S3FileSystem.clear_instance_cache()


@pytest.fixture(scope="session")
def cluster(s3: Any) -> Iterator[None]:
    """One Ray cluster for all tests that run in this process; its workers reach the S3 server."""
    ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


@pytest.fixture(scope="session", autouse=True)
def random_weights_once() -> Iterator[None]:
    """Weights of one seed and one network are made, and found for runs, once.

    That takes a tenth of a small run.
    """
    made: dict[str, dict[str, torch.Tensor]] = {}
    found: dict[str, Weights] = {}
    make = weights._random_state

    def key(config: Config) -> str:
        return repr((config.weights, sorted(config.model.items())))

    def remembered(config: Config) -> dict[str, torch.Tensor]:
        if key(config) not in made:
            made[key(config)] = make(config)
        return made[key(config)]

    def resolved(config: Config, read: weights.Read) -> Weights:
        if config.categories or not config.weights.startswith("random:"):
            return weights.resolve(config, read)
        if key(config) not in found:
            found[key(config)] = weights.resolve(config, read)
        return found[key(config)]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(weights, "_random_state", remembered)
        patch.setattr(start, "resolve", resolved)
        yield


@pytest.fixture(scope="session")
def calibrated() -> Weights:
    """Weights of a trained network's magnitudes, which do not amplify rounding."""
    return standin.weights(SMALL)


@pytest.fixture(scope="session")
def calibrated_file(calibrated: Weights, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A checkpoint of them."""
    path = tmp_path_factory.mktemp("weights") / "calibrated.pth"
    torch.save({name: torch.tensor(array) for name, array in calibrated.state.items()}, path)
    return str(path)


@pytest.fixture(scope="session")
def detected(
    cluster: None,
    photographs: dict[str, bytes],
    calibrated_file: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Config:
    """A run of the real network over the photographs that came to its end; not to be changed."""
    folder = tmp_path_factory.mktemp("detected")
    (folder / "images").mkdir()
    for name, data in photographs.items():
        (folder / "images" / name).write_bytes(data)
    (folder / "names.txt").write_text("\n".join(f"n{i}" for i in range(1, 91)))
    config = Config(
        input=f"{folder}/images",
        output=f"{folder}/out",
        weights=calibrated_file,
        model=SMALL,
        categories=f"{folder}/names.txt",
    )
    summary = run(config)
    assert summary and summary.errors == {}
    return config


@pytest.fixture(scope="session")
def photographs() -> dict[str, bytes]:
    """Name to bytes of the photographs in scikit-image."""
    import skimage

    folder = Path(skimage.__file__).parent / "data"
    names = (
        "astronaut.png",
        "brick.png",
        "camera.png",
        "chelsea.png",
        "coffee.png",
        "hubble_deep_field.jpg",
        "moon.png",
        "rocket.jpg",
    )
    return {name: (folder / name).read_bytes() for name in names}


@pytest.fixture
def folder(tmp_path: Path, photographs: dict[str, bytes]) -> Path:
    """A folder with the photographs."""
    images = tmp_path / "images"
    images.mkdir()
    for name, data in photographs.items():
        (images / name).write_bytes(data)
    return images
