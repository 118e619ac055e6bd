"""Kernels of compact support: nodes inside the support, edges, and what sums may be off by."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import reference
from examples import few
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import Problem
from summing import walked

from dkde.numerics import support_sums
from dkde.numerics.bounds import stretch
from dkde.numerics.frame import Frame
from dkde.numerics.kernels import get_kernel
from dkde.numerics.tolerance import LEAST_TOL

Array = npt.NDArray[Any]
Number = np.longdouble

KERNELS = ("tophat", "epanechnikov", "biweight", "triweight")
ROUNDED, LEAST = 2e-16, LEAST_TOL["float64"]


def true_values(problem: Problem, longer: float) -> Array:
    """Log-densities in extended precision, all pairs at a time, in the volume of the bandwidths."""
    query, train = problem.query.astype(Number), problem.train.astype(Number)
    heavy = np.ones(len(train)) if problem.weights is None else problem.weights
    weights = np.broadcast_to(heavy.astype(Number), (len(query), len(train)))
    if problem.query_groups is not None:
        assert problem.train_groups is not None
        weights = weights * (problem.query_groups[:, None] != problem.train_groups)
    distances = np.sqrt(((query[:, None] - train) ** 2).sum(axis=2))
    d = problem.train.shape[1]
    found = np.empty((len(problem.bandwidths), len(query)))
    for k, h in enumerate(problem.bandwidths):
        u = distances / (Number(h) * (1 + Number(longer)))
        values = np.where(u < 1, reference.COMPACT[problem.kernel](np.minimum(u, 1)), 0)
        norm = get_kernel(problem.kernel).log_norm(d, float(np.log(h)))
        with np.errstate(divide="ignore", invalid="ignore"):
            found[k] = np.log((weights * values).sum(axis=1) / weights.sum(axis=1)) - Number(norm)
    return found


def assert_right(problem: Problem, tol: float | None = None, **options: Any) -> None:
    """No error is above its bound, nor a bound above the tolerance."""
    values, errors, _ = walked(problem, tol=tol, **options)
    within = stretch(Frame(np.zeros(problem.train.shape[1]), 1.0, False, "float64"))
    low, high = true_values(problem, -within), true_values(problem, within)
    np.testing.assert_array_equal(np.isnan(values), np.isnan(low))
    zero = np.isneginf(values)
    assert np.isneginf(low[zero]).all()
    known = np.isfinite(values)
    assert not np.isneginf(high[known]).any()
    with np.errstate(invalid="ignore"):
        off = np.maximum(low[known] - values[known], values[known] - high[known])
    off -= 8 * ROUNDED * (np.abs(values[known]) + 1)
    wrong = ~(off <= errors[known])
    assert not wrong.any(), f"wrong by {off[wrong][:3]}, bounds {errors[known][wrong][:3]}"
    assert (errors[known] <= (tol or 1e-9) * np.maximum(1, np.abs(values[known]))).all()


@st.composite
def neighbourhoods(draw: st.DrawFn) -> tuple[Problem, float]:
    """Rows, and bandwidths at which some nodes are inside and others at the edge."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    kernel = draw(st.sampled_from(KERNELS))
    d = draw(st.sampled_from((1, 2, 3) if kernel[1] in "ir" else (1, 2, 3, 6, 9)))
    n, n_query = draw(st.sampled_from([130, 700, 2000])), draw(st.sampled_from([1, 9, 70]))
    train = rng.normal(size=(n, d))
    kind = draw(st.sampled_from(["normal", "clusters", "equal", "lattice", "line"]))
    if kind == "clusters":
        train = train / 50 + rng.integers(0, 3, (n, 1))
    elif kind == "equal":
        train[rng.random(n) < 0.7] = train[0]
    elif kind == "lattice":
        train = rng.integers(0, 4, (n, d)).astype(float)
    elif kind == "line":
        train = train[:, :1] * np.linspace(0.5, 1, d)
    chosen = rng.integers(0, n, n_query)
    query = train[chosen] + rng.normal(size=(n_query, d)) * draw(st.sampled_from([0.0, 0.1, 1.0]))
    span = float(np.sqrt((np.ptp(train, axis=0) ** 2).sum()))
    bandwidths = span * np.array(draw(st.sampled_from([[0.5], [2.0], [0.1, 1.0], [3, 0.01, 0.7]])))
    scale = 10.0 ** draw(st.sampled_from([-100, 0, 0, 0, 100]))
    offset = draw(st.sampled_from([0.0, 0.0, 1e3, 1e9]))
    weights = None
    if draw(st.booleans()):
        weights = np.exp(rng.normal(size=n) * draw(st.sampled_from([1, 30])))
    groups: tuple[Array | None, Array | None] = (None, None)
    which = draw(st.sampled_from(["none", "own", "folds", "clusters"]))
    if which == "own":
        groups = chosen, np.arange(n)
    elif which == "folds":
        of_rows = rng.integers(0, 4, n)
        groups = of_rows[chosen], of_rows
    elif which == "clusters":
        of_rows = (train[:, 0] > np.median(train[:, 0])).astype(np.int64)
        groups = of_rows[chosen], of_rows
    problem = Problem(
        (query + offset) * scale, (train + offset) * scale, bandwidths * scale, weights, *groups,
        train_borders=(0, n // 3, n), kernel=kernel,
    )  # fmt: skip
    return problem, draw(st.sampled_from([LEAST, 1e-9, 1e-3]))


class TestCovered:
    """No error is above its bound, nor a bound above the tolerance."""

    @settings(max_examples=few(60), deadline=None)
    @given(case=neighbourhoods(), panels=st.sampled_from([1, 2]))
    def test_nodes_and_edges(self, case: tuple[Problem, float], panels: int) -> None:
        problem, tol = case
        assert_right(problem, tol, panels=panels)

    @pytest.mark.slow
    @settings(max_examples=2000, deadline=None)
    @given(case=neighbourhoods(), panels=st.sampled_from([1, 2]))
    def test_many(self, case: tuple[Problem, float], panels: int) -> None:
        problem, tol = case
        assert_right(problem, tol, panels=panels)


class TestNodes:
    """What is summed from moments, and what is not."""

    @pytest.mark.sampled(4)
    @pytest.mark.parametrize("kernel", KERNELS)
    def test_inside_no_pairs_are_taken(self, kernel: str) -> None:
        rows = np.random.default_rng(0).normal(size=(5000, 2))
        problem = Problem(rows[:200], rows, np.array([20.0]), kernel=kernel)
        assert (walked(problem).effort.pairs == 0).all()
        assert_right(problem)

    @pytest.mark.sampled(4)
    @pytest.mark.parametrize("kernel", KERNELS)
    def test_at_several_bandwidths_only_the_edges_of_each_are_pairs(self, kernel: str) -> None:
        rows = np.random.default_rng(0).normal(size=(5000, 2))
        problem = Problem(rows[:200], rows, np.array([1.0, 20.0, 0.1]), kernel=kernel)
        pairs = [
            walked(Problem(rows[:200], rows, np.array([h]), kernel=kernel)).effort.pairs.sum()
            for h in (1.0, 20.0, 0.1)
        ]
        assert walked(problem).effort.pairs.sum() <= sum(pairs) < 200 * 2500
        assert_right(problem)

    def test_beside_the_own_row_the_others_are_from_moments(self) -> None:
        rows = np.random.default_rng(0).normal(size=(5000, 2))
        own = np.arange(5000)
        problem = Problem(
            rows[::20], rows, np.array([20.0]), None, own[::20], own, kernel="epanechnikov"
        )
        assert 128 <= walked(problem).effort.pairs.max() < 5000
        assert_right(problem)

    @pytest.mark.parametrize("kernel", KERNELS[1:])
    @pytest.mark.parametrize("tol", [LEAST, 1e-9])
    def test_rows_of_which_all_are_just_inside_the_edge_go_to_pairs(
        self, kernel: str, tol: float, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        calls, walk = [], support_sums.support_walk

        def counted(*given: Any) -> None:
            calls.append(len(given[5][0]))
            walk(*given)

        monkeypatch.setattr(support_sums, "support_walk", counted)
        rng = np.random.default_rng(0)
        train = rng.uniform(0, 1e-9, size=(300, 2))
        # In leaves of their own: those that have all rows at the edge, and those amid them.
        query = np.concatenate([[[1 - 1e-6, 0.0]] * 64, rng.uniform(0, 0.1, (64, 2)), [[9.0, 9.0]]])
        problem = Problem(query, train, np.array([1.0]), kernel=kernel)
        assert_right(problem, tol)
        assert calls[0] == 132
        assert len(calls) == 2
        assert 64 <= calls[1] <= 68

    @pytest.mark.parametrize("kernel", KERNELS)
    def test_shares_do_not_matter(self, kernel: str) -> None:
        rng = np.random.default_rng(0)
        train = rng.normal(size=(3000, 2))
        query = np.concatenate([train[:900], train[:900] + 3])
        problem = Problem(query, train, np.array([0.3, 2.0]), kernel=kernel)
        one, eight = walked(problem), walked(problem, n_shares=8)
        np.testing.assert_array_equal(one.stacked(), eight.stacked())

    @pytest.mark.sampled(3)
    @pytest.mark.parametrize("kernel", KERNELS)
    @pytest.mark.parametrize("d", [2, 3])
    def test_of_leaves_at_the_edge_pairs_are_those_of_a_few_pieces(
        self, kernel: str, d: int
    ) -> None:
        rng = np.random.default_rng(0)
        train = rng.uniform(size=(1100, d))  # the last piece is not full, nor are all eight there
        query = 0.4 + 1e-3 * rng.uniform(size=(68, d))
        for h in (0.3, 0.5, 0.9):
            problem = Problem(query, train, np.array([h]), kernel=kernel)
            pairs = np.sort(walked(problem).effort.pairs)
            at_edge = np.abs(np.sqrt(((query[0] - train) ** 2).sum(axis=1)) - h) < 1e-2
            assert at_edge.sum() <= pairs[0]
            # The last four rows, which are no eight, have those of whole leaves.
            assert pairs[63] <= (0.6 if d == 2 else 0.85) * pairs[64]
            assert_right(problem, LEAST)
