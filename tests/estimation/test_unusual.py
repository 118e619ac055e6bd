"""Unusual rows: thresholds by leave-one-out, the estimator, and flags of a score."""

import json

import dask.array as da
import numpy as np
import pandas as pd
import pytest
import reference
import xarray as xr
from sklearn.base import clone
from sklearn.utils.estimator_checks import parametrize_with_checks

import dkde
from dkde import InputError, KernelDensity, KernelDensityCV, KernelDensityOutlier


@pytest.fixture(scope="module")
def rows():
    return np.random.default_rng(3).normal(size=(61, 2)) * [1.0, 3.0]


@pytest.fixture(scope="module")
def query():
    return np.random.default_rng(4).normal(size=(40, 2)) * [2.0, 6.0]


@pytest.fixture(scope="module")
def weights():
    return np.random.default_rng(5).integers(0, 4, 61).astype(float)


def under_others(rows, h, weights=None, **options):
    """Log-densities of rows, each under all others."""
    numbers = np.arange(len(rows))
    return reference.log_density(rows, rows, [h], weights, numbers, numbers, **options)[0]


def share_below(values, weights, threshold):
    return weights[values < threshold].sum() / weights.sum()


# A row of weight 2 is left out whole, and of two equal rows one: weights are no counts of rows.
COUNTS = dict.fromkeys(
    ("check_sample_weight_equivalence_on_dense_data",),
    "a row is left out with all of its weight",
)


@pytest.mark.sampled(4)
@parametrize_with_checks(
    [KernelDensityOutlier(), KernelDensityOutlier(novelty=True)],
    expected_failed_checks=lambda estimator: COUNTS if estimator.novelty else {},
)
def test_scikit_learns_checks(estimator, check):
    check(estimator)


class TestThreshold:
    @pytest.mark.parametrize("contamination", [0.01, 0.05, 0.1, 20 / 61, 0.5])
    @pytest.mark.parametrize("kernel", ["gaussian", "exponential"])
    def test_that_share_lies_below_it(self, rows, contamination, kernel):
        values = np.sort(under_others(rows, 0.8, kernel=kernel))
        found = KernelDensity(bandwidth=0.8, kernel=kernel).fit(rows).threshold(contamination)
        assert found == pytest.approx(values[int(contamination * 61 + 1e-9)], rel=1e-9)

    def test_rows_count_by_weight(self, rows, weights):
        values = under_others(rows, 0.8, weights)
        model = KernelDensity(bandwidth=0.8).fit(rows, sample_weight=weights)
        found = model.threshold(0.2)
        assert np.isclose(values[weights > 0], found, rtol=1e-9).any()
        assert share_below(values, weights, found - 1e-7) <= 0.2
        assert share_below(values, weights, found + 1e-7) > 0.2
        # Rows of weight 2 count as two rows, of which each still leaves out but itself.
        assert found != pytest.approx(KernelDensity(bandwidth=0.8).fit(rows).threshold(0.2))

    def test_rows_may_count_for_themselves(self, rows):
        model = KernelDensity(bandwidth=0.8).fit(rows)
        found = model.threshold(0.1, leave_one_out=False)
        assert found == pytest.approx(np.sort(model.score_samples(rows))[6])
        assert (model.score_samples(rows) < found - 1e-7).sum() == 6

    def test_a_chosen_bandwidth_has_one_too(self, rows):
        model = KernelDensityCV(bandwidths=[0.5, 0.8, 1.5], cv=3).fit(rows)
        values = np.sort(under_others(rows, model.bandwidth_))
        assert model.threshold(0.1) == pytest.approx(values[6])

    def test_with_a_covariance_and_lazy_rows(self, rows):
        arrays = rows, da.from_array(rows, chunks=(20, 2))
        found = [KernelDensity(covariance="full").fit(each).threshold(0.1) for each in arrays]
        assert found[0] == pytest.approx(found[1], rel=1e-9)

    @pytest.mark.parametrize("contamination", [0, -0.1, 0.6, np.nan, True, "auto", None])
    def test_shares_that_cannot_be_are_refused(self, rows, contamination):
        with pytest.raises(InputError, match=r"^contamination is .* share of the training rows"):
            KernelDensity().fit(rows).threshold(contamination)

    def test_rows_without_a_density_under_others(self, rows):
        model = KernelDensity(bandwidth=0.1, kernel="tophat").fit(rows)
        share = np.isneginf(under_others(rows, 0.1, kernel="tophat")).mean()
        with pytest.raises(InputError, match=f"^{share:.2%} of the training rows .* larger bandw"):
            model.threshold(0.01)

    def test_a_single_row_has_none(self, rows):
        with pytest.raises(InputError, match="only one training row counts"):
            KernelDensity().fit(rows[:2], sample_weight=[1, 0]).threshold(0.1)

    def test_not_within_atol(self, rows):
        with pytest.raises(InputError, match="contamination compares log-densities"):
            KernelDensity(atol=1e-3).fit(rows).threshold(0.1)


