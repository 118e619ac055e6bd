"""Moments of cells where pairs of one group do not count, against the oracle."""

from dataclasses import replace
from typing import Any

import globe
import numpy as np
import numpy.typing as npt
import pytest
import reference
from work import side_of

import dkde
from dkde.engine import grouped_cells
from dkde.engine.eager_run import run
from dkde.engine.grouped_cells import MOST_APART, MOST_OWN, few_groups
from dkde.engine.pool import thread_pool
from dkde.engine.task import Task
from dkde.engine.work import Work
from dkde.estimation.bandwidth_matrix import BandwidthMatrix
from dkde.estimation.covariance import Covariance
from dkde.estimation.options import Options
from dkde.numerics.cell_moments import CellMoments
from dkde.numerics.kernels import get_kernel
from dkde.numerics.logsum import Densities
from dkde.numerics.metrics import get_metric
from dkde.numerics.sphere import unit_vectors

Array = npt.NDArray[Any]
TOL = 1e-8
KINDS = ["normal", "clusters", "lattice", "one point", "far row", "collinear"]


def data(random: np.random.Generator, n: int, d: int, kind: str) -> Array:
    rows = random.standard_normal((n, d))
    if kind == "clusters":
        return rows * 0.05 + 40 * random.integers(0, 3, (n, 1))
    if kind == "lattice":
        return random.integers(-3, 4, (n, d)) * 0.5
    if kind == "one point":
        return np.repeat(rows[:1], n, axis=0)
    if kind == "far row":
        rows[0] = 1e7
    return rows[:, :1] * np.arange(1.0, d + 1) if kind == "collinear" else rows


def work(
    query: Array, train: Array, hs: Any, groups: tuple[Array, Array], weights: Any = None,
    **options: Any,
) -> Work:  # fmt: skip
    sides = side_of(query, groups=groups[0]), side_of(train, weights=weights, groups=groups[1])
    matrix = BandwidthMatrix(np.atleast_1d(np.asarray(hs, float)), Covariance(train.shape[1]))
    return Options(tol=TOL, **options).work(*sides, matrix)


def by_cells(planned: Work, n_groups: int) -> Densities:
    """By moments at all bandwidths, block by block."""
    every = tuple(range(len(planned.task.bandwidths)))
    survey = replace(planned.survey(), in_leaves=True, by_cells=every, n_groups=n_groups)
    plan = planned.plan
    blocks = [
        planned.densities((planned.block(survey, q, p) for p in range(plan.n_panels)), q).stacked()
        for q in range(plan.n_query_blocks)
    ]
    return Densities.of(np.concatenate(blocks, axis=1))


def assert_right(
    found: Densities, query: Array, train: Array, hs: Any, groups: Any, weights: Any = None
) -> None:
    exact = reference.log_density(query, train, hs, weights, groups[0], groups[1])
    none = np.isnan(exact)
    assert (np.isnan(found.values) == none).all()
    there = ~none & np.isfinite(exact)
    error = np.abs(found.values - exact)[there]
    assert (error <= found.errors[there] + 1e-14).all()
    assert (found.errors[there] <= TOL * np.maximum(1, np.abs(exact[there]))).all()


def assert_some_right(found: Densities, train: Array, hs: Any, groups: Array, some: slice) -> None:
    rows = Densities(found.values[:, some], found.errors[:, some], found.effort)
    assert_right(rows, train[some], train, hs, (groups[some], groups))


