"""Products of kernels: a place on the sphere, times, depths."""

import json
import pickle
from functools import partial

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from contract import assert_within
from globe import RADIAN, number, true_vectors
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import kstest

import dkde
from dkde.numerics.bandwidth import EARTH_RADIUS_KM
from dkde.numerics.sphere import unit_vectors

KERNEL = {("lat", "lon"): "vonmises_fisher", "time": "gaussian", "depth": "gaussian"}
BANDWIDTH = {"lat,lon": "800km", "time": 2.0, "depth": 10.0}
ANGLE = 800 / EARTH_RADIUS_KM
log_density = partial(dkde.log_density, kernel=KERNEL)


def rows(n, seed=0):
    """Return places, times and depths, with columns in an order that is not the kernel's."""
    rng = np.random.default_rng(seed)
    latitudes = np.rad2deg(np.arcsin(rng.uniform(-1, 1, n)))
    return pd.DataFrame(
        {
            "depth": rng.gamma(1.5, 20, n),
            "lon": rng.uniform(-180, 180, n),
            "time": rng.normal(0, 5, n),
            "lat": latitudes,
        }
    )


def log_kernels(query, train, angle, scales, bounds=()):
    """Return log-kernels of all pairs, in extended precision, as the formula says.

    Features among ``bounds`` count with their reflections at zero.
    """
    q, t = (true_vectors(side[["lat", "lon"]].to_numpy()) for side in (query, train))
    a = number(angle)
    found = -((q[:, None] - t) ** 2).sum(axis=2) / (2 * a * a)
    found -= np.log(360 * RADIAN * a * a) + np.log(-np.expm1(-2 / (a * a)))
    for name, scale in scales.items():
        x, y = (side[name].to_numpy().astype(number) for side in (query, train))
        signs = (1, -1) if name in bounds else (1,)
        one = [-(((x[:, None] - sign * y) / number(scale)) ** 2) / 2 for sign in signs]
        found += np.logaddexp.reduce(one) - np.log(360 * RADIAN) / 2 - np.log(number(scale))
    return found


def oracle(query, train, h=1.0, weights=None, counts=None, **options):
    """Return log-densities at a common factor of the bandwidths."""
    w = np.ones(len(train), number) if weights is None else np.asarray(weights, number)
    w = w if counts is None else w * counts
    scales = {"time": 2.0 * h, "depth": 10.0 * h}
    with np.errstate(divide="ignore"):
        logs = log_kernels(query, train, ANGLE * h, scales, **options) + np.log(w)
    found = np.logaddexp.reduce(logs, axis=1)
    return (found - np.log(np.broadcast_to(w, logs.shape).sum(axis=1))).astype(float)


