"""The classifier: Bayes' rule by hand, scikit-learn's manners, and every form of rows."""

import pickle

import dask.array as da
import numpy as np
import pandas as pd
import pytest
import reference
import xarray as xr
from scipy.special import logsumexp
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score, train_test_split
from sklearn.neighbors import KNeighborsClassifier
from sklearn.utils.estimator_checks import parametrize_with_checks

import dkde
from dkde import InputError, KernelDensityClassifier


@pytest.fixture(scope="module")
def train():
    rng = np.random.default_rng(11)
    return rng.normal(size=(90, 3)) + rng.integers(0, 3, (90, 1))


@pytest.fixture(scope="module")
def kinds():
    return np.random.default_rng(12).choice(["T", "B", "NK"], 90, p=[0.5, 0.3, 0.2])


@pytest.fixture(scope="module")
def query():
    return np.random.default_rng(13).normal(size=(40, 3)) * 4


@pytest.fixture(scope="module")
def weights():
    return np.random.default_rng(14).integers(0, 4, 90).astype(float)


def by_hand(query, train, kinds, bandwidths, weights=None, priors=None, **options):
    """Log-posteriors (rows, classes) by the naive loop; classes in order."""
    weights = np.ones(len(train)) if weights is None else weights
    classes = np.unique(kinds)
    totals = np.array([weights[kinds == k].sum() for k in classes])
    priors = totals / totals.sum() if priors is None else priors
    joint = [
        np.log(prior)
        + reference.log_density(query, train[kinds == k], [h], weights[kinds == k], **options)[0]
        for k, prior, h in zip(classes, priors, np.broadcast_to(bandwidths, 3), strict=True)
    ]
    return np.transpose(joint - logsumexp(joint, axis=0))


@pytest.mark.sampled(3)
@pytest.mark.filterwarnings("ignore:.*fewer than:UserWarning")
@parametrize_with_checks([KernelDensityClassifier()])
def test_scikit_learns_checks(estimator, check):
    check(estimator)


