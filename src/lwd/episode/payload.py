"""The payload of an episode: one immutable Arrow IPC file, one row per control tick.

Columns, T + 1 rows (the last row is the state after the last action; its action is null):

    tick           int32                     0 .. T
    time           float64                   UTC seconds, strictly increasing
    state          fixed_size_list<float32>  robot units
    action         fixed_size_list<float32>  executed; null in row T
    action_policy  fixed_size_list<float32>  what the policy wanted; null where it was not asked
    source         uint8                     `Source`; null in row T
    events         list<utf8>                names of what happened in the tick
    image/<name>   binary                    JPEG, null where not kept

The schema's metadata holds `lwd.format` and `lwd.header` (JSON). Buffers are never compressed: the
file can be memory-mapped, and what is read is never larger than what was sent. Any Arrow library
reads the file. Decoding treats every byte as hostile and raises `PayloadError` with the reason.
"""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from struct import error as StructError
from struct import unpack_from

import numpy as np
import pyarrow as pa

from lwd.episode.check import Limits, check, check_header
from lwd.episode.header import from_json, to_json
from lwd.episode.types import Episode, Header
from lwd.errors import EpisodeError, PayloadError

FORMAT = "1"
_MAGIC = b"ARROW1"
_HEAD = 8
"""Bytes before the first message: the magic and two bytes of padding."""
_DEFAULT_LIMITS = Limits()
_SCHEMA, _RECORD_BATCH, _COMPRESSION = 1, 3, 3
"""Arrow's Message.fbs: two values of the union of headers, and a slot of the table RecordBatch."""


def new_id() -> str:
    """Fresh episode id: 32 random lower-case hex digits."""
    return uuid.uuid4().hex


def encode(episode: Episode, *, limits: Limits = _DEFAULT_LIMITS) -> bytes:
    """Payload of an episode; EpisodeError names the first rule that the episode breaks.

    The same episode gives the same bytes, so that a repeated upload has the same hash.
    """
    check(episode, limits)
    cameras = sorted(episode.images)
    schema = _schema(episode.state.shape[1], episode.action.shape[1], cameras).with_metadata(
        {"lwd.format": FORMAT, "lwd.header": to_json(episode.header)}
    )
    every = np.ones(episode.ticks, bool)
    asked = np.isfinite(episode.action_policy[:, 0])
    columns = [
        pa.array(np.arange(episode.ticks + 1, dtype=np.int32)),
        pa.array(np.asarray(episode.time, np.float64)),
        _vectors(episode.state, np.ones(episode.ticks + 1, bool)),
        _vectors(_with_last_row(episode.action), _with_false(every)),
        _vectors(_with_last_row(episode.action_policy), _with_false(asked)),
        pa.array(np.append(episode.source, np.uint8(0)), mask=~_with_false(every)),
        pa.array([*map(list, episode.events), []], pa.list_(pa.string())),
        *(pa.array(episode.images[name], pa.binary()) for name in cameras),
    ]
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, schema, options=pa.ipc.IpcWriteOptions(compression=None)) as writer:
        writer.write_batch(pa.record_batch(columns, schema=schema))
    data = sink.getvalue().to_pybytes()
    if len(data) > limits.bytes:
        raise EpisodeError(f"the payload has {len(data)} bytes; the limit is {limits.bytes}.")
    return data


def header(data: bytes | Path, *, limits: Limits = _DEFAULT_LIMITS) -> Header:
    """Header alone, from a payload or from its first part (as long as it holds the schema)."""
    with _refused():
        buffer = _buffer(data, limits)
        _require(buffer.slice(0, len(_MAGIC)).to_pybytes() == _MAGIC, "the magic bytes are missing")
        messages = pa.ipc.MessageReader.open_stream(buffer.slice(_HEAD))
        found = _header(_read_schema(messages.read_next_message()))
        check_header(found, limits)
        return found


def decode(data: bytes | Path, *, limits: Limits = _DEFAULT_LIMITS, images: bool = True) -> Episode:
    """Episode from a payload or from its file, which is memory-mapped; `images=False` skips them.

    Raises PayloadError with the exact reason for anything but a whole, valid payload.
    """
    with _refused():
        schema, batch = _read(_buffer(data, limits))
        found = _header(schema)
        cameras = [name.removeprefix("image/") for name in schema.names[7:]]
        _require(1 < batch.num_rows <= limits.ticks + 1, f"it has {batch.num_rows} rows")
        batch.validate(full=True)
        episode = _episode(found, batch, cameras if images else [])
        check(episode, limits)
        return episode


