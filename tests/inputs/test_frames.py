"""Data frames and tables in memory: which columns are features, and what their values are."""

import datetime
import json
import warnings
from decimal import Decimal

import dask.array as da
import dask.dataframe as dd
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.dataset
import pytest
import reference
import xarray as xr
from examples import few
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone

import dkde
from dkde.inputs import frame_columns
from dkde.inputs.frame_columns import kind_of_column, numbers_of

RNG = np.random.default_rng(11)
ROWS = RNG.normal(size=(40, 2)).round(3)
FRAME = pd.DataFrame(ROWS, columns=["a", "b"])
TEXT = pd.Series(["x", "y"] * 20)


def density(data, features=None, **options):
    """Densities of rows under themselves."""
    source = dkde.Catalog(features=features)
    return np.asarray(dkde.log_density(data, data, 0.7, source=source, **options))


def wanted(rows):
    return reference.log_density(np.asarray(rows, float), np.asarray(rows, float), [0.7])[0]


class Stream:
    """A table of another package, which hands its columns over as Arrow's."""

    def __init__(self, table):
        self.table, self.columns = table, table.column_names

    def __arrow_c_stream__(self, requested_schema=None):
        return self.table.__arrow_c_stream__(requested_schema)


def arrow(frame):
    return pa.Table.from_pandas(frame, preserve_index=False)


def polars(frame):
    return pytest.importorskip("polars").from_arrow(arrow(frame))


def relation(frame):
    """A relation of DuckDB that is a query."""
    return pytest.importorskip("duckdb").from_arrow(arrow(frame)).filter("true")


def hugging_face(frame):
    return pytest.importorskip("datasets").Dataset(arrow(frame))


FORMS = {
    "pandas": lambda frame: frame,
    "nullable": lambda frame: frame.convert_dtypes(),
    "of Arrow": lambda frame: frame.convert_dtypes(dtype_backend="pyarrow"),
    "objects": lambda frame: frame.astype(object),
    "categories for text": lambda frame: frame.astype(
        {name: "category" for name in frame if name == "id"}
    ),
    "table": arrow,
    "batch": lambda frame: arrow(frame).to_batches()[0],
    "another package": lambda frame: Stream(arrow(frame)),
    "Polars": polars,
    "Polars, lazy": lambda frame: polars(frame).lazy(),
    "DuckDB": relation,
    "Hugging Face": hugging_face,
    "data set of files": lambda frame: pyarrow.dataset.dataset(arrow(frame)),
    "scanner": lambda frame: pyarrow.dataset.dataset(arrow(frame)).scanner(),
    "Dask": lambda frame: dd.from_pandas(frame, npartitions=3),
}


@pytest.mark.sampled(4)
@pytest.mark.parametrize("form", FORMS)
def test_columns_of_numbers_are_features(form):
    np.testing.assert_allclose(density(FORMS[form](FRAME)), wanted(ROWS), rtol=1e-9)
    mixed = FORMS[form](FRAME.assign(id=TEXT)[["id", "b", "a"]])
    with pytest.warns(UserWarning, match=r"train: the features are b, a; left out: id \(") as told:
        found = density(mixed)
    assert len(told) == 1
    np.testing.assert_allclose(found, wanted(ROWS), rtol=1e-9)
    # Named, they are what was asked for, and nothing is said.
    np.testing.assert_allclose(density(mixed, ["a"]), wanted(ROWS[:, :1]), rtol=1e-9)
    with pytest.raises(dkde.InputError, match=r"column 'id' holds .*, and features are numbers"):
        density(mixed, ["a", "id"])
    with pytest.raises(dkde.InputError, match="has no feature 'z'; it has id, b, a"):
        density(mixed, ["z"])


@pytest.mark.sampled(3)
@pytest.mark.parametrize("form", FORMS)
def test_what_is_missing_is_nan(form):
    holes = FRAME.copy()
    holes.loc[3, "b"] = np.nan
    given = FORMS[form](holes)
    found = density(given, nan="drop")
    there = np.arange(40) != 3
    np.testing.assert_allclose(found[there], wanted(ROWS[there]), rtol=1e-9)
    assert np.isnan(found[3])
    with pytest.raises(dkde.InputError, match=r'row 3, b is nan; .* \(nan="drop"\)'):
        density(given)


