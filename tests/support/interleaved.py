"""Several processes on one store, of which one at a time takes a step, as a seed has it.

A step is a request to the store, or a pause. At each, a process may be killed or stand still, and
a change of the store may fail, come through unanswered, or come late.
"""

from __future__ import annotations

import random
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import SimpleNamespace
from typing import Any, ClassVar

import fsspec
import pytest
from fsspec import AbstractFileSystem

# of a request, that something happens to it
CHANCE = 0.04
STILL_SECONDS = (10, 40, 100, 1000)


class Killed(BaseException):
    """What a process that is no more meets at its next step."""


class Process:
    """Tasks that are killed, and stand still, together."""

    def __init__(self, world: World, name: str) -> None:
        self.world, self.name = world, name
        self.dead = False
        self.still_until = 0.0


class Task:
    """A thread of a process."""

    def __init__(self, process: Process, function: Callable[[], Any]) -> None:
        self.process, self.function = process, function
        self.turn = threading.Semaphore(0)
        self.wakes = 0.0
        self.ended = self.has_looked = False
        self.result: Any = None
        self.error: BaseException | None = None
        threading.Thread(target=self._run, daemon=True).start()

    @property
    def ready_at(self) -> float:
        return max(self.wakes, self.process.still_until)

    def _run(self) -> None:
        World.here.task = self
        self.turn.acquire()
        try:
            if not self.process.dead:
                self.result = self.function()
        except BaseException as error:
            self.error = error
        self.ended = True
        self.process.world.turn.release()


class World:
    """The store, the clock and the processes.

    Attributes:
        now: seconds.
        objects: path to content.
        faults: how many more times something may happen.
        late: whether a change that was begun in time may come late.
        conditions: whether the store knows create-if-absent.
        changed: called after each change of the store, with the path.
        told: all changes and faults.
    """

    here: ClassVar[Any] = threading.local()

    def __init__(self, seed: int, faults: int, late: bool) -> None:
        self.random = random.Random(seed)
        self.now = 0.0
        self.objects: dict[str, bytes] = {}
        self.faults, self.late = faults, late
        self.conditions = self.random.random() < 0.7
        self.tasks: list[Task] = []
        self.on_its_way: list[tuple[float, Callable[[], None]]] = []
        self.turn = threading.Semaphore(0)
        self.changed: Callable[[str], None] = lambda _: None
        self.told: list[str] = []

    def process(self, name: str, function: Callable[[], Any]) -> Task:
        """A new one, with one task."""
        return self.task(Process(self, name), function)

    def task(self, process: Process, function: Callable[[], Any]) -> Task:
        self.tasks.append(Task(process, function))
        return self.tasks[-1]

    def run(self, *until: Task) -> None:
        """Take steps until these tasks have ended; if none are given, until all have."""
        while not all(task.ended for task in until or self.tasks):
            for entry in [entry for entry in self.on_its_way if entry[0] <= self.now]:
                self.on_its_way.remove(entry)
                with suppress(FileExistsError):  # which nobody waits for any more
                    entry[1]()
            self.tasks = [task for task in self.tasks if not task.ended]
            if ready := [task for task in self.tasks if task.ready_at <= self.now]:
                self.random.choice(ready).turn.release()
                self.turn.acquire()
            else:
                ways = [at for at, _ in self.on_its_way]
                self.now = min([task.ready_at for task in self.tasks] + ways)

    def step(self, seconds: float = 0.0) -> None:
        """Let others go first, for so long at least."""
        task = World.here.task
        task.wakes = self.now + seconds
        if not task.process.dead:
            self.turn.release()
            task.turn.acquire()
        if task.process.dead:
            raise Killed

    def request(self, path: str = "") -> None:
        """Let others go first; maybe the process comes back much later, or never."""
        task = World.here.task
        # what was begun in time: late on purpose alone
        at_once = any(one.has_looked for one in self.tasks if one.process is task.process)
        task.has_looked = path.endswith("lease.json")
        if not at_once and self._strikes():
            if self.random.random() < 0.3:
                task.process.dead = True
                self.told.append(f"{task.process.name} is killed")
            else:
                self._stand_still(task.process)
        self.step()

    def change(self, text: str, apply: Callable[[], None]) -> None:
        """A request that changes the store."""
        self.request()
        process = World.here.task.process
        self.told.append(f"{self.now:.0f} {process.name} {text}")
        if not self._strikes():
            apply()
        elif self.late and self.random.random() < 0.5:
            self._stand_still(process)
            self.on_its_way.append((process.still_until, apply))
            process.still_until += 1
            self.step()
        else:
            if self.random.random() < 0.5:
                apply()
            raise TimeoutError("no answer")

    def _strikes(self) -> bool:
        strikes = self.faults > 0 and self.random.random() < CHANCE
        self.faults -= strikes
        return strikes

    def _stand_still(self, process: Process) -> None:
        process.still_until = self.now + self.random.choice(STILL_SECONDS)
        self.told.append(f"{process.name} stands still until {process.still_until:.0f}")


