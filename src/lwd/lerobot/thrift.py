"""Thrift's compact protocol, as far as a Parquet footer needs it: structs to trees and back.

A struct is a dict of field number to (type, value); a list is (type of its elements, elements).
https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md
"""

from collections.abc import Sequence
from typing import Any

TRUE, FALSE, BYTE, I16, I32, I64, DOUBLE, BINARY, LIST, SET, MAP, STRUCT = range(1, 13)
MOST = 1 << 20
"""Elements of a list, or bytes of a text, beyond which bytes are no footer."""

Struct = dict[int, tuple[int, Any]]


def read_struct(data: Sequence[int] | memoryview | bytes, at: int) -> tuple[Struct, int]:
    """A struct that begins at a position, and where it ends; ValueError if there is none."""
    found: Struct = {}
    number = 0
    while True:
        head = _byte(data, at)
        at += 1
        if head == 0:
            return found, at
        kind, step = head & 15, head >> 4
        if step:
            number += step
        else:
            number, at = read_number(data, at)
        value, at = _read(data, at, kind)
        found[number] = (kind, value)


def write_struct(struct: Struct) -> bytes:
    """Bytes of a struct."""
    out, last = bytearray(), 0
    for number in sorted(struct):
        kind, value = struct[number]
        step = number - last
        if 0 < step < 16:
            out.append(step << 4 | kind)
        else:
            out.append(kind)
            out += _varint(_zigzag(number))
        out += _write(kind, value)
        last = number
    return bytes(out) + b"\0"


def read_number(data: Any, at: int) -> tuple[int, int]:
    """A signed number, and where it ends."""
    raw, at = _read_varint(data, at)
    return (raw >> 1) ^ -(raw & 1), at


def _read(data: Any, at: int, kind: int) -> tuple[Any, int]:
    if kind in (TRUE, FALSE):
        return kind == TRUE, at
    if kind == BYTE:
        return _byte(data, at), at + 1
    if kind in (I16, I32, I64):
        return read_number(data, at)
    if kind in (DOUBLE, BINARY):
        size, at = (8, at) if kind == DOUBLE else _read_varint(data, at)
        if size > MOST or at + size > len(data):
            raise ValueError("a text that is longer than the file")
        return bytes(data[at : at + size]), at + size
    if kind in (LIST, SET):
        return _read_list(data, at)
    if kind == STRUCT:
        return read_struct(data, at)
    raise ValueError(f"type {kind}")


def _read_list(data: Any, at: int) -> tuple[Any, int]:
    head = _byte(data, at)
    at, size, kind = at + 1, head >> 4, head & 15
    if size == 15:
        size, at = _read_varint(data, at)
    if size > MOST:
        raise ValueError(f"a list of {size}")
    values = []
    for _ in range(size):
        if kind in (TRUE, FALSE):
            value, at = _byte(data, at) == TRUE, at + 1
        else:
            value, at = _read(data, at, kind)
        values.append(value)
    return (kind, values), at


def _write(kind: int, value: Any) -> bytes:
    if kind in (TRUE, FALSE):
        return b""
    if kind == BYTE:
        return bytes([value])
    if kind in (I16, I32, I64):
        return _varint(_zigzag(value))
    if kind == DOUBLE:
        return value
    if kind == BINARY:
        return _varint(len(value)) + value
    if kind == STRUCT:
        return write_struct(value)
    inner, values = value
    head = bytes([len(values) << 4 | inner]) if len(values) < 15 else bytes([0xF0 | inner])
    head += b"" if len(values) < 15 else _varint(len(values))
    if inner in (TRUE, FALSE):
        return head + bytes(TRUE if one else FALSE for one in values)
    return head + b"".join(_write(inner, one) for one in values)


def _zigzag(number: int) -> int:
    return number << 1 if number >= 0 else (-number << 1) - 1


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)
    return bytes(out)


def _read_varint(data: Any, at: int) -> tuple[int, int]:
    number = shift = 0
    while shift < 70:
        byte = _byte(data, at)
        at += 1
        number |= (byte & 127) << shift
        if byte < 128:
            return number, at
        shift += 7
    raise ValueError("a number without an end")


def _byte(data: Any, at: int) -> int:
    if at >= len(data):
        raise ValueError("the file ends")
    return data[at]
