"""How far the reading of an output is, for a person."""

from __future__ import annotations

import io
import logging
import sys

from tqdm import tqdm

log = logging.getLogger(__name__)


def progress(task: str | None, total: int) -> tqdm:
    """A bar on stderr, or a log line every ten seconds where that is no terminal."""
    live = sys.stderr.isatty()
    return tqdm(
        total=total,
        desc=task,
        disable=task is None,
        leave=False,
        delay=1.0,
        mininterval=0.2 if live else 10.0,
        file=sys.stderr if live else _Lines(),
        # the total stands in the words, for tqdm forgets it when there is more than that
        bar_format=f"{{desc}} {{n:,}} of {total:,} images ({{percentage:.0f}} %), {{rate_fmt}}, "
        "{remaining} left",
        unit=" images",
        unit_scale=True,  # 20.6k rather than 20647.93 images/s
    )


class _Lines(io.StringIO):
    """Turns what a bar draws into log lines."""

    def write(self, text: str) -> int:
        if line := text.strip():
            log.info(line)
        return len(text)
