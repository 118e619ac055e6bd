"""What is chosen from a sample, and that the choice does not show in the numbers."""

from dataclasses import replace
from typing import Any

import dask.array as da
import numpy as np
import pytest
import xarray as xr
from work import side_of

from dkde.engine.cell_survey import limits_of
from dkde.engine.eager_run import run
from dkde.engine.graph import lazy_densities
from dkde.engine.pool import thread_pool
from dkde.engine.survey import make_survey
from dkde.engine.work import Work
from dkde.errors import InputError
from dkde.estimation.bandwidth_matrix import BandwidthMatrix
from dkde.estimation.covariance import Covariance
from dkde.estimation.options import Options
from dkde.numerics.logsum import Densities
from dkde.rows.dask_source import DaskSource
from dkde.rows.row_source import RowSource
from dkde.rows.side import Part, Rows, Side
from dkde.rows.variables import VariablesSource


def work(query: Any, train: Any, h: Any = 0.2, *, query_groups: Any = None, **options: Any) -> Work:
    weights, groups = options.pop("weights", None), options.pop("train_groups", None)
    sides = side_of(query, groups=query_groups), side_of(train, weights=weights, groups=groups)
    matrix = BandwidthMatrix(np.atleast_1d(np.asarray(h, float)), Covariance(train.shape[1]))
    return Options(**options).work(*sides, matrix)


def both(*sides: Any, **options: Any) -> tuple[Densities, Densities, str]:
    """By what is chosen, and from all pairs; and what was chosen."""
    chosen, dense = work(*sides, **options), work(*sides, method="dense", **options)
    with thread_pool(2) as pool:
        return run(chosen, pool), run(dense, pool), chosen.survey().method


def faces(rows: int, seed: int) -> Any:
    """Rows of 100 features, most of whose variance lies along few directions."""
    rng = np.random.default_rng(seed)
    turn, _ = np.linalg.qr(np.random.default_rng(0).standard_normal((100, 100)))
    return rng.standard_normal((rows, 100)) * np.geomspace(10, 0.01, 100) @ turn


def flat(rows: int, d: int, seed: int) -> Any:
    return np.random.default_rng(seed).standard_normal((rows, d))


def known_only(found: Densities, known: Any) -> Densities:
    return Densities(found.values[known], found.errors[known], found.effort)


def assert_same(found: Densities, expected: Densities) -> None:
    apart = np.abs(found.values - expected.values)
    assert (apart <= found.errors + expected.errors).all()
    assert (found.errors <= 1e-9 * np.maximum(1, np.abs(found.values))).all()


H = {"gaussian": 1.5, "exponential": 0.1, "epanechnikov": 8.0}


@pytest.mark.parametrize(
    "kernel",
    ["gaussian", *(pytest.param(name, marks=pytest.mark.slow) for name in H if name != "gaussian")],
)
def test_near_pairs(kernel: str) -> None:
    rows = faces(11_000, 1)
    query = rows[:600] + 0.1 * flat(600, 100, 2)
    found, expected, method = both(query, rows[1000:], h=[0.1, H[kernel]], kernel=kernel)
    assert method.startswith("near pairs, by bounds in ")
    np.testing.assert_array_equal(np.isneginf(found.values), np.isneginf(expected.values))
    known = np.isfinite(found.values)
    assert_same(*(known_only(each, known) for each in (found, expected)))


@pytest.mark.slow
def test_near_pairs_with_weights_and_groups() -> None:
    rows = faces(9000, 3)
    rng = np.random.default_rng(0)
    options = {
        "weights": rng.choice([0, 1e-3, 1, 50], 9000),
        "train_groups": np.arange(9000),
        "query_groups": np.arange(700),
    }
    found, expected, method = both(rows[:700], rows, h=0.5, **options)
    assert method.startswith("near pairs")
    assert_same(found, expected)


@pytest.mark.sampled(3)
@pytest.mark.parametrize(("d", "h"), [(1, 0.05), (2, 0.2), (3, 0.4)])
def test_expansions(d: int, h: float) -> None:
    query = np.concatenate([flat(3000, d, 0), 7 + flat(5, d, 1)])  # the last are far away
    weights = np.random.default_rng(2).choice([0, 0.1, 1], 60_000)
    found, expected, method = both(query, flat(60_000, d, 3), h=[h, 2 * h], weights=weights)
    assert method == "expansions"
    assert_same(found, expected)


