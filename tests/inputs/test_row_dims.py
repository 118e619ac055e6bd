"""Which dims of variables are rows and which hold features: by rule, or as users say."""

import json

import numpy as np
import pandas as pd
import pytest
import reference
import xarray as xr
from click.testing import CliRunner
from dkde_cli.main import cli

import dkde
from dkde.inputs.sides import operand
from dkde.results.rereading import read_back
from dkde.runs.scored_rows import scored_rows

H, N = 0.8, 30

# Rows are scored against themselves here, which is the subject of other tests.
pytestmark = pytest.mark.filterwarnings("ignore:train .* share rows")


@pytest.fixture
def table():
    return np.random.default_rng(5).normal(size=(N, 2))


@pytest.fixture
def embedding(table):
    """Rows of features, whose dims have no coordinates."""
    return xr.Dataset({"emb": (("cell", "comp"), table)})


@pytest.fixture
def sea():
    """A field along time, lat and lon."""
    rng = np.random.default_rng(6)
    times = np.datetime64("2020-01-01", "ns") + np.arange(4) * np.timedelta64(1, "D")
    return xr.Dataset(
        {"sst": (("time", "lat", "lon"), rng.normal(size=(4, 3, 2)))},
        {"time": times, "lat": [10.0, 20, 30], "lon": [5, 6]},
    )


@pytest.fixture
def stations():
    """A variable along time and stations, which have names."""
    rng = np.random.default_rng(7)
    return xr.Dataset(
        {"t": (("time", "station"), rng.normal(size=(6, 3)))},
        {"time": np.arange(6), "station": np.array(["rome", "oslo", "bern"], object)},
    )


def written(dataset, folder, form):
    if form == "dataset":
        return dataset
    if form == "nc":
        dataset.to_netcdf(folder / "d.nc", engine="h5netcdf")
        return str(folder / "d.nc")
    dataset.to_zarr(folder / "d.zarr", zarr_format=int(form[-1]), consolidated=False)
    return str(folder / "d.zarr")


FORMS = ["dataset", "nc", "zarr 2", "zarr 3"]


def right(query, train):
    return np.asarray(reference.log_density(query, train, [H])[0], float)


def close(found, query, train=None):
    truth = right(query, query if train is None else train)
    np.testing.assert_allclose(np.asarray(found).ravel(), truth, rtol=1e-9)


def catalog(name, **said):
    return dkde.Catalog(features=[name], **said)


