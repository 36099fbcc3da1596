"""Rows without a footer: what was whole when the writer died comes back, bit for bit."""

import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lwd.lerobot.footer import has_footer, restore, whole_groups
from lwd.lerobot.thrift import BINARY, I32, I64, LIST, STRUCT, read_struct, write_struct

SCHEMA = pa.schema(
    [
        ("state", pa.list_(pa.float32(), 3)),
        ("done", pa.bool_()),
        ("index", pa.int64()),
        ("picture", pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
        ("said", pa.string()),
    ]
)
ROWS = (5, 1, 40, 3000)


def group(seed: int, rows: int) -> pa.Table:
    rng = np.random.default_rng(seed)
    return pa.table(
        {
            "state": rng.normal(size=(rows, 3)).astype(np.float32).tolist(),
            "done": (np.arange(rows) == rows - 1).tolist(),
            "index": np.arange(rows).tolist(),
            "picture": [{"bytes": rng.bytes(300), "path": None} for _ in range(rows)],
            "said": [f"{seed}" * (row % 5) for row in range(rows)],
        },
        schema=SCHEMA,
    )


def killed(path, codec: str = "snappy") -> tuple[list[int], pa.Table]:
    """Write groups and leave the footer out: where each group ends, and what was written."""
    sink, ends = io.BytesIO(), []
    groups = [group(seed, rows) for seed, rows in enumerate(ROWS)]
    with pq.ParquetWriter(sink, SCHEMA, compression=codec, use_dictionary=True) as writer:
        for one in groups:
            writer.write_table(one)
            ends.append(sink.tell())
        path.write_bytes(sink.getvalue())
    return ends, pa.concat_tables(groups)


@pytest.mark.parametrize("codec", ["snappy", "none", "zstd"])
def test_everything_comes_back_with_any_codec(tmp_path, codec):
    path = tmp_path / "file-000.parquet"
    _, written = killed(path, codec)
    assert not has_footer(path)
    groups = whole_groups(path, SCHEMA)
    assert [one.rows for one in groups] == list(ROWS)
    assert restore(path, SCHEMA, groups) == sum(ROWS)
    assert pq.read_table(path).equals(written)
    assert (tmp_path / "file-000.parquet.damaged").exists()


@pytest.mark.parametrize("past", [-1, 0, 1, 500])
@pytest.mark.parametrize("number", range(3))
def test_cut_anywhere_the_whole_groups_come_back(tmp_path, number, past):
    path = tmp_path / "file-000.parquet"
    ends, written = killed(path)
    path.write_bytes(path.read_bytes()[: ends[number] + past])
    groups = whole_groups(path, SCHEMA)
    expected = number + 1 if past >= 0 else number
    assert [one.rows for one in groups] == list(ROWS[:expected])
    if groups:
        assert restore(path, SCHEMA, groups) == sum(ROWS[:expected])
        assert pq.read_table(path).equals(written.slice(0, sum(ROWS[:expected])))


def test_bytes_that_are_no_parquet_give_nothing(tmp_path):
    path = tmp_path / "noise.parquet"
    path.write_bytes(b"PAR1" + np.random.default_rng(0).bytes(10_000))
    assert whole_groups(path, SCHEMA) == []


def test_pages_that_make_no_sense_change_nothing(tmp_path):
    path = tmp_path / "file-000.parquet"
    killed(path)
    groups = whole_groups(path, SCHEMA)
    data = bytearray(path.read_bytes())
    first = groups[0].columns[0][0]
    _, body = read_struct(data, first.at)
    data[body : first.end] = b"\xff" * (first.end - body)
    path.write_bytes(data)
    with pytest.raises(ValueError, match="compressed in none of"):
        restore(path, SCHEMA, groups)
    assert path.read_bytes() == bytes(data)


def test_lists_of_any_length_cannot_be_placed(tmp_path):
    path = tmp_path / "file-000.parquet"
    killed(path)
    with pytest.raises(ValueError, match="no fixed length"):
        whole_groups(path, pa.schema([("words", pa.list_(pa.string()))]))


leaf = st.one_of(
    st.tuples(st.just(I32), st.integers(-(2**31), 2**31 - 1)),
    st.tuples(st.just(I64), st.integers(-(2**63), 2**63 - 1)),
    st.tuples(st.just(BINARY), st.binary(max_size=200)),
    st.tuples(st.just(LIST), st.tuples(st.just(I32), st.lists(st.integers(-9, 9), max_size=40))),
)
structs = st.recursive(
    st.dictionaries(st.integers(1, 300), leaf, max_size=8),
    lambda inner: st.dictionaries(st.integers(1, 300), st.tuples(st.just(STRUCT), inner)),
    max_leaves=20,
)


@settings(max_examples=25, deadline=None)
@given(structs)
def test_a_struct_is_read_as_it_was_written(tree):
    data = write_struct(tree)
    assert read_struct(data, 0) == (tree, len(data))
    if len(data) > 1:
        with pytest.raises(ValueError, match=r".+"):
            read_struct(data[:-1], 0)