def test_expansions_are_for_one_to_three_dimensions() -> None:
    task = work(flat(10, 2, 0), flat(10, 2, 1)).task
    assert [d for d in range(1, 6) if task.has_cells(d)] == [1, 2, 3]


def test_expansions_over_panels() -> None:
    query, train = flat(3000, 2, 0), flat(40_000, 2, 3)
    found, expected, method = both(query, train, h=0.2, block_rows=1000, panel_rows=15_000)
    assert method == "expansions"
    assert_same(found, expected)


@pytest.mark.parametrize(
    "sides",
    [
        (flat(500, 100, 0), flat(500, 100, 1)),  # few
        (flat(500, 100, 0), flat(9000, 100, 1)),  # all of them far from each other
    ],
    ids=["few", "far"],
)
def test_all_pairs_where_nothing_is_won(sides: Any) -> None:
    assert work(*sides, h=3.0).survey().method == "all pairs"


@pytest.mark.parametrize(
    ("kernel", "metric", "h"),
    [("gaussian", "euclidean", [0.3, 1.5]),
     pytest.param("epanechnikov", "euclidean", [20.0], marks=pytest.mark.slow),
     ("univariate_gaussian", "manhattan", [1.0])],
)  # fmt: skip
def test_rows_of_many_features_are_in_leaves_along_axes(
    kernel: str, metric: str, h: list[float]
) -> None:
    rows = faces(9300, 1)[:, ::2].copy()
    rows[:, 7] = 1e6  # of no use to anything
    options = {"kernel": kernel, "metric": metric, "h": h}
    found, expected, method = both(rows[:300], rows[300:], **options)
    assert method == "pairs of near leaves"
    axes = work(rows[:300], rows[300:], **options).survey().leaf_axes
    assert axes is not None
    assert axes.columns[-1] == 7
    assert axes.directions.shape == ((16, 50) if metric == "euclidean" else (0, 50))
    np.testing.assert_array_equal(np.isneginf(found.values), np.isneginf(expected.values))
    known = np.isfinite(found.values)
    assert known.any()
    assert_same(*(known_only(each, known) for each in (found, expected)))


@pytest.mark.slow
def test_rows_along_axes_with_weights_and_groups_and_any_number_of_threads() -> None:
    rows = faces(9000, 3)[:, :40]
    options: dict[str, Any] = {
        "weights": np.random.default_rng(0).choice([0, 1e-3, 1, 50], 9000),
        "train_groups": np.arange(9000) // 2,
        "query_groups": np.arange(700) // 2,
        "h": 0.5,
    }
    found, expected, _ = both(rows[:700], rows, **options)
    assert_same(found, expected)
    assert found.effort.pairs.mean() < len(rows)
    several = work(rows[:700], rows, block_rows=150, **options)
    with thread_pool(5) as pool:
        again = run(several, pool)
    with thread_pool(1) as pool:
        alone = run(several, pool)
    np.testing.assert_array_equal(again.values, alone.values)
    np.testing.assert_array_equal(again.errors, alone.errors)
    assert_same(again, expected)


def test_few_features_have_no_axes_and_few_rows_neither() -> None:
    assert work(flat(500, 16, 0), flat(9000, 16, 1)).survey().leaf_axes is None
    assert work(flat(500, 40, 0), flat(900, 40, 1)).survey().leaf_axes is None


def test_other_metrics_take_all_pairs() -> None:
    chosen = work(faces(600, 0), faces(9000, 1), kernel="univariate_gaussian", metric="manhattan")
    assert chosen.survey().method == "all pairs"


def test_lazily_it_is_the_same() -> None:
    rows = faces(9000, 1)
    same = work(rows[:600], rows, h=0.3)
    with thread_pool(2) as pool:
        found = run(same, pool)
    values, errors = lazy_densities(same)
    np.testing.assert_array_equal(values.compute(), found.values)
    np.testing.assert_array_equal(errors.compute(), found.errors)


