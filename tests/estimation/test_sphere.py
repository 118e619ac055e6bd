"""Densities on the sphere, of latitudes and longitudes."""

import json
import warnings
from functools import partial

import dask.array as da
import numpy as np
import pytest
import xarray as xr
from contract import assert_within
from globe import oracle, places, true_vectors
from scipy.special import logsumexp
from scipy.stats import kstest, vonmises_fisher

import dkde
from dkde.engine import leaf_blocks
from dkde.numerics.bandwidth import EARTH_RADIUS_KM, in_radians
from dkde.numerics.sphere import ROUNDING, degrees, unit_vectors

VMF = "vonmises_fisher"
log_density = partial(dkde.log_density, kernel=VMF)
# Both poles, by whatever longitude; both sides of the date line; and some more.
AWKWARD = np.array([[90, 0], [90, 77], [-90, -13], [0, 180], [0, -180], [10, 179.9], [12, -179.9]])


class TestDensity:
    @pytest.mark.parametrize("h", [1e-6, 1e-4, 0.01, 0.3, 1.0, 10.0, 1e6])
    def test_against_the_oracle(self, h):
        train = np.concatenate([places(150), AWKWARD])
        noise = np.random.default_rng(1).normal(size=(40, 2))
        near = train[:40] + np.rad2deg(min(h, 1.0)) * noise
        near[:, 0] = np.clip(near[:, 0], -90, 90)
        query = np.concatenate([places(30, 2), AWKWARD, near])
        weights = np.random.default_rng(3).uniform(size=len(train))
        expected = oracle(query, train, h, weights)
        assert_within(log_density(query, train, h, weights=weights), expected)

    @pytest.mark.parametrize("h", [0.05, 0.3, 1.0, 10.0])
    def test_against_scipy(self, h):
        query, train = places(20), np.concatenate([places(60, 1), AWKWARD])
        at = unit_vectors(*query.T)
        each = [vonmises_fisher(mu, 1 / h**2).logpdf(at) for mu in unit_vectors(*train.T)]
        expected = logsumexp(each, axis=0) - np.log(len(train))
        np.testing.assert_allclose(log_density(query, train, h), expected, rtol=1e-9, atol=1e-9)

    @pytest.mark.sampled(6)
    @pytest.mark.parametrize("h", [0.15, 0.3, 1.0, 5.0])
    @pytest.mark.parametrize("train", [AWKWARD, AWKWARD[:1], AWKWARD[3:4], places(9)])
    def test_it_integrates_to_one(self, h, train):
        """On a grid of one degree, of cells whose areas are exact."""
        latitudes, longitudes = np.arange(-89.5, 90), np.arange(-179.5, 180)
        grid = np.stack(np.meshgrid(latitudes, longitudes, indexing="ij"), axis=-1).reshape(-1, 2)
        edges = np.sin(np.deg2rad(np.arange(-90, 91)))
        areas = np.repeat(np.diff(edges) * np.deg2rad(1), len(longitudes))
        assert areas.sum() == pytest.approx(4 * np.pi)
        total = float(np.exp(log_density(grid, train.astype(float), h)) @ areas)
        assert total == pytest.approx(1, abs=1e-3)

    def test_a_rotation_changes_nothing(self):
        query, train = places(40), np.concatenate([places(100, 1), AWKWARD])
        turn, _ = np.linalg.qr(np.random.default_rng(2).normal(size=(3, 3)))
        turned = [np.stack(degrees(unit_vectors(*side.T) @ turn), 1) for side in (query, train)]
        np.testing.assert_allclose(
            log_density(*turned, [0.05, 1.0]), log_density(query, train, [0.05, 1.0]), rtol=1e-9
        )

    def test_full_turns_change_nothing(self):
        query, train = places(40), places(100, 1)
        eastern = train + np.array([0, 360])
        np.testing.assert_allclose(
            log_density(query, eastern, 0.1), log_density(query, train, 0.1), rtol=1e-12
        )

    def test_all_longitudes_of_a_pole_are_one_place(self):
        found = log_density(np.array([[90.0, lon] for lon in (0, 90, -123.4)]), places(50), 0.1)
        assert len(set(found)) == 1
        across = log_density([[0.0, 180.0], [0.0, -180.0]], places(50), 0.1)
        assert across[0] == across[1]

    def test_small_bandwidths_are_the_plane(self):
        """Where the Earth is flat: a Gaussian of the kilometres, in two dimensions."""
        train = np.array([[50.0, 8.0]])
        north = np.rad2deg(in_radians("0.7km"))
        found = log_density(train + np.array([north, 0]), train, "1km")
        plane = dkde.log_density([[0.7, 0.0]], [[0.0, 0.0]], 1.0)
        per_square_km = found - 2 * np.log(EARTH_RADIUS_KM)
        np.testing.assert_allclose(per_square_km, plane, atol=1e-6)

    def test_float32(self):
        query, train = places(40), places(100, 1)
        found = log_density(query, train, 0.2, precision="float32")
        np.testing.assert_allclose(found, oracle(query, train, 0.2), atol=1e-3)

    @pytest.mark.slow
    def test_expansions_give_the_same(self):
        query, train = places(5000), places(60_000, 1)
        found = dkde.score(query, train, 0.4, kernel=VMF)
        provenance = json.loads(found.attrs["provenance"])
        assert provenance["score"]["method"] == "expansions"
        assert provenance["options"]["bandwidth_unit"] == "radian"
        assert_within(found.log_density.values[0, ::250], oracle(query[::250], train, 0.4))

    def test_groups_and_missing_values(self):
        rows = places(80) / 3
        rows[5, 0] = rows[7, 1] = np.nan
        left = ~np.isnan(rows).any(axis=1)
        found = dkde.cross_validate(
            rows, [0.02, 0.1, 0.3, 3.0], folds="loo", kernel=VMF, nan="drop"
        )
        kept = rows[left]
        for i in (0, 30):
            expected = oracle(kept[i : i + 1], np.delete(kept, i, axis=0), 0.3)
            value = found.log_density.sel(bandwidth=0.3).values[left][i]
            assert value == pytest.approx(expected[0], rel=1e-9)
        assert int(found.n_missing) == 2
        bits = -found.mean_log_likelihood / (2 * np.log(2))
        np.testing.assert_allclose(found.bits_per_dimension, bits)


