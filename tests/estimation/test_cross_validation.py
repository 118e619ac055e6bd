"""Cross-validation: what a fit for each fold gives, and what the first article printed."""

import json
import warnings

import dask.array as da
import numpy as np
import pytest
import reference
import xarray as xr
import zarr
from contract import assert_within
from examples import few
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from scipy.spatial.distance import cdist
from scipy.special import logsumexp
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.model_selection import GridSearchCV, KFold

import dkde

KERNELS = (*reference.COMPACT, "gaussian", "exponential", "univariate_gaussian")
H = np.array([0.4, 1.0, 3.0])
WIDE = pytest.mark.filterwarnings("ignore:the best bandwidth")


@pytest.fixture(scope="module")
def rows():
    rng = np.random.default_rng(21)
    return rng.normal(size=(60, 3)) + 10 * rng.integers(0, 2, (60, 1))


@pytest.fixture(scope="module")
def weights():
    rng = np.random.default_rng(22)
    return rng.uniform(0.1, 3, 60) * (rng.random(60) > 0.2)


def refitted(train, h, numbers, weights=None, **options):
    """Log-densities (bandwidths, rows): a density for each fold of the rows outside of it."""
    result = np.empty((len(h), len(train)))
    for fold in np.unique(numbers):
        inside = numbers == fold
        w = None if weights is None else weights[~inside]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of folds that are unlike
            result[:, inside] = dkde.log_density(
                train[inside], train[~inside], h, weights=w, **options
            )
    return result


def fold_numbers(n_rows, splitter):
    numbers = np.empty(n_rows, int)
    for fold, (_, test) in enumerate(splitter.split(np.empty(n_rows))):
        numbers[test] = fold
    return numbers


def assert_result(result, expected, numbers, h=H, weights=None):
    """All figures that follow from the log-densities."""
    assert_within(result.log_density.values, expected)
    np.testing.assert_array_equal(result.held_out_in, numbers)
    np.testing.assert_array_equal(result.bandwidth, h)
    folds = np.unique(numbers)
    np.testing.assert_array_equal(result.fold, folds)
    w = np.ones(len(numbers)) if weights is None else weights
    counts = w > 0
    expected, numbers, w = expected[:, counts], numbers[counts], w[counts]
    members = [numbers == fold for fold in folds]
    totals = np.array(
        [(w * expected)[:, m].sum(axis=1) if m.any() else np.full(len(h), np.nan) for m in members]
    )
    np.testing.assert_allclose(result.fold_log_likelihood, totals, rtol=1e-9)
    mean_totals = np.nanmean(totals, axis=0)
    np.testing.assert_allclose(result.mean_fold_log_likelihood, mean_totals, rtol=1e-9)
    means = (w * expected).sum(axis=1) / w.sum()
    np.testing.assert_allclose(result.mean_log_likelihood, means, rtol=1e-9)
    np.testing.assert_array_equal(result.n_zero_density, np.isneginf(expected).sum(axis=1))
    assert float(result.best_bandwidth) == h[means.argmax()]


class TestPublished:
    """Exact scores of scikit-learn's digits in 15 principal components."""

    @pytest.fixture(scope="class")
    @classmethod
    def published(cls, data_dir):
        path = data_dir.parent / "reference/digits_cv.json"
        if not path.is_file():
            pytest.skip(f"the published scores are not at {path}")
        return json.loads(path.read_text())

    @pytest.fixture(scope="class")
    @classmethod
    def components(cls):
        return PCA(15, svd_solver="full").fit_transform(load_digits().data)

    @pytest.mark.parametrize("n_folds", [3, 5])
    def test_of_k_folds(self, published, n_folds):
        scores = published[f"cv{n_folds}"]
        h = [float(text) for text in scores["exact_mean_fold_score"]]
        result = dkde.cross_validate("all", h, folds=n_folds, source="digits", pca=15)
        np.testing.assert_allclose(
            result.mean_fold_log_likelihood,
            list(scores["exact_mean_fold_score"].values()),
            rtol=1e-9,
        )
        assert float(result.best_bandwidth) == scores["exact_best"]

    def test_of_leave_one_out(self, published):
        scores = published["leave_one_out_mean"]
        h = [float(text) for text in scores]
        result = dkde.cross_validate("all", h, folds="loo", source="digits", pca=15)
        np.testing.assert_allclose(result.mean_log_likelihood, list(scores.values()), rtol=1e-9)
        assert float(result.best_bandwidth) == published["leave_one_out_best"]

    @pytest.mark.slow
    @pytest.mark.parametrize("n_folds", [3, 5])
    def test_of_a_grid_search(self, published, components, n_folds):
        scores = published[f"cv{n_folds}"]
        h = [float(text) for text in scores["exact_mean_fold_score"]]
        search = GridSearchCV(dkde.KernelDensity(), {"bandwidth": h}, cv=n_folds).fit(components)
        np.testing.assert_allclose(
            search.cv_results_["mean_test_score"],
            list(scores["exact_mean_fold_score"].values()),
            rtol=1e-9,
        )
        assert search.best_params_ == {"bandwidth": scores["exact_best"]}

    def test_scikit_learns_own_are_others(self, published):
        """Its tree is not exact: what the file says of it must not come out here."""
        exact, theirs = (
            np.array(list(published["cv5"][name].values()))
            for name in ("exact_mean_fold_score", "sklearn_1_9_1_mean_fold_score")
        )
        assert np.abs(exact / theirs - 1).max() > 0.1


