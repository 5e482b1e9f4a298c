"""How long to try again: an object fails after a few attempts, a whole store is waited for."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import tenacity

# a store that answers nobody is waited for so long, from its first silence on
OUTAGE_SECONDS = 300.0


@dataclass
class Silence:
    """Since when a store has not answered, and two of the objects asked for in vain."""

    since: float = field(default_factory=time.monotonic)
    uris: set[str] = field(default_factory=set)


class Patience:
    """Tells a bad object from a store that is away.

    A read ends after a number of attempts while its store (scheme and host, or bucket) answers
    other reads of this process, or while no other read fails. Where several fail and none is
    answered, they go on until `OUTAGE_SECONDS` after the first failure; then the store counts as
    a bad host, whose reads get the usual attempts until it answers again.
    """

    def __init__(self, attempts: int) -> None:
        self.attempts = attempts
        self.answers: dict[str, float] = {}
        self.silences: dict[str, Silence] = {}

    def answered(self, uri: str) -> None:
        """A read came to an end that shows the store to be there."""
        self.answers[_store(uri)] = time.monotonic()
        self.silences.pop(_store(uri), None)

    def ends(self, uri: str, state: tenacity.RetryCallState) -> bool:
        """Whether a failed attempt, one that can pass, was the last."""
        store = _store(uri)
        silence = self.silences.setdefault(store, Silence())
        if len(silence.uris) < 2:
            silence.uris.add(uri)
        away = (
            len(silence.uris) > 1
            and self.answers.get(store, 0.0) < state.start_time
            and time.monotonic() - silence.since < OUTAGE_SECONDS
        )
        return state.attempt_number >= self.attempts and not away


def _store(uri: str) -> str:
    scheme, found, rest = uri.partition("://")
    return f"{scheme}://{rest.partition('/')[0]}" if found else ""
