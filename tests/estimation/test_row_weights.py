"""Weights count in means over rows that are scored, and in the choice of a bandwidth."""

import json

import numpy as np
import pytest
import reference
import xarray as xr
import zarr
from click.testing import CliRunner
from dkde_cli.main import cli
from scipy.special import logsumexp
from sklearn.model_selection import (
    GridSearchCV,
    KFold,
    PredefinedSplit,
    RepeatedKFold,
    ShuffleSplit,
)

import dkde
from dkde.estimation.statistics import effective_number, mean, standard_error
from dkde.runs.store import ResultStore

GRID = [0.1, 0.3, 0.5, 0.9, 2.0]


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def weights_of(n, seed=5):
    """Whole numbers, some of them 0."""
    return np.random.default_rng(seed).integers(0, 4, n).astype(float)


def held_out(rows, groups, weights, h):
    """Log-densities of rows under those of other groups, by loops."""
    d2 = ((rows[:, None] - rows) ** 2).sum(axis=-1)
    exponents = -d2 / (2 * h * h) - rows.shape[1] * np.log(h * np.sqrt(2 * np.pi))
    counts = np.where(groups[:, None] != groups, weights, 0.0)
    return logsumexp(exponents, b=counts, axis=1) - np.log(counts.sum(axis=1))


class Fixed:
    """A splitter of one's own: whatever it is asked to split, its folds are of all rows."""

    def __init__(self, folds):
        self.folds = folds

    def split(self, X=None, y=None, groups=None):
        yield from PredefinedSplit(self.folds).split()

    def get_n_splits(self, X=None, y=None, groups=None):
        return len(np.unique(self.folds))


class Inherited(KFold):
    """One that is a KFold by name."""

    def split(self, X, y=None, groups=None):
        yield from PredefinedSplit(np.arange(60) % self.n_splits).split()


class TestFigures:
    def test_mean_and_error_are_those_of_the_formulas(self):
        values, w = normal(3, 40), np.random.default_rng(0).uniform(0.1, 3, 40)
        means = (values * w).sum(axis=1) / w.sum()
        n_eff = w.sum() ** 2 / (w**2).sum()
        spread = (w * (values - means[:, None]) ** 2).sum(axis=1) / w.sum()
        np.testing.assert_allclose(mean(values, w), means, rtol=1e-13)
        np.testing.assert_allclose(standard_error(values, w), np.sqrt(spread / (n_eff - 1)))
        assert effective_number(w) == pytest.approx(n_eff)

    @pytest.mark.parametrize("scale", [1e-300, 1.0, 1e300])
    def test_equal_weights_are_as_none(self, scale):
        values, w = normal(2, 50), np.full(50, scale)
        np.testing.assert_allclose(mean(values, w), mean(values), rtol=1e-14)
        np.testing.assert_allclose(standard_error(values, w), standard_error(values), rtol=1e-14)

    def test_one_row_has_no_error(self):
        assert np.isnan(standard_error(np.ones((1, 1)), np.ones(1))).all()
        assert np.isnan(standard_error(normal(1, 2), np.array([1.0, 1e-300]))).all()

    def test_a_small_weight_does_not_hide_a_zero_density(self):
        assert mean(np.array([[-np.inf, 0.0]]), np.array([1e-320, 1e300]))[0] == -np.inf


