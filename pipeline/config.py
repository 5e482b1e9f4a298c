"""One frozen, validated description of a run, and what makes two runs the same."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import InitVar, dataclass, field
from typing import Annotated, Any, get_args, get_type_hints

import yaml

from pipeline.errors import UsageError, nearest
from pipeline.locations import checked_url
from pipeline.options import (
    COUNTED,
    MODEL_OPTIONS,
    POSITIVE,
    SHORT,
    TILE,
    TILE_OVERLAP,
    Number,
    check_choices,
    check_numbers,
    checked_bands,
    checked_depth_range,
    checked_options,
)
from pipeline.reading import Reading, checked_headers, checked_s3

IMAGE_EXTENSIONS = tuple(
    "jpg jpeg jpe jfif mpo png webp bmp tif tiff svs btf gif avif heic heif hif".split()
)
# what older versions listed by default
EXTENSIONS_BEFORE = (
    tuple("jpg jpeg png webp bmp tif tiff gif".split()),
    tuple("jpg jpeg jpe jfif mpo png webp bmp tif tiff gif".split()),
    tuple("jpg jpeg jpe jfif mpo png webp bmp tif tiff gif avif heic heif hif".split()),
)
ARCHIVE_EXTENSIONS = ("tar", "tar.gz", "tgz", "zip")
VIDEO_EXTENSIONS = tuple(
    "mp4 m4v mov mkv webm avi ts mts m2ts mpg mpeg wmv asf flv ogv 3gp 3g2 mxf".split()
)

# where none is given, by device
MICRO_BATCH = {"cuda": 16, "cpu": 1}
ROWS_PER_FILE = {"cuda": 4096, "cpu": 64}

# a decoder that takes so many times fetch_timeout between two reads of its video comes to no end
VIDEO_HANGS = 1.5

# of any camera; of an infinite one the times of frames are no numbers
MOST_FPS = 1_000_000
AT_LEAST_ONE = (
    "limit every_nth replicas micro_batch fetch_concurrency fetch_attempts max_object_bytes "
    "max_pixels rows_per_file"
).split()
ABOVE_ZERO = (
    "gpus_per_replica cpus_per_replica fetch_timeout decode_timeout stall_timeout grace"
).split()
NUMBERS = {
    **dict.fromkeys(AT_LEAST_ONE, COUNTED),
    **dict.fromkeys(ABOVE_ZERO, POSITIVE),
    "fps": Number(
        False,
        lambda fps: 0 < fps <= MOST_FPS,
        f"a number above 0 and at most {MOST_FPS:,} (--every-nth 1 takes all frames)",
    ),
    "max_error_rate": Number(False, lambda rate: 0 <= rate <= 1, "within 0 and 1"),
    "accept_truncated": Number(False, lambda share: 0 < share <= 1, "above 0 and at most 1"),
    "tile": Number(True, TILE.holds, str(TILE)),
    "tile_overlap": Number(False, TILE_OVERLAP.holds, str(TILE_OVERLAP)),
}
CHOICES = {"device": ("auto", "cuda", "cpu"), "precision": ("auto", "fp32", "fp16")}
# fields that decide what an output row says
IDENTITY = (
    "input limit extensions include exclude sniff fps every_nth keyframes uri_column bytes_column "
    "carry model precision depth_range bands accept_truncated tile tile_overlap"
).split()
# of them, those that decide which pixels an image has
PIXELS = ("bytes_column", "depth_range", "bands", "accept_truncated")

# likewise, in runs with tiles
TILED_LIMITS = ("max_pixels", "max_object_bytes")


@dataclass(frozen=True)
class Option:
    """What a field of `Config` is to a user.

    Attributes:
        help: in words. The default is among them only where it is no value that can be given.
        metavar: of its flag, empty for a flag without a value; None where there is no flag.
    """

    help: str
    metavar: str | None = None


def _by_device(values: Mapping[str, int]) -> str:
    return f"default {values['cuda']} on a GPU, {values['cpu']} on a CPU"


@dataclass(frozen=True, kw_only=True)
class Config:
    """What to read, which network to run, where to write; each field says what it is.

    Raises:
        UsageError: a value that no run could have.
    """

    input: Annotated[
        str,
        Option(
            "folder, prefix, glob, image, archive (tar, gzipped tar, zip), video, S3 Inventory, "
            "table of URIs (Parquet, Arrow, Lance, CSV, TSV, JSON, JSONL, text), table of image "
            "bytes (Parquet, Arrow, Lance) or dataset of Hugging Face; path, s3://, hf:// or any "
            "fsspec URL",
            "URL",
        ),
    ]
    output: Annotated[str, Option("folder or prefix for detections/ and _run/", "URL")]
    weights: Annotated[
        str,
        Option(
            "DEFAULT, COCO_V1, path or URL of a .pth/.pt/.safetensors file, or random:SEED", "W"
        ),
    ] = "COCO_V1"
    categories: Annotated[
        str | None,
        Option(
            "class names, without the background: text, CSV, YAML, JSON or COCO JSON (default: "
            "those of the weights)",
            "FILE",
        ),
    ] = None
    model: Annotated[
        Mapping[str, Any], Option("keywords of torchvision's FasterRCNN, see MODEL_OPTIONS")
    ] = field(default_factory=dict)
    # the commonest of them by short names, for making a Config; `model` has them then
    score_threshold: InitVar[
        Annotated[float | None, Option("keep detections above this score (default 0.05)", "P")]
    ] = None
    max_detections: InitVar[
        Annotated[int | None, Option("most detections per image (default 100)", "N")]
    ] = None
    min_size: InitVar[
        Annotated[
            int | None,
            Option("short side of the image in the network (default 800)", "PIXELS"),
        ]
    ] = None
    extensions: Annotated[
        tuple[str, ...],
        Option(
            "file name endings to list, in any case, separated by blanks or commas; tar, tgz, "
            "tar.gz and zip open archives",
            "EXT",
        ),
    ] = IMAGE_EXTENSIONS
    include: Annotated[
        tuple[str, ...],
        Option(
            "take only files that match one of these globs, from the input's folder on; in "
            "archives, members",
            "GLOB",
        ),
    ] = ()
    exclude: Annotated[
        tuple[str, ...],
        Option(
            "leave out files that match one of these globs, from the input's folder on; ** crosses "
            "folders, x/** is a whole one",
            "GLOB",
        ),
    ] = ()
    sniff: Annotated[
        bool, Option("also list files without an ending whose first bytes are an image's", "")
    ] = False
    fps: Annotated[
        float | None,
        Option("read videos: N frames a second, each the one that is shown at its time", "N"),
    ] = None
    every_nth: Annotated[
        int | None, Option("read videos: the first of every N frames; 1 for all of them", "N")
    ] = None
    keyframes: Annotated[bool, Option("read videos: frames that need no other frame", "")] = False
    limit: Annotated[int | None, Option("process at most N images", "N")] = None
    uri_column: Annotated[str | None, Option("column of a table that has the URIs", "NAME")] = None
    bytes_column: Annotated[
        str | None,
        Option(
            "column of a Parquet, Arrow or Lance input that has the image bytes: binary, or a "
            "struct with bytes (default: found automatically)",
            "NAME",
        ),
    ] = None
    carry: Annotated[
        tuple[str, ...],
        Option(
            "columns of a table to copy into the output, or fields of the JSON beside an archive's "
            "images",
            "NAME",
        ),
    ] = ()
    device: Annotated[str, Option("auto, cuda or cpu", "D")] = "auto"
    replicas: Annotated[
        int | None, Option("processes with the network (default: as many as fit)", "N")
    ] = None
    gpus_per_replica: Annotated[float, Option("GPUs per replica, may be a fraction", "X")] = 1.0
    cpus_per_replica: Annotated[
        float | None, Option("CPUs per replica (default: about 4)", "X")
    ] = None
    micro_batch: Annotated[
        int | None,
        Option(f"images of equal padded shape in one forward ({_by_device(MICRO_BATCH)})", "N"),
    ] = None
    precision: Annotated[
        str,
        Option(
            "of the network: fp32, on a GPU with TF32 in convolutions as torch has it; fp16, twice "
            "as fast there; or auto, which is fp16 if that moves boxes no further than TF32 does",
            "P",
        ),
    ] = "auto"
    trust_uris: Annotated[
        bool,
        Option(
            "let a table name local files, any protocol and link-local addresses, wherever it is "
            "itself; only for tables of your own",
            "",
        ),
    ] = False
    http_headers: Annotated[
        Mapping[str, Any],
        Option("header for all web servers; below https://HOST those for that one, maybe secret"),
    ] = field(default_factory=dict, repr=False)
    s3_options: Annotated[
        Mapping[str, Any],
        Option(
            "how input, images, weights and class names are read from S3, not how the output is "
            "written: anon, requester_pays, use_ssl, endpoint_url, profile"
        ),
    ] = field(default_factory=dict)
    fetch_concurrency: Annotated[int, Option("reads in flight in one fetch actor")] = 64
    fetch_attempts: Annotated[int, Option("tries for an object, of errors that can pass")] = 5
    fetch_timeout: Annotated[float, Option("seconds one try may take")] = 300.0
    max_object_bytes: Annotated[int, Option("larger objects become error rows")] = 512 * 2**20
    max_pixels: Annotated[int, Option("larger images become error rows", "N")] = 200_000_000
    depth_range: Annotated[
        tuple[int, ...] | str | None,
        Option(
            "MIN MAX: samples that become black and white, in 16-bit grey and with --bands; or "
            "auto: each image's 2nd to 98th percentile (default: as the file declares, else the "
            "high byte, which 16-bit colour always keeps)",
            "X",
        ),
    ] = None
    bands: Annotated[
        tuple[int, ...] | None,
        Option("bands of a TIFF, from 1, that are red, green and blue, or one that is grey", "N"),
    ] = None
    accept_truncated: Annotated[
        float | None,
        Option(
            "detect in a JPEG that is cut short if at least this share of its rows is there, which "
            "the column recovered_share tells; other formats that are cut short stay errors",
            "SHARE",
        ),
    ] = None
    tile: Annotated[
        int | None,
        Option(
            "cut larger images into overlapping tiles of this many pixels a side, detect in each "
            "and in the whole image, and merge the boxes (default: no tiles)",
            "PIXELS",
        ),
    ] = None
    tile_overlap: Annotated[
        float, Option("least share of a tile that the next one repeats", "SHARE")
    ] = 0.2
    rows_per_file: Annotated[
        int | None,
        Option(
            "images whose rows wait for one output file, which is what a kill costs "
            f"({_by_device(ROWS_PER_FILE)})"
        ),
    ] = None
    decode_timeout: Annotated[float, Option("seconds that decoding one image may take")] = 120.0
    max_error_rate: Annotated[
        float,
        Option(
            "stop if more than this fraction of the images failed, judged after the first 1,000; "
            "exit code 3 if that is found only at the end",
            "X",
        ),
    ] = 0.05
    stall_timeout: Annotated[
        float, Option("end the run and say why if nothing has moved for this many seconds", "S")
    ] = 600.0
    grace: Annotated[
        float, Option("seconds to finish what is in flight after Ctrl-C or SIGTERM", "S")
    ] = 30.0

    def __post_init__(
        self, score_threshold: float | None, max_detections: int | None, min_size: int | None
    ) -> None:
        for name in ("input", "output", "weights", "categories"):
            value = getattr(self, name)
            if value is not None:
                object.__setattr__(self, name, checked_url(name, value))
        if "://" not in self.output or self.output.rstrip("/").partition("://")[2]:
            object.__setattr__(self, "output", self.output.rstrip("/") or "/")
        short = dict(zip(SHORT, (score_threshold, max_detections, min_size), strict=True))
        given = {SHORT[name]: value for name, value in short.items() if value is not None}
        model = {**self.model, **given} if isinstance(self.model, Mapping) else self.model
        object.__setattr__(self, "model", checked_options(model))
        object.__setattr__(self, "http_headers", checked_headers(self.http_headers))
        object.__setattr__(self, "s3_options", checked_s3(self.s3_options))
        for name in ("include", "exclude"):
            if isinstance(glob := getattr(self, name), str):  # which may hold blanks
                object.__setattr__(self, name, (glob,))
        for name in ("extensions", "include", "exclude", "carry"):
            object.__setattr__(self, name, _words(name, getattr(self, name)))
        endings = ",".join(self.extensions).lower().split(",")
        lowered = tuple(word.removeprefix(".") for word in endings if word)
        object.__setattr__(self, "extensions", lowered)
        check_numbers(self, NUMBERS)
        object.__setattr__(self, "depth_range", checked_depth_range(self.depth_range))
        object.__setattr__(self, "bands", checked_bands(self.bands))
        self._check_values()
        self._check_together()

    def _check_values(self) -> None:
        check_choices(self, CHOICES)
        for name in ("uri_column", "bytes_column"):
            if not isinstance(getattr(self, name), str | None):
                raise UsageError(f"{name} must be a name, not {getattr(self, name)!r}")
        for name in ("trust_uris", "sniff", "keyframes"):
            if not isinstance(getattr(self, name), bool):
                raise UsageError(f"{name} must be true or false, not {getattr(self, name)!r}")

    def _check_together(self) -> None:
        # else the run ends before the image that is the cause does
        times = VIDEO_HANGS if self.reads_videos else 1
        if self.stall_timeout <= max(times * self.fetch_timeout, self.decode_timeout):
            often = f"{times:g} times " if self.reads_videos else ""
            raise UsageError(
                f"stall_timeout ({self.stall_timeout:g}) must be above {often}fetch_timeout "
                f"({self.fetch_timeout:g}) and decode_timeout ({self.decode_timeout:g})"
            )
        if self.gpus_per_replica > 1 and self.gpus_per_replica % 1:
            raise UsageError("gpus_per_replica must be a fraction of one GPU or a whole number")
        if self.uri_column and self.bytes_column:
            raise UsageError("uri_column and bytes_column: give one, not both")
        if self.tile is None and self.tile_overlap != Config.tile_overlap:
            raise UsageError("tile_overlap goes with tile, the side of a tile in pixels")
        if not self.extensions:
            raise UsageError("extensions must name at least one file name ending")
        if (self.fps is not None) + (self.every_nth is not None) + self.keyframes > 1:
            raise UsageError("fps, every_nth and keyframes: give one of them")

    @property
    def retries_failures(self) -> bool:
        """Whether the input is this output's own table of failed images."""
        return self.input.rstrip("/") == f"{self.output}/detections/status=error"

    @property
    def reads_videos(self) -> bool:
        """Whether it says which frames of videos are to be read."""
        return self.fps is not None or self.every_nth is not None or self.keyframes

    @property
    def reading(self) -> Reading:
        """How all that is not the output is read."""
        return Reading(self.http_headers, self.s3_options)

    def identity(self) -> dict[str, Any]:
        """The fields that decide what an output row says; runs that differ here never mix.

        Limits (`max_pixels`, `max_object_bytes`, time-outs) are not among them: they decide
        whether an image fails, never what the row of one that did not fail says. But with tiles, of
        an image beyond the first two tiles alone are seen.
        """
        names = [*IDENTITY, *TILED_LIMITS] if self.tile else IDENTITY
        fields = {name: getattr(self, name) for name in names}
        return {k: list(v) if isinstance(v, tuple) else v for k, v in fields.items()}


