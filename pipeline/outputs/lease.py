"""One run at a time on an output: a lease object that its owner keeps renewing."""

from __future__ import annotations

import contextlib
import json
import logging
import math
import os
import socket
import threading
import time
import uuid
from typing import Any

from pipeline.errors import RunError, UsageError
from pipeline.outputs.layout import Layout
from pipeline.store import failures, objects
from pipeline.words import explain

log = logging.getLogger(__name__)
RENEW_SECONDS, LOOK_SECONDS = 5.0, 1.0
# an owner that has not renewed for so long is taken for dead
STALE_SECONDS = 30.0
TAKEN = "another run has taken over this output"
CLOSED = "the run has ended without this worker"


class LeaseLost(RunError):
    """Another run took the output over; nothing more may be written."""


class Lease:
    """Exclusive use of an output while in a `with` block.

    A dead owner is known by its process being gone, if it ran on this machine, or by a lease that
    stands still while we watch; no clock of another machine is trusted.

    Attributes:
        layout: of the output.
        token: without which nothing is written.
        lost: whether another run is known to have taken over.
    """

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.token = uuid.uuid4().hex
        self.lost = False
        self._renewals = 0
        self._progress: dict[str, Any] = {}
        self._closed = False
        self._writing = threading.Lock()
        self._released = threading.Event()
        self._thread = threading.Thread(target=self._renew, daemon=True)

    def __enter__(self) -> Lease:
        """
        Raises:
            UsageError: another run holds it, or it cannot be written.
        """
        try:
            # looked for first: there are stores that know no conditions, and would replace it
            while read(self.layout) is not None or not objects.create(
                self.layout.fs, self.layout.lease, self._content()
            ):
                self._wait_for_end()
        except OSError as error:
            raise failures.unusable("write to", self.layout.url, error) from error
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._released.set()
        self._thread.join(RENEW_SECONDS)
        # what the run ends of is not to wait for a store that is away, nor be lost in its error
        try:
            with contextlib.suppress(LeaseLost):
                self.delete(self.layout.lease, objects.FIRST_ATTEMPTS)
        except OSError as error:
            log.warning("the lease could not be released: %s", explain(error))

    def publish(self, progress: dict[str, Any]) -> None:
        """Have the next renewal say how far the run is, for whoever reads the lease."""
        self._progress = progress

    def check(self, attempts: int = objects.ATTEMPTS) -> None:
        """
        Raises:
            LeaseLost: another run took over.
        """
        if self.lost:
            raise LeaseLost(TAKEN)
        check(self.layout, self.token, attempts)

    def look(self) -> None:
        """`check` for a step that is tried again as a whole."""
        self.check(attempts=1)

    def put(self, path: str, data: bytes, attempts: int = objects.ATTEMPTS) -> None:
        """Write an object of the output, with a look at the lease right before it could be there.

        Raises:
            LeaseLost: another run took over.
        """
        objects.put(self.layout.fs, path, data, self.look, attempts)

    def delete(self, path: str, attempts: int = objects.ATTEMPTS) -> None:
        """Remove an object of the output, with a look at the lease right before.

        Raises:
            LeaseLost: another run took over.
        """
        objects.delete(self.layout.fs, path, self.look, attempts)

    def close(self) -> None:
        """Have no worker write any more, also one that only now comes to it.

        Raises:
            LeaseLost: another run took over.
        """
        self._closed = True
        self._put_itself()

    def _put_itself(self, attempts: int = objects.ATTEMPTS) -> None:
        with self._writing:  # lest a renewal that is under way opens it again
            self._renewals += 1
            self.put(self.layout.lease, self._content(), attempts)

    def _content(self) -> bytes:
        owner = {
            "token": self.token,
            "closed": self._closed,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "process": _process(os.getpid()),
            "renewals": self._renewals,
            "progress": self._progress,
        }
        return json.dumps(owner).encode()

    def _renew(self) -> None:
        while not self._released.wait(RENEW_SECONDS):
            try:
                # the next renewal is soon: the pauses between many attempts would outlast the lease
                self._put_itself(objects.FIRST_ATTEMPTS)
            except LeaseLost:
                self.lost = True
                return
            except Exception as error:  # a store that fails for a while does not cost the lease
                log.warning("the lease could not be renewed: %s", explain(error))

    def _wait_for_end(self) -> None:
        """Return once the present owner is gone, its lease removed.

        Raises:
            UsageError: the owner is alive.
        """
        seen = read(self.layout)
        if seen is None:
            return
        who = f"process {seen.get('pid')} on {seen.get('host')}"
        if is_gone(seen):
            log.info("taking over from %s, which has ended", who)
        else:
            log.info(
                "another run (%s) held this output; waiting up to %.0f s for a sign of life",
                who,
                STALE_SECONDS,
            )
            now = _watched(self.layout, seen, STALE_SECONDS)
            if now is None:
                return
            if now != seen:
                raise UsageError(
                    f"another run ({who}) is writing to {self.layout.url}; wait until it ends, or "
                    "choose another output"
                )
            log.info("taking over from %s, which gave no sign of life", who)
        with contextlib.suppress(LeaseLost):
            objects.delete(
                self.layout.fs,
                self.layout.lease,
                lambda: check(self.layout, seen.get("token"), attempts=1),
            )