class Store(AbstractFileSystem):  # type: ignore[misc]
    """The world's store, with the requests that the pipeline makes."""

    protocol = "interleaved"
    cachable = False
    world: ClassVar[World]

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return path.removeprefix("interleaved://")

    def cat_file(self, path: str, start: Any = None, end: Any = None, **_: Any) -> bytes:
        self.world.request(path)
        if path not in self.world.objects:
            raise FileNotFoundError(path)
        return self.world.objects[path][start:end]

    def exists(self, path: str, **_: Any) -> bool:
        self.world.request()
        return any(name == path or name.startswith(f"{path}/") for name in self.world.objects)

    def find(self, path: str, prefix: str = "", **_: Any) -> list[str]:
        self.world.request()
        return [name for name in self.world.objects if name.startswith(f"{path}/{prefix}")]

    def ls(self, path: str, detail: bool = True, **_: Any) -> list[Any]:
        assert not detail
        skip = len(path) + 1
        return sorted({name[:skip] + name[skip:].split("/")[0] for name in self.find(path)})

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **_: Any) -> None:
        def apply() -> None:
            if mode == "create" and self.world.conditions and path in self.world.objects:
                raise FileExistsError(path)
            self.world.objects[path] = value
            self.world.changed(path)

        self.world.change(f"puts {path}", apply)

    def rm_file(self, path: str) -> None:
        def apply() -> None:
            if self.world.objects.pop(path, None) is not None:
                self.world.changed(path)

        self.world.change(f"deletes {path}", apply)


class Event:
    """As that of `threading`."""

    def __init__(self) -> None:
        self.is_set = False

    def set(self) -> None:
        self.is_set = True

    def wait(self, seconds: float) -> bool:
        Store.world.step(seconds)
        return self.is_set


class Lock:
    """As that of `threading`."""

    def __init__(self) -> None:
        self.held = False

    def __enter__(self) -> None:
        while self.held:
            Store.world.step(1.0)
        self.held = True

    def __exit__(self, *_: object) -> None:
        self.held = False


class Thread:
    """As that of `threading`: a task of the process that starts it."""

    def __init__(self, target: Callable[[], None], daemon: bool) -> None:
        self.target = target

    def start(self) -> None:
        self.task = Store.world.task(World.here.task.process, self.target)

    def join(self, seconds: float) -> None:
        until = Store.world.now + seconds
        while not self.task.ended and Store.world.now < until:
            Store.world.step(1.0)


class OneAfterTheOther:
    """As `ThreadPoolExecutor`."""

    def __init__(self, _: int) -> None: ...

    def __enter__(self) -> OneAfterTheOther:
        return self

    def __exit__(self, *_: object) -> None: ...

    def map(self, function: Callable[..., Any], *given: Any) -> Iterator[Any]:
        return map(function, *given)


@contextmanager
def world(seed: int, faults: int, late: bool) -> Iterator[World]:
    """A world, in which leases are held and files of detections read."""
    made = Store.world = World(seed, faults, late)
    fsspec.register_implementation("interleaved", Store, clobber=True)
    clock = SimpleNamespace(sleep=made.step, monotonic=lambda: made.now)
    threads = SimpleNamespace(Thread=Thread, Event=Event, Lock=Lock)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(uuid, "uuid4", lambda: uuid.UUID(int=made.random.getrandbits(128)))
        patch.setattr("pipeline.outputs.lease.time", clock)
        patch.setattr("pipeline.outputs.lease.threading", threads)
        patch.setattr("pipeline.outputs.finished.ThreadPoolExecutor", OneAfterTheOther)
        yield made
