"""Latitudes and longitudes by their names and units, degrees and radians, lengths of bandwidths."""

import json
import warnings
from functools import partial
from itertools import product

import numpy as np
import pandas as pd
import pytest
import xarray as xr
import zarr
from click.testing import CliRunner
from dkde_cli.main import cli as command
from globe import oracle, places

import dkde
from dkde.numerics.bandwidth import EARTH_RADIUS_KM
from dkde.rows.place_names import have_places, role_of, role_of_name
from dkde.runs.opened import opened_result

VMF = "vonmises_fisher"
QUERY, TRAIN = places(12), places(80, 1)
log_density = partial(dkde.log_density, kernel=VMF)
H = 500 / EARTH_RADIUS_KM
EXPECTED = oracle(QUERY, TRAIN, H)
FLAT = "as if the Earth were flat"
RADIANS = "may be radians"


def frame(rows, lat, lon, **others):
    """Longitudes first, so that an order that is taken for granted shows."""
    return pd.DataFrame({lon: rows[:, 1], lat: rows[:, 0], **others})


def dataset(rows, lat, lon, lat_notes=None, lon_notes=None):
    return xr.Dataset(
        {lon: ("obs", rows[:, 1], lon_notes or {}), lat: ("obs", rows[:, 0], lat_notes or {})}
    )