class TestBayesRule:
    @pytest.mark.parametrize("kernel", ["gaussian", "exponential"])
    @pytest.mark.parametrize("weighted", [False, True])
    def test_as_by_hand(self, train, kinds, query, weights, kernel, weighted):
        given = weights if weighted else None
        model = KernelDensityClassifier(bandwidth=0.8, kernel=kernel)
        found = model.fit(train, kinds, given).predict_log_proba(query)
        expected = by_hand(query, train, kinds, 0.8, given, kernel=kernel)
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(np.exp(expected).sum(axis=1), 1)
        np.testing.assert_array_equal(model.predict_proba(query), np.exp(found))
        assert model.classes_.tolist() == ["B", "NK", "T"]
        np.testing.assert_array_equal(model.predict(query), model.classes_[expected.argmax(axis=1)])
        joint = model.predict_joint_log_proba(query)
        np.testing.assert_allclose(model.score_samples(query), logsumexp(joint, axis=1))
        shares = [(weights if weighted else np.ones(90))[kinds == k].sum() for k in model.classes_]
        np.testing.assert_allclose(np.exp(model.class_log_prior_), shares / np.sum(shares))

    @pytest.mark.parametrize(
        "priors", [[0.2, 0.5, 0.3], {"T": 0.3, "NK": 0.5, "B": 0.2}, pd.Series([0.2, 0.5, 0.3])]
    )
    def test_priors_that_are_given(self, train, kinds, query, weights, priors):
        model = KernelDensityClassifier(priors=priors).fit(train, kinds, weights)
        expected = by_hand(query, train, kinds, 1.0, weights, np.array([0.2, 0.5, 0.3]))
        np.testing.assert_allclose(model.predict_log_proba(query), expected, rtol=1e-9, atol=1e-9)

    @pytest.mark.parametrize(
        ("values", "priors"),
        [
            ([0.0, 1.0, 2.0], {0.0: 0.2, 1.0: 0.5, 2.0: 0.3}),
            ([0.0, 1.0, 2.0], {"0.0": 0.2, "1": 0.5, "2e0": 0.3}),
            ([0, 1, 2], {0.0: 0.2, 1: 0.5, np.float32(2): 0.3}),
            (np.array(["2020-01", "2021", "2022"], "M8[ns]"), {"2020-01-01": 0.2,
             np.datetime64("2021-01-01"): 0.5, "2022-01-01": 0.3}),
        ],
    )  # fmt: skip
    def test_priors_by_number_or_day(self, train, kinds, query, values, priors):
        classes = np.array(values)[np.unique(kinds, return_inverse=True)[1]]
        found = KernelDensityClassifier(priors=priors).fit(train, classes).predict_log_proba(query)
        expected = KernelDensityClassifier(priors=[0.2, 0.5, 0.3]).fit(train, kinds)
        np.testing.assert_array_equal(found, expected.predict_log_proba(query))

    def test_a_prior_of_zero(self, train, kinds, query):
        model = KernelDensityClassifier(priors=[0.5, 0.0, 0.5]).fit(train, kinds)
        assert np.isneginf(model.predict_log_proba(query)[:, 1]).all()
        assert "NK" not in model.predict(query)

    @pytest.mark.parametrize(
        ("priors", "words"),
        [
            ([0.5, 0.5], "priors are 2 numbers; give one for each of the 3 classes B, NK, T"),
            ([0.5, 0.5, 0.5], "sum to 1, and sum to 1.5"),
            ([1.5, -0.5, 0.0], "must be probabilities"),
            ({"T": 0.5, "B": 0.5}, "priors lack the classes NK"),
            ({"T": 0.2, "B": 0.5, "NK": 0.3, "x": 0}, "name x, which are no classes"),
            (["a", "b", "c"], "priors hold 'a'"),
            ([0.5, np.nan, 0.5], "must be probabilities"),
        ],
    )
    def test_priors_that_cannot_be_are_refused(self, train, kinds, priors, words):
        with pytest.raises(InputError, match=words):
            KernelDensityClassifier(priors=priors).fit(train, kinds)

    def test_two_equal_classes_have_one_half_each(self, train, query):
        both, labels = np.vstack([train, train]), np.repeat([0, 1], 90)
        found = KernelDensityClassifier(bandwidth=0.5).fit(both, labels).predict_proba(query * 1e4)
        np.testing.assert_array_equal(found, 0.5)

    def test_far_rows_have_probabilities(self, train, kinds):
        model = KernelDensityClassifier(bandwidth=1e-3).fit(train, kinds)
        far = np.array([[1e6, 0, 0], [0, -3e7, 1.0]])
        found = model.predict_log_proba(far)
        assert np.isfinite(found).all()
        assert (np.exp(model.score_samples(far)) == 0).all()
        np.testing.assert_allclose(found, by_hand(far, train, kinds, 1e-3), rtol=1e-6)

    def test_without_any_density_the_prior_remains(self, train, kinds):
        model = KernelDensityClassifier(kernel="epanechnikov").fit(train, kinds)
        found = model.predict_log_proba([[99.0, 0, 0]])
        np.testing.assert_array_equal(found[0], model.class_log_prior_)

    def test_a_class_of_one_row(self, train, query):
        labels = np.arange(90) == 7
        with pytest.warns(UserWarning, match="True: fewer than 4 rows"):
            model = KernelDensityClassifier().fit(train, labels)
        joint = [
            np.log(share) + reference.log_density(query, train[labels == k], [1.0])[0]
            for k, share in ((False, 89 / 90), (True, 1 / 90))
        ]
        expected = np.transpose(joint - logsumexp(joint, axis=0))
        np.testing.assert_allclose(model.predict_log_proba(query), expected, rtol=1e-9, atol=1e-9)

    def test_a_class_without_weight_is_refused(self, train, kinds):
        counting = (kinds != "NK").astype(float)
        with pytest.raises(InputError, match="class = NK: all weights are zero"):
            KernelDensityClassifier().fit(train, kinds, counting)

    def test_rules_are_of_each_class_or_of_all(self, train, kinds, query):
        own = KernelDensityClassifier(bandwidth="scott").fit(train, kinds)
        factors = [(kinds == k).sum() ** (-1 / 7) for k in own.classes_]
        np.testing.assert_allclose(own.bandwidth_, factors)
        expected = by_hand(query, train, kinds, factors)
        np.testing.assert_allclose(own.predict_log_proba(query), expected, rtol=1e-9, atol=1e-9)
        common = clone(own).set_params(common_bandwidth=True).fit(train, kinds)
        np.testing.assert_allclose(common.bandwidth_, 90 ** (-1 / 7))

    @pytest.mark.filterwarnings("ignore:the density is one on the 2 of 3:UserWarning")
    def test_densities_on_subspaces_are_not_compared(self, train, kinds, query):
        flat = train.copy()
        flat[kinds == "B", 2] = 1.0
        model = KernelDensityClassifier(covariance="diag", singular="drop")
        with pytest.raises(InputError, match="class = B: its rows vary in 2 of 3 directions"):
            model.fit(flat, kinds)
        found = model.set_params(common_bandwidth=True).fit(flat, kinds).predict_proba(query)
        assert np.isfinite(found).all()


