"""What a run says about itself, in `OUTPUT/_run/run.json`: enough to explain it later."""

from __future__ import annotations

import dataclasses
import json
import platform
import socket
import time
import uuid
from typing import Any

from pipeline.cluster.placement import Placement
from pipeline.config import EXTENSIONS_BEFORE, IMAGE_EXTENSIONS, Config
from pipeline.driver import changes
from pipeline.errors import UsageError
from pipeline.network.build import option
from pipeline.network.contract import ARCHITECTURE, Weights
from pipeline.outputs.layout import Layout
from pipeline.outputs.lease import Lease
from pipeline.outputs.schema import SCHEMA_VERSION
from pipeline.reading import shown
from pipeline.store import failures, objects, urls
from pipeline.words import versions

LAYOUT = 2
# what older versions did where they did not say so
BEFORE: dict[str, Any] = {"precision": "fp32", "include": [], "exclude": []}
PACKAGES = ("prelabel", "torch", "torchvision", "ray", "pyarrow", "pillow", "fsspec", "s3fs")


@dataclasses.dataclass
class Record:
    """The content of `run.json`.

    Attributes:
        run_id: constant over all attempts.
        identity: what may not differ when the run is resumed.
        config: the latest attempt's.
        weights: id, sha256, whether trained, and categories.
        attempts: when each attempt began and ended, where, on what, in which versions.
        retry_from: attempts before this one have had their error rows redone; 0 for none.
        counts: of the finished run, from its files.
        layout: of the files' names; 1 had no slice in them.
        overviews: whether the network is given those of large images, as runs of earlier versions
            are not.
    """

    run_id: str
    identity: dict[str, Any]
    config: dict[str, Any]
    weights: dict[str, Any]
    attempts: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    retry_from: int = 0
    counts: dict[str, Any] | None = None
    layout: int = 1
    overviews: bool = False

    @property
    def attempt(self) -> int:
        return len(self.attempts)


def new(config: Config, weights: Weights) -> Record:
    return Record(
        run_id=uuid.uuid4().hex,
        identity=identity(config, weights),
        layout=LAYOUT,
        overviews=True,
        config={},
        weights={
            "model_id": weights.model_id,
            "sha256": weights.sha256,
            "trained": weights.trained,
            "categories": {str(k): v for k, v in weights.categories.items()},
        },
    )


def identity(config: Config, weights: Weights) -> dict[str, Any]:
    """What decides a row: a run is continued only by one of the same identity."""
    categories = {str(k): v for k, v in weights.categories.items()}
    fields = config.identity() | {"weights": weights.sha256, "categories": categories}
    fields["input"] = urls.without_slash(urls.public(config.input))
    return dict(json.loads(json.dumps(fields)))


def load(layout: Layout) -> Record | None:
    content = objects.get_json(layout.fs, layout.record, objects.FIRST_ATTEMPTS)
    return Record(**content) if content else None


def existing(layout: Layout, config: Config, weights: Weights) -> Record | None:
    """The record of the output's run, if it has begun.

    Raises:
        UsageError: it cannot be read, or is another run's.
    """
    try:
        known = load(layout)
    except (OSError, ValueError, TypeError) as error:
        raise failures.unusable("read", layout.url_of(layout.record), error) from error
    if known:
        check_same(known, config, weights)
    return known


def save(record: Record, lease: Lease) -> None:
    text = json.dumps(dataclasses.asdict(record), indent=2, ensure_ascii=False)
    lease.put(lease.layout.record, text.encode())


def check_same(record: Record, config: Config, weights: Weights) -> None:
    """
    Raises:
        UsageError: the output belongs to another run; says in what it differs.
    """
    if record.layout != LAYOUT:
        raise UsageError(
            f"{config.output} was written by another version of this program, which gave its "
            "files other names; finish it with that version, or choose another output"
        )
    now = identity(continued(record, config), weights)
    if config.retries_failures:
        # the images are a part of the run's own
        now["input"] = urls.without_slash(record.identity["input"])
    for name, value in now.items():
        # what was no part of it in an older version was as configured, or else as by default
        default = BEFORE.get(name, record.config.get(name, getattr(Config, name, None)))
        before = record.identity.get(name, default)
        if name == "input":
            before = urls.without_slash(record.identity["input"])
        if before != value:
            told = changes.told(name, before, value)
            raise UsageError(f"{config.output} belongs to another run: {told}")


def continued(record: Record, config: Config) -> Config:
    """The configuration, with its run's own choice where it leaves the choice."""
    if config.precision == "auto":
        precision = record.identity.get("precision", BEFORE["precision"])
        config = dataclasses.replace(config, precision=precision)
    extensions = tuple(record.identity.get("extensions", ()))
    if config.extensions == IMAGE_EXTENSIONS and extensions in EXTENSIONS_BEFORE:
        config = dataclasses.replace(config, extensions=extensions)
    return config


def begin(record: Record, config: Config, placement: Placement) -> None:
    """Add this attempt."""
    record.config = json.loads(json.dumps(dataclasses.asdict(config)))
    for name in ("input", "output", "weights", "categories"):
        if record.config[name] is not None:
            record.config[name] = urls.public(record.config[name])
    record.config["http_headers"] = shown(config.http_headers)
    record.attempts.append(
        {
            "started": _now(),
            "ended": None,
            "host": socket.gethostname(),
            "placement": dataclasses.asdict(placement),
            "versions": {"python": platform.python_version(), **versions(*PACKAGES)},
            "seconds": {},
        }
    )


def end(
    record: Record, sums: dict[str, float], examples: dict[str, list[str]], seconds: float
) -> None:
    """Note what this attempt did.

    Args:
        record: of the run.
        sums: of what the stages have reported.
        examples: of URIs, for some of these.
        seconds: that it took.
    """
    record.attempts[-1] |= {
        "ended": _now(),
        "images": int(sums["processed"]),
        "bytes_read": int(sums.get("bytes_read", 0)),
        "forwarded": int(sums.get("forwarded", 0)),
        "micro_batches": int(sums.get("forwards", 0)),
        "low_contrast": {
            "images": int(sums.get("low_contrast", 0)),
            "examples": examples.get("low_contrast", []),
        },
        "engines": {
            name.removeprefix("engine "): int(number)
            for name, number in sorted(sums.items())
            if name.startswith("engine ")
        },
        "seconds": {
            "wall": round(seconds, 3),
            **{
                name.removeprefix("seconds_"): round(value, 3)
                for name, value in sorted(sums.items())
                if name.startswith("seconds_")
            },
        },
    }


def detector(weights: Weights) -> dict[str, Any]:
    """The `detector` key in the footer of each output file."""
    return {
        "schema_version": SCHEMA_VERSION,
        "model": ARCHITECTURE,
        "model_id": weights.model_id,
        "weights_sha256": weights.sha256,
        "trained": weights.trained,
        "options": weights.options,
        "score_threshold": option(weights, "box_score_thresh"),
        "nms_iou": option(weights, "box_nms_thresh"),
        "boxes": "xyxy, float pixels of the upright image (EXIF orientation applied)",
        "categories": {str(k): v for k, v in weights.categories.items()},
    }


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
