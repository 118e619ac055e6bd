"""``where`` for every container: the same numbers as for rows that are picked before."""

from functools import cache

import dask.array as da
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import reference
import xarray as xr

import dkde
from dkde.errors import InputError, NoVariableError
from dkde.rows.row_filter import RowFilter
from dkde.stores.listed_files import TRAFFIC

RNG = np.random.default_rng(5)
N = 60
FRAME = pd.DataFrame(
    {
        "x": RNG.normal(size=N),
        "y": RNG.normal(size=N),
        "year": RNG.integers(2018, 2022, N),
        "species": RNG.choice(["fox", "owl"], N),
        "when": pd.date_range("2020-01-01", periods=N, freq="10D"),
        "w": RNG.random(N),
    }
)
WHERE = "year >= 2020 and species == 'fox' and when < '2021-06-01'"
KEEP = np.asarray(
    (FRAME.year >= 2020) & (FRAME.species == "fox") & (FRAME.when < pd.Timestamp("2021-06-01"))
)
XY = ["x", "y"]
QUERY = RNG.normal(size=(7, 2))


@cache
def expected(*, weighted=False):
    weights = FRAME.w.to_numpy()[KEEP] if weighted else None
    return dkde.log_density(QUERY, FRAME[XY].to_numpy()[KEEP], 0.5, weights=weights)


def _dataset():
    found = xr.Dataset({name: ("obs", FRAME[name].to_numpy()) for name in FRAME if name != "when"})
    return found.assign_coords(when=("obs", FRAME.when.to_numpy()), obs=np.arange(N) + 100)


def _zarr(tmp_path):
    _dataset().to_zarr(tmp_path / "obs.zarr", consolidated=False)
    return str(tmp_path / "obs.zarr")


def _netcdf(tmp_path):
    _dataset().to_netcdf(tmp_path / "obs.nc", engine="h5netcdf")
    return str(tmp_path / "obs.nc")


def _csv(tmp_path):
    FRAME.to_csv(tmp_path / "obs.csv", index=False)
    return str(tmp_path / "obs.csv")


def _parquet(tmp_path):
    FRAME.to_parquet(tmp_path / "obs.parquet", row_group_size=9)
    return str(tmp_path / "obs.parquet")


def _dask_frame(path):
    dd = pytest.importorskip("dask.dataframe")
    return dd.from_pandas(FRAME.astype({"year": "Int32"}), npartitions=4)


CONTAINERS = {
    "dask frame": _dask_frame,
    "csv": _csv,
    "parquet": _parquet,
    "pandas": lambda path: FRAME,
    "categories": lambda path: FRAME.astype({"species": "category", "year": "Int16"}),
    "arrow": lambda path: FRAME.convert_dtypes(dtype_backend="pyarrow"),
    "xarray": lambda path: _dataset(),
    "lazy xarray": lambda path: _dataset().chunk(obs=13),
    "zarr": _zarr,
    "netcdf": _netcdf,
}


@pytest.fixture(params=CONTAINERS)
def train(request, tmp_path):
    return CONTAINERS[request.param](tmp_path)


def test_any_column_of_any_container_chooses_rows(train):
    found = dkde.log_density(QUERY, train, 0.5, features=XY, where={"train": WHERE})
    np.testing.assert_allclose(found, expected(), rtol=1e-12)


@pytest.mark.sampled(5)
def test_weights_by_name_and_as_arrays_are_filtered_alike(train):
    options = {"features": XY, "where": {"train": WHERE}}
    for weights in ("w", FRAME.w.to_numpy(), da.from_array(FRAME.w.to_numpy(), chunks=11)):
        found = dkde.log_density(QUERY, train, 0.5, weights=weights, **options)
        np.testing.assert_allclose(found, expected(weighted=True), rtol=1e-12)
    with pytest.raises(InputError, match=f"train weights are {KEEP.sum()}, one for each row that"):
        dkde.log_density(QUERY, train, 0.5, weights=FRAME.w.to_numpy()[KEEP], **options)
    with pytest.raises(InputError, match="train weights have shape"):
        dkde.log_density(QUERY, train, 0.5, weights=FRAME.w.to_numpy()[:3], **options)