class TestOneVariable:
    @pytest.mark.parametrize("form", FORMS)
    def test_of_two_dims_it_is_refused_with_both_ways_out(self, tmp_path, embedding, form):
        data = written(embedding, tmp_path, form)
        with pytest.raises(dkde.InputError) as error:
            dkde.score(data, data, H, source=catalog("emb"))
        said = str(error.value)
        assert (
            'say row_dim="cell" (--row-dim cell) for 30 rows of 2, or row_dim=["cell", "comp"] ('
            in said
        )
        assert "--row-dim cell,comp) for 60 rows" in said
        assert "\n" not in said

    @pytest.mark.parametrize("form", FORMS)
    def test_row_dim_makes_rows_of_features(self, tmp_path, embedding, table, form):
        data = written(embedding, tmp_path, form)
        found = dkde.score(data, data, H, source=catalog("emb", row_dim="cell"))
        close(found.log_density, table)
        assert found.log_density.dims == ("bandwidth", "cell")
        close(dkde.log_density(data, data, H, source=catalog("emb"), row_dim="cell"), table)
        numbers = dkde.score(data, data, H, source=catalog("emb"), row_dim=["comp", "cell"])
        close(numbers.log_density, table.reshape(-1, 1))
        assert numbers.log_density.dims == ("bandwidth", "cell", "comp")

    @pytest.mark.parametrize("form", FORMS)
    def test_with_coordinates_of_numbers_or_times_it_is_a_grid(self, tmp_path, sea, form):
        data = written(sea, tmp_path, form)
        rows = sea.sst.values.reshape(-1, 1)
        with pytest.warns(
            UserWarning, match="each number of sst is a row, along time, lat and lon"
        ):
            found = dkde.score(data, data, H, source=catalog("sst"))
        close(found.log_density, rows)
        assert found.log_density.dims == ("bandwidth", "time", "lat", "lon")
        profiles = dkde.score(data, data, H, source=catalog("sst"), row_dim=["lat", "lon"])
        close(profiles.log_density, np.moveaxis(sea.sst.values, 0, -1).reshape(-1, 4))

    def test_times_of_another_calendar_are_coordinates_of_times(self, tmp_path, sea):
        sea["time"] = xr.date_range("2001-02-28", periods=4, calendar="noleap", use_cftime=True)
        for data in (sea, written(sea, tmp_path, "nc")):
            with pytest.warns(UserWarning, match="each number of sst is a row"):
                found = dkde.log_density(data, data, H, source=catalog("sst"))
            close(found, sea.sst.values.reshape(-1, 1))

    def test_a_curved_grid_has_coordinates_too(self):
        rng = np.random.default_rng(1)
        places = {name: (("y", "x"), rng.normal(size=(3, 4))) for name in ("lat", "lon")}
        data = xr.Dataset({"t": (("y", "x"), rng.normal(size=(3, 4)))}, places)
        with pytest.warns(UserWarning, match="each number of t is a row, along y and x"):
            found = dkde.log_density(data, data, H, source=catalog("t"))
        close(found, data.t.values.reshape(-1, 1))

    @pytest.mark.parametrize("form", FORMS)
    def test_text_makes_no_grid_and_names_features(self, tmp_path, stations, form):
        data = written(stations, tmp_path, form)
        with pytest.raises(dkde.InputError, match=r"t \(time 6, station 3\) can be rows"):
            dkde.log_density(data, data, H, source=catalog("t"))
        found = dkde.log_density(data, data, H, source=catalog("t"), row_dim="time")
        close(found, stations.t.values)
        query = stations.isel(station=[2, 0, 1])
        aligned = dkde.log_density(query, data, H, source=catalog("t"), row_dim="time")
        np.testing.assert_array_equal(aligned, found)

    @pytest.mark.parametrize("form", FORMS)
    def test_a_dim_called_feature_holds_features(self, tmp_path, embedding, table, form):
        data = written(embedding.rename(comp="feature"), tmp_path, form)
        with pytest.warns(
            UserWarning, match="rows lie along cell, and features along feature"
        ) as w:
            close(dkde.log_density(data, data, H, source=catalog("emb")), table)
        assert len(w) == 1
        others = embedding.rename(cell="other", comp="more")
        found = dkde.log_density(data, others, H, source=catalog("emb"), row_dim="other")
        close(found, table)  # of a dim that the other side has
        with pytest.raises(dkde.InputError, match=r"row_dim is third, and .* cell, feature"):
            dkde.log_density(data, data, H, source=catalog("emb"), row_dim="third")
        numbers = dkde.log_density(
            data, data, H, source=catalog("emb"), row_dim=["cell", "feature"]
        )
        close(numbers, table.reshape(-1, 1))

    def test_features_of_several_dims_lie_in_c_order(self):
        pictures = np.random.default_rng(2).normal(size=(5, 3, 2))
        data = xr.Dataset({"p": (("y", "n", "x"), pictures.transpose(1, 0, 2))})
        close(dkde.log_density(data, data, H, row_dim="n"), pictures.reshape(5, 6))

    def test_a_dim_that_is_not_there_is_refused_or_told_of(self, embedding, stations):
        with pytest.raises(
            dkde.InputError, match=r"row_dim is cel, and the dims of emb are cell, c"
        ):
            dkde.log_density(embedding, embedding, H, row_dim="cel")
        with (
            pytest.warns(UserWarning, match="has no dim statoin"),
            pytest.raises(dkde.InputError, match=r"row_dim is statoin, and .* time, station"),
        ):
            dkde.log_density(stations, stations, H, row_dim=["time", "statoin"])
        other = xr.Dataset({"t": (("place", "station"), stations.t.values)})
        with pytest.warns(UserWarning, match=r"has no dim (place|time); rows lie along"):
            dkde.log_density(other, stations, H, row_dim=["time", "place"])

    @pytest.mark.parametrize("chunks", [None, {"cell": 7, "comp": 1}])
    def test_in_ranges_of_any_chunks(self, tmp_path, table, embedding, chunks):
        data = embedding.chunk(chunks) if chunks else embedding
        call = {"row_dim": "cell", "block_rows": 4, "panel_rows": 9}
        close(dkde.score(data, data, H, **call).log_density, table)


