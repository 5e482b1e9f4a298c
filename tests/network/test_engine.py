"""The engine against torchvision's own `model([image])`, with the real network."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import itertools
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch
from torchvision.models.detection import FasterRCNN, fasterrcnn_resnet50_fpn_v2
from torchvision.ops import poolers

from pipeline.bench.matching import match
from pipeline.network.build import build, suits
from pipeline.network.contract import DeviceLost, ShortOfMemory, Weights
from pipeline.network.engine import Engine, packed
from pipeline.network.precision import DTYPES, MIN_SIZE, chosen
from tests.support.fake_cuda import FakeCuda
from tests.support.matching import as_on_a_gpu, assert_same, picture, reference

# (height, width): of photographs, upright and not; of the sizes that torchvision rounds down to
# one less than `min_size` (as 799 of 800); strips; single pixels
SHAPES = [
    *[(96, 128), (128, 96), (100, 100), (97, 131), (64, 250), (200, 133), (133, 200), (480, 640)],
    *[(427, 640), (640, 480), (375, 500), (333, 500), (500, 375), (612, 612), (128, 128)],
    *[(127, 129), (255, 256), (256, 511), (129, 1000), (700, 90), (90, 700), (57, 57), (33, 64)],
    *[(1, 1), (2, 3), (7, 5), (1, 9), (201, 301), (202, 303), (1201, 1208), (1239, 1300)],
]
# in the network these are strips of up to 67 pixels, for which torchvision infers other scales
STRIPS = [(20, 300), (40, 1000), (300, 12), (60, 260), (68, 256), (45, 256), (33, 256), (1000, 40)]


@pytest.fixture(scope="module")
def weights(calibrated: Weights) -> Weights:
    return calibrated


@pytest.fixture(scope="module")
def engine(weights: Weights) -> Engine:
    """On a CPU, "auto" is fp32."""
    engine = Engine(weights, "cpu", 2, "auto")
    assert engine.name == "CPU, fp32"
    return engine


@pytest.fixture(scope="module")
def torchvisions(weights: Weights) -> FasterRCNN:
    return build(weights.state, weights.options)


def with_options(weights: Weights, **options: Any) -> Weights:
    return dataclasses.replace(weights, options=weights.options | options)


def at_once(engine: Engine) -> Engine:
    """The engine with the steps that a GPU takes behind the feature maps."""
    other = copy.copy(engine)
    other.at_once = True
    return other


def inputs(engine: Engine, images: list[np.ndarray]) -> tuple[torch.Tensor, torch.Tensor]:
    """What the engine's maps are computed from."""
    sizes = [engine.resized_shape(*image.shape[:2]) for image in images]
    known = engine._known(sizes, engine.padded_shape(*images[0].shape[:2]))
    return engine._given(packed(images, pinned=False), images, sizes, known)


def check(weights: Weights, pixels: np.ndarray, gpus_steps: bool = True) -> int:
    """Both find the same; returns how much."""
    engine, network = Engine(weights, "cpu", 2, "fp32"), build(weights.state, weights.options)
    (ours,) = engine([pixels])
    assert_same(ours, reference(network, pixels))
    if gpus_steps:
        with as_on_a_gpu():
            assert_same(at_once(engine)([pixels])[0], reference(network, pixels))
    return len(ours.labels)


@pytest.mark.parametrize("height,width", [*SHAPES, *STRIPS])
def test_boxes_are_torchvisions(
    engine: Engine, torchvisions: FasterRCNN, height: int, width: int
) -> None:
    pixels = picture(height, width, seed=height)
    (ours,), theirs = engine([pixels]), reference(torchvisions, pixels)
    assert_same(ours, theirs)
    assert len(ours.labels) > 10 or min(height, width) < 20


@pytest.mark.parametrize("height,width", [*SHAPES[::4], *STRIPS[::4]])
def test_boxes_of_a_gpus_steps(
    engine: Engine, torchvisions: FasterRCNN, height: int, width: int
) -> None:
    pixels = picture(height, width, seed=height)
    with as_on_a_gpu():
        assert_same(at_once(engine)([pixels])[0], reference(torchvisions, pixels))


