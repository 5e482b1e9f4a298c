"""Does the loop pay: detect, select, correct, train, and again? Beside images chosen by chance.

`python -m benchmarks.loop --weights W --images DIR --pool ANNOTATIONS [--test ANNOTATIONS]`

The annotations are the person. A predictor with random weights is trained on a few images drawn
from the pool; then, in each round, images are chosen, annotated, and the predictor is trained on
all that are, from that start on. All before the predictor (trunk, FPN, RPN, box head) is that of
the checkpoint and stays as it is. Without --test, each seed holds out a third of the pool.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy import stats
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor
from torchvision.ops import box_iou

from benchmarks import loop_head
from benchmarks.loop_head import Detected, Frozen
from benchmarks.loop_rules import RULES, Pool, Rule
from pipeline import Config
from pipeline.labels.annotations import load_truth
from pipeline.labels.review.batch import MOVED
from pipeline.labels.truth import Truth
from pipeline.network.build import build
from pipeline.network.weights import resolve
from pipeline.store import objects
from pipeline.training import examples, measure

THRESHOLD = 0.5
CONFIDENCE = 0.95
# of a round: corrections an image of the test, those of them that are no moves, and AP there;
# corrections an image that was annotated in it, 0 at the start
FIGURES = ("corrections", "without moves", "AP", "corrected")
Figures = tuple[float, float, float, float]


@dataclass(frozen=True)
class Images:
    """Those of a file of annotations, in its order."""

    truth: Truth
    frozen: list[Frozen]

    def of(self, places: np.ndarray) -> Images:
        return Images(self.truth.of(places), [self.frozen[k] for k in places.tolist()])


@dataclass(frozen=True)
class Loop:
    """One loop's surroundings.

    Attributes:
        first: number of images that the start is trained on.
        budget: number of images a round.
    """

    model: FasterRCNN
    pool: Images
    test: Images
    seed: int
    first: int
    budget: int
    rounds: int

    def begin(self) -> tuple[FastRCNNPredictor, list[int]]:
        """The start, and the places in the pool that it is trained on; the same for all rules."""
        every, classes = self.pool.frozen, len(self.pool.truth.category_ids)
        known = np.random.default_rng(self.seed).permutation(len(every))[: self.first].tolist()
        fresh = loop_head.fresh(classes, self.seed)
        return loop_head.trained(fresh, [every[k] for k in known], self.seed), known

    def run(self, rule: Rule, start: FastRCNNPredictor, known: list[int]) -> list[Figures]:
        """`FIGURES` of the start and of each round."""
        every, known, predictor = self.pool.frozen, known.copy(), start
        random = np.random.default_rng([self.seed, 1])
        means = np.stack([image.features[: image.own].mean(0).numpy() for image in every])
        results = [(*self.tested(predictor), 0.0)]
        judged: list[tuple[Frozen, Detected]] = []
        for _ in range(self.rounds):
            open_ = [k for k in range(len(every)) if k not in set(known)]
            images = [every[k] for k in open_]
            found = [loop_head.detect(self.model, predictor, image) for image in images]
            names = [*self.pool.truth.category_ids]
            features = means[open_], means[known]
            pool = Pool(images, found, *features, judged, names, THRESHOLD, random)
            chosen = rule(pool, self.budget)
            edits = loop_head.reviewed(images, found, THRESHOLD).edits
            judged += [(images[k], found[k]) for k in chosen]
            known += [open_[k] for k in chosen]
            predictor = loop_head.trained(start, [every[k] for k in known], self.seed)
            results.append((*self.tested(predictor), float(edits[chosen].mean())))
        return results

    def tested(self, predictor: FastRCNNPredictor) -> tuple[float, float, float]:
        images, truth = self.test.frozen, self.test.truth
        found = [loop_head.detect(self.model, predictor, image) for image in images]
        batch = loop_head.reviewed(images, found, THRESHOLD)
        edits = batch.edits.sum() / len(images)
        unmoved = edits - np.count_nonzero(batch.sources == MOVED) / len(images)
        rows = loop_head.as_found(found, truth, [*self.pool.truth.category_ids])
        metrics = measure.measured(truth, rows, lambda mine: [mine]).metrics
        return float(edits), float(unmoved), float(metrics["AP"] or 0)


def read(model: FasterRCNN, config: Config, annotations: str, names: Sequence[str] = ()) -> Images:
    """`names` are of the classes; default: as in the annotations."""
    found = examples.find(load_truth(annotations), config, True, lambda *size: min(size))
    names = names or [*found.truth.category_ids]
    images = Images(found.truth, loop_head.freeze(model, config, found.truth, found.images, names))
    near = [
        box_iou(image.proposals[image.own :], image.proposals[: image.own]).max(1).values
        for image in images.frozen
    ]
    recall = float((torch.cat(near) >= THRESHOLD).float().mean())
    print(f"{annotations}: {len(near)} images; a proposal on {recall:.1%} of the boxes")
    return images


def interval(differences: np.ndarray) -> str:
    """Mean, and its 95 % interval by Student's t."""
    mean = differences.mean()
    half = stats.t.ppf((1 + CONFIDENCE) / 2, len(differences) - 1) * stats.sem(differences)
    return f"{mean:+.3f} ({mean - half:+.3f} to {mean + half:+.3f})"


