"""Where reading is cut decides how sums are split, and so their last bits: no cut ever moves."""

from itertools import accumulate, pairwise

import dask.array as da
import numpy as np
import pytest
import xarray as xr
import zarr
from hypothesis import given
from hypothesis import strategies as st
from zarr.storage import MemoryStore

from dkde.rows.dask_source import DaskSource
from dkde.rows.sources import ArraySource, NpySource, ZarrSource
from dkde.rows.variables import VariablesSource

READ_BYTES = 8 * 2**20


def even_cuts(start, stop, step):
    """Start, stop, and the multiples of a step between."""
    return [start, *(row for row in range(0, stop, step) if start < row), stop]


def even_step(chunk_rows, row_bytes):
    """As many whole chunks as are within the bytes that are worth reading; at least one."""
    return chunk_rows * max(1, READ_BYTES // (row_bytes * chunk_rows))


def uneven_cuts(chunks, row_bytes):
    """Borders of chunks, each next piece as long as it may be; a longer chunk is one."""
    most, cuts, end = max(1, READ_BYTES // row_bytes), [0], 0
    for n in filter(None, chunks):
        if end > cuts[-1] and end + n - cuts[-1] > most:
            cuts.append(end)
        end += n
    return [*cuts, end]


def ranges(n_rows):
    return [(0, n_rows), (1, n_rows), (n_rows // 3, n_rows // 2 + 1), (n_rows - 1, n_rows)]


def check_even(source, chunk_rows, row_bytes):
    step = even_step(chunk_rows, row_bytes)
    assert source.read_rows == step  # however few rows there are
    for start, stop in ranges(source.shape[0]):
        assert source.cuts(start, stop) == even_cuts(start, stop, step)


@given(
    st.integers(1, 2**40), st.integers(1, 2**24), st.integers(1, 5000),
    st.sampled_from(["u1", "f2", "f4", "f8"]),
)  # fmt: skip
def test_rows_of_zarr_are_cut_at_whole_chunks(n_rows, chunk_rows, width, dtype):
    array = zarr.create_array(
        MemoryStore(), shape=(n_rows, width), chunks=(chunk_rows, width), dtype=dtype
    )
    source = ZarrSource(array)
    step = even_step(chunk_rows, width * np.dtype(dtype).itemsize)
    assert source.read_rows == step
    for start, stop in [(0, min(n_rows, 7 * step)), (n_rows // 2, n_rows // 2 + 1)]:
        first = (start // step + 1) * step
        assert source.cuts(start, stop) == [start, *range(first, stop, step), stop]
    rows = np.arange(0, min(n_rows, 3 * chunk_rows), max(1, chunk_rows // 2))
    np.testing.assert_array_equal(np.diff(source.chunk_of(rows)), np.diff(rows // chunk_rows))


@pytest.mark.parametrize("shape", [(9, 2**20), (3000, 2000), (7, 3), (5000,)])
def test_rows_in_memory_and_in_files_are_cut_by_their_bytes(tmp_path, shape):
    array = np.zeros(shape, np.float32)
    row_bytes = 4 * (shape[1] if len(shape) > 1 else 1)
    check_even(ArraySource(array), 1, row_bytes)
    np.save(tmp_path / "a.npy", array)
    check_even(NpySource.open(tmp_path / "a.npy"), 1, row_bytes)


CHUNKS = st.lists(st.integers(0, 3000), min_size=1, max_size=30).filter(any)


@given(CHUNKS, st.sampled_from(["f4", "f8", "u1"]), st.booleans())
def test_lazy_rows_are_cut_at_borders_of_chunks(chunks, dtype, masks):
    width = 2048
    array = da.zeros((sum(chunks), width), chunks=(tuple(chunks), width), dtype=dtype)
    if masks:
        array = da.ma.masked_equal(array, 7)
    # Masked integers become float64; that decides nothing here.
    expected = uneven_cuts(chunks, width * np.dtype(dtype).itemsize)
    source = DaskSource(array)
    assert source.cuts(0, sum(chunks)) == expected
    assert source.read_rows == max(b - a for a, b in pairwise(expected))
    start, stop = sum(chunks) // 3, sum(chunks) // 2 + 1
    assert source.cuts(start, stop) == [start, *(n for n in expected if start < n < stop), stop]
    ends = list(accumulate(chunks))
    numbers = source.chunk_of(np.arange(sum(chunks)))
    assert [int(n) + 1 for n in np.flatnonzero(np.diff(numbers))] == sorted(
        {*ends[:-1]} - {0, ends[-1]}
    )


@pytest.mark.slow
@given(CHUNKS)
def test_variables_along_one_dim_are_cut_as_lazy_arrays_are(chunks):
    names = [f"v{i}" for i in range(1024)]
    lazy = da.zeros(sum(chunks), chunks=(tuple(chunks),))
    source = VariablesSource([xr.Variable("x", lazy)] * len(names), ("x",), (sum(chunks),), names)
    expected = uneven_cuts(chunks, 8 * len(names))
    assert source.cuts(0, sum(chunks)) == expected
    assert source.read_rows == max(b - a for a, b in pairwise(expected))


def test_a_grid_is_cut_into_slabs_of_whole_chunks():
    lazy = da.zeros((40, 300, 400), chunks=(4, 150, 400))
    source = VariablesSource(
        [xr.Variable(("t", "y", "x"), lazy), xr.Variable("y", np.zeros(300))],
        ("t", "y", "x"), (40, 300, 400), ["a", "b"],
    )  # fmt: skip
    slab = 4 * 300 * 400  # 7.3 MiB of rows each, and no two of them are read together
    assert source.read_rows == slab
    assert source.cuts(5, 40 * 300 * 400) == [5, *range(slab, 40 * 300 * 400, slab), 40 * 300 * 400]
    rows = np.array([0, slab - 1, slab, 9 * slab])
    np.testing.assert_array_equal(source.chunk_of(rows), [0, 0, 1, 9])
