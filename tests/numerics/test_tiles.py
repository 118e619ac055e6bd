"""The hot path against the oracle, where distances, weights and bandwidths are hard."""

from dataclasses import replace
from typing import Any
from unittest import mock

import numpy as np
import numpy.typing as npt
import pytest
import reference
from contract import TOLERANCE, TOLERANCE_32, assert_within, assert_within_32
from examples import few
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from strategies import Problem, problems
from summing import densities, score

from dkde.numerics import tiles
from dkde.numerics.frame import Frame, reference_row
from dkde.numerics.kernels import KERNELS
from dkde.numerics.metrics import EUCLIDEAN, METRICS, Metric

Array = npt.NDArray[Any]

COMPACT = sorted(reference.COMPACT)

# The product form believed to be exact: nothing is ever recomputed.
CARELESS = Metric("careless", EUCLIDEAN.squared_distances, lambda frame, norm: 0.0)


def normal(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).normal(size=shape)


def test_tile_sizes_are_what_memory_is_planned_for() -> None:
    assert (tiles.QUERY_TILE, tiles.TRAIN_TILE) == (1280, 512)


class TestContract:
    """Drawn problems."""

    @settings(max_examples=few(250))
    @given(problems())
    def test_float64(self, problem: Problem) -> None:
        assert_within(score(problem), problem.expected())

    @settings(max_examples=few(100))
    @given(problems())
    def test_float32(self, problem: Problem) -> None:
        actual = score(problem, precision="float32")
        assert_within_32(actual, problem.expected(), problem.exponents())

    @pytest.mark.slow
    @settings(max_examples=few(150))
    @given(problems(max_features=257), st.integers(1, 300))
    def test_near_pairs_alone(self, problem: Problem, n_axes: int) -> None:
        assert_within(densities(problem, n_axes=n_axes).values, problem.expected())

    @settings(max_examples=few(60))
    @given(problems(max_features=64))
    def test_panels_merge_to_the_whole(self, problem: Problem) -> None:
        panels = len(problem.train_ranges)
        assert_within(score(problem, panels=panels), problem.expected())

    @settings(max_examples=few(60))
    @given(problems(max_query=20, max_train=900))
    def test_cuts_do_not_matter(self, problem: Problem) -> None:
        whole = replace(problem, query_borders=(), train_borders=(), tile_rows=512)
        assert_within(score(problem), score(whole))


def assert_between(problem: Problem, actual: Array, precision: str = "float64") -> None:
    """The contract, for a bandwidth within rounding of the one given.

    At the edge of a support the last bit of a distance decides between a density and none,
    and that bit is rounded in the data themselves.
    """
    stretch = 1e-13 if precision == "float64" else 2e-6
    low, high = problem.expected(-stretch), problem.expected(stretch)
    np.testing.assert_array_equal(np.isnan(actual), np.isnan(low))
    if precision == "float64":
        with np.errstate(invalid="ignore"):
            bounds = [TOLERANCE * np.fmax(1, np.abs(side)) for side in (low, high)]
    else:
        bounds = [TOLERANCE_32 * np.maximum(1, problem.exponents())] * 2
    known = ~np.isnan(actual)
    with np.errstate(invalid="ignore"):  # -inf less inf times the tolerance
        wrong = (
            known
            & (((actual < low - bounds[0]) & np.isfinite(low)) | ~(actual <= high + bounds[1]))
            & ~(np.isneginf(actual) & np.isneginf(low))
        )
    assert not wrong.any(), f"{actual[wrong][:3]} instead of {low[wrong][:3]} .. {high[wrong][:3]}"


