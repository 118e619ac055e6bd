"""Classification as a result: posteriors, the choice of a bandwidth, and how good they are."""

import json

import dask.array as da
import numpy as np
import pandas as pd
import pytest
import reference
import xarray as xr
import zarr
from scipy.special import logsumexp
from sklearn.metrics import accuracy_score, confusion_matrix, log_loss
from sklearn.neighbors import KNeighborsClassifier

import dkde
from dkde import InputError

H = [0.4, 0.8, 1.6]


@pytest.fixture(scope="module")
def cells():
    """Rows of three kinds: train, query and valid, each with the kinds of its rows."""
    rng = np.random.default_rng(21)
    found = {}
    for role, n in (("train", 80), ("query", 50), ("valid", 40)):
        kinds = rng.choice(["T", "B", "NK"], n, p=[0.5, 0.3, 0.2])
        centres = {"T": [0, 0], "B": [2, 0], "NK": [0, 3]}
        found[role] = (np.array([centres[k] for k in kinds]) + rng.normal(size=(n, 2)), kinds)
    return found


@pytest.fixture(scope="module")
def frames(cells):
    return {
        role: pd.DataFrame(rows, columns=["a", "b"]).assign(kind=kinds)
        for role, (rows, kinds) in cells.items()
    }


def joint(query, train, kinds, h, weights, priors, query_groups=None, train_groups=None):
    found = []
    for k, prior in zip(["B", "NK", "T"], priors, strict=True):
        own = kinds == k
        groups = None if train_groups is None else train_groups[own]
        densities = reference.log_density(
            query, train[own], [h], weights[own], query_groups, groups
        )
        found.append(np.log(prior) + densities[0])
    return np.array(found)


def posteriors(*arguments, **named):
    found = joint(*arguments, **named)
    return found - logsumexp(found, axis=0)


def shares(kinds, weights=None):
    weights = np.ones(len(kinds)) if weights is None else weights
    found = np.array([weights[kinds == k].sum() for k in ("B", "NK", "T")])
    return found / found.sum()


