"""Query leaves that are tiles of a lattice hold all of its points, and their boxes these."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import reference

import dkde
from dkde.numerics.distances import GROUP
from dkde.numerics.lattice_leaves import lattice_query
from dkde.numerics.tree import QUERY_LEAF

Array = npt.NDArray[Any]


def lattice(first: Array, second: Array, *, swapped: bool = False) -> Array:
    points = np.stack(np.meshgrid(first, second, indexing="ij"), axis=-1).reshape(-1, 2)
    return points[:, ::-1] if swapped else points


@pytest.mark.parametrize("swapped", [False, True])
@pytest.mark.parametrize(
    "sizes", [(8, 8), (16, 24), (8, 9), (17, 11), (64, 1), (3, 70), (41, 67), (1, 64), (2, 1000)]
)
def test_leaves_hold_all_points_and_boxes_these(sizes: tuple[int, int], swapped: bool) -> None:
    rng = np.random.default_rng(0)
    first, second = (np.cumsum(rng.uniform(0.1, 1, n)) + 1e6 for n in sizes)
    # Steps of the one axis are of any size beside those of the other.
    for factor in (1e-3, 1.0, 30.0):
        points = lattice(first[::-1] * factor, second, swapped=swapped)
        leaves = lattice_query(points)
        if leaves is None:
            assert factor != 1.0 or min(sizes) < 8
            continue
        np.testing.assert_array_equal(np.sort(leaves.order), np.arange(len(points)))
        np.testing.assert_array_equal(leaves.rows[: len(points)], points[leaves.order])
        assert (leaves.rows[len(points) :] == leaves.rows[len(points) - 1]).all()
        for size, low, high in (
            (QUERY_LEAF, leaves.low, leaves.high), (GROUP, leaves.group_low, leaves.group_high),
        ):  # fmt: skip
            pieces = [leaves.rows[a : a + size] for a in range(0, len(leaves.rows), size)]
            np.testing.assert_array_equal(low, [piece.min(axis=0) for piece in pieces])
            np.testing.assert_array_equal(high, [piece.max(axis=0) for piece in pieces])


def test_tiles_groups_and_eights_are_about_square() -> None:
    leaves = lattice_query(lattice(np.arange(32) * 1.0, np.arange(64) * 4.0))
    assert leaves is not None
    assert leaves.n_leaves == 32
    for rows, sides in ((64, (15, 12)), (8, (7, 0)), (4, (3, 0))):
        found = np.ptp(leaves.rows.reshape(-1, rows, 2), axis=1)
        np.testing.assert_array_equal(found, np.broadcast_to(sides, found.shape))


def test_other_rows_are_no_lattice() -> None:
    points = lattice(np.arange(16.0), np.arange(16.0))
    assert lattice_query(points) is not None
    moved = points.copy()
    moved[100, 1] += 1e-9
    shuffled = points[np.random.default_rng(0).permutation(len(points))]
    unsorted = lattice(np.arange(16.0), np.random.default_rng(0).permutation(np.arange(16.0)))
    line = np.column_stack([np.arange(256.0), np.arange(256.0)])
    for rows in (moved, shuffled, unsorted, line, points[:-1], np.zeros((1, 2)), points[:, :1]):
        assert lattice_query(rows) is None


@pytest.mark.sampled(3)
@pytest.mark.parametrize("kernel", ["tophat", "epanechnikov", "biweight"])
def test_maps_are_right(kernel: str) -> None:
    rng = np.random.default_rng(1)
    for offset, h in ((0.0, 0.05), (1e6, 0.7), (-1e3, 3.0)):
        train = rng.normal(size=(200, 2)) * [1.0, 0.2] + offset
        first, second = (np.sort(rng.uniform(-2, 2, n)) + offset for n in (17, 19))
        points = lattice(first, second[::-1])
        found = dkde.log_density(points, train, h, kernel=kernel)
        expected = reference.log_density(points, train, [h], kernel=kernel)[0]
        np.testing.assert_array_equal(np.isfinite(found), np.isfinite(expected))
        there = np.isfinite(found)
        np.testing.assert_allclose(found[there], expected[there], rtol=0, atol=1e-8)
