"""Maps: their cells, counts and levels, against the oracle and closed forms."""

import numpy as np
import pandas as pd
import pytest
import reference
import xarray as xr
from globe import oracle, places

import dkde
from dkde.errors import InputError
from dkde.numerics.map_cells import KM2_OF_STERADIAN, areas_on_sphere, edges_between

ORIGIN = np.zeros((1, 2))
VMF = "vonmises_fisher"


def rows(n=60, d=2, seed=0):
    return np.random.default_rng(seed).normal(size=(n, d))


def table(n=60, seed=0):
    return pd.DataFrame(rows(n, 2, seed) * [2, 1] + [5, 40], columns=["x", "y"])


def points(found):
    """The centres of the cells as rows (cells, features), features in the order of train."""
    names = [str(dim) for dim in found.density.dims]
    grid = np.meshgrid(*(found[name].values for name in names), indexing="ij")
    return dict(zip(names, (each.ravel() for each in grid), strict=True))


class TestValues:
    @pytest.mark.parametrize("d", [1, 2, 3])
    @pytest.mark.parametrize("kernel", ["gaussian", "epanechnikov"])
    def test_against_the_oracle(self, d, kernel):
        train, names = rows(30, d), ["x", "y", "z"][:d]
        found = dkde.density_map(train, 0.7, cells=5, kernel=kernel)
        assert found.density.dims == tuple(reversed(names))
        at = points(found)
        query = np.stack([at[name] for name in names], axis=1)
        expected = reference.log_density(query, train, [0.7], kernel=kernel)
        np.testing.assert_allclose(found.log_density.values.ravel(), expected.ravel(), atol=2e-9)
        np.testing.assert_allclose(found.density.values.ravel(), np.exp(expected).ravel())

    def test_on_the_sphere_against_the_oracle(self):
        train = pd.DataFrame(places(40), columns=["lat", "lon"])
        found = dkde.density_map(train, "500km", kernel=VMF, cell=15)
        assert found.density.dims == ("lat", "lon")
        assert found.density.shape == (12, 24)
        at = points(found)
        expected = oracle(
            np.stack([at["lat"], at["lon"]], axis=1), train.to_numpy(), 500 / 6371.0088
        )
        np.testing.assert_allclose(
            found.density.values.ravel(), np.exp(expected) / KM2_OF_STERADIAN, rtol=1e-8
        )
        assert (found.density.attrs["units"], found.cell_area.attrs["units"]) == ("km-2", "km2")

    def test_weights_where_and_missing_values_count(self):
        data = table(50).assign(w=np.arange(50.0), year=np.repeat([1, 2], 25))
        data.loc[30, "y"] = np.nan
        box = {"x": (0, 10), "y": (36, 44)}
        found = dkde.density_map(
            data, 0.5, features=["x", "y"], weights="w", nan="drop", cells=8, box=box,
            where="year == 2",
        )  # fmt: skip
        kept = data[data.year == 2].dropna()
        expected = dkde.density_map(
            kept[["x", "y"]], 0.5, weights=kept.w.to_numpy(), cells=8, box=box
        )
        np.testing.assert_allclose(found.density, expected.density)
        assert int(found.n_missing_train) == 1


