"""``atol``: rows that are done once their density is within it, wherever it can be asked for."""

import json
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import reference
import xarray as xr
from globe import places
from scipy.special import logsumexp
from work import side_of, work_of

import dkde
from dkde.engine import survey as survey_module
from dkde.engine.blocks import score_block
from dkde.engine.task import GroupCost
from dkde.numerics.sphere import unit_vectors

Array = npt.NDArray[Any]
RNG = np.random.default_rng(0)
ROWS = RNG.normal(size=(3000, 5))
NEAR, FAR = RNG.normal(size=(20, 5)), RNG.normal(size=(300, 5)) + 20


def check(values: Array, errors: Array, exact: Array, tol: float, atol: float) -> None:
    """Check that values are within one of the tolerances, and that their bounds hold."""
    values, errors, exact = np.asarray(values), np.asarray(errors), np.asarray(exact)
    assert np.array_equal(np.isnan(values), np.isnan(exact))
    assert np.array_equal(np.isnan(errors), np.isnan(exact))
    there = ~np.isnan(exact)
    values, errors, exact = values[there], errors[there], exact[there]
    size = np.where(np.isfinite(exact), np.abs(exact), 0.0)
    p = np.exp(exact)
    by_tol = np.exp(np.minimum(exact + tol * np.maximum(1, size), 700)) - p
    rounding = 1e-14 * (1 + size)
    assert (np.abs(np.exp(values) - p) <= np.maximum(by_tol, atol) + p * rounding).all()
    with np.errstate(invalid="ignore"):
        apart = np.where(values == exact, 0.0, np.abs(values - exact))
    assert (apart <= errors + rounding).all()


def direct(query: Array, train: Array, bandwidths: Any, weights: Array | None = None) -> Array:
    """Log-densities under Gaussians, from all pairs in float64; quick where there are many."""
    logs = np.zeros(len(train)) if weights is None else np.log(weights)
    found = []
    for h in bandwidths:
        exponents = -((query[:, None] - train) ** 2).sum(axis=2) / (2 * h * h) + logs
        norm = train.shape[1] * np.log(h * np.sqrt(2 * np.pi))
        found.append(logsumexp(exponents, axis=1) - logsumexp(logs) - norm)
    return np.array(found)


