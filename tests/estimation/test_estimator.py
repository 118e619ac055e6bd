"""The estimators: scikit-learn's manners, and every form of rows."""

import os
import pickle
import warnings

import dask
import dask.array as da
import numpy as np
import pandas as pd
import pytest
import reference
import sklearn
import xarray as xr
import zarr
from contract import assert_within
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import (
    GridSearchCV,
    GroupKFold,
    KFold,
    LeaveOneOut,
    RepeatedKFold,
    ShuffleSplit,
    StratifiedKFold,
    TimeSeriesSplit,
    cross_val_score,
)
from sklearn.neighbors import KernelDensity as SklearnKernelDensity
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.utils.estimator_checks import parametrize_with_checks

import dkde
from dkde import KernelDensity, KernelDensityCV

H = [0.3, 1.0, 3.0]


@pytest.fixture(scope="module")
def sides():
    rng = np.random.default_rng(41)
    return rng.normal(size=(20, 3)), rng.normal(size=(62, 3))


@pytest.fixture(scope="module")
def weights():
    rng = np.random.default_rng(42)
    return rng.uniform(0.1, 3, 62) * (rng.random(62) > 0.2)


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    store = tmp_path_factory.mktemp("digits") / "digits.zarr"
    dkde.import_dataset("digits", store)
    return str(store)


@pytest.fixture
def routing():
    with sklearn.config_context(enable_metadata_routing=True):
        yield


def refuse_to_compute(*arguments, **keywords):
    raise AssertionError("something was computed while the graph was built")


def refusing(rows, chunk_rows=10):
    """A lazy array none of whose chunks can be computed."""

    def refuse_block(block):
        if block.size:
            raise AssertionError("a chunk was computed")
        return block

    lazy = da.from_array(rows, chunks=(chunk_rows, rows.shape[1]))
    return lazy.map_blocks(refuse_block, dtype=rows.dtype, meta=rows[:0])


@pytest.mark.sampled(4)
@pytest.mark.filterwarnings("ignore:the best bandwidth")
@parametrize_with_checks([KernelDensity(), KernelDensityCV(bandwidths=[0.5, 1, 2], cv=2)])
def test_scikit_learns_checks(estimator, check):
    check(estimator)