def check(layout: Layout, token: str | None, attempts: int = objects.ATTEMPTS) -> None:
    """
    Raises:
        LeaseLost: the run with this token holds the output no more.
        OSError: that cannot be read, in so many attempts.
    """
    if holder(layout, attempts) != token:
        raise LeaseLost(TAKEN)


def check_open(layout: Layout, token: str) -> None:
    """As `check`, once, for a worker of the run.

    Raises:
        LeaseLost: likewise, or its owner has closed it.
        OSError: it cannot be read.
    """
    found = read(layout, attempts=1) or {}
    if found.get("token") != token:
        raise LeaseLost(TAKEN)
    if found.get("closed"):
        raise LeaseLost(CLOSED)


def _watched(layout: Layout, seen: dict[str, Any], seconds: float) -> dict[str, Any] | None:
    """The lease as soon as it is another one than was seen; else as it is after so long.

    Looks are counted, for who stood still himself, as a process or its machine does, saw nothing.
    """
    for _ in range(math.ceil(seconds / LOOK_SECONDS)):
        time.sleep(LOOK_SECONDS)
        now = read(layout)
        if now != seen:
            return now
    return seen


def owner(layout: Layout) -> tuple[dict[str, Any] | None, bool]:
    """The lease, and whether it is renewed before our eyes: clocks of machines may differ."""
    first = read(layout)
    if first is None or is_gone(first):
        return first, False
    now = _watched(layout, first, 3 * RENEW_SECONDS)
    return now, now is not None and now != first


def holder(layout: Layout, attempts: int = objects.ATTEMPTS) -> str | None:
    """The token of the run that holds an output."""
    found = read(layout, attempts)
    return found.get("token") if found else None


def read(layout: Layout, attempts: int = objects.ATTEMPTS) -> dict[str, Any] | None:
    """The content of an output's lease; None if there is none, empty if it makes no sense."""
    try:
        found = objects.get_json(layout.fs, layout.lease, attempts)
    except ValueError:
        return {}
    if found is None:
        return None
    return found if isinstance(found, dict) else {}


def _process(pid: int) -> str | None:
    """What no other process on any machine shares: boot, PID namespace, PID and start time.

    Empty for one that has ended and is still in the table; None where nothing is to be seen.
    """
    try:
        with open("/proc/sys/kernel/random/boot_id") as file:
            boot = file.read().strip()
        with open(f"/proc/{pid}/stat") as file:
            state, *fields = file.read().rpartition(")")[2].split()
        namespace = os.readlink("/proc/self/ns/pid")
    except OSError:
        return None
    return "" if state == "Z" else f"{boot} {namespace} {pid} {fields[18]}"


def is_gone(owner: dict[str, Any]) -> bool:
    """Whether the owner ran on this machine and has ended; False where that cannot be told."""
    process, ours = owner.get("process"), _process(os.getpid())
    if not process or not ours or process.split()[:2] != ours.split()[:2]:
        return False
    pid = int(owner["pid"])
    now = _process(pid)
    # /proc may hide other people's processes (hidepid, ProtectProc)
    return not _exists(pid) if now is None else now != process


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except OSError as error:
        return not isinstance(error, ProcessLookupError)
    return True
