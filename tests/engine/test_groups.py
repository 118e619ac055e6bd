"""Sums over groups of leaves in blocks: when they are chosen, and that shares do not matter."""

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import reference
from work import side_of, work_of

from dkde.engine import group_survey
from dkde.engine.blocks import join_shares, score_share
from dkde.engine.group_survey import group_costs, in_groups
from dkde.engine.leaf_estimate import answers
from dkde.engine.task import GroupCost, Survey
from dkde.engine.work import Work
from dkde.numerics.kernels import get_kernel
from dkde.numerics.sphere import unit_vectors

# Compiling this walk takes long, and only very large calls use it.
pytestmark = pytest.mark.slow

Array = npt.NDArray[Any]


def belt(n: int, seed: int = 0) -> Array:
    """Unit vectors of places near a line that goes far around the sphere."""
    rng = np.random.default_rng(seed)
    along = rng.uniform(size=n)
    latitudes = 45 - 65 * along + rng.normal(0, 2, n)
    return unit_vectors(latitudes, 140 + 50 * along + rng.normal(0, 2, n))


def whole_sphere(n: int) -> Array:
    latitudes, longitudes = np.meshgrid(np.linspace(-89, 89, n), np.linspace(-179, 179, 2 * n))
    return unit_vectors(latitudes.ravel(), longitudes.ravel())


def grouped(work: Work, at: tuple[int, ...], by_cells: tuple[int, ...] = ()) -> Survey:
    costs = {k: GroupCost(1e9, 0.5) for k in at}
    return replace(work.survey(), by_cells=by_cells, by_groups=costs)


def partial(work: Work, survey: Survey, n_shares: int = 1) -> Array:
    panel = work.plan.panel(0)
    rows = work.plan.query_block(0)
    parts = [
        score_share(work.query, work.train, work.task, survey, rows, panel, (i, n_shares))
        for i in range(n_shares)
    ]
    return join_shares(parts, rows[1])


@pytest.mark.parametrize("by_cells", [(), (0, 1, 2)])
def test_blocks_give_what_the_formula_says(by_cells: tuple[int, ...]) -> None:
    query, train = whole_sphere(30), belt(9000)
    query[3] = np.nan
    bandwidths = np.array([0.3, 0.08, 0.01])
    work = work_of(side_of(query), side_of(train), bandwidths)
    rows = replace(work.query.rows, drops_missing=True)
    work = replace(work, query=replace(work.query, rows=rows))
    found = work.densities([partial(work, grouped(work, (0, 1), by_cells))])
    some = np.delete(np.arange(0, len(query), 150), 0)
    expected = reference.log_density(query[some], train, bandwidths)
    error = np.abs(found.values[:, some] - expected)
    assert (error <= found.errors[:, some] + 1e-14 * np.abs(expected)).all()
    assert np.isnan(found.values[:, 3]).all()


def test_shares_do_not_matter() -> None:
    work = work_of(side_of(whole_sphere(80)), side_of(belt(9000)), [0.2, 0.1])
    survey = grouped(work, (0,))
    one = partial(work, survey)
    for n_shares in (2, 7):
        np.testing.assert_array_equal(partial(work, survey, n_shares), one)


def test_they_are_chosen_where_very_many_rows_matter(monkeypatch: Any) -> None:
    query, train = side_of(whole_sphere(60)), side_of(belt(20_000))
    work = work_of(query, train, [1.0, 0.08, 1e-5])
    task = replace(work.task, kernel=get_kernel("vonmises_fisher"), tol=1e-6)
    reference_row = work.survey().reference
    costs = group_costs(query, train, task, reference_row, 20_000)
    assert in_groups(costs, (7200, 20_000), 3) == [None] * 3  # pairs take no longer than to compile
    # As if there were as many rows as in a large map.
    monkeypatch.setattr(group_survey, "_sizes", lambda *_: (10**6, 8 * 10**6))
    costs = group_costs(query, train, task, reference_row, 20_000)
    chosen = in_groups(costs, (10**6, 8 * 10**6), 3)
    assert [cost is not None for cost in chosen] == [True, True, False]


def test_groups_of_rows_and_strict_tolerances_take_pairs() -> None:
    query, train = side_of(whole_sphere(30)), side_of(belt(9000))
    work = work_of(query, train, [0.08])
    reference_row = work.survey().reference
    task = replace(work.task, tol=1e-12)
    assert group_costs(query, train, task, reference_row, 9000) == [None]
    apart = side_of(whole_sphere(30), groups=np.zeros(1800, np.int64))
    assert group_costs(apart, train, work.task, reference_row, 9000) == [None]


def test_a_plan_counts_them() -> None:
    work = work_of(side_of(whole_sphere(60)), side_of(belt(9000)), [0.3, 0.08])
    found = answers(work, grouped(work, (0,)))
    assert found.seconds > 1
    assert 0.2 < found.moments < 0.3
    assert sum(found.shares.values()) == pytest.approx(1)
    assert grouped(work, (0, 1)).method == "groups of near leaves"
