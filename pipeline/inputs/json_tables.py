"""Tables of JSON, as one list or in lines: their rows, and the types of their columns.

Values of one column may be of any type, so what nobody asked for is not made a column.
"""

from __future__ import annotations

import codecs
import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from decimal import Decimal
from typing import IO, Any

import ijson
import pyarrow as pa
import pyarrow.json

BLANK = re.compile(r"[ \t\r\n]*")
NOT_JSON = re.compile(r"\b(NaN|Infinity)\b")
# of a whole number that a float may not hold as it is; a regular expression takes 4 to 7 times as
# long for 16 MiB
SIGNS = bytes.maketrans(b"123456789 \t\r\n,[-", b"000000000:::::::")
LONG = b":0000000000000000"
AS_TEXTS = "write all of its values as texts"


def rows(opened: Callable[[], IO[bytes]]) -> Iterator[dict[str, Any]]:
    """Of a list, or of the list `images` of an object, as annotations have it."""
    with opened() as file:
        head = file.read(2**16)
    _check_encoding(head)
    with opened() as file:
        if head.startswith(codecs.BOM_UTF8):
            file.read(len(codecs.BOM_UTF8))
            head = head.removeprefix(codecs.BOM_UTF8)
        prefix = "images.item" if head.lstrip().startswith(b"{") else "item"
        try:
            yield from map(_row, ijson.items(file, prefix))
        except ijson.JSONError as error:
            if found := NOT_JSON.search(str(error)):
                raise ValueError(f"it has {found[0]}, which is no JSON; write null") from error
            raise


def _row(item: Any) -> dict[str, Any]:
    if isinstance(item, dict):
        return item
    if isinstance(item, str | None):
        return {"uri": item}
    raise ValueError(f"one of its items is neither a text nor an object: {item!r:.100}")


def column(rows: Sequence[dict[str, Any]], name: str, kind: pa.DataType | None = None) -> pa.Array:
    """The values of a column in rows of a list; of a type that holds all of them if none is given.

    Raises:
        ValueError: they are of several types, or of others.
    """
    try:
        return pa.array([_plain(row.get(name)) for row in rows], kind)
    except (pa.ArrowException, OverflowError) as error:
        raise ValueError(f"column {name!r}: {error}; {AS_TEXTS}") from error


def _plain(value: Any) -> Any:
    """With fractions as floats; to ijson's own, no whole number may have more than 64 bits."""
    if isinstance(value, Decimal):
        number = float(value)
        if math.isinf(number):
            raise OverflowError(f"{value} is too large for a float")
        return number
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return value


def types_of_rows(rows: Sequence[dict[str, Any]], names: Iterable[str]) -> pa.Schema:
    """Of some rows of a list, in columns.

    Raises:
        ValueError: values of a column are of several types.
    """
    return pa.schema([(name, column(rows, name).type) for name in names])


def blocks(file: IO[bytes], size: int) -> Iterator[bytes]:
    """Whole lines of objects, as many as `size` bytes hold.

    Raises:
        ValueError: a line is longer, or no object.
    """
    block = b""
    while more := file.read(size - len(block)):
        block += more
        if len(block) < size:
            continue
        lines, _, block = block.rpartition(b"\n")
        if len(block) == size:
            raise ValueError(f"it has a row of more than {size:,} bytes")
        if lines.strip():
            yield _checked(lines)
    if block.strip():
        yield _checked(block)


def _checked(lines: bytes) -> bytes:
    """Lines of which the first is an object's; at another value, Arrow may end the process."""
    start = lines.removeprefix(codecs.BOM_UTF8).lstrip()[:100]
    _check_encoding(lines[:100])
    if not start.startswith(b"{"):
        raise ValueError(f"one of its lines is no object: {start.decode(errors='replace')}")
    return lines


def _check_encoding(start: bytes) -> None:
    codecs.utf_8_decode(start)  # to which a letter that is cut at the end is none of another


def names(lines: bytes) -> list[str]:
    """Of the columns of a block, in the order in which they come."""
    return list(dict.fromkeys(name for row in _objects(lines) for name in row))