def test_full_size(weights: Weights) -> None:
    """torchvision's defaults: a side of 800, a thousand proposals."""
    full = dataclasses.replace(weights, options={"num_classes": 91})
    assert check(full, picture(427, 640), gpus_steps=False) > 10


def test_no_detection_at_all(weights: Weights) -> None:
    assert check(with_options(weights, box_score_thresh=0.9999), picture(96, 128)) == 0


def test_thousands_of_candidates(weights: Weights) -> None:
    """Above a thousand, torchvision suppresses class by class on a CPU."""
    low = with_options(
        weights, box_score_thresh=0.0005, box_detections_per_img=3000, rpn_post_nms_top_n_test=1000
    )
    assert check(low, picture(96, 128), gpus_steps=False) > 1000


def test_few_proposals(weights: Weights) -> None:
    few = with_options(
        weights, rpn_pre_nms_top_n_test=7, rpn_post_nms_top_n_test=3, box_detections_per_img=5
    )
    assert 0 < check(few, picture(96, 128)) <= 5


def test_no_proposal(weights: Weights) -> None:
    assert check(with_options(weights, rpn_score_thresh=1.1), picture(96, 128)) == 0


def test_ties(weights: Weights) -> None:
    """Where all anchors, boxes and classes are equally good, order alone decides."""
    state = {name: array.copy() for name, array in weights.state.items()}
    for layer in ("rpn.head.cls_logits", "roi_heads.box_predictor.cls_score"):
        state[f"{layer}.weight"][:] = 0
        state[f"{layer}.bias"][:] = 0
    state["roi_heads.box_predictor.cls_score.bias"][1:] = 4
    tied = with_options(dataclasses.replace(weights, state=state), box_score_thresh=0.001)
    theirs = reference(build(tied.state, tied.options), picture(96, 128))
    engine = Engine(tied, "cpu", 2, "fp32")
    for way in (engine, at_once(engine)):
        (ours,) = way([picture(96, 128)])
        assert len(ours.labels) == 100 and len(np.unique(ours.scores)) == 1
        np.testing.assert_array_equal(ours.labels, theirs.labels)
        np.testing.assert_allclose(ours.xyxy, theirs.xyxy, atol=0.01)


def test_a_constant_image(engine: Engine, torchvisions: FasterRCNN) -> None:
    pixels = np.full((96, 128, 3), 128, np.uint8)
    (ours,) = engine([pixels])
    assert_same(ours, reference(torchvisions, pixels))


@pytest.mark.parametrize(
    "options",
    [
        {"fixed_size": [160, 96], "rpn_nms_thresh": 0.3, "box_nms_thresh": 0.2},
        {
            "size_divisible": 64,
            "image_mean": [0.1, 0.2, 0.3],
            "bbox_reg_weights": [5.0, 5.0, 2.0, 2.0],
        },
    ],
)
def test_options(weights: Weights, options: dict[str, Any]) -> None:
    assert check(with_options(weights, **options), picture(150, 100)) > 10


def test_a_micro_batch_changes_nothing(engine: Engine) -> None:
    images = [picture(96, 128, seed) for seed in range(2)] + [picture(90, 122, 2)]
    assert len({engine.padded_shape(*image.shape[:2]) for image in images}) == 1
    for way in (engine, at_once(engine)):
        for image, together in zip(images, way(images), strict=True):
            assert_same(way([image])[0], together)


def test_a_gpu_is_not_waited_for(weights: Weights) -> None:
    """torch's meta device refuses whatever asks for a value, and a shape that depends on one."""
    engine = Engine(weights, "meta", 1, "fp32")
    given = inputs(engine, [picture(96, 128, seed) for seed in range(3)])
    found, flags = engine._found(*given, at_once=True)
    assert (found.shape, flags.shape) == ((3, 100, 7), (2,))
    with pytest.raises((RuntimeError, NotImplementedError), match="meta"):
        engine._found(*given, at_once=False)