class TestRefits:
    """One pass gives what fitting anew for each fold gives."""

    @pytest.mark.sampled(3)
    @WIDE
    @pytest.mark.filterwarnings("ignore:kernel 'univariate_gaussian' is no density")
    @pytest.mark.parametrize("kernel", KERNELS)
    @pytest.mark.parametrize("n_folds", [2, 7])
    def test_for_every_kernel(self, rows, kernel, n_folds):
        numbers = fold_numbers(60, KFold(n_folds))
        h = H * (4 if kernel in reference.COMPACT else 1)  # some row far out has a density
        result = dkde.cross_validate(rows, h, folds=n_folds, kernel=kernel)
        expected = refitted(rows, h, numbers, kernel=kernel)
        if kernel in reference.COMPACT:
            assert np.isneginf(expected).any()
        assert_result(result, expected, numbers, h)

    @WIDE
    @settings(max_examples=few(20))
    @given(
        st.integers(2, 40),
        st.integers(1, 4),
        st.booleans(),
        st.booleans(),
        st.integers(0, 2**32 - 1),
    )
    def test_of_any_rows_and_folds(self, n_rows, d, weighted, in_order, seed):
        rng = np.random.default_rng(seed)
        train = rng.normal(size=(n_rows, d)) * 10.0 ** rng.uniform(-1, 1) + rng.normal()
        numbers = rng.integers(-3, 4, n_rows)
        numbers[:2] = [5, 6]
        numbers = np.sort(numbers) if in_order else numbers
        w = rng.uniform(0.01, 2, n_rows) if weighted else None
        result = dkde.cross_validate(train, H, folds=numbers, weights=w)
        assert_result(result, refitted(train, H, numbers, w), numbers, weights=w)

    def test_against_the_oracle(self, rows, weights):
        numbers = np.arange(60) % 4
        result = dkde.cross_validate(rows, H, folds=numbers, weights=weights)
        expected = reference.log_density(rows, rows, H, weights, numbers, numbers)
        assert_within(result.log_density.values, expected)

    def test_shuffled(self, rows):
        splitter = KFold(7, shuffle=True, random_state=4)
        numbers = fold_numbers(60, splitter)
        result = dkde.cross_validate(rows, H, folds=7, shuffle=True, random_state=4)
        assert_result(result, refitted(rows, H, numbers), numbers)
        assert not np.array_equal(numbers, np.sort(numbers))

    def test_leaving_one_out(self, rows, weights):
        result = dkde.cross_validate(rows, H, folds="loo", weights=weights)
        assert_result(
            result, refitted(rows, H, np.arange(60), weights), np.arange(60), weights=weights
        )
        assert result.attrs["folds"] == "loo"

    @WIDE
    @pytest.mark.parametrize("covariance", ["diag", "full"])
    def test_under_a_covariance_of_all_rows(self, rows, weights, covariance):
        """Which is not that of each fold's own training rows."""
        scaled = rows * [1.0, 100.0, 0.01]
        numbers = fold_numbers(60, KFold(4))
        matrix = np.cov(scaled, rowvar=False, aweights=weights)
        matrix = matrix if covariance == "full" else np.diag(np.diag(matrix))
        result = dkde.cross_validate(
            scaled, H / 4, folds=numbers, weights=weights, covariance=covariance
        )
        expected = refitted(scaled, H / 4, numbers, weights, covariance=matrix)
        assert_result(result, expected, numbers, H / 4, weights)

    @pytest.mark.parametrize("form", ["dask", "xarray", "lazy xarray", "zarr"])
    def test_in_every_form(self, rows, weights, form, tmp_path):
        lazy = da.from_array(rows, chunks=(13, 2))
        train = {
            "dask": lambda: lazy,
            "xarray": lambda: xr.DataArray(rows, dims=("place", "feature")),
            "lazy xarray": lambda: xr.DataArray(lazy, dims=("place", "feature")),
            "zarr": lambda: zarr.create_array(tmp_path / "x", data=rows, chunks=(13, 3)),
        }[form]()
        w = weights if form == "xarray" else da.from_array(weights, chunks=17)
        result = dkde.cross_validate(train, H, folds=fold_numbers(60, KFold(4)), weights=w)
        numbers = fold_numbers(60, KFold(4))
        assert_result(result, refitted(rows, H, numbers, weights), numbers, weights=weights)

    def test_in_blocks_of_any_size(self, rows):
        numbers = fold_numbers(60, KFold(4))
        result = dkde.cross_validate(rows, H, folds=4, block_rows=7, panel_rows=11)
        assert_result(result, refitted(rows, H, numbers), numbers)

    def test_in_float32_nearly(self, rows):
        exact = dkde.cross_validate(rows, H, folds=4)
        rough = dkde.cross_validate(rows, H, folds=4, precision="float32")
        np.testing.assert_allclose(rough.log_density, exact.log_density, rtol=1e-3, atol=1e-3)

    @pytest.mark.parametrize("n_components", [1, 2])
    def test_in_principal_components(self, rows, n_components):
        components = PCA(n_components, svd_solver="full").fit_transform(rows)
        numbers = fold_numbers(60, KFold(4))
        result = dkde.cross_validate(rows, H, folds=4, pca=n_components)
        assert_result(result, refitted(components, H, numbers), numbers)
        bits = -result.mean_log_likelihood / (n_components * np.log(2))
        np.testing.assert_allclose(result.bits_per_dimension, bits)


