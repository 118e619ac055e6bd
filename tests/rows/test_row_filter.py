"""The text of row filters: what it means, what is refused, and that two evaluations agree."""

import pickle
from decimal import Decimal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds
import pytest

from dkde.errors import InputError, NoVariableError
from dkde.rows.row_filter import RowFilter

NAN, NONE = float("nan"), None
FRAME = {
    "year": np.array([2019, 2020, 2020, 2021, 2022, 2023]),
    "depth": np.array([10.0, NAN, 49.0, 51.0, -3.0, 50.0]),
    "small": np.array([0.1, 0.2, NAN, 0.3, 0.1, 0.5], np.float32),
    "byte": np.array([0, 1, 255, 3, 4, 5], np.uint8),
    "species": np.array(["fox", "owl", None, "fox", "o'clock", "Füchsin"], object),
    "is_night": np.array([True, False, True, True, False, True]),
    "maybe": np.array([True, None, False, True, None, False], object),
    "when": np.array(
        ["2020-01-01", "2020-06-01T12:30", "NaT", "2021-01-01", "1999-12-31", "2020-12-31"],
        "M8[ns]",
    ),
    "lag": np.array([12, 36, "NaT", 60, 24, 0], "m8[h]").astype("m8[s]"),
    "sea level": np.array([1, 2, 3, 4, 5, 6]),
    "nothing": np.array([None] * 6, object),
}
# The rows that a filter keeps, by its text.
KEPT = {
    "year == 2020": [1, 2],
    "year == 2020 and depth < 50": [2],
    "year != 2020": [0, 3, 4, 5],
    "2020 < year": [3, 4, 5],
    "2019 < year <= 2021": [1, 2, 3],
    "not 2019 < year <= 2021": [0, 4, 5],
    "year in [2019, 2023]": [0, 5],
    "year in (2019, 2023,)": [0, 5],
    "year not in {2019, 2023}": [1, 2, 3, 4],
    "year in []": [],
    "year not in []": [0, 1, 2, 3, 4, 5],
    "year > -1 and byte > -1 and byte < 1000": [0, 1, 2, 3, 4, 5],
    "year < 2020.5": [0, 1, 2],
    "depth != 10": [2, 3, 4, 5],
    "not depth == 10": [2, 3, 4, 5],
    "depth not in [10, 51]": [2, 4, 5],
    "not depth < 50": [3, 5],
    "not (depth < 50 and year < 2022)": [3, 4, 5],
    "not (depth < 50 or year == 2021)": [5],
    "depth == depth": [0, 2, 3, 4, 5],
    "depth is None": [1],
    "depth is not None": [0, 2, 3, 4, 5],
    "not depth is None": [0, 2, 3, 4, 5],
    "depth > -3e0": [0, 2, 3, 5],
    "depth == -3": [4],
    "small == 0.1": [0, 4],
    "small != 0.1": [1, 3, 5],
    "depth < year": [0, 2, 3, 4, 5],
    "byte == 0 or byte == True": [0, 1],
    'species == "fox"': [0, 3],
    "species != 'fox'": [1, 4, 5],
    "species in ['fox', \"o'clock\"]": [0, 3, 4],
    "species not in ['fox', 'Füchsin']": [1, 4],
    "species == 'Füchsin' or species is None": [2, 5],
    "species >= 'fox'": [0, 1, 3, 4],
    "is_night": [0, 2, 3, 5],
    "not is_night": [1, 4],
    "is_night == False": [1, 4],
    "is_night != 1": [1, 4],
    "maybe": [0, 3],
    "not maybe": [2, 5],
    "maybe and year < 2021": [0],
    "when >= '2020-01-01' and when < '2021-01-01'": [0, 1, 5],
    "when < '2020'": [4],
    "when == '2020-06-01T12:30'": [1],
    "when == '2020-06-01 14:30+02:00'": [1],
    "when in ['2020-01-01Z', '2020-12-31T00:00:00.000Z']": [0, 5],
    "when != '2020-01-01'": [1, 3, 4, 5],
    "when < '9999-01-01'": [0, 1, 3, 4, 5],
    "when > '2020-12-30T23:59:59.999999999'": [3, 5],
    "lag > 0.5": [1, 3, 4],
    "lag != 1": [0, 1, 3, 5],
    "`sea level` >= 5": [4, 5],
    "`sea level`<2or year==2021": [0, 3],
    "nothing == 3 or nothing == 'x' or nothing": [],
    "nothing is None and species == '`'": [],
    " year\n== 2020\n": [1, 2],
}

