"""Least squares as the criterion of a cross-validation: its formula, its optimum, its runs."""

import json

import numpy as np
import pytest
import reference
import xarray as xr
from click.testing import CliRunner
from dkde_cli.main import cli
from scipy.optimize import minimize_scalar

import dkde
from dkde.errors import DataSetError, InputError

H = np.array([0.2, 0.5, 1.0, 3.0])
CHOSEN = {"criterion": "least_squares"}


def some_rows(n=70, d=2, seed=5):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, d)) + 4 * rng.integers(0, 2, (n, 1))


def by_the_formula(rows, h, numbers, weights=None):
    """The criterion, by the naive loop: the two integrals as they are written."""
    w = np.ones(len(rows)) if weights is None else weights
    there = w > 0
    squared = reference.log_density(rows[there], rows, np.sqrt(2) * np.asarray(h), weights)
    held_out = reference.log_density(
        rows[there], rows, h, weights, np.asarray(numbers)[there], numbers
    )
    first, second = (np.average(np.exp(v), axis=1, weights=w[there]) for v in (squared, held_out))
    return first - 2 * second


@pytest.mark.sampled(4)
@pytest.mark.parametrize("d", [1, 2, 5])
@pytest.mark.parametrize("folds", ["loo", 4])
@pytest.mark.parametrize("weighted", [False, True])
def test_it_is_the_formula(d, folds, weighted):
    rows = some_rows(d=d)
    rng = np.random.default_rng(d)
    weights = rng.uniform(0.1, 3, 70) * (rng.random(70) > 0.1) if weighted else None
    found = dkde.cross_validate(rows, H, folds=folds, weights=weights, **CHOSEN)
    expected = by_the_formula(rows, H, found.held_out_in.values, weights)
    np.testing.assert_allclose(found.least_squares, expected, rtol=1e-9)
    assert float(found.best_bandwidth) == H[expected.argmin()]
    terms = np.exp(found.log_integrated_square) - 2 * np.exp(found.log_mean_density)
    np.testing.assert_allclose(found.least_squares, terms, rtol=1e-9)
    # The likelihood of the same pass is there as well.
    plain = dkde.cross_validate(rows, H, folds=folds, weights=weights)
    np.testing.assert_allclose(found.log_density, plain.log_density, rtol=1e-9)


@pytest.mark.filterwarnings("ignore:After 0.17:FutureWarning")  # of a generator not used here
def test_it_is_the_objective_of_statsmodels():
    kernel_density = pytest.importorskip(
        "statsmodels.nonparametric.kernel_density",
        reason="statsmodels is not installed; it is a peer and not needed",
    )
    rows = some_rows(d=2)
    scales = np.array([0.7, 1.3])
    theirs = kernel_density.KDEMultivariate(rows, "cc", bw=scales)
    found = dkde.cross_validate(rows, H, folds="loo", covariance=scales, **CHOSEN)
    expected = [theirs.imse(h * scales) for h in H]
    np.testing.assert_allclose(found.least_squares, expected, rtol=1e-9)


def test_missing_rows_and_components():
    rows = some_rows(d=3)
    rows[[3, 9], 1] = np.nan
    kept = np.delete(rows, [3, 9], axis=0)
    found = dkde.cross_validate(rows, H, folds="loo", nan="drop", **CHOSEN)
    np.testing.assert_allclose(
        found.least_squares, by_the_formula(kept, H, np.arange(68)), rtol=1e-9
    )
    found = dkde.cross_validate(kept, H, folds="loo", pca=2, **CHOSEN)
    centred = kept - kept.mean(axis=0)
    projected = centred @ np.linalg.svd(centred, full_matrices=False)[2][:2].T
    np.testing.assert_allclose(
        found.least_squares, by_the_formula(projected, H, np.arange(68)), rtol=1e-9
    )


@pytest.mark.filterwarnings("ignore:the best bandwidth")
def test_its_optimum():
    rows = some_rows(d=1, n=60)
    found = dkde.cross_validate(rows, H, folds="loo", refine=True, **CHOSEN)
    apart = (rows - rows.T) ** 2

    def criterion(log_h):
        h = np.exp(log_h)
        first = np.exp(-apart / (4 * h**2)).mean() / np.sqrt(4 * np.pi) / h
        others = np.exp(-apart / (2 * h**2)) - np.eye(60)
        return first - 2 * others.sum() / (60 * 59) / np.sqrt(2 * np.pi) / h

    assert criterion(0.0) == pytest.approx(by_the_formula(rows, [1.0], np.arange(60))[0], rel=1e-9)
    # A golden section between the neighbours of the grid's best.
    low, high = np.log([0.2, 1.0])
    options = {"xatol": 1e-7}
    expected = minimize_scalar(criterion, bounds=(low, high), method="bounded", options=options)
    best = float(found.best_bandwidth)
    assert best == pytest.approx(np.exp(expected.x), rel=1e-4)
    assert float(found.least_squares.sel(bandwidth=best)) == pytest.approx(expected.fun, rel=1e-7)
    assert float(found.least_squares.min()) == float(found.least_squares.sel(bandwidth=best))
    model = dkde.KernelDensityCV(bandwidths=H, cv="loo", refine=True, **CHOSEN).fit(rows)
    assert model.bandwidth_ == best
    assert model.best_score_ == -float(found.least_squares.min())
    assert model.cv_results_["rank_test_score"].argmin() == 4
    assert "Least-squares criterion over bandwidths" in model._html_repr()


