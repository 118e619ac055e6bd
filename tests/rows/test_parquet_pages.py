"""Pages of Parquet files whose headers promise more than the memory holds are refused."""

import io
import struct

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

import dkde
from dkde.errors import DataSetError
from dkde.rows import parquet_pages
from dkde.rows.parquet_pages import CheckedPages


def number(n):
    """As the compact protocol writes it."""
    n, found = 2 * n, b""
    while n >= 128:
        found, n = found + bytes([n & 127 | 128]), n >> 7
    return found + bytes([n])


def header(kind, unpacked, packed, n_values):
    """Of a data page (0) or a dictionary (2), of plain values."""
    head = b"\x15" + number(kind) + b"\x15" + number(unpacked) + b"\x15" + number(packed)
    inner = b"\x15" + number(n_values) + b"\x15" + number(0)
    if kind == 0:
        return head + b"\x2c" + inner + b"\x15" + number(3) + b"\x15" + number(3) + b"\0\0"
    return head + b"\x4c" + inner + b"\0\0"


def forged(path, kind, unpacked, n_values):
    """A file whose first page says something else."""
    values = np.random.default_rng(5).normal(size=3000).repeat(2)
    table = pa.table({"a": values, "b": values})
    parquet.write_table(table, path, compression="zstd", use_dictionary=kind == 2)
    column = parquet.read_metadata(path).row_group(0).column(0)
    raw, size = path.read_bytes(), column.total_compressed_size
    head = header(kind, unpacked, size - 40, n_values)
    path.write_bytes(raw[:4] + head + raw[4 : 4 + size - len(head)] + raw[4 + size :])
    return path


@pytest.mark.parametrize(("kind", "unpacked", "n_values", "words"), [
    (0, 2**31 - 1, 6000, "a page would unpack to 2 GiB"),
    (2, 1000, 2**31 - 1, "a dictionary would unpack to 16 GiB"),
    (0, 48_000, 2**31 - 1, "the values of a page would unpack to 8 GiB"),
    (0, 2**31, 6000, "a page would unpack to 2 GiB"),
])  # fmt: skip
def test_a_header_that_promises_too_much(tmp_path, kind, unpacked, n_values, words):
    path = forged(tmp_path / "x.parquet", kind, unpacked, n_values)
    calls = (
        lambda: dkde.import_dataset(path, tmp_path / "d.zarr"),
        lambda: dkde.score(str(path), np.zeros((2, 2)), 1.0),
    )
    for call in calls:
        with pytest.raises(DataSetError, match=f"x.parquet.*{words}.*DKDE_UNPACK_LIMIT") as error:
            call()
        assert "\n" not in str(error.value)


def with_footer(path, *changes):
    """Replace bytes of the footer, each once."""
    raw = path.read_bytes()
    length = int.from_bytes(raw[-8:-4], "little")
    footer = raw[-8 - length : -8]
    for old, new in changes:
        assert footer.count(old) == 1
        footer = footer.replace(old, new)
    path.write_bytes(raw[: -8 - length] + footer + len(footer).to_bytes(4, "little") + b"PAR1")


def placed(size, offset):
    """A column's size and place, as footers have them."""
    return b"\x16" + number(size) + b"\x26" + number(offset)


def of_column(path, k):
    column = parquet.read_metadata(path).row_group(0).column(k)
    return column.total_compressed_size, column.data_page_offset


def refused(path, tmp_path, words):
    for call in (
        lambda: dkde.import_dataset(path, tmp_path / "d.zarr"),
        lambda: dkde.score(str(path), np.zeros((2, 2)), 1.0),
    ):
        with pytest.raises(DataSetError, match=words) as error:
            call()
        assert "\n" not in str(error.value)


def test_a_column_that_a_forged_footer_puts_before_another(tmp_path):
    path = forged(tmp_path / "x.parquet", 0, 2**31 - 1, 6000)
    with_footer(path, (placed(*of_column(path, 1)), placed(0, 4)))
    refused(path, tmp_path, r"x\.parquet: a page would unpack to 2 GiB")


@pytest.mark.parametrize("is_within", [False, True])
def test_every_page_is_seen_whatever_a_footer_says_of_another_column(tmp_path, is_within):
    path = tmp_path / "x.parquet"
    values = np.random.default_rng(6).normal(size=9000)
    options = {"compression": "zstd", "use_dictionary": False, "data_page_size": 1000}
    parquet.write_table(pa.table({"a": values, "b": values}), path, **options)
    (size, start), raw = of_column(path, 0), path.read_bytes()
    fields, length = parquet_pages._struct(raw, start)
    forged_start = length + fields[3] if is_within else start
    with_footer(path, (placed(*of_column(path, 1)), placed(0, forged_start)))
    pages = CheckedPages(io.BytesIO(path.read_bytes()), "x.parquet")
    file = parquet.ParquetFile(pa.PythonFile(pages, mode="r"), buffer_size=1000, pre_buffer=False)
    pages.begin(file.metadata)
    (whole,) = (column for column in pages._columns if column.end == start + size)
    assert np.array_equal(file.read(["a"])["a"], values)
    assert whole.n_values == 0


