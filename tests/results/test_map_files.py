"""Maps as files and pictures: GeoTIFF, GeoJSON, reports; the regions of levels."""

import json
import re

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import dkde
from dkde.drawing.contours import regions_above
from dkde.errors import DataSetError, InputError


def area_of(ring):
    """The area inside of a ring, negative where it is clockwise."""
    x, y = np.asarray(ring).T
    return float(np.sum(x[:-1] * y[1:] - x[1:] * y[:-1]) / 2)


DAYS = np.array(["2026-01-01", "2026-01-03"], "datetime64[ns]")


def normal(**asked):
    return dkde.density_map(np.zeros((1, 2)), 1.0, **{"cell": 0.1, "margin": 4, **asked})


class TestRegions:
    def test_their_areas_are_those_of_a_normal(self):
        regions = dkde.level_regions(normal(levels=[50, 95]))
        assert json.loads(json.dumps(regions, allow_nan=False)) == regions
        assert "crs" not in regions
        for feature, share in zip(regions["features"], (0.5, 0.95), strict=True):
            ((outer,),) = feature["geometry"]["coordinates"]
            assert area_of(outer) == pytest.approx(-2 * np.pi * np.log1p(-share), rel=0.01)
            assert feature["properties"]["area"] == pytest.approx(area_of(outer), rel=0.02)
            assert feature["properties"]["levels_from"] == "grid"

    @pytest.mark.parametrize("turned", [slice(None), slice(None, None, -1)])
    def test_a_ring_has_a_hole_and_turns_to_the_left(self, turned):
        x = np.linspace(-2, 2, 81)[turned]
        values = -np.abs(np.hypot(x, x[:, None]) - 1)
        ((outer, hole),) = regions_above(x, x, values, -0.5)
        assert area_of(outer) == pytest.approx(np.pi * 1.5**2, rel=0.01)
        assert area_of(hole) == pytest.approx(-np.pi * 0.5**2, rel=0.01)

    def test_a_level_without_a_region_has_no_polygon(self):
        with pytest.warns(UserWarning, match="cells hold") as said:
            found = normal(box={"x": (0, 4), "y": (-4, 4)}, margin=None, levels=[30, 95])
        assert len(said) == 2
        small, none = dkde.level_regions(found)["features"]
        assert small["geometry"]["coordinates"]
        assert none["geometry"]["coordinates"] == []
        assert none["properties"]["density"] is None

    def test_what_has_none(self):
        with pytest.raises(InputError, match="the result has no levels; make a map"):
            dkde.level_regions(normal())
        stack = dkde.density_map(np.zeros((1, 3)), 1.0, cells=8, levels=50)
        with pytest.raises(InputError, match="the map has 3 axes"):
            dkde.level_regions(stack)
        (only,) = dkde.level_regions(stack.isel(z=4))["features"]
        assert only["geometry"]["coordinates"]
        assert "area" not in only["properties"]

    @pytest.mark.parametrize(
        ("rows", "message"),
        [
            (np.zeros((2, 3)), "the map has 3 axes"),
            (np.zeros((2, 1)), "the map has 1 axes"),
            (pd.DataFrame({"t": DAYS, "x": [0.0, 1]}), "two numbers"),
        ],
    )
    @pytest.mark.filterwarnings("ignore:.*is taken as days")
    def test_what_has_none_is_refused_before_the_sums(self, tmp_path, monkeypatch, rows, message):
        monkeypatch.setattr("dkde.estimation.density_map.perform", None)
        with pytest.raises(InputError, match=message):
            dkde.density_map(
                rows, 1.0, cells=8, levels=50, contours=tmp_path / "a.geojson",
                features=["t", "x"] if isinstance(rows, pd.DataFrame) else None,
            )  # fmt: skip
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize("levels", [None, []])
    def test_they_need_levels(self, tmp_path, monkeypatch, levels):
        monkeypatch.setattr("dkde.estimation.density_map.perform", None)
        with pytest.raises(InputError, match="contours needs levels"):
            normal(levels=levels, contours=tmp_path / "a.geojson")

    def test_they_are_written_with_the_map(self, tmp_path):
        path = tmp_path / "regions.geojson"
        path.write_text("that of a former call")
        found = normal(levels=50, contours=path)
        assert json.loads(path.read_text()) == dkde.level_regions(found)

    def test_export(self, tmp_path):
        path = tmp_path / "regions.geojson"
        found = normal(levels=50)
        dkde.export(found, path)
        assert json.loads(path.read_text()) == dkde.level_regions(found)


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_a_table_has_a_row_for_each_cell(tmp_path, suffix):
    found = normal(margin=6, cell=0.5, expected=True)
    path = tmp_path / f"cells.{suffix}"
    dkde.export(found, path)
    table = pd.read_csv(path) if suffix == "csv" else pd.read_parquet(path)
    for name in ("density", "expected_count"):
        np.testing.assert_array_equal(table[name], found[name].values.ravel())
    np.testing.assert_array_equal(table.y.unique(), found.y)