class TestManners:
    @pytest.mark.parametrize(
        "estimator",
        [
            KernelDensity(bandwidth=0.7, kernel="linear", covariance="diag", singular="drop"),
            KernelDensity(bandwidth="scott", covariance=np.diag([1.0, 2.0, 3.0])),
            KernelDensityCV(bandwidths=H, cv=KFold(3), refine=True, precision="float32"),
        ],
    )
    def test_clones_have_the_parameters_and_nothing_else(self, estimator, sides):
        fitted = clone(estimator).fit(sides[1])
        cloned = clone(fitted)
        for name, value in estimator.get_params().items():
            assert repr(cloned.get_params()[name]) == repr(value)
        assert set(vars(cloned)) == set(estimator.get_params())
        with pytest.raises(NotFittedError):
            cloned.score_samples(sides[0])

    @pytest.mark.parametrize(
        "estimator", [KernelDensity(covariance="full"), KernelDensityCV(bandwidths=H)]
    )
    def test_pickled_they_score_the_same(self, estimator, sides, weights):
        estimator = clone(estimator).fit(sides[1], sample_weight=weights)
        again = pickle.loads(pickle.dumps(estimator))
        np.testing.assert_array_equal(
            again.score_samples(sides[0]), estimator.score_samples(sides[0])
        )
        np.testing.assert_array_equal(again.covariance_, estimator.covariance_)

    def test_parameters_can_be_set(self, sides):
        estimator = KernelDensity(bandwidth=5.0).set_params(bandwidth=0.7, kernel="exponential")
        expected = reference.log_density(*sides, [0.7], kernel="exponential")[0]
        assert_within(estimator.fit(sides[1]).score_samples(sides[0]), expected)
        with pytest.raises(ValueError, match="Invalid parameter 'width'"):
            estimator.set_params(width=1.0)

    def test_what_was_fitted_stays_when_a_parameter_is_set(self, sides):
        estimator = KernelDensity(bandwidth=0.7).fit(sides[1])
        before = estimator.score_samples(sides[0])
        estimator.set_params(bandwidth=5.0)
        np.testing.assert_array_equal(estimator.score_samples(sides[0]), before)

    def test_fit_gives_the_estimator_itself(self, sides):
        for estimator in (KernelDensity(), KernelDensityCV(bandwidths=H)):
            assert estimator.fit(sides[1]) is estimator

    @pytest.mark.parametrize("estimator", [KernelDensity(), KernelDensityCV(bandwidths=H)])
    @pytest.mark.parametrize(
        "call",
        [
            lambda model, rows: model.score_samples(rows),
            lambda model, rows: model.score_samples(da.from_array(rows)),
            lambda model, rows: model.score(rows),
            lambda model, rows: model.sample(3),
            lambda model, rows: model.covariance_,
        ],
    )
    def test_unfitted_they_say_so(self, estimator, call, sides):
        with pytest.raises(NotFittedError, match="is not fitted yet"):
            call(estimator, sides[0])

    def test_in_a_notebook_they_are_shown(self):
        shown = KernelDensity(kernel="linear")._repr_html_()
        assert "KernelDensity" in shown
        assert "linear" in shown
        assert "KernelDensityCV" in KernelDensityCV(refine=True)._repr_html_()
        assert repr(KernelDensity(bandwidth=0.5)) == "KernelDensity(bandwidth=0.5)"

    def test_at_the_end_of_a_pipeline(self, sides):
        query, train = sides
        model = Pipeline([("pca", PCA(2, svd_solver="full")), ("kde", KernelDensity())]).fit(train)
        pca = PCA(2, svd_solver="full").fit(train)
        expected = reference.log_density(pca.transform(query), pca.transform(train), [1.0])[0]
        assert_within(model.score_samples(query), expected)
        assert model.score(query) == pytest.approx(expected.sum(), rel=1e-9)

    def test_in_a_grid_search_over_a_pipeline(self, sides):
        model = make_pipeline(PCA(2, svd_solver="full"), KernelDensity())
        grid = {"kerneldensity__bandwidth": H, "pca__n_components": [1, 3]}
        search = GridSearchCV(model, grid, cv=3, error_score="raise").fit(sides[1])
        assert set(search.best_params_) == set(grid)
        assert np.isfinite(search.cv_results_["mean_test_score"]).all()

    def test_where_scikit_learns_own_was(self, sides):
        for kernel in ("gaussian", "exponential", "epanechnikov"):
            theirs = SklearnKernelDensity(bandwidth=2.5, kernel=kernel, leaf_size=100)
            ours = KernelDensity(bandwidth=2.5, kernel=kernel)
            np.testing.assert_allclose(
                ours.fit(sides[1]).score_samples(sides[0]),
                theirs.fit(sides[1]).score_samples(sides[0]),
                rtol=1e-9,
            )

    @pytest.mark.parametrize("bandwidth", [[1.0, 2.0], np.array([1.0, 2.0])])
    def test_one_bandwidth_only(self, sides, bandwidth):
        message = "bandwidth is 2 numbers; KernelDensity takes one, and KernelDensityCV chooses"
        with pytest.raises(dkde.InputError, match=message):
            KernelDensity(bandwidth=bandwidth).fit(sides[1])

    @pytest.mark.parametrize(
        ("parameters", "message"),
        [
            ({"kernel": "gauss"}, "kernel 'gauss' is not known"),
            ({"metric": "cosine"}, "metric 'cosine' is not known"),
            ({"metric": "manhattan"}, "manhattan"),
            ({"precision": "float16"}, "precision 'float16' is not known"),
            ({"covariance": "half"}, "covariance 'half' is not known"),
            ({"singular": "maybe"}, "singular is 'maybe'"),
            ({"bandwidth": "wide"}, "bandwidth 'wide' is neither a number nor a rule"),
            ({"bandwidth": -1.0}, "bandwidth -1 must be a positive"),
        ],
    )
    def test_parameters_are_refused_when_fitted(self, sides, parameters, message):
        estimator = KernelDensity(**parameters)
        with pytest.raises(ValueError, match=message):
            estimator.fit(sides[1])