class TestBounds:
    """Errors are within their bounds, where places are rounded by much of a bandwidth too."""

    def test_unit_vectors(self):
        rng = np.random.default_rng(0)
        rows = np.concatenate(
            [
                places(100_000),
                rng.uniform(-1e-3, 1e-3, (20_000, 2)),
                np.column_stack([rng.uniform(89.9, 90, 20_000), rng.uniform(-360, 720, 20_000)]),
                rng.choice([-45.0, 45.0, 135.0], (100, 2)) * [0.999999, 1.000001],
            ]
        )
        rows[:, 0] = np.clip(rows[:, 0], -90, 90)
        apart = np.sqrt(((unit_vectors(*rows.T) - true_vectors(rows)) ** 2).sum(axis=1))
        assert ROUNDING / 20 < apart.max() < ROUNDING

    @pytest.mark.sampled(7)
    @pytest.mark.parametrize("h", [1e-7, 1e-6, 1.3e-6, 3e-6, 9.5e-6, 2.9e-5, 1e-3])
    @pytest.mark.parametrize("dtype", [np.float64, np.float32])
    def test_hold(self, h, dtype):
        rng = np.random.default_rng(0)
        train = np.concatenate([places(300), AWKWARD]).astype(dtype)
        steps = h * rng.uniform(0, 4, (600, 1)) * rng.normal(size=(600, 2))
        near = train[rng.integers(len(train), size=600)] + np.rad2deg(steps)
        near[:, 0] = np.clip(near[:, 0], -90, 90)
        query = np.concatenate([places(30, 2), AWKWARD, near]).astype(dtype)
        weights = rng.uniform(size=len(train))
        found, errors = log_density(query, train, h, weights=weights, return_error=True)
        wrong = np.abs(found - oracle(query, train, h, weights))
        assert (wrong <= errors).all()
        if h >= 3e-6:
            assert_within(found, oracle(query, train, h, weights))
        # m = 24 roundings over h, of distances from which on W/Z is the square's exponential.
        m, widest = 24 * 2**-53 / h, -found.min() + 40
        assert errors.max() < m * np.sqrt(2 * widest) + m**2 + 1e-12 * widest + 1e-9

    @pytest.mark.slow
    def test_hold_of_panels_and_of_expansions(self):
        train = places(60_000, 1) / 20
        query = places(3000) / 20
        found = dkde.score(query, train, 0.02, kernel=VMF, panel_rows=20_000)
        expected = oracle(query[::250], train, 0.02)
        wrong = np.abs(found.log_density.values[0, ::250] - expected)
        assert (wrong <= found.log_density_error.values[0, ::250]).all()


