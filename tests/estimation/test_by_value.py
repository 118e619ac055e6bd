"""One density for each value of a variable: the numbers of one call for each of them."""

import warnings

import dask.array as da
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from reference import log_density as reference

import dkde
from dkde.errors import InputError

N, NAMES = 90, ["x", "y"]
RNG = np.random.default_rng(8)
X = RNG.normal(size=(N, 2))
Q = RNG.normal(size=(12, 2))
W = RNG.random(N)
KIND = np.array(["ant", "bee", "cat"])[RNG.integers(0, 3, N)]
DAYS = np.datetime64("2019-12-20") + np.arange(N) * np.timedelta64(17, "D")


@pytest.fixture(scope="module")
def frame():
    return pd.DataFrame({"x": X[:, 0], "y": X[:, 1], "kind": KIND, "w": W, "day": DAYS})


def near(found, expected):
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("kernel", ["gaussian", "epanechnikov"])
def test_each_group_is_as_the_formula_has_it(kernel):
    found = dkde.log_density(Q, X, [0.3, 1.5], kernel=kernel, by=KIND, weights=W)
    assert found.dims == ("by", "bandwidth", "sample")
    for kind in found.by.values:
        of = kind == KIND
        expected = reference(Q, X[of], [0.3, 1.5], W[of], kernel=kernel)
        near(found.sel(by=kind), expected)


@pytest.mark.sampled(3)
@pytest.mark.parametrize("seed", range(6))
def test_each_group_is_as_one_call_for_it(seed):
    rng = np.random.default_rng(seed)
    n, d, m = rng.integers(20, 300), rng.integers(1, 120), rng.integers(1, 40)
    scale, offset = 10.0 ** rng.integers(-3, 4), 100 * rng.normal()
    rows, query = (scale * (rng.normal(size=(k, d)) + offset) for k in (n, m))
    labels, weights = rng.integers(0, 4, n), rng.random(n)
    bandwidth = [[0.5 * scale, scale], "scott", scale][seed % 3]
    given = {"block_rows": int(rng.integers(3, 50)), "panel_rows": int(rng.integers(5, 90))}
    options = {"covariance": "diag", "singular": "drop"} if seed % 2 else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = dkde.score(query, rows, bandwidth, by=labels, weights=weights, **given, **options)
        for label in found.by.values:
            of = labels == label
            one = dkde.score(query, rows[of], bandwidth, weights=weights[of], **options)
            at = dkde.groups_of(found)[label]
            near(at.log_density, one.log_density)
            near(at.bandwidth, one.bandwidth)
            near(at.mean_log_likelihood, one.mean_log_likelihood)
            assert (at.log_density_error <= 2e-9 * np.maximum(1, abs(at.log_density))).all()


