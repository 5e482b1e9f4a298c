"""What the errors of workers mean, as Ray Train hands them over."""

from __future__ import annotations

import pickle

import pytest
import ray.train

from pipeline.errors import RunError, UsageError
from pipeline.training import distributed


@pytest.mark.parametrize("reason", [RunError("it diverges"), UsageError("cannot write")])
def test_a_reason_of_one_rank_ends_the_training(reason: Exception) -> None:
    others: dict[int, Exception] = {0: RuntimeError("Connection closed by peer"), 2: reason}
    error = ray.train.WorkerGroupError("of workers", others)
    found = distributed._reason(pickle.loads(pickle.dumps(error)))
    assert type(found) is type(reason) and str(found) == str(reason)


def test_lost_workers_are_none() -> None:
    lost: dict[int, Exception] = {1: RuntimeError("the actor died")}
    assert distributed._reason(ray.train.WorkerGroupError("of workers", lost)) is None