def test_it_is_said_in_the_result_too():
    data = FRAME.assign(id=TEXT, when=pd.Timestamp("2020-01-01"), c=FRAME.a > 0, n=None)
    said = r"left out: id \(text\), when \(timestamps\), c \(bool\), n \(no values\); name the"
    with pytest.warns(UserWarning, match=said) as told:
        result = dkde.score(train=data, query=data.copy(), bandwidth=1)
    assert sum("left out" in str(each.message) for each in told) == 1
    described = json.loads(result.attrs["provenance"])["score"]
    (part,) = described["train"]["parts"]
    assert part["names"] == ["a", "b"]
    assert part["left_out"]["when"] == "timestamps"


def test_it_can_be_silenced():
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "train: the features are a, b; left out")
        density(FRAME.assign(id=TEXT))


def test_a_side_has_the_features_of_the_other():
    # By name, where the training side says which they are: then nothing is left out.
    found = dkde.log_density(FRAME.assign(id=TEXT)[["id", "b", "a"]], FRAME, 0.7)
    np.testing.assert_allclose(found, wanted(ROWS), rtol=1e-9)


@pytest.mark.parametrize(
    ("values", "why"),
    [
        (["1", "-"], "text, for instance '-' in row 1"),
        (["1,5", "2"], "text, for instance '1,5' in row 0; if it has a decimal comma"),
        ([1, "?"], r"text, for instance '\?' in row 1"),
        (["x", "y"], "text"),
        ([1j, 2j], "complex128"),
        ([[1.0], ["x"]], None),
        ([{}, {}], "text"),
    ],
)
def test_columns_with_marks_are_left_out(values, why):
    data = pd.DataFrame({"a": [0.5, 1.5], "b": pd.Series(values)})
    if why is None:
        with pytest.raises(dkde.InputError, match="say which are the features"):
            density(data)
        return
    with pytest.warns(UserWarning, match=rf"left out: b \({why}"):
        found = density(data)
    np.testing.assert_allclose(found, wanted([[0.5], [1.5]]), rtol=1e-9)


TIMES = pd.to_datetime(["2020-01-01 12:00", None, "2020-01-02 00:00"])
TIMES = TIMES.as_unit("us")
DAYS = np.array([18262.5, np.nan, 18263.0])


@pytest.mark.parametrize(
    ("values", "numbers", "said"),
    [
        (TIMES, DAYS, "days since 1970-01-01"),
        (TIMES.tz_localize("Asia/Tokyo"), DAYS - 9 / 24, "days since 1970-01-01"),
        (TIMES - pd.Timestamp("2020-01-01"), DAYS - 18262, "days"),
        (pd.array(TIMES, pd.ArrowDtype(pa.timestamp("us"))), DAYS, "days since 1970-01-01"),
        (pd.Series(list(TIMES), dtype=object), DAYS, "days since 1970-01-01"),
        ([datetime.date(2020, 1, 1), None, datetime.date(2020, 1, 2)],
         [18262, np.nan, 18263], "days since 1970-01-01"),
        ([True, None, False], [1, np.nan, 0], "0 and 1"),
        (pd.array([True, None, False], "boolean"), [1, np.nan, 0], "0 and 1"),
        (pd.array([True, None, False], pd.ArrowDtype(pa.bool_())), [1, np.nan, 0], "0 and 1"),
        (np.array([True, False, False]), [1, 0, 0], "0 and 1"),
    ],
)  # fmt: skip
def test_times_and_truths_are_features_when_they_are_named(values, numbers, said):
    data = pd.DataFrame({"a": [0.5, 1.5, 2.5], "t": values})
    with pytest.warns(UserWarning, match=r"the features are a; left out: t \("):
        np.testing.assert_allclose(density(data), wanted([[0.5], [1.5], [2.5]]), rtol=1e-9)
    rows = np.column_stack([numbers, data.a])
    there = ~np.isnan(rows[:, 0])
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        found = density(data, ["t", "a"], nan="drop")
    assert [str(each.message) for each in told] == [f"train: t is taken as {said}"]
    np.testing.assert_allclose(found[there], wanted(rows[there]), rtol=1e-9)


