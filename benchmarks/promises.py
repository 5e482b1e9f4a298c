"""Is what `jobs.calibrate` promises kept as often as it says? On runs whose truth is made up.

Boxes of one image are right or wrong together more or less, and some images are wrong as a whole.
Usage: `python -m benchmarks.promises`.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from benchmarks.calibration import Seen
from pipeline.labels.calibration import Claim
from pipeline.labels.isotonic import fit
from tests.support.reviews import draw

# images, reviewed ones, how much boxes of one image have in common, share of spoiled images
CASES = (
    (2000, 300, 0.0, 0.0),
    (2000, 300, 1.0, 0.0),
    (2000, 300, 2.0, 0.0),
    (400, 200, 2.0, 0.0),
    (2000, 300, 0.0, 0.02),
    (2000, 60, 2.0, 0.0),
    (2000, 60, 0.0, 0.03),
)


def main() -> None:
    print("| images | reviewed | correlation | spoiled | P | held | without the design effect |")
    print("| " + "--- | " * 7)
    for images, number, together, spoiled in CASES:
        for precision in (0.9, 0.95):
            random, seen = np.random.default_rng(0), Seen()
            for _ in range(200):
                every = draw(random, images, together)
                bad = random.random(images) < spoiled
                every = dataclasses.replace(every, right=every.right & ~bad[every.images])
                mine = np.isin(every.images, random.permutation(images)[:number])
                share = number / images
                seen.add(every, mine, share, Claim(precision, 0.95), fit(every))
            cells = [f"{images:,}", number, f"{np.mean(seen.correlations):.2f}", f"{spoiled:.0%}"]
            cells += [precision, seen.held, seen.held_without]
            print("| " + " | ".join(map(str, cells)) + " |", flush=True)


if __name__ == "__main__":
    main()