@contextmanager
def _refused() -> Iterator[None]:
    """Turn whatever hostile bytes provoke into a PayloadError."""
    try:
        yield
    except PayloadError:
        raise
    except StopIteration:
        raise PayloadError("Not a payload: it ends before its last message.") from None
    except EpisodeError as error:
        raise PayloadError(f"Not a valid episode: {error}") from error
    except (pa.ArrowException, OSError, ValueError, KeyError, StructError, OverflowError) as error:
        raise PayloadError(f"Not a payload: {type(error).__name__}: {error}") from error


def _require(condition: bool | np.bool_, reason: str) -> None:
    if not condition:
        raise PayloadError(f"Not a payload: {reason}.")


def _buffer(data: bytes | Path, limits: Limits) -> pa.Buffer:
    size = data.stat().st_size if isinstance(data, Path) else len(data)
    _require(size <= limits.bytes, f"{size} bytes are more than the limit of {limits.bytes}")
    _require(size > 2 * _HEAD, f"{size} bytes are too few")
    if isinstance(data, Path):
        with pa.memory_map(str(data)) as file:
            return file.read_buffer()
    return pa.py_buffer(data)


def _read(buffer: pa.Buffer) -> tuple[pa.Schema, pa.RecordBatch]:
    """Schema and the only record batch, read message by message so that nothing is inflated."""
    ends = (buffer.slice(0, 6).to_pybytes(), buffer.slice(buffer.size - 6).to_pybytes())
    _require(ends == (_MAGIC, _MAGIC), "the magic bytes are missing: not Arrow, or cut off")
    messages = pa.ipc.MessageReader.open_stream(buffer.slice(_HEAD))
    schema = _read_schema(messages.read_next_message())
    message = messages.read_next_message()
    _require(_header_type(message) == _RECORD_BATCH, "the second message is not a record batch")
    _require(not _compressed(message), "its buffers are compressed")
    batch = pa.ipc.read_record_batch(message, schema)
    footer = pa.ipc.open_file(buffer)
    _require(footer.num_record_batches == 1, f"it has {footer.num_record_batches} record batches")
    _require(footer.schema.equals(schema, check_metadata=True), "head and footer disagree")
    return schema, batch


def _read_schema(message: pa.Message) -> pa.Schema:
    _require(_header_type(message) == _SCHEMA, "the first message is not a schema")
    schema = pa.ipc.read_schema(message)
    metadata = schema.metadata or {}
    version = metadata.get(b"lwd.format", b"none").decode(errors="replace")
    _require(version == FORMAT, f"its format is {version!r}; this version reads {FORMAT!r}")
    cameras = [name.removeprefix("image/") for name in schema.names[7:]]
    _require(len(set(schema.names)) == len(schema.names), "a column name comes twice")
    sizes = []
    for name in ("state", "action"):
        kind = schema.field(name).type
        _require(pa.types.is_fixed_size_list(kind), f"column {name} has type {kind}")
        sizes.append(kind.list_size)
    expected = _schema(sizes[0], sizes[1], cameras)
    if not schema.equals(expected, check_metadata=False):
        raise PayloadError(f"Not a payload: columns {_columns(schema)}, not {_columns(expected)}.")
    return schema


def _columns(schema: pa.Schema) -> str:
    return ", ".join(f"{field.name}: {field.type}" for field in list(schema)[:24])


def _schema(state: int, action: int, cameras: list[str]) -> pa.Schema:
    vector = pa.list_(pa.field("item", pa.float32(), nullable=False), action)
    return pa.schema(
        [
            pa.field("tick", pa.int32(), nullable=False),
            pa.field("time", pa.float64(), nullable=False),
            pa.field(
                "state",
                pa.list_(pa.field("item", pa.float32(), nullable=False), state),
                nullable=False,
            ),
            pa.field("action", vector),
            pa.field("action_policy", vector),
            pa.field("source", pa.uint8()),
            pa.field("events", pa.list_(pa.string())),
            *(pa.field(f"image/{name}", pa.binary()) for name in cameras),
        ]
    )


def _header(schema: pa.Schema) -> Header:
    return from_json((schema.metadata or {})[b"lwd.header"])