class TestRouting:
    def test_weights_reach_the_density_through_a_pipeline(self, routing, sides, weights):
        query, train = sides
        model = make_pipeline(
            PCA(3, svd_solver="full"), KernelDensity().set_fit_request(sample_weight=True)
        ).fit(train, sample_weight=weights)
        expected = reference.log_density(query, train, [1.0], weights)[0]
        assert_within(model.score_samples(query), expected)
        assert not np.allclose(expected, reference.log_density(query, train, [1.0])[0])

    def test_weights_reach_every_fold_of_a_grid_search(self, routing, sides, weights):
        """Not in a pipeline: there scikit-learn hands them to score too, which wants none."""
        train = sides[1]
        model = KernelDensity().set_fit_request(sample_weight=True)
        search = GridSearchCV(model, {"bandwidth": H}, cv=3).fit(train, sample_weight=weights)
        for fold, (rest, held_out) in enumerate(KFold(3).split(train)):
            scores = dkde.log_density(train[held_out], train[rest], H, weights=weights[rest])
            np.testing.assert_allclose(
                search.cv_results_[f"split{fold}_test_score"], scores.sum(axis=1), rtol=1e-9
            )

    def test_weights_not_asked_for_are_refused(self, routing, sides, weights):
        model = make_pipeline(PCA(3), KernelDensity())
        with pytest.raises(sklearn.exceptions.UnsetMetadataPassedError, match="sample_weight"):
            model.fit(sides[1], sample_weight=weights)

    def test_cross_validated_too(self, routing, sides, weights):
        model = make_pipeline(
            PCA(3, svd_solver="full"),
            KernelDensityCV(bandwidths=H, cv=3).set_fit_request(sample_weight=True),
        ).fit(sides[1], sample_weight=weights)
        expected = KernelDensityCV(bandwidths=H, cv=3).fit(sides[1], sample_weight=weights)
        assert model[-1].best_score_ == pytest.approx(expected.best_score_, rel=1e-9)