class TestColumns:
    query, train = places(10), places(50, 1)
    expected = oracle(query, train, 0.2)

    def named(self, columns, names, units=None):
        return xr.DataArray(columns, dims=("obs", "feature"), coords={"feature": names})

    @pytest.mark.parametrize(
        ("lat", "lon"), [("lat", "lon"), ("latitude", "longitude"), ("Lat", "LONGITUDE")]
    )
    def test_by_names_in_any_order(self, lat, lon):
        turned = self.named(self.train[:, ::-1], [lon, lat])
        query = self.named(self.query[:, ::-1], [lon, lat])
        np.testing.assert_allclose(log_density(query, turned, 0.2), self.expected)

    def test_arrays_are_latitude_and_longitude(self):
        found = log_density(da.from_array(self.query, chunks=(3, 1)), self.train, 0.2)
        np.testing.assert_allclose(found.compute(), self.expected)

    def test_other_names(self):
        with pytest.raises(
            dkde.InputError, match=r"it is unknown which column is the latitude .*degrees_north"
        ):
            log_density(self.query, self.named(self.train, ["y", "x"]), 0.2)

    def test_a_third_column(self):
        deep = np.column_stack([self.train, np.zeros(50)])
        with pytest.raises(dkde.InputError, match=r"has 3 columns.* latitude and longitude alone"):
            log_density(deep[:5], deep, 0.2)

    @pytest.mark.parametrize(
        ("dtype", "scale"), [("int32", np.float64(1e-5)), ("int16", float(np.float32(90 / 32700)))]
    )
    def test_poles_that_were_packed(self, dtype, scale):
        """Decoded they may be a last place further."""
        stored = np.rint(np.array([90, -90, 0]) / scale).astype(dtype)
        units = {"units": "degrees_north"}
        packed = xr.Dataset(
            {
                "lat": ("obs", stored, {"scale_factor": scale, **units}),
                "lon": ("obs", [7.0, 8.0, 9.0], {"units": "degrees_east"}),
            }
        )
        rows = xr.decode_cf(packed)
        assert rows.lat.max() > 90
        found = log_density(rows, self.train, 0.2)
        np.testing.assert_allclose(found[:2], log_density([[90, 0], [-90, 0]], self.train, 0.2))
        drawn = dkde.sample(rows, 0.2, 9, kernel=VMF, random_state=0, covariance_scale=0)
        assert np.abs(drawn[:, 0]).max() == 90

    @pytest.mark.parametrize("latitude", [90.00002, -90.5])
    def test_beyond_the_poles_is_no_latitude(self, latitude):
        with pytest.raises(dkde.InputError, match=f"row 0, column 0 is {latitude}, which is no"):
            log_density([[latitude, 3.0]], self.train, 0.2)

    def test_of_samples_the_one_that_is_none(self):
        train = np.array([[0.0, 1.0], [91.0, 2.0]])
        with pytest.raises(dkde.InputError, match="row 1, column 0 is 91, which is no latitude"):
            dkde.sample(train, 0.2, 30, kernel=VMF, random_state=0)

    @pytest.mark.parametrize("value", [95.0, np.nan])
    def test_of_a_grid_the_variable_and_the_place_are_named(self, value):
        grid = xr.Dataset(
            {"depth": (("y", "x"), np.zeros((3, 4)))},
            {"lat": (("y", "x"), np.full((3, 4), 7.0)), "lon": ("x", np.arange(4.0))},
        ).assign_coords(y=np.arange(3), x=np.arange(4))
        grid.lat[1, 2] = value
        with pytest.raises(dkde.InputError, match=rf"row 6 \(y 1, x 2\), lat is {value:g}"):
            log_density(self.query, grid.reset_coords()[["lon", "lat"]], 0.2)

    @pytest.mark.parametrize("turned", [False, True])
    def test_of_a_selector_in_one_order(self, tmp_path, turned):
        """Without names the latitude is first: an order of others is not guessed for them."""
        np.save(tmp_path / "a.npy", self.train)
        rows = [",".join(map(str, row)) for row in self.train[:, ::-1]]
        (tmp_path / "b.csv").write_text("\n".join(["lon,lat", *rows]))
        parts = [f"{tmp_path}/a.npy", f"{tmp_path}/b.csv"]
        with pytest.raises(dkde.InputError, match="so their order is unknown"):
            log_density(self.query, "+".join(parts[::-1] if turned else parts), 0.2)

    def test_the_first_bad_row(self):
        train = self.train.copy()
        train[[17, 30], 0] = -90.5, 91
        with pytest.raises(
            dkde.InputError, match=r"^train: row 17, column 0 is -90.5, .* latitude"
        ):
            log_density(self.query, train, 0.2)
        train[[17, 30], 0] = 0
        train[20, 1] = np.inf
        with pytest.raises(dkde.InputError, match=r"^train: row 20, column 1 is inf, .*longitude"):
            log_density(self.query, train, 0.2, nan="drop")
        train[20, 1] = np.nan
        with pytest.raises(dkde.InputError, match=r"^train: row 20, column 1 is nan; "):
            log_density(self.query, train, 0.2)