class TestPosteriors:
    @pytest.mark.parametrize("weighted", [False, True])
    def test_as_by_hand(self, cells, frames, weighted):
        (train, kinds), (query, truth) = cells["train"], cells["query"]
        given = np.random.default_rng(1).integers(1, 4, 80).astype(float) if weighted else None
        weights = np.ones(80) if given is None else given
        found = dkde.classify(frames["query"], frames["train"], H, by="kind", weights=given)
        assert found["class"].values.tolist() == ["B", "NK", "T"]
        for h in H:
            at = found.sel(bandwidth=h)
            expected = joint(query, train, kinds, h, weights, shares(kinds, given))
            logs = expected - logsumexp(expected, axis=0)
            np.testing.assert_allclose(at.log_posterior, logs, rtol=1e-9, atol=1e-9)
            assert (np.abs(at.log_posterior - logs) <= at.log_posterior_error + 1e-14).all()
            total = logsumexp(expected, axis=0)
            assert (np.abs(at.log_density - total) <= at.log_density_error + 1e-14).all()
            np.testing.assert_allclose(at.log_density, total, rtol=1e-9)
            assert float(at.log_density_error.max()) < 1e-6
            named = np.array(["B", "NK", "T"])[logs.argmax(axis=0)]
            assert at.predicted.values.tolist() == named.tolist()
            assert float(at.accuracy) == accuracy_score(truth, named)
            np.testing.assert_array_equal(at.confusion, confusion_matrix(truth, named))
            p = np.exp(logs).T
            assert float(at.log_loss) == pytest.approx(log_loss(truth, p))
            right = (truth[:, None] == ["B", "NK", "T"]).astype(float)
            assert float(at.brier) == pytest.approx(((p - right) ** 2).sum(axis=1).mean())
        assert found.true_class.values.tolist() == truth.tolist()

    def test_calibration_counts_rows_by_confidence(self, frames):
        at = dkde.classify(frames["query"], frames["train"], 0.8, by="kind").isel(bandwidth=0)
        confidence = np.exp(at.log_posterior).max("class").values
        right = (at.predicted == at.true_class).values
        assert int(at.calibration_rows.sum()) == 50
        gaps = 0.0
        for low in np.arange(10) / 10:
            held = (confidence >= low) & (confidence < low + 0.1 + (low > 0.85))
            bin_ = at.sel(confidence_bin=low)
            assert int(bin_.calibration_rows) == held.sum()
            if held.any():
                assert float(bin_.calibration_confidence) == pytest.approx(confidence[held].mean())
                assert float(bin_.calibration_accuracy) == pytest.approx(right[held].mean())
                gaps += abs(confidence[held].sum() - right[held].sum())
        assert float(at.calibration_error) == pytest.approx(gaps / 50)

    def test_every_form_of_rows(self, cells, frames, tmp_path):
        (train, kinds), (query, truth) = cells["train"], cells["query"]
        expected = dkde.classify(frames["query"], frames["train"], 0.8, by="kind")
        frames["train"].to_parquet(tmp_path / "train.parquet")
        frames["query"].to_csv(tmp_path / "query.csv", index=False)
        forms = [
            (query, train, kinds, truth),
            (
                da.from_array(query, chunks=(9, 2)),
                da.from_array(train, chunks=(30, 2)),
                kinds,
                truth,
            ),
            (str(tmp_path / "query.csv"), str(tmp_path / "train.parquet"), "kind", None),
        ]
        for q, t, by, query_by in forms:
            found = dkde.classify(q, t, 0.8, by=by, query_by=query_by)
            np.testing.assert_allclose(found.log_posterior, expected.log_posterior, rtol=1e-9)
            np.testing.assert_array_equal(found.confusion, expected.confusion)
        grid = xr.DataArray(query.reshape(5, 10, 2), dims=("y", "x", "feature"))
        found = dkde.classify(grid, train, 0.8, by=kinds)
        assert found.log_posterior.dims == ("bandwidth", "class", "y", "x")
        assert "accuracy" not in found

    def test_rows_that_do_not_count(self, cells, frames):
        given = frames["query"].copy()
        given.loc[3, "a"] = np.nan
        given.loc[4, "kind"] = None
        given.loc[5, "kind"] = "monocyte"
        with pytest.warns(UserWarning, match="do not count") as said:
            found = dkde.classify(given, frames["train"], 0.8, by="kind", nan="drop")
        words = " ".join(str(each.message) for each in said)
        assert "query: 1 of the 50 rows have no class, and do not count" in words
        assert "left out" not in words  # it is classified
        assert "rows of monocyte are of no class of train" in words
        at = found.isel(bandwidth=0)
        assert int(at.confusion.sum()) == 47
        assert at.predicted.values[3] == ""
        assert at.true_class.values[4:6].tolist() == ["", ""]
        kept = frames["query"].drop(index=[3, 4, 5])
        again = dkde.classify(kept, frames["train"], 0.8, by="kind").isel(bandwidth=0)
        assert float(at.log_loss) == pytest.approx(float(again.log_loss))

    def test_training_rows_without_a_class_are_said_once(self, frames):
        given = frames["train"].copy()
        given.loc[4, "kind"] = None
        with pytest.warns(UserWarning, match="have no value") as said:
            found = dkde.classify(frames["query"], given, H, by="kind")
        (words,) = (str(each.message) for each in said)
        assert words == ("by: 1 of the 80 rows of train have no value of 'kind', and are left out")
        expected = dkde.classify(frames["query"], frames["train"].drop(index=4), H, by="kind")
        np.testing.assert_allclose(found.choice_log_loss, expected.choice_log_loss, rtol=1e-9)

    def test_the_provenance_has_the_rows_of_all_classes(self, frames):
        found = dkde.classify(frames["query"], frames["train"], 0.8, by="kind")
        work = json.loads(found.attrs["provenance"])["score"]
        assert (work["train"]["rows"], work["plan"]["pairs"]) == (80, 50 * 80)
        title, rows = str(dkde.summary(found)).splitlines()[:2]
        assert (title, rows) == ("Classification", "50 query rows under 80 training rows")