def test_micro_batches_at_once(engine: Engine) -> None:
    images = [picture(96, 128, seed) for seed in range(4)]
    for way in (engine, at_once(engine)):
        alone = [way([image])[0] for image in images]
        with ThreadPoolExecutor(2) as threads:
            together = threads.map(way, [[image] for image in images])
            for (ours,), theirs in zip(together, alone, strict=True):
                np.testing.assert_array_equal(ours.xyxy, theirs.xyxy)


@pytest.mark.parametrize(
    "torchs,ours",
    [(torch.OutOfMemoryError, ShortOfMemory), (torch.AcceleratorError, DeviceLost)],
)
def test_what_a_device_fails_with(
    engine: Engine,
    monkeypatch: pytest.MonkeyPatch,
    torchs: type[Exception],
    ours: type[Exception],
) -> None:
    def fails(*args: Any) -> None:
        raise torchs("CUDA says so")

    with monkeypatch.context() as patch:
        patch.setattr(Engine, "_body", fails)
        with pytest.raises(ours, match="CUDA says so"):
            engine([picture(96, 128)])
    assert engine([picture(96, 128)])


def test_what_has_no_room_is_done_again(
    engine: Engine, torchvisions: FasterRCNN, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Too many candidates, and chains of overlapping boxes that are too long."""
    pixels, detect = picture(96, 128), Engine._detect
    ways = []

    def noted(*args: Any) -> Any:
        found, flags = detect(*args)
        ways.append(("at once" if args[-1] else "waiting", bool(flags[0])))
        return found, flags

    monkeypatch.setattr(Engine, "_detect", noted)
    at_once(engine)([pixels])
    assert ways == [("at once", True)]
    for limit in ("engine.CANDIDATES", "nms.ROUNDS"):
        ways.clear()
        with monkeypatch.context() as patch:
            patch.setattr(f"pipeline.network.{limit}", 1)
            (ours,) = at_once(engine)([pixels])
        assert ways == [("at once", False), ("waiting", True)]
        assert_same(ours, reference(torchvisions, pixels))


@pytest.mark.parametrize(
    "precision,part,factor,advice",
    [
        ("fp16", "backbone.body.conv1.weight", 1e5, "numbers; pass --precision fp32$"),
        ("fp32", "rpn.head.cls_logits.bias", np.nan, "not finite numbers$"),
        ("fp32", "roi_heads.box_predictor.bbox_pred.weight", np.inf, "not finite numbers$"),
    ],
)
def test_numbers_that_overflow_are_no_boxes(
    weights: Weights, precision: str, part: str, factor: float, advice: str
) -> None:
    """Rather than none, or others, without a word."""
    state = weights.state | {part: weights.state[part] * np.float32(factor)}
    engine = Engine(dataclasses.replace(weights, state=state), "cpu", 2, precision)
    for way in (engine, at_once(engine)):
        with pytest.raises(FloatingPointError, match=advice):
            way([picture(96, 128)])


def test_the_first_image_changes_nothing(engine: Engine, weights: Weights) -> None:
    """torchvision keeps the scales that it infers from the first image."""
    strip, pixels = picture(20, 300), picture(96, 128)
    used = Engine(weights, "cpu", 2, "fp32")
    used([strip])
    np.testing.assert_array_equal(used([pixels])[0].xyxy, engine([pixels])[0].xyxy)


@pytest.mark.parametrize(
    "options", [{}, {"min_size": 333, "size_divisible": 64}, {"fixed_size": [300, 200]}]
)
def test_padded_shape_is_torchvisions(engine: Engine, options: dict[str, Any]) -> None:
    transform = fasterrcnn_resnet50_fpn_v2(weights=None, weights_backbone=None, **options)
    transform = transform.eval().transform
    engine = copy.copy(engine)
    engine.transform = transform
    generator = np.random.default_rng(0)
    shapes = [(int(h), int(w)) for h, w in generator.integers(1, 400, (40, 2))]
    # sides whose scaled length falls one short of min_size by rounding down
    shapes += [(side, side + 7) for side in range(1201, 1240)] + [(427, 640), (20, 3000)]
    for height, width in shapes:
        try:
            ours = engine.padded_shape(height, width)
        except ValueError:
            with pytest.raises(RuntimeError):
                transform([torch.zeros(3, height, width)])
            continue
        batch, _ = transform([torch.zeros(3, height, width)])
        assert ours == tuple(batch.tensors.shape[-2:]), (height, width)
        assert engine.resized_shape(height, width) == batch.image_sizes[0]


@pytest.mark.parametrize("options", [{}, {"max_size": 200}, {"fixed_size": [60, 130]}])
def test_what_suits_the_network(weights: Weights, options: dict[str, Any]) -> None:
    """What it does not enlarge, and leaves something of."""
    weights, found = with_options(weights, **options), set()
    engine = Engine(weights, "meta", 1, "fp32")
    for height, width in itertools.product((1, 60, 129, 999), (1, 128, 133, 30_000)):
        after = engine.resized_shape(height, width)
        suited = min(after) >= 1 and after[0] <= height and after[1] <= width
        assert suits(weights, height, width) == suited, (height, width)
        found.add(suited)
    assert len(found) == 2


@pytest.mark.parametrize("options", [{}, {"size_divisible": 2, "min_size": 101}])
def test_what_is_known_of_an_image(weights: Weights, options: dict[str, Any]) -> None:
    """Its limits, and the scales that torchvision infers of it as the first image."""
    engine = Engine(with_options(weights, **options), "meta", 1, "fp32")
    for height, width in [(96, 128), (97, 131), *STRIPS]:
        batch, _ = inputs(engine, [picture(height, width)])
        size = engine.resized_shape(height, width)
        scales, _ = poolers._setup_scales(engine._body(batch), [size], 224, 4)
        known = engine._known([size], engine.padded_shape(height, width))
        assert known.tolist() == [[*size[::-1], *size[::-1], *scales]]


def test_half_precision(engine: Engine, weights: Weights) -> None:
    """A little off: what it costs is measured by `benchmarks.gpu`."""
    half = Engine(weights, "cpu", 2, "fp16")
    images = [picture(96, 128, seed) for seed in range(2)]
    found, expected = half(images), engine(images)
    assert match(found, expected).loose > 0.85
    for ours, theirs in zip(found, expected, strict=True):
        assert not np.array_equal(ours.scores[:10], theirs.scores[:10])
        assert ours.xyxy.dtype == ours.scores.dtype == np.float32


@pytest.mark.parametrize(
    "tf32,options,precision",
    [
        (True, {}, "fp16"),
        (True, {"min_size": 352}, "fp16"),
        (True, {"min_size": 351}, "fp32"),
        (False, {"min_size": 352}, "fp32"),
    ],
)
def test_the_precision_that_is_chosen(tf32: bool, options: dict[str, Any], precision: str) -> None:
    assert chosen(tf32, options) == precision


def test_the_side_where_none_is_given_is_torchvisions() -> None:
    assert inspect.signature(FasterRCNN).parameters["min_size"].default == MIN_SIZE


@pytest.mark.parametrize(
    "capability,precision", [((8, 0), "fp16"), ((9, 0), "fp16"), ((7, 5), "fp32")]
)
def test_which_gpus_have_tf32(
    capability: tuple[int, int], precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    cuda = FakeCuda()
    monkeypatch.setattr("tests.support.fake_cuda.CAPABILITY", capability)
    assert cuda.engine(precision="auto").name == f"fake, {precision}"


@pytest.mark.parametrize(
    "options,precision",
    [
        # of several sides torchvision takes the last one
        ({"min_size": (800, 351)}, "fp32"),
        ({"min_size": (320, 352)}, "fp16"),
        ({"fixed_size": (800, 351)}, "fp32"),
        ({"fixed_size": (352, 800), "min_size": 320}, "fp16"),
    ],
)
def test_the_side_that_precision_hangs_on(options: dict[str, Any], precision: str) -> None:
    engine = FakeCuda().engine(precision="auto", **options)
    assert engine.name == f"fake, {precision}" and engine.dtype == DTYPES[precision]


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_a_gpu_that_is_not_there(weights: Weights) -> None:
    with pytest.raises(RuntimeError, match="torch sees none: .*or pass --device cpu"):
        Engine(weights, "cuda", 1, "fp32")