@pytest.mark.sampled(3)
def test_a_query_has_scores_of_the_rows_kept(train):
    found = dkde.log_density(train, QUERY, 0.5, features=XY, where={"query": WHERE})
    expected = dkde.log_density(FRAME[XY].to_numpy()[KEEP], QUERY, 0.5)
    np.testing.assert_allclose(np.asarray(found), expected, rtol=1e-12)
    if isinstance(found, xr.DataArray) and "obs" in found.dims:
        np.testing.assert_array_equal(found["obs"], np.flatnonzero(KEEP) + 100)
        np.testing.assert_array_equal(found["when"], FRAME.when[KEEP])


@pytest.mark.sampled(3)
def test_cross_validation_leaves_out_rows_and_their_weights(train):
    found = dkde.cross_validate(
        train, bandwidths=[0.2, 0.8, 3.0], folds=3, features=XY, where=WHERE, weights="w"
    )
    frame = FRAME[KEEP].reset_index(drop=True)
    expected = dkde.cross_validate(
        frame, bandwidths=[0.2, 0.8, 3.0], folds=3, features=XY, weights="w"
    )
    np.testing.assert_allclose(found["log_density"], expected["log_density"], rtol=1e-9)


def test_a_wrong_filter_is_one_line(train):
    with pytest.raises(NoVariableError, match="'month'") as refused:
        dkde.log_density(QUERY, train, 0.5, features=XY, where={"train": "month == 3"})
    assert "year" in str(refused.value)
    for text, message in {
        "year > 2030": f"none of its {N} rows is one where year > 2030",
        "species == 3": "column 'species' holds text, and is compared with 3",
        "year == (2020": "where: ",
    }.items():
        with pytest.raises(InputError, match=message) as refused:
            dkde.log_density(QUERY, train, 0.5, features=XY, where={"train": text})
        assert len(str(refused.value).splitlines()) == 1


def test_both_sides_are_filtered_by_one_text_and_features_by_default():
    frame = FRAME[["x", "y"]]
    found = dkde.log_density(frame, frame, 0.5, where="x > 0")
    rows = frame[frame.x > 0].to_numpy()
    np.testing.assert_allclose(found, dkde.log_density(rows, rows, 0.5), rtol=1e-12)
    # Text that only the filter uses is not reported as left out.
    dkde.log_density(QUERY, FRAME[["x", "y", "species"]], 0.5, where={"train": "species == 'fox'"})