class TestDensity:
    query, train = rows(30, 1), rows(300)

    @pytest.mark.slow
    @pytest.mark.filterwarnings("ignore:.*both on one scale")  # a few rows may be apart
    @given(
        n=st.integers(1, 60),
        h=st.sampled_from([1e-4, 0.05, 0.7, 3.0, 40.0]),
        panel_rows=st.sampled_from([None, 7, 33]),
        options=st.sampled_from([{}, {"precision": "float64"}, {"tol": 1e-11}]),
        seed=st.integers(0, 10**6),
    )
    def test_against_the_oracle(self, n, h, panel_rows, options, seed):
        train, query = rows(n, seed), rows(9, seed + 1)
        query.iloc[0] = train.iloc[0]
        rng = np.random.default_rng(seed)
        weights = rng.uniform(size=n)
        groups, own = rng.integers(0, 4, n), rng.integers(0, 5, 9)
        counts = groups != own[:, None]
        found = log_density(
            query, train, h, covariance=BANDWIDTH, weights=weights, groups=own,
            train_groups=groups, panel_rows=panel_rows, **options,
        )  # fmt: skip
        here = counts.any(axis=1)
        assert np.isnan(found[~here]).all()
        if here.any():
            expected = oracle(query[here], train, h, weights, counts[here])
            assert_within(found[here], expected)

    @pytest.mark.parametrize("h", [1e-5, 1e-3, 1.0, 1e4])
    def test_errors_are_within_their_bounds(self, h):
        rng = np.random.default_rng(0)
        near = self.train.iloc[:100] + min(h, 1) * rng.normal(size=(100, 4)) * [10, 1, 2, 1]
        query = pd.concat([self.query, near])
        query["lat"] = query["lat"].clip(-90, 90)
        found, errors = log_density(
            query, self.train, h, covariance=BANDWIDTH, return_error=True, tol=1e-12
        )
        assert (np.abs(found - oracle(query, self.train, h)) <= errors).all()

    def test_rows_that_factor(self):
        """A full grid of positions and times has the product of the two densities."""
        positions, times = rows(15)[["lat", "lon"]], np.random.default_rng(5).normal(size=7)
        train = positions.merge(pd.DataFrame({"time": times}), how="cross")
        kernel = {("lat", "lon"): "vonmises_fisher", "time": "gaussian"}
        query = self.query[["lat", "lon", "time"]].assign(time=self.query["time"] / 5)
        found = log_density(query, train, {"lat,lon": 0.3, "time": 0.5}, kernel=kernel)
        space = dkde.log_density(
            self.query[["lat", "lon"]], positions, 0.3, kernel="vonmises_fisher"
        )
        time = dkde.log_density(query[["time"]].to_numpy(), times[:, None], 0.5)
        np.testing.assert_allclose(found, space + time, rtol=1e-9, atol=1e-9)

    def test_several_common_factors(self):
        found = log_density(self.query, self.train, [0.5, 1.0, 4.0], covariance=BANDWIDTH)
        for h, each in zip([0.5, 1.0, 4.0], found, strict=True):
            assert_within(each, oracle(self.query, self.train, h))

    @pytest.mark.parametrize("key", ["lat,lon", "lon, lat", ("lat", "lon"), ("lon", "lat")])
    def test_names_of_a_factor_in_any_form(self, key):
        found = log_density(
            self.query, self.train, {key: ANGLE, "depth": 10, "time": 2},
            kernel={key: "vonmises_fisher", "time": "gaussian", "depth": "gaussian"},
        )  # fmt: skip
        assert_within(found, oracle(self.query, self.train))

    def test_it_integrates_to_one(self):
        """By evenly spread places, with the reflections at the surface."""
        train = rows(5).assign(depth=[0.0, 1, 5, 20, 3])
        n = 40
        sines = (np.arange(n) + 0.5) / n * 2 - 1
        grid = xr.Dataset(
            coords={
                "lat": np.rad2deg(np.arcsin(sines)),
                "lon": (np.arange(2 * n) + 0.5) / n * 180 - 180,
                "depth": np.arange(0.75, 60, 1.5),
            }
        )
        density = np.exp(
            dkde.log_density(
                grid, train, {"lat,lon": "3000km", "depth": 6}, features=["lat", "lon", "depth"],
                kernel={("lat", "lon"): "vonmises_fisher", "depth": "gaussian"},
                support={"depth": (0, None)},
            )
        )  # fmt: skip
        cell = 4 * np.pi / (2 * n * n) * 1.5
        assert float(density.sum()) * cell == pytest.approx(1, abs=1e-3)

    def test_reflections_at_the_surface(self):
        support = {"depth": (0, None)}
        found = log_density(self.query, self.train, BANDWIDTH, support=support)
        assert_within(found, oracle(self.query, self.train, bounds=("depth",)))

    def test_a_period_beside_the_sphere(self):
        train, query = (side.assign(time=side["time"] % 24) for side in (self.train, self.query))
        found = log_density(query, train, BANDWIDTH, support={"time": dkde.Periodic(24)})
        copies = [train.assign(time=train["time"] + 24 * k) for k in (-1, 0, 1)]
        expected = oracle(query, pd.concat(copies)) + np.log(3)
        assert_within(found, expected)

    def test_gaussian_factors_alone_are_scales(self):
        kernel = {("lat", "lon"): "gaussian", "time": "gaussian", "depth": "gaussian"}
        given = {"lat,lon": 20, "time": 2, "depth": 10}
        plain = {"lat": 20, "lon": 20, "time": 2, "depth": 10}
        with pytest.warns(UserWarning, match="as if the Earth were flat"):
            found = log_density(self.query, self.train, given, kernel=kernel)
        with pytest.warns(UserWarning, match="as if the Earth were flat"):
            expected = dkde.log_density(self.query, self.train, plain)
        np.testing.assert_array_equal(found, expected)

    def test_missing_values(self):
        train = self.train.copy()
        for row, name in enumerate(train.columns):
            train.loc[row, name] = np.nan
            with pytest.raises(dkde.InputError, match=rf"row 0, {name} is nan"):
                log_density(self.query, train.iloc[row:].reset_index(drop=True), BANDWIDTH)
        found = log_density(self.query, train, BANDWIDTH, nan="drop")
        assert_within(found, oracle(self.query, self.train.iloc[4:]))

    def test_float32(self):
        found = log_density(self.query, self.train, BANDWIDTH, precision="float32")
        expected = oracle(self.query, self.train)
        np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())