class TestEveryKernel:
    """As for the Gaussian, where kernels may be zero or steep."""

    @settings(max_examples=few(250))
    @given(problems(kernels=tuple(KERNELS)))
    def test_float64(self, problem: Problem) -> None:
        assert_between(problem, score(problem))

    @pytest.mark.slow
    @settings(max_examples=few(120))
    @given(problems(kernels=tuple(KERNELS)))
    def test_float32(self, problem: Problem) -> None:
        assert_between(problem, score(problem, precision="float32"), "float32")

    @settings(max_examples=few(150))
    @given(problems(kernels=("univariate_gaussian",), metrics=tuple(METRICS)))
    def test_every_metric(self, problem: Problem) -> None:
        assert_within(score(problem), problem.expected())

    @settings(max_examples=few(100))
    @given(problems(kernels=("univariate_gaussian",), metrics=tuple(METRICS), max_features=64))
    def test_every_metric_in_float32(self, problem: Problem) -> None:
        actual = score(problem, precision="float32")
        assert_within_32(actual, problem.expected(), problem.exponents())

    @pytest.mark.slow
    @settings(max_examples=few(100))
    @given(problems(kernels=tuple(KERNELS), max_features=64))
    def test_panels_merge_to_the_whole(self, problem: Problem) -> None:
        assert_between(problem, score(problem, panels=len(problem.train_ranges)))

    @pytest.mark.slow
    @settings(max_examples=few(100))
    @given(problems(kernels=tuple(KERNELS), max_features=8), st.data())
    def test_rows_around_the_edge(self, problem: Problem, data: st.DataObject) -> None:
        # Bandwidths that are distances between rows of the problem, or all but.
        nearest = reference.nearest(
            problem.query, problem.train, problem.weights,
            problem.query_groups, problem.train_groups,
        )  # fmt: skip
        distances = np.unique(np.sqrt(nearest[np.isfinite(nearest) & (nearest > 0)]))
        assume(len(distances))
        factor = data.draw(st.sampled_from([1.0, 1 - 1e-9, 1 + 1e-9, 1 + 1e-4, 1.5]))
        at = replace(problem, bandwidths=distances * abs(problem.scale) * factor)
        assert_between(at, score(at))


class TestSupport:
    """Kernels of compact support: at their edge, and beyond."""

    PAIRS = (
        ((3,), 3),
        ((3, 4), 5),
        ((1, 2, 2), 3),
        ((2, 3, 6), 7),
        ((20, 21), 29),
        ((7,) * 49, 49),
    )

    @pytest.mark.parametrize(
        "precision", ["float64", pytest.param("float32", marks=pytest.mark.slow)]
    )
    @pytest.mark.parametrize("dtype", ["uint8", "int16", "float64", "float32"])
    @pytest.mark.parametrize("kernel", COMPACT)
    def test_at_the_edge_is_outside(self, kernel: str, dtype: str, precision: Any) -> None:
        for difference, h in self.PAIRS:
            query = np.full((1, len(difference)), 100).astype(dtype)
            train = (query + np.array(difference)).astype(dtype)
            problem = Problem(query, train, np.array([float(h)]), kernel=kernel)
            assert np.isneginf(problem.expected()).all()
            assert np.isneginf(score(problem, precision=precision)).all()
            wider = replace(problem, bandwidths=np.array([h * (1 + 1e-5)]))
            assert np.isfinite(score(wider, precision=precision)).all()

    @pytest.mark.slow
    @pytest.mark.parametrize("precision", ["float64", "float32"])
    def test_at_the_edge_for_every_whole_number(self, precision: Any) -> None:
        h = np.arange(1.0, 4097)
        query, train = np.zeros((1, 1), np.int16), np.zeros((4096, 1), np.int16)
        train[:, 0] = np.arange(1, 4097)
        problem = Problem(query, train, h, kernel="tophat", scale=1.0)
        inside = np.exp(score(problem, precision=precision)[:, 0] + np.log(2 * h)) * 4096
        np.testing.assert_allclose(inside, h - 1, atol=1e-9)

    @pytest.mark.parametrize("scale", [1 / 255, 1 / 256, 0.1, 12.5, -0.37, 1e-7])
    def test_at_the_edge_in_units_of_the_data(self, scale: float) -> None:
        steps = np.arange(1, 256)
        problem = Problem(
            np.zeros((1, 1), np.uint8), steps[:, None].astype(np.uint8), steps * abs(scale),
            kernel="tophat", scale=scale,
        )  # fmt: skip
        inside = np.exp(score(problem)[:, 0] + np.log(2 * problem.bandwidths)) * 255
        np.testing.assert_allclose(inside, steps - 1, atol=1e-9)

    @pytest.mark.parametrize("kernel", COMPACT)
    @pytest.mark.parametrize("tile_rows", [1, 100])
    def test_inside_at_some_bandwidths_only(self, kernel: str, tile_rows: int) -> None:
        train = np.array([[5.0], [0.5], [50.0], [0.5]])
        bandwidths = np.array([0.1, 100.0, 1.0, 6.0])
        problem = Problem(
            np.array([[0.0], [1e9]]), train, bandwidths, tile_rows=tile_rows, kernel=kernel
        )
        actual = score(problem)
        assert np.isneginf(actual[0]).all()
        assert np.isfinite(actual[1:, 0]).all()
        assert np.isneginf(actual[:, 1]).all()
        assert_within(actual, problem.expected())

    @pytest.mark.parametrize(
        ("precision", "kernel"),
        [("float64", kernel) for kernel in COMPACT]
        + [("float32", kernel) for kernel in ("cosine", "epanechnikov")]
        + [
            # Compiled for this test alone, seconds each.
            pytest.param("float32", kernel, marks=pytest.mark.slow)
            for kernel in COMPACT
            if kernel not in ("cosine", "epanechnikov")
        ],
    )
    def test_only_a_light_row_is_inside(self, kernel: str, precision: Any) -> None:
        problem = Problem(
            np.zeros((1, 2)), np.array([[0.5, 0], [5, 0], [6, 0]]), np.array([1.0]),
            np.array([1e-280, 1.0, 1.0]), kernel=kernel,
        )  # fmt: skip
        actual, expected = score(problem, precision=precision), problem.expected()
        np.testing.assert_allclose(actual, expected, atol=1e-9 if precision == "float64" else 1e-5)

    @pytest.mark.parametrize("kernel", sorted(KERNELS))
    def test_no_pair_that_counts_is_not_no_density(self, kernel: str) -> None:
        rows = np.zeros((2, 1))
        problem = Problem(
            rows, rows + 9, np.array([1.0]), None, np.array([0, 1]), np.array([0, 0]), kernel=kernel
        )
        actual = score(problem)
        assert np.isnan(actual[0, 0])
        assert not np.isnan(actual[0, 1])


