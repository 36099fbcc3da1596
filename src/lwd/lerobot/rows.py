"""The rows of a LeRobotDataset, episode by episode, without ever holding more than one of them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from lwd.errors import EpisodeError
from lwd.lerobot.episodes import Complain
from lwd.lerobot.layout import AUTOMATIC, Info

ROWS, PICTURES = 4096, 64
"""Rows that are read at a time, without and with pictures in the table."""


@dataclass(frozen=True, kw_only=True)
class Rows:
    """All rows of one episode, as they are in one file."""

    episode: int
    path: Path
    table: pa.Table

    def numbers(self, name: str) -> np.ndarray:
        """[rows, size] of a column of numbers or of vectors; EpisodeError if it is neither."""
        column = self.table[name].combine_chunks()
        while isinstance(column, pa.ExtensionArray):
            column = column.storage
        rows = len(column)
        if column.null_count:
            raise EpisodeError(f"column {name} lacks {column.null_count} of {rows} values.")
        while pa.types.is_list(column.type) or pa.types.is_fixed_size_list(column.type):
            column = column.flatten()
        if pa.types.is_boolean(column.type):
            column = column.cast(pa.uint8())
        if rows == 0 or len(column) % rows:
            raise EpisodeError(f"column {name} has {len(column)} values in {rows} rows.")
        try:
            return column.to_numpy(zero_copy_only=False).reshape(rows, -1)
        except (pa.ArrowException, ValueError) as error:
            raise EpisodeError(f"column {name} holds no numbers: {error}.") from error

    def scalars(self, name: str) -> np.ndarray:
        """[rows] of a column of numbers."""
        found = self.numbers(name)
        if found.shape[1] != 1:
            raise EpisodeError(f"column {name} has {found.shape[1]} values in a row, not one.")
        return found[:, 0]

    def pictures(self, name: str, root: Path) -> Iterator[bytes]:
        """The encoded pictures of a column: bytes in the table, or files that it names."""
        for number, cell in enumerate(self.table[name].to_pylist()):
            data = cell if isinstance(cell, bytes) else (cell or {}).get("bytes")
            if not data and isinstance(cell, dict) and cell.get("path"):
                data = _file(root, cell["path"])
            if not data:
                raise EpisodeError(f"feature {name} has no picture in frame {number}.")
            yield data


def stream(info: Info, columns: Sequence[str], complain: Complain) -> Iterator[Rows]:
    """The episodes in the order of the files. What cannot be read is complained about."""
    for path in info.data_files():
        yield from read_file(info, path, columns, complain)


def read_file(info: Info, path: Path, columns: Sequence[str], complain: Complain) -> Iterator[Rows]:
    """The episodes of one file of rows."""
    wanted = list(dict.fromkeys([*AUTOMATIC, *columns]))
    heavy = any(info.features[n].is_picture for n in columns if n in info.features)
    parts: list[pa.RecordBatch] = []
    here: int | None = None
    try:
        with pq.ParquetFile(path) as file:
            missing = sorted(set(wanted) - set(file.schema_arrow.names))
            if missing:
                complain(f"{path.relative_to(info.root)} lacks the columns {', '.join(missing)}")
                return
            for batch in file.iter_batches(batch_size=PICTURES if heavy else ROWS, columns=wanted):
                for episode, part in _split(batch):
                    if episode != here and parts:
                        yield _joined(here, path, parts)
                        parts = []
                    here = episode
                    parts.append(part)
    except (OSError, pa.ArrowException) as error:
        why = str(error).splitlines()[0][:200]
        complain(f"{path.relative_to(info.root)} is not readable as Parquet: {why}")
        return
    if parts:
        yield _joined(here, path, parts)


def _split(batch: pa.RecordBatch) -> Iterator[tuple[int, pa.RecordBatch]]:
    """Runs of rows of one episode; rows without an episode count as of episode -1."""
    numbers = batch["episode_index"].fill_null(-1).to_numpy(zero_copy_only=False)
    if len(numbers) == 0:
        return
    edges = [0, *(np.flatnonzero(np.diff(numbers)) + 1).tolist(), len(numbers)]
    for start, end in pairwise(edges):
        yield int(numbers[start]), batch.slice(start, end - start)


def _joined(episode: int | None, path: Path, parts: list[pa.RecordBatch]) -> Rows:
    assert episode is not None
    return Rows(episode=episode, path=path, table=pa.Table.from_batches(parts))


def _file(root: Path, name: str) -> bytes:
    path = (root / name).resolve()
    if not path.is_relative_to(root.resolve()) or not path.is_file():
        raise EpisodeError(f"picture {name[:200]!r} is not a file of the dataset.")
    return path.read_bytes()
