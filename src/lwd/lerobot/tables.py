"""The Parquet files of a LeRobotDataset v3.0 that are written: rows, entries of episodes, tasks."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from lwd.lerobot.layout import DATA_FILE_MB, FILES_IN_CHUNK

MB = 1 << 20


class Place:
    """Number of the file that is being written."""

    def __init__(self) -> None:
        self.number = 0

    @property
    def numbers(self) -> dict[str, int]:
        """`chunk_index` and `file_index`."""
        chunk, file = divmod(self.number, FILES_IN_CHUNK)
        return {"chunk_index": chunk, "file_index": file}


class Files:
    """Parquet files that are rotated by size."""

    def __init__(self, root: Path, template: str, schema: pa.Schema) -> None:
        self._root, self._template, self.schema = root, template, schema
        self._writer: pq.ParquetWriter | None = None
        self.place = Place()

    def rotate(self) -> dict[str, int]:
        """Where the next rows will be."""
        if self._writer is not None and self._path().stat().st_size >= DATA_FILE_MB * MB:
            self.close()
            self.place.number += 1
        return self.place.numbers

    def write(self, table: pa.Table) -> None:
        """Append a row group."""
        if self._writer is None:
            self._path().parent.mkdir(parents=True, exist_ok=True)
            self._writer = pq.ParquetWriter(self._path(), self.schema, compression="snappy")
        self._writer.write_table(table)

    def close(self) -> None:
        """Finish the file."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _path(self) -> Path:
        return self._root / self._template.format(**self.place.numbers)


def write_tasks(path: Path, tasks: Mapping[str, int]) -> None:
    """tasks.parquet: the instruction is pandas' index, which the schema's metadata declares."""
    index = "__index_level_0__"
    about = {
        "index_columns": [index],
        "column_indexes": [],
        "columns": [
            _pandas("task_index", "task_index", "int64", "int64"),
            _pandas(None, index, "unicode", "object"),
        ],
        "creator": {"library": "pyarrow", "version": pa.__version__},
        "pandas_version": "2.2.0",
    }
    table = pa.table(
        {"task_index": pa.array(tasks.values(), pa.int64()), index: pa.array(tasks, pa.string())}
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table.replace_schema_metadata({"pandas": json.dumps(about)}), path)


def _pandas(name: str | None, field_name: str, kind: str, numpy: str) -> dict[str, Any]:
    of = {"name": name, "field_name": field_name, "pandas_type": kind, "numpy_type": numpy}
    return {**of, "metadata": None}


def as_columns(seen: Mapping[str, Mapping[str, np.ndarray]]) -> dict[str, Any]:
    """Statistics as columns of meta/episodes."""
    return {f"stats/{key}/{n}": v.tolist() for key, of in seen.items() for n, v in of.items()}