class TestScore:
    def test_whole_weights_are_repeated_rows(self):
        query, train, w = normal(40, 2), normal(60, 2, seed=1), weights_of(40)
        found = dkde.score(query, train, GRID, query_weights=w)
        truth = reference.log_density(query, train, GRID)
        expected = [np.average(np.asarray(row, float), weights=w) for row in truth]
        np.testing.assert_allclose(found.mean_log_likelihood, expected, rtol=1e-9)
        np.testing.assert_array_equal(found.row_weight, w)
        plain = dkde.score(query, train, GRID)
        np.testing.assert_array_equal(found.log_density, plain.log_density)

    def test_rows_of_weight_zero_are_left_out_first(self):
        query, train = np.r_[normal(5, 1), [[7.0]]], normal(60, 1, seed=1)
        w = np.array([1.0, 2, 1, 1, 1, 0])
        found = dkde.score(query, train, 1.0, kernel="epanechnikov", query_weights=w)
        assert np.isneginf(found.log_density[0, -1])
        assert np.isfinite(found.mean_log_likelihood[0])
        assert int(found.n_zero_density[0]) == 0

    def test_all_zero_is_refused(self):
        with pytest.raises(dkde.InputError, match="all weights are zero"):
            dkde.score(normal(5, 1), normal(9, 1, seed=1), 1.0, query_weights=np.zeros(5))

    @pytest.mark.parametrize("bad", [-1.0, np.nan])
    def test_what_is_no_weight_is_refused(self, bad):
        with pytest.raises(dkde.InputError, match=f"^query: the weight of row 2 is {bad:g};"):
            dkde.score(normal(3, 1), normal(9, 1, seed=1), 1.0, query_weights=[1.0, 1.0, bad])

    def test_a_missing_weight_leaves_its_row_out(self):
        query, train = normal(30, 2), normal(50, 2, seed=1)
        w = np.ma.masked_array(weights_of(30) + 1, mask=np.arange(30) == 4)
        found = dkde.score(query, train, 0.5, query_weights=w, nan="drop")
        expected = dkde.score(
            np.delete(query, 4, 0), train, 0.5, query_weights=np.delete(w.data, 4), nan="drop"
        )
        assert (int(found.n_missing), int(found.n_missing_train)) == (1, 0)
        assert np.isnan(found.log_density[0, 4])
        for name in ("mean_log_likelihood", "standard_error"):
            np.testing.assert_allclose(found[name], expected[name], rtol=1e-13)


@pytest.fixture
def sets():
    """Datasets with features a and b, and a variable w."""

    def made(n, seed):
        rows = normal(n, 2, seed=seed)
        columns = {"a": rows[:, 0], "b": rows[:, 1], "w": weights_of(n, seed) + 1, "v": np.ones(n)}
        return xr.Dataset({name: ("obs", values) for name, values in columns.items()})

    return {"train": made(60, 1), "valid": made(40, 2), "test": made(30, 3)}


class TestNames:
    CATALOG = dkde.Catalog(features=["a", "b"])

    def test_a_name_holds_on_every_side_that_has_it(self, sets):
        with pytest.warns(UserWarning, match="weights 'w' apply to train and to query"):
            named = dkde.score(sets["valid"], sets["train"], 0.5, weights="w", source=self.CATALOG)
        given = dkde.score(
            sets["valid"], sets["train"], 0.5, weights=sets["train"].w.values,
            query_weights=sets["valid"].w.values, source=self.CATALOG,
        )  # fmt: skip
        xr.testing.assert_equal(named, given)

    def test_an_own_one_wins(self, sets):
        found = dkde.score(
            sets["valid"], sets["train"], 0.5, weights="w", query_weights="v", source=self.CATALOG
        )
        assert (found.row_weight == 1).all()

    def test_a_side_without_it_counts_each_row_once(self, sets):
        query = sets["valid"][["a", "b"]]
        found = dkde.score(query, sets["train"], 0.5, weights="w", source=self.CATALOG)
        assert "row_weight" not in found

    def test_an_array_is_the_training_side_s(self, sets):
        w = sets["train"].w
        found = dkde.score(sets["valid"], sets["train"], 0.5, weights=w, source=self.CATALOG)
        assert "row_weight" not in found

    def test_a_sweep(self, sets):
        with pytest.warns(UserWarning, match="apply to train and to (valid|test): the means"):
            found = dkde.sweep(**sets, bandwidths=GRID, weights="w", source=self.CATALOG)
        valid = [
            dkde.score(
                sets["valid"], sets["train"], h, weights="w", query_weights="w",
                source=self.CATALOG,
            ).mean_log_likelihood.item() for h in GRID
        ]  # fmt: skip
        np.testing.assert_allclose(found.mean_log_likelihood, valid, rtol=1e-13)
        assert float(found.best_bandwidth) == GRID[int(np.argmax(valid))]
        expected = np.average(found.test_log_density, weights=sets["test"].w)
        assert float(found.test_mean_log_likelihood) == pytest.approx(expected)
        assert found.test_row_weight.dims == ("test_obs",)

    def test_a_coordinate_in_the_place_of_the_weights(self, sets):
        query = sets["valid"].assign_coords(row_weight=("obs", np.ones(40)))
        dkde.score(query, sets["train"], 0.5, source=self.CATALOG)
        with pytest.raises(dkde.InputError, match="coordinate 'row_weight', a name that the"):
            dkde.score(query, sets["train"], 0.5, query_weights="v", source=self.CATALOG)