class TestCells:
    def test_edges_are_multiples_of_the_cell_around_the_data(self):
        found = dkde.density_map(table(), 0.5, cell=0.25, margin=1)
        for name in ("x", "y"):
            edges = edges_between(found[name].values) / 0.25
            np.testing.assert_allclose(edges, np.rint(edges), atol=1e-9)
            low, high = table()[name].min() - 0.5, table()[name].max() + 0.5
            assert low - 0.25 < edges[0] * 0.25 <= low
            assert high <= edges[-1] * 0.25 < high + 0.25

    def test_a_box_and_numbers_of_cells_along_each_feature(self):
        found = dkde.density_map(table(), 0.5, cells=(6, 4), box={"y": (38, 42), "x": (0, 12)})
        np.testing.assert_allclose(found.x, [1, 3, 5, 7, 9, 11])
        np.testing.assert_allclose(found.y, [38.5, 39.5, 40.5, 41.5])
        assert found.cell_area.item() == 2

    @pytest.mark.parametrize("as_array", [False, True])
    def test_like_a_template(self, as_array):
        like = xr.Dataset(
            {"sst": (("y", "x"), np.zeros((3, 4)))},
            {
                "y": ("y", [42.0, 41, 39], {"units": "m"}),
                "x": [1.0, 2, 3, 4],
                "spatial_ref": ((), 0, {"crs_wkt": "here"}),
            },
        )
        found = dkde.density_map(table(), 0.5, like=like.sst if as_array else like)
        assert found.density.dims == ("y", "x")
        assert found.y.attrs["units"] == "m"
        np.testing.assert_array_equal(found.y, [42.0, 41, 39])
        np.testing.assert_allclose(found.cell_area, [1, 1.5, 2])
        assert found.spatial_ref.attrs["crs_wkt"] == "here"
        grid = xr.Dataset(coords={"y": found.y.values, "x": found.x.values})
        expected = dkde.log_density(grid, table(), 0.5)
        np.testing.assert_allclose(found.log_density[0], expected, atol=2e-9)

    def test_places_of_a_template_have_usual_names_and_its_order(self, tmp_path):
        train = pd.DataFrame(places(20), columns=["lat", "lon"])
        like = xr.Dataset(coords={"longitude": [0.0, 10, 20], "latitude": [5.0, 4]})
        like.to_netcdf(tmp_path / "like.nc")
        found = dkde.density_map(train, "500km", kernel=VMF, like=tmp_path / "like.nc")
        assert set(found.density.dims) == {"lat", "lon"}
        np.testing.assert_array_equal(found.lat, [5.0, 4])
        np.testing.assert_allclose(found.cell_area, areas_on_sphere(
            np.array([5.5, 4.5, 3.5]), np.array([-5.0, 5]))[:, 0])  # fmt: skip

    def test_the_date_line_is_no_edge(self):
        train = pd.DataFrame({"lat": [0.0, 1, 2], "lon": [179.0, -179, 178]})
        found = dkde.density_map(train, "50km", kernel=VMF, cell=0.5)
        assert 175 < found.lon.values[0] < found.lon.values[-1] < 184
        assert float(found.mass) == pytest.approx(1, abs=0.01)

    def test_times_are_an_axis(self):
        times = pd.date_range("2020-01-01", periods=40, freq="D")
        data = pd.DataFrame(rows(40), columns=["x", "y"]).assign(time=times)
        with pytest.warns(UserWarning, match="time is taken as days"):
            found = dkde.density_map(
                data, {"x": 0.5, "y": 0.5, "time": 5.0}, features=["x", "y", "time"],
                cell={"x": 0.5, "y": 0.5, "time": 1}, expected=True,
                box={"time": ("2019-12-01", "2020-03-15")},
            )  # fmt: skip
        assert found.density.dims == ("time", "y", "x")
        assert found.time.values[0] == np.datetime64("2019-12-01T12:00")
        assert float(found.expected_count.sum()) == pytest.approx(40, rel=1e-6)
        assert found.density.attrs.get("units") is None
        (at,) = np.nonzero(found.time.values == np.datetime64("2020-01-10T12:00"))[0]
        # One row a day, and some beyond the first and the last of them.
        assert 0.9 < float(found.expected_count.sum(("x", "y"))[at]) < 1


