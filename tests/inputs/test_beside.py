"""Columns that are named as weights are no features, and columns that train lacks are told."""

import json
import warnings

import numpy as np
import pandas as pd
import pytest
import reference
import xarray as xr
from click.testing import CliRunner
from dkde_cli.main import cli

import dkde
from dkde.rows.side_choices import SideChoices

H, N = 0.8, 25
NO_SUCH = "train has no such feature"


def frame_of(seed):
    rng = np.random.default_rng(seed)
    columns = {"w": rng.integers(0, 4, N).astype(float), "x": rng.normal(size=N)}
    return pd.DataFrame({**columns, "y": rng.normal(size=N)})


TRAIN, QUERY = frame_of(0), frame_of(1)


def expected(query=QUERY, train=TRAIN, weights=TRAIN.w, h=H):
    found = reference.log_density(
        query[["x", "y"]].to_numpy(), train[["x", "y"]].to_numpy(), [h],
        None if weights is None else np.asarray(weights),
    )  # fmt: skip
    return np.asarray(found[0], np.float64)


def mean(values, weights):
    return float((values * weights).sum() / weights.sum())


def csv(frame, folder, name):
    frame.to_csv(folder / f"{name}.csv", index=False)
    return str(folder / f"{name}.csv")


def parquet(frame, folder, name):
    frame.to_parquet(folder / f"{name}.parquet")
    return str(folder / f"{name}.parquet")


def imported(frame, folder, name):
    dkde.import_dataset(csv(frame, folder, name), folder / f"{name}.zarr")
    return f"{folder / name}.zarr::all"


def split(frame, folder, name):
    return dkde.open_dataset(imported(frame, folder, name).partition("::")[0])["all"]


def lazy(frame, folder, name):
    return frame.to_xarray().chunk({"index": 7})


def matrix(frame, folder, name):
    features = {"feature": list(frame.columns)}
    return xr.DataArray(frame.to_numpy(), dims=("sample", "feature"), coords=features)


CONTAINERS = {
    "frame": lambda frame, folder, name: frame,
    "nullable": lambda frame, folder, name: frame.convert_dtypes(),
    "dataset": lambda frame, folder, name: frame.to_xarray(),
    "lazy": lazy,
    "matrix": matrix,
    "csv": csv,
    "parquet": parquet,
    "imported": imported,
}


def told(call):
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        found = call()
    return found, [str(each.message) for each in said]


@pytest.fixture(params=CONTAINERS)
def sides(request, tmp_path):
    make = CONTAINERS[request.param]
    return make(TRAIN, tmp_path, "train"), make(QUERY, tmp_path, "query")