@pytest.mark.parametrize("path", [True, False])
def test_a_wrong_weight_of_an_opened_array(path, tmp_path):
    weights = np.r_[np.ones(5), -9.0]
    array = zarr.create_array(tmp_path / "w.zarr", name=None if path else "w", data=weights)
    named = "" if path else ", w,"
    message = f"^train: the weight of row 5{named} is -9; weights must be"
    with pytest.raises(dkde.InputError, match=message):
        dkde.score(normal(4, 1), normal(6, 1), 0.5, weights=array)


def test_the_covariance_is_named_where_it_is_the_cause():
    rows = normal(6, 2)
    message = r"row \d, divided by the covariance's scales, has squares that overflow; give a cov"
    with pytest.raises(dkde.InputError, match=message):
        dkde.log_density(rows, rows, 1.0, covariance=[1e-200, 1.0])


class TestCrossValidation:
    def test_a_row_of_weight_zero_decides_nothing(self):
        rows = np.r_[normal(200, 1), [[30.0]]]
        grid = np.geomspace(0.05, 20, 25)
        found = dkde.cross_validate(rows, grid, folds="loo", weights=np.r_[np.ones(200), 0])
        expected = dkde.cross_validate(rows[:-1], grid, folds="loo")
        assert float(found.best_bandwidth) == float(expected.best_bandwidth)
        np.testing.assert_allclose(
            found.mean_log_likelihood, expected.mean_log_likelihood, rtol=1e-9
        )

    @pytest.mark.parametrize("folds", ["loo", 4])
    def test_held_out_rows_are_weighted(self, folds):
        rows, w = normal(60, 2), weights_of(60)
        found = dkde.cross_validate(rows, GRID, folds=folds, weights=w)
        groups = found.held_out_in.values
        truth = np.array([held_out(rows, groups, w, h) for h in GRID])
        expected = [np.average(row[w > 0], weights=w[w > 0]) for row in truth]
        np.testing.assert_allclose(found.mean_log_likelihood, expected, rtol=1e-9)
        totals = [[(w * row)[groups == g].sum() for row in truth] for g in np.unique(groups)]
        if folds == 4:
            np.testing.assert_allclose(found.fold_log_likelihood, totals, rtol=1e-9)
        assert float(found.best_bandwidth) == GRID[int(np.argmax(expected))]

    @pytest.mark.sampled(3)
    @pytest.mark.parametrize("refine", [False, True])
    @pytest.mark.parametrize("shuffle", [False, True])
    @pytest.mark.parametrize("how", ["weight zero", "missing weight", "missing features"])
    def test_rows_that_do_not_count_change_no_fold(self, how, shuffle, refine):
        rows, gone = normal(60, 2), np.random.default_rng(3).random(60) < 0.3
        call = {"folds": 4, "shuffle": shuffle, "random_state": 0 if shuffle else None}
        call |= {"refine": refine, "bandwidths": GRID}
        w = np.ones(60)
        expected = dkde.cross_validate(rows[~gone], weights=w[~gone], **call)
        if how == "missing features":
            rows[gone] = np.nan
        else:
            w[gone] = 0 if how == "weight zero" else np.nan
        nan = "raise" if how == "weight zero" else "drop"
        found = dkde.cross_validate(rows, weights=w, nan=nan, **call)
        np.testing.assert_array_equal(found.held_out_in[~gone], expected.held_out_in)
        for name in ("fold_log_likelihood", "mean_log_likelihood", "best_bandwidth"):
            np.testing.assert_allclose(found[name], expected[name], rtol=1e-9)
        cv = KFold(4, shuffle=shuffle, random_state=call["random_state"])
        model = dkde.KernelDensityCV(bandwidths=GRID, cv=cv, nan=nan, refine=refine)
        model.fit(rows, sample_weight=w)
        assert model.bandwidth_ == pytest.approx(float(expected.best_bandwidth), rel=1e-9)
        np.testing.assert_allclose(
            model.cv_results_["mean_test_score"], expected.mean_fold_log_likelihood, rtol=1e-9
        )

    def test_folds_that_are_given_are_taken_as_they_are(self):
        rows, w, folds = normal(60, 2), weights_of(60), np.arange(60) % 3
        found = dkde.cross_validate(rows, GRID, folds=folds, weights=w)
        np.testing.assert_array_equal(found.held_out_in, folds)
        given = [
            dkde.KernelDensityCV(bandwidths=GRID, cv=cv).fit(rows, sample_weight=w)
            for cv in (folds, PredefinedSplit(folds), list(PredefinedSplit(folds).split()))
        ]
        for model in given:
            np.testing.assert_allclose(
                model.cv_results_["mean_test_score"], found.mean_fold_log_likelihood, rtol=1e-12
            )

    @pytest.mark.parametrize("nan", ["raise", "drop"])
    def test_ones_own_splitter_splits_all_rows(self, nan):
        rows, w, folds = normal(60, 2), weights_of(60), np.arange(60) % 3
        w[[0, 59]] = 0 if nan == "raise" else np.nan
        expected = dkde.cross_validate(rows, GRID, folds=folds, weights=w, nan=nan)
        for cv in (Fixed(folds), Inherited(3)):
            model = dkde.KernelDensityCV(bandwidths=GRID, cv=cv, nan=nan)
            scores = model.fit(rows, sample_weight=w).cv_results_["mean_test_score"]
            np.testing.assert_allclose(scores, expected.mean_fold_log_likelihood, rtol=1e-12)

    def test_scikit_learns_splitters_share_out_the_rows_that_count(self):
        rows, w = normal(60, 2), weights_of(60)
        w[:7] = 0
        expected = dkde.KernelDensityCV(bandwidths=GRID, cv=4).fit(rows, sample_weight=w)
        once = RepeatedKFold(n_splits=4, n_repeats=1, random_state=0)
        for cv in (KFold(4), None, once):
            model = dkde.KernelDensityCV(bandwidths=GRID, cv=cv).fit(rows, sample_weight=w)
            left = dkde.KernelDensityCV(bandwidths=GRID, cv=cv).fit(rows[w > 0], None, w[w > 0])
            scores = model.cv_results_["mean_test_score"]
            np.testing.assert_allclose(scores, left.cv_results_["mean_test_score"], rtol=1e-9)
            if isinstance(cv, KFold):
                np.testing.assert_array_equal(scores, expected.cv_results_["mean_test_score"])

    def test_a_row_that_is_never_held_out_is_named_as_in_X(self):
        w = np.r_[0.0, 0.0, np.ones(28)]
        cv = ShuffleSplit(1, test_size=0.5, random_state=0)
        first = 2 + int(next(iter(cv.split(np.empty(28))))[0].min())
        with pytest.raises(dkde.InputError, match=f"^cv never holds out row {first}; hold out"):
            dkde.KernelDensityCV(bandwidths=GRID, cv=cv).fit(normal(30, 2), sample_weight=w)

    def test_more_folds_than_rows_that_count_are_refused(self):
        w = np.r_[1.0, 1.0, np.zeros(8)]
        with pytest.raises(dkde.InputError, match=r"there are 2 rows that count .* and 5 folds"):
            dkde.cross_validate(normal(10, 1), GRID, folds=5, weights=w)
        model = dkde.KernelDensityCV(bandwidths=GRID, cv=KFold(5))
        with pytest.raises(dkde.InputError, match="which cannot split 2 rows that count without"):
            model.fit(normal(10, 1), sample_weight=w)

    def test_totals_that_float64_does_not_hold_are_refused(self):
        rows, w = normal(60, 2), np.full(60, 1e307)
        with pytest.raises(dkde.InputError, match="folds' totals of weighted log-densities exceed"):
            dkde.cross_validate(rows, GRID, folds=4, weights=w)
        with pytest.raises(dkde.InputError, match="folds' totals of weighted log-densities exceed"):
            dkde.KernelDensityCV(bandwidths=GRID, cv=4).fit(rows, sample_weight=w)
        found = dkde.cross_validate(rows, GRID, folds=4, weights=w / 1e5)
        expected = dkde.cross_validate(rows, GRID, folds=4).fold_log_likelihood
        np.testing.assert_allclose(found.fold_log_likelihood, expected * 1e302, rtol=1e-9)

    def test_refining(self):
        rows, w = normal(80, 1), weights_of(80)
        kept = np.repeat(rows, w.astype(int), axis=0), np.repeat(np.arange(80), w.astype(int))
        found = dkde.cross_validate(rows, GRID, folds="loo", weights=w, refine=True)
        same = dkde.cross_validate(kept[0], GRID, folds=kept[1], refine=True)
        assert float(found.best_bandwidth) == pytest.approx(float(same.best_bandwidth), rel=1e-4)

    def test_missing_weights(self):
        rows = normal(60, 2)
        w = np.ma.masked_array(weights_of(60), mask=np.arange(60) == 5)
        found = dkde.cross_validate(rows, GRID, folds="loo", weights=w, nan="drop")
        expected = dkde.cross_validate(
            np.delete(rows, 5, 0), GRID, folds="loo", weights=np.delete(w.data, 5)
        )
        np.testing.assert_allclose(
            found.mean_log_likelihood, expected.mean_log_likelihood, rtol=1e-12
        )
        assert (int(found.n_missing), int(found.n_missing_train)) == (1, 1)

    def test_the_default_grid_does_not_heed_rows_of_weight_zero(self):
        rows = np.r_[normal(60, 1), np.full((30, 1), 1e6)]
        found = dkde.cross_validate(rows, weights=np.r_[np.ones(60), np.zeros(30)], folds="loo")
        expected = dkde.cross_validate(rows[:60], folds="loo")
        assert found.bandwidth.max() < 3 * expected.bandwidth.max()

    def test_an_older_result_is_not_taken_for_a_weighted_one(self, tmp_path, monkeypatch):
        call = {"folds": 3, "weights": np.arange(30.0), "output": tmp_path / "r.zarr"}
        rows = normal(30, 1)
        done = dkde.cross_validate(rows, GRID, **call)
        xr.testing.assert_equal(dkde.cross_validate(rows, GRID, **call).load(), done)
        opened = ResultStore.open
        monkeypatch.setattr(
            "dkde.runs.store.ResultStore.open", lambda store: opened(store).drop_vars("row_weight")
        )
        with pytest.raises(dkde.DataSetError, match="older version of dkde"):
            dkde.cross_validate(rows, GRID, **call)


