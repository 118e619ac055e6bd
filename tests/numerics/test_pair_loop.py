"""The two passes over a tile: squared distances, and sums of kernels, against long doubles."""

from math import inf
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from dkde.numerics.compiling import compiled
from dkde.numerics.distances import CHUNK, GROUP, LEAF, METRICS, scaled_distances, squared_distances
from dkde.numerics.exponential import NEAR_ZERO, SLOPE
from dkde.numerics.kernel_sums import COMPACT, add_compact, add_row, rescaling
from dkde.numerics.kernels import KERNELS

Array = npt.NDArray[Any]

EPSILON = 2.0**-53


# What is tested is for compiled callers.
@compiled()
def call_squared_distances(*arguments):  # type: ignore[no-untyped-def]
    return squared_distances(*arguments)


@compiled()
def call_scaled_distances(*arguments):  # type: ignore[no-untyped-def]
    return scaled_distances(*arguments)


@compiled()
def call_add_row(*arguments):  # type: ignore[no-untyped-def]
    return add_row(*arguments)


@compiled()
def call_add_compact(*arguments):  # type: ignore[no-untyped-def]
    return add_compact(*arguments)


WIDTHS = [*range(1, 18), 23, 24, 31, 32, 33, 63, 64, 65, 95, 96]


def distances(
    query: Array,
    train: Array,
    metric: str = "euclidean",
    limit: float = inf,
    factors: Array | None = None,
) -> tuple[bool, Array, Array]:
    """Whether there are distances, and these, (4, 128), with the least of each chunk, (4, 4)."""
    width = query.shape[1]
    rows, columns = np.zeros((GROUP, width)), np.zeros((2, width, LEAF))
    rows[:, : query.shape[1]] = query
    columns[1, : query.shape[1], : len(train)] = train.T
    columns[1, : query.shape[1], len(train) :] = inf
    columns[0] = np.nan  # another leaf, which is not to be touched
    out, least = np.full(GROUP * LEAF, np.nan), np.empty(GROUP * LEAF // CHUNK)
    given = METRICS[metric], width, rows, 0, columns.reshape(-1), np.uint64(width * LEAF), limit
    if factors is None:
        there = call_squared_distances(*given, out, least.view(np.int64))
    else:
        there = call_scaled_distances(*given, factors, LEAF, out, least.view(np.int64))
    return there, out.reshape(GROUP, LEAF), least.reshape(GROUP, -1)


def exact(query: Array, train: Array, metric: str) -> Array:
    apart = np.abs(query[:, None].astype(np.longdouble) - train.astype(np.longdouble))
    if metric == "euclidean":
        return np.asarray((apart**2).sum(axis=-1))
    return np.asarray((apart.sum(axis=-1) if metric == "manhattan" else apart.max(axis=-1)) ** 2)


class TestDistances:
    @pytest.mark.sampled(28)
    @pytest.mark.parametrize("metric", sorted(METRICS))
    @pytest.mark.parametrize("d", WIDTHS)
    def test_are_multiplied_by_the_factors_of_the_rows(self, d: int, metric: str) -> None:
        rng = np.random.default_rng(d)
        train, query = rng.normal(size=(LEAF, d)), rng.normal(size=(GROUP, d))
        factors = np.exp(rng.normal(size=2 * LEAF))
        there, found, least = distances(query, train, metric, factors=factors)
        assert there
        right = exact(query, train, metric) * factors[LEAF:]
        assert (np.abs(found - right) <= (2 * d + 7) * EPSILON * right).all()
        np.testing.assert_array_equal(least, found.reshape(GROUP, -1, CHUNK).min(axis=2))

    @pytest.mark.sampled(24)
    @pytest.mark.parametrize("metric", sorted(METRICS))
    @pytest.mark.parametrize("d", WIDTHS)
    def test_are_exact_to_the_roundings_that_bounds_take(self, d: int, metric: str) -> None:
        rng = np.random.default_rng(d)
        for offset, scale in ((0.0, 1.0), (1e6, 1.0), (-3.0, 1e-150), (0.0, 1e150)):
            train = offset + scale * rng.normal(size=(LEAF, d))
            query = train[:GROUP] + scale * rng.choice([0.0, 1e-9, 1.0], size=(GROUP, 1))
            there, found, least = distances(query, train, metric)
            right = exact(query, train, metric)
            assert there
            assert (np.abs(found - right) <= (2 * d + 6) * EPSILON * right + 1e-307).all()
            np.testing.assert_array_equal(least, found.reshape(GROUP, -1, CHUNK).min(axis=2))

    @pytest.mark.parametrize("metric", sorted(METRICS))
    @pytest.mark.parametrize("d", [1, 3, 5, 8, 20])
    @pytest.mark.parametrize("n", [1, 31, 32, 100])
    def test_places_that_are_not_filled_are_infinitely_far(
        self, n: int, d: int, metric: str
    ) -> None:
        rng = np.random.default_rng(n)
        query, train = rng.normal(size=(GROUP, d)), rng.normal(size=(n, d))
        _, found, least = distances(query, train, metric)
        assert np.isfinite(found[:, :n]).all()
        assert np.isposinf(found[:, n:]).all()
        np.testing.assert_array_equal(least, found.reshape(GROUP, -1, CHUNK).min(axis=2))

    @pytest.mark.parametrize("d", [9, 17, 40, 96])
    def test_stop_early_only_where_all_are_beyond_the_limit(self, d: int) -> None:
        rng = np.random.default_rng(d)
        query, train = rng.normal(size=(GROUP, d)), 10 + rng.normal(size=(LEAF, d))
        least = exact(query, train, "euclidean").min()
        assert distances(query, train, limit=float(least * (1 + 1e-9)))[0]
        assert not distances(query, train, limit=float(least) * 4 / d)[0]
        train[77] = query[2]
        assert distances(query, train, limit=1e-300)[0]

    def test_whole_numbers_are_exact(self) -> None:
        rng = np.random.default_rng(0)
        query, train = rng.integers(-30000, 30000, (4, 33)), rng.integers(-30000, 30000, (128, 33))
        right = ((query[:, None] - train) ** 2).sum(axis=-1)
        np.testing.assert_array_equal(distances(query, train)[1], right)


def profile(name: str, u2: Array) -> Array:
    """Kernels of long doubles, from their formulas."""
    inside = u2 < 1
    u2 = np.where(inside, u2, 1)
    u = np.sqrt(u2)
    shapes: dict[str, Any] = {
        "tophat": 1 + 0 * u2, "epanechnikov": 1 - u2, "biweight": (1 - u2) ** 2,
        "triweight": (1 - u2) ** 3, "linear": 1 - u,
        "cosine": np.cos(np.longdouble("1.5707963267948966192313216916397514") * u),
    }  # fmt: skip
    return np.where(inside, shapes[name], 0)


class TestSums:
    @pytest.mark.sampled(3)
    @pytest.mark.parametrize("near", [0.0, 0.7, 1e19, 1e200])
    @pytest.mark.parametrize("name", ["gaussian", "exponential"])
    @pytest.mark.parametrize("inverse", [1e-3, 1.0, 37.0])
    def test_relative_to_the_nearest(self, name: str, near: float, inverse: float) -> None:
        rng = np.random.default_rng(0)
        steps = np.sort(rng.exponential(3, LEAF)) / inverse
        root = np.sqrt(near) + steps
        d2 = near + steps if name == "gaussian" else root**2
        d2[0], d2[-1] = near, inf
        d2[CHUNK : 2 * CHUNK] += steps[-1]  # a chunk beyond the limit
        limit = d2[CHUNK : 2 * CHUNK].min() * (1 - 1e-12)
        weights = rng.uniform(0.1, 1, LEAF)
        padded = np.concatenate([np.full(5, np.nan), d2]), np.concatenate([[np.nan], weights])
        least = np.concatenate([[np.nan], d2.reshape(-1, CHUNK).min(axis=1)])
        if (least[1:] > limit).any():
            limit = min(limit, least[1:][least[1:] > limit].min() * (1 - 1e-12))
        found = call_add_row(
            KERNELS[name].code, padded[0], np.uint64(5), padded[1], np.uint64(1),
            least.view(np.int64), np.uint64(1), limit, near, inverse,
        )  # fmt: skip
        weights[np.repeat(least[1:] > limit, CHUNK)] = 0.0
        exact_d2 = d2.astype(np.longdouble)
        if name == "gaussian":
            exponents = (exact_d2 - near) * np.longdouble(inverse) / 2
        else:
            exponents = (np.sqrt(exact_d2) - np.sqrt(np.longdouble(near))) * np.sqrt(
                np.longdouble(inverse)
            )
        right = (weights * np.exp(-exponents)).sum()
        assert found >= weights[0]  # the nearest pair's exponent is 0, however far it is
        # Exponents of the exponential are as exact as roots, which are relative to the distance.
        of_root = 0.0
        if name == "exponential":
            of_root = 4 * EPSILON * float(np.sqrt(np.longdouble(near) * inverse))
        if of_root < 1e-3:
            assert abs(found - right) <= (5e-15 + of_root) * right

    def test_exponentials_are_as_exact_as_bounds_take_them_to_be(self) -> None:
        exponents = np.concatenate(
            [
                np.linspace(0, 1, 4000),
                np.geomspace(1, 708, 4000),
                np.arange(1, 1020) * np.log(2) / 2,
            ]
        )
        d2, weights = np.full(LEAF, inf), np.ones(LEAF)
        least = np.zeros(LEAF // CHUNK)
        for at, exponent in enumerate(exponents):
            d2[at % LEAF] = 2 * exponent
            found = call_add_row(
                0, d2, np.uint64(0), weights, np.uint64(0), least.view(np.int64), np.uint64(0),
                inf, 0.0, 1.0,
            )  # fmt: skip
            d2[at % LEAF] = inf
            right = np.exp(-np.longdouble(exponent))
            # Beside the exponential's own error: the roundings of a constant and of a product.
            off = NEAR_ZERO["float64"] + (SLOPE["float64"] + 2 * EPSILON) * exponent
            assert abs(found - right) <= off * right

    def test_exponents_too_low_for_a_number_are_0(self) -> None:
        d2, weights = np.full(LEAF, inf), np.ones(LEAF)
        least = np.zeros(LEAF // CHUNK)
        for too_far in (1420.0, 1e6, 1e17, 1e300, inf):
            d2[:2] = 0.0, too_far
            for inverse in (1.0, 1e10, 1e308):
                found = call_add_row(
                    0, d2, np.uint64(0), weights, np.uint64(0), least.view(np.int64), np.uint64(0),
                    inf, 0.0, inverse,
                )  # fmt: skip
                assert found == 1.0

    @pytest.mark.sampled(3)
    @pytest.mark.parametrize(
        "name", [name for name, kernel in KERNELS.items() if kernel.code >= COMPACT]
    )
    def test_of_compact_support(self, name: str) -> None:
        rng = np.random.default_rng(0)
        for inverse in (1.0, 0.3, 1e-200, 1e200):
            d2 = rng.uniform(0, 2, LEAF) / inverse
            d2[:3] = 0.0, 1.001 / inverse, inf
            weights = rng.uniform(0.1, 1, LEAF)
            found = call_add_compact(
                KERNELS[name].code, d2, np.uint64(0), weights, np.uint64(0), inverse
            )
            right = (weights * profile(name, d2.astype(np.longdouble) * inverse)).sum()
            assert abs(found - right) <= 1e-14 * right

    @pytest.mark.parametrize(
        "name", [name for name, kernel in KERNELS.items() if kernel.code >= COMPACT]
    )
    def test_at_the_edge_is_outside(self, name: str) -> None:
        d2 = np.full(LEAF, 1.0)
        for outside in (1.0, 1.0 + 2**-52, inf):
            d2[:] = outside
            arguments = d2, np.uint64(0), np.ones(LEAF), np.uint64(0), 1.0
            assert call_add_compact(KERNELS[name].code, *arguments) == 0
        d2[7] = 1 - 2.0**-53
        assert call_add_compact(KERNELS[name].code, *arguments) > 0

    @pytest.mark.parametrize("name", ["gaussian", "exponential"])
    def test_rescaling_to_a_nearer_pair(self, name: str) -> None:
        for nearer, near in ((0.0, 1.0), (3.0, 3.5), (1.0, 1.0)):
            wide = (
                np.sqrt([nearer, near]) if name == "exponential" else np.array([nearer, near]) / 2
            )
            found = rescaling(KERNELS[name].code, nearer, near, 1.0)
            np.testing.assert_allclose(found, np.exp(wide[0] - wide[1]), rtol=1e-15)

    def test_every_kernel_has_a_number(self) -> None:
        for kernel in KERNELS.values():
            assert (kernel.code >= COMPACT) == (kernel.profile is not None)
