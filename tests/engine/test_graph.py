"""The lazy graph: nothing is computed before it is asked for, and then it is right."""

import time
from collections.abc import Iterator
from typing import Any

import dask
import dask.array as da
import numpy as np
import numpy.typing as npt
import pytest
import zarr
from contract import assert_within
from examples import few
from hypothesis import given, settings
from strategies import Problem, problems
from work import side_of, work_for, work_of
from zarr.storage import MemoryStore

from dkde.engine.graph import lazy_densities
from dkde.rows.dask_source import DaskSource
from dkde.rows.sources import ZarrSource

Array = npt.NDArray[Any]


def raise_if_computed(dsk: Any, keys: Any, **kwargs: Any) -> None:
    raise AssertionError("computed while the graph was built")


@pytest.fixture
def nothing_computes() -> Iterator[None]:
    with dask.config.set(scheduler=raise_if_computed):
        yield


def untouchable(rows: int, n_features: int, chunk_rows: int) -> da.Array:
    """Rows whose chunks fail, whatever the scheduler that computes them."""

    def fail(block: Array) -> Array:
        raise AssertionError("a chunk was computed while the graph was built")

    zeros = da.zeros((rows, n_features), chunks=(chunk_rows, n_features))
    return zeros.map_blocks(fail, meta=np.empty((0, 0)))


def small() -> Problem:
    rng = np.random.default_rng(0)
    return Problem(
        rng.normal(size=(23, 3)),
        rng.normal(size=(40, 3)),
        np.array([2.0, 0.1, 0.5]),
        rng.uniform(size=40),
        rng.integers(3, size=23),
        rng.integers(3, size=40),
    )


@pytest.mark.parametrize("scheduler", ["synchronous", "threads"])
@pytest.mark.parametrize("kind", ["array", "zarr", "dask"])
def test_equals_the_oracle(scheduler: str, kind: str) -> None:
    problem = small()
    lazy = lazy_densities(work_for(problem, kind, query_rows=10, panel_rows=15))[0]
    assert lazy.chunks == ((3,), (10, 10, 3))
    assert_within(lazy.compute(scheduler=scheduler), problem.expected())


@settings(max_examples=few(25))
@given(problems(max_query=15, max_features=64))
def test_equals_the_oracle_for_drawn_problems(problem: Problem) -> None:
    lazy = lazy_densities(work_for(problem, "dask", 13, query_rows=4, panel_rows=50))[0]
    assert_within(lazy.compute(scheduler="synchronous"), problem.expected())


def test_a_part_of_the_result_takes_only_its_blocks() -> None:
    problem = small()
    lazy = lazy_densities(work_for(problem, "zarr", query_rows=10, panel_rows=15))[0]
    assert_within(lazy[1:, 20:].compute(), problem.expected()[1:, 20:])
    (optimised,) = dask.optimize(lazy[:, 20:])
    blocks = [key for key in optimised.__dask_graph__() if "dkde-block" in str(key)]
    # One query range of three: its panels, fused into what merges them or not.
    assert len(blocks) <= 3


@pytest.mark.usefixtures("nothing_computes")
def test_building_computes_nothing() -> None:
    array = untouchable(50, 3, 10)
    work = work_of(side_of(DaskSource(array)), side_of(DaskSource(array)), [1.0], query_rows=20)
    lazy = lazy_densities(work)[0]
    assert lazy.shape == (1, 50)
    assert lazy.dtype == np.float64
    with pytest.raises(AssertionError, match="computed while"):
        lazy.compute()


@pytest.mark.usefixtures("nothing_computes")
@pytest.mark.parametrize("kind", ["zarr", "dask"])
def test_a_hundred_million_rows_are_built_at_once(kind: str) -> None:
    def source(rows: int) -> Any:
        if kind == "dask":
            return DaskSource(untouchable(rows, 100, 100_000))
        store = MemoryStore()
        return ZarrSource(
            zarr.create_array(store, shape=(rows, 100), chunks=(10_000, 100), dtype="f4")
        )

    query, train = source(10**8), source(10**5)
    start = time.perf_counter()
    lazy = lazy_densities(work_of(side_of(query), side_of(train), [0.1, 1.0]))[0]
    assert time.perf_counter() - start < 2
    assert lazy.shape == (2, 10**8)
    assert lazy.npartitions > 1000


def test_results_of_equal_work_have_one_name() -> None:
    def name(**options: Any) -> str:
        return lazy_densities(work_for(small(), **options))[0].name

    assert name(query_rows=10) == name(query_rows=10)
    assert name(query_rows=10) != name(query_rows=11)
    # Another precision is another result.
    assert name() != name(precision="float32")


def test_the_rows_are_in_no_task() -> None:
    problem = small()
    work = work_for(problem, query_rows=10, panel_rows=15)
    graph = dict(lazy_densities(work)[0].__dask_graph__())
    holding = [key for key, task in graph.items() if "dkde-work" in str(key) and task is not None]
    assert len(holding) == 1
    assert len(graph) < 30