class TestZeroDensity:
    def test_a_row_far_from_all_others_counts_as_zero(self):
        train = np.array([[0.0], [0.1], [0.2], [9.0]])
        result = dkde.cross_validate(train, [0.5, 20.0, 40.0], folds="loo", kernel="tophat")
        np.testing.assert_array_equal(result.n_zero_density, [1, 0, 0])
        np.testing.assert_array_equal(np.isneginf(result.fold_log_likelihood[:, 0]), [0, 0, 0, 1])
        assert result.mean_log_likelihood[0] == -np.inf
        assert np.isnan(result.standard_error[0])
        assert float(result.best_bandwidth) == 20

    def test_where_every_bandwidth_has_such_a_row_none_is_best(self):
        train = np.array([[0.0], [0.1], [0.2], [9.0]])
        for refine in (False, True):
            with pytest.raises(dkde.InputError, match="no bandwidth from"):
                dkde.cross_validate(train, [0.5, 1.0], folds="loo", kernel="tophat", refine=refine)


class TestRefusals:
    @pytest.mark.parametrize("lazy", [False, True])
    def test_a_row_whose_fold_holds_all_the_weight(self, rows, lazy):
        weights = np.zeros(60)
        weights[[30, 33]] = 1
        numbers = np.arange(60) // 10
        message = "row 30: no row outside of its fold has a positive weight"
        given_weights = da.from_array(weights, chunks=7) if lazy else weights
        with pytest.raises(dkde.InputError, match=message):
            dkde.cross_validate(rows, H, folds=numbers, weights=given_weights)

    @pytest.mark.parametrize(
        ("keywords", "message"),
        [
            ({"folds": 61}, "there are 60 rows and 61 folds"),
            ({"folds": np.zeros(60, int)}, "folds puts all rows into one fold"),
            ({"kernel": "gauss"}, "is not known; choose"),
            ({"precision": "float16"}, "is not known; choose"),
            ({"pca": 4}, "pca is 4; 60 rows of 3 features have 1 to 3 principal components"),
            ({"weights": np.zeros(60)}, "all weights are zero"),
            ({"weights": np.ones(59)}, r"weights have shape \(59,\)"),
            ({"covariance": np.eye(2)}, r"covariance has shape \(2, 2\); for 3 features"),
            ({"covariance": np.eye(3), "pca": 2}, r"covariance has shape \(3, 3\); for 2 features"),
            ({"bandwidths": [1.0, 1.0]}, "bandwidth 1 is given twice"),
            ({"output": "/nowhere/r.zarr"}, "there is no folder /nowhere"),
        ],
    )
    def test_arguments(self, rows, keywords, message):
        with pytest.raises((dkde.InputError, dkde.DataSetError), match=message):
            dkde.cross_validate(rows, **({"bandwidths": H} | keywords))

    @pytest.mark.parametrize("name", ["fold", "held_out_in", "fold_log_likelihood"])
    def test_coordinates_that_the_result_needs(self, rows, name):
        train = xr.DataArray(rows, dims=("s", "feature"), coords={name: ("s", range(60))})
        with pytest.raises(dkde.InputError, match=rf"coordinate '{name}'"):
            dkde.cross_validate(train, H)


