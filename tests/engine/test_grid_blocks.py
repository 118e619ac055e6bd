"""Queries that are tensor grids: sums along their axes, and pairs of near leaves for the tails."""

from math import log, pi
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import xarray as xr

import dkde
from dkde.datasets import writing
from dkde.engine import grid_blocks
from dkde.engine import survey as survey_module
from dkde.engine.grid_blocks import GridBlock
from dkde.errors import InputError
from dkde.estimation.fitted import Fitted
from dkde.estimation.options import Options
from dkde.inputs.selectors import Catalog
from dkde.inputs.sides import operands, side
from dkde.numerics.grid_near import needed_cells
from dkde.rows import row_source
from dkde.workers.cluster import pool_for

Array = npt.NDArray[Any]
NAMES = ["x", "y", "z"]


@pytest.fixture
def along_axes(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Have grids summed along their axes at all bandwidths, however few rows; list the ranges."""
    ranges: list[tuple[int, int]] = []
    sums = GridBlock._by_axes

    def chosen(grid: Any, t: Any, task: Any, *others: Any, **options: Any) -> Any:
        return tuple(range(len(task.bandwidths))), 1.0, 1.0

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
        xr.DataArray(each.transpose(*order).compute())
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
        along = np.linspace(low - beyond, high + beyond, int(random.choice([1, 2, 5, 9])))
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


@pytest.mark.slow
@pytest.mark.parametrize("d", [2, 3])
def test_random_grids(along_axes: list[Any], d: int) -> None:
    random = np.random.default_rng(d)
    for case in range(8):
        lines, rows, bandwidths = random_case(random, d)
        weights = None
        if case % 3 == 0:
            weights = np.exp(random.choice([1, 30]) * random.standard_normal(len(rows)))
            weights[random.uniform(size=len(rows)) < 0.2] = 0
            weights[0] = 1
        query = axes_of(lines, [*random.permutation(d)])
        cut = {} if case % 2 else {"block_rows": int(random.integers(20, 200)), "panel_rows": 123}
        tol = float(random.choice([1e-3, 1e-6, 1e-9]))
        assert_right(query, lines, rows, bandwidths, tol=tol, weights=weights, **cut)
    assert along_axes


def normals(n: int, d: int = 2, seed: int = 3) -> Array:
    return np.random.default_rng(seed).standard_normal((n, d))


def evenly(n: int, low: float = -6.0, high: float = 6.0) -> Array:
    return np.linspace(low, high, n)


def test_scales_of_the_features(along_axes: list[Any]) -> None:
    rows, lines = normals(500), [evenly(9), evenly(11)[::-1].copy()]
    assert_right(axes_of(lines, [1, 0]), lines, rows, [0.3], tol=1e-9, scales=[2.0, 0.25],
                 covariance=[2.0, 0.25])  # fmt: skip
    assert along_axes


def test_integers_stay_integers(along_axes: list[Any]) -> None:
    rows = np.rint(100 * normals(500)).astype(np.int16)
    lines = [np.arange(-300, 300, 60, dtype=np.int16), np.array([5, -400, 17], np.int16)]
    assert_right(axes_of(lines, [0, 1]), lines, rows, [20.0, 90.0], tol=1e-9)
    assert along_axes


def test_rows_with_missing_values_are_left_out(along_axes: list[Any]) -> None:
    rows, lines = normals(500), [evenly(8), evenly(9)]
    with_gaps = np.concatenate([rows[:100], [[np.nan, 0.0]], rows[100:]])
    query = axes_of(lines, [0, 1])
    assert_right(query, lines, rows, [0.4], tol=1e-9, train=table(with_gaps), nan="drop")
    assert along_axes
    lines[1][4] = np.nan  # then the grid is taken for points
    query = axes_of(lines, [0, 1])
    found = dkde.log_density(query, table(rows), 0.4, nan="drop").compute()
    assert np.isnan(found[:, 4]).all()
    assert np.isfinite(found.dropna("y")).all()
    assert found.sizes["y"] == found.dropna("y").sizes["y"] + 1
    with pytest.raises(InputError, match="y is nan"):
        dkde.log_density(query, table(rows), 0.4).compute()


def test_values_too_large_are_refused(along_axes: list[Any]) -> None:
    query = axes_of([np.array([0.0, 1e200]), evenly(9)], [0, 1])
    with pytest.raises(InputError, match="row 9"):
        dkde.log_density(query, table(normals(500)), 0.4).compute()


@pytest.fixture
def near(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The shares of the cells whose rows are put in leaves, block by block."""
    shares: list[float] = []

    def noted(*arguments: Any) -> Any:
        found = needed_cells(*arguments)
        shares.append(float(found.mean()))
        return found

    monkeypatch.setattr(grid_blocks, "needed_cells", noted)
    return shares


@pytest.mark.slow
@pytest.mark.parametrize("index", [True, False])
def test_rows_of_a_store(
    along_axes: list[Any], near: list[float], index: bool, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Rows beyond the reach of all of the grid are not read, and their weight is in the bound."""
    rows = np.concatenate([normals(4500), normals(4500) + np.array([60.0, 0.0])])
    monkeypatch.setattr(writing, "_CHUNK_BYTES", 4096)
    monkeypatch.setattr(row_source, "READ_BYTES", 1)
    dkde.import_rows(rows, tmp_path / "x.zarr", feature_names=["x", "y"], index=index)
    lines = [evenly(10, -3, 5), evenly(12, -4, 4)]
    for h, panel_rows in ((0.5, None), (0.5, 5000), (9.0, None)):
        assert_right(
            axes_of(lines, [0, 1]), lines, rows, [h], tol=1e-6, train="train",
            source=str(tmp_path / "x.zarr"), panel_rows=panel_rows,
        )  # fmt: skip
    assert along_axes
    assert bool(near) != index


@pytest.mark.parametrize("d", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_only_rows_near_the_tails_are_put_in_leaves(
    along_axes: list[Any], near: list[float], d: int, tmp_path: Path
) -> None:
    rows = normals(2000, d)
    dkde.import_rows(rows, tmp_path / "x.zarr", feature_names=NAMES[:d], index=False)
    lines = [evenly(8 if d == 3 else 18, -9 + j, 6) for j in range(d)]
    for bandwidths, block_rows in (([0.3 * d], None), ([0.1, 0.25 * d], 150)):
        assert_right(
            axes_of(lines, [*range(d)][::-1]), lines, rows, bandwidths, tol=1e-6, train="train",
            source=str(tmp_path / "x.zarr"), panel_rows=1100, block_rows=block_rows,
        )  # fmt: skip
    assert 0 < min(near) < 0.9


def test_the_bits_are_those_of_any_number_of_threads(along_axes: list[Any]) -> None:
    query, train = axes_of([evenly(40), evenly(30)], [0, 1]), table(normals(3000))
    lazy = dkde.log_density(query, train, [0.1, 0.5], block_rows=170)
    one, four = (
        lazy.compute(scheduler="threads", num_workers=n_workers).values for n_workers in (1, 4)
    )
    assert one.tobytes() == four.tobytes()
    rest = lazy.isel(x=slice(7, 9)).compute()
    assert rest.values.tobytes() == one[:, 7:9].tobytes()


OTHERS: list[dict[str, Any]] = [
    {"covariance": np.array([[1.0, 0.5], [0.5, 1.0]])},
    {"kernel": "epanechnikov"},
    {"kernel": "exponential"},
    {"kernel": "univariate_gaussian", "metric": "manhattan"},
    {"kernel": "vonmises_fisher"},
]


@pytest.mark.parametrize("options", OTHERS, ids=lambda options: str([*options.values()])[1:12])
def test_what_has_no_axes_is_summed_at_points(
    along_axes: list[Any], options: dict[str, Any]
) -> None:
    names = ["lat", "lon"] if options.get("kernel") == "vonmises_fisher" else ["x", "y"]
    rows, lines = normals(600), [evenly(11, -2, 2), evenly(7, -2, 2)]
    grid = axes_of(lines, [0, 1]).rename(dict(zip("xy", names, strict=True)))
    points = np.stack(np.meshgrid(*lines, indexing="ij"), axis=-1).reshape(-1, 2)
    train, query = (
        table(values).rename(dict(zip("xy", names, strict=True))) for values in (rows, points)
    )
    found, expected = (
        [each.compute().values.ravel() for each in
         dkde.log_density(q, train, 0.8, return_error=True, **options)]
        for q in (grid, query)
    )  # fmt: skip
    assert np.isfinite(expected[0]).any()
    known = np.isfinite(expected[0])
    assert (known == np.isfinite(found[0])).all()
    wrong = np.abs(found[0] - expected[0])[known]
    assert (wrong <= (found[1] + expected[1])[known]).all()
    assert not along_axes


def test_groups_are_of_points(along_axes: list[Any]) -> None:
    query = axes_of([evenly(5), evenly(4)], [0, 1])
    groups = xr.DataArray(np.arange(20).reshape(5, 4) % 3, dims=("x", "y"))
    rows = normals(300)
    found = dkde.log_density(
        query, table(rows), 0.8, groups=groups, train_groups=np.arange(300) % 3
    ).compute()
    assert np.isfinite(found).all()
    assert not along_axes


def test_the_choice_follows_from_the_work() -> None:
    query, train = axes_of([evenly(64), evenly(80)], [0, 1]), table(normals(20_000))
    methods = {}
    for h in (0.002, 0.3):
        catalog = Catalog()
        t, q = operands(catalog, train=train, query=query)
        options = Options()
        q_side, t_side = options.prepared(side(q, role="query")), options.prepared(side(t))
        work = Fitted.to(t_side, h, options, pool_for).work(q_side)
        assert work.plan.query_rows % 80 == 0
        methods[h] = work.survey().method
    assert methods == {0.002: "pairs of near leaves", 0.3: "expansions along the grid's axes"}


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(60))
def test_many_random_grids(along_axes: list[Any], seed: int) -> None:
    random = np.random.default_rng([7, seed])
    d = 2 + seed % 2
    lines, rows, bandwidths = random_case(random, d)
    weights = np.exp(100 * random.standard_normal(len(rows))) if seed % 3 == 0 else None
    query = axes_of(lines, [*random.permutation(d)])
    cut = {"block_rows": int(random.integers(1, 50)), "panel_rows": 123} if seed % 4 == 0 else {}
    tol = float(random.choice([1e-3, 1e-6, 1e-9, 1e-12]))
    assert_right(query, lines, rows, bandwidths, tol=tol, weights=weights, **cut)
