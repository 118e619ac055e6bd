"""What users say of columns and dims is true of some side of the call, or refused."""

import json

import numpy as np
import pandas as pd
import pytest
import reference
import xarray as xr
from click.testing import CliRunner
from dkde_cli.main import cli as command

import dkde

pytestmark = pytest.mark.filterwarnings("ignore:train .* share rows", "ignore:.*Earth were flat")

RNG = np.random.default_rng(3)
N = 20
ROWS = np.column_stack([RNG.uniform(40, 50, N), RNG.uniform(0, 9, N), RNG.uniform(5, 8, N)])


def cli(*arguments):
    return CliRunner().invoke(command, list(map(str, arguments)))


@pytest.fixture
def frame():
    return pd.DataFrame(ROWS, columns=["lat", "lon", "dest"])


@pytest.fixture
def csv(tmp_path, frame):
    frame.to_csv(tmp_path / "d.csv", index=False)
    return str(tmp_path / "d.csv")


class TestNamedPlaces:
    def forms(self, frame, csv, tmp_path):
        frame.to_parquet(tmp_path / "d.parquet")
        dataset = xr.Dataset({name: ("obs", frame[name].to_numpy()) for name in frame})
        dataset.to_netcdf(tmp_path / "d.nc", engine="h5netcdf")
        dataset.to_zarr(tmp_path / "d.zarr", consolidated=False)
        dkde.import_dataset(csv, tmp_path / "own.zarr")
        yield "frame", frame
        yield "csv", csv
        yield "parquet", str(tmp_path / "d.parquet")
        yield "dataset", dataset
        yield "netcdf", str(tmp_path / "d.nc")
        yield "zarr", str(tmp_path / "d.zarr")
        yield "own", f"{tmp_path / 'own.zarr'}::train"
        yield "dataarray", xr.DataArray(ROWS, dims=("obs", "feature"), coords={"feature": [*frame]})

    def test_a_name_of_neither_side_is_refused_with_the_columns(self, frame, csv, tmp_path):
        for form, data in self.forms(frame, csv, tmp_path):
            for said in ({"lat": "lat", "lon": "Dest"}, {"lat": "latitude", "lon": "lon"}):
                wrong = "Dest" if said["lon"] == "Dest" else "latitude"
                with pytest.raises(dkde.InputError, match=f"is '{wrong}', and no side") as error:
                    dkde.log_density(data, data, 1.0, **said)
                assert "lon" in str(error.value).partition(";")[2], form
                assert "\n" not in str(error.value)

    def test_each_function_refuses_it(self, frame):
        said = {"lat": "lat", "lon": "Dest"}
        for call in (
            lambda: dkde.score(frame, frame, 1.0, **said),
            lambda: dkde.sweep(train=frame, valid=frame + 1, bandwidths=[1.0], **said),
            lambda: dkde.plan(train=frame, query=frame, **said),
            lambda: dkde.cross_validate(frame, [1.0], **said),
            lambda: dkde.sample(frame, 1.0, 3, **said),
            lambda: dkde.KernelDensity(**said).fit(frame),
            lambda: dkde.KernelDensityCV(bandwidths=[1.0, 2.0], **said).fit(frame),
            lambda: dkde.log_density(frame, frame, 1.0, source=dkde.Catalog(**said)),
        ):
            with pytest.raises(dkde.InputError, match=r"lon is 'Dest'.*it has lat, lon, dest"):
                call()

    def test_one_side_is_enough(self, frame, csv):
        expected = reference.log_density(ROWS[:, :2], ROWS[:, :2], [1.0])[0]
        other = frame.rename(columns={"lat": "y", "lon": "x"})
        usual = frame.rename(columns={"lat": "latitude", "lon": "long"})
        for query, train in ((usual, other), (other, usual), (csv, other), (ROWS[:, :2], other)):
            found = dkde.log_density(query, train, 1.0, lat="y", lon="x")
            np.testing.assert_allclose(found, expected, rtol=1e-12)

    def test_rows_without_names_have_none(self, tmp_path):
        np.save(tmp_path / "d.npy", ROWS[:, :2])
        for data in (ROWS[:, :2], str(tmp_path / "d.npy"), ROWS[:, :2].tolist()):
            with pytest.raises(dkde.InputError, match=r"2 columns of .* have no names"):
                dkde.log_density(data, data, 1.0, lat="lat", lon="lon")
        with pytest.raises(dkde.InputError, match="have no names"):
            dkde.KernelDensity(lat="lat", lon="lon").fit(ROWS[:, :2])

    def test_the_estimator_knows_a_frames_names(self, frame):
        frame = frame.rename(columns={"lat": "y", "lon": "x"})
        model = dkde.KernelDensity(bandwidth=1.0, lat="y", lon="x").fit(frame)
        expected = reference.log_density(ROWS[:, :2], ROWS[:, :2], [1.0])[0]
        np.testing.assert_allclose(model.score_samples(frame), expected, rtol=1e-12)

    @pytest.mark.parametrize(
        "arguments",
        [
            ("score", "{}", "--train", "{}", "--query", "{}"),
            ("cv", "{}", "--train", "{}"),
            ("info", "{}"),
        ],
    )
    def test_on_the_command_line(self, csv, arguments):
        name, *rest = [each.format(csv) for each in arguments]
        rest += (
            [] if name == "info" else ["--bandwidth" if name == "score" else "--bandwidths", "1"]
        )
        found = cli(name, *rest, "--lat", "lat", "--lon", "Dest")
        assert found.exit_code == 2
        assert "Dest" in found.stderr
        assert "lat, lon, dest" in found.stderr
        assert len(found.stderr.strip().splitlines()) == 1


