"""Does `jobs.select` find the images with the most to correct? Beside chance, on annotated images.

An image's corrections are the boxes that a person would have to remove or add: detections over the
threshold without a partner of their class in the truth (IoU 0.5, best score first), and annotated
boxes without one. Usage: `python -m benchmarks.selection OUTPUT --annotations FILE`.
"""

from __future__ import annotations

import argparse

import numpy as np

from pipeline.bench.matching import iou
from pipeline.labels import boxes, classes
from pipeline.labels.annotations import load_truth
from pipeline.labels.boxes import Image
from pipeline.labels.output import open_output
from pipeline.labels.select import select
from pipeline.labels.truth import Truth
from pipeline.labels.value import DEFAULT_WEIGHTS

THRESHOLD = 0.5
SHARES = (0.1, 0.2, 0.5)


def corrections(image: Image, truth: Truth, place: int, category_ids: np.ndarray) -> int:
    """Boxes to be removed or added."""
    kept = image.scores >= THRESHOLD
    mine = (truth.image_places == place) & ~truth.crowds
    xywh = truth.xywh[mine]
    annotated = np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], 1)
    found = image.xyxy[kept]
    overlap = iou(found, annotated)
    same = category_ids[image.classes[kept]][:, None] == truth.box_categories[mine]
    overlap = np.where(same, overlap, 0)
    right = 0
    for row in range(len(found)):
        best = int(np.argmax(overlap[row])) if overlap.shape[1] else 0
        if overlap.shape[1] and overlap[row, best] >= 0.5:
            right += 1
            overlap[:, best] = 0
    return len(found) + len(annotated) - 2 * right


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output")
    parser.add_argument("--annotations", required=True)
    given = parser.parse_args()
    output = open_output(given.output)
    truth = load_truth(given.annotations)
    chosen = classes.choose(output.categories)
    category_ids = np.array([truth.category_ids.get(name, -1) for name in chosen.names])
    needed: dict[int, int] = {}
    for table in output.tables(boxes.COLUMNS, ("ok",)):
        for image in chosen.choose(boxes.from_table(table)).images():
            if found := truth.place(image.uri):
                needed[image.image_id] = corrections(image, truth, found[0], category_ids)
    whole = sum(needed.values())
    print(f"{len(needed)} images, {whole} corrections, {whole / len(needed):.2f} an image")
    print("| ranking | " + " | ".join(f"first {share:.0%}" for share in SHARES) + " |")
    print("| --- |" + " --- |" * len(SHARES))
    alone = [{other: float(other == name) for other in DEFAULT_WEIGHTS} for name in DEFAULT_WEIGHTS]
    rankings = [(" ".join(k for k, v in w.items() if v), w, 0.0) for w in alone]
    rankings += [(f"all, diversity {d:g}", {}, d) for d in (0.0, 0.5, 1.0)]
    for name, weights, diversity in rankings:
        rows = select(output, chosen, output.counts["ok"], THRESHOLD, diversity, weights).rows
        ranked = [needed[i] for i in rows["image_id"].to_pylist() if i in needed]
        cells = []
        for share in SHARES:
            first = ranked[: round(len(ranked) * share)]
            cells.append(
                f"{sum(first) / whole:.1%} ({sum(first) / len(first) * len(needed) / whole:.2f}x)"
            )
        print(f"| {name} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
