"""Imports and descriptions of the rows that meet a condition."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from PIL import Image

import dkde
from dkde.errors import InputError
from dkde.inputs.selectors import Catalog

RNG = np.random.default_rng(6)
N = 90
TABLE = pd.DataFrame({
    "x": RNG.normal(size=N), "y": RNG.normal(size=N), "year": np.arange(N) // 30 + 2018,
    "kind": np.array(["ash", "oak", "yew"])[RNG.integers(0, 3, N)],
})  # fmt: skip
WHERE = "year >= 2019 and not kind == 'oak'"
KEPT = np.flatnonzero((TABLE["year"] >= 2019) & (TABLE["kind"] != "oak"))


def csv(folder):
    TABLE.to_csv(folder / "t.csv", index=False)
    return folder / "t.csv", {}


def commas(folder):
    TABLE.to_csv(folder / "t.csv", index=False, sep=";", decimal=",")
    return folder / "t.csv", {"decimal": ","}


def several(folder):
    TABLE[:40].to_csv(folder / "a.csv", index=False)
    TABLE[40:].to_csv(folder / "b.csv", index=False)
    return folder / "*.csv", {}


def parquet(folder):
    TABLE.to_parquet(folder / "t.parquet", row_group_size=20)
    return folder / "t.parquet", {}


def hive(folder):
    for year, rows in TABLE.groupby("year"):
        (folder / f"t/year={year}").mkdir(parents=True)
        rows.drop(columns="year").to_parquet(folder / f"t/year={year}/p.parquet")
    return folder / "t", {}


FORMS = {"CSV": csv, "decimal commas": commas, "several CSV": several, "Parquet": parquet,
         "hive": hive}  # fmt: skip


def stored(path, split="train"):
    (part,) = Catalog().rows(f"{path}::{split}").parts
    return part, part.source.read(0, len(part))


@pytest.mark.sampled(3)
@pytest.mark.parametrize("form", FORMS)
def test_tables(form, tmp_path):
    source, options = FORMS[form](tmp_path)
    store = tmp_path / "d.zarr"
    dkde.import_dataset(
        source, store, columns=["y", "x"], label="kind", where=f" {WHERE} ", **options
    )
    part, rows = stored(store)
    np.testing.assert_array_equal(rows, TABLE[["y", "x"]].to_numpy()[KEPT])
    labels = part.coordinates["label"].read(0, len(KEPT))
    names = np.array(part.classes["label"])[labels]
    np.testing.assert_array_equal(names, TABLE["kind"][KEPT])
    np.testing.assert_array_equal(part.coordinates["source_row"].read(0, len(KEPT)), KEPT)
    assert dkde.describe(store)["import_options"]["where"] == WHERE


@pytest.mark.sampled(3)
@pytest.mark.parametrize("label", ["label", "x"])
@pytest.mark.parametrize("form", ["CSV", "several CSV", "Parquet"])
def test_a_column_of_the_name_label_is_that_column(form, label, tmp_path, monkeypatch):
    monkeypatch.setitem(globals(), "TABLE", TABLE.rename(columns={"kind": "label"}).round(0))
    source, _ = FORMS[form](tmp_path)
    dkde.import_dataset(
        source, tmp_path / "d.zarr", columns=["y"], label=label, where="label == 'oak'"
    )
    part, _ = stored(tmp_path / "d.zarr")
    numbers = part.coordinates["source_row"].read(0, len(part))
    np.testing.assert_array_equal(numbers, np.flatnonzero(TABLE["label"] == "oak"))


@pytest.mark.parametrize("form", ["CSV", "Parquet"])
def test_a_column_that_is_made_the_label_keeps_its_name(form, tmp_path):
    source, _ = FORMS[form](tmp_path)
    with pytest.raises(InputError, match=r"has no column 'label' for where; it has .*kind"):
        dkde.import_dataset(source, tmp_path / "d", label="kind", where="label == 'oak'")


@pytest.mark.parametrize("form", [name for name in FORMS if name != "decimal commas"])
def test_tables_are_described(form, tmp_path):
    source, _ = FORMS[form](tmp_path)
    found = dkde.describe(source, ["x", "y"], where=WHERE)
    assert found["where"] == WHERE
    split = found["splits"]["train"]
    assert (split["rows"], split["rows_in_all"], split["value_range_rows"]) == (
        len(KEPT),
        N,
        len(KEPT),
    )
    for name in ("x", "y"):
        values = TABLE[name][KEPT]
        figures = split["columns"][name]
        assert figures["mean"] == pytest.approx(values.mean(), rel=1e-12)
        assert figures["standard_deviation"] == pytest.approx(values.std(), rel=1e-12)
        assert figures["value_range"] == [values.min(), values.max()]


def test_a_data_set_is_described(tmp_path):
    store = tmp_path / "d.zarr"
    dkde.import_dataset(csv(tmp_path)[0], store, columns=["x", "y"], label="kind")
    found = dkde.describe(store, where="x > 0 and label in ['ash', 'yew']")["splits"]["train"]
    kept = TABLE[(TABLE["x"] > 0) & (TABLE["kind"] != "oak")]
    assert (found["rows"], found["rows_in_all"], found["labels"]) == (len(kept), N, {"label": 2})
    assert found["columns"]["y"]["mean"] == pytest.approx(kept["y"].mean(), rel=1e-12)
    assert (found["checksum"], found["index"]) == (None, None)
    plain = dkde.describe(store)
    assert "where" not in plain
    assert "rows_in_all" not in plain["splits"]["train"]


def test_files_with_labels(tmp_path):
    digits = dkde.describe("digits", where="label == 3")["splits"]
    dkde.import_dataset("digits", tmp_path / "d.zarr", where="label == 3")
    for name in ("train", "valid", "test"):
        part, rows = stored(tmp_path / "d.zarr", name)
        (all_rows,) = Catalog().rows(f"digits::{name}").parts
        right = np.flatnonzero(all_rows.coordinates["label"].read(0, len(all_rows)) == 3)
        np.testing.assert_array_equal(rows, all_rows.source.read(0, len(all_rows))[right])
        assert set(part.coordinates["label"].read(0, len(part))) == {3}
        assert digits[name]["rows"] == len(right)
        assert digits[name]["rows_in_all"] == len(all_rows)


def test_pictures_by_the_names_of_their_classes(tmp_path):
    for name, grey in (("cat", 10), ("dog", 200)):
        (tmp_path / "p" / name).mkdir(parents=True)
        for i in range(3):
            picture = Image.fromarray(np.full((4, 4), grey + i, np.uint8))
            picture.save(tmp_path / "p" / name / f"{i}.png")
    dkde.import_dataset(tmp_path / "p", tmp_path / "d.zarr", where="label == 'dog'")
    _, rows = stored(tmp_path / "d.zarr")
    np.testing.assert_array_equal(rows[:, 0], [200, 201, 202])


@pytest.mark.parametrize("order", [{"order": True}, {"shuffle_seed": 3}], ids=str)
def test_source_row_is_that_of_the_source_in_any_order(order, tmp_path):
    source, _ = parquet(tmp_path)
    dkde.import_dataset(source, tmp_path / "d.zarr", columns=["x"], where=WHERE, **order)
    part, rows = stored(tmp_path / "d.zarr")
    numbers = part.coordinates["source_row"].read(0, len(part))
    assert sorted(numbers) == list(KEPT)
    np.testing.assert_array_equal(rows[:, 0], TABLE["x"].to_numpy()[numbers])


@pytest.mark.slow
@pytest.mark.parametrize("suffix", ["nc", "zarr"])
def test_variables(suffix, tmp_path):
    path = str(tmp_path / f"t.{suffix}")
    sizes = {"time": 5, "lat": 4, "level": 2}
    data = xr.Dataset(
        {
            "t": (tuple(sizes), RNG.normal(size=(5, 4, 2))),
            "s": (("time", "lat"), RNG.normal(size=(5, 4))),
        },
        coords={"time": np.arange(5), "lat": np.linspace(-1, 1, 4)},
    )
    data.to_netcdf(path) if suffix == "nc" else data.to_zarr(path, consolidated=False)
    kept = (data["lat"] > 0) & (data["time"] < 3) & (data["s"] > -9)
    right = data.where(kept, drop=True).stack(row=("time", "lat"))
    choice = {"row_dim": ["time", "lat"], "where": "lat > 0 and time < 3"}
    dkde.import_dataset(path, tmp_path / "d.zarr", columns=["s", "t"], **choice)
    _, rows = stored(tmp_path / "d.zarr")
    both = np.column_stack([right["s"], right["t"].transpose("row", "level")])
    np.testing.assert_array_equal(rows, both)
    found = dkde.describe(path, ["s", "t"], **choice)
    assert (found["rows"], found["rows_in_all"], found["columns"]) == (6, 20, 3)
    for name in ("s", "t"):
        assert found["variables"][name]["mean"] == pytest.approx(float(right[name].mean()))
    assert found["variables"]["lat"]["mean"] is None
    assert found["ratio_of_standard_deviations"] > 0


def test_what_cannot_be(tmp_path):
    source, _ = csv(tmp_path)
    np.save(tmp_path / "x.npy", np.ones((3, 2)))
    for call in (lambda *a, **k: dkde.import_dataset(*a, tmp_path / "d.zarr", **k), dkde.describe):
        with pytest.raises(dkde.InputError, match="none of its 90 rows is one where year > 3000"):
            call(source, where="year > 3000")
        with pytest.raises(dkde.InputError, match="has no column 'depth' for where; it has x, y"):
            call(source, where="depth > 3000")
        with pytest.raises(dkde.InputError, match="its columns have no names"):
            call(tmp_path / "x.npy", where="x > 3")
        with pytest.raises(dkde.InputError, match="where"):
            call(source, where="print(3)")
    assert not (tmp_path / "d.zarr").exists()
