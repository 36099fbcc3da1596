"""Brings back what a killed writer left in a Parquet file without a footer.

A footer says where the column chunks lie; it comes last, and a writer that is killed never writes
it. But each page has a header of its own, the columns come in the schema's order, and a recorder
writes one row group for each episode: from the headers the footer of all whole row groups can be
written after all. The schema is that of another file of the dataset, or what info.json says.
"""

import io
import mmap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from lwd.lerobot.layout import Info
from lwd.lerobot.thrift import I64, Struct, read_struct, write_struct
from lwd.store.disk import written_aside

MAGIC = b"PAR1"
CODECS = {"snappy": 1, "none": 0, "zstd": 6}
"""What is tried; recorders use the first."""
_DICTIONARY, _DATA, _DATA_2 = 2, 0, 3
"""Types of pages, Parquet's PageType."""


class Page(NamedTuple):
    """One page of a column chunk."""

    at: int
    end: int
    values: int
    """0 of a dictionary."""
    inflated: int
    """Bytes with the header, uncompressed."""


class Group(NamedTuple):
    """A whole row group: the pages of each column."""

    columns: list[list[Page]]
    rows: int


def has_footer(path: Path) -> bool:
    """Whether a Parquet file can be opened; a file that is not there cannot."""
    try:
        with pq.ParquetFile(path):
            return True
    except (OSError, pa.ArrowException):
        return False


def schema_of(info: Info) -> pa.Schema:
    """Schema of the rows: of a file that is whole, or what the features make it."""
    for path in info.data_files():
        if has_footer(path):
            return pq.read_schema(path)
    fields = []
    for feature in info.features.values():
        if feature.dtype == "video":
            continue
        if feature.dtype == "image":
            kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
        elif feature.dtype == "string":
            kind = pa.string()
        else:
            kind = pa.type_for_alias(feature.dtype)
            for size in reversed(feature.shape if feature.shape != (1,) else ()):
                kind = pa.list_(kind, size)
        fields.append(pa.field(feature.name, kind))
    return pa.schema(fields)


def whole_groups(path: Path, schema: pa.Schema) -> list[Group]:
    """The row groups that were written to the end."""
    sizes = _values_in_row(schema)
    with _mapped(path) as data:
        pages = list(_pages(data))
    found, at = [], 0
    while group := _group(pages, at, sizes):
        found.append(group)
        at += sum(map(len, group.columns))
    return found


def restore(path: Path, schema: pa.Schema, groups: Sequence[Group]) -> int:
    """Write the footer; rows that are there again. The file as it was stays as NAME.damaged.

    ValueError if no codec makes sense of the pages: nothing is changed then.
    """
    end = groups[-1].columns[-1][-1].end
    body = path.read_bytes()[:end]
    pages = [page for group in groups for column in group.columns for page in column]
    packed = any(page.inflated != page.end - page.at for page in pages)
    for codec, number in CODECS.items():
        if packed == (codec == "none"):
            continue
        footer = _footer(schema, codec, number, groups)
        whole = body + footer + len(footer).to_bytes(4, "little") + MAGIC
        try:
            rows = pq.read_table(io.BytesIO(whole)).num_rows
        except (OSError, pa.ArrowException):
            continue
        kept = path.with_name(f"{path.name}.damaged")
        if not kept.exists():
            kept.hardlink_to(path)
        with written_aside(path) as file:
            file.write(whole)
        return rows
    raise ValueError(f"the pages of {path.name} are compressed in none of {', '.join(CODECS)}")


@contextmanager
def _mapped(path: Path) -> Iterator[memoryview]:
    with (
        path.open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped,
        memoryview(mapped) as data,
    ):
        yield data


def _values_in_row(schema: pa.Schema) -> list[int]:
    """How many values each leaf column has in a row; ValueError for lists of any length."""

    def leaves(kind: pa.DataType, times: int) -> Iterator[int]:
        if isinstance(kind, pa.BaseExtensionType):
            yield from leaves(kind.storage_type, times)
        elif pa.types.is_struct(kind):
            for number in range(kind.num_fields):
                yield from leaves(kind.field(number).type, times)
        elif pa.types.is_fixed_size_list(kind):
            yield from leaves(kind.value_type, times * kind.list_size)
        elif pa.types.is_nested(kind):
            raise ValueError(f"a column has lists of no fixed length: {kind}")
        else:
            yield times

    return [size for column in schema for size in leaves(column.type, 1)]