class TestForms:
    @pytest.mark.parametrize("fit_form", ["numpy", "dask", "xarray", "zarr"])
    def test_the_answer_has_the_form_of_the_question(self, sides, weights, fit_form, tmp_path):
        query, train = sides
        rows = {
            "numpy": lambda: train,
            "dask": lambda: da.from_array(train, chunks=(9, 2)),
            "xarray": lambda: xr.DataArray(train, dims=("s", "feature")),
            "zarr": lambda: zarr.create_array(tmp_path / "x", data=train, chunks=(9, 3)),
        }[fit_form]()
        expected = reference.log_density(query, train, [0.7], weights)[0]
        model = KernelDensity(bandwidth=0.7).fit(rows, sample_weight=weights)
        assert model.n_features_in_ == 3

        now = model.score_samples(query)
        assert type(now) is np.ndarray
        assert_within(now, expected)

        with dask.config.set(scheduler=refuse_to_compute):
            later = model.score_samples(da.from_array(query, chunks=(7, 2)))
        assert isinstance(later, da.Array)
        assert_within(later.compute(scheduler="synchronous"), expected)

        labelled = xr.DataArray(
            query,
            dims=("time", "feature"),
            coords={"time": np.arange(20) * 10, "place": ("time", list("ab") * 10)},
        )
        with dask.config.set(scheduler=refuse_to_compute):
            result = model.score_samples(labelled.chunk(time=6))
        assert result.dims == ("time",)
        assert result.chunks is not None
        np.testing.assert_array_equal(result.time, labelled.time)
        np.testing.assert_array_equal(result.place, labelled.place)
        assert_within(result.compute(scheduler="synchronous").values, expected)

    def test_nothing_is_computed_in_fitting_and_asking(self, sides):
        query, train = sides
        model = KernelDensity(bandwidth="scott").fit(refusing(train))
        assert isinstance(model.score_samples(refusing(query)), da.Array)
        assert model.bandwidth_ == pytest.approx(62 ** (-1 / 7), rel=1e-14)

    def test_lazy_weights_are_not_computed_either(self, sides, weights):
        lazy = da.from_array(weights, chunks=9)
        with dask.config.set(scheduler=refuse_to_compute):
            model = KernelDensity(bandwidth=0.7).fit(sides[1], sample_weight=lazy)
        expected = reference.log_density(*sides, [0.7], weights)[0]
        assert_within(model.score_samples(sides[0]), expected)

    @pytest.mark.slow
    def test_an_opened_split_is_not_loaded(self, digits):
        tree = dkde.open_dataset(digits)
        with dask.config.set(scheduler=refuse_to_compute):
            lazy = KernelDensity(bandwidth=2.0).fit(tree["train"]).score_samples(tree["test"])
        direct = dkde.log_density("test", "train", 2.0, source=digits)
        np.testing.assert_allclose(lazy, direct, rtol=1e-9)
        np.testing.assert_array_equal(lazy.label, tree["test"].label)

    @pytest.mark.slow
    def test_selectors_are_rows_too(self, digits):
        model = KernelDensity(bandwidth=2.0).fit(f"{digits}::train")
        direct = dkde.log_density("test", "train", 2.0, source=digits)
        assert model.n_features_in_ == 64
        np.testing.assert_allclose(model.score_samples(f"{digits}::test"), direct, rtol=1e-12)

    @pytest.mark.slow
    def test_score_is_the_sum_whatever_the_form(self, sides, digits):
        query, train = sides
        total = reference.log_density(query, train, [0.7])[0].sum()
        model = KernelDensity(bandwidth=0.7).fit(train)
        for rows in (
            query,
            da.from_array(query, chunks=6),
            xr.DataArray(query, dims=("s", "feature")),
        ):
            score = model.score(rows)
            assert type(score) is float
            assert score == pytest.approx(total, rel=1e-9)
        model = KernelDensity(bandwidth=2.0).fit(f"{digits}::train")
        expected = dkde.score("test", "train", 2.0, source=digits).log_density.sum()
        assert model.score(f"{digits}::test") == pytest.approx(float(expected), rel=1e-12)

    def test_a_data_frame_gives_names(self, sides):
        query, train = (pd.DataFrame(rows, columns=["a", "b", "c"]) for rows in sides)
        model = KernelDensity().fit(train)
        assert model.feature_names_in_.tolist() == ["a", "b", "c"]
        assert type(model.score_samples(query)) is np.ndarray
        with pytest.raises(ValueError, match="feature names should match"):
            model.score_samples(query[["c", "b", "a"]])
        model.fit(sides[1])
        assert not hasattr(model, "feature_names_in_")

    def test_xarray_gives_names_where_it_has_them(self, sides):
        named = xr.DataArray(
            sides[1], dims=("s", "feature"), coords={"feature": ["a", "b", "c"]}
        ).chunk(s=20)
        model = KernelDensity().fit(named)
        assert model.feature_names_in_.tolist() == ["a", "b", "c"]
        assert model.n_features_in_ == 3
        model.fit(named.drop_vars("feature"))
        assert not hasattr(model, "feature_names_in_")
        model.fit(named.assign_coords(feature=[1, 2, 3]))
        assert not hasattr(model, "feature_names_in_")

    @pytest.mark.parametrize("form", [np.asarray, da.from_array, pd.DataFrame])
    def test_another_width_is_a_value_error(self, sides, form):
        model = KernelDensity().fit(sides[1])
        message = "X has 2 features, but KernelDensity is expecting 3 features as input"
        for call in (model.score_samples, model.score):
            with pytest.raises(ValueError, match=message):
                call(form(sides[0][:, :2]))

    @pytest.mark.parametrize(
        ("weights", "message"),
        [
            (np.ones(5), "sample_weight"),
            (-np.ones(62), "weight of row 0 is -1"),
            (np.zeros(62), "zero"),  # by scikit-learn, if it looks
            (da.zeros(62), "all weights are zero"),
            (da.ones(5), r"weights have shape \(5,\)"),
        ],
    )
    def test_weights_that_are_none(self, sides, weights, message):
        with pytest.raises(ValueError, match=message):
            KernelDensity().fit(sides[1], sample_weight=weights).score(sides[0])

    @pytest.mark.parametrize("value", [np.nan, np.inf])
    def test_values_that_are_not_finite(self, sides, value):
        wrong = sides[0].copy()
        wrong[7, 1] = value
        with pytest.raises(ValueError, match=r"NaN|infinity"):
            KernelDensity().fit(wrong)
        with pytest.raises(ValueError, match=r"NaN|infinity"):
            KernelDensity().fit(sides[1]).score_samples(wrong)
        later = KernelDensity().fit(sides[1]).score_samples(da.from_array(wrong, chunks=5))
        with pytest.raises(dkde.InputError, match=f"X: row 7, column 1 is {value}"):
            later.compute(scheduler="synchronous")

    @pytest.mark.slow
    def test_a_path_is_a_data_set_too(self, digits, tmp_path):
        np.save(tmp_path / "rows.npy", np.arange(6.0).reshape(3, 2))
        model = KernelDensity().fit(tmp_path / "rows.npy")
        assert isinstance(tmp_path, os.PathLike)
        assert model.n_features_in_ == 2