class TestSteepKernels:
    """Where errors of the product form grow."""

    @pytest.mark.parametrize("kernel", ["exponential", "linear"])
    def test_cusps(self, kernel: str) -> None:
        train = 30 + normal(60, 12)
        query = train[:4] + 1e-5 * normal(4, 12, seed=1)
        problem = Problem(query, train, np.array([1e-3, 0.5, 20.0]), kernel=kernel)
        origin = np.zeros(12)
        assert_between(problem, score(problem, origin=origin))
        with pytest.raises(AssertionError, match="instead of"):
            assert_between(problem, score(problem, origin=origin, metric=CARELESS))

    @pytest.mark.parametrize("kernel", COMPACT)
    def test_edges(self, kernel: str) -> None:
        # Rows at all but h from the query, seen from an origin far away.
        along = np.linspace(-1e-9, 1e-9, 40)
        along = along[np.abs(along) > 1e-11]
        train = np.zeros((len(along), 3))
        train[:, 0] = 1 + along
        for row in train:
            problem = Problem(np.zeros((1, 3)), row[None], np.array([1.0]), kernel=kernel)
            origin = np.array([1e3, 2e3, -3e3])
            assert_between(problem, score(problem, origin=origin))

    def test_a_jump_would_be_missed_without_recomputing(self) -> None:
        problem = Problem(
            np.zeros((1, 3)), np.array([[1 - 1e-12, 0, 0], [0.0, 1 + 1e-12, 0]]), np.array([1.0]),
            kernel="tophat",
        )  # fmt: skip
        origin = np.array([1e3, 2e3, -3e3])
        assert_between(problem, score(problem, origin=origin))
        with pytest.raises(AssertionError, match="instead of"):
            assert_between(problem, score(problem, origin=origin, metric=CARELESS))