def _pages(data: memoryview) -> Iterator[Page]:
    """Pages from the beginning, until something is none."""
    at = len(MAGIC)
    while at < len(data):
        try:
            header, body = read_struct(data, at)
            kind, inflated, size = (header[number][1] for number in (1, 2, 3))
            values = {_DATA: 5, _DATA_2: 8}.get(kind)
            count = header[values][1][1][1] if values else 0
        except (ValueError, KeyError, TypeError, IndexError):
            return
        end = body + size
        if kind not in (_DICTIONARY, _DATA, _DATA_2) or size < 0 or end > len(data):
            return
        yield Page(at, end, count, inflated + body - at)
        at = end


def _group(pages: Sequence[Page], at: int, sizes: Sequence[int]) -> Group | None:
    """The row group that begins with a page: every column has the same number of rows.

    The first column does not say where it ends; each possible end is tried.
    """
    values, first = 0, at
    while first < len(pages):
        page = pages[first]
        first += 1
        if page.values == 0:
            if first - 1 > at:
                return None
            continue
        values += page.values
        rows, rest = divmod(values, sizes[0])
        if not rest and (others := _columns(pages, first, sizes[1:], rows)) is not None:
            return Group([list(pages[at:first]), *others], rows)
    return None


def _columns(
    pages: Sequence[Page], at: int, sizes: Sequence[int], rows: int
) -> list[list[Page]] | None:
    found = []
    for size in sizes:
        start, values = at, 0
        while values < rows * size:
            if at == len(pages) or (pages[at].values == 0 and at > start):
                return None
            values += pages[at].values
            at += 1
        if values != rows * size:
            return None
        found.append(list(pages[start:at]))
    return found


def _footer(schema: pa.Schema, codec: str, number: int, groups: Sequence[Group]) -> bytes:
    """The footer that pyarrow writes for the schema, with these row groups in it."""
    sink = io.BytesIO()
    with pq.ParquetWriter(sink, schema, compression=codec) as writer:
        writer.write_table(pa.table([pa.nulls(1, f.type) for f in schema], schema=schema))
    data = sink.getvalue()
    size = int.from_bytes(data[-8:-4], "little")
    footer, _ = read_struct(data[-8 - size : -8], 0)
    model = footer[4][1][1][0]
    footer[3] = (I64, sum(group.rows for group in groups))
    footer[4] = (footer[4][0], (footer[4][1][0], [_row_group(model, number, g) for g in groups]))
    return write_struct(footer)


def _row_group(model: Struct, codec: int, group: Group) -> Struct:
    kind, (inner, chunks) = model[1]
    columns = [_chunk(chunk, codec, p) for chunk, p in zip(chunks, group.columns, strict=True)]
    packed = sum(p[-1].end - p[0].at for p in group.columns)
    found = {number: model[number] for number in model if number not in (4, 7)}
    found[1] = (kind, (inner, columns))
    found[2] = (I64, sum(page.inflated for pages in group.columns for page in pages))
    found[3] = (I64, group.rows)
    found[5] = (I64, group.columns[0][0].at)
    found[6] = (I64, packed)
    return found


def _chunk(model: Struct, codec: int, pages: Sequence[Page]) -> Struct:
    """A column chunk; statistics and indexes, which are the model's, are left out."""
    kind, meta = model[3]
    said: Struct = {number: meta[number] for number in (1, 2, 3)}
    said[4] = (meta[4][0], codec)
    data = next(page for page in pages if page.values)
    numbers: dict[int, Any] = {
        5: sum(page.values for page in pages),
        6: sum(page.inflated for page in pages),
        7: pages[-1].end - pages[0].at,
        9: data.at,
    }
    if pages[0].values == 0:
        numbers[11] = pages[0].at
    said |= {number: (I64, value) for number, value in numbers.items()}
    return {2: (I64, 0), 3: (kind, said)}
