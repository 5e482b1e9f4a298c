"""Fine-tune the network on annotations or corrections, to a checkpoint that detect takes."""

from __future__ import annotations

import logging
import shlex
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, get_args, get_type_hints

from jobs import cli
from jobs.detect import add_flag
from pipeline import words
from pipeline.config import PIXELS, Config, flag_of, from_yaml
from pipeline.driver.checks import check_network
from pipeline.errors import UsageError
from pipeline.labels.annotations import load_truth
from pipeline.locations import checked_url
from pipeline.store import urls
from pipeline.training.pixels import as_the_run
from pipeline.training.recipe import Recipe

if TYPE_CHECKING:
    from pipeline.training.trainer import Outcome

# not __name__, which is that of every job that is started as a command
log = logging.getLogger("jobs.train")
KEPT = "the same command goes on after the last whole epoch"
# of `Config`, by their flags there; `--config` may hold the others
SHARED = ("weights", "categories", "min_size", "device", "trust_uris")
# likewise of it, but a training that did not heed them would not be what was asked for
WITHOUT = ("tile", "limit")


def parser() -> cli.Parser:
    """The flags. None has a default here: they stand in `Recipe` and in `Config`."""
    parser = cli.Parser(
        "train",
        __doc__,
        "Images are read as by prelabel detect, and --config is the same: its `model:` takes "
        "torchvision's keywords for training, too. Exit codes: 0 done, 1 failed (the same command "
        "continues), 2 usage.",
    )
    add = parser.add_argument
    truth = (
        "annotations in any format of prelabel export, or corrections.parquet of prelabel review"
    )
    images = "folder, prefix, glob or table of the images (default: TRUTH says where they are)"
    add("truth", metavar="TRUTH", help=f"{truth}; path or URL")
    add("--to", metavar="DIR", help="folder for the checkpoint, on any store")
    add("--images", metavar="URL", help=images)
    config = "YAML with any fields of pipeline.Config; flags win over it"
    add("--config", metavar="FILE", help=config)
    for kind, names in ((Config, SHARED), (Recipe, tuple(get_type_hints(Recipe)))):
        hints = get_type_hints(kind, include_extras=True)
        for name in names:
            value, option = get_args(getattr(hints[name], "type", hints[name]))
            add_flag(parser, name, value, option, getattr(kind, name, None))
    return parser


def described(given: dict[str, Any]) -> tuple[str, Config, Recipe, bool]:
    """The annotations, the configuration, the recipe, and whether images are listed.

    Raises:
        UsageError: what no training could be.
    """
    for name, flag in (("truth", "TRUTH"), ("to", "--to")):
        if name not in given:
            raise UsageError(f"{flag} is missing; see --help")
    typed = set(given)
    truth, to = given.pop("truth"), given.pop("to")
    values = from_yaml(given.pop("config")) if "config" in given else {}
    values |= {name: given.pop(name) for name in SHARED if name in given}
    images = given.pop("images", values.get("input"))
    try:
        config = Config(**values | {"input": images or _home(truth), "output": to})
        if other := next((name for name in WITHOUT if getattr(config, name) is not None), None):
            raise UsageError(
                f"{other} does not apply to a training, which takes all images, each as a whole: "
                "leave it out of --config"
            )
        return truth, config, Recipe(**given), images is not None
    except UsageError as error:
        raise cli.as_typed(error, typed) from error


def _home(truth: str) -> str:
    """The folder that relative names in annotations start from."""
    url = checked_url("annotations", truth)
    fs, path = urls.filesystem(url)
    return url if fs.isdir(path) else url.rpartition("/")[0] or "/"


def show(outcome: Outcome, config: Config) -> None:
    """The last lines of a training, for a person."""
    record, best = outcome.record, outcome.best
    done = len(record["epochs"])
    print(f"epochs      {done:,}" + (f", the best is {best['epoch']}" if best["metrics"] else ""))
    if best["metrics"]:
        held = words.count(record["held_out"], "image")
        print(f"AP          {best['metrics']['AP']:.4f} on {held} held out")
    seconds = sum(e["seconds"] + e["seconds_measuring"] for e in record["epochs"])
    print(f"time        {words.duration(seconds)}")
    checkpoint, page = (outcome.folder.url_of(n) for n in ("checkpoint.safetensors", "report.html"))
    print(f"report      {page}")
    print(f"checkpoint  {checkpoint}")
    flags = ["--input", "IMAGES", "--output", "LABELS", "--weights", checkpoint, *_read(config)]
    print(f"to detect   {words.command('detect')} {shlex.join(flags)}")


def _read(config: Config) -> Iterator[str]:
    """The flags of detect by which images are read as in the training."""
    for name in PIXELS:
        value, flag = getattr(config, name), flag_of(name)
        if value is not None and flag.startswith("--"):
            yield from (flag, *map(str, value if isinstance(value, tuple) else (value,)))


def job(arguments: list[str]) -> int:
    """Run it; returns the exit code."""
    url, config, recipe, listed = described(parser().given(arguments))
    log.info("looking at annotations and weights")
    truth = load_truth(url)
    val = load_truth(recipe.val) if recipe.val else None
    config = as_the_run(config, [truth, *([val] if val else [])])
    if flags := shlex.join(_read(config)):
        log.info("images are read with %s", flags)
    check_network(config)
    log.info("loading torch")
    from pipeline.training.trainer import train

    show(train(truth, val, config, recipe, listed), config)
    return 0


def main(arguments: list[str] | None = None) -> int:
    """Run the job; returns its exit code."""
    return cli.main("train", job, arguments, KEPT)


if __name__ == "__main__":
    cli.leave(main())
