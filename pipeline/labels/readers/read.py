"""Annotations of any format but COCO's, read into one."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pipeline.labels.readers import cvat, fiftyone, labelstudio, origins, parquet, voc, yolo
from pipeline.labels.readers.collected import Collected
from pipeline.labels.readers.kinds import Source
from pipeline.labels.readers.origins import Origins

NOT_BACK = "not among what came back"
# kind -> how a person calls it, what reads it
READERS: dict[str, tuple[str, Callable[[str, Collected], None]]] = {
    "labelstudio": ("Label Studio JSON", labelstudio.read),
    "labelstudio-min": ("Label Studio JSON-MIN", labelstudio.read_min),
    "cvat": ("CVAT for images", cvat.read),
    "voc": ("Pascal VOC", voc.read),
    "yolo": ("YOLO", yolo.read),
    "fiftyone": ("FiftyOne", fiftyone.read),
    "huggingface": ("Hugging Face", parquet.read_huggingface),
    "corrections": ("corrections of jobs.review", parquet.read_corrections),
}


def read(sources: Sequence[Source], beside: str) -> Collected:
    """
    Args:
        sources: as from `kinds.find`, none of them COCO's.
        beside: URL of the folder in which the export's `images.csv` may stand if it is not in the
            source's own: that of a zip.

    Raises:
        UsageError: they cannot be used.
    """
    found = Collected()
    exports = {source.folder: origins_of(source, beside) for source in sources}
    for source in sources:
        found.begin(exports[source.folder])
        READERS[source.kind][1](source.url, found)
    exported = sum(len(known.names) for known in exports.values())
    if (missing := exported - found.led_back - found.unreviewed.total()) > 0:
        found.unreviewed[NOT_BACK] += missing
    return found


def origins_of(source: Source, beside: str) -> Origins:
    """The export that the source came from, as far as its files are still there."""
    known = origins.load(source.folder)
    return known if known.names or known.record else origins.load(beside)