class TestWeights:
    def test_are_no_feature(self, sides):
        train, query = sides
        found = dkde.log_density(query, train, H, weights="w")
        np.testing.assert_allclose(np.asarray(found), expected(), rtol=1e-9)

    def test_are_none_of_either_side(self, sides):
        train, query = sides
        found, said = told(lambda: dkde.score(query, train, H, weights="w"))
        assert found.attrs["n_features"] == 2
        assert float(found.mean_log_likelihood[0]) == pytest.approx(mean(expected(), QUERY.w))
        assert [line for line in said if "'w' is no feature" in line]
        assert not [line for line in said if "left out" in line]

    def test_of_the_other_side_are_none(self, sides):
        train, query = sides
        found = dkde.score(query, train, H, query_weights="w")
        values = expected(weights=None)
        assert float(found.mean_log_likelihood[0]) == pytest.approx(mean(values, QUERY.w))

    @pytest.mark.sampled(4)
    def test_of_other_functions_are_none(self, sides):
        train, query = sides
        found, _ = told(lambda: dkde.sweep(train=train, valid=query, bandwidths=[H], weights="w"))
        assert float(found.mean_log_likelihood[0]) == pytest.approx(mean(expected(), QUERY.w))
        found = dkde.cross_validate(train, [H], folds=5, weights="w")
        assert found.attrs["n_features"] == 2
        assert dkde.sample(train, H, 3, weights="w").shape == (3, 2)
        cost = dkde.plan(query=query, train=train, bandwidths=H, weights="w", baseline=False)
        plain = dkde.plan(
            query=QUERY[["x", "y"]], train=TRAIN[["x", "y"]], bandwidths=H, weights=TRAIN.w,
            baseline=False,
        )  # fmt: skip
        assert cost["flops"] == plain["flops"]

    def test_that_are_among_the_features(self, sides):
        train, query = sides
        catalog = dkde.Catalog(features=["w", "x", "y"])
        found, said = told(lambda: dkde.score(query, train, H, weights="w", source=catalog))
        assert found.attrs["n_features"] == 3
        assert not [line for line in said if "is no feature" in line]

    @pytest.mark.parametrize("kind", ["frame", "dataset", "csv", "matrix"])
    def test_and_nothing_else(self, tmp_path, kind):
        rows = CONTAINERS[kind](TRAIN[["w"]], tmp_path, "train")
        with pytest.raises(dkde.InputError, match="w is named as weights, and there is no other"):
            dkde.log_density(rows, rows, H, weights="w")

    @pytest.mark.parametrize("kind", CONTAINERS)
    def test_that_the_query_lacks(self, tmp_path, kind):
        make = CONTAINERS[kind]
        query = make(QUERY[["y", "x"]], tmp_path, "query")
        found = dkde.score(query, make(TRAIN, tmp_path, "train"), H, weights="w")
        assert float(found.mean_log_likelihood[0]) == pytest.approx(expected().mean())

    def test_of_estimators(self, tmp_path):
        train, query = csv(TRAIN, tmp_path, "train"), csv(QUERY, tmp_path, "query")
        model = dkde.KernelDensity(bandwidth=H).fit(train, sample_weight="w")
        np.testing.assert_allclose(model.score_samples(query), expected(), rtol=1e-9)
        assert model.score(query) == pytest.approx(float(expected().sum()))

    @pytest.mark.parametrize("estimator", ["KernelDensity", "KernelDensityCV"])
    def test_of_estimators_of_a_frame(self, estimator):
        model = getattr(dkde, estimator)().fit(TRAIN, sample_weight="w")
        assert model.n_features_in_ == 2
        same = getattr(dkde, estimator)().fit(TRAIN.drop(columns="w"), sample_weight=TRAIN["w"])
        assert model.bandwidth_ == same.bandwidth_
        query = QUERY[[name for name in TRAIN.columns if name != "w"]]
        expected = same.score_samples(query)
        np.testing.assert_array_equal(model.score_samples(query), expected)
        np.testing.assert_array_equal(model.score_samples(QUERY[list(TRAIN.columns)]), expected)

    def test_of_an_estimator_of_what_has_no_names(self):
        with pytest.raises(dkde.InputError, match="has no names"):
            dkde.KernelDensity().fit(TRAIN.to_numpy(), sample_weight="w")

    def test_do_not_make_dims(self):
        grid = xr.Dataset({"x": ("s", TRAIN.x), "w": (("s", "t"), np.ones((N, 2)))})
        with pytest.raises(dkde.InputError, match="weights"):
            dkde.log_density(grid, grid, H, weights="w")

    def test_on_the_command_line(self, tmp_path):
        train, query = csv(TRAIN, tmp_path, "train"), csv(QUERY, tmp_path, "query")
        arguments = [
            train,
            "--train",
            train,
            "--query",
            query,
            "--bandwidth",
            str(H),
            "--weights",
            "w",
        ]
        result = CliRunner().invoke(cli, ["score", *arguments, "--json"])
        assert result.exit_code == 0, result.output
        found = json.loads(result.stdout)["mean_log_likelihood"]
        assert found == pytest.approx(mean(expected(), QUERY.w))
        assert "'w' is no feature" in result.stderr

    def test_beyond_what_float64_holds_are_refused(self, tmp_path):
        frame = TRAIN.assign(w=np.arange(N) + 2**53)
        for nan in ("raise", "drop"):
            with pytest.raises(dkde.InputError, match="beyond 2\\*\\*53"):
                dkde.log_density(frame[["x", "y"]], frame[["x", "y"]], H, weights=frame.w, nan=nan)
            with pytest.raises(dkde.InputError, match="beyond 2\\*\\*53"):
                dkde.score(QUERY[["x", "y"]], TRAIN[["x", "y"]], H, query_weights=frame.w, nan=nan)