class TestAttributes:
    @pytest.mark.parametrize("covariance", ["identity", "diag", "full", "scales", "matrix"])
    def test_covariance_is_c(self, sides, weights, covariance):
        found = np.cov(sides[1], rowvar=False, aweights=weights)
        scales = np.array([0.5, 2.0, 7.0])
        given_or_name, expected = {
            "identity": ("identity", np.eye(3)),
            "diag": ("diag", np.diag(np.diag(found))),
            "full": ("full", found),
            "scales": (scales, np.diag(scales**2)),
            "matrix": (found * 3, found * 3),
        }[covariance]
        model = KernelDensity(covariance=given_or_name).fit(sides[1], sample_weight=weights)
        np.testing.assert_allclose(model.covariance_, expected, rtol=1e-12, atol=1e-13)

    def test_of_dropped_features_it_is_zero(self, sides):
        train = np.insert(sides[1], 1, 5.0, axis=1)
        with pytest.warns(UserWarning, match="dropped: 1"):
            model = KernelDensity(covariance="full", singular="drop").fit(train)
        expected = np.zeros((4, 4))
        expected[np.ix_([0, 2, 3], [0, 2, 3])] = np.cov(sides[1], rowvar=False)
        np.testing.assert_allclose(model.covariance_, expected, rtol=1e-12, atol=1e-13)

    def test_bandwidth_is_h(self, sides, weights):
        assert KernelDensity(bandwidth=2).fit(sides[1]).bandwidth_ == 2.0
        n = weights.sum() ** 2 / (weights**2).sum()
        model = KernelDensity(bandwidth="scott").fit(sides[1], sample_weight=weights)
        assert type(model.bandwidth_) is float
        assert model.bandwidth_ == pytest.approx(n ** (-1 / 7), rel=1e-12)

    def test_samples_are_those_of_the_function(self, sides, weights):
        model = KernelDensity(bandwidth=0.7, kernel="linear", covariance="full")
        model.fit(sides[1], sample_weight=weights)
        ours = model.sample(9, 3, covariance_scale=2.0, return_sources=True)
        theirs = dkde.sample(
            sides[1], 0.7, 9, random_state=3, kernel="linear", covariance="full",
            weights=weights, covariance_scale=2.0, return_sources=True,
        )  # fmt: skip
        np.testing.assert_array_equal(ours, theirs)
        assert model.sample().shape == (1, 3)

    def test_of_a_kernel_that_is_no_density_there_are_none(self, sides):
        model = KernelDensity(kernel="univariate_gaussian").fit(sides[1])
        with pytest.raises(dkde.InputError, match="is no density in 3 dimensions"):
            model.sample(3)


