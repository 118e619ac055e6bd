"""Groups of leaves against extended precision: sums, their bounds, and when they are used."""

import inspect
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from strategies import Problem
from summing import walked

from dkde.numerics import leaf_sums
from dkde.numerics.tree import make_query
from dkde.numerics.tree_nodes import UNIT_LEAVES, units

# Compiling this walk takes long, and only very large calls use it.
pytestmark = pytest.mark.slow

Array = npt.NDArray[Any]


def normal(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).normal(size=shape)


def exact(problem: Problem, rows: Array) -> Array:
    """Log-densities of some rows, in extended precision."""
    train, (h,) = problem.train.astype(np.longdouble), problem.bandwidths
    weights = np.ones(len(train)) if problem.weights is None else problem.weights
    found = []
    for row in rows:
        d2 = ((problem.query[row].astype(np.longdouble) - train) ** 2).sum(axis=1)
        counts = np.ones(len(train), np.bool_)
        if problem.query_groups is not None:
            assert problem.train_groups is not None
            counts = problem.train_groups != problem.query_groups[row]
        mass = weights[counts].astype(np.longdouble)
        terms = np.log(mass) - d2[counts] / (2 * np.longdouble(h) ** 2)
        top = terms.max()
        log_sum = np.log(np.exp(terms - top).sum()) + top - np.log(mass.sum())
        found.append(float(log_sum - train.shape[1] * (np.log(h) + 0.5 * np.log(2 * np.pi))))
    return np.array(found)


def assert_right(problem: Problem, tol: float, n_rows: int = 12, **options: Any) -> float:
    """Check bounds and the tolerance; return the share of the pairs that were computed."""
    found = walked(problem, tol=tol, in_groups=True, **options)
    rows = np.linspace(0, len(problem.query) - 1, n_rows).astype(int)
    expected = exact(problem, rows)
    off = np.abs(found.values[0, rows] - expected)
    rounded = 2e-16 * np.abs(expected)
    assert (off <= found.errors[0, rows] + rounded).all(), (off - found.errors[0, rows]).max()
    assert (found.errors[0, rows] <= tol * np.maximum(1, np.abs(expected))).all()
    return float(found.effort.pairs.mean() / len(problem.train))


