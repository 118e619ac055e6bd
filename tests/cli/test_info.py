"""``dkde info`` of what others made, and where commands that cannot take it send their users."""

import json

import numpy as np
import pytest
import xarray as xr


@pytest.fixture
def points():
    rng = np.random.default_rng(0)
    return xr.Dataset({name: ("obs", rng.normal(size=30)) for name in "ab"})


@pytest.fixture(params=["nc", "zarr"])
def tree(folder, points, request):
    """Two cruises and a grid, and nothing in the root."""
    grid = xr.Dataset({"t": (("y", "x"), np.ones((4, 5)))})
    found = xr.DataTree.from_dict({"/cruise/7": points, "/cruise/8": points + 1, "/grid": grid})
    name = f"tree.{request.param}"
    if request.param == "nc":
        found.to_netcdf(name, engine="h5netcdf")
    else:
        found.to_zarr(name, consolidated=False)
    return name


class TestGroups:
    def test_of_an_empty_root(self, run, tree):
        text = run("info", tree).stdout
        assert "cruise/7" in text
        assert f"no variables here; dkde info {tree}::" in text
        assert "dtype" not in text

    def test_one_of_them(self, run, tree):
        described = json.loads(run("info", f"{tree}::cruise/7", "--json").stdout)
        assert (described["features"], described["rows"]) == (["a", "b"], 30)
        assert run("info", f"{tree}::cruise/7", "--features", "a").exit_code == 0

    def test_below_one_of_them(self, run, tree):
        text = run("info", f"{tree}::cruise").stdout
        assert "groups  7, 8" in text
        assert f"dkde info {tree}::cruise/7" in text

    def test_features_of_an_empty_root(self, refused, tree):
        assert f"write {tree}::" in refused("info", tree, "--features", "a,b")

    def test_one_that_is_not_there(self, refused, tree):
        assert "there is no such group; there are" in refused("info", f"{tree}::none")

    @pytest.mark.slow
    def test_one_is_scored_as_data(self, run, tree):
        text = run(
            "score", f"{tree}::cruise/7", "--features", "a,b", "--bandwidth", 1,
            "--query", f"{tree}::cruise/8[:5]",
        ).stdout  # fmt: skip
        again = run(
            "score", tree, "--features", "a,b", "--bandwidth", 1,
            "--train", "cruise/7", "--query", "cruise/8[:5]",
        ).stdout  # fmt: skip
        assert text == again


class TestVariables:
    def test_bounds_are_no_features(self, run, points):
        points = points.rename(obs="time").assign_coords(time=np.arange(30.0))
        points["time"].attrs["bounds"] = "edges"
        points["edges"] = ("time", "nv"), np.ones((30, 2))
        points["lat_bnds"] = ("time", "nv"), np.ones((30, 2))
        points.to_netcdf("p.nc")
        described = json.loads(run("info", "p.nc", "--json").stdout)
        assert (described["features"], described["rows"]) == (["a", "b"], 30)
        assert described["variables"]["lat_bnds"]["missing"] == 0

    def test_infinite_values(self, run, points):
        assert "infinite" not in written(run, points)
        points["b"][:7] = np.inf
        lines = written(run, points).splitlines()
        assert lines[5].split()[-1] == "infinite"
        assert [line.split()[-2:] for line in lines[6:8]] == [["0", "0"], ["0", "7"]]

    def test_what_cannot_be_decoded_stands_below(self, run, points):
        points["a"].attrs["scale_factor"] = "x"
        text = written(run, points)
        assert "features  b\n" in text
        assert "\na cannot be decoded: its scale_factor is 'x'\n" in text
        assert max(map(len, text.splitlines())) <= 100

    def test_those_that_cannot_be_decoded_are_in_the_files_order(self, run, points):
        names = [f"v{i}" for i in range(9, 0, -1)]
        for name in names:
            points[name] = ("obs", np.ones(30), {"scale_factor": "x"})
        lines = [line for line in written(run, points).splitlines() if "cannot be" in line]
        described = json.loads(run("info", "p.nc", "--json").stdout)["variables"]
        assert [line.split()[0] for line in lines] == [key for key in described if key in names]

    def test_an_empty_dim(self, run):
        empty = xr.Dataset({name: (("time", "x"), np.zeros((0, 3))) for name in "ab"})
        empty.to_netcdf("e.nc", unlimited_dims=["time"])
        described = json.loads(run("info", "e.nc", "--json").stdout)
        assert (described["features"], described["rows"]) == (["a", "b"], 0)

    def test_of_features_alone_the_values_are_read(self, run, points, monkeypatch):
        points.to_netcdf("p.nc")
        read = []
        inherited = xr.Variable.__getitem__

        def seen(variable, key):
            read.append(variable.shape)
            return inherited(variable, key)

        points["long"] = "z", np.ones(77)
        points.to_netcdf("p.nc")
        monkeypatch.setattr(xr.Variable, "__getitem__", seen)
        described = json.loads(run("info", "p.nc", "--features", "a", "--json").stdout)
        assert (30,) in read
        assert (77,) not in read
        assert described["variables"]["long"]["dims"] == {"z": 77}
        assert described["variables"]["long"]["missing"] is None
        run("info", "p.nc")
        assert (77,) in read

    def test_advice_is_a_paragraph(self, run, points):
        points["b"] = points["b"] * 1000
        text = written(run, points)
        advice = text.split("\n\n")[-1]
        assert "--covariance diag" in advice
        assert len(advice.splitlines()) == 3
        assert max(map(len, advice.splitlines())) <= 80