def show(found: dict[str, np.ndarray]) -> None:
    """
    Args:
        found: [seeds, rounds + 1, figures] by rule.
    """
    chance = found["random"]
    rounds = range(1, chance.shape[1])
    start = [f"{name} {chance[:, 0, k].mean():.3f}" for k, name in enumerate(FIGURES[:3])]
    print(f"\n{len(chance)} seeds; at the start {', '.join(start)}\n")
    heads = ["rule", *(f"round {k}" for k in rounds), "less random"]
    heads += [f"{name}, less random" for name in FIGURES[1:3]] + [FIGURES[3]]
    print("| " + " | ".join(heads) + " |\n|" + " --- |" * len(heads))
    for rule, every in found.items():
        edits = every[..., 0]
        cells = [f"{edits[:, k].mean():.2f} ± {stats.sem(edits[:, k]):.2f}" for k in rounds]
        less = (every - chance)[:, 1:].mean(1)
        cells += ["" if rule == "random" else interval(less[:, k]) for k in range(3)]
        print(f"| {rule} | " + " | ".join([*cells, f"{every[:, 1:, 3].mean():.2f}"]) + " |")


def asked(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", required=True)
    parser.add_argument("--model", type=json.loads, default={}, help="JSON of its keywords")
    parser.add_argument("--images", required=True)
    parser.add_argument("--pool", required=True)
    parser.add_argument("--test")
    parser.add_argument("--first", type=int, default=5)
    parser.add_argument("--budget", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seeds", type=int, default=10)
    return parser.parse_args(arguments)


def main() -> None:
    given = asked()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "2")))
    config = Config(input=given.images, output="none", weights=given.weights, model=given.model)
    weights = resolve(config, objects.read)
    model = build(weights.state, weights.options)
    pool = read(model, config, given.pool)
    test = read(model, config, given.test, [*pool.truth.category_ids]) if given.test else None
    found: dict[str, list[list[Figures]]] = {name: [] for name in RULES}
    began = time.monotonic()
    for seed in range(given.seeds):
        mine, theirs = (pool, test) if test else halves(pool, seed)
        loop = Loop(model, mine, theirs, seed, given.first, given.budget, given.rounds)
        start, known = loop.begin()
        for name, rule in RULES.items():
            found[name].append(loop.run(rule, start, known))
        print(f"seed {seed}: {time.monotonic() - began:.0f} s", flush=True)
    show({name: np.array(values) for name, values in found.items()})


def halves(images: Images, seed: int) -> tuple[Images, Images]:
    """Two thirds and one, drawn at random."""
    order = np.random.default_rng(1000 + seed).permutation(len(images.frozen))
    many = len(order) * 2 // 3
    return images.of(np.sort(order[:many])), images.of(np.sort(order[many:]))


if __name__ == "__main__":
    main()