@pytest.mark.sampled(3)
@pytest.mark.parametrize(
    "form",
    ["array", "dask", "pandas", "polars", "arrow", "dataset", "grid", "parquet", "csv", "nc"],
)
def test_of_every_container(form, frame, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    expected = {k: dkde.log_density(Q, X[k == KIND], 0.5, weights=W[k == KIND]) for k in set(KIND)}
    named = {"by": "kind", "weights": "w", "features": NAMES}
    query = pd.DataFrame(Q, columns=NAMES)
    if form in ("array", "dask"):
        rows = X if form == "array" else da.from_array(X, chunks=(20, 2))
        named, query = {"by": KIND, "weights": W}, Q
    elif form == "pandas":
        rows = frame
    elif form == "polars":
        rows = pytest.importorskip("polars").from_pandas(frame)
    elif form == "arrow":
        rows = pytest.importorskip("pyarrow").Table.from_pandas(frame)
    elif form == "dataset":
        rows = xr.Dataset.from_dataframe(frame).set_coords("kind")
    elif form == "grid":
        as_grid = {
            name: (("a", "b"), np.asarray(frame[name].to_list()).reshape(9, 10)) for name in frame
        }
        rows = xr.Dataset(as_grid).set_coords("kind")
    else:
        rows = f"rows.{form}"
        if form == "parquet":
            frame.to_parquet(rows)
        elif form == "csv":
            frame.to_csv(rows, index=False)
        else:
            xr.Dataset.from_dataframe(frame).to_netcdf(rows)
    found = dkde.log_density(query, rows, 0.5, **named)
    for kind, values in expected.items():
        near(found[{found.dims[0]: list(found[found.dims[0]].values).index(kind)}], values)


def test_of_lazy_queries_with_their_coordinates():
    found = dkde.log_density("test", "train", [1.0, 2.0], by="label", source="digits")
    assert found.chunks is not None
    assert found.dims == ("label", "bandwidth", "sample")
    assert "query_label" in found.coords
    one = dkde.log_density("test", "train[label=4]", [1.0, 2.0], source="digits")
    np.testing.assert_array_equal(found.sel(label=4), one)


@pytest.mark.parametrize("as_table", ["pandas", "polars", "arrow"])
def test_a_data_frame_gets_a_column_for_each_group(frame, as_table):
    query = pd.DataFrame(Q, columns=NAMES, index=range(5, 17))
    if as_table == "polars":
        query = pytest.importorskip("polars").from_pandas(query)
    elif as_table == "arrow":
        query = pytest.importorskip("pyarrow").Table.from_pandas(query, preserve_index=False)
    found = dkde.log_density(query, frame, 0.5, by="kind", features=NAMES, as_frame=True)
    names = found.column_names if as_table == "arrow" else list(found.columns)
    assert names == ["log_density_ant", "log_density_bee", "log_density_cat"]
    near(found["log_density_bee"], dkde.log_density(Q, X[KIND == "bee"], 0.5))
    if as_table == "pandas":
        assert found.index.tolist() == query.index.tolist()
        both = dkde.log_density(query, frame, [0.5, 1], by="kind", features=NAMES, as_frame=True)
        assert both.columns[:2].tolist() == ["log_density_ant_0.5", "log_density_ant_1.0"]


def test_groups_that_do_not_count_and_bounds(frame):
    groups = np.arange(N)
    values, errors = dkde.log_density(
        X, X, 0.5, by=KIND, groups=groups, train_groups=groups, return_error=True
    )
    of = KIND == "cat"
    one = dkde.log_density(X, X[of], 0.5, groups=groups, train_groups=groups[of])
    near(values.sel(by="cat"), one)
    assert errors.dims == values.dims


class TestValues:
    @pytest.mark.sampled(3)
    @pytest.mark.parametrize(
        ("part", "expected"),
        [
            ("month", DAYS.astype("M8[M]").astype(int) % 12 + 1),
            ("year", DAYS.astype("M8[Y]").astype(int) + 1970),
            ("dayofweek", pd.DatetimeIndex(DAYS).day_of_week),
            ("dayofyear", pd.DatetimeIndex(DAYS).day_of_year),
            ("quarter", pd.DatetimeIndex(DAYS).quarter),
            ("hour", pd.DatetimeIndex(DAYS).hour),
            ("day", pd.DatetimeIndex(DAYS).day),
        ],
    )
    @pytest.mark.filterwarnings("ignore:.* fewer than 3 rows")
    def test_parts_of_times(self, frame, part, expected):
        expected = np.asarray(expected)
        found = dkde.log_density(Q, frame, 0.5, by=f"day.{part}", features=NAMES)
        assert found.dims[0] == part
        np.testing.assert_array_equal(found[part], np.unique(expected))
        value = expected[3]
        near(found.sel({part: value}), dkde.log_density(Q, X[expected == value], 0.5))

    def test_seasons_are_those_of_xarray(self):
        times = pd.date_range("1960-01-01", "1980-12-31", freq="5D")
        rows = xr.Dataset({"x": ("time", np.arange(len(times)) * 1.0)}, {"time": times})
        found = dkde.log_density(rows, rows, 9.0, by="time.season", features=["x"])
        of = (rows.time.dt.season == "MAM").values
        near(found.sel(season="MAM"), dkde.log_density(rows, rows.isel(time=of), 9.0))

    def test_other_columns_have_no_parts_of_times(self, frame):
        with pytest.raises(InputError, match=r"column 'kind' holds no times, which 'kind.month'"):
            dkde.log_density(Q, frame, 0.5, by="kind.month", features=NAMES)

    def test_rows_without_a_value_are_left_out_and_counted(self, frame):
        kind = frame.kind.where(np.arange(N) % 9 > 0)
        with pytest.warns(UserWarning, match=r"10 of the 90 rows of train have no value of 'kind'"):
            found = dkde.log_density(
                Q, frame.assign(kind=kind), "scott", by="kind", features=NAMES,
                common_bandwidth=True,
            )  # fmt: skip
        there = kind.notna().values
        h = sum(there) ** (-1 / 6)  # of the rows that have a value
        near(found.group_bandwidth, [h] * 3)
        near(found.sel(kind="cat"), dkde.log_density(Q, X[there & (KIND == "cat")], h))

    @pytest.mark.parametrize("form", ["masked", "nullable", "polars", "arrow", "csv", "parquet"])
    def test_numbers_that_are_missing_are_no_zeros(self, form, frame, tmp_path):
        numbers = np.arange(N) % 3
        missing = np.arange(N) % 7 == 0
        frame = frame.assign(by=pd.arrays.IntegerArray(numbers, missing))
        rows, by = frame, "by"
        if form == "masked":
            rows, by = X, np.ma.masked_array(numbers, missing)
        elif form == "polars":
            rows = pytest.importorskip("polars").from_pandas(frame)
        elif form == "arrow":
            rows = pytest.importorskip("pyarrow").Table.from_pandas(frame)
        elif form != "nullable":
            rows = f"{tmp_path}/rows.{form}"
            getattr(frame, f"to_{form}")(rows, index=False)
        query = Q if form == "masked" else pd.DataFrame(Q, columns=NAMES)
        features = None if form == "masked" else NAMES
        with pytest.warns(UserWarning, match=f"{missing.sum()} of the {N} rows of train have no"):
            found = dkde.log_density(query, rows, 0.5, by=by, features=features)
        for k in range(3):
            near(found.sel(by=k), dkde.log_density(Q, X[(numbers == k) & ~missing], 0.5))

    @pytest.mark.filterwarnings("ignore:.* share rows")
    @pytest.mark.parametrize("form", ["csv", "parquet", "pandas"])
    @pytest.mark.parametrize("column", ["kind", "number", "whole", "day"])
    def test_rows_without_a_value_in_every_container(self, frame, form, column, tmp_path):
        there = np.arange(N) % 9 > 0
        table = frame[NAMES].assign(
            kind=frame.kind, number=np.arange(N) % 2 + 1.0, whole=np.arange(N) % 2 + 1,
            day=np.datetime64("2020-01-01") + np.arange(N) % 2 * np.timedelta64(1, "D"),
        ).astype({"whole": "Int64"})  # fmt: skip
        table[column] = table[column].where(there)
        rows = table
        if form != "pandas":
            rows = str(tmp_path / f"rows.{form}")
            write = table.to_parquet if form == "parquet" else table.to_csv
            write(rows, index=False)
        with pytest.warns(UserWarning, match="10 of the 90 rows of train have no value of"):
            found = dkde.score(rows, rows, 0.5, by=column, features=NAMES)
        values = table[column].dropna()
        assert found.sizes[column] == values.nunique()
        least = (table[column] == values.min()).fillna(value=False).to_numpy(bool)
        near(found.log_density[0, 0], dkde.log_density(X, X[least], 0.5))

    @pytest.mark.filterwarnings("ignore:.* share rows")
    def test_after_a_filter(self, frame):
        found = dkde.score(
            frame[NAMES], frame, 0.5, by="kind", weights="w", where={"train": "y > 0"},
            features=NAMES, query_weights=np.ones(N),
        )  # fmt: skip
        of = (X[:, 1] > 0) & (KIND == "bee")
        near(found.log_density.sel(kind="bee")[0], dkde.log_density(X, X[of], 0.5, weights=W[of]))
        given = dkde.log_density(
            X, frame, 0.5, by=KIND, weights=W, where={"train": "y > 0"}, features=NAMES
        )
        near(given.sel(by="bee"), found.log_density.sel(kind="bee")[0])

    @pytest.mark.parametrize(
        ("by", "message"),
        [
            (X[:, 0], r"by: 'by' has 90 different values.* in all; round|would be a group; round"),
            (np.arange(N)[:50], r"by has the shape \(50,\).*a value for each of the 90 rows of tr"),
            (np.full(N, None), "no row has a value of 'by'"),
            ([[1, 2]] * N, "by has the shape"),
            ([{}] * N, "by holds no numbers, text, True and False, or times"),
            ("nosuch", "has no variable 'nosuch' to be by"),
        ],
    )
    def test_what_makes_no_groups_is_refused(self, by, message, monkeypatch):
        monkeypatch.setattr("dkde.inputs.dividing._MOST_FLOATS", 50)
        with pytest.raises(InputError, match=message):
            dkde.log_density(Q, X, 0.5, by=by)

    def test_row_numbers_are_refused(self):
        rows = np.zeros((1001, 1))
        with pytest.raises(InputError, match=r"has 1001 different values .*; name a variable"):
            dkde.log_density(rows, rows, 0.5, by=np.arange(1001))


class TestBandwidths:
    def test_each_group_has_its_own_by_a_rule(self):
        found = dkde.score(Q, X, ["scott", 0.5], by=KIND, covariance="diag")
        assert found.bandwidth.values.tolist() == ["scott", "0.5"]
        for i, kind in enumerate(found.by.values):
            one = dkde.score(Q, X[kind == KIND], ["scott", 0.5], covariance="diag")
            near(found.group_bandwidth[i], one.bandwidth)
            near(found.group_scale[i], X[kind == KIND].std(axis=0, ddof=1))

    def test_or_the_one_of_all_rows(self):
        found = dkde.score(Q, X, "scott", by=KIND, covariance="full", common_bandwidth=True)
        h = N ** (-1 / 6)
        near(found.bandwidth, [h])
        assert "group_scale" not in found
        of = KIND == "ant"
        one = dkde.log_density(Q, X[of], h, covariance=np.cov(X.T))
        near(found.log_density.sel(by="ant")[0], one)

    def test_it_needs_groups(self):
        with pytest.raises(InputError, match="common_bandwidth is for the groups of by"):
            dkde.score(Q, X, 0.5, common_bandwidth=True)

    def test_small_groups_are_named(self):
        labels = np.repeat([0, 1, 2], [2, 1, N - 3])
        with pytest.warns(UserWarning, match=r"by = 0, 1: fewer than 3 rows"):
            dkde.score(Q, X, 0.5, by=labels)
        with pytest.raises(InputError, match=r"by = 1: one row, from which no rule finds"):
            dkde.score(Q, X, "scott", by=labels)

    def test_an_error_names_the_group(self):
        labels = np.repeat([0, 1], [4, N - 4])
        with pytest.raises(InputError, match="by = 0: bandwidth 'isj' finds no bandwidth"):
            dkde.score(Q, X, "isj", by=labels)

    @pytest.mark.filterwarnings("ignore:.* share rows")
    def test_on_the_sphere(self):
        places = pd.DataFrame({"lat": 20 * X[:, 0], "lon": 30 * X[:, 1], "kind": KIND})
        given = {"kernel": "vonmises_fisher", "features": ["lat", "lon"]}
        found = dkde.score(places, places, "500km", by="kind", **given)
        one = dkde.groups_of(found)["bee"]
        expected = dkde.score(places, places[KIND == "bee"], "500km", **given)
        near(one.log_density, expected.log_density)
        assert one.bandwidth.attrs["units"] == "km"


CALL = {
    "features": NAMES, "by": "kind", "weights": "w", "query_weights": "w", "block_rows": 30,
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:.* share rows")
class TestRuns:
    @pytest.fixture(autouse=True)
    def rows(self, frame, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        frame.to_parquet("rows.parquet")

    def score(self, **given):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return dkde.score("rows.parquet", "rows.parquet", ["scott", 1.0], **CALL, **given)

    @pytest.mark.slow
    def test_a_result_is_kept_and_verified(self):
        expected = self.score()
        self.score(output="r.zarr")
        xr.testing.assert_identical(
            self.score(output="r.zarr").load().drop_attrs(), expected.drop_attrs()
        )
        found = dkde.verify("r.zarr", blocks=100)
        assert (found["blocks"], found["verified"], found["of"]) == (9, 9, 9)
        assert (found["exact"], found["unverified"], found["reason"]) == (True, (), None)
        with pytest.raises(dkde.DataSetError, match="was begun otherwise"):
            self.score(output="r.zarr", common_bandwidth=True)

    @pytest.mark.slow
    def test_a_run_of_groups_is_no_other_one(self):
        self.score(output="r.zarr")
        alone = {name: value for name, value in CALL.items() if name != "by"}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with pytest.raises(dkde.DataSetError, match='begun with by="kind", and this call is w'):
                dkde.score("rows.parquet", "rows.parquet", ["scott", 1.0], **alone, output="r.zarr")
            dkde.score("rows.parquet", "rows.parquet", ["scott", 1.0], **alone, output="s.zarr")
        with pytest.raises(dkde.DataSetError, match='without by, and this call has by="kind"'):
            self.score(output="s.zarr")
        with pytest.raises(dkde.DataSetError, match=r"\d works of groups, .*and there are \d now"):
            self.score(output="r.zarr", where="kind == 'bee'")

    @pytest.mark.slow
    def test_a_result_of_one_group_is_verified(self):
        self.score(output="r.zarr", where="kind == 'bee'")
        found = dkde.verify("r.zarr", blocks=100)
        assert found["exact"]
        assert found["blocks"] > 0

    @pytest.mark.slow
    def test_damage_of_a_later_group_is_found(self):
        import zarr

        self.score(output="r.zarr")
        array = zarr.open_array("r.zarr/log_density_error", mode="r+")
        array[2, 0, 5] = array[2, 0, 5] + 1e-3
        with pytest.raises(dkde.DataSetError, match="query rows 0 to 30 come out different"):
            dkde.verify("r.zarr", blocks=100)

    def test_a_run_that_is_stopped_goes_on(self, monkeypatch):
        from dkde.runs.stages import Stage

        write, seen = Stage.write_rows, []

        def stop(self, q, densities):
            write(self, q, densities)
            seen.append(self.name)
            if len(seen) == 5:
                raise KeyboardInterrupt

        monkeypatch.setattr(Stage, "write_rows", stop)
        with pytest.raises(KeyboardInterrupt):
            self.score(output="r.zarr")
        stages = dkde.status("r.zarr")["stages"]
        assert [stage["done"] for stage in stages.values()] == [3, 2]
        found = self.score(output="r.zarr")
        assert len(seen) == 9
        xr.testing.assert_identical(found.load().drop_attrs(), self.score().drop_attrs())

    def test_parts_share_out_the_blocks_of_all_groups(self):
        with dkde.init_only():
            self.score(output="r.zarr")
        dkde.run_part("r.zarr", 0, 2)
        with pytest.raises(dkde.IncompleteError, match="4 of 9 blocks are missing, all of part 1"):
            dkde.finish("r.zarr")
        dkde.run_part("r.zarr", 1, 2)
        xr.testing.assert_identical(
            dkde.finish("r.zarr").load().drop_attrs(), self.score().drop_attrs()
        )

    def test_groups_of_one_block_each_are_not_all_in_one_part(self):
        given = {"by": "kind", "block_rows": N, "panel_rows": N, "features": NAMES}
        with dkde.init_only():
            dkde.score("rows.parquet", "rows.parquet", 1.0, output="r.zarr", **given)
        for part in (2, 0):
            dkde.run_part("r.zarr", part, 3)
        stages = dkde.status("r.zarr")["stages"]
        assert [stage["done"] for stage in stages.values()] == [1, 0, 1]
        with pytest.raises(dkde.IncompleteError, match="1 of 3 blocks are missing, all of part 1"):
            dkde.finish("r.zarr")

    def test_a_table_as_output(self):
        self.score(output="r.csv")
        table = pd.read_csv("r.csv")
        expected = dkde.groups_of(self.score())
        for kind, rows in table.groupby("kind"):
            near(rows.log_density, expected[kind].log_density.values.T.ravel())
            near(rows.bandwidth[:2], expected[kind].bandwidth)


class TestMaps:
    def test_each_map_is_as_one_call_for_it(self, frame):
        found = dkde.density_map(
            frame,
            "silverman",
            features=NAMES,
            by="kind",
            weights="w",
            cells=20,
            expected=True,
            levels=50,
        )
        assert found.density.dims == ("kind", "y", "x")
        assert found.cell_area.dims == ()
        weights = frame.groupby("kind").w.sum()
        np.testing.assert_allclose(found.expected_count.sum(["x", "y"]), weights, rtol=1e-5)
        for kind, one in dkde.groups_of(found).items():
            rows = frame[frame.kind == kind]
            expected = dkde.density_map(
                rows, "silverman", features=NAMES, weights="w", like=found[["x", "y"]],
                expected=True, levels=50,
            )  # fmt: skip
            near(one.density, expected.density)
            near(one.level_density, expected.level_density)
            near(one.bandwidth, expected.bandwidth)

    @pytest.mark.slow
    def test_of_months_kept_and_read_with_other_levels(self, frame, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        frame.to_parquet("rows.parquet")
        given = {"features": NAMES, "by": "day.season", "cells": 16, "output": "m.zarr"}
        dkde.density_map("rows.parquet", 0.5, **given)
        found = dkde.density_map("rows.parquet", 0.5, **given, levels=[50, 90])
        assert found.level_area.sizes == {"season": 4, "level": 2}
        assert dkde.verify("m.zarr")["exact"]

    @pytest.mark.filterwarnings("ignore:.* fewer than 3 rows")
    def test_a_feature_cannot_be_the_groups_dim(self, frame):
        rows = frame.assign(x=frame.x.round())
        with pytest.raises(InputError, match="'x' would be the name of the groups' dim"):
            dkde.density_map(rows, 0.5, features=NAMES, by="x")


@pytest.mark.parametrize("name", ["group_bandwidth", "group_scale", "group_feature", "query_kind"])
def test_a_coordinate_with_a_name_of_the_result_is_refused(name):
    query = xr.Dataset(
        {"x": ("sample", Q[:, 0])},
        {"kind": ("sample", range(len(Q))), name: ("sample", range(len(Q)))},
    )
    train = xr.Dataset({"x": ("row", X[:, 0])}, {"kind": ("row", KIND)})
    with pytest.raises(InputError, match=f"query has a dim or coordinate '{name}'"):
        dkde.score(query, train, 0.5, by="kind", features="x")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.* share rows")
def test_on_dask_workers(frame, tmp_path, monkeypatch):
    from distributed import Client, LocalCluster

    monkeypatch.chdir(tmp_path)
    frame.to_parquet("rows.parquet")
    given = {"features": NAMES, "by": "kind", "block_rows": 20}
    expected = dkde.score("rows.parquet", "rows.parquet", "scott", **given)
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
        Client(cluster),
    ):
        found = dkde.score("rows.parquet", "rows.parquet", "scott", **given)
    np.testing.assert_array_equal(found.log_density, expected.log_density)


@pytest.mark.slow
@pytest.mark.alone
def test_ten_groups_take_as_long_as_all_rows(mnist_store):
    """All pairs count, and are the same: summed apart, they take at most a fifth more."""
    from resource import RUSAGE_SELF, getrusage

    def seconds(**given):
        before = getrusage(RUSAGE_SELF)
        dkde.score(f"{mnist_store}::test[:500]", f"{mnist_store}::train", 5.0, **given)
        after = getrusage(RUSAGE_SELF)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    seconds(), seconds(by="label")  # compiles
    once, apart = (min(seconds(**given) for _ in range(3)) for given in ({}, {"by": "label"}))
    print(f"{once:.2f} s for all rows, {apart:.2f} s by class: {apart / once:.2f}")
    assert apart < 1.2 * once
