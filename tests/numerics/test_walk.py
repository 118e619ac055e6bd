"""The walk against the oracle: sums, their bounds, and what is left out."""

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import reference
from contract import assert_within
from examples import few
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import Problem, problems
from summing import walked

from dkde.numerics.bounds import stretch
from dkde.numerics.frame import Frame
from dkde.numerics.kernels import KERNELS
from dkde.numerics.metrics import METRICS
from dkde.numerics.tolerance import LEAST_TOL

Array = npt.NDArray[Any]

FEW: dict[str, Any] = {"max_query": 6, "max_train": 400, "max_features": 64}
# Of the oracle: its answers are rounded to float64, and integrals over compact kernels taken to
# 1e-12.
ROUNDED, INTEGRATED = 2e-16, 2e-12


def normal(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).normal(size=shape)


def mixture(n: int, d: int, seed: int) -> Array:
    """Rows of twelve clusters of different widths."""
    rng = np.random.default_rng(7)
    centres, widths = rng.normal(0, 3, (12, d)), rng.uniform(0.3, 1.2, (12, 1))
    rng = np.random.default_rng(seed)
    which = rng.integers(0, 12, n)
    return centres[which] + widths[which] * rng.normal(size=(n, d))


def assert_covered(problem: Problem, **options: Any) -> None:
    """No error is above its bound, and there is no density that should not be."""
    values, errors, _ = walked(problem, **options)
    compact = problem.kernel in reference.COMPACT
    within = 0.0
    if compact:  # bounds hold of a bandwidth that near to the one given
        zeros = np.zeros(problem.train.shape[1])
        within = stretch(Frame(zeros, 1.0, problem.is_integer, "float64"))
    low, high = problem.expected(-within), problem.expected(within)
    np.testing.assert_array_equal(np.isnan(values), np.isnan(low))
    np.testing.assert_array_equal(np.isnan(errors), np.isnan(values))
    zero = np.isneginf(values)
    assert np.isneginf(low[zero]).all()
    assert (errors[zero] == 0).all()
    known = np.isfinite(values)
    assert not np.isneginf(high[known]).any()
    with np.errstate(invalid="ignore"):
        off = np.maximum(low[known] - values[known], values[known] - high[known])
    off -= ROUNDED * np.abs(values[known]) + (INTEGRATED if compact else 0.0)
    wrong = ~(off <= errors[known])
    assert not wrong.any(), f"wrong by {off[wrong][:3]}, bounds {errors[known][wrong][:3]}"


class TestCovered:
    """No error is above its bound."""

    @settings(max_examples=few(60))
    @given(problem=problems(kernels=tuple(KERNELS), **FEW))
    def test_every_kernel(self, problem: Problem) -> None:
        assert_covered(problem, panels=len(problem.train_ranges))

    @settings(max_examples=few(40))
    @given(problem=problems(kernels=("univariate_gaussian",), metrics=tuple(METRICS), **FEW))
    def test_every_metric(self, problem: Problem) -> None:
        assert_covered(problem)

    @settings(max_examples=few(60))
    @given(problem=problems(kernels=tuple(KERNELS), **FEW), share=st.floats(0, 1))
    def test_every_tolerance(self, problem: Problem, share: float) -> None:
        least = LEAST_TOL["float64"]
        assert_covered(problem, tol=float(least * (0.9 / least) ** share))

    @settings(max_examples=few(30))
    @given(problem=problems(kernels=tuple(KERNELS), **FEW))
    def test_several_trees_in_one_sum(self, problem: Problem) -> None:
        assert_covered(replace(problem, weights=None), together=True, tol=1e-3)

    @settings(max_examples=few(40))
    @given(problem=problems(kernels=("gaussian", "exponential"), **FEW))
    def test_bounds_are_within_the_contract(self, problem: Problem) -> None:
        values, errors, _ = walked(problem)
        assert_within(values, problem.expected())
        known = np.isfinite(values)
        largest = np.maximum(1, np.maximum(np.abs(values), problem.exponents()))[known]
        assert (errors[known] <= 1e-9 * largest).all()

    @pytest.mark.slow
    @settings(max_examples=few(300))
    @given(
        problem=problems(kernels=tuple(KERNELS), max_query=70, max_train=1500, max_features=96),
        share=st.floats(0, 1),
    )
    def test_many(self, problem: Problem, share: float) -> None:
        least = LEAST_TOL["float64"]
        assert_covered(problem, tol=float(least * (0.9 / least) ** share))