class TestCrossValidated:
    @pytest.mark.sampled(3)
    @pytest.mark.filterwarnings("ignore:the best bandwidth")
    @pytest.mark.parametrize("kernel", ["gaussian", "exponential", "tophat"])
    @pytest.mark.parametrize("cv", [2, 5, KFold(4, shuffle=True, random_state=3)])
    def test_it_is_a_grid_search_in_one_pass(self, sides, kernel, cv):
        h = [4.0, 9.0, 6.0, 20.0] if kernel == "tophat" else [1.0, 0.3, 3.0]
        ours = KernelDensityCV(bandwidths=h, cv=cv, kernel=kernel).fit(sides[1])
        theirs = GridSearchCV(KernelDensity(kernel=kernel), {"bandwidth": h}, cv=cv).fit(sides[1])
        splits = [name for name in theirs.cv_results_ if name.startswith("split")]
        for name in [*splits, "mean_test_score", "std_test_score", "rank_test_score"]:
            np.testing.assert_allclose(
                ours.cv_results_[name], theirs.cv_results_[name], rtol=1e-9, atol=1e-9
            )
        assert [n for n in ours.cv_results_ if n.startswith("split")] == splits
        np.testing.assert_array_equal(
            ours.cv_results_["param_bandwidth"], theirs.cv_results_["param_bandwidth"].astype(float)
        )
        assert ours.cv_results_["params"] == theirs.cv_results_["params"]
        assert ours.bandwidth_ == theirs.best_params_["bandwidth"]
        assert ours.best_score_ == pytest.approx(theirs.best_score_, rel=1e-9)
        np.testing.assert_allclose(
            ours.score_samples(sides[0]), theirs.best_estimator_.score_samples(sides[0])
        )

    def test_equal_scores_have_equal_ranks(self, sides):
        """Where rows have no density scores are all minus infinity."""
        h = [0.01, 0.02, 9.0, 20.0]
        ours = KernelDensityCV(bandwidths=h, kernel="tophat").fit(sides[1])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of scores that are not finite
            theirs = GridSearchCV(KernelDensity(kernel="tophat"), {"bandwidth": h}).fit(sides[1])
        np.testing.assert_array_equal(
            ours.cv_results_["rank_test_score"], theirs.cv_results_["rank_test_score"]
        )

    def test_figures_of_a_row_are_those_of_the_function(self, sides, weights):
        model = KernelDensityCV(bandwidths=H, cv=4).fit(sides[1], sample_weight=weights)
        result = dkde.cross_validate(sides[1], H, folds=4, weights=weights)
        for name in ("mean_log_likelihood", "standard_error"):
            np.testing.assert_allclose(model.cv_results_[name], result[name], rtol=1e-12)
        assert model.bandwidth_ == float(result.best_bandwidth)
        expected = reference.log_density(*sides, [model.bandwidth_], weights)[0]
        assert_within(model.score_samples(sides[0]), expected)

    @pytest.mark.slow
    @pytest.mark.parametrize("cv", ["loo", LeaveOneOut()])
    def test_leaving_one_out(self, sides, cv):
        model = KernelDensityCV(bandwidths=H, cv=cv).fit(sides[1])
        scores = cross_val_score(KernelDensity(bandwidth=H[0]), sides[1], cv=LeaveOneOut())
        assert model.cv_results_["split61_test_score"][0] == pytest.approx(scores[61], rel=1e-9)
        assert model.cv_results_["mean_test_score"][0] == pytest.approx(scores.mean(), rel=1e-9)

    def test_beyond_a_hundred_folds_they_are_not_listed(self):
        train = np.random.default_rng(0).normal(size=(101, 1))
        model = KernelDensityCV(bandwidths=[0.02, 0.2, 2.0], cv="loo").fit(train)
        assert not any(name.startswith("split") for name in model.cv_results_)
        assert len(model.cv_results_["mean_test_score"]) == 3

    def test_any_way_of_saying_the_same_folds(self, sides):
        train = sides[1]
        groups = np.random.default_rng(0).integers(0, 9, 62)
        splits = list(GroupKFold(4).split(train, groups=groups))
        numbers = np.empty(62, int)
        for fold, (_, held_out) in enumerate(splits):
            numbers[held_out] = fold
        models = [
            KernelDensityCV(bandwidths=H, cv=cv).fit(train)
            for cv in (splits, iter(splits), numbers)
        ]
        theirs = GridSearchCV(KernelDensity(), {"bandwidth": H}, cv=splits).fit(train)
        for model in models:
            np.testing.assert_allclose(
                model.cv_results_["mean_test_score"],
                theirs.cv_results_["mean_test_score"],
                rtol=1e-9,
            )

    def test_none_is_five_folds_as_in_scikit_learn(self, sides):
        a, b = (KernelDensityCV(bandwidths=H, cv=cv).fit(sides[1]) for cv in (None, 5))
        assert a.best_score_ == b.best_score_

    @pytest.mark.parametrize(
        ("cv", "message"),
        [
            (
                RepeatedKFold(n_splits=2, n_repeats=2, random_state=0),
                "split 2 of cv holds out",
            ),
            (ShuffleSplit(5, test_size=0.5, random_state=0), "an earlier split"),
            (TimeSeriesSplit(3), "use scikit-learn's GridSearchCV for such splits"),
            (1, "folds is 1; at least two are needed"),
            (63, "there are 62 rows and 63 folds"),
            ("some", "cv is 'some'"),
            (2.5, "Expected `?cv`? as an integer"),
            (np.zeros(62, int), "folds puts all rows into one fold"),
        ],
    )
    def test_folds_that_cannot_be(self, sides, cv, message):
        with pytest.raises(dkde.InputError, match=message):
            KernelDensityCV(bandwidths=H, cv=cv).fit(sides[1])

    @pytest.mark.parametrize("cv", [[0, 1] * 30, StratifiedKFold(3)])
    def test_folds_that_are_no_splits(self, sides, cv):
        with pytest.raises(dkde.InputError):
            KernelDensityCV(bandwidths=H, cv=cv).fit(sides[1])

    def test_refined(self, sides):
        model = KernelDensityCV(bandwidths=H, cv=4, refine=True).fit(sides[1])
        result = dkde.cross_validate(sides[1], H, folds=4, refine=True)
        assert model.bandwidth_ == float(result.best_bandwidth)
        np.testing.assert_array_equal(model.cv_results_["param_bandwidth"], [*H, model.bandwidth_])
        assert model.cv_results_["rank_test_score"][-1] == 1
        assert model.best_score_ == model.cv_results_["mean_test_score"][-1]

    def test_the_covariance_is_that_of_all_rows(self, sides):
        model = KernelDensityCV(bandwidths=H, covariance="full").fit(sides[1])
        np.testing.assert_allclose(model.covariance_, np.cov(sides[1], rowvar=False), rtol=1e-11)
        expected = dkde.log_density(*sides, model.bandwidth_, covariance="full")
        np.testing.assert_allclose(model.score_samples(sides[0]), expected, rtol=1e-12)

    def test_of_lazy_rows(self, sides, weights):
        lazy = da.from_array(sides[1], chunks=(9, 2))
        model = KernelDensityCV(bandwidths=H).fit(lazy, sample_weight=weights)
        expected = KernelDensityCV(bandwidths=H).fit(sides[1], sample_weight=weights)
        np.testing.assert_allclose(
            model.cv_results_["mean_test_score"],
            expected.cv_results_["mean_test_score"],
            rtol=1e-12,
        )

    @pytest.mark.filterwarnings("ignore:the best bandwidth")
    def test_without_bandwidths_there_is_a_grid(self, sides):
        model = KernelDensityCV().fit(sides[1])
        expected = dkde.cross_validate(sides[1])
        np.testing.assert_array_equal(model.cv_results_["param_bandwidth"], expected.bandwidth)
        assert model.sample(4, random_state=0).shape == (4, 3)


