"""Which images were in whose hands when a process died: what kills its process ends as a row."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from pipeline.errors import Code, Failure

# of a process with one image alone in its hands, until that image is held to be the cause
DEATHS = 3
# files whose images were condemned one after the other in one actor, until the actor is in doubt
CONDEMNED_IN_A_ROW = 20
# images likewise, of however few files: one container may be all of the input
IMAGES_IN_A_ROW = 5 * CONDEMNED_IN_A_ROW
# begins what is said of a region whose image another region has condemned
GIVEN_UP = "given up with another region of its image: "


@dataclass(frozen=True)
class Begun:
    """The answer to a process that begins a batch.

    Attributes:
        suspicious: a process died with one of the images in its hands; take them one by one.
        condemned: images that must not be touched, with what to say in their rows.
    """

    suspicious: bool = False
    condemned: dict[int, Failure] = field(default_factory=dict)


class Ledger:
    """The images that the processes of one stage have begun and not ended.

    A batch is noted before it is touched. If it comes again without having ended, a process died
    over it; its images are then taken one by one, each noted by itself, so that the image in hand
    at the next death is known. One that was alone in hand at `DEATHS` deaths is condemned; with a
    region all of its large image, which gets one row. Bounded by what is in flight, and by the
    number of condemned images.
    """

    def __init__(self) -> None:
        self.held: set[int] = set()
        self.deaths: Counter[int] = Counter()
        self.reasons: dict[int, str] = {}
        self.condemned: dict[int, Failure] = {}
        self.wholes: dict[str, Failure] = {}
        self.in_a_row: defaultdict[str, Counter[str]] = defaultdict(Counter)

    def begin(self, ids: Sequence[int], wholes: Sequence[str] = ()) -> Begun:
        """Note a batch; `wholes`, where it is of regions, are the images that they are of."""
        batch = set(ids)
        again = not self.held.isdisjoint(batch)
        self.held |= batch
        condemned = {i: self.condemned[i] for i in batch & self.condemned.keys()}
        if wholes:
            of_wholes = zip(ids, wholes, strict=True)
            given_up = {i: self.wholes[whole] for i, whole in of_wholes if whole in self.wholes}
            condemned = given_up | condemned
        return Begun(again, condemned)

    def end(self, ids: Iterable[int]) -> None:
        """Note that a batch is done."""
        for image_id in ids:
            self.held.discard(image_id)
            self.deaths.pop(image_id, None)
            self.reasons.pop(image_id, None)

    def forget(self) -> None:
        """All processes have been ended, for no fault of the images they held."""
        self.held.clear()
        self.deaths.clear()
        self.reasons.clear()
        self.in_a_row.clear()

    def begin_alone(
        self, image_id: int, actor: str, file: str, whole: str | None = None
    ) -> Failure | None:
        """Note one image of a suspicious batch; its failure if it may not be touched any more.

        Args:
            image_id: of the image.
            actor: that has it in its hands.
            file: what it is read from, maybe with others.
            whole: of a region, the image that it is of.
        """
        if failure := self.condemned.get(image_id) or self.wholes.get(whole or ""):
            return failure
        if self.deaths[image_id] >= DEATHS:
            reason = self.reasons.get(image_id)
            message = f"the process died {DEATHS} times while it worked on this image alone"
            message += f"; its last message: {reason}" if reason else ""
            self.condemn(image_id, Failure("replica", Code.KILLED_WORKER, message), whole)
            self.in_a_row[actor][file] += 1
            return self.condemned[image_id]
        # taken back by `end_alone`, unless the process dies before
        self.deaths[image_id] += 1
        return None

    def end_alone(self, image_id: int, actor: str) -> None:
        """Note that an image of a suspicious batch did not kill its process."""
        self.deaths.pop(image_id, None)
        self.in_a_row.pop(actor, None)

    def last_words(self, image_id: int, reason: str) -> None:
        """Note why a process is about to end itself over an image."""
        self.reasons[image_id] = reason

    def condemn(self, image_id: int, failure: Failure, whole: str | None = None) -> None:
        """Have an image never touched again."""
        self.condemned[image_id] = failure
        if whole is not None:
            self.wholes[whole] = failure._replace(message=GIVEN_UP + failure.message)

    def in_doubt(self, actor: str) -> bool:
        """Whether an actor, not its images, may be the cause of its deaths."""
        in_a_row = self.in_a_row[actor]
        return len(in_a_row) >= CONDEMNED_IN_A_ROW or in_a_row.total() >= IMAGES_IN_A_ROW