def written(run, points):
    points.to_netcdf("p.nc")
    return run("info", "p.nc").stdout


class TestTables:
    @pytest.fixture
    def table(self, folder):
        rows = np.random.default_rng(0).normal(size=(500, 3)) * [100, 1, 0.001]
        np.savetxt("t.csv", rows, delimiter=",", header="a,b,c", comments="")
        return rows

    def test_the_file_and_the_store_say_the_same(self, run, table):
        run("import", "t.csv", "t.zarr")
        texts = [run("info", name).stdout for name in ("t.csv", "t.zarr")]
        tables = [text[text.index("\nfeature  ") : text.index("\nchecksums")] for text in texts]
        assert tables[0] == tables[1]
        assert tables[0].count("\n") == 9
        assert "a spreads" in tables[0]

    def test_some_columns(self, run, table):
        text = run("info", "t.csv", "--features", "c,b").stdout
        assert "feature names  c, b\n" in text
        assert "b spreads" in text

    def test_what_is_of_some_rows_is_said_to_be(self, run, table, monkeypatch):
        assert "of the first" not in run("info", "t.csv").stdout
        monkeypatch.setattr("dkde.inputs.describing._RANGE_BYTES", 1)
        np.save("x.npy", np.zeros((3_000_000, 1)))
        text = run("info", "x.npy").stdout
        assert "\nof the first 1048576 rows\nfeature  values  sd  missing\n" in text

    def test_splits_have_a_column(self, run):
        np.savez("x.npz", train=np.eye(3), test=np.eye(3))
        text = run("info", "x.npz").stdout
        assert "\nsplit  feature  " in text

    def test_an_import_tells_of_infinite_values(self, run, folder):
        np.save("x.npy", np.array([[1.0, np.inf], [2.0, 3.0]]))
        assert "infinite values, which no density takes: 1\n" in run(
            "import", "x.npy", "x.zarr"
        ).stderr  # fmt: skip


class TestWaysOn:
    """Of what needs no import, no command says that it has to be imported."""

    @pytest.fixture(params=["p.nc", "p.zarr"])
    def foreign(self, folder, points, request):
        if request.param == "p.nc":
            points.to_netcdf("p.nc")
        else:
            points.to_zarr("p.zarr", zarr_format=2)
        return request.param

    def test_import(self, refused, foreign):
        error = refused("import", foreign, "x.zarr")
        assert f"needs no import: dkde score {foreign} --features A,B" in error

    def test_index(self, refused, foreign):
        error = refused("index", foreign)
        assert "not a data set of dkde" in error
        assert "import it first" not in error

    def test_show(self, refused, foreign):
        error = refused("show", foreign, "-o", "a.png")
        assert "its rows are made of variables and are not pictures" in error

    def test_a_damaged_file(self, refused, points):
        points.to_netcdf("p.nc", engine="h5netcdf")
        with open("p.nc", "r+b") as file:
            file.truncate(1000)
        error = refused("info", "p.nc")
        assert "could not be opened by xarray" in error
        assert "it is damaged" in error
