"""Export a finished output to another program's format, to correct or to train on."""

from __future__ import annotations

import sys
from typing import Any

from jobs import cli
from pipeline import words
from pipeline.labels import strays
from pipeline.labels.classes import parse_assignments
from pipeline.labels.export.exporter import export
from pipeline.labels.export.parts import FORMATS
from pipeline.labels.export.target import Options
from pipeline.store import urls

# counts that an export may have besides images and boxes, for a person
LEFT_OUT = {
    "boxes_left_out": "boxes below the threshold or of other classes",
    "doubles_left_out": "boxes of an object that has a better box",
    "images_of_no_video": "images that are not frames of videos",
    "frames_gone": "frames that --refresh no longer found",
    "images_failed": "images that failed in the run",
    "images_unreadable": "images that can no longer be read",
    "images_without_georeference": "images without a georeference",
    "images_of_unusable_georeference": "images whose georeference cannot be used",
    "boxes_off_the_map": "boxes without a place in longitude and latitude",
    "images_listed_but_not_found": "listed images that have no row with status ok",
    "images_not_in_annotations": "images that the annotations lack (from results.json only)",
    "boxes_of_classes_not_in_annotations": (
        "boxes of classes that the annotations lack (from results.json only)"
    ),
}


def parser() -> cli.Parser:
    """The flags. None has a default here: those stand in `labels.export.target.Options`."""
    parser = cli.Parser(
        "export",
        __doc__,
        "Exit codes: 0 complete, 1 failed or images unreadable, 2 usage. An export is complete "
        "when --to holds export.json.",
    )
    add = parser.add_argument
    add("output", metavar="OUTPUT", help="the --output of a finished prelabel detect; path or URL")
    add("--format", metavar="F", help=", ".join(FORMATS))
    add("--to", metavar="DIR", help="empty or new folder; path, s3:// or any fsspec URL")
    _add_choice(parser)
    _add_form(parser)
    return parser


def _add_choice(parser: cli.Parser) -> None:
    """Flags that say which boxes and images are exported."""
    add = parser.add_argument
    kept = "keep boxes of at least this score (default: all that the run kept)"
    own = "threshold for one class, in place of --score-threshold"
    classes = "YAML: a list of the classes to keep, or `name: new name` lines"
    images = "only the images in this table of URIs (Parquet, CSV, JSONL, text)"
    accept = (
        "of prelabel calibrate: images all of whose boxes reach its thresholds go to DIR/accepted, "
        "the others to DIR/review"
    )
    add("--score-threshold", type=float, metavar="P", help=kept)
    add("--category", nargs="+", action="extend", metavar="NAME=SCORE", help=own)
    add("--classes", metavar="FILE", help=classes)
    cli.add_agnostic_nms(parser)
    add("--images", metavar="FILE", help=images)
    add("--accept", metavar="FILE", help=accept)


def _add_form(parser: cli.Parser) -> None:
    """Flags that say how they are written."""
    add = parser.add_argument
    split = "split into folders 0001, 0002 ... of N images"
    prefix = "image = PREFIX + name (labelstudio, cvat, coco, fiftyone, huggingface)"
    confidence = (
        "write scores also to yolo (a sixth column), voc, cvat and cvat-video (which have no usual "
        "place for them)"
    )
    annotations = "coco: results.json gets the image and category ids of these annotations"
    padding = "crops, blurred: this share of a box's size more on each side (default 0)"
    link = "folders: links to the images in place of copies, on this machine"
    add("--padding", type=float, metavar="X", help=padding)
    add("--link", action="store_true", help=link)
    add("--tasks-per-file", type=int, metavar="N", help=split)
    add("--by-directory", action="store_true", help="a folder for each directory of the images")
    add("--with-images", action="store_true", help="copy the images too, bytes unchanged")
    add("--image-prefix", type=str, metavar="PREFIX", help=prefix)  # may be empty
    add("--confidence", action="store_true", help=confidence)
    add("--annotations", metavar="FILE", help=annotations)


def show(record: dict[str, Any], options: Options) -> None:
    """The last lines, for a person."""
    to, shard = options.to, FORMATS[record["format"]]
    split = options.tasks_per_file or options.by_directory or shard.by_directory
    counts = record["counts"]
    cuts = [f"{name} {score:g}" for name, score in options.thresholds.items()]
    if options.score_threshold or not cuts:
        rest = f"{options.score_threshold:g}" if options.score_threshold else "none"
        cuts = [f"all others {rest}" if cuts else rest, *cuts]
    print(f"score threshold: {', '.join(cuts)}")
    left = [f"{counts[key]:,} {what}" for key, what in LEFT_OUT.items() if counts.get(key)]
    print(
        f"{words.count(counts['images'], 'image')}, {words.count(counts['boxes'], 'box')} to {to} "
        f"as {record['format']}; "
        f"left out: {', '.join(left) or 'nothing'}"
    )
    if crs := record.get("crs"):
        print(
            "converted to WGS 84 from "
            f"{', '.join(told_crs(name, entry) for name, entry in crs.items())}"
        )
    if options.accept:
        print(f"accepted: {_accepted(record)}")
        if after := counts.get("images_after_calibration"):
            shown = words.count(after, "image")
            print(f"not accepted: {shown} that the run has processed after the calibration")
        to = f"{to}/review"
    how = (options.with_images and shard.how_with_images) or shard.how
    print(how.format(to=f"{to}/FOLDER" if split else to))
    if (protocol := urls.protocol(to)) != "file":
        print(f"a program that cannot read {protocol}:// needs a copy of that on a disk")


def told_crs(name: str, entry: dict[str, Any]) -> str:
    """A CRS that boxes came from, for a person."""
    metres = entry["accuracy_metres"]
    how = "accuracy unknown" if metres is None else f"accurate to {metres:g} m according to PROJ"
    return f"{name} ({words.count(entry['images'], 'image')}{f', {how}' if metres != 0 else ''})"


def _accepted(record: dict[str, Any]) -> str:
    counts = record["counts"]
    if images := counts.get("images_accepted", 0):
        boxes = words.count(counts["boxes_accepted"], "box")
        return (
            f"{words.count(images, 'image')} with {boxes}; whether boxes are missing in them is "
            "not known"
        )
    if names := record["accept_no_boxes_of"]:
        return f"0 images; the calibration accepts no box of {strays.named(names)}"
    return "0 images; each has a box below the threshold of its category, or none at all"


def job(arguments: list[str]) -> int:
    """Run it; returns the exit code."""
    given = parser().given(arguments, "format", "to")
    output = given.pop("output")
    given["thresholds"] = parse_assignments(given.pop("category", []), "--category NAME=SCORE")
    options = Options(**given)
    record = export(output, options)
    show(record, options)
    unreadable = record["counts"].get("images_unreadable", 0)
    if unreadable:
        print(
            f"prelabel export: {words.count(unreadable, 'image')} could not be read and are left "
            "out; the rest is complete",
            file=sys.stderr,
        )
    return 1 if unreadable else 0


def main(arguments: list[str] | None = None) -> int:
    """Run the job; returns its exit code."""
    return cli.main("export", job, arguments, "start again with a new --to")


if __name__ == "__main__":
    sys.exit(main())