# Columns of unlike types; and NaN, which the statistics of a file do not count.
LEFT_TO_NUMPY = ("depth < year", *(text for text in KEPT if "depth is" in text))


@pytest.mark.parametrize("text", KEPT)
def test_a_filter_keeps_the_rows_for_which_it_holds_in_numpy_and_arrow(text):
    found = RowFilter.parsed(text)
    assert np.flatnonzero(found.mask(FRAME)).tolist() == KEPT[text]
    table = pa.table(
        {name: pa.array(values, from_pandas=False) for name, values in FRAME.items()}
    ).append_column("row", pa.array(range(6)))
    for held in (table, _as_categories(table), _with_nulls(table)):
        rows = ds.dataset(held).to_table(columns=["row"], filter=found.arrow(held.schema))
        assert set(rows["row"].to_pylist()) >= set(KEPT[text])
        is_arrows = found.is_arrows(held.schema)
        assert is_arrows == (text not in LEFT_TO_NUMPY)
        assert not is_arrows or rows["row"].to_pylist() == KEPT[text]


def _as_categories(table):
    at = table.schema.get_field_index("species")
    return table.set_column(at, "species", table["species"].dictionary_encode())


def _with_nulls(table):
    """The same table as pandas writes it to Parquet: NaN are nulls, and times have a zone."""
    for name in ("depth", "small", "when"):
        at = table.schema.get_field_index(name)
        kind = pa.timestamp("us", "Europe/Paris") if name == "when" else None
        values = pd.Series(FRAME[name])
        table = table.set_column(at, name, pa.array(values, kind, from_pandas=True))
    return table


REFUSED = {
    "": "where is empty; a filter compares",
    "year = 2020": "where: a single =, at character 6, '= 2020'; write ==;",
    "year == 2020 AND depth < 50": "write and, or, not, in and is None",
    "year == 2020 and": "ends or goes on",
    "f(year) == 3": "where: a call is not allowed, at character 1, 'f(year)'; a filter",
    "year == f(2020)": "a call is not allowed, at character 9",
    "__import__('os').system('rm')": "a call is not allowed, at character 1",
    "a.b == 3": "an attribute is not allowed, at character 1, 'a.b'; write a name",
    "a[0] == 3": "a subscript",
    "year + 1 == 3": "arithmetic",
    "(a == 1) & (b == 2)": "arithmetic is not allowed, at character 1, '(a == 1) & (b == 2)'; wri",
    "~(a == 1)": "write not",
    "year == @y": "ends or goes on",
    "year": "column 'year' holds numbers, and only one of True and False stands alone",
    "3": "a value that is compared with nothing",
    "3 < 4": "a comparison without a column, at character 1, '3 < 4'",
    "year == None": "write is None or is not None",
    "year is 3": "is with anything but None, at character 1, 'year is 3'; write ==",
    "species in 'fox'": "in without a list, at character 12",
    "'fo' in species": "in without a list",
    "year in [1, 'a']": "a list of text and numbers",
    "year in [1, [2]]": "something else is not allowed, at character 13",
    "year == f'{x}'": "text with fields",
    "year == 3j": "something else",
    "year == b'a'": "something else",
    "year == ...": "something else",
    "(lambda: 3)() == 3": "a call",
    "[x for x in year]": "something else",
    "(x := 3) == 3": "something else",
    "year == 2020 # all": "a comment, at character 14",
    "year == 2020; depth": "ends or goes on",
    "`` == 3": "a backtick without",
    "`year == 3": "a backtick without a name and its end, at character 1",
    "year == '2020'": "column 'year' holds numbers, and is compared with '2020'",
    "species == 3": "column 'species' holds text, and is compared with 3",
    "is_night == 2": "column 'is_night' holds True and False, and is compared with 2",
    "when == 2020": "column 'when' holds times, and is compared with 2020; write a date",
    "when == 'now'": "write a date or a time as",
    "when == '2020-13-01'": "write a date or a time as",
    "species < year": "'species' holds texts and 'year' numbers",
    "(" * 30 + "year" + ")" * 30 + "== 'x'": "holds numbers",
    "(" * 4000 + "year" + ")" * 4000: "where: ",
    "not " * 60 + "is_night": "it is nested more than 50 deep",
    "not " * 2400 + "is_night": "where: ",
    "-" * 9000 + "3 == year": "where: ",
    "year == " + "9" * 6000: "where: ",
    "year == 1 or " * 5000: "where has 64999 characters, and at most 10000",
    "year == 3\0": "where: ",
    "depth < " + "9" * 400: "a number beyond those of float64, at character 9",
    "depth < -" + "9" * 400: "a number beyond those of float64, at character 10",
    "x == '\udc80'": "where: ",
}