class TestEstimators:
    def test_fold_totals_are_weighted_as_the_means_are(self):
        rows, w = normal(60, 2), weights_of(60)
        fitted = dkde.KernelDensityCV(bandwidths=GRID, cv=4).fit(rows, sample_weight=w)
        found = dkde.cross_validate(rows, GRID, folds=4, weights=w)
        scores = fitted.cv_results_["mean_test_score"]
        np.testing.assert_allclose(scores, found.mean_log_likelihood * w.sum() / 4, rtol=1e-12)
        assert fitted.best_score_ == scores.max()
        assert fitted.bandwidth_ == float(found.best_bandwidth)

    def test_without_weights_as_grid_search(self):
        rows = normal(60, 2)
        fitted = dkde.KernelDensityCV(bandwidths=GRID, cv=4).fit(rows)
        search = GridSearchCV(dkde.KernelDensity(), {"bandwidth": GRID}, cv=4).fit(rows)
        np.testing.assert_allclose(
            fitted.cv_results_["mean_test_score"], search.cv_results_["mean_test_score"]
        )


class TestAfterwards:
    @pytest.fixture
    def two(self):
        query, w = normal(40, 2), weights_of(40)
        trains = normal(60, 2, seed=1), normal(60, 2, seed=2)
        return [dkde.score(query, train, 0.5, query_weights=w) for train in trains], w

    def test_compare_weighs(self, two):
        (a, b), w = two
        found = dkde.compare(a, b)
        difference = (a.log_density - b.log_density).values[0]
        assert float(found.mean_difference) == pytest.approx(np.average(difference, weights=w))
        assert found.attrs["mean_a"] == pytest.approx(float(a.mean_log_likelihood[0]))
        assert int(found.n) == (w > 0).sum()
        error = standard_error(difference[None, w > 0], w[w > 0])[0]
        assert float(found.standard_error) == pytest.approx(error)

    def test_compare_says_where_weights_differ(self, two):
        (a, b), _ = two
        with pytest.warns(UserWarning, match="a and b have different weights of rows"):
            found = dkde.compare(a, b.drop_vars("row_weight"))
        assert float(found.mean_difference) == pytest.approx(
            float((a.log_density - b.log_density).mean())
        )

    def test_tables_and_reports(self, two, tmp_path):
        (a, _), w = two
        dkde.export(a, tmp_path / "a.csv")
        lines = (tmp_path / "a.csv").read_text().splitlines()
        assert lines[0].endswith("row_weight")
        assert [float(line.split(",")[-1]) for line in lines[1:]] == w.tolist()
        dkde.report(a, tmp_path / "a.html")