class TestUnits:
    """CF's units, as parts of selectors and Datasets have them."""

    @pytest.mark.parametrize(
        "units",
        [("degrees_east", "degrees_north"), ("degree_E", "degree_N"), ("degreesE", "degreesN")],
    )
    def test_say_which_is_which(self, units):
        from dkde.estimation.options import Options
        from dkde.rows.side import Part, Rows, Side
        from dkde.rows.sources import ArraySource

        rows = places(5)
        part = Part(ArraySource(rows[:, ::-1]), 0, 5, "p", features=("a", "b"), units=units)
        side = Options(VMF).prepared(Side(Rows((part,))))
        np.testing.assert_array_equal(side.rows.read(0, 5, decode=True), unit_vectors(*rows.T))
        wrong = Part(ArraySource(rows), 0, 5, "p", features=("lat", "lon"), units=("rad", "rad"))
        with pytest.raises(dkde.InputError, match="it is unknown which column is the latitude"):
            Options(VMF).prepared(Side(Rows((wrong,))))

    @pytest.mark.parametrize("is_lazy", [False, True])
    def test_leaves_are_made_once_of_places_in_memory(self, is_lazy, monkeypatch):
        made, make = [], leaf_blocks.train_rows

        def counted(*args, **options):
            made.append(1)
            return make(*args, **options)

        monkeypatch.setattr(leaf_blocks, "train_rows", counted)
        lat, lon = places(3000).T
        lon = da.from_array(lon, chunks=1000) if is_lazy else lon
        rows = xr.Dataset({"lat": ("obs", lat), "lon": ("obs", lon)})
        model = dkde.KernelDensity(bandwidth=0.1, lat="lat", lon="lon", kernel="vonmises_fisher")
        model.fit(rows)
        query = xr.Dataset(
            {name: ("obs", places(900)[:, j]) for j, name in enumerate(("lat", "lon"))}
        )
        first, again = (
            np.asarray(model.score_samples(query.isel(obs=part)))
            for part in (slice(700), slice(200, None))
        )
        np.testing.assert_allclose(first[200:], again[:500], rtol=1e-9)
        assert len(made) == (2 if is_lazy else 1)

    def test_a_plane_metric_warns_once(self):
        rows = xr.Dataset(
            {
                "lat": ("obs", places(30)[:, 0], {"units": "degrees_north"}),
                "lon": ("obs", places(30)[:, 1], {"units": "degrees_east"}),
            }
        )
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            dkde.log_density(rows.isel(obs=slice(5)), rows, 10.0)
        said = [str(each.message) for each in caught if "vonmises_fisher" in str(each.message)]
        assert len(said) == 1
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            found = log_density(rows.isel(obs=slice(5)), rows, 0.3)
        np.testing.assert_allclose(found, oracle(places(30)[:5], places(30), 0.3))