class TestLabelled:
    @pytest.fixture
    def labelled(self):
        values = np.random.default_rng(0).normal(size=(40, 2)) * [1, 100]
        return xr.DataArray(values, dims=("sample", "feature"), coords={"feature": ["a", "b"]})

    def test_features_in_another_order_are_taken_by_name(self, labelled):
        model = KernelDensity().fit(labelled)
        swapped = labelled[:3, ::-1]
        expected = model.score_samples(labelled[:3])
        np.testing.assert_array_equal(model.score_samples(swapped), expected)
        np.testing.assert_array_equal(dkde.log_density(swapped, labelled, 1.0), expected)

    def test_features_of_other_names_are_refused(self, labelled):
        model = KernelDensity().fit(labelled)
        other = labelled[:3].assign_coords(feature=["a", "c"])
        with pytest.raises(dkde.InputError, match="has the features a, c"):
            model.score_samples(other)
        with pytest.raises(
            dkde.InputError, match="same in another order: 'b' stands in the place of"
        ):
            dkde.log_density(other, labelled, 1.0)

    def test_a_coordinate_may_be_named_x(self, labelled):
        with_x = labelled.assign_coords(x=("sample", np.arange(40.0)))
        scores = KernelDensity().fit(with_x).score_samples(with_x)
        np.testing.assert_array_equal(scores.x, np.arange(40.0))


