"""What all processes of a run report, and what they are told, kept by one actor."""

from __future__ import annotations

import contextlib
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from pipeline.cluster.ledger import Begun, Ledger
from pipeline.errors import Failure

# URIs that are kept of each error code or amount
EXAMPLE_URIS = 3
# starts of an actor that end before it is ready
START_DEATHS = 5


@dataclass
class State:
    """What the driver sees of a run.

    Attributes:
        sums: of the amounts that all processes have reported.
        codes: number of failed images by error code.
        examples: a few URIs for each code, and for some of the sums.
        moves: grows with whatever gets done.
        failure: why the run cannot go on, if a process has said so.
        starts, ready: number of actors of a stage that have begun to start, and that have started.
        held: number of images that a stage has begun and not ended.
        nodes: the node of each actor.
    """

    sums: Counter[str] = field(default_factory=Counter)
    codes: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=dict)
    moves: int = 0
    failure: str | None = None
    starts: Counter[str] = field(default_factory=Counter)
    ready: Counter[str] = field(default_factory=Counter)
    held: dict[str, int] = field(default_factory=dict)
    nodes: dict[str, str] = field(default_factory=dict)


class Coordinator:
    """Actor: sums, the attempt ledgers of the stages, and the word to stop."""

    def __init__(self) -> None:
        self.state = State()
        self.actors: list[Any] = []
        self.ledgers: defaultdict[str, Ledger] = defaultdict(Ledger)
        self.start_deaths: Counter[str] = Counter()
        self.stopping = False

    def join(self, handle: Any, stage: str, actor: str, node: str) -> None:
        """An actor begins to start, for the first time or after its process died."""
        self.actors.append(handle)
        self.state.starts[stage] += actor not in self.state.nodes
        self.state.nodes[actor] = node
        self.start_deaths[actor] += 1
        if self.start_deaths[actor] > START_DEATHS:
            self.fail(
                f"a {stage} actor died in each of {START_DEATHS} starts; the reason is in its "
                "log, among Ray's logs on the node"
            )

    def ready(self, stage: str, actor: str) -> None:
        """An actor has started."""
        self.state.moves += 1
        self.state.ready[stage] += 1
        self.start_deaths.pop(actor, None)

    def dismiss(self) -> None:
        """End all actors that have joined."""
        for handle in self.actors:
            ray.kill(handle)
        self.actors = []
        self.state.starts, self.state.ready, self.state.nodes = Counter(), Counter(), {}
        for ledger in self.ledgers.values():
            ledger.forget()

    def add(
        self, amounts: Counter[str], codes: Counter[str], examples: dict[str, list[str]]
    ) -> bool:
        """Add to the sums; returns whether to stop."""
        self.state.moves += 1
        self.state.sums.update(amounts)
        self.state.codes.update(codes)
        for code, uris in examples.items():
            known = self.state.examples.setdefault(code, [])
            known += uris[: EXAMPLE_URIS - len(known)]
        return self.stopping

    def begin(
        self, stage: str, ids: Sequence[int], wholes: Sequence[str] = ()
    ) -> tuple[bool, Begun]:
        """Whether to stop, and if not, how to take a batch."""
        if self.stopping:
            return True, Begun()
        self.state.moves += 1
        return False, self.ledgers[stage].begin(ids, wholes)

    def end(self, stage: str, ids: Sequence[int], *reported: Any) -> bool:
        """A batch is done; what its process has to report comes along, as for `add`."""
        self.ledgers[stage].end(ids)
        return self.add(*reported)

    def begin_alone(
        self, stage: str, image_id: int, actor: str, file: str, whole: str | None
    ) -> Failure | None:
        return self.ledgers[stage].begin_alone(image_id, actor, file, whole)

    def end_alone(self, stage: str, image_id: int, actor: str) -> None:
        self.state.moves += 1
        self.ledgers[stage].end_alone(image_id, actor)

    def last_words(self, stage: str, image_id: int, reason: str) -> None:
        self.ledgers[stage].last_words(image_id, reason)

    def in_doubt(self, stage: str, actor: str) -> bool:
        return self.ledgers[stage].in_doubt(actor)

    def broken(self, stage: str, actor: str, why: str) -> None:
        """It is an actor, not its images, that is the cause of its deaths."""
        node = self.state.nodes.get(actor)
        machine = {n["NodeID"]: n["NodeManagerAddress"] for n in ray.nodes()}.get(node)
        self.fail(
            f"a {stage} actor on the machine {machine} dies with every image, {why}. The reason "
            "is in the actor's log, among Ray's logs on that machine"
        )

    def condemn(
        self, stage: str, image_id: int, failure: Failure, whole: str | None = None
    ) -> None:
        self.ledgers[stage].condemn(image_id, failure, whole)

    def fail(self, reason: str) -> None:
        """Have the run end for a reason that is no image's."""
        self.state.failure = self.state.failure or reason
        self.stopping = True

    def stop(self) -> None:
        """Have no stage begin anything more."""
        self.stopping = True

    def is_stopping(self) -> bool:
        return self.stopping

    def resume(self) -> None:
        """The next execution may begin what the last one was told to leave."""
        self.stopping = False

    def renumber(self) -> None:
        """What comes has other ids than what came before."""
        self.ledgers.clear()

    def get(self) -> State:
        self.state.held = {stage: len(ledger.held) for stage, ledger in self.ledgers.items()}
        return self.state


@contextlib.contextmanager
def coordinating() -> Iterator[Any]:
    """The coordinator of a run, on the driver's node, for as long as the block.

    If its process dies it starts anew and empty: figures are then too low, nothing else is lost.
    """
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)
    remote = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)(Coordinator)
    actor: Any = remote.options(scheduling_strategy=here).remote()
    try:
        yield actor
    finally:
        # Ray Data keeps references to its stages, and so to this, beyond their execution
        with contextlib.suppress(ray.exceptions.RayError):
            ray.kill(actor)
