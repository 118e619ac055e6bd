"""Text in CSV that spreadsheets take for formulas: written with an apostrophe, read without."""

import csv
import io

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import xarray as xr
from hypothesis import example, given
from hypothesis import strategies as st

import dkde
from dkde.rows.csv_cells import marked, unmarked
from dkde.rows.csv_reading import _unmarked

FORMULAS = ['=cmd|" /C calc"!A0', "+a", "-a", "@SUM(1)", "\ta", "\ra", "'=a", "''+", "-1+1"]
HARMLESS = ["a", "-1", "+1.5e3", "", "'a", "a=b", "-inf"]


@given(st.text(st.sampled_from("'=+-@\t\ra1. ")))
@example("'-1")
def test_what_is_written_is_read(text):
    assert unmarked(marked(text)) == text
    batch = pa.record_batch({"t": [marked(text), None], "n": [-1.0, 2.0]})
    assert _unmarked(batch).to_pydict() == {"t": [text, None], "n": [-1.0, 2.0]}


@pytest.mark.parametrize("text", FORMULAS)
def test_no_formula_is_written(text):
    assert marked(text) == f"'{text}"


@pytest.mark.parametrize("cell", [*HARMLESS, -1.5, -2, np.float64(-1), None])
def test_numbers_and_other_text_stay(cell):
    assert marked(cell) is cell


def test_cells_with_returns_are_one_cell():
    text = dkde.csv_text(["a\rb", "c\n"], [["\r", -0.1], ['"', None]])
    found = list(csv.reader(io.StringIO(text, newline="")))
    assert found == [["a\rb", "c\n"], ["'\r", "-0.1"], ['"', ""]]
    assert text.count("\r\n") == 0


def test_names_of_samples_come_back(tmp_path):
    names = ["=x", "'@y", "z"]
    rows = pd.DataFrame(np.random.default_rng(0).normal(size=(30, 3)), columns=names)
    path = tmp_path / "s.csv"
    dkde.sample(rows, 0.5, 5, random_state=0, output=path)
    assert path.read_text().splitlines()[0] == "'=x,''@y,z"
    (split,) = dkde.describe(str(path))["splits"].values()
    assert split["feature_names"] == names
    assert dkde.log_density(rows[names[::-1]], str(path), 0.5).shape == (30,)
    with dkde.csv_as_is():
        dkde.sample(rows, 0.5, 5, random_state=0, output=path, overwrite=True)
    assert path.read_text().splitlines()[0] == "=x,'@y,z"


def scores():
    return xr.Dataset(
        {"log_density": (("bandwidth", "=row"), [[-1.5, -2.0, -0.25]])},
        {"bandwidth": [0.1], "kind": ("=row", ["=a", "-1", "-b"])},
    )


def test_text_of_results_is_marked_and_comes_back(tmp_path):
    path = tmp_path / "r.csv"
    dkde.export(scores(), path)
    lines = path.read_text().splitlines()
    assert lines[0].split(",")[:3] == ["split", "'=row", "kind"]
    assert [line.split(",")[2] for line in lines[1:]] == ["'=a", "-1", "'-b"]
    assert [line.split(",")[4] for line in lines[1:]] == ["-1.5", "-2.0", "-0.25"]
    chosen = dkde.describe(str(path), where="kind == '=a' or kind == '-b'", features="=row")
    (split,) = chosen["splits"].values()
    assert (split["rows"], split["feature_names"]) == (2, ["=row"])
    with dkde.csv_as_is():
        dkde.export(scores(), path, overwrite=True)
    assert path.read_text().splitlines()[1].split(",")[2] == "=a"


def test_labels_come_back(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text(dkde.csv_text(["x", "kind"], [[0.5, "=b"], [1.5, "'-a"], [2.5, "c"]]))
    store = str(tmp_path / "a.zarr")
    dkde.import_dataset(str(path), store, label="kind")
    (split,) = dkde.describe(store)["splits"].values()
    assert split["classes"]["label"] == ["'-a", "=b", "c"]
