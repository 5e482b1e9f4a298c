"""What it is worth to a run to be placed anew on a cluster that has grown."""

from __future__ import annotations

from pipeline.cluster.placement import Placement
from pipeline.driver.progress import Pace

# Networks that have work for less of their time may be waiting for images to be fetched.
BUSY = 0.8
# As many times the fetch actors, or more: with nodes that come one by one, a run is placed anew a
# few times, not at each.
MORE_FETCHERS = 2


def saved(at_work: Placement, room: Placement, pace: Pace) -> float:
    """Seconds that a run would end earlier, if all its actors were there at once.

    It has too few fetch actors if it began on the first of the nodes that an autoscaler adds: the
    replicas that wait come with their nodes, but other actors must not take the place of these.

    Args:
        at_work: how the run is placed.
        room: how it would be.
        pace: of the run.
    """
    if pace.seconds_left is None or room.replicas < at_work.replicas:
        return 0.0
    share = at_work.replicas / room.replicas  # of that time, which it would still take
    if pace.busy < BUSY and room.fetchers >= MORE_FETCHERS * at_work.fetchers:
        share = min(share, max(pace.busy, at_work.fetchers / room.fetchers))
    return pace.seconds_left * (1 - share)
