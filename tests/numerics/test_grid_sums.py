"""Sums on tensor grids against sums in extended precision: every bound holds, and is of use."""

from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from dkde.numerics import axis_matrix as axis_module
from dkde.numerics import grid_sums as grid_module
from dkde.numerics.axis_matrix import axis_matrix, reach_for_grid
from dkde.numerics.grid_cells import GridCells
from dkde.numerics.grid_sums import grid_sums
from dkde.numerics.moment_set import MomentSet

Array = npt.NDArray[Any]
Number = np.longdouble


def cells_of(
    train: Array, h: float, weights: Array | None = None, tol: float = 3e-12, order: int = 16
) -> GridCells:
    moments = MomentSet(train.shape[1], h, tol, order)
    weights = np.ones(len(train)) if weights is None else weights
    moments.add(train, weights, moments.located(train))
    return GridCells.of(moments)


def true_sums(lines: Any, train: Array, h: float, weights: Array | None = None) -> Array:
    """In extended precision, from the float64 values as they are given."""
    result = np.ones(len(train)) if weights is None else weights
    result = result.astype(Number)
    tables = [
        np.exp(-(((along.astype(Number)[:, None] - train[:, j]) / Number(h)) ** 2) / 2)
        for j, along in enumerate(lines)
    ]
    # The last axis as a matrix product, the others beside the rows.
    result = tables[0] * result
    for table in tables[1:-1]:
        result = (result[:, None] * table).reshape(-1, len(train))
    found: Array = result @ tables[-1].T
    return found.reshape([len(along) for along in lines])


def assert_bounded(sums: Array, bounds: Array, truth: Array) -> None:
    known = np.isfinite(bounds)
    assert (np.abs(sums.astype(Number) - truth)[known] <= bounds[known]).all()


def wide(sums: Array, bounds: Array, tol: float) -> Array:
    """Which points are left to pairs."""
    found: Array = ~(bounds < 0.9 * tol * sums)
    return found


@pytest.mark.parametrize(("box", "widths"), list(product((3.0, 15.0), (0.1, 1.0, 10.0, None))))
def test_every_bound_holds_in_the_plane(box: float, widths: float | None) -> None:
    """Bandwidths from a tenth of the grid's step to ten of the whole box (None)."""
    random = np.random.default_rng([int(box), int(10 * (widths or 0))])
    train = random.standard_normal((700, 2))
    train[:50] = train[0]
    lines = [np.linspace(-box, box, 40), np.linspace(-box, box, 30)]
    h = 20 * box if widths is None else widths * float(lines[0][1] - lines[0][0])
    weights = np.exp(3 * random.standard_normal(700))
    for tol in (1e-6, 1e-9):
        for given in (None, weights):
            sums, bounds = grid_sums(cells_of(train, h, given), lines, tol=tol, n_train=700)
            assert_bounded(sums, bounds, true_sums(lines, train, h, given))
            if widths is None:
                assert not wide(sums, bounds, tol).any()
            elif box == 3 and widths == 1:
                assert wide(sums, bounds, tol).mean() < 0.4


def random_lines(random: np.random.Generator, train: Array, h: float, kind: str) -> list[Array]:
    low, high = train.min(axis=0) - 3 * h, train.max(axis=0) + 3 * h
    found = []
    for j in range(train.shape[1]):
        n = int(random.integers(1, 14))
        if kind == "integers":
            along = np.unique(np.rint(random.uniform(low[j], high[j], n)))
        elif kind == "on rows":
            along = np.sort(random.choice(train[:, j], n))
        elif kind == "one line":
            along = random.uniform(low[j], high[j], 1 if j % 2 else n)
        else:
            along = np.linspace(low[j], high[j], n) ** (3 if kind == "uneven" else 1)
        found.append(np.sort(along))
    return found


def random_rows(random: np.random.Generator, n: int, d: int, kind: str) -> Array:
    if kind == "clusters":
        return random.standard_normal((n, d)) * 0.01 + random.integers(-3, 4, (n, d))
    if kind == "heavy":
        return random.standard_cauchy((n, d)).clip(-1e5, 1e5)
    if kind == "lattice":  # on the edges of cells, and duplicates
        return random.integers(-4, 5, (n, d)) * 0.5
    if kind == "one point":
        return np.repeat(random.standard_normal((1, d)), n, axis=0)
    return random.standard_normal((n, d))


ROWS = ["normal", "clusters", "heavy", "lattice", "one point"]
LINES = ["even", "uneven", "integers", "on rows", "one line"]


@pytest.mark.parametrize(("d", "rows"), list(product((2, 3), ROWS)))
def test_bounds_hold_for_any_rows_and_lines(d: int, rows: str) -> None:
    random = np.random.default_rng([d, ROWS.index(rows)])
    for case in range(15):
        n = int(random.integers(1, 200))
        scale = 10.0 ** random.uniform(-4, 4)
        offset = random.choice([0, 1e3]) * random.standard_normal(d)
        train = (random_rows(random, n, d, rows) + offset) * scale
        h = scale * 10.0 ** random.uniform(-2, 1)
        weights = np.exp(random.choice([1, 20]) * random.standard_normal(n))
        lines = random_lines(random, train, h, LINES[case % 5])
        tol = 10.0 ** random.uniform(-11, -2)
        order = int(random.choice([8, 12, 16, 20]))
        cells = cells_of(train, h, weights, 10.0 ** random.uniform(-13, -3), order)
        sums, bounds = grid_sums(cells, lines, tol=tol, n_train=n)
        assert sums.shape == tuple(map(len, lines))
        assert_bounded(sums, bounds, true_sums(lines, train, h, weights))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(40))