class TestEstimator:
    def test_labels_of_training_rows_are_under_the_others(self, rows):
        model = KernelDensityOutlier(contamination=0.1, bandwidth=0.8)
        values = under_others(rows, 0.8)
        np.testing.assert_array_equal(model.fit_predict(rows) == -1, values < np.sort(values)[6])
        np.testing.assert_allclose(model.training_log_density_, values, rtol=1e-9)
        assert model.offset_ == KernelDensity(bandwidth=0.8).fit(rows).threshold(0.1)

    def test_new_rows(self, rows, query):
        model = KernelDensityOutlier(contamination=0.1, bandwidth=0.8, novelty=True).fit(rows)
        expected = reference.log_density(query, rows, [0.8])[0] - model.offset_
        np.testing.assert_allclose(model.decision_function(query), expected, rtol=1e-8)
        labels = np.where(expected < 0, -1, 1)
        np.testing.assert_array_equal(model.predict(query), labels)
        lazy = model.predict(da.from_array(query, chunks=(7, 2)))
        assert isinstance(lazy, da.Array)
        np.testing.assert_array_equal(lazy.compute(), labels)
        labelled = xr.DataArray(query, dims=("row", "feature"))
        assert model.predict(labelled).dims == ("row",)

    def test_rows_left_out_are_not_called_usual(self, rows):
        given = np.vstack([rows, [[np.nan, 0.0]]])
        model = KernelDensityOutlier(nan="drop")
        assert model.fit_predict(given)[-1] == -1
        assert model.offset_ == pytest.approx(KernelDensity().fit(rows).threshold(0.1))
        assert clone(model).set_params(novelty=True).fit(given).predict(given)[-1] == -1

    def test_what_fails_leaves_it_unfitted(self, rows, query):
        model = KernelDensityOutlier(bandwidth=0.8).fit(rows)
        with pytest.raises(InputError, match="density of 0 under the others"):
            model.set_params(bandwidth=1e-3, kernel="tophat").fit(rows)
        with pytest.raises(ValueError, match="not fitted"):
            model.score_samples(query)

    def test_each_use_has_its_own_methods(self):
        assert not hasattr(KernelDensityOutlier(), "predict")
        assert not hasattr(KernelDensityOutlier(novelty=True), "fit_predict")


class TestScore:
    def test_rows_below_the_threshold_are_flagged(self, rows, query, weights):
        found = dkde.score(query, rows, [0.5, 1.0], weights=weights, contamination=0.1)
        for h in (0.5, 1.0):
            model = KernelDensity(bandwidth=h).fit(rows, sample_weight=weights)
            at = found.sel(bandwidth=h)
            assert float(at.unusual_below) == model.threshold(0.1)
            expected = reference.log_density(query, rows, [h], weights)[0] < float(at.unusual_below)
            np.testing.assert_array_equal(at.unusual, expected)
            assert int(at.n_unusual) == expected.sum() > 0

    def test_rows_that_do_not_count_are_not_counted(self, rows, query):
        given = np.vstack([query, [[np.nan, 0.0]], [[9.0, 9.0]]])
        of_query = np.append(np.ones(41), 0.0)
        found = dkde.score(
            given, rows, 0.8, contamination=0.1, nan="drop", query_weights=of_query
        ).isel(bandwidth=0)
        assert found.unusual.values[-2:].tolist() == [False, True]
        assert int(found.n_unusual) == found.unusual.values[:-2].sum()

    def test_the_result_is_kept_and_made_again(self, rows, query, tmp_path):
        np.save(tmp_path / "rows.npy", rows)
        np.save(tmp_path / "query.npy", query)
        sides = str(tmp_path / "query.npy"), str(tmp_path / "rows.npy")
        store = tmp_path / "r.zarr"
        found = dkde.score(*sides, 0.8, contamination=0.1, output=store)
        kept = xr.open_zarr(store)
        np.testing.assert_array_equal(kept.unusual, found.unusual)
        assert json.loads(kept.attrs["provenance"])["options"]["contamination"] == 0.1
        assert dkde.verify(store)["exact"]
        dkde.export(store, tmp_path / "r.csv")
        table = pd.read_csv(tmp_path / "r.csv")
        np.testing.assert_array_equal(table["unusual"], found.unusual[0])
        assert table["unusual"].dtype == bool
        assert "unusual" in str(dkde.summary(store))
        with pytest.raises(dkde.DataSetError, match="rows of a contamination of"):
            dkde.score(*sides, 0.8, contamination=0.2, output=store)

    def test_not_of_several_densities(self, rows, query):
        with pytest.raises(InputError, match="contamination is for one density; leave out by"):
            dkde.score(query, rows, 0.8, contamination=0.1, by=np.arange(61) % 2)

    def test_not_within_atol(self, rows, query):
        with pytest.raises(InputError, match="contamination compares log-densities"):
            dkde.score(query, rows, 0.8, contamination=0.1, atol=1e-3)
