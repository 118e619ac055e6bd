"""Counts of cells from a sample."""

import numpy as np
import pytest

from dkde.numerics.cell_cost import Cost, expected_cells, is_left, moment_tolerances, spacing_of
from dkde.numerics.cells import Cells


@pytest.mark.parametrize("d", [1, 2, 3])
@pytest.mark.parametrize("side", [0.1, 0.3, 1.0])
@pytest.mark.parametrize("kind", ["normal", "uniform", "far", "clusters"])
def test_cells_are_expected_within_a_factor_of_two_or_so(d: int, side: float, kind: str) -> None:
    random = np.random.default_rng(d)
    rows = random.standard_normal((100_000, d))
    if kind == "uniform":
        rows = random.uniform(-2, 2, (100_000, d))
    elif kind == "clusters":
        rows = rows * 0.1 + 2 * random.standard_normal((20, d))[random.integers(0, 20, 100_000)]
    elif kind == "far":
        rows[0] = 1e7  # a box around all rows has next to no rows in it
    cells = Cells(d, side, 0)
    cells.number(rows)
    expected, extents = expected_cells(rows[::20], len(rows), side)
    assert 0.4 * len(cells) <= expected <= 2.5 * len(cells)
    if kind == "uniform":
        assert (np.abs(extents - 4 / side) <= 2).all()


def test_rows_in_no_cell_or_in_one_are_counted() -> None:
    assert expected_cells(np.full((10, 2), 1e200), 1000, 0.1)[0] == 1000
    assert expected_cells(np.full((10, 2), 0.5), 1000, 0.1)[0] == 1
    assert expected_cells(np.eye(2), 2, 0.1)[0] == 2


def test_cost_grows_with_rows_and_cells() -> None:
    random = np.random.default_rng(0)
    query, train = random.standard_normal((2, 2000, 2))
    few = Cost.of(10**4, 10**5, query, train, 0.1, 1e-6)
    more = Cost.of(10**4, 10**6, query, train, 0.1, 1e-6)
    narrow = Cost.of(10**4, 10**5, query, train, 0.01, 1e-6)
    assert 5 * few.moments < more.moments < 15 * few.moments
    assert few.sums == more.sums
    assert narrow.translations > 5 * few.translations
    assert narrow.nbytes > few.nbytes
    folds = Cost.of(10**4, 10**5, query, train, 0.1, 1e-6, n_groups=5)
    assert folds.translations == 5 * few.translations
    assert folds.nbytes > 2 * few.nbytes
    assert few.time == few.moments + few.translations + few.sums


def test_moments_for_a_smaller_tolerance_leave_fewer_rows() -> None:
    random = np.random.default_rng(0)
    train, query = random.standard_normal((2, 1000, 2))
    d2 = ((query[:, None] - train) ** 2).sum(axis=2)
    tolerances = moment_tolerances(1e-6)
    assert tolerances == [1e-6, pytest.approx(1e-9), 1e-13]
    assert moment_tolerances(1e-13) == [1e-13]
    assert not is_left(
        d2, spacing_of(train), 3.0, 1e-6, 1e-6
    ).any()  # all within the spacing of the sample
    shares = [
        is_left(d2 + 20 * 0.1**2, spacing_of(train), 0.1, 1e-6, tol).mean() for tol in tolerances
    ]
    assert shares[0] > 0.5 > shares[2]
    apart = is_left(np.full((2, 1000), np.inf), spacing_of(train), 0.1, 1e-6, 1e-13)
    assert apart.all()  # nothing counts for these
    assert not is_left(np.zeros((1, 1)), spacing_of(train[:1]), 0.1, 1e-6, 1e-6).any()