class TestCalls:
    query, train = rows(30, 1), rows(200)

    @pytest.mark.slow
    def test_a_result_records_its_kernels_and_is_verified(self, tmp_path):
        for name, side in (("train", self.train), ("query", self.query)):
            side.to_parquet(tmp_path / f"{name}.parquet")
        output = tmp_path / "result.zarr"
        for bandwidth in (BANDWIDTH, {("lon", "lat"): "800km", "time": 2, "depth": 10}):
            found = dkde.score(
                str(tmp_path / "query.parquet"), str(tmp_path / "train.parquet"), bandwidth,
                kernel=KERNEL, output=output, support={"depth": (0, None)},
            )  # fmt: skip
        assert_within(
            found.log_density.values[0], oracle(self.query, self.train, bounds=("depth",))
        )
        recorded = json.loads(found.attrs["provenance"])
        kernels = {"lat,lon": "vonmises_fisher", "time": "gaussian", "depth": "gaussian"}
        assert recorded["options"]["kernels"] == kernels
        assert recorded["options"]["covariance"] == "lat,lon=800km, time=2, depth=10"
        assert recorded["score"]["train"]["features"] == 4
        dkde.verify(output)
        assert "lat,lon=vonmises_fisher" in dkde.summary(output)._repr_html_()
        bits = -found.mean_log_likelihood / (4 * np.log(2))
        np.testing.assert_allclose(found.bits_per_dimension, bits)

    def test_units(self):
        units = {"lat": "degrees_north", "lon": "degrees_east", "depth": "km", "time": "day"}
        train = xr.Dataset(
            {n: ("row", self.train[n].to_numpy(), {"units": u}) for n, u in units.items()}
        )
        found = dkde.score(self.query, train, BANDWIDTH, kernel=KERNEL)
        assert set(found.log_density.attrs["density_units"].split()) == {"sr-1", "km-1", "day-1"}

    def test_cross_validation_is_leave_one_out(self):
        found = dkde.cross_validate(
            self.train, [0.7, 2.0, 6.0], folds="loo", kernel=KERNEL, covariance=BANDWIDTH,
            refine=True,
        )  # fmt: skip
        for i in (0, 77):
            expected = oracle(self.train.iloc[[i]], self.train.drop(index=i), 2.0)
            assert float(found.log_density.sel(bandwidth=2.0)[i]) == pytest.approx(expected[0])
        assert float(found.best_bandwidth) not in (0.7, 2.0, 6.0)

    def test_the_estimator(self):
        model = dkde.KernelDensity(bandwidth=BANDWIDTH, kernel=KERNEL).fit(self.train)
        expected = oracle(self.query, self.train)
        assert_within(model.score_samples(self.query), expected)
        assert_within(pickle.loads(pickle.dumps(model)).score_samples(self.query), expected)
        squares = np.array([10, ANGLE, 2, ANGLE]) ** 2  # in the order of the columns
        np.testing.assert_allclose(model.covariance_, np.diag(squares))
        chosen = dkde.KernelDensityCV(
            bandwidths=[1.0, 2.0, 20.0], kernel=KERNEL, covariance=BANDWIDTH
        ).fit(self.train)
        assert chosen.bandwidth_ == 2.0
        factor = chosen.bandwidth_
        assert_within(chosen.score_samples(self.query), oracle(self.query, self.train, factor))

    def test_samples(self):
        """Each factor is drawn from: angles as on the sphere alone, and normal depths and times."""
        one = rows(1).assign(depth=1.0, lat=60.0, lon=179.0, time=3.0)
        draws = dkde.sample(one, BANDWIDTH, 4000, kernel=KERNEL, random_state=0)
        depth, lon, time, lat = draws.T
        assert kstest((depth - 1) / 10, "norm").pvalue > 0.01
        assert kstest((time - 3) / 2, "norm").pvalue > 0.01
        assert abs(np.corrcoef(depth, time)[0, 1]) < 0.05
        away = 1 - unit_vectors(lat, lon) @ unit_vectors(np.array([60.0]), np.array([179.0]))[0]
        # Of a von Mises-Fisher density 1 - cos is exponential, but for the far side.
        assert kstest(away / ANGLE**2, "expon").pvalue > 0.01
        above = dkde.sample(
            one, BANDWIDTH, 500, kernel=KERNEL, random_state=0, support={"depth": (0, None)}
        )
        assert above[:, 0].min() >= 0
        np.testing.assert_array_equal(
            dkde.sample(one, BANDWIDTH, 2, kernel=KERNEL, covariance_scale=0).round(9),
            np.repeat(one.to_numpy(), 2, axis=0),
        )