class TestNamedDims:
    def test_rows_without_named_dims_refuse_it(self, frame, csv, tmp_path):
        import h5py
        import zarr

        np.save(tmp_path / "d.npy", ROWS)
        frame.to_parquet(tmp_path / "d.parquet")
        dkde.import_dataset(csv, tmp_path / "own.zarr")
        zarr.create_array(tmp_path / "bare.zarr", data=ROWS)
        with h5py.File(tmp_path / "d.h5", "w") as file:
            file["x"] = ROWS
        paths = [tmp_path / name for name in ("d.npy", "d.csv", "d.parquet", "own.zarr::train")]
        paths += [tmp_path / "bare.zarr", tmp_path / "d.h5::x"]
        bare = zarr.open_array(tmp_path / "bare.zarr", mode="r")
        for data in (ROWS, ROWS.tolist(), frame, bare, *map(str, paths)):
            with pytest.raises(dkde.InputError, match="row_dim is cell, and") as error:
                dkde.log_density(data, data, 1.0, row_dim="cell")
            assert "\n" not in str(error.value)
        for data in (ROWS, frame):
            with pytest.raises(dkde.InputError, match="row_dim is cell"):
                dkde.KernelDensity(row_dim="cell").fit(data)
            with pytest.raises(dkde.InputError, match="row_dim is cell"):
                dkde.cross_validate(data, [1.0], row_dim="cell")

    def test_another_side_may_use_it(self):
        cells = xr.Dataset({"emb": (("cell", "comp"), ROWS)})
        expected = reference.log_density(ROWS, ROWS, [1.0])[0]
        for query, train in ((ROWS, cells), (cells, ROWS)):
            found = dkde.log_density(query, train, 1.0, row_dim="cell")
            np.testing.assert_allclose(found, expected, rtol=1e-12)

    def test_a_dim_of_no_side_is_refused_beside_one_dim_too(self):
        series = xr.Dataset({"a": ("time", ROWS[:, 0])})
        with pytest.raises(dkde.InputError, match=r"row_dim is cell, and .* the dims time"):
            dkde.log_density(series, series, 1.0, row_dim="cell")

    def test_info_refuses_it(self, csv, tmp_path):
        with pytest.raises(dkde.InputError, match="row_dim is cell"):
            dkde.describe(csv, row_dim="cell")
        xr.Dataset({"a": ("time", ROWS[:, 0])}).to_netcdf(tmp_path / "d.nc", engine="h5netcdf")
        with pytest.raises(dkde.InputError, match=r"row_dim is cell, and .* the dims time"):
            dkde.describe(tmp_path / "d.nc", row_dim="cell")

    @pytest.mark.parametrize("wrong", [0, 5.0, [1, 2], b"cell", True])
    def test_what_is_no_name_is_an_input_error(self, wrong):
        with pytest.raises(dkde.InputError, match=r"row_dim is .*names of dims"):
            dkde.log_density(ROWS, ROWS, 1.0, row_dim=wrong)
        with pytest.raises(dkde.InputError, match=r"features are .*names of variables"):
            dkde.Catalog(None, wrong)

    def test_names_in_one_text_are_told_to_be_a_list(self):
        cells = xr.Dataset({"emb": (("cell", "comp"), ROWS)})
        for data in (cells, ROWS):
            with pytest.raises(dkde.InputError, match=r'row_dim=\["cell", "comp"\]'):
                dkde.log_density(data, data, 1.0, row_dim="cell,comp")


class TestLists:
    @pytest.fixture
    def lists(self, tmp_path):
        frame = pd.DataFrame({"id": range(N), "emb": list(ROWS)})
        frame.to_parquet(tmp_path / "e.parquet")
        np.save(tmp_path / "d.npy", ROWS)
        return frame, str(tmp_path / "e.parquet"), str(tmp_path / "d.npy")

    def test_its_numbers_are_as_many_columns_without_names(self, lists):
        frame, parquet, npy = lists
        expected = reference.log_density(ROWS, ROWS, [1.0])[0]
        source = dkde.Catalog(features=["emb"])
        for named in (frame, parquet):
            for other in (ROWS, npy):
                for query, train in ((named, other), (other, named)):
                    found = dkde.log_density(query, train, 1.0, source=source)
                    np.testing.assert_allclose(found, expected, rtol=1e-12)
        found = cli(
            "score", parquet, "--train", parquet, "--query", npy, "--features", "emb",
            "--bandwidth", 1,
        )  # fmt: skip
        assert found.exit_code == 0, found.stderr

    def test_of_another_width_or_without_a_list_they_are_refused(self, lists):
        frame, _, _ = lists
        source = dkde.Catalog(features=["emb"])
        for query, train in ((ROWS[:, :2], frame), (frame, ROWS[:, :2]), (ROWS, ROWS)):
            with pytest.raises(dkde.InputError, match="cannot be chosen by emb"):
                dkde.log_density(query, train, 1.0, source=source)

    def test_single_numbers_name_the_list(self, lists):
        frame, parquet, _ = lists
        source = dkde.Catalog(features=["emb_0", "emb_1"])
        for data in (frame, parquet):
            with pytest.raises(dkde.InputError, match="name all of their numbers as emb"):
                dkde.log_density(data, data, 1.0, source=source)


