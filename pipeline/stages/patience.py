"""How long to try again: an object fails after a few attempts, a whole store is waited for."""

from __future__ import annotations

import time
from collections import OrderedDict
from dataclasses import dataclass, field

# a store that answers nobody is waited for so long, from its first silence on
OUTAGE_SECONDS = 300.0
# that are remembered: the images of a table may be on millions of web servers
STORES = 10_000


@dataclass
class Store:
    """What reads have seen of a store (scheme and host, or bucket).

    Attributes:
        answered: when a read last came to an end that shows the store to be there.
        silent: when a read first failed since then; None if none has.
        failing: two at most of the objects that were asked for in vain since then.
    """

    answered: float = 0.0
    silent: float | None = None
    failing: set[str] = field(default_factory=set)


class Patience:
    """Tells a bad object from a store that is away, for all reads of a process."""

    def __init__(self, attempts: int) -> None:
        self.attempts = attempts
        self.stores: OrderedDict[str, Store] = OrderedDict()

    def read(self, uri: str) -> Read:
        """The attempts at reading one object, from now on."""
        scheme, _, rest = uri.partition("://")
        name = f"{scheme}://{rest.partition('/')[0]}" if rest else ""
        store = self.stores.setdefault(name, Store())
        self.stores.move_to_end(name)
        if len(self.stores) > STORES:  # a read has its own at hand
            self.stores.popitem(last=False)
        return Read(store, uri, self.attempts)


class Read:
    """Counts the attempts at one object that speak against it.

    A failed attempt does if the store answered another read meanwhile, or if no other read fails.
    Where several fail and none is answered they go on, for at most `OUTAGE_SECONDS` after the first
    failure; then the store counts as a bad host, whose reads get the usual attempts until it
    answers again. That a store which answers others is asked too often speaks against no object:
    such a read goes on for as long.
    """

    def __init__(self, store: Store, uri: str, attempts: int) -> None:
        self.store = store
        self.uri = uri
        self.attempts = attempts
        self.made = self.against = 0
        self.began = self.since = time.monotonic()

    def answered(self) -> None:
        """The read came to an end that shows the store to be there."""
        self.store.answered = time.monotonic()
        self.store.silent = None
        self.store.failing.clear()

    def failed(self, throttled: bool = False) -> bool:
        """Note an attempt that failed with what can pass; whether it was the last.

        Args:
            throttled: the store said that it is asked too often.
        """
        now = time.monotonic()
        store = self.store
        store.silent = store.silent or now
        if len(store.failing) < 2:
            store.failing.add(self.uri)
        self.made += 1
        waiting = store.silent
        if throttled and store.answered:
            waiting = min(waiting, self.began)
        else:
            self.against += store.answered > self.since or len(store.failing) == 1
        self.since = now
        if now - waiting >= OUTAGE_SECONDS:
            return self.made >= self.attempts
        return self.against >= self.attempts