class TestRefine:
    @staticmethod
    def left_out(train, log_h, numbers):
        """The mean log-likelihood, as a hand would write it."""
        h, d = np.exp(log_h), train.shape[1]
        logs = -cdist(train, train, "sqeuclidean") / (2 * h**2)
        apart = numbers[:, None] != numbers
        logs = np.where(apart, logs, -np.inf)
        norm = d * (log_h + np.log(2 * np.pi) / 2)
        return float((logsumexp(logs, axis=1) - np.log(apart.sum(axis=1))).mean() - norm)

    @pytest.mark.parametrize("folds", [2, 5, "loo"])
    @pytest.mark.parametrize("grid", [[0.2, 0.5, 1.0, 2.0], [0.01, 0.02], [50.0, 80.0], [0.7]])
    def test_finds_the_maximum_from_anywhere(self, rows, folds, grid):
        numbers = np.arange(60) if folds == "loo" else fold_numbers(60, KFold(folds))
        best = minimize_scalar(
            lambda x: -self.left_out(rows, x, numbers), bounds=(-2, 2), method="bounded",
            options={"xatol": 1e-9},
        )  # fmt: skip
        result = dkde.cross_validate(rows, grid, folds=folds, refine=True)
        assert float(result.best_bandwidth) == pytest.approx(np.exp(best.x), rel=1e-4)
        np.testing.assert_array_equal(result.bandwidth, [*grid, float(result.best_bandwidth)])
        assert float(result.mean_log_likelihood[-1]) == pytest.approx(-best.fun, rel=1e-8)

    def test_there_the_derivative_is_zero(self, rows):
        result = dkde.cross_validate(rows, [0.3, 1.0, 3.0], folds=4, refine=True)
        x, step = np.log(float(result.best_bandwidth)), 1e-3
        numbers = fold_numbers(60, KFold(4))
        low, here, high = (self.left_out(rows, at, numbers) for at in (x - step, x, x + step))
        slope, curvature = (high - low) / (2 * step), (high - 2 * here + low) / step**2
        assert curvature < 0
        assert abs(slope / curvature) < 1e-4  # how far off a step of Newton says it is

    def test_the_refined_bandwidth_is_scored_like_the_others(self, rows):
        result = dkde.cross_validate(rows, [0.3, 1.0, 3.0], folds=4, refine=True)
        numbers = fold_numbers(60, KFold(4))
        assert_result(
            result, refitted(rows, result.bandwidth.values, numbers), numbers, result.bandwidth
        )

    @pytest.mark.parametrize(
        "kernel", ["epanechnikov", "triweight", "linear", "exponential", "cosine"]
    )
    def test_other_kernels_are_no_worse_than_a_fine_grid(self, rows, kernel):
        grid = np.geomspace(1.0, 40.0, 12)
        result = dkde.cross_validate(rows, grid, folds=4, kernel=kernel, refine=True)
        best = float(result.best_bandwidth)
        near = np.geomspace(best / 1.3, best * 1.3, 400)
        fine = dkde.cross_validate(rows, near, folds=4, kernel=kernel).mean_log_likelihood.max()
        assert float(result.mean_log_likelihood[-1]) >= float(fine) - 1e-7

    def test_lists_that_hold_the_optimum_get_no_second_one(self, rows):
        first = float(dkde.cross_validate(rows, [1.0], folds=4, refine=True).best_bandwidth)
        again = dkde.cross_validate(rows, [first], folds=4, refine=True)
        assert len(np.unique(again.bandwidth)) == len(again.bandwidth)
        assert float(again.best_bandwidth) == pytest.approx(first, rel=1e-4)

    def test_no_word_of_the_grids_edge(self, rows):
        with pytest.warns(UserWarning, match="the best bandwidth, 0.02, is the greatest of the"):
            dkde.cross_validate(rows, [0.01, 0.02], folds=4)
        dkde.cross_validate(rows, [0.01, 0.02], folds=4, refine=True)

    def test_where_there_is_no_maximum_it_says_so(self, rows):
        """Of rows that are all there twice, none is too far from another's at any bandwidth."""
        twice = np.repeat(rows, 2, axis=0)
        with pytest.warns(UserWarning, match="bandwidth"):
            dkde.cross_validate(twice, [0.1, 0.3, 1.0], folds="loo", refine=True)

    def test_the_word_points_at_the_callers_line(self, rows):
        with pytest.warns(UserWarning, match="the best bandwidth") as caught:
            dkde.cross_validate(rows, [0.01, 0.02], folds=4)
        assert caught[0].filename == __file__

    def test_in_float32_nearly(self, rows):
        exact = dkde.cross_validate(rows, [0.3, 1.0], folds=4, refine=True)
        rough = dkde.cross_validate(rows, [0.3, 1.0], folds=4, refine=True, precision="float32")
        assert float(rough.best_bandwidth) == pytest.approx(float(exact.best_bandwidth), rel=1e-2)


