"""Queries that are tensor grids: sums along their axes, and pairs of near leaves for the tails."""

from collections.abc import Callable
from math import log, pi
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import xarray as xr

import dkde
from dkde.engine import survey as survey_module
from dkde.engine.grid_blocks import GridBlock
from dkde.errors import InputError

Array = npt.NDArray[Any]
NAMES = ["x", "y", "z"]


@pytest.fixture
def along_axes(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Have grids summed along their axes at all bandwidths, however few rows; list the ranges."""
    ranges: list[tuple[int, int]] = []
    sums = GridBlock._by_axes

    def chosen(grid: Any, t: Any, task: Any, *others: Any, **options: Any) -> Any:
        return tuple(range(len(task.bandwidths))), 1.0

    def noted(self: Any, moments: Any, start: int, stop: int, frame: Any) -> Any:
        ranges.append((start, stop))
        return sums(self, moments, start, stop, frame)

    monkeypatch.setattr(survey_module, "_is_small", lambda *sides: False)
    monkeypatch.setattr(survey_module, "choose_for_grid", chosen)
    monkeypatch.setattr(GridBlock, "_by_axes", noted)
    return ranges


def table(rows: Array, **others: Any) -> xr.Dataset:
    columns = {name: ("row", rows[:, j]) for j, name in enumerate(NAMES[: rows.shape[1]])}
    return xr.Dataset(columns | {name: ("row", values) for name, values in others.items()})


def axes_of(lines: list[Array], dims: list[int]) -> xr.Dataset:
    """A Dataset of axes, with its dims in another order than the features."""
    order = [NAMES[dim] for dim in dims]
    return xr.Dataset(coords={name: (name, lines[NAMES.index(name)]) for name in order})


def truth(
    lines: list[Array], train: Array, bandwidths: Any, weights: Array | None = None,
    scales: Any = 1.0,
) -> Array:  # fmt: skip
    """Log-densities (bandwidths, lines of each axis), summed in extended precision."""
    number = np.longdouble
    scales = np.broadcast_to(np.asarray(scales, number), (len(lines),))
    weights = np.ones(len(train)) if weights is None else weights
    exponents = np.zeros((*[1] * len(lines), len(train)), number)
    for j, along in enumerate(lines):
        apart = (along.astype(number)[:, None] - train[:, j].astype(number)) / scales[j]
        exponents = exponents - np.moveaxis(
            (apart**2 / 2).reshape(len(along), *[1] * (len(lines) - 1), -1), 0, j
        )
    found = []
    with np.errstate(divide="ignore"):
        logs = np.log(weights.astype(number))
    for h in bandwidths:
        terms = exponents / number(h) ** 2 + logs
        top = terms.max(axis=-1, keepdims=True)
        total = np.log(np.exp(terms - top).sum(axis=-1)) + top[..., 0]
        norm = len(lines) * (np.log(number(h)) + number(log(2 * pi)) / 2) + np.log(scales).sum()
        found.append(total - norm - np.log(weights.astype(number).sum()))
    return np.stack(found)


def assert_right(
    query: xr.Dataset, lines: list[Array], rows: Array, bandwidths: Any, *, tol: float,
    weights: Array | None = None, scales: Any = 1.0, train: Any = None, **options: Any,
) -> xr.DataArray:  # fmt: skip
    """Hold all cells to the tolerance, and to their own bounds; return these."""
    if train is None:
        train = table(rows) if weights is None else table(rows, w=weights)
        options["weights"] = None if weights is None else "w"
    order = ["bandwidth", *NAMES[: len(lines)]]
    values, errors = (
        each.transpose(*order).compute()
        for each in dkde.log_density(
            query, train, bandwidths, tol=tol, return_error=True, **options
        )
    )
    expected = truth(lines, rows, bandwidths, weights, scales)
    wrong = np.abs(values.values - expected)
    assert (errors.values <= tol * np.maximum(1, np.abs(expected))).all()
    assert (wrong <= errors.values).all(), (wrong - errors.values).max()
    return errors


def random_case(random: np.random.Generator, d: int) -> tuple[list[Array], Array, list[float]]:
    """Lines of each axis, training rows, and bandwidths."""
    n = int(random.choice([1, 2, 40, 300]))
    rows = random.standard_normal((n, d))
    kind = random.integers(5)
    if kind == 0:  # clusters far apart
        rows = 0.01 * rows + random.integers(-3, 4, (n, d))
    elif kind == 1:  # all equal
        rows[:] = rows[0]
    elif kind == 2:  # a lattice, with duplicates and edges of cells
        rows = np.rint(2 * rows) / 2
    elif kind == 3:  # one far row
        rows[0] = 1e4
    scale, offset = 10.0 ** random.uniform(-3, 3), random.choice([0, 100]) * np.ones(d)
    rows = (rows + offset) * scale
    lines = []
    for j in range(d):
        low, high = np.sort(rows[:, j])[[0, -1 - (n > 1)]]
        beyond = random.choice([0.1, 1, 10]) * scale
        along = np.linspace(low - beyond, high + beyond, int(random.choice([1, 2, 7, 12])))
        manner = random.integers(4)
        if manner == 0:
            along = np.sort(random.uniform(along[0], along[-1], len(along)))
        elif manner == 1:
            along = along[::-1].copy()
        elif manner == 2:
            along = random.permutation(along)
        lines.append(along)
    h = scale * 10.0 ** random.uniform(-1.5, 1.5)
    return lines, rows, [h * each for each in (0.5, 1, 4)][: random.integers(1, 4)]


@pytest.mark.parametrize("d", [2, 3])
def test_random_grids(along_axes: list[Any], d: int) -> None:
    random = np.random.default_rng(d)
    for case in range(12):
        lines, rows, bandwidths = random_case(random, d)
        weights = None
        if case % 3 == 0:
            weights = np.exp(random.choice([1, 30]) * random.standard_normal(len(rows)))
            weights[random.uniform(size=len(rows)) < 0.2] = 0
            weights[0] = 1
        query = axes_of(lines, [*random.permutation(d)])
        cut = {} if case % 2 else {"block_rows": int(random.integers(1, 50)), "panel_rows": 123}
        tol = float(random.choice([1e-3, 1e-6, 1e-9]))
        assert_right(query, lines, rows, bandwidths, tol=tol, weights=weights, **cut)
    assert along_axes