class TestColumnsThatTrainLacks:
    @pytest.mark.parametrize("kind", CONTAINERS)
    def test_are_told_once(self, tmp_path, kind):
        make = CONTAINERS[kind]
        train = make(TRAIN[["x", "y"]], tmp_path, "train")
        query = make(QUERY.rename(columns={"w": "z"}), tmp_path, "query")
        found, said = told(lambda: dkde.score(query, train, H))
        values = np.asarray(found.log_density[0])
        np.testing.assert_allclose(values, expected(weights=None), rtol=1e-9)
        lines = [line for line in said if "left out" in line]
        assert len(lines) == 1
        assert f"left out: z ({NO_SUCH})" in lines[0]
        work = json.loads(found.attrs["provenance"])["score"]
        assert work["query"]["parts"][0]["left_out"] == {"z": NO_SUCH}

    @pytest.mark.parametrize("kind", CONTAINERS)
    def test_are_not_told_where_features_are_named(self, tmp_path, kind):
        make = CONTAINERS[kind]
        train, query = make(TRAIN, tmp_path, "train"), make(QUERY, tmp_path, "query")
        catalog = dkde.Catalog(features=["x", "y"])
        _, said = told(lambda: dkde.score(query, train, H, source=catalog))
        assert not [line for line in said if "left out" in line]

    def test_of_text_are_those_of_train(self, tmp_path):
        train = TRAIN[["x", "y"]].assign(name="a")
        query = QUERY[["x", "y"]].assign(name="b", other="c")
        _, said = told(lambda: dkde.log_density(query, train, H))
        lines = [line for line in said if "left out" in line]
        assert len(lines) == 1
        assert "left out: name (text)" in lines[0]


class TestImpliedFeatures:
    def test_follow_what_is_a_place_now(self):
        catalog = dkde.Catalog(lat="y", lon="x")
        rows = pd.DataFrame({"b": [10.0, 20.0], "a": [30.0, 40.0]})
        options = {"metric": "euclidean", "kernel": "vonmises_fisher"}
        found = dkde.log_density(rows, rows, 0.5, source=catalog, lat="b", lon="a", **options)
        plain = dkde.log_density(rows, rows, 0.5, lat="b", lon="a", **options)
        np.testing.assert_array_equal(found, plain)
        again = catalog.choosing(lat="b", lon="a").choosing(lat="d", lon="c")
        assert again.features == ("d", "c")
        assert catalog.choice.given == {"features": ["y", "x"], "lat": "y", "lon": "x"}

    def test_those_that_were_named_stay(self):
        named = SideChoices.of(features=["y", "x"], lat="y", lon="x")
        with pytest.raises(dkde.InputError, match="'b' is not among the features y, x"):
            named.updated(lat="b", lon="a")


def test_an_id_beside_the_places_of_an_estimator_may_be_large():
    rows = pd.DataFrame({"id": 2**53 + 1 + np.arange(3), "lat": [1.0, 2, 3], "lon": [4.0, 5, 7]})
    model = dkde.KernelDensity(bandwidth=0.1, kernel="vonmises_fisher", lat="lat", lon="lon")
    found = model.fit(rows).score_samples(rows)
    plain = dkde.log_density(rows, rows, 0.1, kernel="vonmises_fisher", lat="lat", lon="lon")
    np.testing.assert_allclose(found, plain, rtol=1e-9)


def test_kilometres_masks_and_weights_of_zero_go_together():
    lat, lon = np.array([10.0, 11, 12, 50]), np.array([20.0, 21, 22, 60])
    w = np.ma.masked_array([1.0, 0.0, 2.0, 9.0], [False, False, False, True])
    rows = xr.Dataset({"lat": ("s", lat), "lon": ("s", lon)})
    options = {"kernel": "vonmises_fisher", "lat": "lat", "lon": "lon"}
    found = dkde.log_density(rows, rows, "500km", weights=w, nan="drop", **options)
    there = rows.isel(s=[0, 2])
    plain = dkde.log_density(rows, there, "500km", weights=[1.0, 2.0], **options)
    np.testing.assert_allclose(found, plain, rtol=1e-9)