@pytest.mark.parametrize("text", REFUSED, ids=lambda text: ascii(text)[:40])
def test_any_other_text_is_refused_in_one_line(text):
    with pytest.raises(InputError) as refused:
        RowFilter.parsed(text).mask(FRAME)
    message = str(refused.value)
    assert REFUSED[text] in message
    assert len(message.splitlines()) == 1
    assert len(message) < 500


def test_only_text_is_a_filter():
    with pytest.raises(InputError, match="where is 3; it is text"):
        RowFilter.parsed(3)


def test_names_are_those_of_columns_as_they_are_written():
    found = RowFilter.parsed("µ < 3 and `a.b` == 'x' and `Tür zu` > 1 and not (µ == ok or class_)")
    assert found.names == ("µ", "a.b", "Tür zu", "ok", "class_")
    assert pickle.loads(pickle.dumps(found)) == found
    with pytest.raises(NoVariableError, match="quakes: has no column 'Tür zu' for where; it has µ"):
        found.check_names(["µ", "a.b"], "quakes")


def test_times_of_objects_and_text_of_bytes_are_compared():
    zone = pd.Series(pd.to_datetime(["2020-01-01T00:30", None])).dt.tz_localize("Europe/Paris")
    when = RowFilter.parsed("when < '2020-01-01'")
    assert when.mask({"when": zone.to_numpy()}).tolist() == [True, False]
    fox = RowFilter.parsed("species == 'füx'")
    assert fox.mask({"species": np.array(["füx".encode(), b"o"])}).tolist() == [True, False]
    masked = np.ma.array([1, 2, 3], mask=[True, False, False])
    assert RowFilter.parsed("x != 2").mask({"x": masked}).tolist() == [False, False, True]
    with pytest.raises(InputError, match="column 'x' holds objects of dict, which a filter does"):
        RowFilter.parsed("x == 2").mask({"x": np.array([{}], object)})


def test_long_lists_are_looked_up_alike():
    numbers = ", ".join(map(str, [*range(-30, 0), 50, 2020, 1]))
    words = ", ".join(f"'w{i}'" for i in range(30))
    texts = {
        f"year in [{numbers}]": [1, 2],
        f"byte not in [{numbers}]": [0, 2, 3, 4, 5],
        f"depth in [{numbers}]": [4, 5],
        f"depth not in [{numbers}]": [0, 2, 3],
        f"small in [{numbers}, 0.1]": [0, 4],
        f"species in [{words}, 'fox']": [0, 3],
        f"species not in [{words}, 'fox']": [1, 4, 5],
    }
    table = pa.table({name: pa.array(values) for name, values in FRAME.items()})
    for text, kept in texts.items():
        found = RowFilter.parsed(text)
        assert np.flatnonzero(found.mask(FRAME)).tolist() == kept
        for held in (table, _as_categories(table), _with_nulls(table)):
            rows = held.append_column("row", pa.array(range(6)))
            assert rows.filter(found.arrow(held.schema))["row"].to_pylist() == kept


