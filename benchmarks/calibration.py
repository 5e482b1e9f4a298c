"""Does what `jobs.calibrate` promises hold? On annotated images, of which half are reviewed.

Each time, half of the images are drawn at random as the review; thresholds and probabilities are
made of it, and looked at in the other half. Usage:
`python -m benchmarks.calibration OUTPUT --annotations FILE --precision P`.
"""

from __future__ import annotations

import argparse
import dataclasses
from dataclasses import dataclass, field

import numpy as np

from pipeline.labels import classes
from pipeline.labels.annotations import load_truth
from pipeline.labels.calibrate import OWN_BOXES
from pipeline.labels.calibration import Claim, Curve
from pipeline.labels.guarantee import Reviewed, histogram, intraclass, lowest
from pipeline.labels.isotonic import calibration_error, cross_fitted, fit
from pipeline.labels.match import match
from pipeline.labels.output import open_output
from pipeline.labels.thresholds import judge

DRAWS = 200


@dataclass
class Seen:
    """What the draws gave for one group of boxes."""

    draws: int = 0
    broken: int = 0
    without_effect: int = 0
    precisions: list[float] = field(default_factory=list)
    shares: list[float] = field(default_factory=list)
    before: list[float] = field(default_factory=list)
    after: list[float] = field(default_factory=list)
    floor: list[float] = field(default_factory=list)
    correlations: list[float] = field(default_factory=list)

    @property
    def held(self) -> str:
        """In what share of the draws no promise was broken."""
        return f"{1 - self.broken / self.draws:.1%}"

    @property
    def held_without(self) -> str:
        """Likewise if boxes of one image counted as independent."""
        return f"{1 - self.without_effect / self.draws:.1%}"

    def add(
        self, every: Reviewed, mine: np.ndarray, share: float, claim: Claim, ideal: Curve
    ) -> None:
        """One draw.

        Args:
            every: m boxes.
            mine: [m] bool, which of them are reviewed.
            share: of the images that are.
            claim: to be shown.
            ideal: the curve of all boxes.
        """
        self.draws += 1
        reviewed, rest = every.of(mine), every.of(~mine)
        curve = fit(reviewed)
        self.before.append(calibration_error(rest.scores, rest.right))
        self.after.append(calibration_error(curve(rest.scores), rest.right))
        self.floor.append(calibration_error(ideal(rest.scores), rest.right))
        correlation = intraclass(reviewed, curve(reviewed.scores))
        self.correlations.append(correlation)
        counts = histogram(every.scores)
        apart = dataclasses.replace(reviewed, images=np.arange(len(reviewed.images)))
        naive = lowest(apart, counts, share, claim, 0.0)
        self.without_effect += naive is not None and _right(rest, naive) < claim.precision
        threshold = lowest(reviewed, counts, share, claim, correlation)
        if threshold is None:
            self.shares.append(0.0)
            return
        precision = _right(rest, threshold)
        self.precisions.append(precision)
        self.shares.append(float(np.mean(rest.scores >= np.float32(threshold))))
        self.broken += precision < claim.precision

    def cells(self) -> list[str]:
        precision = f"{np.mean(self.precisions):.3f}" if self.precisions else "-"
        return [
            f"{len(self.precisions)}",
            self.held,
            self.held_without,
            precision,
            f"{np.mean(self.shares):.1%}",
            f"{np.mean(self.correlations):.2f}",
            f"{np.mean(self.before):.4f}",
            f"{np.mean(self.after):.4f}",
            f"{np.mean(self.floor):.4f}",
        ]


def _right(boxes: Reviewed, threshold: float) -> float:
    kept = boxes.right[boxes.scores >= np.float32(threshold)]
    return float(kept.mean()) if len(kept) else 1.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output")
    parser.add_argument("--annotations", required=True)
    parser.add_argument("--precision", type=float, nargs="+", default=[0.98])
    given = parser.parse_args()
    output = open_output(given.output)
    matched = match(output, load_truth(given.annotations), classes.choose(output.every_category))
    found = matched.found[np.argsort(-matched.found["score"], kind="stable")]
    right, ignored = judge(matched.truth, found)
    found, right = found[~ignored], right[~ignored]
    every = Reviewed(found["score"], right, found["place"].astype(np.int64))
    names = {category: name for name, category in matched.truth.category_ids.items()}
    numbers = {k: int(np.count_nonzero(found["category"] == k)) for k in names}
    # half of them are reviewed
    groups = {names[k]: [k] for k, n in numbers.items() if n >= 2 * OWN_BOXES}
    rare = [k for k in names if numbers[k] < 2 * OWN_BOXES]
    groups |= {" and ".join(names[k] for k in rare): rare} if rare else {}
    groups["all"] = list(names)
    images = np.unique(every.images)
    print(f"{len(images)} images with {len(right)} boxes, {right.mean():.1%} right")
    for name, categories in groups.items():
        part = every.of(np.isin(found["category"], categories))
        before, after = part.scores, cross_fitted(part)
        errors = [calibration_error(said, part.right) for said in (before, after)]
        print(f"{name}: D-ECE {errors[0]:.4f}, by five folds {errors[1]:.4f}")
    heads = "P, group, draws with a threshold, held, held without the design effect, right, "
    heads += "accepted, correlation, D-ECE, after, with the curve of all"
    print("| " + heads.replace(", ", " | ") + " |")
    print("| " + "--- | " * len(heads.split(", ")))
    for precision in given.precision:
        for name, categories in groups.items():
            random, seen = np.random.default_rng(0), Seen()
            chosen = np.isin(found["category"], categories)
            part, claim = every.of(chosen), Claim(precision, 0.95)
            if name != "all":
                claim = claim.among(len(groups) - 1)
            ideal = fit(part)
            for _ in range(DRAWS):
                mine = np.isin(part.images, random.permutation(images)[: len(images) // 2])
                seen.add(part, mine, 0.5, claim, ideal)
            print(f"| {precision:g} | {name} | " + " | ".join(seen.cells()) + " |", flush=True)


if __name__ == "__main__":
    main()