class TestExpected:
    @pytest.mark.parametrize("cell", [0.1, 0.5])  # up to the bandwidth
    def test_counts_add_up_to_the_weights(self, cell):
        weights = np.random.default_rng(1).uniform(size=60)
        found = dkde.density_map(rows(), 0.5, cell=cell, expected=True, weights=weights)
        assert float(found.expected_count.sum()) == pytest.approx(weights.sum(), rel=1e-6)

    @pytest.mark.parametrize(("middle", "cell"), [((0, 0), 1), ((60, 170), 1), ((89, 0), 0.5)])
    def test_on_the_sphere_too(self, middle, cell):
        near = np.clip(rows(50) * 2 + middle, [-90, -400], [90, 400])
        train = pd.DataFrame(near, columns=["lat", "lon"])
        h = np.deg2rad(1.0)
        found = dkde.density_map(train, h, kernel=VMF, cell=cell, expected=True)
        assert float(found.expected_count.sum()) == pytest.approx(50, rel=1e-6)

    def test_on_the_whole_sphere(self):
        train = pd.DataFrame(places(200), columns=["lat", "lon"])
        found = dkde.density_map(train, np.deg2rad(8.0), kernel=VMF, cell=6, expected=True)
        assert float(found.expected_count.sum()) == pytest.approx(200, rel=1e-6)
        assert float((found.cell_area * xr.ones_like(found.density)).sum()) == pytest.approx(
            4 * np.pi * KM2_OF_STERADIAN
        )

    def test_what_is_missing_is_said(self):
        with pytest.warns(UserWarning, match=r"add up to .*30.*less than .* 60: the box leaves"):
            dkde.density_map(
                np.concatenate([rows(30), rows(30) + 100]), 0.5, cell=0.25, expected=True,
                box={"x": (-10, 10), "y": (-10, 10)},
            )  # fmt: skip
        with pytest.warns(UserWarning, match=r"4 bandwidths wide \(along x\)"):
            dkde.density_map(rows(), 0.5, cell=2, expected=True)


class TestLevels:
    def test_of_a_normal(self):
        found = dkde.density_map(ORIGIN, 1.0, cell=0.02, margin=4, levels=[95, 50])
        areas = -2 * np.log1p([-0.5, -0.95]) * np.pi  # 95 %: 5.99 π σ²
        np.testing.assert_allclose(found.level_area, areas, rtol=3e-3)
        np.testing.assert_allclose(found.level_density, [0.5 / (2 * np.pi), 0.05 / (2 * np.pi)],
                                   rtol=3e-3)  # fmt: skip
        np.testing.assert_array_equal(found.level, [50, 95])
        assert found.level_density.attrs["levels_from"] == "grid"

    @pytest.mark.slow
    @pytest.mark.parametrize("levels_from", ["grid", "sample"])
    def test_of_a_sample_of_a_normal(self, levels_from):
        train, h = 3.0 * rows(4000), 0.8
        found = dkde.density_map(train, h, cells=150, levels=95, levels_from=levels_from)
        expected = -2 * np.log(0.05) * np.pi * (9 + h * h)
        # The variance of a sample of 4000 has a standard error of 1.6 % in two dimensions.
        assert float(found.level_area[0]) == pytest.approx(expected, rel=0.1)
        assert found.level_density.attrs["levels_from"] == levels_from

    def test_from_the_sample_by_hand(self):
        train, weights = rows(40), np.random.default_rng(5).uniform(size=40)
        found = dkde.density_map(train, 0.5, cells=20, levels=80, levels_from="sample")
        densities = np.exp(reference.log_density(train, train, [0.5])).astype(float).ravel()
        assert float(found.level_density[0]) == pytest.approx(np.quantile(densities, 0.2))
        found = dkde.density_map(
            train, 0.5, cells=20, levels=80, levels_from="sample", weights=weights
        )
        densities = np.exp(reference.log_density(train, train, [0.5], weights=weights)).ravel()
        above = weights[densities >= float(found.level_density[0])].sum() / weights.sum()
        assert above == pytest.approx(0.8, abs=0.05)

    def test_on_the_sphere_against_a_cap(self):
        train = pd.DataFrame({"lat": [70.0], "lon": [20.0]})
        found = dkde.density_map(train, "100km", kernel=VMF, cell=0.05, levels=[50, 95])
        # exp(-(1 - cos θ) / h²) is the mass beyond θ; a cap has 2 π (1 - cos θ).
        h = 100 / 6371.0088
        caps = -2 * np.pi * h * h * np.log1p([-0.5, -0.95]) * KM2_OF_STERADIAN
        np.testing.assert_allclose(found.level_area, caps, rtol=5e-3)

    def test_a_region_beyond_the_box_is_said(self):
        with (
            pytest.warns(UserWarning, match="the cells hold 50 % of the density"),
            pytest.warns(UserWarning, match="the level 60 %, which has no region; widen the box"),
        ):
            found = dkde.density_map(
                ORIGIN, 1.0, cells=30, box={"x": (0, 5), "y": (-5, 5)}, levels=[40, 60]
            )
        assert np.isnan(found.level_area.values).tolist() == [False, True]