class TestRecomputing:
    """Pairs for which the product form is too rough."""

    @staticmethod
    def far_clusters(n_features: int = 64, distance: float = 1e6) -> Problem:
        centres = distance * normal(2, n_features, seed=1)
        train = np.repeat(centres, 100, axis=0) + normal(200, n_features)
        query = centres + normal(2, n_features, seed=2)
        return Problem(query, train, np.array([1.0, 3.0]))

    def test_clusters_a_million_bandwidths_apart(self) -> None:
        problem = self.far_clusters()
        assert_within(score(problem), problem.expected())

    def test_they_would_miss_the_contract_without_it(self) -> None:
        problem = self.far_clusters()
        missed = np.abs(score(problem, metric=CARELESS) - problem.expected())
        assert (missed > 1000 * TOLERANCE * np.abs(problem.expected())).any()

    def test_a_neighbour_of_one_bandwidth_hides_at_a_wider_one(self) -> None:
        # 1e-3 apart at a radius of 1e4; others, seen at the second bandwidth, 1 apart.
        train = 1e4 * normal(40, 5)
        train[20:] = train[:20] + normal(20, 5, seed=2)
        query = train[:3] + 1e-3 * normal(3, 5, seed=1)
        problem = Problem(query, train, np.array([1e4, 1e-3, 1.0]))
        assert_within(score(problem), problem.expected())
        with pytest.raises(AssertionError, match="miss"):
            assert_within(score(problem, metric=CARELESS), problem.expected())

    def test_the_nearest_pair_may_be_known_from_an_earlier_tile(self) -> None:
        problem = self.far_clusters()
        for tile_rows in (1, 64, 99, 101):
            cut = replace(problem, tile_rows=tile_rows)
            assert_within(score(cut), problem.expected())

    def test_a_light_nearest_pair_does_not_hide_a_heavy_one(self) -> None:
        problem = self.far_clusters()
        weights = np.ones(200)
        weights[::2] = 1e-200
        problem = replace(problem, weights=weights)
        assert_within(score(problem), problem.expected())

    def test_a_light_row_may_come_nearer_than_heavy_ones_before(self) -> None:
        # Heavy at 40, then light at 0.1 and heavy at 15, which counts for most.
        across = np.zeros(64)
        across[:3] = 1
        across /= np.sqrt(3)
        centre = 1e7 * normal(64)
        rows = centre + np.multiply.outer([40, 0.1, 15.0], across)
        problem = Problem(
            centre[None], rows, np.array([1.0]), np.array([1, 1e-70, 1]), train_borders=(0, 1, 3)
        )
        origin = np.zeros(64)
        assert_within(score(problem, origin=origin), problem.expected())
        with pytest.raises(AssertionError, match="miss"):
            assert_within(score(problem, origin=origin, metric=CARELESS), problem.expected())

    def test_float32_recomputes_too(self) -> None:
        problem = self.far_clusters(distance=1e4)
        expected, exponents = problem.expected(), problem.exponents()
        assert_within_32(score(problem, precision="float32"), expected, exponents)
        careless = score(problem, precision="float32", metric=CARELESS)
        with pytest.raises(AssertionError, match="miss"):
            assert_within_32(careless, expected, exponents)

    @pytest.mark.parametrize("precision", ["float64", "float32"])
    @pytest.mark.parametrize("n_features", [1, 10, 784])
    def test_the_rounding_bound_holds(self, precision: Any, n_features: int) -> None:
        rows = 1e3 + normal(60, n_features) * np.geomspace(1e-3, 1e3, 60)[:, None]
        frame = Frame(reference_row(rows, False), 1.0, False, precision)
        points = tiles.Points.of(rows, frame)
        d2 = np.empty((60, 60), frame.dtype)
        EUCLIDEAN.squared_distances(points, points, d2)
        exact = np.array([[reference.squared_distance(x, y) for y in rows] for x in rows])
        allowed = EUCLIDEAN.rounding(frame, points.norms.max()) * (
            points.norms[:, None] + points.norms
        )
        assert (np.abs(d2 - exact) <= allowed).all()