WIDE = {
    "id > 0.5": [1, 3],
    "id <= 0.5": [0, 2],
    "id != 0.5 and id not in [0.5, 1e300]": [0, 1, 2, 3],
    "id == 0.5 or id > 1e400": [],
    "id >= -1e400 and id < 1e20": [0, 1, 2, 3],
    "id == 9007199254740993 or id == -9223372036854775808": [1, 2],
    "id < depth": [0, 2],
    "id > whole and id < unsigned": [3],
    "unsigned > id": [0, 2, 3],
    "unsigned > 0.1": [0, 2, 3],
    "unsigned == 18446744073709551615": [3],
    "unsigned > -1": [0, 1, 2, 3],
    "whole < 1.5 and flag == whole": [0, 1],
    "price < 128": [1, 3],
    "price in [1.25, 300]": [1],
    "price > depth": [0, 1],
    "lag < 1e400 and lag > -1e400 and lag < 9223372036854775807": [0, 1, 2, 3],
    "lag == 0.1 or lag > 1": [1, 3],
    "lag > depth": [1, 3],
    "when < zoned": [2],
    "when == zoned": [0, 1],
}


@pytest.mark.parametrize("text", WIDE)
def test_numbers_and_times_of_unlike_types_are_compared_as_numpy_does(text):
    times = np.array(["2020-01-01", "2020-06-01", "2019-01-01", "2023-01-01"], "M8[us]")
    zoned = np.array(["2020-01-01", "2020-06-01", "2022-01-01", "2022-01-01"], "M8[ns]")
    numbers = {
        "id": np.array([0, 2**53 + 1, -(2**63), 2**63 - 1]),
        "unsigned": np.array([1, 0, 2**63, 2**64 - 1], np.uint64),
        "whole": np.array([0, 1, 2, 3], np.int16),
        "flag": np.array([False, True, True, True]),
        "depth": np.array([0.5, -3.0, 1e300, -1.0]),
        "lag": np.array([0, 8640, 43200, 172800], "m8[s]"),
        "when": times,
        "zoned": zoned,
    }
    price = [Decimal(text) for text in ("300.5", "1.25", "128.125", "-3.5")]
    table = pa.table({name: pa.array(values) for name, values in numbers.items()})
    at = table.schema.get_field_index("zoned")
    table = table.set_column(at, "zoned", pa.array(zoned).cast(pa.timestamp("ns", "Europe/Paris")))
    table = table.append_column("price", pa.array(price, pa.decimal128(10, 3)))
    found = RowFilter.parsed(text)
    held = numbers | {"price": np.array(price, object)}
    assert np.flatnonzero(found.mask(held)).tolist() == WIDE[text]
    rows = table.append_column("row", pa.array(range(4))).filter(found.arrow(table.schema))
    kept = rows["row"].to_pylist()
    # Arrow alone may keep more rows where it compares otherwise than NumPy, never fewer.
    assert set(kept) >= set(WIDE[text])
    assert kept == WIDE[text] or not found.is_arrows(table.schema)


def test_what_is_no_filter_is_refused_in_a_line():
    with pytest.raises(InputError, match=r"^where is a Series; it is text, such as 'year == 2020"):
        RowFilter.parsed(pd.Series([True, False]))
    with pytest.raises(InputError, match=r"a colon, at character 6, .* sides of which one can be"):
        RowFilter.parsed("trian: year < 2020")
