"""Copies of members that cannot be read in any order without reading others again."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace

from pipeline.config import Config
from pipeline.inputs.containers import reading
from pipeline.inputs.containers.video import listing
from pipeline.labels.originals import as_png
from pipeline.labels.progress import progress
from pipeline.training import pixels
from pipeline.training.folder import COPIES, Folder
from pipeline.training.pixels import Image

WRITERS = 8


def copied(config: Config, images: Sequence[Image]) -> list[Image]:
    """The same images, those of Parquet, Arrow, Lance, compressed tars and videos with a copy.

    Each epoch reads images in another order, and of these each read would take a row group, the
    archive up to there, or the frames before. So they are read once, in the order of their
    containers. Members of tars and zips are ranges of them, and need no copy.

    Args:
        config: how images are read; `output` is the training's folder, which all workers see.
        images: in any order. One that cannot be read stays without a copy.

    Raises:
        UsageError: a copy cannot be written.
    """
    found = list(images)
    members = {p: x.member for p, x in enumerate(found) if x.member}
    slow = [p for p, m in members.items() if m["source_kind"] not in reading.SPANNED]
    slow.sort(key=lambda p: (members[p]["source_uri"], members[p]["source_place"]))
    if not slow:
        return found
    folder, ahead = Folder(config.output), deque[Future[None]]()
    with ThreadPoolExecutor(WRITERS) as threads, progress("copying", len(slow)) as bar:
        for place in slow:
            bar.update()
            image = found[place]
            data = pixels.encoded(config, image)
            if isinstance(data, str):
                continue
            if members[place]["source_kind"] == listing.KIND:
                data = as_png(data)
            name = f"{COPIES}/{hashlib.sha256(image.uri.encode()).hexdigest()}"
            found[place] = replace(image, copy=folder.url_of(name))
            ahead.append(threads.submit(folder.write, name, data))
            if len(ahead) >= WRITERS:
                ahead.popleft().result()
        for future in ahead:
            future.result()
    return found