def _objects(lines: bytes) -> Iterator[dict[str, Any]]:
    text, place = lines.decode("utf-8-sig"), 0
    decode = json.JSONDecoder(strict=False).raw_decode
    while (place := BLANK.match(text, place).end()) < len(text):  # type: ignore[union-attr]
        row, place = decode(text, place)
        if not isinstance(row, dict | None):
            raise ValueError(f"one of its lines is no object: {row!r:.100}")
        yield row or {}


def table(lines: bytes, schema: pa.Schema | None = None) -> pa.Table:
    """The rows of a block, in the columns of the schema or in all.

    Raises:
        pyarrow.ArrowInvalid: values of a column are of several types, or of others.
        ValueError: a column of floats has a whole number that they do not hold as it is.
    """
    # Arrow's dataset of a JSON file gives nulls for a single line without a line end
    parse = pyarrow.json.ParseOptions(
        explicit_schema=schema, unexpected_field_behavior="ignore" if schema else "infer"
    )
    read = pyarrow.json.ReadOptions(use_threads=False, block_size=len(lines))
    found = pyarrow.json.read_json(pa.BufferReader(lines), read, parse)
    fields = [field for field in schema or () if _has_floats(field.type)]
    if fields and LONG in lines.translate(SIGNS):
        for row in _objects(lines):
            for field in fields:
                _check_exact(row.get(field.name), field.type, field.name)
    return found


def _has_floats(kind: pa.DataType) -> bool:
    parts = (kind.field(index).type for index in range(kind.num_fields))
    return pa.types.is_floating(kind) or any(map(_has_floats, parts))


def _check_exact(value: Any, kind: pa.DataType, name: str) -> None:
    """Arrow rounds such numbers."""
    if isinstance(value, list):
        for item in value:
            _check_exact(item, kind.value_type, name)
    elif isinstance(value, dict):
        for field in kind:
            _check_exact(value.get(field.name), field.type, name)
    elif isinstance(value, int) and pa.types.is_floating(kind) and float(value) != value:
        raise ValueError(f"column {name!r}: {value} would be rounded; {AS_TEXTS}")


def types_of_lines(lines: bytes, names: Sequence[str]) -> pa.Schema:
    """Of a block, in columns.

    Raises:
        ValueError: values of a column are of several types.
    """
    try:
        found = table(lines).schema
    except pa.ArrowInvalid:  # of some column that is none of these, perhaps
        found = pa.unify_schemas(_types_of_each(lines, names))
    return pa.schema(
        [found.field(name) if name in found.names else (name, pa.null()) for name in names]
    )


def _types_of_each(lines: bytes, names: Sequence[str]) -> Iterator[pa.Schema]:
    """The schema of each column, one that the block lacks without it."""
    wanted = [[row.get(name) for name in names] for row in _objects(lines)]
    for name, values in zip(names, zip(*wanted, strict=True), strict=True):
        alone = "\n".join(json.dumps({name: value}) for value in values)
        try:
            yield table(alone.encode()).schema
        except pa.ArrowInvalid as error:
            raise ValueError(f"column {name!r}: {error}; {AS_TEXTS}") from error


def widened(schema: pa.Schema, other: pa.Schema) -> pa.Schema:
    """Of the same columns, with types that hold the values of both.

    Raises:
        ValueError: there is none for a column.
    """
    return pa.schema([_widened(*pair) for pair in zip(schema, other, strict=True)])


def _widened(one: pa.Field, other: pa.Field) -> pa.Field:
    kinds = (one.type, other.type)
    if pa.string() in kinds and any(map(pa.types.is_timestamp, kinds)):
        return one.with_type(pa.string())  # a text that looks like a date is one to Arrow
    schemas = [pa.schema([field]) for field in (one, other)]
    try:
        return pa.unify_schemas(schemas, promote_options="permissive").field(0)
    except pa.ArrowException as error:
        told = f"column {one.name!r} holds {one.type} and {other.type}"
        raise ValueError(f"{told}; {AS_TEXTS}") from error
