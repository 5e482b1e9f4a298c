"""Lists of images as files that `--images` and `--input` take."""

from __future__ import annotations

import io
import json
from collections.abc import Callable

import pyarrow as pa
import pyarrow.csv as csv
import pyarrow.parquet as pq

from pipeline.errors import UsageError

Writer = Callable[[pa.Table], bytes]


def _parquet(rows: pa.Table) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(rows, buffer)
    return buffer.getvalue()


def _csv(rows: pa.Table) -> bytes:
    buffer = io.BytesIO()
    csv.write_csv(rows, buffer)
    return buffer.getvalue()


def _jsonl(rows: pa.Table) -> bytes:
    batches = map(pa.RecordBatch.to_pylist, rows.to_batches(10_000))
    lines = (json.dumps(row, ensure_ascii=False) for batch in batches for row in batch)
    return "".join(f"{line}\n" for line in lines).encode()


def _txt(rows: pa.Table) -> bytes:
    uris = rows["image_uri"].to_pylist()
    broken = [uri for uri in uris if "\n" in uri or "\r" in uri]
    if broken:
        raise UsageError(f"{broken[0]!r} does not fit on a line of text; write .parquet or .csv")
    return "".join(f"{uri}\n" for uri in uris).encode()


WRITERS: dict[str, Writer] = {
    "parquet": _parquet,
    "csv": _csv,
    "jsonl": _jsonl,
    "txt": _txt,
}


def writer(flag: str, url: str) -> Writer:
    """What makes the content of a file from a table that has an `image_uri`.

    Args:
        flag: with which the user gave the URL, for the complaint.
        url: of the file.

    Raises:
        UsageError: its ending is none of a list.
    """
    kind = url.rpartition(".")[2]
    if kind not in WRITERS:
        raise UsageError(f"{flag} must end in .{', .'.join(WRITERS)}, not {url!r}")
    return WRITERS[kind]