class TestManners:
    def test_clones_pickles_and_searches(self, train, kinds, query):
        model = KernelDensityClassifier(bandwidth="scott", priors={"T": 0.5, "B": 0.3, "NK": 0.2})
        fitted = clone(model).fit(train, kinds)
        again = pickle.loads(pickle.dumps(fitted))
        np.testing.assert_array_equal(again.predict_proba(query), fitted.predict_proba(query))
        assert set(vars(clone(fitted))) == set(model.get_params())
        with pytest.raises(NotFittedError):
            clone(fitted).predict(query)
        search = GridSearchCV(
            KernelDensityClassifier(), {"bandwidth": [0.3, 1.0]}, scoring="neg_log_loss"
        ).fit(train, kinds)
        assert search.best_params_["bandwidth"] == 1.0
        assert cross_val_score(KernelDensityClassifier(), train, kinds).shape == (5,)

    def test_the_summary_has_the_classes(self, train, kinds):
        model = KernelDensityClassifier().fit(train, kinds)
        text = str(dkde.summary(model))
        assert "NK" in text
        assert "90" in text
        assert "Classes" in model._repr_html_()
        table = pd.DataFrame(train[:, :2], columns=["a", "b"])
        kernels = {"a": "gaussian", "b": "gaussian"}
        model = KernelDensityClassifier(kernel=kernels, bandwidth={"a": 1.0, "b": 2.0})
        assert "a=gaussian, b=gaussian" in str(dkde.summary(model.fit(table, kinds)))

    def test_what_fails_leaves_it_unfitted(self, train, kinds, query):
        model = KernelDensityClassifier().fit(train, kinds)
        with pytest.raises(InputError):
            model.set_params(priors=[1.0]).fit(train, kinds)
        with pytest.raises(NotFittedError):
            model.predict(query)

    def test_several_bandwidths_are_refused(self, train, kinds):
        with pytest.raises(InputError, match="bandwidth is 2 numbers"):
            KernelDensityClassifier(bandwidth=[0.5, 1.0]).fit(train, kinds)