def test_nothing_but_truths_is_refused():
    with pytest.raises(dkde.InputError, match=r"no column of numbers; .* to make features of them"):
        density(FRAME > 0)
    with pytest.warns(UserWarning, match="a is taken as 0 and 1, b is taken as 0 and 1"):
        found = density(FRAME > 0, ["a", "b"])
    np.testing.assert_allclose(found, wanted(ROWS > 0), rtol=1e-9)


LISTS = {
    "lists": lambda rows: rows.tolist(),
    "arrays": list,
    "single": lambda rows: list(rows.astype("f4")),
    "of Arrow": lambda rows: pd.array(
        rows.tolist(), pd.ArrowDtype(pa.list_(pa.float64()))
    ),
    "fixed": lambda rows: pd.array(rows.tolist(), pd.ArrowDtype(pa.list_(pa.float64(), 2))),
}  # fmt: skip


@pytest.mark.parametrize("kind", LISTS)
def test_a_column_of_lists_is_rows_of_features(kind):
    column = LISTS[kind](ROWS)
    rows = ROWS.astype("f4") if kind == "single" else ROWS
    data = pd.DataFrame({"emb": column})
    np.testing.assert_allclose(density(data), wanted(rows), rtol=1e-9)
    beside = data.assign(id=np.arange(40))
    with pytest.raises(dkde.InputError, match=r"--features emb, or --features id .*features="):
        density(beside)
    np.testing.assert_allclose(density(beside, ["emb"]), wanted(rows), rtol=1e-9)
    both = np.column_stack([np.arange(40), rows])
    np.testing.assert_allclose(density(beside, ["id", "emb"]), wanted(both), rtol=1e-9)


def test_lists_of_uneven_length_are_refused():
    with pytest.raises(dkde.InputError, match="column 'emb': row 1 has a list of 1 numbers"):
        density(pd.DataFrame({"emb": [[1.0, 2.0], [1.0]]}))
    column = pd.array([[1, 2], [1]], pd.ArrowDtype(pa.list_(pa.int64())))
    with pytest.raises(dkde.InputError, match="column 'emb': row 1 has a list of 1 numbers"):
        density(pd.DataFrame({"emb": column}))


LARGE = 2**53 + 1
BIG = {
    "beside floats": lambda: pd.DataFrame({"a": [0, LARGE], "b": 0.5}),
    "negative": lambda: pd.DataFrame({"a": [0, -LARGE], "b": 0.5}),
    "alone": lambda: pd.DataFrame({"a": [0, LARGE]}),
    "without a sign": lambda: pd.DataFrame({"a": np.array([0, LARGE], "u8"), "b": [-1, 1]}),
    "nullable": lambda: pd.DataFrame({"a": pd.array([None, LARGE], "Int64")}),
    "of Arrow": lambda: pd.DataFrame({"a": pd.array([None, LARGE], "int64[pyarrow]")}),
    "decimals": lambda: pa.table({"a": [Decimal(1), Decimal(LARGE)]}),
    "objects": lambda: pd.DataFrame({"a": pd.Series([None, LARGE], dtype=object)}),
    "a table": lambda: pa.table({"a": [None, LARGE], "b": [0.5, 0.5]}),
    "lists": lambda: [[0, 0.5], [LARGE, 0.5]],
    "in cells": lambda: pd.DataFrame({"a": [[0, 0.5], [LARGE, 0.5]]}),
    "an array": lambda: np.array([[0], [LARGE]]),
}


@pytest.mark.parametrize("kind", BIG)
def test_integers_that_would_be_rounded_are_refused(kind):
    message = r"row 1.* is -?9007199254740993, an integer beyond 2\*\*53, .*: subtract an origin"
    with pytest.raises(dkde.InputError, match=message):
        density(BIG[kind](), nan="drop")
    if kind in ("a table", "in cells", "decimals", "an array"):
        return  # which scikit-learn takes otherwise, or which is refused when it is read
    for estimator in (dkde.KernelDensity(nan="drop"), dkde.KernelDensityCV(nan="drop")):
        with pytest.raises((dkde.InputError, ValueError), match="beyond"):
            clone(estimator).fit(BIG[kind]())