def exact_sums(query: Array, train: Array, h: float, counts: Array | None = None) -> Array:
    """Log-densities of a Gaussian in extended precision, far faster than the oracle's loop."""
    values = []
    for i, row in enumerate(query.astype(np.longdouble)):
        d2 = ((row - train.astype(np.longdouble)) ** 2).sum(axis=1) / (2 * np.longdouble(h) ** 2)
        if counts is not None:
            d2 = d2[counts[i]]
        values.append(np.log(np.exp(d2.min() - d2).sum() / len(d2)) - d2.min())
    d = train.shape[1]
    return np.array(values, float) - d * (np.log(h) + 0.5 * np.log(2 * np.pi))


class TestLeftOut:
    """Thousands of rows, of which few matter."""

    @pytest.mark.sampled(6)
    @pytest.mark.parametrize("d", [1, 2, 3, 5, 8, 12, 30, 68])
    @pytest.mark.parametrize("tol", [1e-9, 1e-3])
    def test_what_matters_is_there(self, d: int, tol: float) -> None:
        train, query = mixture(6000, d, 1), mixture(60, d, 2)
        found = walked(Problem(query, train, np.array([0.2])), tol=tol)
        off = np.abs(found.values[0] - exact_sums(query, train, 0.2))
        assert (off <= found.errors[0]).all()
        assert found.effort.pairs.mean() < 0.6 * len(train)

    @pytest.mark.slow
    def test_far_queries_cost_the_leaves_nearest_to_them(self) -> None:
        train, query = normal(20_000, 2), 1e6 + normal(64, 2, seed=1)
        found = walked(Problem(query, train, np.array([1.0])))
        off = np.abs(found.values[0] - exact_sums(query, train, 1.0))
        assert (off <= found.errors[0]).all()
        assert found.effort.pairs.mean() < 0.2 * len(train)

    def test_a_fold_that_is_a_cluster_is_passed_over(self) -> None:
        centres = 50 * normal(4, 3, seed=3)
        groups = np.repeat(np.arange(4), 3000)
        rows = centres[groups] + normal(12_000, 3)
        some = np.arange(0, 12_000, 15)
        problem = Problem(rows[some], rows, np.array([1.0]), None, groups[some], groups)
        found = walked(problem)
        few = slice(None, None, 20)
        counts = groups[some][few, None] != groups
        off = np.abs(found.values[0, few] - exact_sums(rows[some][few], rows, 1.0, counts))
        assert (off <= found.errors[0, few]).all()
        # A quarter of the rows are of a row's own group, and nearer than all that count.
        assert found.effort.pairs.mean() < 0.15 * len(rows)

    def test_leave_one_out_costs_what_the_plain_sum_does(self) -> None:
        rows, own = mixture(4000, 3, 1), np.arange(4000)
        plain = Problem(rows[::20], rows, np.array([0.1, 0.3]))
        apart = replace(plain, query_groups=own[::20], train_groups=own)
        found, usual = walked(apart), walked(plain)
        assert found.effort.pairs.mean() < 1.2 * usual.effort.pairs.mean()
        counts = own[::20, None] != own
        off = np.abs(found.values[1] - exact_sums(rows[::20], rows, 0.3, counts))
        assert (off <= found.errors[1]).all()