class TestChoice:
    @pytest.mark.parametrize("weighted", [False, True])
    def test_by_leaving_one_out(self, cells, frames, weighted):
        train, kinds = cells["train"]
        given = np.random.default_rng(1).integers(0, 4, 80).astype(float) if weighted else None
        weights = np.ones(80) if given is None else given
        numbers = np.arange(80)
        found = dkde.classify(frames["query"], frames["train"], H, by="kind", weights=given)
        codes = np.searchsorted(["B", "NK", "T"], kinds)
        expected = []
        for h in H:
            logs = posteriors(
                train, train, kinds, h, weights, shares(kinds, given),
                query_groups=numbers, train_groups=numbers,
            )  # fmt: skip
            expected.append(-np.average(logs[codes, numbers], weights=weights))
        np.testing.assert_allclose(found.choice_log_loss, expected, rtol=1e-8)
        assert float(found.best_bandwidth) == H[int(np.argmin(expected))]

    def test_by_validation_rows(self, cells, frames):
        (train, kinds), (valid, truth) = cells["train"], cells["valid"]
        found = dkde.classify(frames["query"], frames["train"], H, by="kind", valid=frames["valid"])
        codes = np.searchsorted(["B", "NK", "T"], truth)
        expected = [
            -posteriors(valid, train, kinds, h, np.ones(80), shares(kinds))[codes, range(40)].mean()
            for h in H
        ]
        np.testing.assert_allclose(found.choice_log_loss, expected, rtol=1e-8)

    @pytest.mark.parametrize("valid", [None, "valid"])
    def test_a_class_of_prior_0_cannot_choose(self, frames, valid):
        rows = None if valid is None else frames[valid]
        with pytest.raises(InputError, match="the prior of NK is 0, and its rows are to choose"):
            dkde.classify(
                frames["query"], frames["train"], H, by="kind", priors=[0.5, 0, 0.5], valid=rows
            )
        one = dkde.classify(frames["query"], frames["train"], 1, by="kind", priors=[0.5, 0, 0.5])
        assert np.isneginf(one.log_posterior.sel({"class": "NK"})).all()

    def test_a_class_of_one_row_does_not_choose(self, frames):
        alone = pd.concat([frames["train"], pd.DataFrame({"a": [9.0], "b": [9.0], "kind": ["x"]})])
        with pytest.warns(UserWarning, match="fewer than"):
            found = dkde.classify(frames["query"], alone, H, by="kind")
        assert np.isfinite(found.choice_log_loss).all()

    def test_a_grid_by_default(self, frames):
        found = dkde.classify(frames["query"], frames["train"], by="kind")
        assert found.sizes["bandwidth"] == 16

    def test_validation_needs_several(self, frames):
        with pytest.raises(InputError, match="valid chooses among several bandwidths"):
            dkde.classify(frames["query"], frames["train"], 0.8, by="kind", valid=frames["valid"])

    def test_rules_have_the_bandwidths_of_classes(self, cells, frames):
        kinds = cells["train"][1]
        found = dkde.classify(frames["query"], frames["train"], "scott", by="kind")
        factors = [(kinds == k).sum() ** (-1 / 6) for k in ("B", "NK", "T")]
        np.testing.assert_allclose(found.class_bandwidth[0], factors)
        np.testing.assert_allclose(found.bandwidth, np.exp(np.log(factors).mean()))
        assert "class_bandwidth" in found.bandwidth.attrs["long_name"]


