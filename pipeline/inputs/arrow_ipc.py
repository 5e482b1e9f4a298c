"""Arrow's IPC in either form: files, with a table of contents at their end, and streams."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa


def read(file: Any, columns: Sequence[str]) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
    """The schema and the batches of a file; of a stream all is read, whatever is wanted of it.

    Args:
        file: seekable.
        columns: of the batches, as far as they are there; the first where none is.
    """
    is_file = file.read(6) == b"ARROW1"
    opened = pa.ipc.open_file if is_file else pa.ipc.open_stream
    file.seek(0)
    schema = opened(file).schema
    fields = [schema.get_field_index(name) for name in columns if name in schema.names] or [0]
    file.seek(0)
    reader = opened(file, options=pa.ipc.IpcReadOptions(included_fields=fields))
    if is_file:
        return schema, map(reader.get_batch, range(reader.num_record_batches))
    return schema, iter(reader)