class TestBandwidths:
    def test_kilometres(self):
        query, train = places(10), places(50, 1)
        found = log_density(query, train, ["250km", "1000 km"])
        expected = log_density(query, train, [250 / 6371.0088, 1000 / 6371.0088])
        np.testing.assert_array_equal(found, expected)
        assert log_density(query, train, "250km").shape == (10,)

    def test_kilometres_of_other_kernels(self):
        with pytest.raises(dkde.InputError, match=r"'5km' is a length on the Earth, .* vonmises"):
            dkde.log_density(places(3), places(9), ["5km"])

    @pytest.mark.parametrize("text", ["250mi", "km", "1e3 km km", "about 3km"])
    def test_what_is_no_length(self, text):
        with pytest.raises(dkde.InputError, match=r"cannot be read; give radians as a number"):
            log_density(places(3), places(9), text)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"bandwidth": "scott"}, "'scott' is a rule for distances in space"),
            ({"bandwidth": 0.1, "covariance": "full"}, "its covariance must be"),
            ({"bandwidth": 0.1, "covariance": [1.0, 1.0]}, "its covariance must be"),
            ({"bandwidth": 0.1, "metric": "manhattan"}, "manhattan"),
        ],
    )
    def test_what_goes_together(self, options, message):
        with pytest.raises(dkde.InputError, match=message):
            log_density(places(3), places(9), **options)

    def test_components_are_of_space(self):
        with pytest.raises(dkde.InputError, match="no principal axes"):
            dkde.cross_validate(places(30), [0.1, 1.0], kernel=VMF, pca=1)

    def test_the_default_grid_holds_the_best(self):
        rows = places(400) * [0.2, 0.2]
        found = dkde.cross_validate(rows, kernel=VMF, refine=True)
        assert found.bandwidth.min() < found.best_bandwidth < found.bandwidth.max()
        assert found.best_bandwidth < 0.5