def test_a_coordinate_with_a_name_of_the_result_is_refused(frames):
    train, query = (
        xr.Dataset.from_dataframe(frames[role].rename_axis("sample")).set_coords("kind")
        for role in ("train", "query")
    )
    given = {"by": "kind", "features": ["a", "b"]}
    found = dkde.classify(query, train, H, **given)
    own = {*found.variables, *found.dims} - {*query.coords, *query.dims}
    assert len(own) > 25
    for name in sorted(own):
        named = query.assign_coords({name: ("sample", range(50))})
        with pytest.raises(InputError, match=f"query has a dim or coordinate '{name}'"):
            dkde.classify(named, train, H, **given)


class TestKept:
    @pytest.fixture
    def sides(self, frames, tmp_path):
        for role, frame in frames.items():
            frame.to_parquet(tmp_path / f"{role}.parquet")
        return str(tmp_path / "query.parquet"), str(tmp_path / "train.parquet")

    @pytest.mark.slow
    def test_the_result_is_kept(self, sides, tmp_path):
        store = tmp_path / "r.zarr"
        found = dkde.classify(*sides, H, by="kind", output=store)
        kept = xr.open_zarr(store)
        np.testing.assert_array_equal(kept.log_posterior, found.log_posterior)
        assert kept["class"].values.tolist() == ["B", "NK", "T"]
        again = dkde.classify(*sides, H, by="kind", output=store)
        np.testing.assert_array_equal(again.log_posterior, found.log_posterior)
        assert dkde.verify(store)["blocks"] == 4
        assert "accuracy" in str(dkde.summary(store))
        dkde.plot_classes(store, path=tmp_path / "c.png")
        assert (tmp_path / "c.png").stat().st_size > 1000
        dkde.export(store, tmp_path / "r.nc")
        dkde.export(store, tmp_path / "r.csv")
        table = pd.read_csv(tmp_path / "r.csv")
        first = table[table.bandwidth == 0.4]
        np.testing.assert_allclose(first.log_posterior_NK, found.log_posterior[0, 1], rtol=1e-15)
        assert first.predicted.tolist() == found.predicted[0].values.tolist()
        dkde.report(store, tmp_path / "r.html")

    @pytest.mark.sampled(5)
    @pytest.mark.parametrize(
        "name",
        ["log_posterior", "log_posterior_error", "log_density", "log_density_error", "log_prior"],
    )
    def test_damage_is_found(self, sides, tmp_path, name):
        store = tmp_path / "r.zarr"
        dkde.classify(*sides, H, by="kind", block_rows=7, panel_rows=30, output=store)
        found = dkde.verify(store, blocks=100)
        assert found["exact"]
        assert found["blocks"] > 3
        array = zarr.open_array(store / name, mode="r+")
        array[(-1,) * array.ndim] += 1e-3
        with pytest.raises(dkde.DataSetError, match="come out different"):
            dkde.verify(store, blocks=100)

    @pytest.mark.slow
    def test_it_goes_on_in_parts(self, sides, tmp_path):
        store = tmp_path / "r.zarr"
        with dkde.init_only():
            dkde.classify(
                *sides, H, by="kind", priors={"B": 0.3, "NK": 0.2, "T": 0.5}, output=store
            )
        dkde.run_part(store, 0, 2)
        dkde.run_part(store, 1, 2)
        found = dkde.finish(store)
        expected = dkde.classify(*sides, H, by="kind", priors=[0.3, 0.2, 0.5])
        np.testing.assert_array_equal(found.log_posterior, expected.log_posterior)

    def test_other_priors_are_another_call(self, sides, tmp_path):
        store = tmp_path / "r.zarr"
        dkde.classify(*sides, 0.8, by="kind", output=store)
        with pytest.raises(dkde.DataSetError, match="was made with other priors"):
            dkde.classify(*sides, 0.8, by="kind", priors=[0.3, 0.2, 0.5], output=store)

    def test_other_true_classes_are_another_call(self, sides, cells, tmp_path):
        store = tmp_path / "r.zarr"
        dkde.classify(*sides, 0.8, by="kind", output=store)
        others = np.roll(cells["query"][1], 1)
        with pytest.raises(dkde.DataSetError, match="was made with other true classes"):
            dkde.classify(*sides, 0.8, by="kind", query_by=others, output=store)

    def test_other_validation_rows_are_another_call(self, sides, tmp_path):
        store = tmp_path / "r.zarr"
        dkde.classify(*sides, H, by="kind", output=store)
        valid = sides[0].replace("query", "valid")
        with pytest.raises(dkde.DataSetError):
            dkde.classify(*sides, H, by="kind", valid=valid, output=store)

    def test_without_true_classes_there_is_no_picture(self, cells, tmp_path):
        (train, kinds), (query, _) = cells["train"], cells["query"]
        found = dkde.classify(query, train, 0.8, by=kinds)
        with pytest.raises(InputError, match="has no confusion of classes"):
            dkde.plot_classes(found, tmp_path / "c.png")


