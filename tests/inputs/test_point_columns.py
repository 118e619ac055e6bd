"""Coordinates of points by their names: as features, in filters and as weights."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import reference

import dkde
from dkde.inputs.selectors import Catalog
from dkde.rows.point_columns import with_coordinates
from dkde.rows.row_filter import RowFilter
from dkde.rows.row_source import innermost

geopandas = pytest.importorskip("geopandas")

RNG = np.random.default_rng(4)
X, Y, DEPTH = np.sort(RNG.uniform(1, 9, 60)), RNG.uniform(1, 9, 60), RNG.uniform(0, 30, 60)


def frame(crs="EPSG:3857", **columns):
    points = geopandas.points_from_xy(X, Y, crs=crs)
    return geopandas.GeoDataFrame({"depth": DEPTH} | columns, geometry=points)


def parquet(**options):
    def write(data, folder):
        data.to_parquet(folder / "t.parquet", row_group_size=10, **options)
        return str(folder / "t.parquet")

    return write


def two_files(data, folder):
    # One in WKB, and one in GeoArrow's encoding.
    data[:25].to_parquet(folder / "a.parquet", row_group_size=10)
    data[25:].to_parquet(folder / "b.parquet", row_group_size=10, geometry_encoding="geoarrow")
    return str(folder / "*.parquet")


def plain(data, folder):
    # As other programs write it: only the metadata of the file tell of points.
    path = parquet(write_covering_bbox=True)(data, folder)
    table = pq.read_table(path)
    fields = [field.remove_metadata() for field in table.schema]
    table = table.cast(pa.schema(fields, metadata=table.schema.metadata))
    pq.write_table(table, path, row_group_size=10)
    return path


FORMS = {
    "GeoPandas": lambda data, folder: data,
    "GeoArrow": lambda data, folder: pa.table(data.to_arrow(geometry_encoding="geoarrow")),
    "GeoParquet": parquet(),
    "GeoParquet with boxes": parquet(write_covering_bbox=True),
    "GeoParquet of GeoArrow": parquet(geometry_encoding="geoarrow"),
    "plain GeoParquet": plain,
    "two files": two_files,
}


def plane(*columns, bandwidth=0.7, weights=None):
    rows = np.column_stack(columns)
    return reference.log_density(rows, rows, [bandwidth], weights=weights)[0]


# Others differ in how they are stored only.
QUICK = ("GeoPandas", "plain GeoParquet", "two files")


@pytest.mark.parametrize(
    "form", [pytest.param(n, marks=() if n in QUICK else pytest.mark.slow) for n in FORMS]
)
class TestNamed:
    @pytest.mark.sampled(5)
    @pytest.mark.parametrize(
        ("features", "columns"),
        [(["y", "x"], (Y, X)), (["y"], (Y,)), (["depth", "x"], (DEPTH, X))],
        ids=["both", "one", "beside a column"],
    )
    def test_features(self, form, features, columns, tmp_path):
        data = FORMS[form](frame(), tmp_path)
        found = dkde.log_density(data, data, 0.7, features=features)
        np.testing.assert_allclose(found, plane(*columns), rtol=1e-9)

    @pytest.mark.sampled(3)
    @pytest.mark.parametrize("features", [["x", "y"], ["depth"]], ids=["points", "depth"])
    def test_a_filter(self, form, features, tmp_path):
        data = FORMS[form](frame(), tmp_path)
        where = "x > 4 and (depth < 20 or not y <= 5)"
        kept = (X > 4) & ((DEPTH < 20) | (Y > 5))
        known = {"x": X, "y": Y, "depth": DEPTH}
        found = dkde.log_density(data, data, 0.7, features=features, where=where)
        right = plane(*(known[name][kept] for name in features))
        np.testing.assert_allclose(found, right, rtol=1e-9)

    def test_a_name_that_is_none_is_told_those_of_the_coordinates(self, form, tmp_path):
        data = FORMS[form](frame(), tmp_path)
        with pytest.raises(dkde.InputError, match=r"no column 'lon' for where; it has .*\bx, y"):
            dkde.log_density(data, data, 0.7, features=["depth"], where="lon > 4")

    def test_weights(self, form, tmp_path):
        data = FORMS[form](frame(), tmp_path)
        found = dkde.log_density(data, data, 0.7, features=["depth"], weights="x")
        np.testing.assert_allclose(found, plane(DEPTH, weights=X), rtol=1e-9)

    def test_a_latitude_and_a_longitude(self, form, tmp_path):
        data = FORMS[form](frame("EPSG:4326"), tmp_path)
        degrees = pd.DataFrame({"lat": Y, "lon": X})
        same = {"bandwidth": "500 km", "kernel": "vonmises_fisher"}
        found = dkde.log_density(data, data, lat="lat", lon="lon", **same)
        np.testing.assert_allclose(found, dkde.log_density(degrees, degrees, **same), rtol=1e-12)


@pytest.mark.parametrize(
    ("form", "n_groups"),
    [
        ("GeoParquet", 6),
        ("GeoParquet with boxes", 1),
        ("GeoParquet of GeoArrow", 1),
        ("plain GeoParquet", 1),
    ],
)
def test_row_groups_whose_coordinates_cannot_match_are_passed_over(form, n_groups, tmp_path):
    (part,) = Catalog().rows(FORMS[form](frame(), tmp_path)).parts
    chosen = RowFilter.parsed(f"x > {X[52]}")
    ranges = innermost(part.source).matching(
        lambda schema: chosen.arrow(with_coordinates(schema, chosen.names))
    )
    assert sum(stop - start for start, stop in ranges) == 10 * n_groups


@pytest.mark.parametrize("where", ["x > 100", "x < 1", "x is None", "not y is not None"])
@pytest.mark.parametrize("form", ["GeoParquet of GeoArrow", "two files"])
def test_filters_that_keep_no_point_of_a_file(form, where, tmp_path):
    data = FORMS[form](frame(), tmp_path)
    with pytest.raises(dkde.InputError, match="none of its 60 rows is one where"):
        dkde.log_density(data, data, 1.0, where=where, features=["x"])


def test_a_column_of_the_name_comes_first(tmp_path):
    data = FORMS["GeoParquet"](frame(x=DEPTH), tmp_path)
    found = dkde.log_density(data, data, 0.7, features=["x"])
    np.testing.assert_allclose(found, plane(DEPTH), rtol=1e-9)


def test_points_as_a_whole_are_not_compared(tmp_path):
    data = FORMS["GeoParquet"](frame(), tmp_path)
    with pytest.raises(dkde.InputError, match=r"'geometry' holds points, .* in where: x or y"):
        dkde.log_density(data, data, 1.0, features=["x"], where="geometry > 3")


def test_points_and_one_of_their_coordinates_are_not_both_features(tmp_path):
    data = FORMS["GeoParquet"](frame(), tmp_path)
    with pytest.raises(dkde.InputError, match="'x' is a coordinate of points that are named, too"):
        dkde.log_density(data, data, 1.0, features=["geometry", "x"])


@pytest.mark.parametrize("encoding", ["WKB", "geoarrow"])
def test_heights_and_missing_points_beside_a_filter(encoding, tmp_path):
    points = geopandas.points_from_xy([1.0, 2.0, 3.0], [0.0, 0.0, 0.0], [5.0, 6.0, 7.0])
    rows = geopandas.GeoDataFrame({"a": [1.0, 2.0, 3.0]}, geometry=points, crs="EPSG:3857")
    rows.loc[2, "geometry"] = None
    rows.to_parquet(tmp_path / "t.parquet", geometry_encoding=encoding)
    for where, n_rows in (("x > 0", 2), ("x is None", 1), ("not x == 1", 1)):
        found = dkde.describe(tmp_path / "t.parquet", ["a"], where=where)["splits"]["train"]
        assert (found["rows"], found["rows_in_all"]) == (n_rows, 3)


def test_a_result_of_coordinates_is_verified_and_keeps_the_crs(tmp_path):
    data = FORMS["GeoParquet"](frame(), tmp_path)
    store = str(tmp_path / "R.zarr")
    result = dkde.score(
        np.column_stack([X, Y]),
        data,
        0.7,
        features=["x", "y"],
        where={"query": "y > 3"},
        output=store,
    )
    assert result.attrs["crs"] == "EPSG:3857"
    assert dkde.verify(store)["exact"]


def test_coordinates_are_imported_by_name(tmp_path):
    data = FORMS["GeoParquet"](frame(), tmp_path)
    dkde.import_dataset(data, tmp_path / "d.zarr", columns=["y", "depth"])
    found = Catalog().rows(str(tmp_path / "d.zarr::train")).parts[0]
    assert found.features == ("y", "depth")
    np.testing.assert_array_equal(found.source.read(0, 60), np.column_stack([Y, DEPTH]))