class TestForms:
    @pytest.fixture
    def expected(self, train, kinds, query):
        return KernelDensityClassifier(bandwidth=0.7).fit(train, kinds).predict_proba(query)

    def test_dask(self, train, kinds, query, expected):
        lazy = da.from_array(train, chunks=(20, 3))
        for labels in (kinds, da.from_array(kinds, chunks=30)):
            model = KernelDensityClassifier(bandwidth=0.7).fit(lazy, labels)
            asked = da.from_array(query, chunks=(9, 3))
            found = model.predict_proba(asked)
            assert isinstance(found, da.Array)
            assert found.shape == expected.shape
            np.testing.assert_allclose(found.compute(), expected, rtol=1e-8)
            named = model.predict(asked)
            assert isinstance(named, da.Array)
            np.testing.assert_array_equal(named.compute(), model.classes_[expected.argmax(axis=1)])

    def test_xarray(self, train, kinds, query, expected):
        rows = xr.DataArray(train, dims=("cell", "feature"), coords={"kind": ("cell", kinds)})
        model = KernelDensityClassifier(bandwidth=0.7).fit(rows, "kind")
        grid = xr.DataArray(query.reshape(8, 5, 3), dims=("y", "x", "feature"))
        found = model.predict_proba(grid)
        assert found.dims == ("y", "x", "class")
        assert found["class"].values.tolist() == ["B", "NK", "T"]
        np.testing.assert_allclose(found.values.reshape(-1, 3), expected, rtol=1e-8)
        named = model.predict(grid)
        assert named.dims == ("y", "x")
        np.testing.assert_array_equal(named.values.ravel(), model.classes_[expected.argmax(axis=1)])
        assert model.score_samples(grid).dims == ("y", "x")

    def test_frames_with_a_column_of_classes(self, train, kinds, query, weights):
        frame = pd.DataFrame(train, columns=list("abc")).assign(kind=kinds, w=weights)
        model = KernelDensityClassifier().fit(frame, "kind", "w")
        assert model.feature_names_in_.tolist() == ["a", "b", "c"]
        asked = pd.DataFrame(query, columns=list("abc")).assign(kind="T")
        expected = by_hand(query, train, kinds, 1.0, weights)
        np.testing.assert_allclose(model.predict_log_proba(asked), expected, rtol=1e-9, atol=1e-9)
        assert (model.predict(asked) == model.classes_[expected.argmax(axis=1)]).all()

    @pytest.mark.parametrize("label", ["kind", "array"])
    def test_conditions_choose_rows_to_fit(self, train, kinds, query, weights, label):
        frame = pd.DataFrame(train, columns=list("abc")).assign(kind=kinds)
        model = KernelDensityClassifier(where="a < 1", features=["a", "b", "c"])
        model.fit(frame, "kind" if label == "kind" else kinds, weights)
        kept = train[:, 0] < 1
        expected = by_hand(query, train[kept], kinds[kept], 1.0, weights[kept])
        asked = pd.DataFrame(query[:, ::-1], columns=list("cba"))
        np.testing.assert_allclose(model.predict_log_proba(asked), expected, rtol=1e-9, atol=1e-9)

    def test_files_and_stores(self, train, kinds, query, expected, tmp_path):
        path = tmp_path / "cells.parquet"
        pd.DataFrame(train, columns=list("abc")).assign(kind=kinds).to_parquet(path)
        model = KernelDensityClassifier(bandwidth=0.7, features=["a", "b", "c"])
        asked = pd.DataFrame(query, columns=list("abc"))
        found = model.fit(str(path), "kind").predict_proba(asked)
        np.testing.assert_allclose(found, expected, rtol=1e-8)
        digits = KernelDensityClassifier(bandwidth=8.0).fit("digits::train", "label")
        named = digits.predict("digits::test")
        labels = named["label"].values
        assert (named.values == labels).mean() > 0.95

    def test_missing_values(self, train, kinds, query):
        given = np.vstack([train, [[np.nan, 0, 0]]])
        labels = np.append(kinds, "T")
        with pytest.raises(InputError, match="row 90, column 0 is NaN"):
            KernelDensityClassifier().fit(given, labels)
        model = KernelDensityClassifier(nan="drop").fit(given, labels)
        expected = by_hand(query, train, kinds, 1.0)
        np.testing.assert_allclose(model.predict_log_proba(query), expected, rtol=1e-9, atol=1e-9)
        asked = np.vstack([query, [[np.nan, 0, 0]]])
        assert np.isnan(model.predict_proba(asked)[-1]).all()
        with pytest.raises(InputError, match="row 40 has missing values"):
            model.predict(asked)


def test_it_is_as_good_as_neighbours_on_digits():
    bunch = load_digits()
    train, test, train_of, test_of = train_test_split(
        bunch.data, bunch.target, test_size=500, random_state=0, stratify=bunch.target
    )
    model = KernelDensityClassifier(bandwidth=8.0).fit(train, train_of)
    neighbours = KNeighborsClassifier(3).fit(train, train_of)
    assert model.score(test, test_of) >= 0.98
    assert model.score(test, test_of) >= neighbours.score(test, test_of) - 0.006