def test_integers_in_a_linear_map_and_in_weights():
    rows = np.column_stack([2**53 + np.arange(9), np.arange(9) ** 2])
    with pytest.raises(dkde.InputError, match=r"row 1, column 0 is 9007199254740993"):
        dkde.log_density(rows, rows, 1.0, covariance="full")
    weights = np.array([1, 2**53 + 1])
    with pytest.raises(dkde.InputError, match="weights, row 1, is 9007199254740993"):
        dkde.log_density([[0.0]], [[0.0], [1.0]], 1.0, weights=weights)
    lazy = da.from_array(rows, chunks=(4, -1))
    with pytest.raises(dkde.InputError, match="is 9007199254740993"):
        np.asarray(dkde.log_density(lazy, lazy, 1.0))


def test_weights_of_a_frame():
    weights = RNG.uniform(1, 2, 40)
    expected = reference.log_density(ROWS, ROWS, [0.7], weights=weights)[0]
    named = density(FRAME.assign(w=weights), ["a", "b"], weights="w")
    np.testing.assert_allclose(named, expected, rtol=1e-9)
    with pytest.raises(dkde.InputError, match="has no variable 'z' to be train weights; it has a"):
        density(FRAME, weights="z")


def test_integers_of_variables_beside_floats():
    dataset = pd.DataFrame({"a": [0, LARGE], "b": 0.5}).to_xarray()
    with pytest.raises(dkde.InputError, match="a value of a is 9007199254740993"):
        dkde.log_density(dataset, dataset, 1.0).compute()


def test_labels_that_are_masked_are_refused(tmp_path):
    labels = np.ma.masked_array([1, 2], mask=[False, True])
    with pytest.raises(dkde.InputError, match="masked labels; leave such rows out"):
        dkde.import_rows([(ROWS[:2], labels)], tmp_path / "x.zarr")


def test_integers_in_batches_of_frames_are_refused(tmp_path):
    with pytest.raises(dkde.InputError, match="batch 1: column 'a', row 1, is 9007199254740993"):
        dkde.import_rows([BIG["beside floats"]()], tmp_path / "x.zarr")


CELLS = {
    "float": st.sampled_from([0.5, -1.25, 3.0]),
    "integer": st.sampled_from([0, 7, -3, 2**53, 2**53 + 1]),
    "bool": st.booleans(),
    "text": st.sampled_from(["x", "-", "1,5"]),
}
DTYPES = {
    "float": ["f8", "f4", "Float64", "Float32", "double[pyarrow]", object],
    "integer": ["i8", "Int64", "int64[pyarrow]", object],
    "bool": ["bool", "boolean", "bool[pyarrow]", object],
    "text": ["str", "string[pyarrow]", "category", object],
}


@st.composite
def tables(draw):
    """A frame, and what its columns of numbers hold."""
    n_rows = draw(st.integers(2, 5))
    columns, numbers = {}, {}
    for i in range(draw(st.integers(1, 4))):
        kind = draw(st.sampled_from([*CELLS]))
        dtype = draw(st.sampled_from(DTYPES[kind]))
        cells = [draw(CELLS[kind]) for _ in range(n_rows)]
        can_miss = dtype not in ("f4", "i8", "bool")
        if can_miss and draw(st.booleans()):
            cells[draw(st.integers(0, n_rows - 1))] = None
        columns[f"c{i}"] = pd.Series(cells, dtype=dtype)
        is_empty = dtype is object and all(cell is None for cell in cells)
        if kind in ("float", "integer") and not is_empty:
            numbers[f"c{i}"] = cells
    return pd.DataFrame(columns), numbers