class TestResult:
    @pytest.mark.slow
    def test_the_store_opens_with_xarray_alone(self, tmp_path):
        path = tmp_path / "cv.zarr"
        result = dkde.cross_validate(
            "train", [2.0, 4.0, 8.0], folds=4, pca=15, refine=True, source="digits", output=path
        )
        with xr.open_zarr(path) as opened:  # warnings are errors
            stored = opened.load()
        xr.testing.assert_equal(stored, result)
        assert stored.attrs["dkde_format"].startswith("result/")
        assert stored.attrs["folds"] == 4
        assert stored.label.dims == stored.held_out_in.dims == ("sample",)
        assert dict(stored.sizes) == {
            "bandwidth": 4, "fold": 4, "sample": 1078, "component": 15, "feature": 64,
        }  # fmt: skip
        theirs = PCA(15, svd_solver="full").fit(load_digits().data[:1078])
        np.testing.assert_allclose(stored.pca_components, theirs.components_, atol=1e-9)
        np.testing.assert_allclose(stored.pca_mean, theirs.mean_, atol=1e-12)
        np.testing.assert_allclose(stored.pca_variance, theirs.explained_variance_, rtol=1e-10)
        assert stored.pca_variance.attrs["total_variance"] == pytest.approx(
            theirs.explained_variance_.sum() / theirs.explained_variance_ratio_.sum()
        )
        provenance = json.loads(stored.attrs["provenance"])
        assert provenance["cross_validate"]["plan"]["pairs"] == 1078**2

    def test_a_store_of_another_call_is_refused_before_any_work(self, rows, tmp_path, monkeypatch):
        path = tmp_path / "cv.zarr"
        dkde.cross_validate(rows, H, folds=4, output=path)

        def refuse(*arguments, **keywords):
            raise AssertionError("something was computed")

        with monkeypatch.context() as patch:
            patch.setattr("dkde.engine.eager_run.run", refuse)
            with pytest.raises(dkde.DataSetError, match="groups was"):
                dkde.cross_validate(rows, H, folds=5, output=path)

    def test_coordinates_of_the_rows_are_kept(self, rows):
        train = xr.DataArray(
            rows, dims=("time", "feature"), coords={"time": np.arange(60) * 10, "ship": "Calypso"}
        )
        result = dkde.cross_validate(train, H, folds=4)
        np.testing.assert_array_equal(result.time, train.time)
        assert result.time.dims == ("time",)
        assert result.ship.item() == "Calypso"

    @WIDE
    def test_the_default_grid_is_that_of_a_sweep(self, rows):
        ours = dkde.cross_validate(rows, folds=4).bandwidth
        theirs = dkde.sweep(train=rows, valid=rows[:5] + 0.1).bandwidth
        np.testing.assert_array_equal(ours, theirs)

    def test_progress_begins_anew_for_each_pass(self, rows):
        calls = []
        dkde.cross_validate(
            rows, [0.3, 1.0, 3.0], folds=4, refine=True, block_rows=30,
            progress=lambda done, pairs: calls.append((done, pairs)),
        )  # fmt: skip
        assert {pairs for _, pairs in calls} == {3600}
        passes = [done for done, _ in calls].count(3600)
        assert 2 <= passes <= 6
        assert len(calls) == 2 * passes


class TestDefaultGrid:
    @pytest.mark.filterwarnings("ignore:the best bandwidth", "ignore:kernel 'univ")
    @pytest.mark.parametrize(
        "d", [1, 2, 10, *(pytest.param(d, marks=pytest.mark.slow) for d in (30, 64))]
    )
    @pytest.mark.parametrize("kernel", KERNELS)
    def test_has_bandwidths_that_give_every_row_a_density(self, kernel, d):
        rows = np.random.default_rng(0).normal(size=(300, d))
        result = dkde.cross_validate(rows, kernel=kernel)
        assert np.isfinite(result.mean_log_likelihood.max())

    @pytest.mark.parametrize("d", [1, 2, 10, 30])
    def test_has_the_gaussians_best_inside(self, d):
        dkde.cross_validate(np.random.default_rng(0).normal(size=(300, d)))  # no warning