def test_grids_become_points_with_their_coordinates():
    lat, lon = np.linspace(-1, 1, 5), np.linspace(0, 1, 4)
    grid = xr.Dataset(coords={"lat": lat, "lon": lon, "t": 3.0})
    grid["depth"] = (("lat", "lon"), np.arange(20.0).reshape(5, 4))
    found = dkde.log_density(
        grid,
        QUERY,
        0.5,
        features={"query": ["lat", "lon"]},
        where={"query": "depth >= 7 and lat < 0.9"},
    )
    keep = np.arange(7, 16)
    assert found.dims == ("sample",)
    np.testing.assert_array_equal(found["source_row"], keep)
    np.testing.assert_allclose(found["lat"], lat[keep // 4])
    points = np.column_stack([lat[keep // 4], lon[keep % 4]])
    np.testing.assert_allclose(found, dkde.log_density(points, QUERY, 0.5), rtol=1e-12)
    back = found.compute().set_index(sample=["lat", "lon"]).unstack("sample")
    assert back.sizes == {"lat": 3, "lon": 4}
    assert int(back.isnull().sum()) == 3


@pytest.mark.sampled(4)
def test_messages_name_rows_by_their_numbers_before_the_filter(train):
    rows = FRAME.copy()
    at = int(np.flatnonzero(KEEP)[4])
    rows.loc[at, "x"] = np.nan
    with pytest.raises(InputError, match=f"train: row {at}, x is nan"):
        dkde.log_density(QUERY, rows, 0.5, features=XY, where={"train": WHERE})
    lazy = xr.Dataset.from_dataframe(rows).chunk(index=7)
    with pytest.raises(InputError, match=f"train: row {at}, x is nan"):
        dkde.log_density(QUERY, lazy, 0.5, features=XY, where={"train": WHERE})
    weights = FRAME.w.to_numpy().copy()
    weights[at] = -1
    with pytest.raises(InputError, match=f"the weight of row {at}"):
        dkde.log_density(QUERY, train, 0.5, features=XY, where={"train": WHERE}, weights=weights)


def test_estimators_fit_the_rows_that_a_filter_keeps_and_score_all():
    model = dkde.KernelDensity(bandwidth=0.5, features=XY, where=WHERE)
    found = model.fit(FRAME, sample_weight=FRAME.w).score_samples(FRAME)
    expected = dkde.log_density(
        FRAME[XY], FRAME[KEEP], 0.5, weights=FRAME.w.to_numpy()[KEEP], features=XY
    )
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    lazy = model.fit(_dataset().chunk(obs=20), sample_weight="w").score_samples(_dataset())
    np.testing.assert_allclose(lazy, expected, rtol=1e-12)
    with pytest.raises(
        InputError, match=f"sample_weight has 3 values; give one for each of the {N}"
    ):
        model.fit(FRAME, sample_weight=[1, 2, 3])
    with pytest.raises(NoVariableError, match="X: has no column 'year'"):
        dkde.KernelDensity(bandwidth=0.5, where="year == 2020").fit(QUERY)


@pytest.mark.slow
def test_hive_folders_read_only_the_row_groups_that_can_match(tmp_path):
    n = 600_000
    rng = np.random.default_rng(3)
    frame = pd.DataFrame({"x": rng.normal(size=n), "y": rng.normal(size=n)})
    frame["month"] = np.arange(n) // 75_000  # row groups hold a month each
    frame["year"] = 2018 + np.arange(n) // 150_000
    for year, rows in frame.groupby("year"):
        folder = tmp_path / f"year={year}"
        folder.mkdir()
        rows.drop(columns="year").to_parquet(folder / "part.parquet", row_group_size=75_000)
    where = "year == 2019 and month in [3, 9] and x > 0"
    keep = ((frame.year == 2019) & frame.month.isin([3, 9]) & (frame.x > 0)).to_numpy()
    options = {"features": XY, "where": {"train": where}}
    before = TRAFFIC.n_bytes
    found = dkde.log_density(QUERY, str(tmp_path), 0.5, **options)
    counted = TRAFFIC.n_bytes - before
    expected = dkde.log_density(QUERY, frame[XY].to_numpy()[keep], 0.5)
    np.testing.assert_allclose(found, expected, rtol=1e-9)
    # One row group of eight, and some fixed costs: footers, and a sample of the first rows.
    before = TRAFFIC.n_bytes
    dkde.log_density(QUERY, str(tmp_path), 0.5, features=XY)
    assert counted < (TRAFFIC.n_bytes - before) / 2


@pytest.mark.sampled(3)
@pytest.mark.parametrize("row_group_size", [1, 2, 100])
@pytest.mark.parametrize(
    "where",
    ["depth is None", "not depth is not None", "depth is not None", "depth != 3.0", "zero == 0",
     f"zero in {[0, *range(5, 30)]}", "count == depth", "count >= depth", "count > 0.5"],
)  # fmt: skip
def test_statistics_of_row_groups_change_no_choice(where, row_group_size, tmp_path):
    held = {
        "x": np.arange(6.0),
        "depth": np.array([np.nan, 3.0, 3.0, np.nan, np.nan, 5.0]),
        "zero": np.array([0.0, -0.0, 0.0, 1.0, 5.0, np.nan]),
        "count": np.array([3, 3, 3, 2**53 + 1, 2**63 - 1, -(2**63)]),
    }
    table = pa.table({name: pa.array(values) for name, values in held.items()})
    pq.write_table(table, tmp_path / "t.parquet", row_group_size=row_group_size)
    kept = np.arange(6.0)[RowFilter.parsed(where).mask(held)]
    found = dkde.log_density(
        np.array([[0.0]]), str(tmp_path / "t.parquet"), 1.0, features=["x"], where={"train": where}
    )
    expected = reference.log_density(np.array([[0.0]]), kept[:, None], [1.0])
    np.testing.assert_allclose(found, expected[0], rtol=1e-12)


def test_folds_and_groups_are_those_of_the_rows_before_the_filter():
    folds = np.arange(N) % 3
    call = {"bandwidths": [0.2, 0.8, 3.0], "features": XY}
    found = dkde.cross_validate(FRAME, folds=folds, where=WHERE, **call)
    expected = dkde.cross_validate(FRAME[KEEP], folds=folds[KEEP], **call)
    np.testing.assert_allclose(found["log_density"], expected["log_density"], rtol=1e-9)
    with pytest.raises(InputError, match=f"folds are {KEEP.sum()}, one for each row that where"):
        dkde.cross_validate(FRAME, folds=folds[KEEP], where=WHERE, **call)
    numbers = np.arange(N)
    found = dkde.log_density(
        FRAME, FRAME, 0.5, features=XY, where=WHERE, groups=numbers, train_groups=numbers
    )
    rows, some = FRAME.loc[KEEP, XY], numbers[KEEP]
    expected = dkde.log_density(rows, rows, 0.5, groups=some, train_groups=some)
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_labels_of_a_split_in_xarray_are_compared_by_name(tmp_path):
    FRAME.drop(columns="when").to_csv(tmp_path / "obs.csv", index=False)
    dkde.import_dataset(tmp_path / "obs.csv", tmp_path / "obs.zarr", label="species")
    split = dkde.open_dataset(tmp_path / "obs.zarr")["train"]
    keep = (FRAME.species == "fox").to_numpy()
    expected = dkde.log_density(QUERY, FRAME[XY].to_numpy()[keep], 0.5)
    for where in ("label == 'fox'", f"label == {int(split['label'][keep][0])}"):
        found = dkde.log_density(QUERY, split, 0.5, features=XY, where={"train": where})
        np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_polars_and_text_of_arrow_in_any_layout():
    pl, pa = pytest.importorskip("polars"), pytest.importorskip("pyarrow")
    table = pa.Table.from_pandas(FRAME)
    at = table.schema.get_field_index("species")
    views = table.set_column(at, "species", table["species"].cast("string_view"))
    for held in (pl.from_pandas(FRAME), table, views):
        found = dkde.log_density(QUERY, held, 0.5, features=XY, where={"train": WHERE})
        np.testing.assert_allclose(found, expected(), rtol=1e-12)


def test_data_frames_get_the_index_of_the_rows_kept():
    frame = FRAME.set_index(FRAME.index + 1000)
    call = {"features": XY, "where": {"query": WHERE}, "as_frame": True}
    found = dkde.log_density(frame, QUERY, 0.5, **call)
    np.testing.assert_array_equal(found.index, np.flatnonzero(KEEP) + 1000)
    expected = dkde.log_density(FRAME[XY].to_numpy()[KEEP], QUERY, 0.5)
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    with pytest.raises(InputError, match="of a Dask DataFrame is not known"):
        dkde.log_density(_dask_frame(None), QUERY, 0.5, **call)


def test_a_column_of_lists_is_refused_in_a_line():
    pa = pytest.importorskip("pyarrow")
    table = pa.table({"x": [1.0, 2.0], "held": [[1.0, 2.0], [3.0, 4.0]]})
    for held in (table, table.to_pandas()):
        for condition in ("held is None", "x == 1 or held > 3"):
            with pytest.raises(
                InputError, match=r"'held' holds objects of .*, which a filter does"
            ):
                dkde.log_density(
                    [[0.0]], held, 1.0, features={"train": ["x"]}, where={"train": condition}
                )


def test_categories_of_a_lazy_frame_are_compared():
    polars = pytest.importorskip("polars")
    frame = polars.DataFrame({"x": [1.0, 2.0, 3.0], "kind": ["a", "b", "a"]})
    lazy = frame.with_columns(polars.col("kind").cast(polars.Categorical)).lazy()
    found = dkde.log_density(
        [[0.0]], lazy, 1.0, features={"train": ["x"]}, where={"train": "kind == 'a'"}
    )
    assert found == pytest.approx(dkde.log_density([[0.0]], [[1.0], [3.0]], 1.0), rel=1e-12)
