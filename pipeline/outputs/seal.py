"""The seal of a slice: its files are known to hold each of its images once."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass

from pipeline.outputs.files import listed
from pipeline.outputs.layout import Layout
from pipeline.outputs.lease import Lease
from pipeline.store import objects


@dataclass(frozen=True)
class Seal:
    """What is known of a slice that is done.

    Attributes:
        attempt: that sealed it.
        images: in it.
        detections: in its files.
        errors: number of its failed images by error code.
        files: number of these; None in a seal of an earlier version.
    """

    attempt: int
    images: int
    detections: int
    errors: dict[str, int]
    files: int | None = None

    def save(self, lease: Lease, index: int) -> None:
        """From now on the slice is sealed; not if the lease is lost."""
        content = json.dumps(dataclasses.asdict(self)).encode()
        lease.put(lease.layout.seal(index), content)

    def surplus(self, layout: Layout, index: int) -> int:
        """How many files the slice has more than it was sealed with; below 0 if some are gone."""
        return 0 if self.files is None else len(listed(layout, index=index)) - self.files


def load(layout: Layout, index: int, retry_from: int) -> Seal | None:
    """The seal of a slice; None if there is none that holds.

    Args:
        layout: of the output.
        index: number of the slice.
        retry_from: a seal of an earlier attempt than this does not hold if images failed under it:
            they are being redone.
    """
    content = objects.get_json(layout.fs, layout.seal(index))
    seal = Seal(**content) if content else None
    holds = seal and (not seal.errors or seal.attempt >= retry_from)
    return seal if holds else None


def standing(layout: Layout, index: int, images: int, retry_from: int) -> Seal | None:
    """The seal of a slice as of `load`, unless images or files have come or gone since it was made.

    A write that no lease could end any more may have put a file there, of rows that are in others,
    or this seal, of fewer images; and who finds a file damaged deletes it, to have its images
    redone.

    Args:
        layout, index, retry_from: see `load`.
        images: in the slice, as the manifest has it now.
    """
    sealed = load(layout, index, retry_from)
    holds = sealed and sealed.images == images and not sealed.surplus(layout, index)
    return sealed if holds else None


def remove(lease: Lease, index: int) -> None:
    """Have a slice looked at again."""
    lease.delete(lease.layout.seal(index))