class TestHard:
    """Rows, weights and bandwidths that a walk might stumble over."""

    @pytest.mark.sampled(15)
    @pytest.mark.parametrize("kernel", sorted(KERNELS))
    @pytest.mark.parametrize(
        "rows",
        [
            np.full((700, 3), 2.5),
            np.stack(np.meshgrid(*[np.arange(6.0)] * 3), -1).reshape(-1, 3),
            np.concatenate([normal(300, 3), [[1e200**0.5, 0, 0]]]),
            np.outer(np.linspace(-2, 2, 300), [1.0, 2, 3]),
            normal(300, 1),
            normal(1, 3),
            normal(129, 3),
        ],
        ids=["equal", "lattice", "one far", "collinear", "line", "one", "129"],
    )
    def test_rows(self, kernel: str, rows: Array) -> None:
        query = np.concatenate([rows[:3], rows[-1:], rows[:2] + 0.3])
        assert_covered(Problem(query, rows, np.array([0.4, 1.0, 30.0]), kernel=kernel))

    @pytest.mark.parametrize("kernel", ["gaussian", "exponential", "cosine"])
    def test_weights_over_300_decades(self, kernel: str) -> None:
        weights = 10.0 ** np.random.default_rng(0).uniform(-300, 0, 300)
        problem = Problem(normal(5, 2, seed=1), normal(300, 2), np.array([0.3, 3.0]), weights)
        assert_covered(replace(problem, kernel=kernel))

    @pytest.mark.sampled(5)
    @pytest.mark.parametrize("kernel", sorted(KERNELS))
    def test_bandwidths_over_12_decades_in_one_call(self, kernel: str) -> None:
        bandwidths = 10.0 ** np.arange(-6.0, 7)[::-1]
        problem = Problem(mixture(4, 3, 1), mixture(500, 3, 2), bandwidths, kernel=kernel)
        assert_covered(problem)
        together = walked(problem)
        for k in (0, 5, 12):
            alone = walked(replace(problem, bandwidths=bandwidths[k : k + 1]))
            np.testing.assert_allclose(together.values[k], alone.values[0], rtol=1e-9)

    @pytest.mark.parametrize("kernel", ["gaussian", "exponential"])
    @pytest.mark.parametrize("distance", [1e6, 1e14, 1e140])
    def test_queries_far_away(self, kernel: str, distance: float) -> None:
        query = distance * np.random.default_rng(0).uniform(0.5, 1, (9, 2))
        assert_covered(Problem(query, normal(300, 2), np.array([0.7, 1.0]), kernel=kernel))

    @pytest.mark.parametrize("power", [-140, -30, 30, 140])
    @pytest.mark.parametrize("kernel", sorted(KERNELS))
    def test_units_do_not_matter(self, kernel: str, power: int) -> None:
        unit = 10.0**power
        h = unit * np.array([0.3, 2.0])
        problem = Problem(unit * normal(3, 5), unit * normal(200, 5, seed=1), h, kernel=kernel)
        assert_covered(problem)

    def test_a_square_of_bandwidths_that_overflows(self) -> None:
        # 1e80 apart at h = 1e-80: the squared scaled distance is 1e320.
        query, train = np.array([[1e80], [0.0]]), np.array([[0.0], [3e80]])
        for kernel in ("gaussian", "exponential"):
            found = walked(Problem(query, train, np.array([1e-80, 1e80]), kernel=kernel))
            assert np.isfinite(found.values[1]).all()
            assert not np.isnan(found.values).any()

    def test_no_pair_counts(self) -> None:
        groups = np.zeros(300, np.int64)
        rows = normal(300, 2)
        problem = Problem(rows[:2], rows, np.array([1.0]), None, np.array([0, 1]), groups)
        found = walked(problem)
        assert np.isnan(found.values[0, 0])
        assert np.isfinite(found.values[0, 1])

    def test_only_the_own_row_is_near(self) -> None:
        rows = np.concatenate([np.zeros((1, 2)), 1e4 + normal(500, 2)])
        own = np.arange(501)
        assert_covered(Problem(rows[:3], rows, np.array([1.0, 1e3]), None, own[:3], own))


class TestBits:
    """What must not depend on how the work is dealt out."""

    @pytest.mark.parametrize("kernel", ["gaussian", "biweight"])
    def test_shares_do_not_matter(self, kernel: str) -> None:
        if kernel not in KERNELS:
            pytest.skip("no such kernel yet")
        rows = mixture(1500, 3, 1)
        problem = Problem(rows, rows, np.array([0.1, 1.0]), kernel=kernel)
        one, eight = walked(problem), walked(problem, n_shares=8)
        np.testing.assert_array_equal(one.stacked(), eight.stacked())


@pytest.mark.slow
class TestMutations:
    """Rules that leave out more than they may break a bound somewhere: tests can tell."""

    @pytest.mark.parametrize("what", ["limits", "boxes"])
    def test_is_found_out(self, what: str, monkeypatch: pytest.MonkeyPatch) -> None:
        # Compiled code cannot be patched: what it is given is. Half a limit is a log(W / s) that
        # is halved; boxes that are narrower are farther apart.
        from dkde.numerics import leaf_sums, support_sums

        walk, support_walk = leaf_sums.walk, support_sums.support_walk

        def wrong_limits(code, metric, width, inverse, needed, *rest):  # type: ignore[no-untyped-def]
            walk(code, metric, width, inverse, needed / 2, *rest)

        def wrong_boxes(code, power, metric, width, inverse, query, tree, *rest):  # type: ignore[no-untyped-def]
            *some, low, high, code_low, code_high = tree
            middle, half = (low + high) / 2, (high - low) / 2
            tree = (*some, middle - 0.8 * half, middle + 0.8 * half, code_low, code_high)
            support_walk(code, power, metric, width, inverse, query, tree, *rest)

        train, query = mixture(20_000, 3, 1), mixture(4000, 3, 2)
        # A Gaussian loses little where boxes seem farther; at an edge whatever is lost counts.
        kernel = "gaussian" if what == "limits" else "tophat"
        problem = Problem(query, train, np.array([0.3]), kernel=kernel)
        right = walked(problem, tol=1e-9)
        monkeypatch.setattr(leaf_sums, "walk", wrong_limits)
        monkeypatch.setattr(support_sums, "support_walk", wrong_boxes)
        found = walked(problem, tol=1e-9)
        known = np.isfinite(right.values)
        off = np.abs(found.values[known] - right.values[known])
        assert (off > (found.errors + right.errors)[known]).any()