class TestSeveralVariables:
    def test_along_the_same_dims_they_are_a_column_each(self, embedding, table):
        data = embedding.assign(other=embedding.emb * 2)
        rows = np.stack([table.ravel(), 2 * table.ravel()], axis=1)
        close(dkde.log_density(data, data, H), rows)

    def test_along_unlike_dims_they_are_refused_or_said(self, embedding, table):
        data = embedding.assign(depth=("cell", np.linspace(0, 1, N)))
        with pytest.raises(dkde.InputError, match=r'say row_dim="cell" .* for 30 rows of 3, or'):
            dkde.log_density(data, data, H)
        rows = np.column_stack([table, np.linspace(0, 1, N)])
        close(dkde.log_density(data, data, H, row_dim="cell"), rows)
        named = data.assign_coords(comp=["u", "v"])
        frame = pd.DataFrame(rows, columns=["emb_u", "emb_v", "depth"])[["depth", "emb_v", "emb_u"]]
        close(dkde.log_density(frame, named, H, row_dim="cell"), rows)

    def test_a_field_beside_its_axes_stays_a_grid(self, sea):
        sea = sea.rename(lat="depth", lon="run")
        names = dkde.Catalog(features=["sst", "depth", "run"])
        rows = np.stack(
            [
                np.asarray(a.values, float).ravel()
                for a in xr.broadcast(sea.sst, sea.depth, sea.run)
            ],
            1,
        )
        close(dkde.log_density(sea, sea, H, source=names), rows)

    def test_each_has_a_dim_called_feature_or_none(self, embedding, table):
        data = embedding.rename(comp="feature").assign(depth=("cell", np.linspace(0, 1, N)))
        with pytest.warns(UserWarning, match="rows lie along cell, and features along feature"):
            found = dkde.log_density(data, data, H)
        close(found, np.column_stack([table, np.linspace(0, 1, N)]))


class TestDataArrays:
    def test_two_dims_are_rows_and_features(self, embedding, table):
        with pytest.warns(UserWarning, match="rows lie along cell, and features along comp") as w:
            close(dkde.log_density(embedding.emb, embedding.emb, H), table)
        assert len(w) == 1  # once a call, and not once a side
        close(dkde.log_density(embedding.emb, embedding.emb, H, row_dim="cell"), table)

    def test_row_dim_may_be_either_or_both(self, embedding, table):
        both = embedding.emb
        close(dkde.log_density(both.T, both.T, H, row_dim="cell"), table)
        close(dkde.log_density(both, both, H, row_dim="comp"), table.T)
        found = dkde.log_density(both, both, H, row_dim=["cell", "comp"])
        close(found, table.reshape(-1, 1))
        assert found.dims == ("cell", "comp")
        with pytest.raises(dkde.InputError, match="row_dim is x, and the dims of emb are"):
            dkde.log_density(both, both, H, row_dim="x")

    def test_a_map_is_refused_and_said(self, sea):
        one = sea.sst.isel(time=0)
        with pytest.raises(
            dkde.InputError, match=r'say row_dim="lat" .* or row_dim=\["lat", "lon"'
        ):
            dkde.log_density(one, one, H)
        close(dkde.log_density(one, one, H, row_dim=["lat", "lon"]), one.values.reshape(-1, 1))
        numbered = xr.DataArray(
            one.values, dims=("sample", "feature"), coords={"sample": [1, 2, 3]}
        )
        close(dkde.log_density(numbered, numbered, H), one.values)

    def test_a_field_of_three_dims_is_a_grid(self, sea):
        with pytest.warns(UserWarning, match="each number of sst is a row"):
            close(dkde.log_density(sea.sst, sea.sst, H), sea.sst.values.reshape(-1, 1))
        bare = sea.sst.drop_vars(["time", "lat", "lon"])
        with pytest.raises(dkde.InputError, match=r'say row_dim="time" .* for 4 rows of 6, or'):
            dkde.log_density(bare, bare, H)

    def test_one_dim_needs_to_be_said(self, sea):
        line = sea.sst.isel(lat=0, lon=0)
        with pytest.raises(dkde.InputError, match="it needs two: rows and features"):
            dkde.log_density(line, line, H)
        close(dkde.log_density(line, line, H, row_dim="time"), line.values.reshape(-1, 1))


