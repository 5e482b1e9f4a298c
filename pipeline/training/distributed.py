"""A training by processes of Ray Train, each with a part of every batch."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable
from typing import Any

import numpy as np
import ray
import ray.train
import torch
import torch.distributed
from ray.train import FailureConfig, LoggingConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer, get_device
from torch.nn.parallel import DistributedDataParallel

from pipeline.cluster import connection
from pipeline.cluster.placement import gpus_of
from pipeline.errors import RunError, UsageError
from pipeline.training import loop
from pipeline.training.loop import Task, World
from pipeline.words import explain

log = logging.getLogger(__name__)
# how often the workers are started anew before the training is given up; each time all of them go
# on from the last whole epoch. Not by Ray Train, which would start them anew after any error
MOST_LOSSES = 20

After = Callable[[list[dict[str, Any]]], None]


def run(task: Task, after: After) -> None:
    """Train on the cluster that is there, or on one of this machine.

    Every worker reads the state in the task's folder, which all of their nodes must see. Of a
    worker that is lost the epoch is lost, for all.

    Args:
        task: what to do; `recipe.workers` says by how many. Each has a GPU, unless the cluster has
            none, or `config.device` is "cpu".
        after: see `loop.run`.

    Raises:
        RunError: it diverges, or workers are lost again and again.
        UsageError: the cluster cannot be reached, or has no room for the workers.
    """
    connection.connect()
    use_gpu = _has_room(task)
    given = {"task": ray.put(task), "after": after}
    for losses in range(MOST_LOSSES + 1):
        try:
            _fit(task.recipe.workers or 1, use_gpu, given)
            return
        except ray.train.WorkerGroupError as error:
            if reason := _reason(error):
                raise reason from None
            log.debug("traceback", exc_info=True)
            if losses == MOST_LOSSES:
                raise RunError(f"workers were lost {losses + 1} times: {explain(error)}") from error
            log.warning("workers were lost; all of them start again: %s", explain(error))
        except ray.train.TrainingFailedError as error:
            raise RunError(f"Ray Train failed: {explain(error)}") from error


def _fit(workers: int, use_gpu: bool, given: dict[str, Any]) -> None:
    with tempfile.TemporaryDirectory() as own:
        TorchTrainer(
            _work,
            train_loop_config=given,
            scaling_config=ScalingConfig(num_workers=workers, use_gpu=use_gpu),
            run_config=RunConfig(  # type: ignore[call-arg]  # to mypy that of Ray Train's version 1
                # what Ray notes for itself; the state of the training stands in the task's folder
                storage_path=own,
                failure_config=FailureConfig(max_failures=0),
                # an error comes here, and is told in one line; Ray's log files have its tracebacks
                logging_config=LoggingConfig(log_level="CRITICAL"),
            ),
        ).fit()


def _reason(error: ray.train.WorkerGroupError) -> Exception | None:
    """What would end the training whoever trains on, of the first rank that raised it."""
    failures = sorted(error.worker_failures.items())
    return next((why for _, why in failures if isinstance(why, RunError | UsageError)), None)


def _has_room(task: Task) -> bool:
    """Whether each worker gets a GPU, of which or of CPUs the cluster has enough.

    Raises:
        UsageError: it has not.
    """
    nodes = connection.alive()
    gpus, device = gpus_of(nodes), task.config.device
    use_gpu = device == "cuda" or (device == "auto" and gpus > 0)
    there = gpus if use_gpu else sum(node.get("CPU", 0) for node in nodes)
    if there < (task.recipe.workers or 1):
        raise UsageError(
            f"--workers {task.recipe.workers}: the cluster has {there:g} "
            f"{'GPU' if use_gpu else 'CPU'}s, and each worker needs one; lower --workers"
        )
    return use_gpu


def _work(given: dict[str, Any]) -> None:
    """What one worker does."""
    context = ray.train.get_context()
    device = get_device()
    if device.type == "cuda":
        torch.cuda.set_device(device)  # for what NCCL gathers
    world = World(context.get_world_rank(), context.get_world_size(), device, _wrapped, _gathered)
    loop.run(ray.get(given["task"]), world, given["after"])


def _wrapped(model: torch.nn.Module) -> torch.nn.Module:
    wrapped: torch.nn.Module = DistributedDataParallel(model)
    return wrapped


def _gathered(found: np.ndarray) -> list[np.ndarray]:
    every: list[Any] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(every, found)
    return every