class TestOrigin:
    """Rows far from zero compared with each other."""

    @staticmethod
    def offset(by: float) -> Problem:
        return Problem(by + normal(5, 30), by + normal(200, 30, seed=1), np.array([0.5, 2.0]))

    @pytest.mark.parametrize("by", [1e6, -1e6])
    def test_an_offset_costs_no_digit(self, by: float) -> None:
        problem = self.offset(by)
        assert_within(score(problem), problem.expected())
        # The origin alone does it: nothing has to be recomputed.
        assert_within(score(problem, metric=CARELESS), problem.expected())

    def test_it_would_without_a_reference_row(self) -> None:
        problem = self.offset(1e6)
        with pytest.raises(AssertionError, match="miss"):
            assert_within(score(problem, metric=CARELESS, origin=np.zeros(30)), problem.expected())

    def test_any_reference_row_will_do(self) -> None:
        problem = self.offset(1e6)
        assert_within(score(problem, origin=np.zeros(30)), problem.expected())

    def test_float32_keeps_small_differences_of_large_numbers(self) -> None:
        problem = self.offset(1e6)
        actual = score(problem, precision="float32")
        assert_within_32(actual, problem.expected(), problem.exponents())


class TestIntegers:
    """Integers as stored, whose distances are exact."""

    @pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "int16"])
    def test_extremes_do_not_wrap_around(self, dtype: str) -> None:
        limits = np.iinfo(dtype)
        rng = np.random.default_rng(0)
        rows = rng.choice([limits.min, limits.max], size=(80, 784)).astype(dtype)
        problem = Problem(rows[:5], rows, np.array([0.1, 30.0, 1e5]), scale=1 / 255)
        assert_within(score(problem), problem.expected())

    def test_their_distances_are_exact_without_recomputing(self) -> None:
        rows = np.random.default_rng(0).integers(256, size=(50, 784)).astype(np.uint8)
        frame = Frame(reference_row(rows, True), 1 / 255, True, "float64")
        points = tiles.Points.of(rows, frame)
        d2 = np.empty((50, 50))
        EUCLIDEAN.squared_distances(points, points, d2)
        assert EUCLIDEAN.rounding(frame, points.norms.max()) == 0
        difference = rows.astype(np.int64)[:, None] - rows
        np.testing.assert_array_equal(d2, (difference**2).sum(axis=2))

    def test_distances_beyond_float32_are_recomputed(self) -> None:
        rows = np.random.default_rng(0).integers(256, size=(50, 784)).astype(np.uint8)
        problem = Problem(rows[:5], rows, np.array([1e-3, 0.2]), scale=1 / 255)
        actual = score(problem, precision="float32")
        assert_within_32(actual, problem.expected(), problem.exponents())