def test_bounds_hold_for_many_rows_and_lines(seed: int) -> None:
    random = np.random.default_rng([7, seed])
    for case in range(50):
        d, n = int(random.integers(2, 4)), int(random.integers(1, 2000))
        train = random_rows(random, n, d, ROWS[case % 5]) * 10.0 ** random.uniform(-4, 4)
        h = float(np.ptp(train) + 1e-3) * 10.0 ** random.uniform(-3, 1)
        lines = random_lines(random, train, h, LINES[int(random.integers(0, 5))])
        cells = cells_of(train, h, None, 10.0 ** random.uniform(-13, -3), 16)
        sums, bounds = grid_sums(cells, lines, tol=1e-9, n_train=n)
        assert_bounded(sums, bounds, true_sums(lines, train, h))


def summed_in_one_cell() -> tuple[Array, Array, Array]:
    """Rows at a cell's centre, each batch of which is rounded the same way as it is added."""
    h, order = 8.0, 16
    side = MomentSet(2, h, 1e-30, order).side
    train = np.full((2**18, 2), 0.5 * side)
    lines = [train[0, :1] + [0.0, 0.3], train[0, :1]]
    weights = np.full(len(train), 1 / 3)
    cells = cells_of(train, h, weights, 1e-30, order)
    truth = true_sums(lines, train[:1], h) * Number(weights[0]) * len(train)
    return *grid_sums(cells, lines, tol=1e-13, n_train=len(train)), truth


def test_roundings_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    assert_bounded(*summed_in_one_cell())
    monkeypatch.setattr(grid_module, "_units", lambda *sizes: 0.0)
    with pytest.raises(AssertionError):
        assert_bounded(*summed_in_one_cell())


def test_roundings_of_matrices_and_places_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(0)
    train, h = random.uniform(0, 0.2, (30, 2)), 2.0
    lines = [np.linspace(-2, 2, 30)] * 2
    truth = true_sums(lines, train, h)
    # Cells that are small beside the bandwidth: interpolation adds nothing to the bound.
    cells = replace(cells_of(train, h / 64, None, 1e-6, 8), h=h)
    assert_bounded(*grid_sums(cells, lines, tol=1e-13, n_train=30), truth)
    for module in (grid_module, axis_module):
        monkeypatch.setattr(module, "UNIT", 0.0)
    with pytest.raises(AssertionError):
        assert_bounded(*grid_sums(cells, lines, tol=1e-13, n_train=30), truth)


@pytest.mark.parametrize("d", [2, 3])
def test_cells_out_of_reach_are_in_the_bound(d: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grid_module, "reach_for_grid", lambda *sizes: 1.0)
    random = np.random.default_rng(0)
    train = random.standard_normal((200, d))
    lines = [np.linspace(-3, 3, 9)] * d
    truth = true_sums(lines, train, 0.3)
    sums, bounds = grid_sums(cells_of(train, 0.3), lines, tol=1e-6, n_train=200)
    assert_bounded(sums, bounds, truth)
    assert np.abs(sums - truth).max() > 1e-2  # that much was left out


@pytest.mark.parametrize("far", [1e3, 1e6])
def test_coordinates_rounded_by_subtraction_are_in_the_bound(far: float) -> None:
    random = np.random.default_rng(0)
    h, point = 1e-8 * far, far * np.array([1.0, -0.7])  # so far that differences are rounded
    lines = [np.sort(random.standard_normal(11)), np.sort(random.standard_normal(7))]
    at = random.integers(0, 7, 300)
    train = np.column_stack([lines[0][at], lines[1][at]]) + h * random.standard_normal((300, 2))
    truth = true_sums(lines, train, h)
    moved = [along - point[j] for j, along in enumerate(lines)]
    cells = cells_of(train - point, h)
    assert_bounded(*grid_sums(cells, moved, tol=1e-9, n_train=300, rounded=True), truth)
    with pytest.raises(AssertionError):
        assert_bounded(*grid_sums(cells, moved, tol=1e-9, n_train=300), truth)


@pytest.mark.sampled(4)
@pytest.mark.parametrize(("d", "tol"), list(product((2, 3), (1e-6, 1e-9))))
def test_few_points_amid_the_rows_are_left_to_pairs(d: int, tol: float) -> None:
    random = np.random.default_rng(d)
    train = random.standard_normal((20_000, d))
    lines = [np.linspace(-2, 2, 40 if d == 2 else 12)] * d
    sums, bounds = grid_sums(cells_of(train, 0.25), lines, tol=tol, n_train=len(train))
    assert wide(sums, bounds, tol).mean() < 0.01