class TestHomeRange:
    """30 positions of the wild boar Brock (Maillard 1996), of the R package adehabitatMA.

    The areas are those of adehabitatHR 0.4.22 (``kernel.area(kernelUD(h="href", grid=500,
    extent=1.5))``), and of ks 1.14.0 (``contourLevels``, ``contourSizes`` with ``approx=FALSE``
    at the same bandwidth on 800 x 800 cells). Distances are in metres.
    """

    BOAR = np.array([
        (699889, 3161559), (700046, 3161541), (698840, 3161033), (699809, 3161496),
        (698627, 3160941), (698719, 3160989), (698991, 3161015), (698626, 3160768),
        (698879, 3160964), (699756, 3161449), (699006, 3160993), (700387, 3161442),
        (698705, 3160822), (698974, 3160885), (698937, 3160973), (698987, 3160997),
        (699888, 3161507), (698797, 3160937), (698791, 3160988), (699535, 3161246),
        (699406, 3161333), (699461, 3161173), (699529, 3161234), (698992, 3161044),
        (698905, 3160907), (699474, 3161193), (699367, 3161104), (698689, 3160854),
        (699341, 3161106), (699207, 3161099),
    ], dtype=float)  # fmt: skip
    HREF = 211.651055

    def home(self, **options):
        href = np.sqrt(self.BOAR.var(axis=0, ddof=1).mean()) * len(self.BOAR) ** (-1 / 6)
        assert href == pytest.approx(self.HREF, abs=1e-6)
        return dkde.density_map(
            self.BOAR, href, cells=(500, 500), margin=6, levels=[50, 95], **options
        )

    def test_areas_of_adehabitat(self):
        hectares = self.home().level_area.values / 1e4
        np.testing.assert_allclose(hectares, [52.18829, 209.82922], rtol=1e-3)

    def test_thresholds_and_areas_of_ks(self):
        found = self.home(levels_from="sample")
        np.testing.assert_allclose(found.level_density, [1.000893e-6, 4.878822e-7], rtol=5e-7)
        np.testing.assert_allclose(found.level_area / 1e4, [18.53728, 77.96711], rtol=1e-3)


def test_areas_of_cells_on_the_sphere():
    cap = areas_on_sphere(np.array([60.0, 90]), np.array([0.0, 360]))
    assert cap.item() == pytest.approx(2 * np.pi * (1 - np.sin(np.deg2rad(60))) * KM2_OF_STERADIAN)


class TestBandwidth:
    def test_the_rule_is_said(self):
        with pytest.warns(UserWarning, match=r"Silverman's rule makes it .* along x, .* along y"):
            found = dkde.density_map(rows(), cells=9)
        expected = dkde.density_map(rows(), "silverman", covariance="diag", cells=9)
        np.testing.assert_array_equal(found.density, expected.density)

    def test_the_rule_is_said_once(self, tmp_path):
        path, output = tmp_path / "points.parquet", tmp_path / "map.zarr"
        table().to_parquet(path)
        with dkde.init_only(), pytest.warns(UserWarning, match="Silverman's rule makes it"):
            dkde.density_map(str(path), cells=9, output=output)
        dkde.run_part(output, 0, 1)  # warnings are errors
        dkde.finish(output)
        dkde.verify(output)

    def test_the_rule_on_the_sphere_is_that_of_a_plane(self):
        near = rows(2000) * [0.1, 0.1] + [0, 40]
        with pytest.warns(UserWarning, match="Silverman's rule makes it .* km"):
            found = dkde.density_map(
                pd.DataFrame(near, columns=["lat", "lon"]), kernel=VMF, cells=9
            )
        expected = np.deg2rad(0.1) * 6371.0088 * 2000 ** (-1 / 6)
        assert float(found.bandwidth[0]) == pytest.approx(expected, rel=0.05)