def test_the_same_rows_give_the_same_survey() -> None:
    rows = faces(9000, 1)
    first, second = (work(rows[:600], rows, h=0.3).survey() for _ in range(2))
    assert first.axes is not None
    assert second.axes is not None
    np.testing.assert_array_equal(first.axes.directions, second.axes.directions)


@pytest.mark.slow
@pytest.mark.parametrize("d", [2, 100])
@pytest.mark.parametrize("row", [0, 4567, 8999])
def test_what_is_not_finite_is_named(d: int, row: int) -> None:
    rows = faces(9000, 1)[:, :d].copy()
    rows[row, 1] = np.nan
    query = faces(600, 2)[:, :d].copy()
    with thread_pool(2) as pool, pytest.raises(InputError, match=f"row {row}, column 1 is nan"):
        run(work(query, rows), pool)


@pytest.mark.slow
def test_degenerate_rows() -> None:
    """All equal, but for a few."""
    train = np.ones((9000, 100))
    train[:3] += faces(3, 0)
    query = np.concatenate([train[:300], faces(10, 1)])
    found, expected, _ = both(query, train, h=[0.1, 1.0])
    assert_same(found, expected)
    for d in (1, 2, 3):
        found, expected, _ = both(query[:, :d].copy(), train[:, :d].copy(), h=[0.1, 1.0])
        assert_same(found, expected)


def _refuse(rows: Any) -> Any:
    raise RuntimeError


def _array(lazy: da.Array) -> RowSource:
    return DaskSource(lazy)


def _dataset(lazy: da.Array) -> RowSource:
    columns = [xr.Variable("sample", lazy[:, column]) for column in range(lazy.shape[1])]
    return VariablesSource(
        columns, ("sample",), lazy.shape[:1], [f"x{column}" for column in range(len(columns))]
    )


@pytest.mark.parametrize("kind", [_array, _dataset])
def test_query_rows_that_are_yet_to_be_computed_are_left_to_the_blocks(kind: Any) -> None:
    rows = faces(9000, 1)
    width = rows.shape[1]
    lazy = da.ones((600, width), chunks=(200, width)).map_blocks(_refuse, meta=np.ones((0, 0)))
    query = Side(Rows((Part(kind(lazy), 0, 600, "query"),)))
    chosen = work(rows[:600] + 1e-3, rows, h=0.5)
    found = make_survey(query, chosen.train, chosen.task, (600, 9000))
    assert chosen.survey().method.startswith("near pairs")
    assert found.method.startswith("near pairs")


@pytest.mark.slow
@pytest.mark.parametrize("d", [2, 3])
def test_moments_are_made_for_what_an_absolute_tolerance_asks(d: int) -> None:
    rng = np.random.default_rng(d)
    # Most query rows lie far out, where densities are within the absolute tolerance.
    train, query = rng.normal(size=(20_000, d)), rng.uniform(-9, 9, size=(20_000, d))
    h = np.array([0.02, 0.2, 0.5, 1.0])
    plain, loose = work(query, train, h), work(query, train, h, atol=1e-6)
    more, fewer = loose.survey(), plain.survey()
    assert set(more.by_cells) >= set(fewer.by_cells)
    assert (len(more.by_cells), more.cell_tol) > (len(fewer.by_cells), fewer.cell_tol)
    with thread_pool(2) as pool:
        found, expected = (np.exp(run(each, pool).values) for each in (loose, plain))
    assert (np.abs(found - expected) <= np.maximum(1e-6, 2e-9 * expected)).all()


def test_pairs_matter_as_far_as_an_absolute_tolerance_asks() -> None:
    near, far = np.array([[0.0, 1.0]]), np.array([[2500.0, 3600.0]])
    task = work(np.zeros((9, 2)), np.zeros((9, 2)), 1.0).task
    loose = replace(task, atol=1e-6)
    plain, cut = limits_of(near, task, 2), limits_of(near, loose, 2)
    assert (cut < plain).all()
    # The kernel at the cut, with its normaliser, is the sixteenth of the tolerance.
    np.testing.assert_allclose(np.exp(-cut / 2) / (2 * np.pi), 1e-6 / 16, rtol=1e-6)
    assert (limits_of(far, loose, 2) == cut[0]).all()
    assert (limits_of(far, task, 2) > far.min()).all()