def test_clusters_a_million_bandwidths_apart() -> None:
    random = np.random.default_rng(0)
    train = random.integers(-1, 2, (400, 2)) * 1e6 + random.standard_normal((400, 2))
    along = np.concatenate([centre + np.linspace(-2, 2, 5) for centre in (-1e6, 0, 1e6)])
    sums, bounds = grid_sums(cells_of(train, 1.0), [along, along], tol=1e-9, n_train=400)
    assert_bounded(sums, bounds, true_sums([along, along], train, 1.0))
    assert not wide(sums, bounds, 1e-9).any()


def test_points_without_rows_in_reach_are_left_to_pairs() -> None:
    random = np.random.default_rng(0)
    train = random.standard_normal((300, 2))
    lines = [np.array([0.0, 60.0, 1e12, 1e200])] * 2
    sums, bounds = grid_sums(cells_of(train, 0.5), lines, tol=1e-6, n_train=300)
    assert not wide(sums, bounds, 1e-6)[0, 0]
    assert np.isinf(bounds[1:, :]).all()
    assert np.isinf(bounds[:, 1:]).all()


def test_rows_in_no_cell_leave_points_near_them_to_pairs() -> None:
    random = np.random.default_rng(0)
    train = random.standard_normal((300, 2))
    train[:2] = 1e12
    lines = [np.array([0.0, 1e12])] * 2
    _, bounds = grid_sums(cells_of(train, 0.5), lines, tol=1e-6, n_train=300)
    assert np.isfinite(bounds[0, 0])
    assert np.isinf(bounds[1, 1])


@pytest.mark.parametrize("d", [2, 3])
def test_no_rows_and_no_lines(d: int) -> None:
    lines = [np.linspace(0, 1, 3)] * d
    sums, bounds = grid_sums(cells_of(np.zeros((0, d)), 0.5), lines, tol=1e-6, n_train=0)
    assert (sums == 0).all()
    assert np.isinf(bounds).all()
    none = [np.zeros(0), *lines[1:]]
    sums, bounds = grid_sums(cells_of(np.zeros((5, d)), 0.5), none, tol=1e-6, n_train=5)
    assert sums.shape == bounds.shape == (0, *[3] * (d - 1))


@pytest.mark.parametrize("d", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_slabs_and_parts_of_a_grid_do_not_matter(d: int, monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(d)
    train = random.standard_normal((2000, d))
    cells = cells_of(train, 0.2)
    lines = [np.sort(random.uniform(-2, 2, 30 - 5 * j)) for j in range(d)]
    whole, bounds = grid_sums(cells, lines, tol=1e-9, n_train=2000)
    again, _ = grid_sums(cells, lines, tol=1e-9, n_train=2000)
    assert again.tobytes() == whole.tobytes()
    others = [cells.axis(j, lines[j], reach=reach_for_grid(1e-9, 2000)) for j in range(1, d)]
    for start in range(0, 30, 7):
        part = [lines[0][start : start + 7], *lines[1:]]
        cut, _ = grid_sums(cells, part, tol=1e-9, n_train=2000, axes=[None, *others])
        assert np.abs(cut - whole[start : start + 7]) == pytest.approx(0, abs=1e-12 * whole.max())
    monkeypatch.setattr(grid_module, "_SLAB_BYTES", 8)
    monkeypatch.setattr(grid_module, "_TOGETHER_BYTES", 8)
    cut, wider = grid_sums(cells, lines, tol=1e-9, n_train=2000)
    assert np.abs(cut - whole) == pytest.approx(0, abs=1e-12 * whole.max())
    assert np.isfinite(wider).sum() == np.isfinite(bounds).sum()


@pytest.mark.parametrize(("order", "side"), [(8, 0.5), (8, 2.0), (12, 1.5), (16, 1.5), (20, 3.0)])
def test_an_axis_errs_by_what_it_says(order: int, side: float) -> None:
    lines = np.linspace(-9, 9, 61)
    axis = axis_matrix(lines, -8, 17, order, side, 1.0, reach=9.0)
    places = np.cos(np.linspace(0, np.pi, 101)).astype(Number)
    polynomials = np.cos(np.arange(order)[:, None] * np.arccos(places))
    seen, tight = 0, 0
    for block in axis.blocks:
        cells = block.low + np.arange(block.kernel.shape[1])
        centres = (cells.astype(Number) + 0.5) * side
        z = lines[block.start : block.stop, None, None] - (centres[:, None] + side / 2 * places)
        kernel = np.exp(-z * z / 2)
        near = block.kernel > 0
        assert (kernel[~near] <= axis.left).all()
        found = block.matrix.astype(Number) @ polynomials
        error = np.abs(found - kernel).max(axis=2)
        assert (error[near] <= block.error[near]).all()
        assert (kernel.max(axis=2)[near] <= block.kernel[near]).all()
        assert (np.abs(found).max(axis=2) <= block.magnitude).all()
        seen += int(near.sum())
        tight += int((error >= 0.1 * block.error)[near].sum())
    assert seen
    if order < 16:  # else roundings are in the bound, of which there are none here
        assert tight > 0.05 * seen
