"""One block: what it reads, what it refuses, and that it is right."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from threading import get_ident
from typing import Any

import dask.array as da
import numpy as np
import numpy.typing as npt
import pytest
from contract import assert_within, assert_within_32
from examples import few
from hypothesis import given, settings
from strategies import Problem, problems
from work import rows_of, side_of, source_of, work_for, work_of

from dkde.engine.reading import read_ahead
from dkde.engine.survey import find_reference
from dkde.engine.task import Survey
from dkde.engine.work import Work
from dkde.errors import InputError
from dkde.rows.dask_source import DaskSource
from dkde.rows.row_source import RowSource
from dkde.rows.side import Encoding, Part, Rows, Side
from dkde.rows.sources import ArraySource

Array = npt.NDArray[Any]


def density(work: Work) -> Array:
    """All blocks, one after the other."""
    plan, survey = work.plan, work.survey()
    return np.concatenate(
        [
            work.densities(work.block(survey, q, p) for p in range(plan.n_panels)).values
            for q in range(plan.n_query_blocks)
        ],
        axis=1,
    )


def normal(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).normal(size=shape)


@settings(max_examples=few(60))
@given(problems(max_query=12, max_features=257))
def test_blocks_equal_the_oracle(problem: Problem) -> None:
    work = work_for(problem, query_rows=5, panel_rows=60)
    assert_within(density(work), problem.expected())


@pytest.mark.parametrize("kind", ["array", "zarr", "dask"])
@pytest.mark.parametrize("chunk_rows", [1, 7, 1000])
def test_any_source_in_any_chunks(kind: str, chunk_rows: int) -> None:
    problem = Problem(
        normal(11, 4), normal(60, 4, seed=1), np.array([0.3, 2.0]), np.linspace(0, 1, 60)
    )
    work = work_for(problem, kind, chunk_rows, query_rows=4, panel_rows=25)
    assert_within(density(work), problem.expected())


class TestEncodings:
    problem = Problem(
        np.random.default_rng(0).integers(256, size=(5, 50)).astype(np.uint8),
        np.random.default_rng(1).integers(256, size=(40, 50)).astype(np.uint8),
        np.array([0.2, 1.0]),
        scale=1 / 255,
    )

    def test_integers_in_one_encoding_stay_integers(self) -> None:
        work = work_for(self.problem)
        assert work.task.integer
        assert work.task.unit == 1 / 255
        assert_within(density(work), self.problem.expected())

    def test_an_offset_in_the_encoding_cancels(self) -> None:
        sides = [
            Side(rows_of(ArraySource(a), encoding=Encoding(1 / 255, -1e9)))
            for a in (self.problem.query, self.problem.train)
        ]
        work = work_of(*sides, self.problem.bandwidths)
        assert work.task.integer
        assert_within(density(work), self.problem.expected())

    def test_two_encodings_are_decoded(self) -> None:
        query = side_of(self.problem.query, scale=1 / 255)
        train = side_of(self.problem.train / 255)
        work = work_of(query, train, self.problem.bandwidths)
        assert not work.task.integer
        assert_within(density(work), self.problem.expected())

    @pytest.mark.parametrize("dtype", ["bool", "int32", "int64", "uint64", "float16", "float32"])
    def test_other_dtypes(self, dtype: str) -> None:
        stored = self.problem.train[:, :6] > 99 if dtype == "bool" else self.problem.train[:, :6]
        rows = stored.astype(dtype)
        values = rows.astype(np.float64)
        problem = Problem(values[:4], values, np.array([0.4, 30.0]))
        work = work_of(side_of(rows[:4]), side_of(rows), problem.bandwidths)
        assert_within(density(work), problem.expected())

    def test_float32_precision(self) -> None:
        work = work_for(self.problem, precision="float32")
        assert_within_32(density(work), self.problem.expected(), self.problem.exponents())


class TestParts:
    """Sides of several parts, each a range of its source."""

    def test_parts_are_one_side(self) -> None:
        train = normal(60, 3)
        parts = Rows(
            (
                Part(source_of("zarr", train, 7), 0, 25, "first"),
                Part(source_of("dask", train[20:], 4), 5, 20, "second"),
                Part(ArraySource(train), 40, 60, "third"),
            )
        )
        groups = np.arange(60)
        problem = Problem(
            train[:6], train, np.array([0.5]), np.linspace(0.1, 1, 60), groups[:6], groups
        )
        query = side_of(train[:6], groups=groups[:6])
        side = Side(parts, ArraySource(problem.weights), ArraySource(groups))
        work = work_of(query, side, problem.bandwidths, panel_rows=30)
        assert_within(density(work), problem.expected())

    def test_messages_name_the_row_in_its_own_source(self) -> None:
        broken = normal(30, 3)
        broken[23, 2] = np.nan
        parts = Rows(
            (
                Part(ArraySource(normal(400, 3)), 0, 400, "good"),
                Part(ArraySource(broken), 20, 30, "bad"),
            )
        )
        work = work_of(side_of(normal(2, 3)), Side(parts), [1.0])
        with pytest.raises(
            InputError, match=r"^bad: row 23, column 2 is nan; densities need finite"
        ):
            density(work)


class TestRefusals:
    @pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
    @pytest.mark.parametrize("row", [3, 299, 599])  # in and beyond the rows of the reference
    @pytest.mark.parametrize("precision", ["float64", "float32"])
    def test_values_that_are_not_finite(self, bad: float, row: int, precision: str) -> None:
        broken = normal(600, 4)
        broken[row, 1] = bad
        good = normal(600, 4, seed=1)
        message = f"^broken: row {row}, column 1 is {bad:g}; densities need finite values"
        for query, train in (
            (side_of(good, "good"), side_of(broken, "broken")),
            (side_of(broken, "broken"), side_of(good, "good")),
        ):
            work = work_of(query, train, [1.0], precision=precision, query_rows=250, panel_rows=250)
            with pytest.raises(InputError, match=message):
                density(work)

    @pytest.mark.parametrize("where", ["query", "train"])
    @pytest.mark.parametrize(("precision", "large"), [("float64", 1e200), ("float32", 1e25)])
    @pytest.mark.parametrize("row", [3, 399])
    def test_values_whose_squares_overflow(
        self, where: str, precision: str, large: float, row: int
    ) -> None:
        sides = {"query": normal(400, 2), "train": normal(400, 2, seed=1)}
        sides[where][row] *= large
        work = work_of(
            *(side_of(rows, name) for name, rows in sides.items()), [1.0], precision=precision
        )
        # Also where such a value has moved the reference row: then some row is named.
        with pytest.raises(InputError, match=r"row \d+ has values so large .* rescale the data$"):
            density(work)

    @pytest.mark.parametrize("bad", [-1.0, np.nan, np.inf])
    def test_weights_that_are_none(self, bad: float) -> None:
        weights = np.ones(50)
        weights[33] = bad
        train = side_of(normal(50, 2), weights=weights)
        work = work_of(side_of(normal(3, 2)), train, [1.0], panel_rows=20)
        with pytest.raises(
            InputError, match=f"weight of row 33 is {bad:g}; weights must be finite"
        ):
            density(work)

    @pytest.mark.parametrize("bandwidth", [1e-20, 1e20])
    def test_bandwidths_beyond_float32(self, bandwidth: float) -> None:
        sides = side_of(normal(3, 2)), side_of(normal(3, 2))
        with pytest.raises(InputError, match=r"bandwidth 1e[+-]20 is out of float32's range; use"):
            work_of(*sides, [1.0, bandwidth], precision="float32")
        work_of(*sides, [1.0, bandwidth])

    def test_all_weights_zero_is_no_density_and_no_error(self) -> None:
        train = side_of(normal(50, 2), weights=np.zeros(50))
        assert np.isnan(density(work_of(side_of(normal(3, 2)), train, [1.0]))).all()


@dataclass(eq=False)
class Watched(RowSource):
    """An array that keeps a record of what is read."""

    array: Array
    read_rows: int = 10
    reads: list[tuple[int, int]] = field(default_factory=list)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.array.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.array.dtype

    def cuts(self, start: int, stop: int) -> list[int]:
        first = (start // self.read_rows + 1) * self.read_rows
        return [start, *range(first, stop, self.read_rows), stop]

    def read(self, start: int, stop: int) -> Array:
        self.reads.append((start, stop))
        return self.array[start:stop]


class TestReading:
    def test_a_block_reads_its_ranges_once_and_nothing_else(self) -> None:
        query, train = Watched(normal(40, 3)), Watched(normal(100, 3))
        work = work_of(side_of(query), side_of(train), [1.0], query_rows=20, panel_rows=35)
        work.block(Survey(np.zeros(3)), 1, 1)
        assert query.reads == [(20, 40)]
        assert train.reads == [(35, 40), (40, 50), (50, 60), (60, 70)]

    def test_weights_and_groups_are_read_with_their_rows(self) -> None:
        train, weights, groups = (
            Watched(normal(100, 3)),
            Watched(np.ones(100)),
            Watched(np.arange(100)),
        )
        side = Side(rows_of(train), weights, groups)
        query = side_of(normal(5, 3), groups=np.arange(5))
        work_of(query, side, [1.0], panel_rows=50).block(Survey(np.zeros(3)), 0, 1)
        assert (
            train.reads
            == weights.reads
            == groups.reads
            == [(i, i + 10) for i in range(50, 100, 10)]
        )

    def test_the_reference_takes_few_rows(self) -> None:
        train = Watched(np.ones((10_000, 2)), read_rows=1000)
        work = work_of(side_of(normal(5, 2)), side_of(train), [1.0])
        np.testing.assert_array_equal(find_reference(work.train, work.task), [1, 1])
        assert train.reads == [(0, 256)]

    def test_small_chunks_of_a_dask_array_are_read_together(self, monkeypatch) -> None:
        chunks = (10,) * 20 + (0, 100, 3)
        array = da.ones((303, 3), chunks=(chunks, 3))
        assert DaskSource(array).cuts(5, 290) == [5, 290]
        monkeypatch.setattr("dkde.rows.row_source.READ_BYTES", 45 * 24)  # forty-five rows
        source = DaskSource(array)
        assert source.cuts(0, 303) == [0, 40, 80, 120, 160, 200, 300, 303]
        assert source.read_rows == 100

    def test_a_dask_array_computes_only_the_chunks_that_are_asked_for(self, monkeypatch) -> None:
        monkeypatch.setattr("dkde.rows.row_source.READ_BYTES", 1)
        computed = []

        def load(block_info: Any = None) -> Array:
            computed.append(block_info[None]["chunk-location"][0])
            return np.ones((10, 3))

        array = da.map_blocks(load, chunks=((10,) * 20, (3,)), meta=np.empty((0, 0)))
        source = DaskSource(array)
        assert computed == []
        assert source.cuts(45, 75) == [45, 50, 60, 70, 75]
        assert source.read(50, 60).shape == (10, 3)
        assert computed == [5]
        assert source.read(55, 75).shape == (20, 3)
        assert sorted(computed[1:]) == [5, 6, 7]

    def test_a_dask_array_cut_along_features_is_read_whole_rows(self) -> None:
        array = np.arange(60.0).reshape(10, 6)
        source = DaskSource(da.from_array(array, chunks=(4, 2)))
        assert source.read_rows == 10
        np.testing.assert_array_equal(source.read(3, 9), array[3:9])


class TestReadAhead:
    def test_results_come_in_order_the_next_read_while_one_is_used(self) -> None:
        log: list[str] = []
        threads = set()

        def read(i: int) -> int:
            log.append(f"read {i}")
            threads.add(get_ident())
            return i

        results = []
        for i in read_ahead(lambda i=i: read(i) for i in range(4)):
            results.append(i)
        assert results == [0, 1, 2, 3]
        assert log == [f"read {i}" for i in range(4)]
        assert get_ident() not in threads

    def test_no_more_than_one_isread_ahead(self) -> None:
        begun = 0

        def calls() -> Iterator[Any]:
            nonlocal begun
            for _ in range(10):
                begun += 1
                yield lambda: None

        for used, _ in enumerate(read_ahead(calls()), start=1):
            assert begun <= used + 1

    def test_an_error_comes_where_its_result_would(self) -> None:
        def fail() -> int:
            raise OSError("gone")

        ahead = read_ahead([lambda: 1, fail, lambda: 3])
        assert next(ahead) == 1
        with pytest.raises(OSError, match="gone"):
            next(ahead)

    def test_nothing_to_read(self) -> None:
        assert list(read_ahead([])) == []