@settings(max_examples=few(150), deadline=None)
@given(table=tables())
def test_any_frame_is_right_or_refused(table):
    frame, numbers = table
    rows = np.array([*numbers.values()], object).T
    too_large = any(isinstance(v, int) and abs(v) > 2**53 for v in rows.ravel())
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        try:
            found = density(frame, nan="drop")
        except dkde.InputError:
            missing = np.equal(rows, None)
            assert too_large or not numbers or missing.any(axis=1).all()
            return
    assert not too_large
    assert len(told) == (len(numbers) < frame.shape[1])
    values = rows.astype(float)
    there = ~np.isnan(values).any(axis=1)
    np.testing.assert_allclose(found[there], wanted(values[there]), rtol=1e-9, atol=1e-9)
    assert np.isnan(found[~there]).all()


class TestObjects:
    def test_decimals_that_are_no_numbers_are_missing(self):
        kinds = [Decimal("NaN"), Decimal("-NaN"), None]
        rows = [Decimal(n) / 4 for n in range(20)]
        for mark in kinds:
            frame = pd.DataFrame({"a": [*rows, mark]})
            with pytest.raises(dkde.InputError, match="train: row 20, a is nan;"):
                dkde.log_density([[1.0]], frame, 1.0)
            found = dkde.log_density([[1.0]], frame, 1.0, nan="drop")
            expected = dkde.log_density([[1.0]], np.arange(20)[:, None] / 4, 1.0)
            np.testing.assert_array_equal(found, expected)

    @pytest.mark.parametrize("nan", ["raise", "drop"])
    def test_infinite_decimals_are_refused(self, nan):
        frame = pd.DataFrame({"a": [Decimal(1), Decimal("-Infinity")]})
        with pytest.raises(dkde.InputError, match="train: row 1, a is -inf;"):
            dkde.log_density([[1.0]], frame, 1.0, nan=nan)

    @pytest.mark.parametrize("large", [2**53 + 1, 10**400, Decimal(2**53 + 1)])
    def test_large_integers_are_refused(self, large):
        one = type(large)(1)
        frame = pd.DataFrame({"a": pd.Series([one, one, large], dtype=object)})
        with pytest.raises(dkde.InputError, match=r"row 2, is \d+, an integer beyond 2\*\*53"):
            dkde.log_density([[1.0]], frame, 1.0)

    def test_what_is_beside_a_large_integer_is_as_it_was(self):
        values = pd.Series([1, 2.5, None, pd.NA, 2**53, 1e300, float("nan")], dtype=object)
        found = numbers_of(values, kind_of_column(values), np.dtype(float), "x")
        np.testing.assert_array_equal(found, [1, 2.5, np.nan, np.nan, 2.0**53, 1e300, np.nan])

    @pytest.mark.parametrize("dtype", [object, "string"])
    def test_of_text_a_thousand_values_are_looked_at(self, dtype, monkeypatch):
        values, seen = pd.Series(["north"] * 5000, dtype=dtype), []
        looked = frame_columns._is_missing
        monkeypatch.setattr(frame_columns, "_is_missing", lambda v: seen.append(v) or looked(v))
        assert kind_of_column(values).kind == "text"
        assert len(seen) <= 1000


@pytest.mark.parametrize(
    "dtype",
    [
        "int8",
        "uint16",
        "int64",
        "float32",
        "float64",
        "UInt8",
        "Int64",
        "Float32",
        "int64[pyarrow]",
    ],
)
@pytest.mark.parametrize("form", ["frame", "Dataset"])
def test_a_missing_category_of_numbers_is_a_missing_number(form, dtype):
    rows = pd.DataFrame({"a": [1.0, 2, 3], "b": [0.0, 1, 5]})
    train = rows if form == "frame" else xr.Dataset({k: ("obs", v) for k, v in rows.items()})
    numbers = pd.Index([1, 2], dtype=dtype)
    query = pd.DataFrame({name: pd.Categorical.from_codes([0, -1, 1], numbers) for name in "ab"})
    plain = pd.DataFrame({name: [1, np.nan, 2] for name in "ab"})
    model = dkde.KernelDensity(nan="drop").fit(train)
    found, expected = (np.asarray(model.score_samples(each)) for each in (query, plain))
    np.testing.assert_array_equal(found, expected)
    assert np.isnan(found[1])
    with pytest.raises(dkde.InputError, match="X: row 1, a is NaN"):
        model.set_params(nan="raise").score_samples(query)