def told(call):
    """The warnings of a call."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call()
    return [str(each.message) for each in caught]


def cli(*arguments):
    return CliRunner().invoke(command, list(map(str, arguments)))


class TestNames:
    @pytest.mark.parametrize(
        ("lat", "lon"),
        [
            ("lat", "lng"), ("LAT", "LONG"), ("location-lat", "location-long"),
            ("decimalLatitude", "decimalLongitude"), ("nav_lat", "nav_lon"),
            ("start_lat", "start_lng"), ("pickup_latitude", "pickup_longitude"),
            ("Latitude (deg)", "Longitude (deg)"), ("lat_deg", "lon_deg"), ("XLAT", "XLONG"),
            ("geolat", "geolon"), ("y_lat", "x_lon"), ("lat1", "lon1"), ("gpsLat", "gpsLng"),
        ],
    )  # fmt: skip
    def test_that_are_usual(self, lat, lon):
        assert role_of(lat, None) == "latitude"
        assert role_of(lon, "degrees") == "longitude"
        assert have_places([lon, "depth", lat], [None] * 3)
        found = log_density(frame(QUERY, lat, lon).to_numpy(), frame(TRAIN, lat, lon), H)
        np.testing.assert_allclose(found, EXPECTED, rtol=1e-9)

    @pytest.mark.parametrize(
        "name",
        ["flat", "plateau", "longest", "along", "platform", "latency", "colon", "salon", "belong",
         "lat_lon", "lat_err", "longitude_std", "lat_bnds", "lat_rad", "rlat", "grid_latitude_rad"],
    )  # fmt: skip
    def test_that_are_something_else(self, name):
        assert role_of_name(name) is None

    def test_units_that_are_something_else(self):
        assert role_of("lat", "m") is None
        assert role_of("y", "degrees_north") == "latitude"

    @pytest.mark.parametrize("names", [("lat", "latitude"), ("p99_lat", "how_long"), ("lat", "x")])
    def test_a_pair_is_both_of_one_kind(self, names):
        assert not have_places(names, [None, None])

    @pytest.mark.parametrize("make", [frame, dataset], ids=["frame", "dataset"])
    def test_of_two_sides_that_call_them_otherwise(self, make):
        query, train = make(QUERY, "lat", "lon"), make(TRAIN, "Latitude", "lng")
        np.testing.assert_allclose(log_density(query, train, H), EXPECTED, rtol=1e-9)
        depth = {"depth": np.arange(12.0)}
        plane = frame(QUERY, "lat", "lon", **depth), frame(QUERY, "latitude", "lng", **depth)
        with pytest.warns(UserWarning, match=FLAT):
            found = dkde.log_density(*plane, 20.0)
        values = [side.to_numpy() for side in plane]
        np.testing.assert_allclose(found, dkde.log_density(*values, 20.0), rtol=1e-9)

    def test_standard_names(self):
        notes = {"standard_name": "latitude"}, {"standard_name": "longitude", "units": "degrees"}
        train = dataset(TRAIN, "a", "b", *notes)
        for query in (dataset(QUERY, "lat", "lon"), dataset(QUERY, "a", "b", *notes)):
            np.testing.assert_allclose(log_density(query, train, H), EXPECTED, rtol=1e-9)

    def test_degrees_that_are_spelt_otherwise_are_the_same(self):
        train = dataset(TRAIN, "lat", "lon", {"units": "degrees"}, {"units": "degrees"})
        cf = {"units": "degrees_north"}, {"units": "degrees_east"}
        query = dataset(QUERY, "lat", "lon", *cf)
        np.testing.assert_allclose(log_density(query, train, H), EXPECTED, rtol=1e-9)

    def test_of_files_that_are_joined(self, tmp_path):
        for name, rows, lat, lon in (
            ("a", TRAIN[:50], "lat", "lon"),
            ("b", TRAIN[50:], "Y_Lat", "lng"),
        ):
            frame(rows, lat, lon).to_csv(tmp_path / f"{name}.csv", index=False)
        joined = f"{tmp_path}/a.csv+{tmp_path}/b.csv"
        found = log_density(QUERY[:, ::-1], joined, H)
        np.testing.assert_allclose(found, EXPECTED, rtol=1e-9)

    def test_that_are_ambiguous(self):
        trips = frame(TRAIN, "start_lat", "start_lng", end_lat=TRAIN[:, 0], end_lng=TRAIN[:, 1])
        with pytest.raises(dkde.InputError, match=r"has 4 columns .*--lat COLUMN --lon COLUMN"):
            log_density(trips[:5], trips, H)
        with pytest.raises(dkde.InputError, match=r"start_.*, end_.* could be that .*itude.*--lat"):
            log_density(trips[:5], frame(TRAIN, "lat", "lon"), H)
        ends = trips[["start_lat", "end_lat"]]
        with pytest.raises(
            dkde.InputError, match=r"it is unknown which .* \(start_lat.*--lat COLUMN"
        ):
            log_density(ends[:5], ends, H)
        found = log_density(frame(QUERY, "lat", "lon"), trips, H, lat="start_lat", lon="start_lng")
        np.testing.assert_allclose(found, EXPECTED, rtol=1e-9)


class TestNamedByTheUser:
    """``lat`` and ``lon``, of either side, in any container."""

    SAID = {"lat": "y", "lon": "x"}  # noqa: RUF012
    KINDS = ("frame", "csv", "parquet", "nc", "zarr", "own", "dataset", "dataarray")

    def side(self, kind, rows, lat, lon, folder):
        """Rows of a kind, with an id and a depth beside them where it can hold those."""
        folder.mkdir(exist_ok=True)
        table = frame(rows, lat, lon)
        if kind in ("frame", "csv", "parquet"):
            table = table.assign(id="a", depth=1.0)
        if kind in ("csv", "own"):
            table.to_csv(folder / "t.csv", index=False)
        if kind == "own":
            dkde.import_dataset(folder / "t.csv", folder / "own.zarr", split="all-rows")
            return f"{folder}/own.zarr::all-rows"
        if kind == "parquet":
            table.to_parquet(folder / "t.parquet", index=False)
        if kind == "nc":
            dataset(rows, lat, lon).assign(depth=("obs", rows[:, 0])).to_netcdf(folder / "t.nc")
        if kind == "zarr":
            dataset(rows, lat, lon).to_zarr(folder / "t.zarr", consolidated=False)
        if kind == "dataset":
            return dataset(rows, lat, lon).assign(depth=("obs", rows[:, 0]))
        if kind == "dataarray":
            return xr.DataArray(
                rows[:, ::-1], dims=("obs", "feature"), coords={"feature": [lon, lat]}
            )
        return table if kind == "frame" else f"{folder}/t.{kind}"

    @pytest.mark.sampled(7)
    @pytest.mark.parametrize(("query", "train"), list(product(KINDS, KINDS[:3])))
    @pytest.mark.parametrize("names", [("y", "x"), ("latitude", "lng")])
    def test_of_any_container(self, tmp_path, query, train, names):
        q = self.side(query, QUERY, *names, tmp_path / "q")
        t = self.side(train, TRAIN, "y", "x", tmp_path / "t")
        np.testing.assert_allclose(log_density(q, t, H, **self.SAID), EXPECTED, rtol=1e-9)

    @pytest.mark.parametrize("train", KINDS)
    def test_of_the_training_side(self, tmp_path, train):
        t = self.side(train, TRAIN, "y", "x", tmp_path / "t")
        q = frame(QUERY, "lat", "lon", note="b")
        np.testing.assert_allclose(log_density(q, t, H, **self.SAID), EXPECTED, rtol=1e-9)

    def test_arrays_have_the_order_of_the_features(self):
        catalog = dkde.Catalog(features=["x", "y"])
        turned = QUERY[:, ::-1], TRAIN[:, ::-1]
        found = log_density(*turned, H, source=catalog, **self.SAID)
        np.testing.assert_allclose(found, EXPECTED, rtol=1e-9)
        with pytest.raises(dkde.InputError, match="2 columns of train have no names"):
            log_density(QUERY, TRAIN, H, **self.SAID)

    def test_of_a_catalog_and_of_other_functions(self):
        q, t = frame(QUERY, "lat", "lon"), frame(TRAIN, "y", "x", id="a")
        catalog = dkde.Catalog(**self.SAID)
        for said in ({"source": catalog}, self.SAID):
            found = dkde.score(q, t, H, kernel=VMF, **said)
            np.testing.assert_allclose(found.log_density[0], EXPECTED, rtol=1e-9)
        dkde.cross_validate(t, [0.1, 0.5, 3.0], kernel=VMF, **self.SAID)
        assert dkde.sample(t, 0.1, 3, kernel=VMF, random_state=0, **self.SAID).shape == (3, 2)
        dkde.plan(query=q, train=t, bandwidths=[H], kernel=VMF, baseline=False, **self.SAID)

    def test_of_estimators(self):
        t = frame(TRAIN, "y", "x", id="a")
        kde = dkde.KernelDensity(kernel=VMF, bandwidth=H, **self.SAID).fit(t)
        assert kde.feature_names_in_.tolist() == ["y", "x"]
        for query in (frame(QUERY, "lat", "lon"), frame(QUERY, "y", "x", id="b")):
            np.testing.assert_allclose(kde.score_samples(query), EXPECTED, rtol=1e-9)
        chosen = dkde.KernelDensityCV(kernel=VMF, bandwidths=[0.1, 0.5, 3.0], **self.SAID).fit(t)
        assert np.isfinite(chosen.score(frame(QUERY, "lat", "lon")))

    def test_on_the_command_line(self, tmp_path):
        t = self.side("csv", TRAIN, "y", "x", tmp_path / "t")
        q = self.side("parquet", QUERY, "latitude", "lng", tmp_path / "q")
        found = cli("score", t, "--train", t, "--query", q, "--lat", "y", "--lon", "x",
                    "--kernel", VMF, "--bandwidth", "500km", "--json")  # fmt: skip
        assert found.exit_code == 0, found.output
        result = json.loads(found.stdout)
        assert result["mean_log_likelihood"] == pytest.approx(EXPECTED.mean(), rel=1e-9)
        assert (result["bandwidth"], result["bandwidth_unit"]) == (500.0, "km")

    def test_a_run_goes_on_and_is_read_back(self, tmp_path):
        t = self.side("csv", TRAIN, "y", "x", tmp_path / "t")
        q = self.side("csv", QUERY, "latitude", "lng", tmp_path / "q")
        call = partial(dkde.score, q, t, "500km", kernel=VMF, output=tmp_path / "r.zarr")
        call(**self.SAID)
        assert dkde.verify(tmp_path / "r.zarr")["blocks"] == 1
        np.testing.assert_allclose(call(**self.SAID).log_density[0], EXPECTED, rtol=1e-9)
        dkde.report(tmp_path / "r.zarr", tmp_path / "r.html")
        assert "are not shown" not in (tmp_path / "r.html").read_text()

    @pytest.mark.parametrize("unit", ["radians", "rad", "m", "degrees_east"])
    def test_other_units_are_refused(self, unit):
        train = dataset(TRAIN, "y", "x", {"units": unit})
        with pytest.raises(
            dkde.InputError, match=f"^train: y is in {unit}, and was named as a lat"
        ):
            log_density(dataset(QUERY, "y", "x"), train, H, **self.SAID)

    def test_what_is_not_there(self):
        with pytest.raises(dkde.InputError, match="has no feature 'y'; it has b, a"):
            log_density(QUERY, frame(TRAIN, "a", "b"), H, **self.SAID)


class TestDegreesOnAPlane:
    @pytest.mark.parametrize(("lat", "lon"), [("lat", "lon"), ("start_lat", "start_lng")])
    def test_names_alone_are_warned_of_once(self, lat, lon):
        q, t = frame(QUERY, lat, lon), frame(TRAIN, lat, lon, depth=1.0)
        t = t.assign(depth=np.arange(80.0))
        for call in (
            lambda: dkde.log_density(q.assign(depth=0.0), t, 10.0),
            lambda: dkde.cross_validate(t, [10.0, 30.0, 90.0], folds=2),
            lambda: dkde.KernelDensity(bandwidth=10.0).fit(t).score_samples(q.assign(depth=0.0)),
            lambda: dkde.KernelDensityCV(bandwidths=[10.0, 30.0, 90.0]).fit(t),
        ):
            # scikit-learn wants names in the order of the fit.
            said = told(call)
            assert sum(FLAT in each for each in said) == 1
            assert not any(RADIANS in each for each in said)

    def test_named_by_the_user(self):
        q, t = frame(QUERY, "y", "x"), frame(TRAIN, "y", "x")
        assert not told(lambda: dkde.log_density(q, t, 10.0))
        (said,) = told(lambda: dkde.log_density(q, t, 10.0, lat="y", lon="x"))
        assert FLAT in said

    def test_on_the_command_line(self, tmp_path):
        frame(TRAIN, "lat", "lng").to_csv(tmp_path / "t.csv", index=False)
        t = f"{tmp_path}/t.csv"
        found = cli("score", t, "--train", f"{t}[:60]", "--query", f"{t}[60:]", "--bandwidth", "9")
        assert found.exit_code == 0
        assert found.stderr.count(FLAT) == 1

    @pytest.mark.parametrize("names", [("flat", "along"), ("lat", "x"), ("lat_err", "lon_err")])
    def test_no_false_alarm(self, names):
        q, t = (frame(rows, *names) for rows in (QUERY, TRAIN))
        assert not told(lambda: dkde.log_density(q, t, 10.0))

    def test_other_units(self):
        metres = {"units": "m"}
        t = dataset(TRAIN, "lat", "lon", metres, metres)
        assert not told(lambda: dkde.log_density(t, t.copy(deep=True), 10.0))


class TestRadians:
    rows = np.deg2rad(TRAIN)

    @pytest.mark.parametrize("turn", [0, np.pi])
    def test_are_suspected_once(self, turn):
        rows = self.rows + np.array([0, turn])
        for t in (rows, frame(rows, "lat", "lon"), dataset(rows, "lat", "lon")):
            (said,) = told(lambda t=t: log_density(t[:5] if t is rows else t, t, H))
            assert RADIANS in said

    @pytest.mark.parametrize("suffix", ["npy", "csv", "nc", "own"])
    def test_of_files(self, tmp_path, suffix):
        path = f"{tmp_path}/t.{suffix}"
        if suffix == "npy":
            np.save(path, self.rows)
        elif suffix == "nc":
            dataset(self.rows, "lat", "lon").to_netcdf(path)
        else:
            path = f"{tmp_path}/t.csv"
            frame(self.rows, "lat", "lon").to_csv(path, index=False)
        if suffix == "own":
            dkde.import_dataset(path, tmp_path / "own.zarr", split="rows")
            path = f"{tmp_path}/own.zarr::rows"
        catalog = dkde.Catalog(features=["lat", "lon"])
        said = told(lambda: dkde.score(self.rows[:5], path, H, kernel=VMF, source=catalog))
        assert sum(RADIANS in each for each in said) == 1

    def test_of_names_on_a_plane(self):
        q, t = (frame(np.deg2rad(rows), "lat", "lon") for rows in (QUERY, TRAIN))
        assert sum(RADIANS in each for each in told(lambda: dkde.log_density(q, t, 1.0))) == 1

    def test_one_value_beyond_is_enough(self):
        rows = self.rows.copy()
        rows[40, 1] = 7.0
        assert not told(lambda: log_density(rows[:5].copy(), rows, H))

    def test_lazy_rows_are_not_computed(self):
        import dask.array as da

        def fail(*_):
            raise AssertionError("was computed")

        lazy = da.map_blocks(fail, da.zeros((9, 2)), dtype=float, meta=np.zeros((0, 2)))
        log_density(lazy, lazy, H)

    @pytest.mark.parametrize("unit", ["radians", "rad"])
    def test_that_say_so_are_refused(self, unit):
        t = dataset(self.rows, "lat", "lon", {"units": unit}, {"units": unit})
        with pytest.raises(dkde.InputError, match=r"it is unknown which .*numpy\.rad2deg"):
            log_density(t, t, H)


class TestKilometres:
    GRID = ("500km", "2000km", "20000km")
    # Of some of the sphere, so that a bandwidth is best.
    valid, train, test = (places(n, n) * 0.2 for n in (60, 300, 9))
    COARSE = ("100km", "1000km", "20000km")

    def test_of_a_score(self):
        found = dkde.score(QUERY, TRAIN, list(self.GRID), kernel=VMF)
        assert found.bandwidth.values.tolist() == [500.0, 2000.0, 20000.0]
        assert found.bandwidth.attrs["units"] == "km"
        np.testing.assert_allclose(found.log_density.sel(bandwidth=500), EXPECTED, rtol=1e-9)
        assert json.loads(found.attrs["provenance"])["options"]["bandwidth_unit"] == "km"
        plain = dkde.score(QUERY, TRAIN, [h / EARTH_RADIUS_KM for h in (500, 2000)], kernel=VMF)
        np.testing.assert_array_equal(plain.log_density, found.log_density[:2])
        assert plain.bandwidth.attrs["units"] == "radian"

    def test_of_arrays_of_text(self):
        found = dkde.score(QUERY, TRAIN, np.array(self.GRID), kernel=VMF)
        assert found.bandwidth.values.tolist() == [500.0, 2000.0, 20000.0]

    @pytest.mark.slow
    def test_of_a_sweep(self, tmp_path):
        found = dkde.sweep(
            train=self.train, valid=self.valid, test=self.test, bandwidths=self.COARSE, kernel=VMF
        )
        best = float(found.best_bandwidth)
        assert best == 1000
        assert found.best_bandwidth.attrs["units"] == "km"
        expected = oracle(self.test, self.train, best / EARTH_RADIUS_KM)
        np.testing.assert_allclose(found.test_log_density, expected, rtol=1e-9)
        dkde.plot_sweep(found, tmp_path / "s.svg")
        dkde.report(found, tmp_path / "s.html")
        text = (tmp_path / "s.html").read_text()
        assert "bandwidth (km)" in text
        assert "best at 1000 km" in text
        dkde.export(found, tmp_path / "s.csv")
        table = pd.read_csv(tmp_path / "s.csv")
        assert set(table.bandwidth_unit) == {"km"}
        assert set(table[table.split == "test"].bandwidth) == {1000.0}
        dkde.export(found, tmp_path / "s.nc")
        with xr.open_dataset(tmp_path / "s.nc") as read:
            assert read.bandwidth.attrs["units"] == "km"

    def test_of_the_optimum(self):
        rows = places(300) * [0.2, 0.2]
        grid = dkde.parse_bandwidths("geomspace:100km:2000km:6")
        found = dkde.cross_validate(rows, grid, kernel=VMF, refine=True)
        plain = dkde.cross_validate(
            rows, [float(h.removesuffix("km")) / EARTH_RADIUS_KM for h in grid], kernel=VMF,
            refine=True,
        )  # fmt: skip
        best = float(found.best_bandwidth)
        assert best == pytest.approx(float(plain.best_bandwidth) * EARTH_RADIUS_KM, rel=1e-12)
        assert 100 < best < 2000
        found.sel(bandwidth=best)

    def test_of_lazy_rows(self):
        train = dataset(TRAIN, "lat", "lon")
        found = log_density(dataset(QUERY, "lat", "lon"), train, ["500km", "900km"])
        assert found.bandwidth.attrs["units"] == "km"
        np.testing.assert_allclose(found.sel(bandwidth=500), EXPECTED, rtol=1e-9)
        one = log_density(dataset(QUERY, "lat", "lon"), train, "500km")
        assert float(one.bandwidth) == 500

    def test_what_is_warned_of(self):
        with pytest.warns(UserWarning, match="the best bandwidth, 1000 km, is the least"):
            dkde.sweep(
                train=self.train, valid=self.valid, bandwidths=["1000km", "9000km"], kernel=VMF
            )

    def test_mixed_units(self):
        message = "bandwidths mix units: '100km' is a length, and '0.1' has no unit"
        for text in ("100km,0.1", "0.1,100km"):
            with pytest.raises(dkde.InputError, match=message):
                dkde.parse_bandwidths(text)
        with pytest.raises(dkde.InputError, match=message):
            dkde.score(QUERY, TRAIN, ["100km", 0.1], kernel=VMF)
        found = cli("score", "digits", "--query", "test", "--kernel", VMF, "--bandwidth", "100km,1")
        assert found.exit_code == 2
        assert "mix units" in found.stderr

    def test_on_the_command_line(self, tmp_path):
        np.save(tmp_path / "t.npy", self.train)
        np.save(tmp_path / "q.npy", self.valid)
        found = cli(
            "sweep", tmp_path / "t.npy", "--train", tmp_path / "t.npy", "--valid",
            tmp_path / "q.npy", "--no-test", "--kernel", VMF, "--bandwidths", ",".join(self.COARSE),
            "--csv", tmp_path / "s.csv",
        )  # fmt: skip
        assert found.exit_code == 0, found.output
        assert found.stdout.split("  ")[0].strip() == "bandwidth (km)"
        assert "best bandwidth 1000 km" in found.stdout
        assert pd.read_csv(tmp_path / "s.csv").bandwidth_unit.tolist() == ["km"] * 3

    def test_of_samples(self, tmp_path):
        dkde.sample(TRAIN, "300km", 5, kernel=VMF, random_state=0, output=tmp_path / "s.zarr")
        text = (tmp_path / "s.zarr" / "zarr.json").read_text()
        assert '"bandwidth": 300.0' in text
        assert '"bandwidth_unit": "km"' in text

    def test_estimators_have_radians(self):
        """As a number has that is passed to them: it can be passed on."""
        kde = dkde.KernelDensity(kernel=VMF, bandwidth="500km").fit(TRAIN)
        assert kde.bandwidth_ == H
        again = dkde.KernelDensity(kernel=VMF, bandwidth=kde.bandwidth_).fit(TRAIN)
        np.testing.assert_array_equal(again.score_samples(QUERY), kde.score_samples(QUERY))


class TestBefore:
    """Stores of before: radians, without a unit on the coordinate, and three features."""

    @staticmethod
    def aged(result):
        """A result as it was written before."""
        provenance = json.loads(result.attrs["provenance"])
        provenance["options"]["bandwidth_unit"] = "radian"
        for side in ("query", "train"):
            provenance["score"][side] |= {"features": 3, "stored_features": 3}
        provenance["score"]["plan"]["n_features"] = 3
        found = result.assign_coords(bandwidth=("bandwidth", result.bandwidth.values))
        return found.assign_attrs(n_features=3, provenance=json.dumps(provenance))

    def test_are_compared_with_kilometres(self):
        old = self.aged(dkde.score(QUERY, TRAIN, [H, 0.3], kernel=VMF))
        new = dkde.score(QUERY, TRAIN, ["500km", "900km"], kernel=VMF)
        for wanted in (500, "500km", H, [500, H], ["500km", H]):
            pair = (new, old)
            found = dkde.compare(*pair, bandwidth=wanted)
            assert float(found.mean_difference) == 0
            assert found.attrs["bandwidth_unit_a"] == "km"
            assert found.attrs["bandwidth_unit_b"] == "radian"
            assert (found.attrs["bandwidth_a"], found.attrs["bandwidth_b"]) == (500, H)
        with pytest.raises(dkde.InputError, match="were not scored at bandwidth 700"):
            dkde.compare(new, old, bandwidth=700)
        plane = dkde.score(QUERY, TRAIN, [H], kernel="gaussian")
        with pytest.raises(dkde.InputError, match="is a length on the Earth"):
            dkde.compare(plane, plane, bandwidth="500km")

    def test_are_reported_and_exported(self, tmp_path):
        old = self.aged(dkde.score(QUERY, TRAIN, [H, 0.3], kernel=VMF))
        dkde.report(old, tmp_path / "r.html")
        text = (tmp_path / "r.html").read_text()
        assert "bandwidth (radian)" in text
        assert "of 2 features" in text
        dkde.export(old, tmp_path / "r.csv")
        assert "bandwidth_unit" not in pd.read_csv(tmp_path / "r.csv")

    def test_a_complete_one_comes_back_as_it_is_asked_for(self, tmp_path):
        np.save(tmp_path / "q.npy", QUERY)
        np.save(tmp_path / "t.npy", TRAIN)
        sides = f"{tmp_path}/q.npy", f"{tmp_path}/t.npy"
        call = partial(dkde.score, *sides, kernel=VMF, output=tmp_path / "r.zarr")
        call([H, 0.3])
        found = call(["500km", f"{0.3 * EARTH_RADIUS_KM!r}km"])
        assert found.bandwidth.values[0] == 500
        assert found.bandwidth.attrs["units"] == "km"
        assert json.loads(found.attrs["provenance"])["options"]["bandwidth_unit"] == "km"
        assert call([H, 0.3]).bandwidth.values.tolist() == [H, 0.3]

    @pytest.mark.parametrize("function", ["score", "sweep"])
    def test_they_come_back_with_units_and_two_features(self, tmp_path, function):
        names = ["query", "train"] if function == "score" else ["valid", "train"]
        for name, rows in zip(names, (QUERY, TRAIN), strict=True):
            np.save(tmp_path / f"{name}.npy", rows * 0.2)
        sides = {name: f"{tmp_path}/{name}.npy" for name in names}
        told = {"bandwidth" if function == "score" else "bandwidths": [0.01, 0.1, 0.9]}
        call = partial(
            getattr(dkde, function), **sides, **told, kernel=VMF, output=tmp_path / "r.zarr"
        )
        new = call()
        group = zarr.open_group(tmp_path / "r.zarr")
        group.attrs["n_features"] = 3
        bandwidths = {"bandwidth", "best_bandwidth"} & set(group.array_keys())
        for name in bandwidths:
            attributes = dict(group[name].attrs)
            del attributes["units"]
            group[name].attrs.put(attributes)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that version 3 does not know of it
            zarr.consolidate_metadata(tmp_path / "r.zarr")
        old = xr.open_zarr(tmp_path / "r.zarr")
        assert old.attrs["n_features"] == 3
        assert "units" not in old.bandwidth.attrs
        for found in (call(), opened_result(tmp_path / "r.zarr"), opened_result(old)):
            assert found.attrs["n_features"] == 2
            assert len(bandwidths) == (function == "sweep") + 1
            for name in bandwidths:
                xr.testing.assert_identical(found[name].variable, new[name].variable)


def test_there_are_two_features():
    found = dkde.score(QUERY, TRAIN, [H], kernel=VMF)
    assert found.attrs["n_features"] == 2
    work = json.loads(found.attrs["provenance"])["score"]
    assert work["plan"]["n_features"] == 2
    assert [work[side]["features"] for side in ("query", "train")] == [2, 2]
    assert [work[side]["stored_features"] for side in ("query", "train")] == [2, 2]
    bits = -found.mean_log_likelihood / (2 * np.log(2))
    np.testing.assert_allclose(found.bits_per_dimension, bits)
