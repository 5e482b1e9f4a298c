"""One process's side of the coordinator: what it reports, and what it asks."""

from __future__ import annotations

import atexit
import contextlib
import os
import threading
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any, NoReturn

import ray

from pipeline.cluster.coordinator import EXAMPLE_URIS
from pipeline.cluster.ledger import Begun
from pipeline.errors import Failure
from pipeline.store import urls
from pipeline.words import printable

SEND_SECONDS = 0.5

# amounts, number of failures by error code, examples of URIs by error code or amount
Reported = tuple[Counter[str], Counter[str], dict[str, list[str]]]


class Client:
    """The reports and questions of one stage in one process. Thread-safe.

    Amounts are sent at most twice a second. What a killed process had not sent, or a repeated
    task sent twice, makes these figures approximate: they are for looking at, the counts of a
    finished run come from its files.
    """

    def __init__(self, coordinator: Any, stage: str = "driver") -> None:
        self.coordinator = coordinator
        self.stage = stage
        self._start()

    def _start(self) -> None:
        self.lock = threading.Lock()
        self.amounts: Counter[str] = Counter()
        self.codes: Counter[str] = Counter()
        self.examples: dict[str, list[str]] = {}
        self.sent = 0.0
        self.answers: list[Any] = []
        self.told = False
        self.asked = time.monotonic()
        self.actor = ""

    def __getstate__(self) -> dict[str, Any]:
        return {"coordinator": self.coordinator, "stage": self.stage}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.coordinator, self.stage = state["coordinator"], state["stage"]
        self._start()

    def of(self, stage: str) -> Client:
        """The client of another stage."""
        return Client(self.coordinator, stage)

    def join(self) -> None:
        """Make this process an actor of its stage, one that ends when its execution does."""
        # Ray, done with this process, tidies up in it, and can then wait for itself for ever: seen
        # once in some hundred runs, CoreWorkerProcess::HandleAtExit of 2.60
        atexit.register(os._exit, 0)
        context = ray.get_runtime_context()
        self.actor = context.get_actor_id() or ""
        ray.get(
            self.coordinator.join.remote(
                context.current_actor, self.stage, self.actor, context.get_node_id()
            )
        )

    def ready(self) -> None:
        self.coordinator.ready.remote(self.stage, self.actor)

    def dismiss(self) -> None:
        """End the actors of an execution.

        Left to itself, Ray Data ends them when Python has freed the last reference to the
        execution. For one that failed that can be never, and their CPUs are held until then.
        """
        with contextlib.suppress(ray.exceptions.RayError):
            ray.get(self.coordinator.dismiss.remote())

    def renumber(self) -> None:
        """Between two executions: the ids of the next one are of other things."""
        ray.get(self.coordinator.renumber.remote())

    @property
    def stopping(self) -> bool:
        """Whether the run is to stop; asked for where the last answer is `SEND_SECONDS` old."""
        if not self.told and time.monotonic() - self.asked > SEND_SECONDS:
            self.asked = time.monotonic()
            self.told |= ray.get(self.coordinator.is_stopping.remote())
        return self.told

    def begin(self, ids: Sequence[int], wholes: Sequence[str] = ()) -> Begun | None:
        """Note a batch before it is touched, see `Ledger`; None if the run is to stop."""
        stop, begun = ray.get(self.coordinator.begin.remote(self.stage, ids, wholes))
        self.told |= stop
        return None if stop else begun

    def end(self, ids: Sequence[int]) -> None:
        waiting = self._taken()
        with self.lock:
            self.answers.append(self.coordinator.end.remote(self.stage, ids, *waiting))

    def begin_alone(self, image_id: int, file: str, whole: str | None = None) -> Failure | None:
        call = self.coordinator.begin_alone.remote(self.stage, image_id, self.actor, file, whole)
        failure: Failure | None = ray.get(call)
        return failure

    def end_alone(self, image_id: int) -> None:
        self.coordinator.end_alone.remote(self.stage, image_id, self.actor)

    @property
    def in_doubt(self) -> bool:
        """Whether it may be this process, not its images, that is the cause of its deaths."""
        return bool(ray.get(self.coordinator.in_doubt.remote(self.stage, self.actor)))

    def broken(self, why: str) -> None:
        """Have the run end, since this process is."""
        ray.get(self.coordinator.broken.remote(self.stage, self.actor, why))

    def condemn(self, image_id: int, failure: Failure, whole: str | None = None) -> None:
        ray.get(self.coordinator.condemn.remote(self.stage, image_id, failure, whole))

    def die(self, reason: str, image_id: int | None = None) -> NoReturn:
        """End this process, so that Ray starts another one in its place."""
        if image_id is not None:
            ray.get(self.coordinator.last_words.remote(self.stage, image_id, reason))
        os._exit(1)

    def fail(self, reason: str) -> None:
        """Have the run end for a reason that is no image's."""
        ray.get(self.coordinator.fail.remote(reason))

    def add(self, **amounts: float) -> None:
        with self.lock:
            self.amounts.update(amounts)
            due = time.monotonic() - self.sent > SEND_SECONDS
        if due:
            self.flush()

    def failed(self, code: str, uri: str) -> None:
        """Count a failed image."""
        with self.lock:
            self.codes[code] += 1
            self._give_example(code, uri)

    def low_contrast(self, uri: str) -> None:
        """Count an image that is no failure, but that someone may want to look at."""
        with self.lock:
            self.amounts["low_contrast"] += 1
            self._give_example("low_contrast", uri)

    def _give_example(self, name: str, uri: str) -> None:
        examples = self.examples.setdefault(name, [])
        if len(examples) < EXAMPLE_URIS:
            examples.append(printable(urls.public(uri), 200))

    def flush(self) -> None:
        waiting = self._taken()
        if any(waiting):
            with self.lock:
                self.answers.append(self.coordinator.add.remote(*waiting))

    def _taken(self) -> Reported:
        """What waits to be sent, taken away; looks also at the answers to what was sent before."""
        with self.lock:
            waiting = self.amounts, self.codes, self.examples
            self.amounts, self.codes, self.examples = Counter(), Counter(), {}
            self.sent = time.monotonic()
            done: list[Any] = []
            if self.answers:
                count = len(self.answers)
                done, self.answers = ray.wait(self.answers, num_returns=count, timeout=0)
        for answer in done:
            with contextlib.suppress(ray.exceptions.RayError):
                self.told |= ray.get(answer)
        return waiting