@pytest.mark.slow
def test_commands(sets, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, dataset in sets.items():
        dataset.to_netcdf(f"{name}.nc", engine="h5netcdf")

    def command(*arguments):
        result = CliRunner().invoke(cli, [*arguments, "--json"])
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout), result.stderr

    names = ("train.nc", "--features", "a,b", "--weights", "w")
    catalog = dkde.Catalog(features=["a", "b"])
    score = ("score", *names, "--query", "valid.nc", "--bandwidth", "0.5")
    found, said = command(*score)
    assert "weights 'w' apply to train and to query" in said
    expected = dkde.score(
        "valid.nc", "train.nc", 0.5, weights="w", query_weights="w", source=catalog
    )
    assert found["mean_log_likelihood"] == float(expected.mean_log_likelihood[0])
    found, said = command(*score, "--query-weights", "v")
    assert "weights 'w'" not in said
    expected = dkde.score(
        "valid.nc", "train.nc", 0.5, weights="w", query_weights="v", source=catalog
    )
    assert found["mean_log_likelihood"] == float(expected.mean_log_likelihood[0])
    grid = ("--bandwidths", "0.1,0.3,0.5,0.9,2")
    found, _ = command(
        "sweep", *names, "--valid", "valid.nc", "--test", "test.nc", "--valid-weights", "v",
        "--test-weights", "w", *grid,
    )  # fmt: skip
    expected = dkde.sweep(
        train="train.nc", valid="valid.nc", test="test.nc", bandwidths=GRID, weights="w",
        valid_weights="v", test_weights="w", source=catalog,
    )  # fmt: skip
    assert found["test"]["mean_log_likelihood"] == float(expected.test_mean_log_likelihood)
    found, _ = command("cv", *names, *grid)
    expected = dkde.cross_validate("train.nc", GRID, weights="w", source=catalog)
    assert found["best_bandwidth"] == float(expected.best_bandwidth)
