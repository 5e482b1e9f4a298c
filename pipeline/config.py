"""One frozen, validated description of a run, and what makes two runs the same."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import yaml

from pipeline.errors import UsageError, nearest

IMAGE_EXTENSIONS = ("jpg", "jpeg", "png", "webp", "bmp", "tif", "tiff", "gif")

# where none is given, by device
MICRO_BATCH = {"cuda": 8, "cpu": 1}
ROWS_PER_FILE = {"cuda": 4096, "cpu": 64}

# The keywords of torchvision's `fasterrcnn_resnet50_fpn_v2` and of its `FasterRCNN` that a text
# file can express, with their types. Keywords that take a module (an anchor generator, a RoI
# pooler, a head) are not among them.
MODEL_OPTIONS: dict[str, type | tuple[type, ...]] = {
    "progress": bool,
    "num_classes": int,
    "weights_backbone": str,
    "trainable_backbone_layers": int,
    "min_size": int,
    "max_size": int,
    "image_mean": (list, tuple),
    "image_std": (list, tuple),
    "size_divisible": int,
    "fixed_size": (list, tuple),
    "rpn_pre_nms_top_n_train": int,
    "rpn_pre_nms_top_n_test": int,
    "rpn_post_nms_top_n_train": int,
    "rpn_post_nms_top_n_test": int,
    "rpn_nms_thresh": float,
    "rpn_fg_iou_thresh": float,
    "rpn_bg_iou_thresh": float,
    "rpn_batch_size_per_image": int,
    "rpn_positive_fraction": float,
    "rpn_score_thresh": float,
    "box_score_thresh": float,
    "box_nms_thresh": float,
    "box_detections_per_img": int,
    "box_fg_iou_thresh": float,
    "box_bg_iou_thresh": float,
    "box_batch_size_per_image": int,
    "box_positive_fraction": float,
    "bbox_reg_weights": (list, tuple),
}


@dataclass(frozen=True, kw_only=True)
class Config:
    """What to read, which network to run, where to write.

    Args:
        input: directory, prefix, glob, image, manifest table or Parquet with image bytes; a local
            path or any fsspec URL.
        output: directory or URL prefix that receives `detections/` and `_run/`.
        weights: `DEFAULT`, `COCO_V1`, a path or URL of a .pth, .pt or .safetensors file, or
            `random:SEED`.
        categories: file with the class names, as text (a name a line, background left out) or
            COCO JSON. COCO_V1 brings its own.
        model: keywords of torchvision's `FasterRCNN`, see `MODEL_OPTIONS`.
        extensions: file name endings that a listing keeps, without the dot, any case.
        limit: process at most so many images.
        uri_column: column of the manifest table that holds the URIs.
        bytes_column: column of a Parquet input that holds the encoded images: binary, or a struct
            with a `bytes` field.
        carry: columns of the input table to carry through to the output.
        device: `auto`, `cuda` or `cpu`.
        replicas: models held at once; default: as many as the cluster has room for.
        gpus_per_replica: GPU share of a replica.
        cpus_per_replica: CPU cores of a replica, for decoding (and, without GPU, the network).
        micro_batch: images of equal padded shape in one forward; default 8 on a GPU, 1 on a CPU.
        precision: `fp32`, which on a GPU is what torch makes of it (TF32 in convolutions), or
            `fp16`.
        trust_uris: a table may name whatever this machine can read: its own files where the table
            is elsewhere, any protocol, link-local addresses. Only for tables of your own.
        fetch_concurrency: reads in flight in one fetch actor.
        fetch_attempts: tries for an object whose reading fails with what can pass.
        fetch_timeout: seconds one try may take.
        max_object_bytes: larger objects become error rows.
        max_pixels: images of more pixels become error rows, before they are decoded.
        rows_per_file: images whose rows wait for one output file, which is what a kill costs;
            default 4096 on a GPU, 64 on a CPU.
        decode_timeout: seconds that decoding one image may take.
        max_error_rate: the run stops when a larger fraction of the images failed, judged after
            the first 1,000; at its end it has exit code 3 for it.
        stall_timeout: seconds without any movement after which the run ends and says why.
        grace: seconds that a run which is interrupted takes to finish what is in flight.

    Raises:
        UsageError: a value that no run could have.
    """

    input: str
    output: str
    weights: str = "COCO_V1"
    categories: str | None = None
    model: Mapping[str, Any] = field(default_factory=dict)
    extensions: tuple[str, ...] = IMAGE_EXTENSIONS
    limit: int | None = None
    uri_column: str | None = None
    bytes_column: str | None = None
    carry: tuple[str, ...] = ()
    device: str = "auto"
    replicas: int | None = None
    gpus_per_replica: float = 1.0
    cpus_per_replica: float | None = None
    micro_batch: int | None = None
    precision: str = "fp32"
    trust_uris: bool = False
    fetch_concurrency: int = 64
    fetch_attempts: int = 5
    fetch_timeout: float = 300.0
    max_object_bytes: int = 512 * 2**20
    max_pixels: int = 200_000_000
    rows_per_file: int | None = None
    decode_timeout: float = 120.0
    max_error_rate: float = 0.05
    stall_timeout: float = 600.0
    grace: float = 30.0

    def __post_init__(self) -> None:
        for name in ("input", "output", "weights", "categories"):
            value = getattr(self, name)
            if value is not None:
                object.__setattr__(self, name, checked_url(name, value))
        if "://" not in self.output or self.output.rstrip("/").partition("://")[2]:
            object.__setattr__(self, "output", self.output.rstrip("/") or "/")
        object.__setattr__(self, "model", dict(self.model))
        for name in ("extensions", "carry"):
            object.__setattr__(self, name, _words(name, getattr(self, name)))
        lowered = tuple(word.lower().removeprefix(".") for word in self.extensions)
        object.__setattr__(self, "extensions", lowered)
        self._check_values()
        _check_model_options(self.model)

    def _check_values(self) -> None:
        at_least_one = (
            "limit",
            "replicas",
            "micro_batch",
            "fetch_concurrency",
            "fetch_attempts",
            "max_object_bytes",
            "max_pixels",
            "rows_per_file",
        )
        for name in at_least_one:
            value = getattr(self, name)
            if value is not None and (not isinstance(value, int) or value < 1):
                raise UsageError(f"{name} must be a whole number above 0, not {value!r}")
        above_zero = (
            "gpus_per_replica",
            "cpus_per_replica",
            "fetch_timeout",
            "decode_timeout",
            "stall_timeout",
            "grace",
        )
        for name in above_zero:
            value = getattr(self, name)
            if value is not None and (not isinstance(value, int | float) or value <= 0):
                raise UsageError(f"{name} must be a number above 0, not {value!r}")
        longest = max(self.fetch_timeout, self.decode_timeout)
        if self.stall_timeout <= longest:
            raise UsageError(
                f"stall_timeout ({self.stall_timeout:g}) must be above fetch_timeout "
                f"({self.fetch_timeout:g}) and decode_timeout ({self.decode_timeout:g})"
            )
        if self.gpus_per_replica > 1 and self.gpus_per_replica % 1:
            raise UsageError("gpus_per_replica must be a fraction of one GPU or a whole number")
        if not isinstance(self.max_error_rate, int | float) or not 0 <= self.max_error_rate <= 1:
            raise UsageError(f"max_error_rate must be within 0 and 1, not {self.max_error_rate!r}")
        if not isinstance(self.trust_uris, bool):
            raise UsageError(f"trust_uris must be true or false, not {self.trust_uris!r}")
        if self.device not in ("auto", "cuda", "cpu"):
            raise UsageError(f"device must be auto, cuda or cpu, not {self.device!r}")
        if self.precision not in ("fp32", "fp16"):
            raise UsageError(f"precision must be fp32 or fp16, not {self.precision!r}")
        if self.uri_column and self.bytes_column:
            raise UsageError("give uri_column or bytes_column, not both")
        if not self.extensions:
            raise UsageError("extensions must name at least one file name ending")

    @property
    def retries_failures(self) -> bool:
        """Whether the input is this output's own table of failed images."""
        return self.input.rstrip("/") == f"{self.output}/detections/status=error"

    def identity(self) -> dict[str, Any]:
        """The fields that decide what an output row says; runs that differ here never mix.

        Limits (`max_pixels`, `max_object_bytes`, time-outs) are not among them: they decide
        whether an image fails, never what the row of one that did not fail says.
        """
        names = (
            "input",
            "limit",
            "extensions",
            "uri_column",
            "bytes_column",
            "carry",
            "model",
            "precision",
        )
        fields = {name: getattr(self, name) for name in names}
        return {k: list(v) if isinstance(v, tuple) else v for k, v in fields.items()}


