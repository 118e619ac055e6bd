"""Points of GeoPandas, GeoArrow and GeoParquet: their coordinates are the features."""

import json
import warnings

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import reference

import dkde

geopandas = pytest.importorskip("geopandas")
shapely = pytest.importorskip("shapely")

RNG = np.random.default_rng(3)
LON, LAT = RNG.uniform(5, 15, 40), RNG.uniform(45, 55, 40)
DEPTH = RNG.uniform(0, 30, 40)


def frame(crs="EPSG:4326", **columns):
    points = geopandas.points_from_xy(LON, LAT, crs=crs)
    return geopandas.GeoDataFrame({"depth": DEPTH, "id": ["x"] * 40} | columns, geometry=points)


def arrow(encoding):
    return lambda data, folder: pa.table(data.to_arrow(geometry_encoding=encoding))


def parquet(encoding):
    def write(data, folder):
        data.to_parquet(folder / "t.parquet", geometry_encoding=encoding)
        return str(folder / "t.parquet")

    return write


FORMS = {
    "GeoPandas": lambda data, folder: data,
    "GeoArrow": arrow("geoarrow"),
    "WKB": arrow("WKB"),
    "GeoParquet": parquet("WKB"),
    "GeoParquet of GeoArrow": parquet("geoarrow"),
}


def plane(rows, bandwidth=0.7):
    return reference.log_density(rows, rows, [bandwidth])[0]


@pytest.mark.parametrize("form", FORMS)
class TestFeatures:
    def test_a_projected_geometry_gives_x_and_y_in_its_units(self, form, tmp_path):
        data = FORMS[form](frame("EPSG:3857"), tmp_path)
        message = r"the features are x, y; left out: depth \(beside the geometry\), id \(text\)"
        with pytest.warns(UserWarning, match=message) as said:
            result = dkde.score(np.column_stack([LON, LAT]), data, 0.7)
        assert len([w for w in said if "left out" in str(w.message)]) == 1
        right = plane(np.column_stack([LON, LAT]))
        np.testing.assert_allclose(result.log_density[0], right, rtol=1e-9)
        assert result.attrs["crs"] == "EPSG:3857"

    def test_a_geographic_one_goes_the_way_of_the_sphere(self, form, tmp_path):
        data = FORMS[form](frame()[["geometry"]], tmp_path)
        degrees = pd.DataFrame({"lat": LAT, "lon": LON})
        found = dkde.log_density(data, data, "500 km", kernel="vonmises_fisher")
        right = dkde.log_density(degrees, degrees, "500 km", kernel="vonmises_fisher")
        np.testing.assert_allclose(found, right, rtol=1e-12)
        with pytest.warns(UserWarning, match="as if the Earth were flat"):
            dkde.log_density(data, data, 0.7)

    def test_others_are_features_if_they_are_named(self, form, tmp_path):
        data = FORMS[form](frame("EPSG:3857"), tmp_path)
        named = dkde.Catalog(features=["depth", "geometry"])
        right = plane(np.column_stack([DEPTH, LON, LAT]), 2.0)
        found = dkde.log_density(data, data, 2.0, source=named)
        np.testing.assert_allclose(found, right, rtol=1e-9)

    def test_what_is_missing_or_empty_is_a_missing_value(self, form, tmp_path):
        data = frame("EPSG:3857")[["geometry"]]
        data.loc[3, "geometry"] = None
        data.loc[5, "geometry"] = shapely.Point()
        given = FORMS[form](data, tmp_path)
        found = dkde.log_density(given, given, 0.7, nan="drop")
        there = ~np.isin(np.arange(40), [3, 5])
        right = plane(np.column_stack([LON, LAT])[there])
        np.testing.assert_allclose(np.asarray(found)[there], right, rtol=1e-9)
        assert np.isnan(np.asarray(found)[~there]).all()
        with pytest.raises(dkde.InputError, match=r"row 3, x is nan"):
            np.asarray(dkde.log_density(given, given, 0.7))

    def test_a_mixed_geometry_is_refused(self, form, tmp_path):
        data = frame("EPSG:3857")[["geometry"]]
        data.loc[7, "geometry"] = shapely.LineString([(0, 0), (1, 1)])
        if form in ("GeoArrow", "GeoParquet of GeoArrow"):
            pytest.skip("these hold points only")
        given = FORMS[form](data, tmp_path)
        with pytest.raises(dkde.InputError, match=r"row [78] is a LineString, and features are"):
            np.asarray(dkde.log_density(given, given, 0.7))

    def test_estimators_take_them(self, form, tmp_path):
        data = FORMS[form](frame("EPSG:3857")[["geometry"]], tmp_path)
        model = dkde.KernelDensity(bandwidth=0.7).fit(data)
        assert list(model.feature_names_in_) == ["x", "y"]
        right = plane(np.column_stack([LON, LAT]))
        np.testing.assert_allclose(np.asarray(model.score_samples(data)), right, rtol=1e-9)
        with pytest.raises(dkde.InputError, match="points are in EPSG:32632, and those of"):
            model.score_samples(frame("EPSG:32632")[["geometry"]])