# Of rasterio itself, with the newest affine.
@pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")
class TestGeoTiff:
    @pytest.fixture(autouse=True)
    def _rasters(self):
        pytest.importorskip("rioxarray", reason='needs rioxarray: pip install "dkde[geo]"')

    def read(self, path):
        import rioxarray

        with rioxarray.open_rasterio(path) as raster:
            return raster.load()

    def test_north_is_up_and_the_template_has_the_reference_system(self, tmp_path):
        like = xr.DataArray(
            np.zeros((30, 20)), {"y": np.arange(30.0) - 15, "x": np.arange(20.0) - 10}, ("y", "x")
        ).rio.write_crs("EPSG:32633")
        train = np.array([[3.0, 5.0]])
        found = dkde.density_map(train, 2.0, like=like)
        path = tmp_path / "map.tif"
        dkde.density_map(train, 2.0, like=like, output=path)
        raster = self.read(path)
        assert raster.rio.crs.to_epsg() == 32633
        assert raster.rio.transform()[4] < 0
        by_place = raster[0].sel(x=found.x, y=found.y).drop_vars(["band", "spatial_ref"])
        np.testing.assert_array_equal(by_place, found.density)
        assert not (tmp_path / "map.tif.run").exists()
        # The raster is a template in turn.
        again = dkde.density_map(train, 2.0, like=path)
        np.testing.assert_array_equal(again.density.sel(y=found.y), found.density)
        assert again.spatial_ref.attrs["crs_wkt"] == found.spatial_ref.attrs["crs_wkt"]

    def test_degrees_and_counts(self, tmp_path):
        path = tmp_path / "map.tif"
        places = xr.Dataset({"lat": ("row", [50.0, 51.0]), "lon": ("row", [7.0, 9.0])})
        found = dkde.density_map(places, "50km", kernel="vonmises_fisher", cell=0.25, expected=True)
        dkde.export(found, path)
        raster = self.read(path)
        assert raster.rio.crs.to_epsg() == 4326
        assert float(raster.sum()) == pytest.approx(2, rel=1e-6)

    def test_a_stack_has_a_band_for_each_place(self, tmp_path):
        path = tmp_path / "map.tif"
        found = dkde.density_map(np.zeros((1, 3)), 1.0, cells=(4, 5, 6))
        dkde.export(found, path)
        assert self.read(path).shape == (6, 5, 4)

    @pytest.mark.sampled(5)
    @pytest.mark.parametrize(
        "asked",
        [
            {"cells": (7, 5)},
            {"cells": (7, 5), "expected": True, "margin": 8, "levels": [50, 95]},
            {"cells": (7, 5), "levels": [50], "levels_from": "sample"},
            {"cells": (5, 4), "kernel": "vonmises_fisher"},
            {"cells": (5, 4), "kernel": "vonmises_fisher", "expected": True},
            {"cells": (5, 4, 3), "features": ["x", "y", "z"], "levels": 50},
            {"like": "like.nc", "margin": None},
            {"cells": (7, 5), "by": "kind", "levels": [50, 95]},
            {"cells": (7, 5), "by": "day", "expected": True, "margin": 8},
        ],
    )
    @pytest.mark.filterwarnings("ignore:(expected counts|the cells)")
    def test_the_same_call_opens_one_that_is_complete(self, tmp_path, monkeypatch, asked):
        monkeypatch.chdir(tmp_path)
        rng = np.random.default_rng(3)
        names = ["lat", "lon"] if "kernel" in asked else ["x", "y"]
        names = asked.get("features", names)
        places = pd.DataFrame(rng.normal(size=(30, len(names))), columns=names)
        places["kind"] = np.array(["ant", "bee"])[np.arange(30) % 2]
        places["day"] = np.datetime64("2020-01-01") + np.arange(30) % 2 * np.timedelta64(1, "D")
        places.to_parquet("places.parquet")
        falling = np.array([3.0, 1, -1, -3])
        xr.Dataset(coords={"y": falling, "x": [-4.0, -1, 2]}).to_netcdf("like.nc")
        asked = {"features": names, **asked}
        call = {"source": "places.parquet", "output": "map.tif", **asked}
        first = dkde.density_map("train", 0.5, **call)
        before = (tmp_path / "map.tif").read_bytes()
        assert dkde.status("map.tif")["complete"]
        again = dkde.density_map("train", 0.5, **call)
        assert (tmp_path / "map.tif").read_bytes() == before
        assert again.attrs == first.attrs
        lost = {"log_density_error", "pairs_evaluated", "rows_read"}
        assert set(first.variables) - set(again.variables) == lost
        assert set(again.variables) <= set(first.variables)
        for name in again.variables:
            assert again[name].dims == first[name].dims
            assert again[name].attrs == first[name].attrs
            if first[name].dtype.kind != "f":
                np.testing.assert_array_equal(again[name], first[name])
                continue
            tolerance = 1e-14 if name in ("log_density", "density") else 0
            np.testing.assert_allclose(again[name], first[name], rtol=tolerance, atol=tolerance)

    def test_another_call_is_refused(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        pd.DataFrame({"x": [0.0, 1], "y": [0.0, 1]}).to_parquet("places.parquet")
        call = {"source": "places.parquet", "output": "map.tif", "cells": 9, "margin": 3}
        dkde.density_map("train", 1.0, **call, levels=50)
        with pytest.raises(DataSetError, match=r"map\.tif: holds densities, and this call asks"):
            dkde.density_map("train", 1.0, **call, levels=50, expected=True)
        with pytest.raises(DataSetError, match="with the levels 50 % from the grid, and a GeoTIFF"):
            dkde.density_map("train", 1.0, **call, levels=[50, 95])
        with pytest.raises(DataSetError, match="was begun otherwise"):
            dkde.density_map("train", 2.0, **call, levels=50)
        dkde.density_map("train", 2.0, **call, levels=95, restart=True)
        # One that another program wrote, or an earlier version, says nothing of its run.
        dkde.export(normal(), "map.tif", overwrite=True)
        with pytest.raises(DataSetError, match="is there already"):
            dkde.density_map("train", 2.0, **call)

    def test_log_densities_that_are_too_small_for_it(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        pd.DataFrame({"x": [0.0, 1], "y": [0.0, 1]}).to_parquet("places.parquet")
        call = {"source": "places.parquet", "output": "map.tif", "cells": 9, "margin": 60}
        first = dkde.density_map("train", 1.0, **call)
        with pytest.warns(UserWarning, match="log-densities; those of .* cells are too small"):
            again = dkde.density_map("train", 1.0, **call)
        lost = np.isnan(again.log_density)
        assert 0 < int(lost.sum()) < lost.size
        assert first.log_density.where(lost).max() < -700
        np.testing.assert_array_equal(again.density, first.density)

    def test_what_it_cannot_hold_is_refused_before_the_work(self, tmp_path):
        path = tmp_path / "map.tif"
        uneven = xr.Dataset(coords={"x": [0.0, 1, 3], "y": [0.0, 1]})
        with pytest.raises(InputError, match="cells along x differ in width"):
            dkde.density_map(np.zeros((1, 2)), 1.0, like=uneven, output=path)
        with pytest.raises(InputError, match="a GeoTIFF has two axes"):
            dkde.density_map(np.zeros((1, 1)), 1.0, cells=9, output=path)
        with pytest.raises(InputError, match="a GeoTIFF holds a map, and this result is none"):
            dkde.score(np.zeros((1, 1)), np.ones((1, 1)), 1.0, output=path)
        with pytest.raises(InputError, match="a map is no table"):
            normal(output=tmp_path / "map.csv")
        assert list(tmp_path.iterdir()) == []


class TestPictures:
    def test_densities_are_drawn_from_zero_with_their_levels(self, tmp_path):
        found = normal(levels=[50, 95])
        axes = dkde.plot_map(found, path=tmp_path / "map.png")
        mesh, *_ = axes.collections
        assert mesh.get_clim() == (0, pytest.approx(float(found.density.max())))
        assert sorted(text.get_text() for text in axes.texts) == ["50 %", "95 %"]
        np.testing.assert_allclose(axes.collections[1].levels, sorted(found.level_density.values))

    def test_expected_counts_are_drawn_where_there_are_some(self):
        found = normal(margin=6, cell=0.5, expected=True)
        axes = dkde.plot_map(found)
        assert axes.collections[0].get_clim()[1] == pytest.approx(float(found.expected_count.max()))

    def test_one_axis_is_a_line_with_areas_below(self):
        found = dkde.density_map(np.zeros((1, 1)), 1.0, cell=0.1, levels=[50, 95])
        axes = dkde.plot_map(found)
        np.testing.assert_array_equal(axes.lines[0].get_ydata(), found.density)
        widest, inner = axes.collections
        assert (widest.get_label(), inner.get_label()) == ("95 %", "50 %")
        assert np.abs(inner.get_paths()[0].vertices[:, 0]).max() == pytest.approx(0.674, abs=0.1)
        assert "<svg" in dkde.summary(found)._repr_html_()
        one = dkde.density_map(np.zeros((1, 2)), 1.0, cells=1)
        assert len(dkde.plot_map(one).lines[0].get_xdata()) == 1

    def test_a_stack_is_drawn_where_most_of_it_lies(self):
        train = np.random.default_rng(0).normal(size=(50, 3))
        found = dkde.density_map(train, 0.5, cells=9)
        z = found.z[int(found.density.sum(["y", "x"]).values.argmax())]
        axes = dkde.plot_map(found)
        assert axes.get_title() == f"z = {float(z):.6g}"
        assert axes.collections[0].get_array().max() == found.density.sel(z=z).max()

    def test_maps_have_no_figures_to_put_beside_others(self, tmp_path):
        two = {"a": normal(), "b": normal()}
        for show in (dkde.summary, lambda found: dkde.report(found, tmp_path / "two.html")):
            with pytest.raises(InputError, match=r"a: a map has no figures .* show it alone"):
                show(two)

    @pytest.mark.slow
    def test_summary_and_report_show_the_map(self, tmp_path):
        found = normal(levels=[50], output=tmp_path / "map.zarr")
        text = str(dkde.summary(tmp_path / "map.zarr"))
        assert text.startswith("Density map: ")
        assert re.search(r"50 %\s+0\.0\d+\s+4\.\d+", text)
        assert "<svg" in dkde.summary(found)._repr_html_()
        dkde.report(tmp_path / "map.zarr", tmp_path / "map.html")
        page = (tmp_path / "map.html").read_text()
        assert "<svg" in page
        assert "Levels, from the grid" in page