@pytest.mark.slow
def test_mnist_beside_the_nearest_neighbour(mnist_store):
    found = dkde.classify("test[:2000]", "train", 1.0, by="label", source=str(mnist_store))
    at = found.isel(bandwidth=0)
    catalog = dkde.Catalog(str(mnist_store))
    train, test = catalog.rows("train"), catalog.rows("test[:2000]")
    neighbour = KNeighborsClassifier(1, algorithm="brute").fit(
        train.read(0, train.n_rows, decode=True), train.coordinates()["label"]
    )
    right = neighbour.predict(test.read(0, 2000, decode=True)) == test.coordinates()["label"]
    assert float(at.accuracy) >= right.mean() - 0.005
    assert float(at.log_loss) < 0.2
    assert float(at.calibration_error) < 0.02


class TestCommand:
    @pytest.fixture(autouse=True)
    def data(self, frames, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        for role, frame in frames.items():
            frame.to_csv(f"{role}.csv", index=False)

    def invoke(self, *arguments, status=0):
        from click.testing import CliRunner
        from dkde_cli.main import cli

        given = ("classify", "train.csv", "--train", "train.csv", "--query", "query.csv")
        result = CliRunner().invoke(cli, [*given, "--by", "kind", *arguments])
        assert result.exit_code == status, result.output
        return result

    def test_figures(self, frames):
        result = self.invoke("--bandwidth", "0.4,0.8,1.6", "--json", "--output", "r.parquet")
        found = json.loads(result.stdout)
        expected = dkde.classify(frames["query"], frames["train"], H, by="kind")
        assert found["best_bandwidth"] == float(expected.best_bandwidth)
        assert [row["accuracy"] for row in found["rows"]] == expected.accuracy.values.tolist()
        at = expected.sel(bandwidth=expected.best_bandwidth)
        assert found["confusion"] == at.confusion.values.tolist()
        assert sum(each["rows"] for each in found["calibration"]) == 50
        assert found["classes"] == ["B", "NK", "T"]
        assert "log_posterior_NK" in pd.read_parquet("r.parquet")

    def test_tables_and_picture(self, tmp_path):
        result = self.invoke(
            "--bandwidth", "0.8", "--priors", "T=0.5,B=0.3,NK=0.2", "--plot", "c.png",
            "--csv", "f.csv",
        )  # fmt: skip
        assert "true classes down, predicted classes across" in result.stdout
        assert "share that is right" in result.stdout
        assert (tmp_path / "c.png").exists()
        assert "accuracy" in pd.read_csv("f.csv")

    @pytest.mark.parametrize("priors", ["T", "T=x", "=0.5"])
    def test_priors_that_cannot_be_read(self, priors):
        result = self.invoke("--bandwidth", "0.8", "--priors", priors, status=2)
        assert "is not CLASS=NUMBER" in result.output
