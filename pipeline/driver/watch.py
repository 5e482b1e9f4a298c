"""The driver's eye on a run: tells how far it is, and ends what should not go on."""

from __future__ import annotations

import contextlib
import logging
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from types import FrameType
from typing import Any

import ray

from pipeline.cluster import connection, ray_internals
from pipeline.cluster.coordinator import State
from pipeline.cluster.placement import Placement
from pipeline.cluster.ray_internals import Execution
from pipeline.config import Config
from pipeline.driver import growth, waiting
from pipeline.driver.metrics import Metrics
from pipeline.driver.progress import Reporter
from pipeline.errors import RunError, UsageError

log = logging.getLogger(__name__)
LOOK_SECONDS, ANSWER_SECONDS = 1.0, 10.0
# images until the share of failures is judged
JUDGED_IMAGES = 1000
# without any movement, until actors of dead nodes are given up
LOST_SECONDS = 30.0
# without a replica that has begun to start, until it is said what it may wait for
HINT_SECONDS = 60.0
# between looks for room on the cluster; and what using it must save, since all replicas start anew
ROOM_SECONDS, SAVED_SECONDS = 15.0, 60.0


class Watch:
    """Follows a run from a thread, and takes the process's signals while it does.

    Attributes:
        state: of the run, as last seen.
        reason: why the run must end, in one line; None while it may go on.
        lost: the last execution was given up, for nodes are gone that its actors need.
        grown: the last execution was ended, for the cluster has room for more of its actors.
    """

    def __init__(
        self,
        coordinator: Any,
        config: Config,
        placement: Placement,
        reporter: Reporter,
        metrics: Metrics,
    ) -> None:
        self.coordinator = coordinator
        self.config = config
        self.placement = placement
        self.reporter = reporter
        self.metrics = metrics
        self.state = State()
        self.reason: str | None = None
        self.lost = self.grown = False
        self.execution: Execution | None = None
        self.moved = self.looked = self.began = time.monotonic()
        self.hinted = False
        self.room: Placement | None = None
        self.signal: int | None = None
        self.previous: dict[int, Any] = {}
        self.stopping: float | None = None
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Watch:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                if callable(signal.getsignal(number)):
                    self.previous[number] = signal.signal(number, self._on_signal)
        self.thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.ended.set()
        self.thread.join()
        self._see()
        self.metrics.update(self.state, self.reporter.pace(self.state.sums))
        self.reporter.clear()
        for number, handler in self.previous.items():
            signal.signal(number, handler)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self.signal is not None:  # the second one is not to be argued with
            self.previous[number](number, frame)
        self.signal = number

    @contextlib.contextmanager
    def over(self, execution: Execution) -> Iterator[None]:
        """Watch an execution; it comes to an early end if it should not go on."""
        self.lost = self.grown = self.hinted = False
        self.moved = self.began = time.monotonic()
        self.execution = execution
        try:
            yield
        finally:
            self.execution = None

    def placed(self, placement: Placement) -> None:
        """The next execution has this placement."""
        self.placement = placement
        self.room = None
        if self.grown:
            ray.get(self.coordinator.resume.remote())
            self.stopping = None

    def check(self) -> None:
        """
        Raises:
            RunError: the run should not go on.
            BaseException: what the process's own handler of a signal raises.
        """
        self._see()
        if self.signal is not None:
            self.previous[self.signal](self.signal, None)
        if reason := self.reason or self.state.failure:  # which nobody judges between executions
            raise RunError(reason)

    def kept(self, written: int) -> str:
        """What is kept of a run that ends early, whose files hold so many images."""
        self._see()
        return self.reporter.kept(self.state.sums, written)

    def _run(self) -> None:
        while not self.ended.wait(LOOK_SECONDS):
            if self._see():
                self.reporter.tell(self.state.sums, waiting.starting(self.state))
                self.metrics.update(self.state, self.reporter.pace(self.state.sums))
                if self.execution and not (self.reason or self.lost or self.grown):
                    self._judge()
            if self.signal is not None and self.stopping is None:
                self.reporter.clear()
                log.info(
                    "finishing what is in flight, for at most %g s; a second signal ends the run "
                    "at once, and the same command continues it",
                    self.config.grace,
                )
                self._stop()
            if self.stopping is not None and time.monotonic() - self.stopping > self.config.grace:
                self._abandon()

    def _see(self) -> bool:
        moves = self.state.moves
        # a run does not end because nobody counts along
        with contextlib.suppress(ray.exceptions.RayError):
            self.state = ray.get(self.coordinator.get.remote(), timeout=ANSWER_SECONDS)
            if self.state.moves != moves:
                self.moved = time.monotonic()
            # not those that wait for a GPU; one whose process died has started twice
            at_work = min(self.state.starts["detect"], self.state.ready["detect"])
            self.reporter.replicas = at_work or self.reporter.replicas
            return True
        return False

    def _judge(self) -> None:
        quiet = time.monotonic() - self.moved
        if self.state.failure:
            self.reason = self.state.failure
            self._stop()
        elif self._too_many_errors():
            self.reason = self._errors()
            self._stop()
        elif quiet > LOST_SECONDS and _lost(self.state.nodes):
            self.lost = True
            self._abandon()
        elif not self.hinted and self.began < time.monotonic() - HINT_SECONDS:
            self.hinted = True
            if hint := waiting.for_room(self.state, self.placement):
                self.reporter.clear()
                log.warning(hint)
        elif self._has_room():
            self.grown = True
            self._stop()
        elif quiet > self.config.stall_timeout:
            self.reason = (
                f"nothing has moved for {self.config.stall_timeout:g} s (stall_timeout): "
                + waiting.standing(self.state, self.placement, self.config.output)
            )
            self._abandon()

    def _has_room(self) -> bool:
        """Whether there is, and was when last looked for, so much more room that starting all
        replicas anew is worth it.
        """
        if time.monotonic() - self.looked < ROOM_SECONDS or not self.state.ready["detect"]:
            return False
        self.looked = time.monotonic()
        before, self.room = self.room, None
        with contextlib.suppress(UsageError):  # a node has just gone
            self.room = connection.place(self.config)
        if not before or not self.room:
            return False
        pace = self.reporter.pace(self.state.sums)
        saved = [growth.saved(self.placement, room, pace) for room in (before, self.room)]
        return min(saved) > SAVED_SECONDS

    def _stop(self) -> None:
        self.stopping = time.monotonic()
        with contextlib.suppress(ray.exceptions.RayError):
            ray.get(self.coordinator.stop.remote(), timeout=ANSWER_SECONDS)
        if self.execution:
            self.execution.drain()

    def _abandon(self) -> None:
        if self.execution:
            self.execution.end()

    def _too_many_errors(self) -> bool:
        if self.config.retries_failures:  # these have all failed before
            return False
        images, errors = self.state.sums["images"], self.state.sums["errors"]
        return images >= JUDGED_IMAGES and errors > self.config.max_error_rate * images

    def _errors(self) -> str:
        images, errors = int(self.state.sums["images"]), int(self.state.sums["errors"])
        text = f"{errors:,} of the first {images:,} images failed, more than max_error_rate "
        text += f"({self.config.max_error_rate:g}) allows"
        for code, count in self.state.codes.most_common(1):
            examples = ", ".join(self.state.examples[code])
            text += f"; the most common error is {code} ({count:,}), for instance {examples}"
        return text


def _lost(nodes: Mapping[str, str]) -> bool:
    """Whether an actor waits for another node, since its own is gone.

    Actors that have done their part are ended; what becomes of their nodes then is no loss.
    """
    alive = {node["NodeID"] for node in ray.nodes() if node["Alive"]}
    moved = (actor for actor, node in nodes.items() if actor and node not in alive)
    return any(ray_internals.actor_state(actor) != "DEAD" for actor in moved)
