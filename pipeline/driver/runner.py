"""A run, from its command to its summary."""

from __future__ import annotations

import logging
import time

from pipeline.config import Config
from pipeline.driver import checks
from pipeline.driver.summary import Summary
from pipeline.network.contract import EngineFactory

log = logging.getLogger(__name__)


def run(
    config: Config,
    make_engine: EngineFactory | None = None,
    dry_run: bool = False,
    refresh: bool = False,
) -> Summary | None:
    """Run, resume, or retry the failures of a detection run; nothing if it is complete.

    What it does is told by `logging`, on stderr where the program has set up nothing else.

    Args:
        config: what to do.
        make_engine: builds the engine of each replica; by default `network.engine.Engine`.
        dry_run: stop after the preview, nothing written; returns None.
        refresh: list the input again first, and process what is new or has changed, too.

    Raises:
        UsageError: it cannot be done as asked.
        RunError: it broke off; the same call continues it.
    """
    started = time.monotonic()
    if not log.hasHandlers():
        _be_heard()
    log.info("looking at input, weights and output")
    checks.check(config, dry_run)
    log.info("loading torch and Ray")
    # late: that takes seconds, which a mistake should not wait for
    from pipeline.driver.start import start
    from pipeline.network.engine import Engine

    return start(config, make_engine or Engine, dry_run, refresh, started)


def _be_heard() -> None:
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    ours = logging.getLogger("pipeline")
    ours.addHandler(handler)
    ours.setLevel("INFO")