class TestWeights:
    def test_a_row_of_weight_zero_is_nobodys_nearest(self) -> None:
        query = np.zeros((1, 3))
        train = np.array([[0.0, 0, 0], [100, 0, 0], [0, 100, 0]])
        problem = Problem(query, train, np.array([1.0]), weights=np.array([0.0, 1, 1]))
        assert_within(score(problem), problem.expected())
        assert problem.expected()[0, 0] == pytest.approx(-5000 - 1.5 * np.log(2 * np.pi))

    def test_all_weights_zero_is_no_density(self) -> None:
        problem = Problem(normal(3, 2), normal(10, 2), np.array([1.0]), weights=np.zeros(10))
        assert np.isnan(score(problem)).all()

    def test_a_tile_of_zeros_changes_nothing(self) -> None:
        query, train, weights = normal(3, 2), normal(20, 2), np.ones(20)
        weights[10:] = 0
        problem = Problem(query, train, np.array([1.0]), weights, tile_rows=10)
        half = Problem(query, train[:10], np.array([1.0]))
        np.testing.assert_allclose(score(problem), score(half), rtol=1e-15)

    @pytest.mark.parametrize("order", [slice(None), slice(None, None, -1)])
    @pytest.mark.parametrize("tile_rows", [1, 512])
    @pytest.mark.parametrize("gap", [0.5, 30.0, 37.0, 37.7, 40.0])
    @pytest.mark.parametrize("precision", ["float64", "float32"])
    def test_weights_300_decades_apart(
        self, precision: Any, gap: float, tile_rows: int, order: slice
    ) -> None:
        # The nearest row is all but weightless; the others lie ``gap`` bandwidths away.
        train = np.zeros((12, 2))
        train[1:, 0] = gap
        weights = np.ones(12)
        weights[0] = 1e-300
        problem = Problem(
            np.zeros((1, 2)), train[order], np.array([1.0]), weights[order], tile_rows=tile_rows
        )
        actual, expected = score(problem, precision=precision), problem.expected()
        if precision == "float64":
            assert_within(actual, expected, np.ones_like(expected))
        else:
            assert_within_32(actual, expected, np.full_like(expected, gap**2 / 2))

    @pytest.mark.parametrize("weight", [5e-324, 1e-300, 0.1, 1e300, 1.7e308])
    @pytest.mark.parametrize("precision", ["float64", "float32"])
    def test_weights_are_relative(self, weight: float, precision: Any) -> None:
        problem = Problem(normal(3, 2), normal(50, 2, seed=1), np.array([0.1, 1.0]))
        plain = score(problem, precision=precision)
        weighted = replace(problem, weights=np.full(50, weight))
        np.testing.assert_allclose(score(weighted, precision=precision), plain, rtol=1e-12)

    def test_eligible_weights_may_be_tiny_for_one_row_only(self) -> None:
        rows, groups, weights = np.zeros((2, 1)), np.array([0, 1]), np.array([1e-300, 1.0])
        problem = Problem(rows, rows, np.array([1.0]), weights, groups, groups)
        for precision in ("float64", "float32"):
            actual = score(problem, precision=precision)
            np.testing.assert_allclose(actual, -0.5 * np.log(2 * np.pi), rtol=1e-12)

    def test_a_weight_is_a_number_of_copies(self) -> None:
        query, train = normal(4, 3), normal(10, 3, seed=1)
        copies = np.arange(10)
        problem = Problem(query, train, np.array([0.3]), copies.astype(float))
        repeated = Problem(query, train.repeat(copies, axis=0), np.array([0.3]))
        np.testing.assert_allclose(score(problem), score(repeated), rtol=1e-12)


class TestGroups:
    def test_leave_one_out_drops_the_row_itself(self) -> None:
        rows = normal(6, 2)
        groups = np.arange(6)
        problem = Problem(rows, rows, np.array([0.7]), None, groups, groups)
        for i, actual in enumerate(score(problem)[0]):
            others = Problem(rows[[i]], np.delete(rows, i, axis=0), np.array([0.7]))
            np.testing.assert_allclose(actual, score(others)[0, 0], rtol=1e-12)

    def test_what_is_divided_by_is_the_weight_that_was_eligible(self) -> None:
        query, train, weights = np.zeros((2, 1)), np.zeros((3, 1)), np.array([1.0, 2, 4])
        groups = np.array([0, 1, 1])
        problem = Problem(query, train, np.array([1.0]), weights, groups[:2], groups)
        np.testing.assert_allclose(score(problem), -0.5 * np.log(2 * np.pi), rtol=1e-12)

    def test_no_other_group_is_no_density_for_that_row_only(self) -> None:
        problem = Problem(
            normal(2, 2), normal(4, 2), np.array([1.0]), None, np.array([7, 0]), np.full(4, 7)
        )
        actual = score(problem)
        assert np.isnan(actual[0, 0])
        assert np.isfinite(actual[0, 1])

    @pytest.mark.parametrize("shift", [0, 1, 6, 7, 100, -5, -13])
    @pytest.mark.parametrize("tile_rows", [1, 3, 512])
    def test_ranges_of_groups_that_touch_overlap_or_do_not(
        self, shift: int, tile_rows: int
    ) -> None:
        groups = np.repeat([3, 1, 5, 7], 3)
        weights = np.arange(1.0, 13)
        problem = Problem(
            normal(12, 2), normal(12, 2, seed=1), np.array([1.0]),
            weights, groups, groups + shift, tile_rows=tile_rows,
        )  # fmt: skip
        assert_within(score(problem), problem.expected())

    @pytest.mark.parametrize("precision", ["float64", "float32"])
    def test_results_do_not_change_where_no_group_is_looked_at(self, precision: Any) -> None:
        rows = normal(40, 3)
        groups = np.arange(40)
        problem = Problem(rows, rows, np.array([0.3, 2.0]), None, groups, groups, tile_rows=8)
        quick = score(problem, precision=precision)
        with mock.patch.object(tiles, "_disjoint", return_value=False):
            slow = score(problem, precision=precision)
        np.testing.assert_array_equal(quick, slow)

    def test_groups_are_compared_over_all_of_int64(self) -> None:
        far = np.array([2**62, 2**62 + 1])  # one number in float64
        problem = Problem(np.zeros((1, 1)), np.zeros((2, 1)), np.array([1.0]), None, far[:1], far)
        assert np.isfinite(score(problem)).all()