class TestOnlyVariable:
    @pytest.fixture
    def cells(self):
        names = np.array([f"c{i}" for i in range(N)], object)
        return xr.Dataset({"emb": (("cell", "comp"), ROWS)}, {"cell": names})

    @pytest.mark.slow
    @pytest.mark.parametrize("form", ["nc", "zarr"])
    def test_is_the_feature_where_dims_of_rows_are_named(self, cells, tmp_path, form):
        path = tmp_path / f"d.{form}"
        if form == "nc":
            cells.to_netcdf(path, engine="h5netcdf")
        else:
            cells.to_zarr(path, zarr_format=2, consolidated=False)
        found = dkde.log_density(str(path), str(path), 1.0, row_dim="cell")
        np.testing.assert_allclose(found, reference.log_density(ROWS, ROWS, [1.0])[0], rtol=1e-12)
        dkde.import_dataset(path, tmp_path / "own.zarr", row_dim="cell")
        own = dkde.log_density(ROWS, "train", 1.0, source=str(tmp_path / "own.zarr"))
        np.testing.assert_allclose(own, found, rtol=1e-12)
        with pytest.raises(dkde.InputError, match=r"\(--features emb, or"):
            dkde.log_density(str(path), str(path), 1.0)

    def test_of_two_one_has_to_be_named(self, cells, tmp_path):
        cells.assign(other=cells.emb).to_netcdf(tmp_path / "d.nc", engine="h5netcdf")
        with pytest.raises(dkde.InputError, match="say which of its variables"):
            dkde.log_density(str(tmp_path / "d.nc"), ROWS, 1.0, row_dim="cell")

    def test_of_a_group_is_told_how_it_is_named(self, tmp_path):
        import h5py

        with h5py.File(tmp_path / "a.h5", "w") as file:
            file["g/emb"], file["t"] = ROWS, ROWS[:, 0]
        path, source = str(tmp_path / "a.h5"), dkde.Catalog(features=["g/emb"])
        with pytest.raises(dkde.InputError, match=r"write .*a\.h5::g and --features emb"):
            dkde.log_density(path, path, 1.0, source=source)

    def test_a_folder_of_stores_names_one(self, tmp_path):
        import zarr

        zarr.create_array(tmp_path / "folder" / "x", data=ROWS)
        with pytest.raises(dkde.DataSetError, match=r"a folder of Zarr stores; name one \(.*x\)"):
            dkde.log_density(str(tmp_path / "folder"), ROWS, 1.0)


class TestGrids:
    @pytest.fixture
    def rain(self):
        days = np.datetime64("2020-01-01", "ns") + np.arange(5) * np.timedelta64(1, "D")
        places = {"time": days, "station": np.arange(4)}
        return xr.Dataset({"rain": (("time", "station"), ROWS[:, 0].reshape(5, 4))}, places)

    def test_one_line_says_what_became_rows(self, rain):
        with pytest.warns(
            UserWarning, match="each number of rain is a row, along time and"
        ) as said:
            dkde.log_density(rain, rain + 1, 1.0)
        assert len(said) == 1

    @pytest.mark.filterwarnings("error")
    def test_nothing_is_said_of_its_axes_where_dims_are_named(self, rain):
        found = dkde.log_density(rain, rain + 1, 1.0, row_dim=["time", "station"])
        assert found.dims == ("time", "station")


def test_what_the_door_refuses_in_a_table_is_said(tmp_path):
    """A group of AnnData's obsm whose array has an unknown codec: not that there is none."""
    import zarr

    group = zarr.open_group(tmp_path / "a.zarr", mode="w", zarr_format=2)
    group.create_array("t", data=ROWS[:, 0])
    table = group.create_group("df", attributes={"encoding-type": "dataframe"})
    table.create_array("x", data=ROWS[:, 0], compressors=None)
    place = tmp_path / "a.zarr" / "df" / "x" / ".zarray"
    known = json.loads(place.read_text())
    place.write_text(json.dumps(known | {"dtype": "|O", "filters": [{"id": "pickle"}]}))
    path, source = str(tmp_path / "a.zarr"), dkde.Catalog(features=["df"])
    with pytest.raises(dkde.DataSetError, match="pickle"):
        dkde.log_density(path, path, 1.0, source=source)