class TestEverywhere:
    def test_functions_and_estimators(self, embedding, table):
        call = {"row_dim": "cell"}
        assert dkde.plan(query=embedding, train=embedding, bandwidths=[H], **call)
        assert dkde.cross_validate(embedding, [0.05, 0.5, 9.0], folds=3, **call).n_features == 2
        halves = {
            "train": embedding.isel(cell=slice(15)),
            "valid": embedding.isel(cell=slice(15, N)),
        }
        assert dkde.sweep(**halves, bandwidths=[0.01, 0.5, 9.0], **call).n_features == 2
        assert dkde.sample(embedding, H, 3, **call).shape == (3, 2)
        found = dkde.KernelDensity(bandwidth=H, **call).fit(embedding).score_samples(embedding)
        close(found, table)

    def test_a_result_says_the_dims_and_its_rows_are_read_again(self, tmp_path, embedding, table):
        path = written(embedding, tmp_path, "nc")
        result = dkde.score(path, path, H, source=catalog("emb"), row_dim="cell")
        (part,) = json.loads(result.attrs["provenance"])["score"]["query"]["parts"]
        assert part["row_dims"] == ["cell"]
        rows, why = read_back(scored_rows(result)[0])
        assert why == ""
        np.testing.assert_array_equal(rows.read(0, N, decode=True), table)

    def test_a_run_is_gone_on_with(self, tmp_path, monkeypatch, embedding, table):
        monkeypatch.chdir(tmp_path)
        path = written(embedding, tmp_path, "zarr 3")
        call = {"source": catalog("emb", row_dim="cell"), "block_rows": 7, "output": "r.zarr"}
        with dkde.init_only():
            dkde.score(path, path, H, **call)
        dkde.run_part("r.zarr", 0, 1)
        found = dkde.finish("r.zarr")
        close(dkde.score(path, path, H, **call).log_density, table)
        assert dkde.verify("r.zarr", blocks=9)["blocks"] == 5
        assert found is not None

    def test_on_the_command_line(self, tmp_path, embedding, table):
        path = written(embedding, tmp_path, "nc")
        call = ["score", path, "--train", path, "--query", path, "--bandwidth", str(H)]
        done = CliRunner().invoke(cli, [*call, "--features", "emb", "--json"])
        assert done.exit_code == 2
        assert "(--row-dim cell) for 30 rows of 2" in done.stderr
        done = CliRunner().invoke(cli, [*call, "--features", "emb", "--row-dim", "cell", "--json"])
        assert done.exit_code == 0, done.output
        assert f"{right(table, table).mean():.10f}"[:8] in done.stdout


class TestUnnamedVariables:
    def test_what_is_no_number_is_left_out_and_recorded(self, table):
        times = np.datetime64("2020-01-01", "ns") + np.arange(N)
        data = xr.Dataset(
            {
                "u": ("cell", table[:, 0]),
                "name": ("cell", np.array(["a"] * N, object)),
                "when": ("cell", times),
                "good": ("cell", table[:, 0] > 0),
                "v": ("cell", table[:, 1]),
            }
        )
        with pytest.warns(UserWarning, match=r"features are u, v; left out: name \(text"):
            side = operand(data, "train", dkde.Catalog())
        (part,) = side.rows.parts
        assert part.features == ("u", "v")
        assert part.left_out == {
            "name": "text or objects",
            "when": "timestamps",
            "good": "true or false",
        }

    def test_named_times_are_days(self, tmp_path, table):
        times = np.datetime64("2020-01-01", "ns") + np.arange(N) * np.timedelta64(6, "h")
        data = xr.Dataset({"u": ("cell", table[:, 0]), "when": ("cell", times)})
        rows = np.column_stack([table[:, 0], 18262 + np.arange(N) / 4])
        for side in (data, written(data, tmp_path, "nc")):
            with pytest.warns(UserWarning, match="when is taken as days since 1970-01-01"):
                result = dkde.score(side, side, H, source=dkde.Catalog(features=["u", "when"]))
            close(result.log_density, rows)

    def test_integers_beyond_what_a_float_holds_are_refused(self, table):
        data = xr.Dataset({"u": ("cell", table[:, 0]), "n": ("cell", 2**53 + np.arange(N))})
        with pytest.raises(dkde.InputError, match=r"a value of n is .* an integer beyond 2\*\*53"):
            dkde.score(data, data, H)