def test_a_page_beyond_the_size_of_a_column_of_an_old_writer(tmp_path):
    path = forged(tmp_path / "x.parquet", 0, 2**31 - 1, 6000)
    by = parquet.read_metadata(path).created_by
    old = b"parquet-mr version 1.2.0".ljust(len(by))
    size, offset = of_column(path, 0)
    with_footer(path, (placed(size, offset), placed(0, offset)), (by.encode(), old))
    refused(path, tmp_path, r"x\.parquet: a page would unpack to 2 GiB")


@pytest.mark.parametrize("changed", [
    # A page of another type with the values of a data page, which readers pass over.
    b"\x15\x02\x15\x08\x15\x08\x2c\x15" + number(6000) + b"\0\0" + b"abcd",
    # The size in 32 bits, and again in 64, which readers pass over.
    b"\x15\0\x15" + number(2**31 - 1) + b"\x06\x04" + number(8) + b"\x15\x08\x2c\x15"
    + number(6000) + b"\x15\0\x15\x06\x15\x06\0\0",
    # Readers take the last 32 bits of the stored size.
    header(0, 2**33, 2**32 + 4, 0) + b"abcd",
])  # fmt: skip
def test_a_first_page_that_readers_take_for_another(tmp_path, changed):
    path = forged(tmp_path / "x.parquet", 0, 2**31 - 1, 6000)
    (size, start), raw = of_column(path, 0), path.read_bytes()
    column = (changed + raw[start : start + size])[:size]
    path.write_bytes(raw[:start] + column + raw[start + size :])
    refused(path, tmp_path, r"x\.parquet: a page (would unpack to 2 GiB|of it is damaged)")


def test_a_footer_that_declares_very_many_rows(tmp_path):
    path, n = tmp_path / "x.parquet", 3_000_000
    parquet.write_table(pa.table({"v": np.zeros(n)}), path, row_group_size=n)
    raw = path.read_bytes()
    length = int.from_bytes(raw[-8:-4], "little")
    footer = raw[-8 - length : -8].replace(number(n), number(10**15))
    path.write_bytes(raw[: -8 - length] + footer + len(footer).to_bytes(4, "little") + b"PAR1")
    for call in (dkde.describe, lambda path: dkde.import_dataset(path, tmp_path / "d.zarr")):
        with pytest.raises(
            DataSetError, match=r"x\.parquet: what is kept of its 10{15} rows would"
        ):
            call(path)


TABLE = pa.table({
    "x": np.random.default_rng(5).normal(size=50_000),
    "n": np.arange(50_000) % 7,
    "words": [f"word {n % 1000}" * 9 for n in range(50_000)],
    "lists": pa.FixedSizeListArray.from_arrays(np.arange(100_000.0), 2),
    "zero": np.zeros(50_000, np.float32),
})  # fmt: skip


@pytest.mark.sampled(12)
@pytest.mark.parametrize("options", [
    {}, {"data_page_version": "2.0"}, {"use_dictionary": False}, {"compression": "zstd"},
    {"compression": "none", "data_page_size": 1000}, {"row_group_size": 777},
    {"write_page_index": True, "write_page_checksum": True},
    {"column_encoding": {"x": "BYTE_STREAM_SPLIT"}, "use_dictionary": ["words"]},
])  # fmt: skip
@pytest.mark.parametrize("buffer", [100, 2**14, 2**22])
def test_files_as_they_are_written_are_read_and_every_page_is_seen(options, buffer):
    content = io.BytesIO()
    parquet.write_table(TABLE, content, **options)
    pages = CheckedPages(io.BytesIO(content.getvalue()), "x.parquet")
    file = parquet.ParquetFile(pa.PythonFile(pages, mode="r"), buffer_size=buffer, pre_buffer=False)
    pages.begin(file.metadata)
    found = pa.Table.from_batches(file.iter_batches(1000))
    assert found.equals(TABLE)
    assert {column.n_values for column in pages._columns} == {0}


@pytest.mark.parametrize("head", [
    b"\xff" * 10, b"\x1c" * 5000, b"\x15\x00\x15\x02\x15\x03\x00", b"\x00", b"\x19\xff" * 9,
    struct.pack("<q", -1),
])  # fmt: skip
def test_a_damaged_header_is_refused_in_a_line(tmp_path, head):
    path = forged(tmp_path / "x.parquet", 0, 48_000, 6000)
    raw = path.read_bytes()
    path.write_bytes(raw[:4] + head + raw[4 + len(head) :])
    with pytest.raises(DataSetError, match=r"x\.parquet") as error:
        dkde.import_dataset(path, tmp_path / "d.zarr")
    assert "\n" not in str(error.value)


def test_numbers_of_the_compact_protocol():
    head = header(0, 300, 70_000, 5) + b"rest"
    fields, length = parquet_pages._struct(head, 0)
    assert fields == {1: 0, 2: 300, 3: 70_000, 5: {1: 5, 2: 0, 3: 3, 4: 3}}
    assert head[length:] == b"rest"
