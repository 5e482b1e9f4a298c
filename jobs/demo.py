"""Run detect on the photographs that scikit-image ships, and look at what came out."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

import pyarrow.dataset as ds

from jobs import cli, detect, report
from pipeline import words
from pipeline.config import Config
from pipeline.errors import UsageError
from pipeline.network.categories import UNNAMED
from pipeline.store import objects

FOLDER = Path("demo")


def copy_photographs() -> Path:
    """The photographs among scikit-image's pictures, in a folder of their own.

    Raises:
        UsageError: scikit-image is not there.
    """
    try:
        import skimage  # late, as torch below: help and typos need neither
    except ImportError as error:
        need = (
            "the photographs come with scikit-image, which is not installed: pip install "
            "'.[demo]' in the clone"
        )
        raise UsageError(f"{need}, or run prelabel detect on a folder of your own") from error

    source = Path(skimage.__file__).parent / "data"
    names = (
        "astronaut.png",
        "camera.png",
        "chelsea.png",
        "coffee.png",
        "coins.png",
        "motorcycle_left.png",
        "motorcycle_right.png",
        "rocket.jpg",
    )
    images = FOLDER / "images"
    images.mkdir(parents=True, exist_ok=True)
    for name in names:
        shutil.copy(source / name, images / name)
    return images


def usable_weights() -> str:
    """COCO_V1, or where it cannot be had, untrained weights: said plainly, and only in a demo."""
    from pipeline.network import weights

    try:
        weights.resolve(Config(input=".", output="."), objects.read)
        return "COCO_V1"
    except UsageError as error:
        print(f"demo: {error}", file=sys.stderr)
        print(
            "demo: continuing with random:0, an UNTRAINED network: every step of the run is "
            "real, but its boxes and labels mean nothing",
            file=sys.stderr,
        )
        return "random:0"


def show(output: Path) -> None:
    """A line an image: its size, how much was found, and the best of it."""
    columns = ["image_uri", "width", "height", "num_detections", "detections", "error_code"]
    rows = ds.dataset(output / "detections").to_table(columns=columns).to_pylist()
    for row in sorted(rows, key=lambda row: str(row["image_uri"])):
        name = Path(row["image_uri"]).name
        if row["detections"] is None:
            print(f"{name:24} failed: {row['error_code']}")
            continue
        best = ", ".join(f"{called(d)} {d['score']:.2f}" for d in row["detections"][:3])
        size = f"{row['width']}x{row['height']}"
        print(f"{name:24} {size:>9} {row['num_detections']:4} boxes   {best}")


def called(detection: dict[str, Any]) -> str:
    """Its category as the other jobs call it; torchvision's list has some without a name."""
    label = str(detection["label"])
    return label if label != UNNAMED else f"unnamed {detection['label_id']}"


def parser() -> cli.Parser:
    """It has no flags of its own."""
    folder = f"Everything is written below {FOLDER}/ in the working directory. "
    return cli.Parser("demo", __doc__, f"{folder}Exit codes: those of prelabel detect.")


def job(arguments: list[str]) -> int:
    """Run it; returns the exit code."""
    parser().given(arguments)
    images = copy_photographs()
    chosen = usable_weights()
    output = FOLDER / f"labels-{chosen.replace(':', '-')}"
    flags = ["--input", str(images), "--output", str(output), "--weights", chosen]
    print(f"demo: {words.command('detect')} {' '.join(flags)}", file=sys.stderr)
    code = detect.main(flags)
    if code == 0:
        print()
        show(output)
        print()
        code = report.main([str(output), "--to", f"{output}.html"])
    return code


def main(arguments: list[str] | None = None) -> int:
    """Run the job; returns its exit code."""
    return cli.main("demo", job, arguments, detect.KEPT)


if __name__ == "__main__":
    cli.leave(main())