def fingerprint(identity: Mapping[str, Any]) -> str:
    """A digest of what may not differ when a run is resumed, to tie files to their run."""
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()


def from_yaml(path: str) -> dict[str, Any]:
    """The fields of a `Config` in a YAML file, unvalidated but for their names.

    Raises:
        UsageError: the file cannot be read, is not a mapping, or has an unknown key.
    """
    try:
        with open(path, encoding="utf-8") as file:
            values = yaml.safe_load(file) or {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UsageError(f"cannot read --config {path}: {' '.join(str(error).split())}") from error
    if not isinstance(values, dict):
        raise UsageError(f"--config {path} must hold `name: value` lines")
    valid = [f.name for f in dataclasses.fields(Config)]
    for name in values:
        if name not in valid:
            raise UsageError(f"--config {path} has an unknown key {nearest(str(name), valid)}")
    return values


def checked_url(name: str, value: Any) -> str:
    """A URL as it stands, a path made absolute.

    Raises:
        UsageError: it is neither, or holds credentials.
    """
    if not isinstance(value, str) or not value:
        raise UsageError(f"{name} must be a path or URL, not {value!r}")
    if "://" in value:
        try:
            parts = urlsplit(value)
        except ValueError as error:
            raise UsageError(f"{name} is no URL: {value!r} ({error})") from error
        # in Azure's URLs a container stands before the @
        if parts.password or (parts.username and parts.scheme in ("s3", "s3a", "http", "https")):
            raise UsageError(f"{name} holds credentials; give them by the environment instead")
        return os.path.abspath(parts.path) if parts.scheme == "file" else value
    if name == "weights" and (value in ("DEFAULT", "COCO_V1") or value.startswith("random:")):
        return "COCO_V1" if value == "DEFAULT" else value
    return os.path.abspath(os.path.expanduser(value))


def _words(name: str, value: Any) -> tuple[str, ...]:
    words = value.split() if isinstance(value, str) else value
    if not isinstance(words, list | tuple) or not all(isinstance(word, str) for word in words):
        raise UsageError(f"{name} must be a list of words, not {value!r}")
    return tuple(dict.fromkeys(words))


def _check_model_options(options: Mapping[str, Any]) -> None:
    for name, value in options.items():
        if name not in MODEL_OPTIONS:
            raise UsageError(f"model has an unknown key {nearest(str(name), MODEL_OPTIONS)}")
        expected = MODEL_OPTIONS[name]
        accepted = (float, int) if expected is float else expected
        if not isinstance(value, accepted) or (isinstance(value, bool) and expected is not bool):
            kind = "list" if isinstance(expected, tuple) else expected.__name__
            raise UsageError(f"model.{name} must be of type {kind}, not {value!r}")