def _header_type(message: pa.Message) -> int:
    data = memoryview(message.metadata)
    slot = _slot(data, unpack_from("<I", data, 0)[0], 1)
    return data[slot] if slot else 0


def _compressed(message: pa.Message) -> bool:
    """Whether a record-batch message declares compressed buffers.

    pyarrow does not tell and would inflate them, so this reads the flatbuffer: Message.header
    (slot 2) is the RecordBatch, whose slot 3 is set exactly if its buffers are compressed.
    """
    data = memoryview(message.metadata)
    slot = _slot(data, unpack_from("<I", data, 0)[0], 2)
    if slot == 0:
        raise PayloadError("Not a payload: a message without a header.")
    return _slot(data, slot + unpack_from("<I", data, slot)[0], _COMPRESSION) != 0


def _slot(data: memoryview, table: int, index: int) -> int:
    """Position of a field of a flatbuffer table, 0 where it is absent."""
    vtable = table - unpack_from("<i", data, table)[0]
    if vtable < 0:
        raise PayloadError("Not a payload: a flatbuffer table points outside its message.")
    entry = 4 + 2 * index
    if entry + 2 > unpack_from("<H", data, vtable)[0]:
        return 0
    offset = unpack_from("<H", data, vtable + entry)[0]
    return table + offset if offset else 0


def _vectors(rows: np.ndarray, valid: np.ndarray) -> pa.Array:
    """[rows, size] to fixed_size_list<float32>, null where not valid (stored as zeros)."""
    values = np.where(valid[:, None], rows, 0).astype(np.float32)
    item = pa.field("item", pa.float32(), nullable=False)
    return pa.FixedSizeListArray.from_arrays(
        pa.array(values.reshape(-1)),
        type=pa.list_(item, rows.shape[1]),
        mask=None if valid.all() else pa.array(~valid),
    )


def _with_last_row(rows: np.ndarray) -> np.ndarray:
    return np.concatenate([rows, np.zeros_like(rows[:1])])


def _with_false(valid: np.ndarray) -> np.ndarray:
    return np.append(valid, False)


def _episode(found: Header, batch: pa.RecordBatch, cameras: list[str]) -> Episode:
    ticks = batch.num_rows - 1
    tick = _scalars(batch, "tick", ticks + 1)
    if not np.array_equal(tick, np.arange(ticks + 1)):
        raise PayloadError(f"Not a payload: tick does not count from 0 to {ticks}.")
    action, acted = _matrix(batch, "action")
    wanted, _ = _matrix(batch, "action_policy")
    if not np.array_equal(acted, _with_false(np.ones(ticks, bool))):
        raise PayloadError("Not a payload: action is null before the last row, or is not there.")
    return Episode(
        header=found,
        time=_scalars(batch, "time", ticks + 1),
        state=_matrix(batch, "state")[0],
        action=action[:-1],
        action_policy=wanted[:-1],
        source=_scalars(batch, "source", ticks),
        events=_events(batch.column("events"), ticks),
        images={name: tuple(batch.column(f"image/{name}").to_pylist()) for name in cameras},
    )


def _scalars(batch: pa.RecordBatch, name: str, rows: int) -> np.ndarray:
    column = batch.column(name).slice(0, rows)
    if column.null_count:
        raise PayloadError(f"Not a payload: column {name} has {column.null_count} nulls.")
    return column.to_numpy(zero_copy_only=True)


def _matrix(batch: pa.RecordBatch, name: str) -> tuple[np.ndarray, np.ndarray]:
    """[rows, size] float32 with NaN rows where null, and which rows are there; no copy if all."""
    column = batch.column(name)
    size = column.type.list_size
    inner = column.flatten()
    if inner.null_count:
        raise PayloadError(f"Not a payload: column {name} has nulls inside its vectors.")
    rows = inner.to_numpy(zero_copy_only=True).reshape(-1, size)
    valid = column.is_valid().to_numpy(zero_copy_only=False)
    if valid.all():
        return rows, valid
    matrix = np.full((len(column), size), np.nan, np.float32)
    matrix[valid] = rows
    return matrix, valid


def _events(column: pa.Array, ticks: int) -> tuple[tuple[str, ...], ...]:
    if column.null_count or column.values.null_count:
        raise PayloadError("Not a payload: column events has nulls.")
    if len(column.flatten()) == 0:
        return ((),) * ticks
    return tuple(map(tuple, column.slice(0, ticks).to_pylist()))
