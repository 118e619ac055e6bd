"""Bounds on errors: never below the true error, and of use."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import reference
from examples import few
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import Problem, problems
from summing import densities

import dkde
from dkde.numerics import bounds, hotloop, tiles
from dkde.numerics.bounds import stretch
from dkde.numerics.exponential import SLOPE
from dkde.numerics.frame import Frame
from dkde.numerics.kernels import KERNELS
from dkde.numerics.tolerance import DEFAULT_TOL, LEAST_TOL

Array = npt.NDArray[Any]

PRECISIONS = ("float64", "float32")
SMALL: dict[str, Any] = {"max_query": 4, "max_train": 150, "max_features": 257}
# Of the oracle: its answers are rounded to float64, and integrals over compact kernels taken to
# 1e-12.
ROUNDED, INTEGRATED = 2e-16, 2e-12


def errors_and_bounds(problem: Problem, precision: str, **options: Any) -> tuple[Array, Array]:
    """By how much densities that are finite are wrong, and by how much they may be."""
    values, errors, _ = densities(problem, precision=precision, **options)
    compact = problem.kernel in reference.COMPACT
    within = 0.0
    if compact:  # bounds hold of a bandwidth that near to the one given
        zeros = np.zeros(problem.train.shape[1])
        within = stretch(Frame(zeros, 1.0, problem.is_integer, precision))  # type: ignore[arg-type]
    low, high = problem.expected(-within), problem.expected(within)
    np.testing.assert_array_equal(np.isnan(errors), np.isnan(values))
    assert (errors[~np.isnan(errors)] >= 0).all()
    # A density of zero is one, where it would be at a bandwidth a little less; and has no error.
    zero = np.isneginf(values)
    assert (errors[zero] == 0).all()
    assert np.isneginf(low[zero]).all()
    known = np.isfinite(values)
    assert not np.isneginf(high[known]).any()
    with np.errstate(invalid="ignore"):
        off = np.maximum(low[known] - values[known], values[known] - high[known])
    own = ROUNDED * np.abs(values[known]) + (INTEGRATED if compact else 0.0)
    return np.maximum(off - own, 0.0), errors[known]


def assert_covered(problem: Problem, precision: str, **options: Any) -> None:
    off, bound = errors_and_bounds(problem, precision, **options)
    wrong = ~(off <= bound)
    assert not wrong.any(), f"wrong by {off[wrong][:3]}, bounds {bound[wrong][:3]}"


def test_loops_are_as_bounds_take_them_to_be() -> None:
    assert bounds.CHUNK == hotloop.CHUNK
    assert bounds.TILE == tiles.TRAIN_TILE
    for precision, epsilon in (("float64", 2.0**-53), ("float32", 2.0**-24)):
        assert SLOPE[precision] <= 3 * epsilon  # of the roundings of an exponent


class TestCovered:
    """No true error is above its bound."""

    @pytest.mark.slow
    @pytest.mark.parametrize("precision", PRECISIONS)
    @settings(max_examples=few(80))
    @given(problem=problems(**SMALL))
    def test_gaussian(self, precision: str, problem: Problem) -> None:
        assert_covered(problem, precision, panels=len(problem.train_ranges))

    @pytest.mark.slow
    @pytest.mark.parametrize("precision", PRECISIONS)
    @settings(max_examples=few(150))
    @given(problem=problems(kernels=tuple(KERNELS), **SMALL), n_axes=st.integers(1, 300))
    def test_where_pairs_are_left_out(self, precision: str, problem: Problem, n_axes: int) -> None:
        panels = len(problem.train_ranges)
        assert_covered(problem, precision, panels=panels, n_axes=n_axes)

    @pytest.mark.slow
    @pytest.mark.parametrize("precision", PRECISIONS)
    @settings(max_examples=few(80))
    @given(problem=problems(kernels=tuple(KERNELS), **SMALL))
    def test_every_kernel(self, precision: str, problem: Problem) -> None:
        assert_covered(problem, precision, panels=len(problem.train_ranges))

    @pytest.mark.slow
    @pytest.mark.parametrize("precision", PRECISIONS)
    @settings(max_examples=few(50))
    @given(
        problem=problems(
            kernels=("univariate_gaussian",), metrics=("manhattan", "chebyshev"), **SMALL
        )
    )
    def test_every_metric(self, precision: str, problem: Problem) -> None:
        assert_covered(problem, precision)

    @pytest.mark.slow
    @pytest.mark.parametrize("precision", PRECISIONS)
    @settings(max_examples=few(50))
    @given(problem=problems(kernels=tuple(KERNELS), **SMALL), share=st.floats(0, 1))
    def test_every_tolerance(self, precision: str, problem: Problem, share: float) -> None:
        least = LEAST_TOL[precision]
        tol = float(least * (0.99 / least) ** share)
        assert_covered(problem, precision, tol=tol)

    @pytest.mark.slow
    @pytest.mark.parametrize("precision", PRECISIONS)
    def test_thousands_of_queries(self, precision: str) -> None:
        # Whole numbers beyond what products hold exactly, so that the oracle is exact and fast.
        rng = np.random.default_rng(0)
        for width, offset in ((200, 0), (10**6, 0), (300, 10**7), (10**9, 10**9)):
            train = rng.integers(-width, width, (64, 3)) + offset
            query = rng.integers(-width, width, (500, 3)) + offset
            weights = 10.0 ** rng.uniform(-8, 0, 64)
            for kernel in ("gaussian", "exponential"):
                h = width * np.array([0.02, 0.3, 5.0])
                problem = Problem(query, train, h, weights, kernel=kernel)
                assert_covered(problem, precision)

    @pytest.mark.slow
    def test_rows_from_far_to_near(self) -> None:
        # Every tile holds a nearer row: sums are made relative to another as often as can be.
        train = np.linspace(100, 1, 300)[:, None]
        problem = Problem(np.zeros((1, 1)), train, np.array([1.0, 30.0]), tile_rows=1)
        assert_covered(problem, "float64")
        assert_covered(problem, "float32")

    def test_a_distance_in_doubt_is_seen(self) -> None:
        # Of two clusters far apart, rounded products decide how far the rows of one are.
        rng = np.random.default_rng(1)
        train = np.concatenate([rng.normal(size=(40, 20)), 1e4 + rng.normal(size=(40, 20))])
        problem = Problem(train[::8] + 0.1, train, np.array([1.0]))
        _, exact = errors_and_bounds(problem, "float64", tol=1e-12)
        off, bound = errors_and_bounds(problem, "float64", tol=1e-2)
        assert off.max() > 100 * exact.max()
        assert (off <= bound).all()


class TestUse:
    """Bounds are not far above what they bound, nor above the contract."""

    @settings(max_examples=few(100))
    @given(problem=problems(kernels=("gaussian", "exponential"), **SMALL))
    def test_of_float64_is_within_the_contract(self, problem: Problem) -> None:
        values, errors, _ = densities(problem)
        known = np.isfinite(values)
        # Exponents round by themselves, where the normaliser hides how large they are.
        largest = np.maximum(1, np.maximum(np.abs(values), problem.exponents()))[known]
        assert (errors[known] <= DEFAULT_TOL["float64"] * largest).all()

    @pytest.mark.sampled(24)
    @pytest.mark.parametrize("kernel", [name for name, k in KERNELS.items() if k.profile])
    @pytest.mark.parametrize("tol", [1e-9, 1e-3, 0.28, 0.99])
    def test_of_compact_kernels_is_within_the_contract(self, kernel: str, tol: float) -> None:
        # Clusters far apart, so that some distances are as doubtful as is allowed; in a unit in
        # which densities are about one.
        rng = np.random.default_rng(0)
        far = np.repeat(np.geomspace(1e1, 1e8, 15), 8)[:, None]
        train = np.concatenate([rng.normal(size=(120, 3)), far + rng.normal(size=(120, 3))])
        problem = Problem(train[::7] + 0.1, train, np.array([4.0]), kernel=kernel)
        typical = np.median(densities(problem, tol=tol).values)
        unit = np.exp(typical / 3)
        there = Problem(problem.query * unit, train * unit, 4.0 * unit * np.ones(1), kernel=kernel)
        values, errors, _ = densities(there, tol=tol)
        assert (np.abs(values) < 1).any()
        assert (errors <= tol * np.maximum(1, np.abs(values))).all()
        assert_covered(there, "float64", tol=tol)

    @pytest.mark.slow
    @pytest.mark.parametrize(
        ("precision", "smallest", "largest"), [("float64", 1e-15, 1e-12), ("float32", 1e-7, 1e-4)]
    )
    def test_size_where_all_is_well(self, precision: str, smallest: float, largest: float) -> None:
        rng = np.random.default_rng(2)
        problem = Problem(rng.normal(size=(50, 4)), rng.normal(size=(200, 4)), np.array([0.3, 1.0]))
        off, bound = errors_and_bounds(problem, precision)
        assert smallest < np.median(bound) < largest
        assert np.median(bound) < 3000 * np.median(off + ROUNDED)

    def test_follows_the_tolerance(self) -> None:
        rng = np.random.default_rng(3)
        train = rng.normal(size=(200, 30)) * 1e3
        problem = Problem(rng.normal(size=(20, 30)) * 1e3, train, np.array([1.0]))
        medians = [
            np.median(errors_and_bounds(problem, "float64", tol=tol)[1] / 1e6)
            for tol in (1e-12, 1e-9, 1e-4)
        ]
        assert medians == sorted(medians)

    @pytest.mark.slow
    @pytest.mark.parametrize("precision", PRECISIONS)
    @pytest.mark.parametrize("shift", [None, 1 / 3])
    def test_of_mnist(self, mnist_store: Path, precision: str, shift: float | None) -> None:
        catalog, h = dkde.Catalog(mnist_store), [0.05, 0.2, 0.7]
        selectors = "valid[:60]", "train[:400]"
        rows = [np.asarray(catalog.rows(name).read(0, n, decode=True), np.float64)
                for name, n in zip(selectors, (60, 400), strict=True)]  # fmt: skip
        sides: Any = selectors
        if shift is not None:  # no longer whole numbers of steps
            sides = rows = [side + shift for side in rows]
        found = dkde.log_density(*sides, h, precision=precision, return_error=True, source=catalog)
        values, errors = map(np.asarray, found)
        # In float32 it is the worst case, hundreds of times what happens.
        tol = 1e-9 if precision == "float64" else 0.2
        assert (errors < tol * np.maximum(1, np.abs(values))).all()
        expected = reference.log_density(rows[0][:5], rows[1], h)
        off = np.abs(values[:, :5] - expected)
        assert (off <= errors[:, :5] + ROUNDED * np.abs(expected)).all()