class TestSamples:
    @pytest.mark.parametrize("h", [1e-5, 0.1, 1.0, 10.0])
    @pytest.mark.parametrize("place", [(90.0, 0.0), (0.0, 180.0), (-33.0, 18.0)])
    def test_they_are_drawn_from_the_density(self, h, place):
        found = dkde.sample([place, place], h, 4000, kernel=VMF, random_state=0)
        assert (np.abs(found[:, 0]) <= 90).all()
        assert (np.abs(found[:, 1]) <= 180).all()
        away = ((unit_vectors(*found.T) - unit_vectors(*np.array([place]).T)) ** 2).sum(axis=1) / 2

        def cumulated(t):  # of 1 - cos(distance)
            return np.expm1(-t / h**2) / np.expm1(-2 / h**2)

        assert kstest(away, cumulated).pvalue > 1e-3
        if place[0] == 90:
            assert kstest(found[:, 1] / 360 + 0.5, "uniform").pvalue > 1e-3

    def test_no_noise_and_sources(self):
        train = places(20) % [91, 360]
        found, sources = dkde.sample(
            train, 0.1, 50, kernel=VMF, random_state=0, covariance_scale=0, return_sources=True
        )
        np.testing.assert_allclose(found, sources, atol=1e-12)
        assert found[:, 1].max() > 180  # as the training rows have it

    def test_their_density_is_high(self):
        train = places(30)
        drawn = dkde.sample(train, "300km", 200, kernel=VMF, random_state=1)
        assert (
            log_density(drawn, train, "300km").min() > log_density(places(99, 5), train, 0.2).min()
        )

    def test_they_go_with_the_rows_that_they_are_from(self):
        """In the order of these, under whose names arrays are read."""
        rows = places(40) * [1, 0.1]
        train = xr.Dataset({"lon": ("obs", rows[:, 1]), "lat": ("obs", rows[:, 0])})
        drawn = dkde.sample(train, 1e-3, 60, kernel=VMF, random_state=0)
        assert np.abs(drawn[:, 0]).max() < 30
        expected = oracle(drawn[:, ::-1], rows, 1e-3)
        assert_within(log_density(drawn, train, 1e-3), expected)
        kde = dkde.KernelDensity(kernel=VMF, bandwidth=1e-3).fit(train)
        np.testing.assert_array_equal(kde.sample(60, random_state=0), drawn)
        with pytest.warns(UserWarning, match="does not have valid feature names"):
            assert_within(kde.score_samples(drawn), expected)

    def test_missing_values(self):
        train = places(30)
        train[::2, 1] = np.nan
        drawn = dkde.sample(train, 0.01, 40, kernel=VMF, random_state=0, nan="drop")
        assert np.isfinite(drawn).all()


class TestEstimators:
    def test_kernel_density(self):
        query, train = places(10), places(50, 1)
        kde = dkde.KernelDensity(kernel=VMF, bandwidth="500km").fit(train)
        assert kde.bandwidth_ == 500 / EARTH_RADIUS_KM
        assert kde.n_features_in_ == 2
        np.testing.assert_array_equal(kde.covariance_, np.eye(2))
        np.testing.assert_allclose(kde.score_samples(query), oracle(query, train, kde.bandwidth_))
        assert kde.sample(7, random_state=0).shape == (7, 2)

    def test_kernel_density_cv(self):
        train = places(300)
        kde = dkde.KernelDensityCV(kernel=VMF, bandwidths=["300km", "3000km", "30000km"])
        assert kde.fit(train).bandwidth_ == 3000 / EARTH_RADIUS_KM


def test_a_run_goes_on_and_is_verified(tmp_path):
    np.save(tmp_path / "q.npy", places(40))
    np.save(tmp_path / "t.npy", places(90, 1))
    sides = str(tmp_path / "q.npy"), str(tmp_path / "t.npy")
    found = dkde.score(*sides, ["500km"], kernel=VMF, output=tmp_path / "r.zarr", block_rows=9)
    np.testing.assert_allclose(
        found.log_density[0], oracle(places(40), places(90, 1), 500 / EARTH_RADIUS_KM)
    )
    assert dkde.verify(tmp_path / "r.zarr")["blocks"] == 4
    with pytest.raises(dkde.DataSetError, match="was begun otherwise"):
        dkde.score(*sides, 500 / EARTH_RADIUS_KM, output=tmp_path / "r.zarr", block_rows=9)
