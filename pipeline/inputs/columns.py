"""A column of several tables, of which each may hold it in a type of its own."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.types as kinds


def converted(values: Any, field: pa.Field) -> Any:
    """The values of an array or a chunked one, in the type of the field; none becomes another.

    Raises:
        ValueError: they are of a kind that the field's type does not hold.
        pyarrow.ArrowInvalid: a number or a time of theirs has no equal in that type.
    """
    found = values.type
    is_related = bool(_family(found)) and _family(found) == _family(field.type)
    if not (is_related or _holds(field, found)):
        raise ValueError(
            f"column {field.name!r} holds {found} here and {field.type} in the first table; "
            "write the same type to all of them"
        )
    return values.cast(field.type)


def _family(kind: pa.DataType) -> str:
    """What types of it hold differs in its range only; empty for types of none."""
    kind = kind.value_type if kinds.is_dictionary(kind) else kind
    if kinds.is_integer(kind) or kinds.is_floating(kind) or kinds.is_decimal(kind):
        return "number"
    if kinds.is_timestamp(kind):
        return f"time {kind.tz}"
    texts = (pa.string(), pa.large_string(), pa.string_view())
    return "text" if kind in texts else ""


def _holds(field: pa.Field, kind: pa.DataType) -> bool:
    pair = [pa.schema([field]), pa.schema([field.with_type(kind)])]
    try:
        both = pa.unify_schemas(pair, promote_options="permissive")
    except pa.ArrowException:
        return False
    return bool(both.field(0).type == field.type)