def test_a_far_row_hardly_changes_it():
    rows = np.append(np.random.default_rng(2).normal(size=(300, 1)), [[1000.0]], axis=0)
    grid = np.geomspace(0.05, 500, 20)
    with pytest.warns(UserWarning, match="row 300 alone decides"):
        by_likelihood = dkde.cross_validate(rows, grid, folds="loo")
    by_squares = dkde.cross_validate(rows, grid, folds="loo", **CHOSEN)
    assert float(by_likelihood.best_bandwidth) > 20
    assert float(by_squares.best_bandwidth) < 0.6


def test_rounded_rows_decide_it():
    rows = np.random.default_rng(6).normal(size=(400, 1)).round(1)
    grid = np.geomspace(0.005, 2, 40)
    message = "equal rows decide: .*; where values are rounded, begin the grid at the step"
    for criterion in ("likelihood", "least_squares"):
        with pytest.warns(UserWarning, match=message):
            dkde.cross_validate(rows, grid, folds="loo", criterion=criterion)
        # From the step of the rounding on, equal rows decide no more.
        found = dkde.cross_validate(rows, grid[grid >= 0.1], folds="loo", criterion=criterion)
        assert 0.2 < float(found.best_bandwidth) < 0.5


def test_densities_that_float64_does_not_hold():
    """In 300 dimensions the criterion is infinite, and its minimum is found all the same."""
    rows = 1e-3 * np.random.default_rng(0).normal(size=(40, 300))
    grid = np.geomspace(3e-4, 3e-3, 8)
    found = dkde.cross_validate(rows, grid, folds="loo", **CHOSEN)
    first = np.longdouble(found.log_integrated_square.values)
    second = np.longdouble(found.log_mean_density.values)
    exact = np.exp(first) - 2 * np.exp(second)
    assert float(found.best_bandwidth) == grid[exact.argmin()]
    finite = np.abs(exact) < 1e300
    assert not finite.all()
    np.testing.assert_array_equal(np.sign(found.least_squares), np.sign(exact))


@pytest.mark.slow
def test_a_run_is_kept_resumed_and_verified(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = some_rows(n=400)
    np.save("rows.npy", rows)
    call = {"folds": "loo", "source": "rows.npy", "refine": True, "block_rows": 100, **CHOSEN}
    expected = dkde.cross_validate("train", H, **call)
    interrupted = []

    def stop(*_):
        interrupted.append(1)
        if len(interrupted) == 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        dkde.cross_validate("train", H, output="cv.zarr", progress=stop, **call)
    dkde.cross_validate("train", H, output="cv.zarr", **call)
    found = xr.open_zarr("cv.zarr")
    np.testing.assert_array_equal(found.least_squares, expected.least_squares)
    assert float(found.best_bandwidth) == float(expected.best_bandwidth)
    assert json.loads(found.attrs["provenance"])["options"]["criterion"] == "least_squares"
    dkde.verify("cv.zarr")
    with pytest.raises(DataSetError, match="begun otherwise: it had a stage grid-squares"):
        dkde.cross_validate("train", H, output="cv.zarr", **(call | {"criterion": "likelihood"}))


@pytest.mark.slow
def test_the_command(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("rows.npy", some_rows())
    words = ["cv", "rows.npy", "--folds", "loo", "--criterion", "least_squares"]
    kept = ["--bandwidths", "0.2,0.5,1", "--json", "--output", "cv.zarr", "--plot", "cv.svg"]
    called = CliRunner().invoke(cli, [*words, *kept])
    assert called.exit_code == 0, called.stderr
    found = json.loads(called.stdout)
    expected = by_the_formula(some_rows(), [0.2, 0.5, 1], np.arange(70))
    np.testing.assert_allclose([row["least_squares"] for row in found["rows"]], expected, rtol=1e-9)
    assert "least-squares criterion" in (tmp_path / "cv.svg").read_text()
    printed = CliRunner().invoke(cli, words)
    assert "least squares" in printed.stdout
    dkde.report("cv.zarr", "cv.html")
    assert "Least-squares criterion over bandwidths" in (tmp_path / "cv.html").read_text()
    again = CliRunner().invoke(cli, ["status", "cv.zarr", "--config"])
    assert 'criterion = "least_squares"' in again.stdout


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"criterion": "squares"}, "criterion is 'squares'; it must be likelihood or"),
        ({"kernel": "epanechnikov", **CHOSEN}, "for the kernel gaussian .* not for epanechnikov"),
        ({"kernel": "univariate_gaussian", **CHOSEN}, "for the kernel gaussian"),
        (
            {"metric": "manhattan", "kernel": "univariate_gaussian", **CHOSEN},
            "for the kernel gaussian",
        ),
    ],
)
def test_what_is_refused(options, message):
    with pytest.raises(InputError, match=message):
        dkde.cross_validate(some_rows(), H, **options)
    with pytest.raises(InputError, match=message):
        dkde.KernelDensityCV(bandwidths=H, **options).fit(some_rows())
