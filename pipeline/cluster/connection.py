"""The Ray cluster that a run is on: joined or started, and what it has."""

from __future__ import annotations

import contextlib
import logging
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import ray
from ray.util.placement_group import placement_group, remove_placement_group

from pipeline.cluster import placement, ray_internals
from pipeline.cluster.placement import Node, Placement, gpus_of
from pipeline.config import Config
from pipeline.errors import RunError, UsageError
from pipeline.words import explain

log = logging.getLogger(__name__)

# where our packages stand
CODE = Path(__file__).parents[2]
PACKAGES = ("pipeline", "jobs")
# for the first GPU: the machine, its image, the packages
GPU_SECONDS = 1800.0
LOOK_SECONDS = 1.0
# how often Ray is started on a machine where it takes too long, and what it says then
STARTS = 2
TOO_SLOW = "timed out during startup"
OTHER_VERSION = "Version mismatch"


def connect() -> None:
    """Join the cluster that RAY_ADDRESS or `ray start` names, else start one on this machine.

    Raises:
        UsageError: it cannot be reached, wants another token, or does not start.
    """
    if not ray.is_initialized():
        with _own_handler():
            _start()
    # Ray Data's own lines go to its log file; the run's progress is ours to tell
    ray_internals.silence_ray_data()


@contextlib.contextmanager
def _own_handler() -> Iterator[None]:
    """Keep what the process does on SIGTERM: `ray.init` has it exit, with code 1 or 15."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    except SystemExit:  # by these, while Ray was starting
        signal.signal(signal.SIGTERM, before)
        signal.raise_signal(signal.SIGTERM)
        raise
    finally:
        signal.signal(signal.SIGTERM, before)


def _start() -> None:
    for tries_left in reversed(range(STARTS)):
        try:
            _check_token()
            with _our_code_first():
                ray.init(logging_level=logging.ERROR)
            return
        except ConnectionError as error:
            raise UsageError(f"cannot reach the Ray cluster: {explain(error)}") from error
        except Exception as error:  # Ray has no other for it
            if OTHER_VERSION in str(error):
                raise UsageError(
                    f"cannot join the Ray cluster. {' '.join(str(error).split())}. Start its Ray "
                    "from this environment, or set RAY_ADDRESS=local to start a Ray for this "
                    "command only"
                ) from error
            if TOO_SLOW not in str(error):
                raise
            ray.shutdown()
            if not tries_left:
                raise UsageError(
                    f"Ray did not start in time on this machine, in {STARTS} attempts: it is too "
                    "busy, or short of memory; try again when less is running on it"
                ) from error
            log.warning("Ray did not start in time on this machine; trying once more")


def _our_code_first() -> contextlib.AbstractContextManager[None]:
    """Processes of Ray's look for modules in the working directory of the one that calls `init`,
    before anywhere else: a folder there may be called as one of our packages, and be another's.
    """
    here = Path.cwd()
    if here != CODE and any((here / name).exists() for name in PACKAGES):
        return contextlib.chdir(CODE)
    return contextlib.nullcontext()


def _check_token() -> None:
    if address := ray_internals.refuses_token():
        raise UsageError(
            f"the Ray cluster at {address} requires a token: set RAY_AUTH_MODE=token, and copy "
            "~/.ray/auth_token from its head node to the same file here, or its content to "
            "RAY_AUTH_TOKEN"
        )


def waits_for_gpu(config: Config) -> bool:
    """Whether a run first waits for an autoscaler: it wants GPUs, and the cluster has none yet."""
    return config.device == "cuda" and bool(config.replicas) and not gpus_of(alive())


def await_gpu(config: Config, check: Callable[[], None] | None = None) -> None:
    """Have an autoscaler bring the GPUs of a run whose cluster has none, until the first is there.

    Does nothing unless the run wants a given number of replicas on GPUs. What is asked for is gone
    with this process, whatever ends it.

    Args:
        config: of the run.
        check: called again and again; what it raises ends the waiting.

    Raises:
        RunError: none has come.
    """
    if not config.replicas or not waits_for_gpu(config):
        return
    wanted = math.ceil(config.replicas * config.gpus_per_replica)
    log.info("the cluster has no GPU; waiting for an autoscaler to add the first of %d", wanted)
    share = {"GPU": config.gpus_per_replica}
    asked = [placement_group([share]) for _ in range(config.replicas)]
    deadline = time.monotonic() + GPU_SECONDS
    try:
        while not gpus_of(alive()):
            if check:
                check()
            if time.monotonic() > deadline:
                raise RunError(
                    f"no GPU has joined the cluster in {GPU_SECONDS / 60:.0f} minutes; `ray "
                    "status` on its head node says what the autoscaler is doing"
                )
            time.sleep(LOOK_SECONDS)
    finally:
        for group in asked:
            remove_placement_group(group)


def alive() -> list[Node]:
    """The resources of each node of the cluster."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def place(config: Config) -> Placement:
    """The placement of a run on the cluster as it is now; see `placement.place`."""
    return placement.place(config, alive())