def test_coordinates_may_be_named():
    named = dkde.Catalog(features=["lat", "depth"])
    right = plane(np.column_stack([LAT, DEPTH]), 2.0)
    data = frame()
    np.testing.assert_allclose(dkde.log_density(data, data, 2.0, source=named), right, rtol=1e-9)
    found = dkde.log_density(data, data, "500 km", kernel="vonmises_fisher", lat="lat", lon="lon")
    degrees = pd.DataFrame({"lat": LAT, "lon": LON})
    right = dkde.log_density(degrees, degrees, "500 km", kernel="vonmises_fisher")
    np.testing.assert_allclose(found, right, rtol=1e-12)
    with pytest.raises(dkde.InputError, match=r"no feature 'z'; it has depth, id, geometry"):
        dkde.log_density(data, data, 2.0, source=dkde.Catalog(features=["z"]))


def test_of_several_geometries_the_active_one_counts():
    data = frame("EPSG:3857", other=geopandas.points_from_xy(LAT, DEPTH, crs="EPSG:3857"))
    with pytest.warns(UserWarning, match=r"left out: depth .*, id .*, other \(beside the geom"):
        found = dkde.log_density(data, data, 0.7)
    np.testing.assert_allclose(found, plane(np.column_stack([LON, LAT])), rtol=1e-9)
    with pytest.warns(UserWarning, match=r"left out: depth .*, id .*, geometry \(beside the geom"):
        found = dkde.log_density(data.set_geometry("other"), data.set_geometry("other"), 0.7)
    np.testing.assert_allclose(found, plane(np.column_stack([LAT, DEPTH])), rtol=1e-9)


@pytest.mark.parametrize("form", ["GeoPandas", "GeoArrow", "GeoParquet"])
def test_columns_of_the_same_names_are_not_taken_for_the_geometry(form, tmp_path):
    data = FORMS[form](frame("EPSG:3857", x=DEPTH, y=DEPTH), tmp_path)
    rows = np.column_stack([LON, LAT])
    with pytest.warns(UserWarning, match="left out: "):
        found = dkde.log_density(data, data, 0.7)
    np.testing.assert_allclose(found, plane(rows), rtol=1e-9)
    with pytest.warns(UserWarning, match=r"left out: depth \(beside the geometry\), "):
        found = dkde.log_density(data, frame("EPSG:3857")[["geometry"]], 0.7)
    np.testing.assert_allclose(found, plane(rows), rtol=1e-9)
    named = dkde.Catalog(features=["x", "y"])
    found = dkde.log_density(data, data, 2.0, source=named)
    right = plane(np.column_stack([DEPTH, DEPTH]), 2.0)
    np.testing.assert_allclose(found, right, rtol=1e-9)


@pytest.mark.parametrize("dtype", [object, "Int64", "boolean"])
def test_a_frame_without_rows_is_refused(dtype):
    for data in (frame().iloc[:0], pd.DataFrame({"a": pd.Series([], dtype=dtype)})):
        with pytest.raises(dkde.InputError, match=r"there is nothing in it|no column of numbers"):
            dkde.log_density([[1.0, 2.0]], data, 0.7)