def test_a_fit_that_fails_leaves_no_model():
    model = KernelDensity().fit(np.zeros((3, 2)))
    with pytest.raises(ValueError, match="weight"):
        model.fit(np.zeros((3, 7)), sample_weight=[-1.0, 1, 1])
    with pytest.raises(NotFittedError):
        model.score_samples(np.zeros((3, 2)))


@pytest.mark.parametrize("dtype", [bool, "category", object])
def test_a_query_has_the_columns_that_were_fitted_whatever_their_type(dtype):
    rows = pd.DataFrame({"a": [0.0, 1.0, 2.0, 3.0], "f": [0.0, 1.0, 0.0, 1.0]})
    model = dkde.KernelDensity(bandwidth=1.0).fit(rows)
    same = rows.assign(f=rows.f.astype(dtype))
    np.testing.assert_array_equal(model.score_samples(same), model.score_samples(rows))


@pytest.mark.parametrize("make", [np.asarray, lambda rows: pd.DataFrame(rows, columns=["a", "b"])])
@pytest.mark.parametrize("estimator", [KernelDensity(), KernelDensityCV()])
def test_a_missing_value_is_answered_with_what_to_write(estimator, make):
    rows = np.random.default_rng(0).normal(size=(30, 2))
    holes = rows.copy()
    holes[[3, 5], 1] = np.nan
    words = r'^X: row 3, (b|column 1) is NaN; .* \(nan="drop"\) or fill them$'
    with pytest.raises(dkde.InputError, match=words):
        clone(estimator).fit(make(holes))
    with pytest.raises(dkde.InputError, match=words):
        clone(estimator).fit(make(rows)).score_samples(make(holes))
    dropping = clone(estimator).set_params(nan="drop").fit(make(holes))
    assert np.isnan(dropping.score_samples(make(holes))[3])
