"""Lazy Dask arrays as sources: any chunks, no masked values, and what their graphs hold."""

from itertools import pairwise
from typing import Any

import dask.array as da
import numpy as np
import numpy.typing as npt
import pytest
import zarr
from contract import assert_within
from hypothesis import given
from hypothesis import strategies as st
from strategies import Problem
from work import rows_of, side_of, work_of
from zarr.storage import MemoryStore

from dkde.engine.blocks import score_block
from dkde.engine.work import Work
from dkde.errors import InputError
from dkde.rows.dask_source import DaskSource, refuse_masked

Array = npt.NDArray[Any]


def density(work: Work) -> Array:
    survey = work.survey()
    ranges = work.plan.query_block(0), [work.plan.panel(p) for p in range(work.plan.n_panels)]
    return work.densities(
        score_block(work.query, work.train, work.task, survey, ranges[0], panel)
        for panel in ranges[1]
    ).values


def rising(*shape: int) -> Array:
    return np.arange(np.prod(shape), dtype=np.float64).reshape(shape)


class TestEmptyChunks:
    @pytest.mark.parametrize("chunks", [(1, 0, 9, 1), (0, 11), (11, 0, 0), (5, 0, 0, 6)])
    def test_they_are_no_chunks(self, chunks: tuple[int, ...]) -> None:
        train = np.random.default_rng(0).normal(size=(11, 3))
        source = DaskSource(da.from_array(train, chunks=(chunks, (3,))))
        work = work_of(side_of(train[:4]), side_of(source), [0.7])
        expected = Problem(train[:4], train, np.array([0.7])).expected()
        assert_within(density(work), expected)

    @given(st.lists(st.integers(0, 4), min_size=1, max_size=12), st.data())
    def test_ranges_cover_the_rows(self, chunks: list[int], data: st.DataObject) -> None:
        chunks.append(1)  # a row at least
        array = rising(sum(chunks), 2)
        rows = rows_of(DaskSource(da.from_array(array, chunks=(tuple(chunks), (2,)))))
        start = data.draw(st.integers(0, len(array) - 1))
        stop = data.draw(st.integers(start + 1, len(array)))
        ranges = list(rows.ranges(start, stop))
        assert [ranges[0][0], ranges[-1][1]] == [start, stop]
        assert all(a < b for a, b in ranges)
        assert all(b == c for (_, b), (c, _) in pairwise(ranges))
        read = [rows.read(*piece, decode=True) for piece in ranges]
        np.testing.assert_array_equal(np.concatenate(read), array[start:stop])


class TestMaskedValues:
    def masked(self) -> Any:
        values = np.ma.masked_array(rising(20, 3))
        values[13, 1] = np.ma.masked
        return values

    @pytest.mark.parametrize("chunks", [(5, 3), (5, 2), (20, 1)])
    @pytest.mark.parametrize("dtype", ["f4", "f8", "i8", "u1"])
    def test_they_are_missing_values(self, chunks: tuple[int, int], dtype: str) -> None:
        source = DaskSource(da.from_array(self.masked().astype(dtype), chunks=chunks))
        expected = rising(20, 3).astype("f4" if dtype == "f4" else "f8")
        expected[13, 1] = np.nan
        read = source.read(8, 20)
        assert type(read) is np.ndarray
        assert read.dtype == source.dtype == expected.dtype
        np.testing.assert_array_equal(read, expected[8:])

    def test_integers_of_which_nothing_said_that_they_may_be_masked(self) -> None:
        array = da.from_array(self.masked().astype("i8"), chunks=(5, 3))
        plain = array.map_blocks(lambda block: block, meta=np.empty((0, 0), "i8"))
        with pytest.raises(InputError, match=r"^row 13, column 1 is masked; .* or fill them$"):
            DaskSource(plain).read(8, 20)

    def test_rows_without_any_are_read(self) -> None:
        source = DaskSource(da.from_array(self.masked(), chunks=(5, 3)))
        read = source.read(0, 13)
        assert type(read) is np.ndarray
        np.testing.assert_array_equal(read, rising(20, 3)[:13])

    def test_of_one_number_a_row(self) -> None:
        with pytest.raises(InputError, match=r"^row 102 is masked; "):
            refuse_masked(np.ma.masked_equal([1, 2, 3], 3), 100)

    def test_arrays_that_are_not_masked_pass(self) -> None:
        refuse_masked(rising(3, 2))


class TestWhatTheGraphHolds:
    @pytest.mark.parametrize("chunks", [(1000, 4), (100, 4), (100, 2)])
    def test_numpy_arrays_are_resident(self, chunks: tuple[int, int]) -> None:
        array = da.from_array(rising(1000, 4), chunks=chunks)
        for lazy in (array, array + 1, array[:, ::-1]):
            work = work_of(side_of(rising(3, 4)), side_of(DaskSource(lazy)), [1.0])
            assert work.plan.train.resident_bytes == 1000 * 4 * 8
            assert not work.plan.train.is_view

    def test_zarr_arrays_are_not(self) -> None:
        stored = zarr.create_array(MemoryStore(), data=rising(1000, 4))
        assert DaskSource(da.from_zarr(stored) * 2).resident_bytes == 0

    def test_looking_leaves_lazy_layers_lazy(self) -> None:
        array = da.zeros((10**6, 3), chunks=(10, 3))
        DaskSource(array + 1)
        layers = array.__dask_graph__().layers.values()
        assert not any(layer.is_materialized() for layer in layers)