def test_a_frame_of_areas_gives_its_numbers():
    data = frame("EPSG:3857")
    data = data.set_geometry(data.buffer(1))
    with pytest.warns(UserWarning, match=r"are depth; left out: id \(text\), geometry \(Polygons"):
        found = dkde.log_density(data, data, 0.7)
    np.testing.assert_allclose(found, plane(DEPTH[:, None]), rtol=1e-9)
    with pytest.raises(dkde.InputError, match="'geometry' holds Polygons, and features are num"):
        dkde.log_density(data, data, 0.7, source=dkde.Catalog(features=["geometry"]))


def test_a_geoseries_is_points():
    points = frame("EPSG:3857").geometry
    found = dkde.log_density(points, points, 0.7)
    np.testing.assert_allclose(found, plane(np.column_stack([LON, LAT])), rtol=1e-9)


def test_heights_are_left_out_in_a_line():
    points = geopandas.points_from_xy(LON, LAT, DEPTH, crs="EPSG:3857")
    data = geopandas.GeoDataFrame(geometry=points)
    with pytest.warns(UserWarning, match="'geometry': x and y of the points .* left out: z"):
        found = dkde.log_density(data, data, 0.7)
    np.testing.assert_allclose(found, plane(np.column_stack([LON, LAT])), rtol=1e-9)


class TestCrs:
    def test_two_are_refused(self):
        a, b = (frame(crs)[["geometry"]] for crs in ("EPSG:3857", "EPSG:32632"))
        message = "query: its points are in EPSG:32632, and those of the other side in EPSG:3857"
        with pytest.raises(dkde.InputError, match=message):
            dkde.log_density(b, a, 0.7)
        with pytest.raises(dkde.InputError, match="query: its points are in EPSG:4326, and"):
            dkde.log_density(frame()[["geometry"]], a, 0.7)

    def test_the_order_of_axes_in_a_crs_does_not_matter(self):
        a, b = (frame(crs)[["geometry"]] for crs in ("EPSG:4326", "OGC:CRS84"))
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "distances are computed")
            found = dkde.log_density(b, a, 0.7)
        np.testing.assert_allclose(found, plane(np.column_stack([LON, LAT])), rtol=1e-9)

    @pytest.mark.parametrize(
        ("crs", "names", "units"),
        [
            (None, ["x", "y"], None),
            ("EPSG:3857", ["x", "y"], ("m", "m")),
            ("EPSG:2263", ["x", "y"], ("US_survey_foot", "US_survey_foot")),
            ("EPSG:4807", ["x", "y"], ("grad", "grad")),
            ("EPSG:4258", ["lon", "lat"], ("degrees_east", "degrees_north")),
        ],
    )
    def test_units_are_those_of_the_crs(self, crs, names, units):
        part = dkde.inputs.frames.part_of_frame(
            dkde.inputs.frames.frame_of(frame(crs)[["geometry"]], "train"), "train", None
        )
        assert (list(part.features), part.units, part.crs) == (names, units, crs)

    def test_a_file_without_one_is_in_degrees(self, tmp_path):
        frame()[["geometry"]].to_parquet(tmp_path / "t.parquet")
        table = pa.parquet.read_table(tmp_path / "t.parquet")
        notes = json.loads(table.schema.metadata[b"geo"])
        del notes["columns"]["geometry"]["crs"]
        pa.parquet.write_table(
            table.replace_schema_metadata({b"geo": json.dumps(notes)}), tmp_path / "u.parquet"
        )
        path = str(tmp_path / "u.parquet")
        found = dkde.score(frame()[["geometry"]], path, "500 km", kernel="vonmises_fisher")
        assert found.attrs["crs"] == "EPSG:4326"

    def test_a_data_set_keeps_it(self, tmp_path):
        frame("EPSG:3857").to_parquet(tmp_path / "t.parquet")
        with pytest.warns(UserWarning, match=r"left out: depth \(beside the geometry\)"):
            dkde.import_dataset(tmp_path / "t.parquet", tmp_path / "t.zarr")
        path = str(tmp_path / "t.zarr")
        result = dkde.score(np.column_stack([LON, LAT]), f"{path}::train", 0.7)
        assert result.attrs["crs"] == "EPSG:3857"
        right = plane(np.column_stack([LON, LAT]))
        np.testing.assert_allclose(result.log_density[0], right, rtol=1e-9)