def grouping(random: np.random.Generator, n: int, how: str, rows: Array) -> Array:
    if how == "leave one out":
        return random.permutation(n) - 5
    if how == "few rows each":
        return random.integers(0, n // 2, n)
    if how == "folds":
        return random.integers(-2, 3, n)
    return np.argsort(np.argsort(rows[:, 0])) * 4 // n  # each fold apart from all others


HOW = [("leave one out", 1), ("few rows each", 1), ("folds", 5), ("folds", 1), ("ranges", 4)]


def assert_case_is_right(
    random: np.random.Generator, d: int, how: str, n_groups: int, kind: str, n: int
) -> None:
    weighted, apart = random.integers(0, 2, 2)
    train = data(random, n, d, kind)
    weights = np.exp(random.normal(0, 3, n)) * (random.random(n) < 0.9) if weighted else None
    if weights is not None:
        weights[:2] = 1e6, 1.0  # one that is more than all others
    groups = grouping(random, n, how, train)
    query, own = train, groups
    if apart:  # of other groups as well, which no training row is of
        query = train[::3] + 0.1
        own = np.where(random.random(len(query)) < 0.5, groups[::3], 10**9)
    hs = 10.0 ** random.uniform(-1.5, 1, 2)
    cut = {"block_rows": 50, "panel_rows": int(random.choice([20, 1000]))}
    planned = work(query, train, hs, (own, groups), weights, **cut)
    assert_right(by_cells(planned, n_groups), query, train, hs, (own, groups), weights)


@pytest.mark.sampled(3)
@pytest.mark.parametrize(("how", "n_groups"), HOW)
@pytest.mark.parametrize("d", [1, 2, 3])
def test_groups_equal_the_oracle(d: int, how: str, n_groups: int) -> None:
    random = np.random.default_rng([d, n_groups, len(how)])
    for kind in random.choice(KINDS, 2, replace=False):
        assert_case_is_right(random, d, how, n_groups, kind, int(random.integers(8, 30)))


@pytest.mark.slow
@pytest.mark.parametrize(("how", "n_groups"), HOW)
@pytest.mark.parametrize("d", [1, 2, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_groups_of_all_kinds_equal_the_oracle(kind: str, d: int, how: str, n_groups: int) -> None:
    random = np.random.default_rng([d, n_groups, len(how), KINDS.index(kind)])
    for _ in range(6):
        assert_case_is_right(random, d, how, n_groups, kind, int(random.integers(2, 130)))


def test_large_groups_are_not_taken_away_row_by_row() -> None:
    random = np.random.default_rng(0)
    train = random.standard_normal((400, 2))
    groups = np.where(np.arange(400) < MOST_OWN + 10, -1, np.arange(400))
    found = by_cells(work(train, train, [0.8], (groups, groups)), 1)
    assert_some_right(found, train, [0.8], groups, slice(MOST_OWN, MOST_OWN + 20))
    assert (found.effort.pairs[: MOST_OWN + 10] >= 100).all()
    assert np.median(found.effort.pairs[MOST_OWN + 10 :]) == 1


def test_more_groups_than_were_seen_are_left_to_pairs() -> None:
    random = np.random.default_rng(0)
    train, groups = random.standard_normal((300, 2)), np.arange(300) % (MOST_APART + 1)
    found = by_cells(work(train, train, [0.8], (groups, groups)), 5)
    assert_some_right(found, train, [0.8], groups, slice(10))
    assert (found.effort.pairs > 0).all()


def test_groups_of_no_training_row_are_summed_together(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(0)
    train, query = random.standard_normal((300, 2)), random.standard_normal((60, 2))
    groups = np.arange(60) + 3, np.arange(300) % 5
    calls: list[int] = []
    sums_at = grouped_cells.sums_at

    def counted(coordinates: Array, *arguments: Any, **options: Any) -> Any:
        calls.append(len(coordinates))
        return sums_at(coordinates, *arguments, **options)

    monkeypatch.setattr(grouped_cells, "sums_at", counted)
    found = by_cells(work(query, train, [0.8], groups), 5)
    assert_right(found, query, train, [0.8], groups)
    assert sorted(calls) == [1, 1, 58]  # of groups 3 and 4, and of those beyond


def test_rows_that_take_too_much_memory_are_left_to_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    train, groups = np.random.default_rng(0).standard_normal((300, 2)), np.arange(300)
    monkeypatch.setattr(grouped_cells, "_OWN_SHARE", 1e-9)
    found = by_cells(work(train, train, [0.8], (groups, groups)), 1)
    assert_some_right(found, train, [0.8], groups, slice(10))
    assert (found.effort.pairs > 1).all()


def test_only_the_bandwidths_that_fail_are_summed_again() -> None:
    train = np.random.default_rng(0).standard_normal((500, 2))
    query, groups = np.array([[0.0, 0.0], [4.5, 0.0]]), (np.array([0, 1]), np.arange(500))
    hs = [0.05, 2.0, 0.2]
    found = by_cells(work(query, train, hs, groups), 1)
    assert_right(found, query, train, hs, groups)
    wide = by_cells(work(query, train, [2.0], groups), 1)
    np.testing.assert_array_equal(found.values[1], wide.values[0])
    assert wide.effort.pairs.tolist() == [1, 1]


@pytest.mark.slow
def test_what_is_chosen_for_leave_one_out_and_for_folds() -> None:
    train = np.random.default_rng(0).standard_normal((20_000, 1))
    everyone, hs = np.arange(20_000), [0.5, 0.2]
    for groups, n_groups in ((everyone, 1), (everyone % 5, 5)):
        planned = work(train, train, hs, (groups, groups))
        survey = planned.survey()
        assert survey.by_cells == (0, 1)
        assert survey.n_groups == n_groups
        with thread_pool(2) as pool:
            found = run(planned, pool)
        assert_some_right(found, train, hs, groups, slice(1))
    groups = everyone % 100  # neither few groups nor few rows in each
    assert work(train, train, hs, (groups, groups)).survey().by_cells == ()


def test_few_groups_are_seen_in_a_sample() -> None:
    assert few_groups(np.zeros(1024, int), 10**6) == 2
    assert few_groups(np.arange(1024) % MOST_APART, 10**6) == MOST_APART
    assert few_groups(np.arange(1024), 10**9) == 1
    assert few_groups(np.arange(1024) // 2, 10**6) == 0
    assert few_groups(np.random.default_rng(0).integers(0, 10**5, 1024), 10**6) == 1
    assert few_groups(np.random.default_rng(0).integers(0, 1000, 1024), 10**6) == 0


def test_missing_values_are_left_out() -> None:
    train = np.random.default_rng(0).standard_normal((9000, 1))
    train[::7] = np.nan
    some, groups = np.arange(1, 4), np.arange(9000)
    there = ~np.isnan(train[:, 0])
    for own in (groups, groups % 5):
        found = dkde.log_density(
            train, train, 0.3, tol=TOL, nan="drop", groups=own, train_groups=own
        )
        exact = reference.log_density(train[some], train[there], [0.3], None, own[some], own[there])
        assert np.abs(found[some] - exact[0]).max() <= TOL * np.abs(exact).max()
        assert np.isnan(found[~there]).all()


@pytest.mark.parametrize("n_groups", [1, 5])
def test_no_bit_depends_on_threads_and_moments_are_made_once(
    n_groups: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    train = np.random.default_rng(0).standard_normal((50_000, 1))
    groups = np.arange(50_000) % 5 if n_groups > 1 else np.arange(50_000)
    made = []
    add = CellMoments.add
    monkeypatch.setattr(
        CellMoments, "add", lambda self, *given, **more: (made.append(1), add(self, *given, **more))
    )
    planned, found = work(train, train, [0.5, 0.1], (groups, groups)), []
    for n_threads in (1, 3):
        made.clear()
        with thread_pool(n_threads) as pool:
            found.append(run(planned, pool).stacked().tobytes())
        assert len(made) == 1
    assert found[0] == found[1]


@pytest.mark.parametrize("cell_tol", [TOL, 1e-13])
def test_places_at_the_poles_and_the_date_line(cell_tol: float) -> None:
    """Sums on the sphere are sums of chords in space: by moments too, as far as these reach."""
    random = np.random.default_rng(0)
    train = np.concatenate(
        [
            random.normal([89, 0], [1, 120], (60, 2)),
            random.normal([0, 180], 3, (60, 2)),
            random.normal([-90, 50], [2, 90], (60, 2)),
        ]
    )
    train[:, 0] = train[:, 0].clip(-90, 90)
    query = np.array([[90.0, 0], [90, 77], [-90, 0], [1, 179.9], [1, -179.9], [0, 0], [45, 90]])
    h = 0.08
    kernel, metric = get_kernel("vonmises_fisher"), get_metric("euclidean")
    task = Task(kernel, metric, np.array([h]), "float64", TOL, len(train), 1.0, False)
    sides = (side_of(unit_vectors(*each.T)) for each in (query, train))
    planned = Work.of(*sides, task)
    survey = replace(planned.survey(), in_leaves=True, by_cells=(0,), cell_tol=cell_tol)
    found = planned.densities([planned.block(survey, 0, 0)], 0)
    exact = globe.oracle(query, train, [h])
    error = np.abs(found.values - exact)
    assert (error <= found.errors + 1e-14).all()
    assert (found.errors <= TOL * np.maximum(1, np.abs(exact))).all()
    assert (found.effort.pairs[:5] == 0).sum() >= 3
    assert (found.effort.pairs[5:] > 0).all()
    assert found.values[0, 0] == found.values[0, 1]