class TestBadInput:
    train = rows(20)

    @pytest.mark.parametrize(
        ("kernel", "words"),
        [
            ({"time": "epanechnikov"}, "'epanechnikov' of time cannot be in a product.*'gaussian'"),
            ({"time": "gausian"}, "kernel 'gausian' is not known"),
            ({("lat", "time"): "gaussian"}, "the feature 'lat' is in two factors"),
            ({"year": "gaussian"}, "kernel is given for 'year', and train has no such feature"),
            ({"time": "vonmises_fisher"}, "is for a latitude and a longitude, and not for time"),
            ({("lat", "lon"): "gaussian", ("time", "depth"): "vonmises_fisher"}, "two factors"),
            ({7: "gaussian"}, "7 is no name of a feature"),
        ],
    )
    def test_kernels(self, kernel, words):
        with pytest.raises(dkde.InputError, match=words):
            dkde.cross_validate(self.train, [1.0], kernel=KERNEL | kernel, covariance=BANDWIDTH)

    def test_a_feature_without_a_kernel(self):
        kernel = {name: one for name, one in KERNEL.items() if name != "depth"}
        with pytest.raises(dkde.InputError, match="the feature 'depth' is in no factor"):
            dkde.cross_validate(self.train, [1.0], kernel=kernel, covariance=BANDWIDTH)

    @pytest.mark.parametrize(
        ("bandwidth", "words"),
        [
            ({"lat,lon": "800km", "time": 2}, "the bandwidth of depth is missing"),
            (BANDWIDTH | {"year": 2}, "a bandwidth is given for 'year', which is no factor"),
            (BANDWIDTH | {"time": -2}, "the bandwidth of time is -2; it must be a positive"),
            (BANDWIDTH | {"time": "2km"}, "the bandwidth of time is '2km'"),
            (BANDWIDTH | {"lat,lon": "8 miles"}, "bandwidth '8 miles' cannot be read"),
            (BANDWIDTH | {("lat", "lon"): 1.0}, "the bandwidth of lat,lon is given twice"),
            (0.5, "needs a bandwidth for each factor"),
        ],
    )
    def test_bandwidths(self, bandwidth, words):
        with pytest.raises(dkde.InputError, match=words):
            log_density(self.train, self.train, bandwidth)

    @pytest.mark.parametrize(
        ("options", "words"),
        [
            ({"support": {"lat": (-90, 90)}}, "the sphere has no bounds"),
            ({"support": [(0, None), None, None, None]}, "give the support by name"),
            ({"pca": 2}, "leave out pca"),
            ({"criterion": "least_squares"}, "not for vonmises_fisher_gaussian"),
            ({"kernel": "vonmises_fisher_gaussian"}, "give its factors by the names"),
            ({"bandwidths": None}, "no default bandwidths"),
            ({"bandwidths": "scott"}, "takes no rule"),
        ],
    )
    def test_options(self, options, words):
        given = {"bandwidths": [1.0], "kernel": KERNEL, "covariance": BANDWIDTH} | options
        with pytest.raises(dkde.InputError, match=words):
            dkde.cross_validate(self.train, **given)

    def test_angles_out_of_range(self):
        wrong = self.train.copy()
        wrong.loc[3, "lat"] = 97.0
        with pytest.raises(dkde.InputError, match="row 3, lat is 97, which is no latitude"):
            log_density(self.train, wrong, BANDWIDTH)

    def test_features_without_names(self):
        with pytest.raises(dkde.InputError, match="goes by names"):
            log_density(self.train.to_numpy(), self.train.to_numpy(), BANDWIDTH)

    def test_a_map(self):
        with pytest.raises(dkde.InputError, match="a map is of one kernel"):
            dkde.density_map(self.train, BANDWIDTH, kernel=KERNEL)