@pytest.mark.sampled(20)
@pytest.mark.parametrize("seed", range(40))
def test_densities_are_within_one_of_the_tolerances(seed: int) -> None:
    rng = np.random.default_rng(seed)
    d, n = int(rng.choice([1, 2, 3, 6, 20, 97])), int(rng.choice([20, 300]))
    train = rng.normal(size=(n, d))
    train[:2] = [-200.0], [200.0]  # so that both sides are on one scale
    query = rng.normal(size=(12, d)) * rng.choice([1, 4, 40], size=(12, 1))
    query[:2] = [-150.0], [150.0]
    kernel = str(
        rng.choice(["gaussian", "exponential", "univariate_gaussian", "epanechnikov", "linear"])
    )
    bandwidths = np.exp(rng.uniform(-2, 1.5, rng.choice([1, 3])))
    options: dict[str, Any] = {"kernel": kernel}
    groups: list[Any] = [None, None]
    weights = rng.uniform(0.1, 1, n) * 10.0 ** rng.integers(-9, 9) if rng.random() < 0.5 else None
    if rng.random() < 0.5:
        groups = [rng.integers(0, 3, 12), rng.integers(0, 3, n)]
        options |= {"groups": groups[0], "train_groups": groups[1]}
    if rng.random() < 0.5:
        options |= {"block_rows": 5, "panel_rows": 1 + n // 3}
    exact = reference.log_density(query, train, bandwidths, weights, *groups, kernel=kernel)
    known = exact[np.isfinite(exact) & (exact > -600)]
    levels = np.exp(np.quantile(known, [0.2, 0.8])) if len(known) else [1e-9]
    tol = 10.0 ** int(rng.integers(-11, -2))
    for atol in (*levels, 1e-200, 1e3):
        found = dkde.log_density(
            query, train, bandwidths, weights=weights, tol=tol, atol=float(atol),
            return_error=True, **options,
        )  # fmt: skip
        check(*found, exact, tol, float(atol))


@pytest.mark.sampled(3)
@pytest.mark.parametrize("d", [1, 2, 3])
def test_of_expansions(d: int) -> None:
    rng = np.random.default_rng(d)
    train, weights = rng.normal(size=(20_000, d)) + 1e3, rng.uniform(0.1, 1, 20_000)
    query = np.concatenate([rng.normal(size=(2000, d)), rng.normal(size=(1000, d)) * 4]) + 1e3
    some = slice(None, None, 25)
    bandwidths = [0.2, 0.5] if d < 3 else [0.6, 1.0]
    exact = direct(query[some], train, bandwidths, weights)
    plain = dkde.score(query, train, bandwidths, weights=weights)
    assert "expansions" in plain.attrs["provenance"]
    for atol in (1e-4, 1e-12, 1e-30):
        result = dkde.score(query, train, bandwidths, weights=weights, atol=atol)
        values, errors = result.log_density.values, result.log_density_error.values
        check(values[:, some], errors[:, some], exact, 1e-9, atol)
        assert result.pairs_evaluated.sum() <= plain.pairs_evaluated.sum()
        if atol == 1e-4 and d < 3:
            assert result.pairs_evaluated.sum() == 0


def test_of_expansions_without_own_rows() -> None:
    rng = np.random.default_rng(5)
    train = np.concatenate([rng.normal(size=(8000, 2)), rng.normal(size=(100, 2)) * 8])
    numbers = np.arange(len(train))
    some = np.arange(0, len(train), 90)
    exact = np.array([direct(train[[i]], np.delete(train, i, 0), [0.3])[0, 0] for i in some])
    values, errors = dkde.log_density(
        train, train, 0.3, groups=numbers, train_groups=numbers, atol=1e-7, return_error=True
    )
    check(values[some], errors[some], exact, 1e-9, 1e-7)
    assert (errors > 1e-9).any()


@pytest.mark.slow
def test_of_groups_of_leaves() -> None:
    rng = np.random.default_rng(1)
    train = unit_vectors(rng.normal(45, 8, 6000), rng.normal(10, 8, 6000))
    query = unit_vectors(rng.uniform(-89, 89, 900), rng.uniform(-179, 179, 900))
    bandwidths = np.array([0.3, 0.05])
    exact = direct(query, train, bandwidths)
    for atol in (1e-3, 1e-12):
        work = work_of(side_of(query), side_of(train), bandwidths)
        work = replace(work, task=replace(work.task, atol=atol))
        survey = replace(work.survey(), by_groups={k: GroupCost(1e9, 0.5) for k in range(2)})
        rows = work.plan.query_block(0), work.plan.panel(0)
        found = work.densities([score_block(work.query, work.train, work.task, survey, *rows)])
        check(found.values, found.errors, exact, 1e-9, atol)


@pytest.mark.sampled(3)
@pytest.mark.parametrize("atol", [1e-3, 1e-12, 1e-40])
def test_of_grids(atol: float, monkeypatch: pytest.MonkeyPatch) -> None:
    def chosen(grid: Any, t: Any, task: Any, *others: Any, **options: Any) -> Any:
        return tuple(range(len(task.bandwidths))), 1.0, 1.0

    monkeypatch.setattr(survey_module, "_is_small", lambda *sides: False)
    monkeypatch.setattr(survey_module, "choose_for_grid", chosen)
    rng = np.random.default_rng(2)
    train = rng.normal(size=(3000, 2))
    lines = np.linspace(-9, 9, 40), np.linspace(-8, 8, 30)
    query = xr.Dataset(coords={"x": lines[0], "y": lines[1]})
    table = xr.Dataset({"x": ("row", train[:, 0]), "y": ("row", train[:, 1])})
    points = np.stack(np.meshgrid(*lines, indexing="ij"), axis=-1).reshape(-1, 2)
    exact = direct(points, train, [0.2, 0.7])
    options: dict[str, Any] = {"row_dim": {"query": ["x", "y"]}, "features": ["x", "y"]}
    plain = dkde.score(query, table, [0.2, 0.7], **options)
    result = dkde.score(query, table, [0.2, 0.7], atol=atol, **options)
    assert "along the grid's axes" in result.attrs["provenance"]
    found = (result[name].values.reshape(2, -1) for name in ("log_density", "log_density_error"))
    check(*found, exact, 1e-9, atol)
    assert result.pairs_evaluated.sum() < plain.pairs_evaluated.sum()


def test_on_the_sphere() -> None:
    train, query = places(400, 1), places(60, 2)
    plain = dkde.score(query, train, "100km", kernel="vonmises_fisher")
    result = dkde.score(query, train, "100km", kernel="vonmises_fisher", atol=1e-6)
    check(result.log_density, result.log_density_error, plain.log_density, 1e-9, 1e-6)


@pytest.mark.parametrize("kernel", ["gaussian", "exponential"])
def test_far_rows_take_next_to_no_work(kernel: str) -> None:
    plain = dkde.score(FAR, ROWS, 0.5, kernel=kernel)
    result = dkde.score(FAR, ROWS, 0.5, kernel=kernel, atol=1e-15)
    assert result.pairs_evaluated.max() <= 256
    assert 5 * result.pairs_evaluated.sum() < plain.pairs_evaluated.sum()
    check(result.log_density, result.log_density_error, plain.log_density, 1e-9, 1e-15)
    assert int(result.n_rows_at_atol[0]) == len(FAR)


def test_chunks_beyond_it_are_not_read(tmp_path: Any) -> None:
    rng = np.random.default_rng(3)
    # The sorted rows of a chunk lie together, far from those of others.
    np.save(tmp_path / "a.npy", np.repeat(np.arange(60.0) * 10, 1100)[:, None] + rng.normal(
        size=(66_000, 3)
    ))  # fmt: skip
    path = tmp_path / "a.zarr"
    dkde.import_dataset(tmp_path / "a.npy", path)
    query = np.full((40, 3), -200.0)
    plain = dkde.score(query, f"{path}::all", 1.0)
    result = dkde.score(query, f"{path}::all", 1.0, atol=1e-20)
    assert int(result.rows_read.sum()) < int(plain.rows_read.sum())
    assert np.isneginf(result.log_density).all()
    assert np.isposinf(result.log_density_error).all()
    assert int(result.n_zero_density[0]) == int(result.n_rows_at_atol[0]) == 40


def test_rows_well_above_it_keep_tol_and_are_not_counted() -> None:
    plain = dkde.score(NEAR, ROWS, 1.0)
    result = dkde.score(NEAR, ROWS, 1.0, atol=1e-18)
    np.testing.assert_allclose(result.log_density, plain.log_density, rtol=0, atol=2e-9)
    assert float(result.log_density_error.max()) < 1e-9
    assert int(result.n_rows_at_atol[0]) == 0
    assert result.n_rows_at_atol.attrs["units"] == "1"


def test_supports_and_many_features_leave_nothing_out_by_it() -> None:
    rng = np.random.default_rng(4)
    for rows, options in (
        (ROWS, {"kernel": "epanechnikov"}),
        (rng.normal(size=(50, 120)), {}),
    ):
        query = rows[:20] + 0.5
        plain = dkde.log_density(query, rows, 1.0, return_error=True, **options)
        found = dkde.log_density(query, rows, 1.0, atol=0.5, return_error=True, **options)
        np.testing.assert_array_equal(found, plain)


def test_what_float64_cannot_hold_is_within_it() -> None:
    query, train = np.array([[1e100], [0.0]]), np.array([[0.0], [1e100]])
    with pytest.raises(dkde.InputError, match=r"below -1\.8e308"):
        dkde.log_density(query[:1] / 2, train, 1e-100)
    found = dkde.log_density(query[:1] / 2, train, 1e-100, atol=1e-9, return_error=True)
    assert np.isneginf(found[0]).all()
    assert np.isposinf(found[1]).all()


@pytest.mark.parametrize(
    ("atol", "words"),
    [
        (-1e-9, "atol is -1e-09; it must be a finite density, or 0 for none"),
        (float("nan"), "atol is nan; it must be a finite density"),
        (float("inf"), "atol is inf; it must be a finite density"),
        ("much", "atol is 'much'; it must be a density, such as 1e-12, or 0"),
        (None, "atol is None; it must be a density"),
    ],
)
def test_what_cannot_be_a_tolerance_is_refused(atol: Any, words: str) -> None:
    for call in (
        lambda: dkde.log_density(NEAR, ROWS, 1.0, atol=atol),
        lambda: dkde.score(NEAR, ROWS, 1.0, atol=atol),
        lambda: dkde.plan(query=NEAR, train=ROWS, atol=atol, baseline=False),
        lambda: dkde.KernelDensity(atol=atol).fit(ROWS),
    ):
        with pytest.raises(dkde.InputError) as caught:
            call()
        assert words in str(caught.value)


def test_no_bandwidth_is_chosen_by_it() -> None:
    words = "atol is for scores, and no bandwidth is chosen by rows that are only within it"
    for call in (
        lambda: dkde.sweep(train=ROWS, valid=NEAR, bandwidths=[1.0], atol=1e-9),
        lambda: dkde.cross_validate(ROWS, [1.0], atol=1e-9),
        lambda: dkde.KernelDensityCV(atol=1e-9),
    ):
        with pytest.raises(dkde.InputError, match=words):
            call()
    assert "atol" not in dkde.KernelDensityCV(atol=0).get_params()


def test_of_estimators_and_lazy_queries() -> None:
    import dask.array as da

    model = dkde.KernelDensity(bandwidth=0.5, atol=1e-15).fit(ROWS)
    expected, errors = dkde.log_density(FAR, ROWS, 0.5, atol=1e-15, return_error=True)
    np.testing.assert_array_equal(model.score_samples(FAR), expected)
    lazy = dkde.log_density(da.from_array(FAR), ROWS, 0.5, atol=1e-15, return_error=True)
    np.testing.assert_allclose(da.compute(*lazy), [expected, errors], rtol=1e-9)
    assert model.get_params()["atol"] == 1e-15


def test_a_plan_counts_what_is_left_out() -> None:
    costs = [
        dkde.plan(query=FAR, train=ROWS, bandwidths=[0.5], atol=atol, baseline=False)
        for atol in (0.0, 1e-15)
    ]
    assert costs[1]["shares"]["pairs"] < costs[0]["shares"]["pairs"]


def test_runs_record_it_only_where_it_is_asked_for(tmp_path: Any) -> None:
    plain = dkde.score("valid", "train", 1.0, source="digits", output=tmp_path / "a.zarr")
    assert "atol" not in plain.attrs["provenance"]
    assert "atol" not in json.dumps(dkde.recorded_call(tmp_path / "a.zarr"))
    path = tmp_path / "b.zarr"
    found = dkde.score("valid", "train", 1.0, source="digits", output=path, atol=1e-30)
    assert json.loads(found.attrs["provenance"])["score"]["atol"] == 1e-30
    assert dkde.recorded_call(path)["arguments"]["atol"] == 1e-30
    assert dkde.verify(path)
    with pytest.raises(dkde.DkdeError, match="atol"):
        dkde.score("valid", "train", 1.0, source="digits", output=path)