class TestShapes:
    def test_one_row_on_each_side(self) -> None:
        problem = Problem(np.array([[1.0, 2.0]]), np.array([[4.0, 6.0]]), np.array([5.0]))
        np.testing.assert_allclose(score(problem), -0.5 - np.log(2 * np.pi * 25), rtol=1e-15)

    def test_duplicates_are_counted(self) -> None:
        rows = np.full((700, 4), 3.0)  # more than one tile
        problem = Problem(rows[:2], rows, np.array([1e-3, 1.0, 1e3]))
        assert_within(score(problem), problem.expected())

    def test_the_order_of_bandwidths_is_the_callers(self) -> None:
        bandwidths = np.array([3.0, 0.01, 100.0, 0.5])
        problem = Problem(normal(4, 6), normal(300, 6, seed=1), bandwidths)
        together = score(problem)
        for k, bandwidth in enumerate(bandwidths):
            alone = score(replace(problem, bandwidths=np.array([bandwidth])))
            np.testing.assert_allclose(together[k], alone[0], rtol=1e-13)
        reverse = score(replace(problem, bandwidths=bandwidths[::-1]))
        np.testing.assert_array_equal(reverse[::-1], together)

    def test_more_rows_than_tiles(self) -> None:
        problem = Problem(normal(1025, 3), normal(1537, 3, seed=1), np.array([0.05, 0.5]))
        some = np.array([0, 511, 512, 1023, 1024])
        few = replace(problem, query=problem.query[some], query_borders=())
        assert_within(score(problem)[:, some], few.expected())

    @pytest.mark.parametrize("layout", ["F", "strided"])
    def test_any_memory_layout(self, layout: str) -> None:
        problem = Problem(normal(5, 6), normal(40, 6, seed=1), np.array([0.5]))
        if layout == "F":
            other = replace(
                problem,
                query=np.asfortranarray(problem.query),
                train=np.asfortranarray(problem.train),
            )
        else:
            wide = np.repeat(problem.train, 2, axis=1)
            other = replace(problem, train=wide[:, ::2])
        assert_within(score(other), score(problem))

    def test_densities_underflow_to_logs_not_to_infinity(self) -> None:
        problem = Problem(np.full((1, 2), 1e8), np.zeros((3, 2)), np.array([1e-3, 1.0, 1e9]))
        actual = score(problem)
        assert_within(actual, problem.expected())
        assert actual[0, 0] < -1e21

    @pytest.mark.parametrize("precision", ["float64", "float32"])
    @pytest.mark.parametrize("distance", [1e4, 1e5, 1e9, 1e10, 1e14, 1e18])
    def test_far_away_the_nearest_pair_still_counts(self, distance: float, precision: Any) -> None:
        # Its exponent relative to itself is 0, but rounding makes it anything.
        query = np.random.default_rng(0).uniform(0.5, 1, size=(200, 1)) * distance
        problem = Problem(query, normal(3, 1), np.array([1.0, 0.7]), tile_rows=2)
        actual = score(problem, precision=precision)
        if precision == "float64":
            assert_within(actual, problem.expected())
        else:
            assert_within_32(actual, problem.expected(), problem.exponents())

    @pytest.mark.parametrize("power", [-140, -30, 30, 140])
    def test_units_do_not_matter(self, power: int) -> None:
        unit = 10.0**power
        problem = Problem(normal(3, 5), normal(40, 5, seed=1), np.array([0.3, 2.0]))
        other = Problem(unit * problem.query, unit * problem.train, unit * problem.bandwidths)
        assert_within(score(other), other.expected())
