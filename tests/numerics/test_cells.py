"""Cells of a grid, and the table of translations between them."""

from typing import Any

import numpy as np
import pytest

from dkde.numerics.cells import Cells, between, grouped, indices
from dkde.numerics.translation import side_for, translation

Number = np.longdouble


@pytest.mark.sampled(3)
@pytest.mark.parametrize(
    ("order", "tol"), [(8, 1e-3), (8, 1e-6), (12, 1e-6), (12, 1e-9), (16, 1e-9)]
)
def test_translations_err_by_what_they_say(order: int, tol: float) -> None:
    side = side_for(order, tol)
    table = translation(order, side, 5)
    places = np.cos(np.linspace(0, np.pi, 201)).astype(Number)
    polynomials = np.cos(np.arange(order)[:, None] * np.arccos(places))
    for cells in range(-5, 6):
        z = cells * Number(side) + Number(side) / 2 * (places[:, None] - places[None, :])
        sums = polynomials.T @ table.coefficients[cells + 5].astype(Number) @ polynomials
        error = np.abs(np.exp(-z * z / 2) - sums).max()
        assert error <= table.error[cells + 5]
        assert np.exp(-z * z / 2).max() <= table.kernel[cells + 5]
        assert np.abs(sums).max() <= table.magnitude[cells + 5]
        if abs(cells) <= 1:
            assert error >= 0.1 * table.error[cells + 5]  # or the bound says little


@pytest.mark.parametrize("d", [1, 2, 3])
def test_cells_that_a_sum_goes_through(d: int) -> None:
    random = np.random.default_rng(d)
    for reach in (1, 3):
        sides = []
        for _ in range(2):
            cells = Cells(d, 1.0, 256)
            numbers = cells.number(random.integers(-8, 9, (30, d)) + 0.5)
            assert (numbers >= 0).all()
            sides.append(np.sort(cells.keys))
        bits = cells.bits
        sets = between(*sides, bits, d, reach)
        source, target = ([_indices(key, bits, d) for key in side] for side in sides)
        for axes, keys in enumerate(sets):
            expected = {
                t[:axes] + s[axes:]
                for s in source
                for t in target
                if all(abs(a - b) <= reach for a, b in zip(s, t, strict=True))
            }
            found = [_indices(key, bits, d) for key in keys]
            assert found == sorted(found)
            assert expected <= set(found)
            if 0 < axes < d:
                near = {c for c in found if _is_near(c, axes, source, target, reach)}
                assert set(found) == near


def test_indices_of_keys_are_the_places_of_centres() -> None:
    random = np.random.default_rng(0)
    for d in (1, 2, 3):
        values = random.uniform(-50, 50, (200, d))
        cells = Cells(d, 0.75, 256)
        numbers = cells.number(values)
        centres = (indices(cells.keys, cells.bits, d) + 0.5) * 0.75
        assert (np.abs(values - centres[numbers]) <= 0.375).all()
        assert (cells.number_keys(cells.keys.copy()) == np.arange(len(cells))).all()


def _indices(key: int, bits: int, d: int) -> tuple[int, ...]:
    return tuple((int(key) >> bits * (d - 1 - j)) & (2**bits - 1) for j in range(d))


def _is_near(cell: Any, axes: int, source: Any, target: Any, reach: int) -> bool:
    def near(a: Any, b: Any) -> bool:
        return all(abs(i - j) <= reach for i, j in zip(a, b, strict=True))

    return any(near(cell[:axes], s[:axes]) and cell[axes:] == s[axes:] for s in source) and any(
        cell[:axes] == t[:axes] and near(cell[axes:], t[axes:]) for t in target
    )


def test_rows_keep_their_order_in_a_cell() -> None:
    rows, starts = grouped(np.array([1, 0, -1, 1, 0]), 3)
    assert rows.tolist() == [1, 4, 0, 3]
    assert starts.tolist() == [0, 2, 4, 4]
