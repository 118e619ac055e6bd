"""CSV and Parquet: what pandas wrote comes back, and what cannot be rows is refused."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import re
import tarfile
import time
import tracemalloc
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import reference
import xarray as xr
from examples import few
from hypothesis import given, settings
from hypothesis import strategies as st

import dkde
from dkde.datasets.formats import Source, load_split, read_source
from dkde.datasets.formats.files import checksum_files
from dkde.errors import DataSetError, InputError
from dkde.rows.csv_text import Text, Uncommented, squeezed

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

rng = np.random.default_rng(3)
N = 200
COLUMNS: dict[str, Any] = {
    "time": [f"2020-01-{1 + i % 28:02d}" for i in range(N)],
    "a": rng.normal(size=N),
    "b": rng.integers(-9, 9, N),
    "kind": [["sea ice", "land", "sea"][i % 3] for i in range(N)],
    "c": rng.normal(size=N) * 1e-300,
}
ROWS = np.column_stack([COLUMNS[name] for name in "abc"])


def write_csv(
    path: Path, columns: dict[str, Any], separator: str = ",", header: bool = True
) -> Path:
    lines = [separator.join(columns)] if header else []
    values = [map(repr_of, column) for column in columns.values()]
    lines += [separator.join(cells) for cells in zip(*values, strict=True)]
    text = "\n".join(lines) + "\n"
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


def repr_of(value: Any) -> str:
    return value if isinstance(value, str) else repr(getattr(value, "item", lambda: value)())


def write_parquet(path: Path, columns: dict[str, Any], **options: Any) -> Path:
    pq.write_table(pa.table(columns), path, **options)
    return path


def part(columns: dict[str, Any], start: int, stop: int) -> dict[str, Any]:
    return {name: values[start:stop] for name, values in columns.items()}


def only(source: Source) -> Any:
    (split,) = source.splits
    return split


def text(path: Path, content: str) -> Path:
    path.write_text(content)
    return path


@pytest.mark.parametrize("name", ["x.csv", "x.csv.gz", "x.tsv", "any name", "x.parquet"])
def test_columns_of_numbers_are_rows(tmp_path: Path, name: str) -> None:
    if name == "x.parquet":
        path = write_parquet(tmp_path / name, COLUMNS, row_group_size=30)
    else:
        path = write_csv(tmp_path / name, COLUMNS, "\t" if name == "x.tsv" else ",")
    source = read_source(path)
    split = only(source)
    assert source.format == ("parquet" if name == "x.parquet" else "csv")
    time = "text" if name == "x.parquet" else "timestamps"
    assert source.left_out == {"time": time, "kind": "text"}
    assert (split.name, split.n_rows, split.features) == ("train", N, ("a", "b", "c"))
    np.testing.assert_array_equal(load_split(split), ROWS)


@pytest.mark.parametrize("separator", [",", ";", "\t", " "])
def test_separators(tmp_path: Path, separator: str) -> None:
    numbers = {name: COLUMNS[name] for name in "abc"}
    np.testing.assert_array_equal(
        load_split(only(read_source(write_csv(tmp_path / "x", numbers, separator)))), ROWS
    )
    without = only(read_source(write_csv(tmp_path / "y", numbers, separator, header=False)))
    assert without.features is None
    np.testing.assert_array_equal(load_split(without), ROWS)
    np.savetxt(tmp_path / "z", ROWS, delimiter=separator)
    np.testing.assert_array_equal(load_split(only(read_source(tmp_path / "z"))), ROWS)


@pytest.mark.parametrize("suffix", ["csv", "csv.gz", "parquet"])
def test_a_pattern_is_its_files_in_order_of_name(tmp_path: Path, suffix: str) -> None:
    write = write_parquet if suffix == "parquet" else write_csv
    # In another order, and written last to first.
    turned = {name: COLUMNS[name] for name in ("c", "kind", "time", "b", "a")}
    write(tmp_path / f"p2.{suffix}", part(turned, 150, N))
    write(tmp_path / f"p1.{suffix}", part(COLUMNS, 0, 150))
    split = only(read_source(tmp_path / f"p?.{suffix}", label="kind"))
    assert split.features == ("a", "b", "c")
    np.testing.assert_array_equal(load_split(split), ROWS)
    assert split.classes == {"label": ("land", "sea", "sea_ice")}
    kinds = [split.classes["label"][label] for label in split.labels["label"]]
    assert kinds == [kind.replace(" ", "_") for kind in COLUMNS["kind"]]


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_columns_are_taken_in_the_order_that_is_asked_for(tmp_path: Path, suffix: str) -> None:
    path = (write_parquet if suffix == "parquet" else write_csv)(tmp_path / "x", COLUMNS)
    source = read_source(path, columns=["c", "a"], label="b")
    split = only(source)
    assert (split.features, source.left_out) == (("c", "a"), {})
    np.testing.assert_array_equal(load_split(split), ROWS[:, [2, 0]])
    np.testing.assert_array_equal(split.labels["label"], COLUMNS["b"])
    assert split.classes == {}
    assert only(read_source(path, label="b")).features == ("a", "c")
    for options, message in (
        ({"columns": ["a", "z"]}, "has no column 'z'; it has time, a, b, kind, c"),
        ({"label": "z"}, "has no column 'z'"),
        ({"columns": ["a", "kind"]}, "column 'kind' holds"),
        ({"columns": ["a", "a"]}, "named twice"),
        ({"columns": ["a"], "label": "a"}, "named twice"),
    ):
        with pytest.raises(InputError, match=message):
            read_source(path, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("write", [write_csv, write_parquet])
def test_missing_cells_are_nan_and_are_counted(tmp_path: Path, write: Any) -> None:
    if write is write_csv:
        path = text(tmp_path / "x", "a,b\n1,2\n,3\nNA,\n4,nan\n")
    else:
        path = write(tmp_path / "x", {"a": [1, None, None, 4], "b": [2.0, 3.0, None, np.nan]})
    wanted = np.array([[1, 2], [np.nan, 3], [np.nan, np.nan], [4, np.nan]])
    np.testing.assert_array_equal(load_split(only(read_source(path))), wanted)
    dkde.import_dataset(path, tmp_path / "x.zarr")
    for described in (dkde.describe(path), dkde.describe(tmp_path / "x.zarr")):
        split = described["splits"]["train"]
        assert (split["missing"], split["value_range"]) == (4, [1.0, 4.0])
        assert split["feature_names"] == ["a", "b"]


@pytest.mark.parametrize(
    ("columns", "dtype"),
    [
        ({"a": np.arange(5, dtype="u1"), "b": np.arange(5, dtype="u1")}, "u1"),
        ({"a": np.arange(5, dtype="i8") + 2**62}, "i8"),
        ({"a": np.arange(5, dtype="f4")}, "f4"),
        ({"a": np.arange(5, dtype="f4"), "b": np.arange(5, dtype="i2")}, "f4"),
        ({"a": np.arange(5, dtype="f4"), "b": np.arange(5, dtype="i4")}, "f8"),
    ],
)
@pytest.mark.parametrize("statistics", [True, False])
def test_parquet_keeps_its_types(
    tmp_path: Path, columns: Any, dtype: str, statistics: bool
) -> None:
    path = write_parquet(tmp_path / "x", columns, write_statistics=statistics)
    rows = load_split(only(read_source(path)))
    assert rows.dtype == dtype
    np.testing.assert_array_equal(rows, np.column_stack([*columns.values()]))


@pytest.mark.parametrize("statistics", [True, False])
def test_integers_some_of_which_are_missing_are_floats(tmp_path: Path, statistics: bool) -> None:
    path = write_parquet(tmp_path / "x", {"a": [1, None, 3]}, write_statistics=statistics)
    rows = load_split(only(read_source(path)))
    assert rows.dtype == np.float64
    np.testing.assert_array_equal(rows[:, 0], [1, np.nan, 3])


def test_a_store_has_the_names_and_plain_xarray_has_them_too(tmp_path: Path) -> None:
    store = tmp_path / "x.zarr"
    path = write_csv(tmp_path / "x.csv", COLUMNS)
    dkde.import_dataset(path, store, columns=["b", "a"], label="kind")
    with xr.open_zarr(store, group="train") as split:
        assert split.attrs["feature_names"] == ["b", "a"]
        assert split["label"].attrs["flag_meanings"] == "land sea sea_ice"
        np.testing.assert_array_equal(split["label"].attrs["flag_values"], [0, 1, 2])
        np.testing.assert_array_equal(split["x"], ROWS[:, [1, 0]])
    tree = dkde.open_dataset(store)
    np.testing.assert_array_equal(tree["train"]["x"].sel(feature="a"), COLUMNS["a"])
    described = dkde.describe(store)
    assert described["import_options"] == {"columns": ["b", "a"], "label": "kind"}
    assert described["splits"]["train"]["classes"] == {"label": ["land", "sea", "sea_ice"]}
    said = "x.csv: the features are a, b, c; left out: time .timestamps., kind .text.; .*--columns"
    with pytest.warns(UserWarning, match=said):
        dkde.import_dataset(path, tmp_path / "y.zarr")
    described = dkde.describe(tmp_path / "y.zarr")
    assert described["columns_left_out"] == ["time", "kind"]
    assert described["left_out"] == {"time": "timestamps", "kind": "text"}


@pytest.mark.parametrize("kinds", [("csv", "parquet"), ("parquet", "csv")])
def test_tables_are_scored_where_they_lie(tmp_path: Path, kinds: tuple[str, str]) -> None:
    paths = [tmp_path / f"{role}.{kind}" for role, kind in zip("tq", kinds, strict=True)]
    for path, (start, stop) in zip(paths, [(0, 150), (150, N)], strict=True):
        write = write_parquet if path.suffix == ".parquet" else write_csv
        write(path, part(COLUMNS, start, stop))
    train, query = map(str, paths)
    wanted = dkde.score(train=ROWS[:150], query=ROWS[150:], bandwidth=0.5)
    said = "the features are a, b, c; left out: time .*, kind .text.; name .*--features"
    with pytest.warns(UserWarning, match=said) as told:
        found = dkde.score(train=train, query=f"{query}[10:]", bandwidth=0.5)
    assert len(told) == 1  # of both sides
    parts = json.loads(found.attrs["provenance"])["score"]["train"]["parts"]
    assert parts[0]["left_out"]["kind"] == "text"
    np.testing.assert_allclose(found["log_density"], wanted["log_density"][..., 10:], rtol=1e-12)
    with pytest.warns(UserWarning, match=said):
        found = dkde.score(train=str(tmp_path / f"?.{kinds[0]}"), query=query, bandwidth=0.5)
    np.testing.assert_allclose(found["log_density"], wanted["log_density"], rtol=1e-12)


def test_a_pattern_in_brackets_is_not_a_range(tmp_path: Path) -> None:
    write_csv(tmp_path / "p1.csv", part(COLUMNS, 0, 20))
    catalog = dkde.Catalog()
    assert catalog.rows(str(tmp_path / "p[0-9].csv")).n_rows == 20
    assert catalog.rows(str(tmp_path / "p1.csv[5:]")).n_rows == 15
    assert catalog.rows(str(tmp_path / "*.csv[5:]")).n_rows == 15


BAD = {
    "text in a column": ("a,b\n1,2\n3,x\n", r"column 'b', row 2: 'x' is no number"),
    "text late": ("a\n" + "1\n" * 3_000_000 + "x\n", r"column 'a', row 3000001: 'x'"),
    "cells missing": ("a,b\n1,2\n3\n", r"row 2 has 1 columns, and the first line has 2"),
    "no rows": ("a,b\n", "holds no rows"),
    "no numbers": ("a,b\nx,y\n", r"no column of numbers; it has a \(text\), b \(text\)"),
    "two of a name": ("a,a\n1,2\n", "two columns 'a'"),
    "nothing": ("", "an empty file"),
    "blank": ("\n1,2\n", "its first line is"),
    "an open quote": ('a,b\n1,2\n3,"4\n5,6\n', "the quote that opens a cell in line 3 is not"),
    "a quote that swallows": ('a,b\n1,"x\n2,y\n3,"z"\n', "in line 2 is not closed"),
    "an open quote in a long file": ('a,b\n1,"x\n' + "2,y\n" * 2_500_000, "in line 2 is not"),
    "an open quote among names": ('a,"b\n1,2\n', "in line 1 is not closed"),
    "names alone": ("a,b", "holds no rows"),
    "another separator": ("a b\n1,2\n", "first line has 1 .*separated by ','"),
    "hexadecimal": ("a\n1\n0x1F\n", "'0x1F' is no number"),
    "underscores": ("a\n1\n1_000\n", "'1_000' is no number"),
    "decimal commas": ("a;b\n1.5;2\n1,5;2\n", "'1,5' is no number"),
}


@pytest.mark.parametrize(("content", "message"), BAD.values(), ids=BAD.keys())
def test_bad_csv_is_one_line(tmp_path: Path, content: str, message: str) -> None:
    path = text(tmp_path / "x.csv", content)
    with pytest.raises(DataSetError, match=message) as caught:
        load_split(only(read_source(path)))
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "names", "rows"),
    [
        ("1,,3\n4,5,6", None, [[1, np.nan, 3], [4, 5, 6]]),
        ("1,NA,3\n4,5,6\n", None, [[1, np.nan, 3], [4, 5, 6]]),
        ("1,2,\n3,4,\n", None, [[1, 2, np.nan], [3, 4, np.nan]]),
        ("1.0  2.0\n3 4 \n", None, [[1, 2], [3, 4]]),
        ("  lon    lat\r\n 10.0    1.0  \r\n  9.0   -2.0", ("lon", "lat"), [[10, 1], [9, -2]]),
        ("lon, lat\n1, 2\n", ("lon", "lat"), [[1, 2]]),
        ("mass kg\n1\n2\n", ("mass kg",), [[1], [2]]),
        ("depth m,a\n1,2\n", ("depth m", "a"), [[1, 2]]),
        ("\ufeffa;b\n1;2", ("a", "b"), [[1, 2]]),
        ('"a\nb",c\n1,2\n', ("a\nb", "c"), [[1, 2]]),
        ("a\r1\r2\r", ("a",), [[1], [2]]),
        ("a\tb\n\t2\n", ("a", "b"), [[np.nan, 2]]),
    ],
)
def test_what_the_first_line_is(tmp_path: Path, content: str, names: Any, rows: Any) -> None:
    path = tmp_path / "x.csv"
    path.write_bytes(content.encode())
    split = only(read_source(path))
    assert split.features == names
    np.testing.assert_array_equal(load_split(split), rows)


def test_runs_of_blanks_are_one_wherever_the_file_is_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dkde.datasets.formats.csv.BLOCK_BYTES", 500)
    with (tmp_path / "x").open("w") as file:
        np.savetxt(file, ROWS, "%30.17g", header="  a   b   c", comments="")
    np.testing.assert_array_equal(load_split(only(read_source(tmp_path / "x"))), ROWS)


@pytest.mark.slow
@settings(max_examples=few(500))
@given(content=st.text(alphabet=" \r\n\t1é", max_size=25), size=st.integers(2, 9))
def test_blanks_are_squeezed_wherever_the_text_is_cut(content: str, size: int) -> None:
    text = content if content[-1:] in ("", "\n", "\r") else content + "\n"
    truth = re.sub(r"(^|(?<=[\r\n])) +| +(?=[\r\n ]|\Z)", "", text)
    found = Text(io.BytesIO(content.encode()), Path("x"), " ")
    pieces = []
    while piece := found.read(size):
        assert len(piece) <= size
        pieces.append(piece)
    assert b"".join(pieces).decode() == truth
    assert squeezed(text.encode()).decode() == truth


def is_closed(content: str) -> bool:
    """Whether every quote that opens a cell is closed, and in its line or before a separator."""
    i = 0
    while i < len(content):
        if content[i] != '"' or (i and content[i - 1] not in ",\n"):
            i += 1
            continue
        stop = i + 1
        while stop < len(content) and (content[stop] != '"' or content[stop : stop + 2] == '""'):
            stop += 2 if content[stop] == '"' else 1
        if stop >= len(content):
            return False
        after = stop + 1
        while content[after : after + 1] in (" ", "\t"):
            after += 1
        if "\n" in content[i:stop] and content[after : after + 1] not in ("", ",", "\n"):
            return False
        i = after + 1
    return True


@pytest.mark.slow
@settings(max_examples=few(500))
@given(content=st.text(alphabet='",\nx ', max_size=25), size=st.integers(2, 9))
def test_quotes_are_followed_wherever_the_text_is_cut(content: str, size: int) -> None:
    found = Text(io.BytesIO(content.encode()), Path("x"), ",")
    pieces: list[bytes] = []
    try:
        while piece := found.read(size):
            assert len(piece) <= size
            pieces.append(piece)
    except DataSetError:
        assert not is_closed(content)
    else:
        assert is_closed(content)
        text = content if content[-1:] in ("", "\n") else content + "\n"
        assert b"".join(pieces).decode() == text


@pytest.mark.parametrize(
    ("separator", "blanks"),
    [(",", " "), (",", "\t"), (";", " \t "), ("\t", "  "), (" ", " "), (" ", "   ")],
)
def test_blanks_after_a_cell_of_several_lines(tmp_path: Path, separator: str, blanks: str) -> None:
    lines = ["a,note,b,end", '1,"x\ny",2,"x\ny"', '4,"z\n",5,"z\n"', ""]
    content = "\n".join(lines).replace('",', f'"{blanks},').replace('"\n', f'"{blanks}\n')
    split = only(read_source(text(tmp_path / "x.csv", content.replace(",", separator))))
    np.testing.assert_array_equal(load_split(split), [[1, 2], [4, 5]])


def test_quotes_in_cells(tmp_path: Path) -> None:
    path = text(tmp_path / "x.csv", 'a,l\n1,"x\ny"\n2,"5"" pipe"\n3,5" pipe\n4,"a,b"\n5,"z"')
    split = only(read_source(path, label="l"))
    np.testing.assert_array_equal(load_split(split)[:, 0], [1, 2, 3, 4, 5])
    assert split.classes["label"] == ('5"_pipe', "a,b", "x_y", "z")
    np.testing.assert_array_equal(split.labels["label"], [2, 0, 0, 1, 3])
    # The end of a line within a cell is one, and no blank.
    with pytest.raises(DataSetError, match="'x_y' differ by nothing but blanks"):
        read_source(text(tmp_path / "y.csv", 'a,l\n1,"x\ny"\n2,"x y"'), label="l")


@pytest.mark.parametrize(
    ("content", "positions"),
    [("0,1,2\n7,8,9\n", True), (",0,1\n0,8,9\n", True), ("0\n5\n", False), ("1,2\n3,4\n", False)],
)
def test_positions_instead_of_names_are_told(tmp_path: Path, content: str, positions: bool) -> None:
    path = text(tmp_path / "x.csv", content)
    with (
        pytest.warns(UserWarning, match="as pandas numbers columns .*header=False")
        if positions
        else warnings.catch_warnings()
    ):
        assert only(read_source(path)).n_rows == 2


def test_numbers_of_rows_are_no_features(tmp_path: Path) -> None:
    path = text(tmp_path / "x.csv", ",Unnamed: 0,a,b,\n0,5,1,2,\n1,6,3,4,\n")
    source = read_source(path)
    why = "without a name, as a count of rows is"
    assert (only(source).features, source.left_out) == (
        ("a", "b"),
        dict.fromkeys(("Unnamed: 0.1", "Unnamed: 0", "Unnamed: 4"), why),
    )
    np.testing.assert_array_equal(load_split(only(source)), [[1, 2], [3, 4]])
    named = only(read_source(path, columns=["a", "Unnamed: 0"]))
    np.testing.assert_array_equal(load_split(named), [[1, 5], [3, 6]])
    path = write_parquet(tmp_path / "x", {"a": [1.0, 2.0], "__index_level_0__": [7, 8]})
    source = read_source(path)
    assert (only(source).features, source.left_out) == (("a",), {"__index_level_0__": why})


@pytest.mark.parametrize("statistics", [True, False])
def test_truths_that_are_missing_are_nan(tmp_path: Path, statistics: bool) -> None:
    columns = {"f": [True, None], "g": [True, False], "a": [1, 2]}
    path = write_parquet(tmp_path / "x", columns, write_statistics=statistics)
    source = read_source(path)
    assert (only(source).features, source.left_out) == (("a",), {"f": "bool", "g": "bool"})
    rows = load_split(only(read_source(path, columns=["f", "g"])))
    np.testing.assert_array_equal(rows, [[1, 1], [np.nan, 0]])
    rows = load_split(only(read_source(path, columns=["g"])))
    assert rows.dtype == np.uint8


@pytest.mark.parametrize(
    "columns", [{"a": [2**60 + 1, None]}, {"a": [2**60 + 1, 1], "b": [0.5, 1]}]
)
def test_integers_that_would_be_rounded_are_refused(tmp_path: Path, columns: Any) -> None:
    split = only(read_source(write_parquet(tmp_path / "x", columns)))
    with pytest.raises(InputError, match=r"x: column 'a', row 1, .* beyond 2\*\*53.* subtract"):
        load_split(split)


def test_integers_of_text_that_would_be_rounded_are_refused(tmp_path: Path) -> None:
    for cell in ("9007199254740993", " -9007199254740993 ", "+18014398509481985"):
        path = text(tmp_path / "x.csv", f"a,b\n1,2.5\n7,{cell}\n")
        with pytest.raises(InputError, match=r"column 'b', row 2, is -?\d+, an integer beyond"):
            load_split(only(read_source(path)))
    # Those that float64 holds, and numbers that are no integers, are as they are.
    split = only(read_source(text(tmp_path / "x.csv", "a\n9007199254740992\n1e300\ninf\nnan\n")))
    np.testing.assert_array_equal(load_split(split)[:, 0], [2.0**53, 1e300, np.inf, np.nan])


@pytest.mark.parametrize("cell", ["-", "?", '"1,234.5"', "5%", "<NA>"])
def test_a_column_with_marks_is_left_out_with_a_word(tmp_path: Path, cell: str) -> None:
    path = text(tmp_path / "x.csv", f"x,y\n1,{cell}\n3,4\n5,6\n")
    shown = re.escape(cell.strip('"'))
    said = rf"x\.csv: the features are x; left out: y \(text, for instance '{shown}' in row 1\)"
    with pytest.warns(UserWarning, match=said) as told:
        found = dkde.log_density(str(path), str(path), 1.0)
    assert len(told) == 1
    wanted = reference.log_density(*[np.array([[1.0], [3.0], [5.0]])] * 2, [1.0])[0]
    np.testing.assert_allclose(found, wanted, rtol=1e-9)
    with pytest.raises(InputError, match="column 'y' holds text, for instance"):
        dkde.Catalog(features=["x", "y"]).rows(str(path))
    with pytest.warns(UserWarning, match="left out: y"):
        dkde.log_density(str(path), [[0.0]], 1.0)


TIMES = "when,flag,x\n2020-01-01 12:00,true,1\n,,2\n2020-01-02T00:00:00.5,False,3\n"


@pytest.mark.slow
@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_timestamps_and_truths_are_features_when_they_are_named(
    tmp_path: Path, suffix: str
) -> None:
    path = tmp_path / f"x.{suffix}"
    if suffix == "csv":
        text(path, TIMES)
    else:
        when = np.array(["2020-01-01T12:00", "NaT", "2020-01-02T00:00:00.5"], "datetime64[us]")
        write_parquet(path, {"when": pa.array(when, pa.timestamp("us", "Europe/Berlin")),
                             "flag": [True, None, False], "x": [1.0, 2.0, 3.0]})  # fmt: skip
    source = read_source(path)
    assert (only(source).features, source.left_out) == (
        ("x",),
        {"when": "timestamps", "flag": "bool"},
    )
    day = 18262
    rows = np.array([[day + 0.5, 1, 1], [np.nan, np.nan, 2], [day + 1 + 0.5 / 86400, 0, 3]])
    names = ["when", "flag", "x"]
    said = "x.*: when is taken as days since 1970-01-01, flag is taken as 0 and 1"
    with pytest.warns(UserWarning, match=said):
        found = dkde.log_density(
            str(path), str(path), 1.0, source=dkde.Catalog(features=names), nan="drop"
        )
    kept = rows[[0, 2]]
    wanted = reference.log_density(kept, kept, [1.0])[0]
    np.testing.assert_allclose(np.asarray(found)[[0, 2]], wanted, rtol=1e-9)
    with pytest.warns(UserWarning, match=said):
        dkde.import_dataset(path, tmp_path / "x.zarr", columns=names)
    np.testing.assert_array_equal(dkde.open_dataset(tmp_path / "x.zarr")["train"]["x"].values, rows)
    described = dkde.describe(tmp_path / "x.zarr")
    assert described["converted"] == {"when": "days since 1970-01-01", "flag": "0 and 1"}
    part = next(iter(dkde.Catalog(str(tmp_path / "x.zarr")).splits().values()))
    assert part.units == ("days since 1970-01-01", None, None)


@pytest.mark.parametrize(
    ("content", "names"),
    [
        ("# x y\n1 2\n3 4\n", ("x", "y")),
        ("# x,y\n1,2\n3,4\n", ("x", "y")),
        ("#x y\n1 2\n3 4\n", ("x", "y")),
    ],
)
def test_a_line_of_names_that_is_a_comment(tmp_path: Path, content: str, names: Any) -> None:
    split = only(read_source(text(tmp_path / "x.txt", content)))
    assert split.features == names
    np.testing.assert_array_equal(load_split(split), [[1, 2], [3, 4]])


def test_decimal_commas_are_refused_or_told(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    with pytest.raises(
        DataSetError, match=r"no column of numbers; .* decimal comma, write a point"
    ):
        read_source(text(path, "x;y\n1,5;2,5\n3,5;4,5\n"))
    assert "write a point" in read_source(text(path, "x;y\n1,5;2\n")).left_out["x"]
    with pytest.raises(DataSetError, match="'5 2' between two separators"):
        read_source(text(path, "1,5 2,5\n3,5 4,5\n"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("2019,2020,2021\n1,2,3\n", "which may be years, and is read as a row"),
        ("a,1.5\n1,2\n", r"in which some cells are numbers \(1.5\), is read as names"),
    ],
)
def test_a_first_line_of_numbers_is_told(tmp_path: Path, content: str, message: str) -> None:
    with pytest.warns(UserWarning, match=message):
        read_source(text(tmp_path / "x.csv", content))


LISTS = {
    "list": lambda rows: pa.array(rows.tolist()),
    "fixed": lambda rows: pa.FixedSizeListArray.from_arrays(pa.array(rows.ravel()), 2),
    "large": lambda rows: pa.array(rows.tolist(), pa.large_list(pa.float64())),
    "float16": lambda rows: pa.array(
        [list(row) for row in rows.astype("f2")], pa.list_(pa.float16())
    ),
    "float32": lambda rows: pa.array(rows.tolist(), pa.list_(pa.float32(), 2)),
    "integers": lambda rows: pa.array((rows * 9).astype(int).tolist()),
}


@pytest.mark.sampled(6)
@pytest.mark.parametrize("kind", LISTS)
def test_a_column_of_lists_is_rows_of_features(tmp_path: Path, kind: str) -> None:
    column = LISTS[kind](ROWS[:, :2])
    rows = np.array(column.to_pylist(), float)
    path = write_parquet(tmp_path / "x.parquet", {"id": np.arange(N), "emb": column})
    for function in (read_source, lambda path: dkde.Catalog().rows(str(path)), dkde.describe):
        with pytest.raises(InputError, match=r"say which .*: --features emb, or --features id "):
            function(path)
    source = read_source(path, columns=["emb"])
    assert only(source).features == ("emb_0", "emb_1")
    np.testing.assert_array_equal(load_split(only(source)), rows)
    both = load_split(only(read_source(path, columns=["id", "emb"])))
    np.testing.assert_array_equal(both, np.column_stack([np.arange(N), rows]))
    named = dkde.Catalog(features=["emb"])
    wanted = reference.log_density(rows, rows, [0.5])[0]
    found = dkde.log_density(f"{path}", f"{path}", 0.5, source=named)
    np.testing.assert_allclose(np.asarray(found), wanted, rtol=1e-9)
    described = dkde.describe(path, features=["emb"])["splits"]["train"]
    assert list(described["columns"]) == ["emb_0", "emb_1"]
    # Alone, or beside text, it needs no name; of several files, and imported.
    for i, part in enumerate((column[:150], column[150:])):
        write_parquet(tmp_path / f"{i}.pq", {"emb": part})
    np.testing.assert_array_equal(load_split(only(read_source(tmp_path / "?.pq"))), rows)
    dkde.import_dataset(tmp_path / "?.pq", tmp_path / "x.zarr")
    np.testing.assert_array_equal(dkde.open_dataset(tmp_path / "x.zarr")["train"]["x"], rows)


def test_what_is_missing_in_lists(tmp_path: Path) -> None:
    column = pa.array([[1, 2], None, [3, None]])
    split = only(read_source(write_parquet(tmp_path / "x", {"emb": column})))
    np.testing.assert_array_equal(load_split(split), [[1, 2], [np.nan, np.nan], [3, np.nan]])
    path = write_parquet(tmp_path / "x", {"emb": pa.array([[1.0, 2.0], [3.0], [4.0, 5.0]])})
    with pytest.raises(InputError, match="x: column 'emb': row 2 has a list of 1 numbers, and oth"):
        load_split(only(read_source(path)))
    for i, rows in enumerate(([[1.0, 2.0]], [[1.0]])):
        write_parquet(tmp_path / f"{i}.pq", {"emb": pa.array(rows)})
    with pytest.raises(DataSetError, match="holds lists of 1 numbers, but lists of 2 numbers in 0"):
        read_source(tmp_path / "?.pq")
    for kind in (pa.list_(pa.list_(pa.float64())), pa.list_(pa.string()), pa.list_(pa.bool_())):
        path = write_parquet(tmp_path / "x", {"a": [1.0], "emb": pa.array([None], kind)})
        assert list(read_source(path).left_out) == ["emb"]
    large = pa.array([[2**60 + 1, 1]])
    path = write_parquet(tmp_path / "x", {"emb": large, "a": [0.5]})
    with pytest.raises(InputError, match=r"row 1, is \d+, an integer beyond"):
        load_split(only(read_source(path, columns=["emb", "a"])))


def test_encodings(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_bytes("a,größe\n1,2\n".encode("latin1"))
    with pytest.raises(DataSetError, match=r"first line is no UTF-8; .*iconv -f latin1"):
        read_source(path)
    path.write_bytes("a,l\n1,x\n2,grün\n".encode("latin1"))
    assert only(read_source(path)).n_rows == 2
    with pytest.raises(DataSetError, match=r"column 'l', row 2: the file is no UTF-8; .*iconv"):
        read_source(path, label="l")
    path.write_bytes("a,b\n1,2\n".encode("utf-16"))
    for forced in (None, "csv"):
        with pytest.raises(DataSetError, match=r"UTF-16.*iconv -f utf-16"):
            read_source(path, format=forced)


def test_the_checksum_of_several_files_is_of_their_names_and_order_too(tmp_path: Path) -> None:
    contents = "a\n1\n", "a\n2\n"
    checksums = set()
    for run, (folders, texts) in enumerate(
        [("ab", contents), ("ab", contents[::-1]), ("ba", contents), ("ab", ("a\n1\na\n2", "\n"))]
    ):
        root = tmp_path / str(run)
        paths = [root / folder / f"{i}.csv" for i, folder in enumerate(folders)]
        for path, content in zip(paths, texts, strict=True):
            path.parent.mkdir(parents=True)
            text(path, content)
        checksums.add(checksum_files(paths))
        moved = root.rename(tmp_path / f"moved {run}")
        checksums.add(checksum_files([moved / path.relative_to(root) for path in paths]))
    assert len(checksums) == 4
    content = tmp_path / "moved 0" / "a" / "0.csv"
    assert checksum_files([content]) == f"sha256:{hashlib.sha256(content.read_bytes()).hexdigest()}"


def test_columns_are_chosen_by_name_wherever_they_lie(tmp_path: Path) -> None:
    numbers = {name: COLUMNS[name] for name in "abc"}
    sources = [write_csv(tmp_path / "x.csv", numbers), write_parquet(tmp_path / "x.pq", numbers)]
    dkde.import_dataset(sources[0], tmp_path / "x.zarr")
    catalog = dkde.Catalog(features=["c", "a"])
    wanted = dkde.score(train=ROWS[:150, [2, 0]], query=ROWS[150:, [2, 0]], bandwidth=0.5)
    for source in (*map(str, sources), f"{tmp_path}/x.zarr::train"):
        found = dkde.score(
            train=f"{source}[:150]", query=f"{source}[150:]", bandwidth=0.5, source=catalog
        )
        np.testing.assert_allclose(found["log_density"], wanted["log_density"], rtol=1e-12)
        with pytest.raises(InputError, match=r"'z'.* it has a, b, c") as caught:
            dkde.Catalog(features=["a", "z"]).rows(source)
        assert "\n" not in str(caught.value)


def test_columns_that_differ_from_file_to_file(tmp_path: Path) -> None:
    pattern = tmp_path / "*.csv"
    text(tmp_path / "1.csv", "a,b\n1,2\n")
    for content, message in (
        ("a,c\n1,2\n", r"2\.csv: has no column 'b', unlike 1\.csv"),
        ("a,b,c\n1,2,3\n", r"2\.csv: has one more column, 'c', unlike 1\.csv"),
        ("a,b\n1,x\n", r"2\.csv: column 'b' holds text"),
        ("a,b\n1,2\n1,x\n", r"2\.csv: column 'b', row 2: 'x'"),
    ):
        text(tmp_path / "2.csv", content)
        with pytest.raises((DataSetError, InputError), match=message):
            read_source(pattern)
    text(tmp_path / "2.csv", "a,b,c\n1,2,3\n")
    assert only(read_source(pattern, columns=["b"])).n_rows == 2
    text(tmp_path / "2.csv", "a,b\n")
    assert only(read_source(pattern)).n_rows == 1


def test_what_is_no_pattern_of_tables(tmp_path: Path) -> None:
    with pytest.raises(DataSetError, match="matches no file"):
        read_source(tmp_path / "*.csv")
    np.save(tmp_path / "x.npy", ROWS)
    with pytest.raises(DataSetError, match="only tables can be read several at a time, not npy"):
        read_source(tmp_path / "*.npy")
    with pytest.raises(InputError, match="columns and label are for tables only, and this is npy"):
        read_source(tmp_path / "x.npy", columns=["a"])


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (["a", None, "b"], "is empty or NA in row 2"),
        ([3.0, np.nan, 10.0], "is empty or NA in row 2"),
        (["x y", "z", "x_y"], "x: column 'l', the label: classes 'x_y' differ by nothing but"),
        ([2**63, 1, 2], "beyond 64 bits"),
    ],
)
def test_labels_that_are_none(tmp_path: Path, labels: list[Any], message: str) -> None:
    column = pa.array(labels, pa.uint64() if labels[0] == 2**63 else None)
    path = write_parquet(tmp_path / "x", {"a": [1.0, 2.0, 3.0], "l": column})
    with pytest.raises(DataSetError, match=message):
        read_source(path, label="l")


def test_labels_that_are_whole_floats_are_whole(tmp_path: Path) -> None:
    split = only(read_source(text(tmp_path / "x.csv", "a,l\n1,3.0\n2,-1\n"), label="l"))
    np.testing.assert_array_equal(split.labels["label"], [3, -1])


@pytest.mark.parametrize("name", ["x.csv.gz", "x.parquet"])
def test_cut_anywhere_is_a_data_set_error(tmp_path: Path, name: str) -> None:
    write = write_parquet if name == "x.parquet" else write_csv
    path = write(tmp_path / name, COLUMNS)
    whole = path.read_bytes()
    for stop in np.unique(np.geomspace(1, len(whole) - 1, 20).astype(int)):
        path.write_bytes(whole[:stop])
        with pytest.raises(DataSetError, match=name) as caught:
            load_split(only(read_source(path)))
        assert "\n" not in str(caught.value)


@pytest.mark.slow
@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_tables_are_streamed(tmp_path: Path, suffix: str) -> None:
    n = 600_000
    columns = {name: rng.normal(size=n).round(3) for name in "abcd"}
    path = tmp_path / f"x.{suffix}"
    if suffix == "csv":
        np.savetxt(path, np.column_stack([*columns.values()]), "%.3f", ",", header="a,b,c,d",
                   comments="")  # fmt: skip
    else:
        write_parquet(path, columns)
    split = only(read_source(path))
    n_done, before = 0, pa.total_allocated_bytes()
    most = 0
    tracemalloc.start()
    for batch in split.batches():
        np.testing.assert_array_equal(batch[:, 1], columns["b"][n_done : n_done + len(batch)])
        n_done += len(batch)
        most = max(most, pa.total_allocated_bytes() - before)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert n_done == n
    assert peak + most < 48 * 2**20


def test_without_pyarrow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = text(tmp_path / "x.csv", "a\n1\n")
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(InputError, match=r'pip install "dkde\[tables\]"'):
        read_source(path)


@pytest.mark.parametrize(
    ("header", "names"),
    [
        ("by hand, on Tuesday\nx y", ("x", "y")),
        ("x y", ("x", "y")),
        ("station of five words here", None),
        ("it", None),
    ],
)
def test_comments_before_the_rows_are_left_out(tmp_path: Path, header: str, names: Any) -> None:
    np.savetxt(tmp_path / "x.txt", ROWS[:, :2], header=header)
    split = only(read_source(tmp_path / "x.txt"))
    assert split.features == names
    np.testing.assert_array_equal(load_split(split), ROWS[:, :2])


def test_comments_before_a_line_of_names(tmp_path: Path) -> None:
    path = text(tmp_path / "x.csv", "# station 5\n#\n# in metres\nx,y\n1,2\n3,4\n")
    split = only(read_source(path))
    assert split.features == ("x", "y")
    np.testing.assert_array_equal(load_split(split), [[1, 2], [3, 4]])
    with pytest.raises(DataSetError, match=r"column 'y', row 2: 'q' is no number"):
        load_split(only(read_source(text(path, "# note\nx,y\n1,2\n3,q\n"))))


def test_comments_among_the_rows_are_told(tmp_path: Path) -> None:
    path = text(tmp_path / "x.csv", "# x y\n1 2\n# a break\n  # and more\n3 4\n# end")
    with pytest.warns(
        UserWarning, match="3 lines after the first row begin with # and are left out"
    ):
        rows = load_split(only(read_source(path)))
    np.testing.assert_array_equal(rows, [[1, 2], [3, 4]])
    # Without comments in front such lines may be rows.
    path = text(tmp_path / "y.csv", "#id,x\n#1,2\n#2,3\n")
    assert only(read_source(path)).features == ("x",)


@given(st.lists(st.sampled_from(["#", "\n", "1", " ", "\r\n", "# c\n"])), st.integers(1, 9))
@settings(max_examples=few(100))
def test_comments_are_left_out_wherever_the_text_is_cut(pieces: list[str], size: int) -> None:
    content = "".join(pieces)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        file = Uncommented(io.BytesIO(content.encode()), Path("x"))
        found = b"".join(iter(lambda: file.read(size), b""))
    lines = re.split(r"\r\n|\n", content)
    expected = [line for line in lines if not line.lstrip(" ").startswith("#") and line.strip()]
    assert [line for line in found.decode().splitlines() if line.strip()] == expected


@pytest.mark.parametrize("separator", [";", "\t"])
def test_decimal_commas(tmp_path: Path, separator: str) -> None:
    lines = [("x", "y", "w"), ("1,5", "2", "a"), ("-0,25", "NA", "b"), ("1e3", ",5", "c")]
    path = text(tmp_path / "x.csv", "\n".join(map(separator.join, lines)) + "\n")
    split = only(read_source(path, decimal=","))
    assert split.features == ("x", "y")
    np.testing.assert_array_equal(load_split(split), [[1.5, 2], [-0.25, np.nan], [1000, 0.5]])
    without = text(tmp_path / "y.csv", f"1,5{separator}2,5\n3,5{separator}4\n")
    split = only(read_source(without, decimal=","))
    np.testing.assert_array_equal(load_split(split), [[1.5, 2.5], [3.5, 4]])
    with pytest.warns(UserWarning, match="left out: w"):
        dkde.import_dataset(path, tmp_path / "z", decimal=",")
    assert dkde.describe(tmp_path / "z")["import_options"]["decimal"] == ","
    with pytest.raises(InputError, match="decimal is 'x'; it must be a point or a comma"):
        dkde.import_dataset(path, tmp_path / "z2", decimal="x")
    with pytest.raises(InputError, match="a decimal mark is for text only"):
        read_source(write_parquet(tmp_path / "x.parquet", {"a": [1.0]}), decimal=",")


def test_archives_of_pictures_are_told_what_to_do(tmp_path: Path) -> None:
    text(tmp_path / "a.jpg", "no picture")
    with tarfile.open(tmp_path / "x.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "a.jpg", "train/cat/a.jpg")
    with pytest.raises(DataSetError, match="unpack an archive of pictures"):
        read_source(tmp_path / "x.tar.gz")


@pytest.mark.slow
def test_thousands_of_columns_take_linear_time(tmp_path: Path) -> None:
    names = [f"g{i}" for i in range(20_000)]
    path = text(tmp_path / "x.csv", ",".join(names) + "\n" + ",".join(["1"] * len(names)) + "\n")
    begun = time.process_time()
    split = only(read_source(path))
    assert split.features == tuple(names)
    assert time.process_time() - begun < 5  # with a pass over all names a column: over 20