class TestSums:
    @pytest.mark.parametrize("d", [1, 2, 3])
    @pytest.mark.parametrize("tol", [1e-3, 1e-6, 1e-9])
    def test_bandwidths_from_narrow_to_wide(self, d: int, tol: float) -> None:
        train, query = normal(3000, d, seed=d), normal(400, d, seed=d + 1)
        for h in (0.02, 0.3, 2.0, 1000.0):
            share = assert_right(Problem(query, train, np.array([h])), tol)
            if h >= 2 * d * d:
                assert share < 0.2

    def test_more_units_than_one(self) -> None:
        train, query = normal(20_000, 2), 2 * normal(9_000, 2, seed=1)
        assert assert_right(Problem(query, train, np.array([0.5])), 1e-6) < 0.05

    def test_a_sphere(self) -> None:
        train = normal(20_000, 3) * [1, 0.2, 0.2]
        query = normal(6_000, 3, seed=1)
        for rows in (train, query):
            rows /= np.linalg.norm(rows, axis=1)[:, None]
        assert assert_right(Problem(query, train, np.array([0.2])), 1e-6, 40) < 0.3

    @pytest.mark.parametrize("distance", [10.0, 30.0, 1e3, 1e6])
    def test_far_queries(self, distance: float) -> None:
        query = distance + 0.1 * normal(128, 2, seed=1)
        assert_right(Problem(query, normal(3000, 2), np.array([1.0])), 1e-6)

    def test_one_far_row(self) -> None:
        train, query = normal(3000, 2), normal(200, 2, seed=1)
        train[0] = query[0] = 1e6
        assert_right(Problem(query, train, np.array([1.0])), 1e-6)

    @pytest.mark.parametrize("h", [2.0, 50.0])
    def test_weights_over_300_decades(self, h: float) -> None:
        weights = 10.0 ** np.random.default_rng(0).uniform(-300, 0, 2000)
        problem = Problem(normal(130, 2, seed=1), normal(2000, 2), np.array([h]), weights)
        assert_right(problem, 1e-6)

    @pytest.mark.parametrize("unit", [1e-140, 1e-30, 1e30, 1e140])
    def test_units_do_not_matter(self, unit: float) -> None:
        train, query = unit * normal(2000, 3), unit * normal(200, 3, seed=1)
        assert assert_right(Problem(query, train, unit * np.array([9.0])), 1e-6) < 0.2

    def test_equal_rows(self) -> None:
        train, query = np.full((1000, 3), 2.5), np.full((70, 3), 2.0)
        for h in (0.3, 1.0):
            assert_right(Problem(query, train, np.array([h])), 1e-9)

    @pytest.mark.parametrize("seed", [0, 1, 5, 7])
    def test_rows_on_a_line_and_a_billionth_beside_it(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        angle = rng.uniform(0, np.pi / 2)
        turned = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
        query = rng.uniform(-1, 1, (2, 2000)).T * [1, 1e-9]
        beside = np.where(rng.uniform(size=3000) < 0.7, -1.0, 1.0)
        train = np.stack([rng.uniform(-0.1, 0.1, 3000), beside], axis=1)
        assert_right(Problem(query @ turned, train @ turned, np.array([1.0])), 1e-10, 50)

    @pytest.mark.parametrize("n_groups", [4, 10_000])
    def test_own_rows_do_not_count(self, n_groups: int) -> None:
        n = 10_000
        rows = normal(n, 2)
        groups = np.empty(n, np.int64)
        groups[np.argsort(rows[:, 0])] = np.arange(n) * n_groups // n
        problem = Problem(rows[::10], rows, np.array([5.0]), None, groups[::10], groups)
        assert assert_right(problem, 1e-6) < 0.5

    def test_several_panels_and_trees(self) -> None:
        train, query = normal(3000, 2), 3 * normal(300, 2, seed=1)
        problem = Problem(query, train, np.array([1.0]), train_borders=(0, 700, 1500, 3000))
        assert_right(problem, 1e-6, panels=3)
        assert_right(problem, 1e-6, together=True)

    @pytest.mark.slow
    def test_many(self) -> None:
        rng = np.random.default_rng(5)
        for _ in range(400):
            d = int(rng.integers(1, 4))
            scales = 10.0 ** rng.uniform(-2, 0, d)
            train = rng.normal(size=(int(rng.integers(200, 6000)), d)) * scales
            query = rng.normal(size=(int(rng.integers(4, 2000)), d)) * scales
            query += rng.choice([0.0, 1.0, 10.0, 300.0]) * rng.normal(size=d)
            weights = None if rng.uniform() < 0.5 else 10.0 ** rng.uniform(-9, 0, len(train))
            h = 10.0 ** rng.uniform(-2, 2)
            problem = Problem(query, train, np.array([h]), weights)
            assert_right(problem, 10.0 ** rng.uniform(-9, -2), 8)


@pytest.mark.parametrize("n_shares", [2, 5, 40])
def test_shares_do_not_matter(n_shares: int) -> None:
    problem = Problem(normal(9000, 3), normal(3000, 3, seed=1), np.array([0.7]))
    one = walked(problem, tol=1e-6, in_groups=True)
    several = walked(problem, tol=1e-6, in_groups=True, n_shares=n_shares)
    np.testing.assert_array_equal(one.stacked(), several.stacked())


@pytest.mark.parametrize("n_leaves", [1, 2, 63, 64, 65, 127, 1013, 4097])
def test_units_are_what_lies_together(n_leaves: int) -> None:
    counts = np.diff(units(n_leaves))
    assert counts.sum() == n_leaves
    assert counts.max() <= UNIT_LEAVES
    assert n_leaves <= UNIT_LEAVES or counts.min() >= UNIT_LEAVES // 2


def test_shares_of_units_have_all_leaves_once() -> None:
    leaves = make_query(normal(20_000, 2))
    orders = [leaves.share_of_units(i, 3).order for i in range(3)]
    np.testing.assert_array_equal(np.sort(np.concatenate(orders)), np.arange(20_000))


def test_a_bound_of_another_truncation_would_be_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = Problem(normal(640, 3), normal(20_000, 3, seed=1), np.array([2.0]))
    rows = np.arange(0, 640, 16)
    expected, walk = exact(problem, rows), leaf_sums.group_walk
    place = list(inspect.signature(walk.py_func).parameters).index("allowed")

    def beyond(factor: float) -> Array:
        """Walk with a truncation for another share of the sums; return the rows out of bounds."""

        def other(*args: Any) -> None:
            walk(*args[:place], factor * args[place], *args[place + 1 :])

        monkeypatch.setattr(leaf_sums, "group_walk", other)
        found = walked(problem, tol=1e-9, in_groups=True)
        assert found.effort.pairs.mean() < 0.5 * len(problem.train)  # groups were of use
        # The bound is that of the tolerance, whatever the walk does.
        assert (found.errors[0, rows] <= 1e-9 * np.maximum(1, np.abs(expected))).all()
        return np.abs(found.values[0, rows] - expected) > found.errors[0, rows]

    assert not beyond(1.0).any()
    assert beyond(1e9).mean() > 0.5
