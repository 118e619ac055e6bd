"""Whether the regions of chunks tell anything, and bounds for whole leaves of query rows."""

from collections.abc import Callable
from dataclasses import replace

import dask.array as da
import numpy as np
import pytest
from scipy.spatial.distance import cdist
from work import Array, dask_source, side_of, work_of

import dkde
from dkde.engine.reads import Reads
from dkde.engine.survey import make_survey
from dkde.engine.work import Work
from dkde.numerics.regions import enclose, stack
from dkde.numerics.summaries import Summaries
from dkde.numerics.tree import make_query
from dkde.rows.dask_source import DaskSource
from dkde.typing import FloatArray

CHUNK = 500


def mixture(n_rows: int, seed: int) -> FloatArray:
    """Rows of six clusters, in random order."""
    centres = np.random.default_rng(0).uniform(-10, 10, (6, 3))
    rng = np.random.default_rng(seed)
    return centres[rng.integers(0, 6, n_rows)] + rng.standard_normal((n_rows, 3))


def along_an_axis(x: FloatArray) -> FloatArray:
    return x[np.argsort(x[:, 0])]


def half(x: FloatArray) -> FloatArray:
    return np.concatenate([along_an_axis(x[: len(x) // 2]), x[len(x) // 2 :]])


def as_it_is(x: FloatArray) -> FloatArray:
    return x


def known_of(x: Array) -> Summaries:
    chunks = stack([enclose(x[a : a + CHUNK]) for a in range(0, len(x), CHUNK)])
    return Summaries(np.arange(0, len(x) + 1, CHUNK), (chunks,), x[::64], 0.0)


def is_used(work: Work, known: Summaries) -> bool:
    return make_survey(*work.surveyed[:-1], known).summaries is not None


@pytest.mark.parametrize(
    ("ordered", "used"), [(as_it_is, False), (along_an_axis, True), (half, True)]
)
@pytest.mark.parametrize("kind", ["memory", "dask", "integers"])
def test_regions_are_used_where_some_chunks_do_not_matter(
    ordered: Callable[[FloatArray], FloatArray], used: bool, kind: str
) -> None:
    train, query = ordered(mixture(20_000, 1)), mixture(1000, 2)
    known, scale = known_of(train), 1.0
    if kind == "integers":
        scale = 2.0**-10
        train, query = (np.rint(x / scale).astype(np.int16) for x in (train, query))
    rows = dask_source(query, 100) if kind == "dask" else query
    work = work_of(side_of(rows, scale=scale), side_of(train, scale=scale), [0.1])
    assert work.task.integer == (kind == "integers")
    assert is_used(work, known) == used


@pytest.mark.parametrize(
    ("ordered", "least", "most"), [(along_an_axis, 0, 0.4), (as_it_is, 0.8, 1)]
)
def test_the_share_that_a_query_block_reads(
    ordered: Callable[[FloatArray], FloatArray], least: float, most: float
) -> None:
    train, query = along_an_axis(mixture(20_000, 1)), ordered(mixture(1000, 2))
    work = work_of(side_of(query), side_of(train), [0.1], query_rows=125)
    share = make_survey(*work.surveyed[:-1], known_of(train)).share_read
    assert least < share <= most


def test_query_rows_that_are_yet_to_be_computed_are_not_computed_for_regions() -> None:
    train = mixture(20_000, 1)

    def fail(block: Array) -> Array:
        raise RuntimeError("computed")

    query = da.zeros((1000, 3), chunks=(100, 3)).map_blocks(fail, meta=np.empty((0, 3)))
    work = work_of(side_of(DaskSource(query)), side_of(train), [0.1])
    assert not is_used(work, known_of(train))


def test_wide_bandwidths_use_no_regions_and_absolute_tolerances_may() -> None:
    train = along_an_axis(mixture(20_000, 1))
    work = work_of(side_of(mixture(1000, 2)), side_of(train), [0.1])
    wide = replace(work.task, bandwidths=np.array([0.1, 50.0]))
    assert not is_used(replace(work, task=wide), known_of(train))
    cut = replace(wide, atol=1e3)  # more than any density
    assert is_used(replace(work, task=cut), known_of(train))


@pytest.mark.parametrize("offset", [0.0, 1e6])
def test_bounds_of_leaves_hold_for_all_of_their_rows(
    offset: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dkde.engine.reads._WORTH_READING", 1)  # chunk by chunk
    train, query = along_an_axis(mixture(3000, 1)) + offset, mixture(4200, 2) + offset
    work = work_of(side_of(query), side_of(train), [0.1])
    leaves = make_query(query)
    found = Reads.of(
        work.train.rows, (0, 3000), work.task, known_of(train), query, leaves=leaves.order
    )
    assert found.bounds is not None
    assert found.run_of is not None
    assert found.nearest is not None
    assert found.bounds.shape == (leaves.n_leaves, 3000 // CHUNK)
    squared = cdist(query, train, "sqeuclidean")
    for i, (a, b) in enumerate(found.ranges):
        assert (found.bounds[found.run_of, i] <= squared[:, a:b].min(axis=1)).all()
    assert (found.nearest >= squared.min(axis=1)).all()
    assert np.median(found.nearest) < 20
    assert (found.bounds > 0.25).mean() > 0.3


def test_rows_in_random_order_give_the_same_bits_with_an_index_and_without(tmp_path) -> None:
    np.save(tmp_path / "train.npy", mixture(20_000, 1))
    np.save(tmp_path / "query.npy", mixture(300, 2))
    found = []
    for name, index in (("indexed", True), ("bare", False)):
        dkde.import_dataset(tmp_path / "train.npy", tmp_path / name, index=index)
        call = {"query": f"{tmp_path}/query.npy", "train": f"{tmp_path / name}::train"}
        found.append(dkde.score(**call, bandwidth=0.3).log_density.values)
    np.testing.assert_array_equal(*found)


def test_a_plan_has_room_with_regions_and_without_until_the_survey_knows() -> None:
    work = work_of(side_of(mixture(5000, 2)), side_of(mixture(20_000, 1)), [0.1])
    size = replace(
        work.plan.train, index_bytes=10_000, resident_bytes=0, is_view=False, is_held=False
    )
    plan = replace(work.plan, train=size)
    both = [plan.knowing_regions(each) for each in (True, False)]
    for threads in (1, 8):
        assert plan.worker_bytes(threads) == max(each.worker_bytes(threads) for each in both)
    assert both[1].train.index_bytes == 0
    # Workers of one thread may have whole blocks.
    assert both[1].worker_bytes(1) >= replace(both[1], n_shares=1).worker_bytes(1)
