"""Whether what a run names is there: told before torch is imported and Ray started, in seconds."""

from __future__ import annotations

import logging
import os
import tempfile

from pipeline.config import Config
from pipeline.errors import UsageError
from pipeline.inputs import enumeration
from pipeline.inputs.access import WEB
from pipeline.inputs.sources import open_source
from pipeline.outputs.layout import Layout
from pipeline.reading import Reading
from pipeline.store import failures, objects, urls

log = logging.getLogger(__name__)


def check(config: Config, dry_run: bool) -> None:
    """Look at output, input, weights and categories, as far as that takes no time.

    Args:
        config: of the run.
        dry_run: nothing may be written.

    Raises:
        UsageError: one of them cannot be used.
    """
    layout = Layout.of(config.output)
    try:
        known = objects.get(layout.fs, layout.record, objects.FIRST_ATTEMPTS) is not None
    except OSError as error:
        _check_folder(layout)
        raise failures.unusable("read", layout.url_of(layout.record), error) from error
    if not known:  # else it has its manifest, and was written to
        if not dry_run:
            _check_store(layout)
        _check_folder(layout)
        _check_input(config)
    check_network(config)


def check_network(config: Config) -> None:
    """See whether the files are there that the network is made of.

    Raises:
        UsageError: one is not.
    """
    if config.weights != "COCO_V1" and not config.weights.startswith("random:"):
        _check_file("weights", config.weights, config.reading)
    if config.categories:
        _check_file("categories", config.categories, config.reading)


def _check_store(layout: Layout) -> None:
    """Write an empty object, which does not stay."""
    if urls.is_local(layout.fs):
        return
    probe = f"{layout.run}/probe"
    try:
        objects.put(layout.fs, probe, b"")
    except OSError as error:
        raise failures.unusable("write to", layout.url, error) from error
    try:
        objects.delete(layout.fs, probe)
    except OSError as error:
        raise failures.unusable("delete", layout.url_of(probe), error) from error


def _check_folder(layout: Layout) -> None:
    """Have an unnamed file in what there is of the output's path."""
    if not urls.is_local(layout.fs):
        return
    if os.path.isfile(layout.root):
        raise UsageError(f"output {layout.url} is a file; give the name of a folder")
    folder = layout.root
    while not os.path.lexists(folder):
        folder = os.path.dirname(folder)
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        reason = f"nothing can be written in {folder} ({error.strerror})"
        raise UsageError(f"cannot write to {layout.url}: {reason}") from error


def _check_input(config: Config) -> None:
    """Look for its first image; a run lists all of them once it has the output to itself."""
    if config.retries_failures:
        return
    if urls.without_slash(config.input) == config.output:
        raise UsageError(f"output {config.output} is the input itself; give a folder of its own")
    _check_store_answers(config)
    source = open_source(config)
    if next(iter(source.read()), None) is None:
        enumeration.check_not_empty(config, source, enumeration.Counted())
    if f"{config.output}/".startswith(f"{config.input.rstrip('/')}/"):
        log.warning(
            "the output %s is inside the input; a folder outside it is clearer", config.output
        )


def _check_store_answers(config: Config) -> None:
    """Of one that does, all else is asked with more patience."""
    if urls.protocol(config.input) in ("file", *WEB):
        return
    fs, path = urls.filesystem(config.input, reading=config.reading)
    try:
        objects.retrying(lambda: fs.exists(path), objects.FIRST_ATTEMPTS)
    except OSError as error:
        if failures.classify(error)[1]:
            raise failures.unusable("read", config.input, error) from error


def _check_file(what: str, url: str, reading: Reading) -> None:
    if urls.protocol(url) in WEB:  # some servers answer to nothing but the reading itself
        return
    try:
        fs, path = urls.filesystem(url, reading=reading)
        if objects.retrying(lambda: fs.info(path), objects.FIRST_ATTEMPTS)["type"] == "directory":
            raise IsADirectoryError
    except OSError as error:
        told = failures.unusable("read", f"{what} {url}", error)
        hint = (
            f"; {what} takes a file, such as a text with one name per line"
            if what == "categories"
            else ""
        )
        raise UsageError(f"{told}{hint}") from error
