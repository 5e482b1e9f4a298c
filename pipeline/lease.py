"""One run at a time on an output: a lease object that its owner keeps renewing."""

from __future__ import annotations

import json
import logging
import os
import socket
import threading
import time
import uuid
from dataclasses import dataclass
from typing import Any

from fsspec import AbstractFileSystem

from pipeline import objects, storage
from pipeline.config import UsageError

log = logging.getLogger(__name__)
RENEW_SECONDS = 5.0
# an owner that has not renewed for so long is taken for dead
STALE_SECONDS = 30.0


class LeaseLost(RuntimeError):
    """Another run took the output over; nothing more may be written."""


@dataclass
class Lease:
    """Exclusive use of an output while in a `with` block.

    A dead owner is known by its process being gone, if it ran on this machine, or by a lease that
    stands still while we watch; no clock of another machine is trusted.
    """

    fs: AbstractFileSystem
    path: str
    url: str

    def __enter__(self) -> Lease:
        self.token = uuid.uuid4().hex
        self.renewals = 0
        self.progress: dict[str, Any] = {}
        try:
            while not objects.create(self.fs, self.path, self._content()):
                self._wait_for_end()
        except OSError as error:
            raise storage.unusable("write to", self.url, error) from error
        self.lost = False
        self.released = threading.Event()
        self.thread = threading.Thread(target=self._renew, daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.released.set()
        self.thread.join()
        if holder(self.fs, self.path) == self.token:
            objects.delete(self.fs, self.path)

    def publish(self, progress: dict[str, Any]) -> None:
        """Have the next renewal say how far the run is, for whoever reads the lease."""
        self.progress = progress

    def check(self) -> None:
        """
        Raises:
            LeaseLost: another run took over.
        """
        if self.lost or holder(self.fs, self.path) != self.token:
            raise LeaseLost("another run took this output over")

    def _content(self) -> bytes:
        owner = {
            "token": self.token,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "process": _process(os.getpid()),
            "renewals": self.renewals,
            "progress": self.progress,
        }
        return json.dumps(owner).encode()

    def _renew(self) -> None:
        while not self.released.wait(RENEW_SECONDS):
            try:
                if holder(self.fs, self.path) != self.token:
                    self.lost = True
                    return
                self.renewals += 1
                objects.put(self.fs, self.path, self._content())
            except Exception as error:  # a store that fails for a while does not cost the lease
                log.warning("the lease could not be renewed: %s", storage.explain(error))

    def _wait_for_end(self) -> None:
        """Return once the present owner is gone, its lease removed.

        Raises:
            UsageError: the owner is alive.
        """
        seen = read(self.fs, self.path)
        if seen is None:
            return
        who = f"process {seen.get('pid')} on {seen.get('host')}"
        if is_gone(seen):
            log.info("taking over from %s, which has ended", who)
        else:
            log.info("another run (%s) held this output; waiting up to %.0f s for a sign of life",
                     who, STALE_SECONDS)  # fmt: skip
            deadline = time.monotonic() + STALE_SECONDS
            while time.monotonic() < deadline:
                time.sleep(1.0)
                now = read(self.fs, self.path)
                if now is None:
                    return
                if now != seen:
                    raise UsageError(
                        f"another run ({who}) is writing to {self.url}; wait for its end or choose "
                        f"another output"
                    )
            log.info("taking over from %s, which gave no sign of life", who)
        if holder(self.fs, self.path) == seen.get("token"):
            objects.delete(self.fs, self.path)


def holder(fs: AbstractFileSystem, path: str) -> str | None:
    """The token of the run that holds a lease."""
    owner = read(fs, path)
    return owner.get("token") if owner else None


def read(fs: AbstractFileSystem, path: str) -> dict[str, Any] | None:
    try:
        owner = objects.get_json(fs, path)
    except ValueError:
        return {}
    if owner is None:
        return None
    return owner if isinstance(owner, dict) else {}


def _process(pid: int) -> str | None:
    """What no other process on any machine shares: boot, PID namespace, PID and start time."""
    try:
        with open("/proc/sys/kernel/random/boot_id") as file:
            boot = file.read().strip()
        with open(f"/proc/{pid}/stat") as file:
            state, *fields = file.read().rpartition(")")[2].split()
        return (
            None
            if state == "Z"
            else f"{boot} {os.readlink('/proc/self/ns/pid')} {pid} {fields[18]}"
        )
    except OSError:
        return None


def is_gone(owner: dict[str, Any]) -> bool:
    """Whether the owner ran on this machine and has ended; False where that cannot be told."""
    process, ours = owner.get("process"), _process(os.getpid())
    if not process or not ours or process.split()[:2] != ours.split()[:2]:
        return False
    return bool(_process(int(owner["pid"])) != process)
