"""An input as a stream of rows, whatever it is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pyarrow as pa

from pipeline.config import Config
from pipeline.errors import UsageError
from pipeline.outputs.manifest import FRAME, LISTED, MEMBER
from pipeline.outputs.schema import RECOVERED_SHARE, ROW
from pipeline.store import urls


@dataclass(frozen=True)
class Source:
    """An input that can be streamed from its start, more than once.

    Attributes:
        schema: `LISTED`, then `MEMBER` where the bytes are in the input, then carried columns.
        read: yields tables of that schema.
        may_repeat: whether a URI can occur twice.
        is_table: whether the images stand in rows.
        passed: of the latest reading of a listing, how many files were no images by their
            extension, by that, or left out, by the reason. Of tables likewise, and how many lines.
    """

    schema: pa.Schema
    read: Callable[[], Iterator[pa.Table]]
    may_repeat: bool = False
    is_table: bool = True
    passed: Counter[str] = field(default_factory=Counter)


def carried_fields(config: Config, schema: pa.Schema, column: str) -> list[pa.Field]:
    """The columns of an input's table that `config.carry` names.

    Args:
        config: the run's.
        schema: of the table.
        column: that holds the images or their URIs.

    Raises:
        UsageError: there is no such column, or several, or the output cannot have it.
    """
    where = urls.public(config.input)
    for name in (column, *config.carry):
        if name not in schema.names:
            raise UsageError(f"{where} has no column {name!r}; it has {', '.join(schema.names)}")
        if schema.names.count(name) > 1:
            raise UsageError(f"{where} has several columns {name!r}; rename all but one of them")
    optional = {RECOVERED_SHARE.name} if config.accept_truncated is not None else set()
    optional |= set(FRAME.names) if config.reads_videos else set()
    reserved = {*optional, *ROW.names, *LISTED.names, *MEMBER.names, "status", "encoded"}
    for name in config.carry:
        if name in reserved:
            raise UsageError(f"column {name!r} cannot be carried: the output has one of that name")
        if _is_extended(schema.field(name).type):
            kind = schema.field(name).type
            raise UsageError(
                f"column {name!r} cannot be carried: it is of an extension type, {kind}"
            )
    return [schema.field(name).with_metadata(None) for name in config.carry]


def _is_extended(kind: pa.DataType) -> bool:
    """Whether a type is, or holds, one beside Arrow's own: reading some executes what they hold."""
    if pa.types.is_dictionary(kind):
        return _is_extended(kind.value_type)
    parts = [kind.field(index).type for index in range(kind.num_fields)]
    return isinstance(kind, pa.BaseExtensionType) or any(map(_is_extended, parts))
