"""Annotations of any format but COCO's, read into one."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pipeline.labels.readers import cvat, fiftyone, labelstudio, origins, parquet, voc, yolo
from pipeline.labels.readers.collected import Collected
from pipeline.labels.readers.kinds import Source
from pipeline.labels.readers.origins import Origins

NOT_BACK = "missing from the corrections"
# kind -> how a person calls it, what reads it
READERS: dict[str, tuple[str, Callable[[str, Collected], None]]] = {
    "labelstudio": ("Label Studio JSON", labelstudio.read),
    "labelstudio-min": ("Label Studio JSON-MIN", labelstudio.read_min),
    "cvat": ("CVAT for images", cvat.read),
    "voc": ("Pascal VOC", voc.read),
    "yolo": ("YOLO", yolo.read),
    "fiftyone": ("FiftyOne", fiftyone.read),
    "huggingface": ("Hugging Face", parquet.read_huggingface),
    "corrections": ("corrections of prelabel review", parquet.read_corrections),
}


def read(sources: Sequence[Source], beside: str) -> Collected:
    """
    Args:
        sources: as from `kinds.find`, none of them COCO's.
        beside: URL of the folder in which the export's `images.csv` may stand if it is in none of
            the source's: that of a zip.

    Raises:
        UsageError: they cannot be used.
    """
    found = Collected()
    loaded: dict[str, Origins] = {}
    for source in sources:
        found.begin(origins_of(source, beside, loaded))
        READERS[source.kind][1](source.url, found)
    exported = sum(len(known.names) for known in loaded.values())
    if (missing := exported - found.led_back - found.unreviewed.total()) > 0:
        found.unreviewed[NOT_BACK] += missing
    return found


def origins_of(source: Source, beside: str, loaded: dict[str, Origins]) -> Origins:
    """The export that the source came from, as far as its files are still there.

    Args:
        source: where annotations are.
        beside: see `read`.
        loaded: what was found in folders so far, for several sources may be of one export.
    """
    found = []
    for folder in (source.folder, source.top, beside):
        if folder not in loaded:
            loaded[folder] = origins.load(folder)
        found.append(loaded[folder])
        if found[-1].names:
            return found[-1]
    return next((known for known in found if known.record), found[0])