def fingerprint(identity: Mapping[str, Any]) -> str:
    """A digest of what may not differ when a run is resumed, to tie files to their run."""
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()


def flag_of(name: str) -> str:
    """What a user types for a field: its flag, or its own name where it has none."""
    hint = get_type_hints(Config, include_extras=True)[name]
    _, option = get_args(getattr(hint, "type", hint))
    return name if option.metavar is None else f"--{name.replace('_', '-')}"


class _Once(yaml.SafeLoader):
    """Refuses a key that is there twice, of which YAML takes the last one without a word."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        for place, (key, _) in enumerate(node.value):
            if key.value in (other.value for other, _ in node.value[:place]):
                told = f"{key.value} is given twice"
                raise yaml.MarkedYAMLError(problem=told, problem_mark=key.start_mark)
        return super().construct_mapping(node, deep)


def from_yaml(path: str) -> dict[str, Any]:
    """The fields of a `Config` in a YAML file that have a value, checked but for it.

    Raises:
        UsageError: the file cannot be read, is not a mapping, or has an unknown key.
    """
    try:
        with open(path, encoding="utf-8") as file:
            values = yaml.load(file, _Once) or {}
    except (OSError, ValueError, yaml.YAMLError) as error:
        why = getattr(error, "strerror", None) or " ".join(str(error).split())
        raise UsageError(f"cannot read --config {path}: {why}") from error
    if not isinstance(values, dict):
        raise UsageError(f"--config {path} must hold `name: value` lines")
    valid = [*(f.name for f in dataclasses.fields(Config)), *SHORT]
    for name in values:
        if name in MODEL_OPTIONS and name not in valid:
            raise UsageError(f"--config {path}: {name} belongs under `model:`")
        if name not in valid:
            raise UsageError(f"--config {path} has an unknown key {nearest(str(name), valid)}")
    return {name: value for name, value in values.items() if value is not None}


def _words(name: str, value: Any) -> tuple[str, ...]:
    words = value.split() if isinstance(value, str) else value
    if not isinstance(words, list | tuple) or not all(isinstance(word, str) for word in words):
        raise UsageError(f"{name} must be a list of words, not {value!r}")
    return tuple(dict.fromkeys(words))