class TestRuns:
    def test_a_map_is_kept_resumed_and_read_again(self, tmp_path):
        data = tmp_path / "points.parquet"
        table().to_parquet(data)
        output = tmp_path / "map.zarr"
        ask = {"features": ["x", "y"], "cell": 0.5, "output": output}
        with dkde.init_only():
            dkde.density_map(str(data), 0.5, **ask)
        dkde.run_part(output, 0, 1)
        found = dkde.finish(output)
        direct = dkde.density_map(table(), 0.5, cell=0.5)
        np.testing.assert_array_equal(found.density, direct.density)
        xr.testing.assert_equal(xr.open_zarr(output).density.load(), direct.density)
        # Levels and counts follow from what is kept.
        again = dkde.density_map(str(data), 0.5, **ask, levels=[50], margin=None)
        assert again.level_area.sizes == {"level": 1}

    def test_levels_from_the_sample_are_kept_as_they_are(self, tmp_path):
        ask = {"cell": 0.5, "output": tmp_path / "map.zarr", "levels_from": "sample"}
        found = dkde.density_map(table(), 0.5, **ask, levels=[50, 95])
        again = dkde.density_map(table(), 0.5, **ask, levels=95)
        assert again.level_density.item() == found.level_density[1].item()
        with pytest.raises(dkde.DataSetError, match="has the levels 50 %, 95 % from the sample"):
            dkde.density_map(table(), 0.5, **ask, levels=80)

    def test_a_map_becomes_netcdf(self, tmp_path):
        path = tmp_path / "map.nc"
        dkde.density_map(table(), 0.5, cell=0.5, output=path, levels=[50, 95])
        with xr.open_dataset(path) as found:
            assert found.density.dims == ("y", "x")
            assert found.level.values.tolist() == [50, 95]


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"levels": [50, 150]}, "150 is no level"),
        ({"levels": 0}, "0 is no level"),
        ({"levels": "95"}, "'9' is no level"),
        ({"levels": [50, 50]}, "one level twice"),
        ({"levels_from": "rows"}, "choose one of: grid, sample"),
        ({"cell": 1, "cells": 3}, "cell and cells both say"),
        ({"cell": 0}, "give the width of a cell"),
        ({"cell": (1, 2, 3)}, "one for each of x, y"),
        ({"cells": 2.5}, "a whole number of cells"),
        ({"cells": {"x": 3}}, "'y' is missing"),
        ({"cell": 1e-7}, r"cells \(\d+ along x × \d+ along y\), which take .* GB are free"),
        ({"margin": np.inf}, "a number of bandwidths, 0 or more"),
        ({"margin": -1}, "a number of bandwidths, 0 or more"),
        ({"box": {"z": (0, 1)}}, "box names z; the features are x, y"),
        ({"box": {"x": (1, 0)}}, "the lower one first"),
        ({"box": (0, 1)}, "a mapping of features to their two ends"),
        (
            {"like": xr.Dataset(coords={"x": [1, 2], "lat": [1, 2]})},
            "has the axes x, lat.* lacks y",
        ),
        (
            {"like": xr.Dataset(coords={"lat": [1, 2], "bandwidth": [1], "level": [50]})},
            "has the axes lat, and",
        ),
        ({"like": xr.Dataset(coords={"x": [1, 3, 2], "y": [1, 2]})}, "x is no axis"),
        ({"like": "nowhere.nc"}, "nowhere.nc: cannot be opened as a template"),
        ({"like": xr.Dataset(), "margin": 2}, "margin has no meaning beside like"),
        ({"bandwidth": [1, 2]}, "a map is of one bandwidth, and 2 are given"),
        ({"features": ["x"], "kernel": VMF}, "latitude"),
    ],
)
def test_what_cannot_be_is_refused_in_a_line(said, words):
    bandwidth = said.pop("bandwidth", 0.5)
    with pytest.raises(InputError, match=words) as refused:
        dkde.density_map(table(), bandwidth, **said)
    assert "\n" not in str(refused.value)


def test_a_feature_has_no_name_of_the_map():
    with pytest.raises(InputError, match="a feature 'density', a name that the map needs"):
        dkde.density_map(table().rename(columns={"x": "density"}), 0.5)


def test_four_features_have_no_map():
    with pytest.raises(InputError, match="one to three axes, and the rows have 4 features"):
        dkde.density_map(rows(10, 4), 0.5)
