"""Annotations of any format, read as a `Truth`."""

from __future__ import annotations

from collections.abc import Sequence

import ijson
import numpy as np

from pipeline import words
from pipeline.errors import UsageError
from pipeline.labels.readers import coco, kinds
from pipeline.labels.readers.kinds import Source
from pipeline.labels.readers.read import READERS, origins_of, read
from pipeline.labels.readers.zips import unpacked
from pipeline.labels.truth import Truth, fold_class, told
from pipeline.locations import checked_url
from pipeline.store import failures, urls


def load_truth(url: str) -> Truth:
    """Read annotations of any format that `jobs.export` writes, in the form in which the tools give
    them back; which one it is, their content says.

    Args:
        url: of COCO's instances JSON (also zipped, or with a byte-order mark), Label Studio's JSON
            or JSON-MIN, CVAT's XML, a folder of YOLO, Pascal VOC, FiftyOne or Hugging
            Face, or a zip of one; or what `jobs.review` wrote. An export's `images.csv` beside it
            leads back to the images' URIs.

    Raises:
        UsageError: it cannot be read, is nothing of that, no image was reviewed, or most of its
            annotations cannot be used.
    """
    url = checked_url("annotations", url)
    called = "instances JSON"
    try:
        with unpacked(url) as place:
            sources = kinds.find(place)
            beside = sources[0].top if place == url else url.rpartition("/")[0] or "."
            if sources[0].kind == "coco" and len(sources) == 1:
                truth = _instances(url, sources[0], beside)
            else:
                called = _told_kinds(sources)
                truth = _collected(url, sources, beside)
    except UsageError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError, ijson.JSONError) as error:
        raise UsageError(f"{url} is not valid {called}: {words.explain(error)}") from error
    except Exception as error:  # each file system has its own
        raise failures.unusable("read", url, error) from error
    _check(truth)
    truth.category_ids = _without_twins(truth)
    return truth


def _told_kinds(sources: Sequence[Source]) -> str:
    """What annotations are, for a person.

    Raises:
        UsageError: they are several of COCO.
    """
    found = list(dict.fromkeys(source.kind for source in sources))
    if "coco" in found:
        raise UsageError(
            f"there are {len(sources)} files of annotations, and COCO files are read one at a "
            f"time, unpacked: give one of them, such as {urls.public(sources[0].url)}"
        )
    return " and ".join(READERS[kind][0] for kind in found)


def _collected(url: str, sources: Sequence[Source], beside: str) -> Truth:
    found = read(sources, beside)
    if not found.names:
        why = f": {told(found.unreviewed)}" if found.unreviewed else ""
        raise UsageError(f"{url} has no image that a person has reviewed{why}")
    xywh = np.frombuffer(found.xyxy).reshape(-1, 4)
    xywh[:, 2:] -= xywh[:, :2]
    return Truth(
        url,
        ids=found.names,
        names=found.names,
        sizes=np.frombuffer(found.sizes, np.int32).reshape(-1, 2),
        category_ids=dict(sorted(found.category_ids.items(), key=lambda pair: pair[1])),
        image_places=np.frombuffer(found.image_places, np.int64),
        box_categories=np.frombuffer(found.box_categories, np.int64),
        xywh=xywh,
        areas=xywh[:, 2] * xywh[:, 3],
        crowds=np.zeros(len(xywh), bool),
        left_out=found.left_out,
        unreviewed=found.unreviewed,
        versions=found.versions,
        reads=found.reads,
        attempts=np.frombuffer(found.attempts, np.int32),
        strangers=np.frombuffer(found.strangers, bool),
        exports=found.exports,
    )


def _instances(url: str, source: Source, beside: str) -> Truth:
    """COCO's instances JSON: every image that is listed was reviewed."""
    known = origins_of(source, beside, {})
    truth = Truth(url, exports=[known.record] if known.record else [])
    coco.read(source.url, truth, known)
    return truth


def _check(truth: Truth) -> None:
    lost, kept = sum(truth.left_out.values()), len(truth.box_categories)
    if lost > kept:
        raise UsageError(
            f"{lost:,} of the {lost + kept:,} annotations of {truth.url} cannot be used: "
            f"{told(truth.left_out)}; give the original file, which has all images, categories "
            "and boxes"
        )


def _without_twins(truth: Truth) -> dict[str, int]:
    """An export declares `car`, and the tool gives its boxes back as `Car`: that alone is one."""
    used = {*np.unique(truth.box_categories).tolist()}
    folded = {fold_class(name) for name, k in truth.category_ids.items() if k in used}
    pairs = truth.category_ids.items()
    return {name: k for name, k in pairs if k in used or fold_class(name) not in folded}
