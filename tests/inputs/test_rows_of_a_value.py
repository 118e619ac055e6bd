"""Selectors of the rows that have one value of a label or a column."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import dkde
from dkde.errors import DkdeError, InputError
from dkde.inputs.sides import catalog_of, operand

RNG = np.random.default_rng(2)
FRAME = pd.DataFrame(RNG.normal(size=(40, 2)), columns=["x", "y"]).assign(
    kind=np.array(["T", "B cell", "T7"])[RNG.integers(0, 3, 40)],
    code=RNG.integers(0, 4, 40),
    sure=RNG.random(40) > 0.5,
    w=RNG.random(40),
    day=np.datetime64("2020-01-25") + np.arange(40) * np.timedelta64(1, "D"),
)


@pytest.fixture(params=["parquet", "csv", "nc"])
def rows(request, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = f"rows.{request.param}"
    if request.param == "parquet":
        FRAME.to_parquet(path)
    elif request.param == "csv":
        FRAME.to_csv(path, index=False)
    else:
        xr.Dataset.from_dataframe(FRAME).to_netcdf(path)
    return path


def values(selector, **given):
    found = operand(selector, "train", catalog_of(None, features=["x", "y"], **given))
    return found.rows.read(0, found.rows.n_rows, decode=True)


@pytest.mark.sampled(4)
@pytest.mark.parametrize(
    ("chosen", "mask"),
    [
        ("[kind=T]", FRAME.kind == "T"),
        ("[kind=B cell]", FRAME.kind == "B cell"),
        ("[kind=T7]", FRAME.kind == "T7"),
        ("[code=3]", FRAME.code == 3),
        ("[ code = 3 ]", FRAME.code == 3),
        ("[sure=True]", FRAME.sure),
        ("[day=2020-02-03]", FRAME.day == "2020-02-03"),
        ("[day.month=2]", FRAME.day.dt.month == 2),
        ("[:20][code=3]", (FRAME.code == 3) & (FRAME.index < 20)),
    ],
)
def test_rows_of_a_value(rows, chosen, mask):
    np.testing.assert_array_equal(values(rows + chosen), FRAME.loc[mask, ["x", "y"]])


def test_a_range_after_it_counts_its_rows(rows):
    expected = FRAME.loc[FRAME.code == 1, ["x", "y"]]
    np.testing.assert_array_equal(values(f"{rows}[code=1][1:-1]"), expected[1:-1])
    with pytest.raises(InputError, match=rf"{rows}\[code=1\]\[:41\] is out of range: it has"):
        values(f"{rows}[code=1][:41]")


def test_with_a_filter_weights_and_other_rows(rows):
    mask = (FRAME.code == 1) & (FRAME.y > 0) | (FRAME.kind == "T") & (FRAME.y > 0)
    found = values(f"{rows}[code=1]+{rows}[kind=T]", where="y > 0")
    assert (
        len(found) == (FRAME[FRAME.y > 0].code == 1).sum() + (FRAME[FRAME.y > 0].kind == "T").sum()
    )
    assert set(map(tuple, found)) == set(map(tuple, FRAME.loc[mask, ["x", "y"]].values))
    weighted = dkde.log_density(
        np.zeros((1, 2)), f"{rows}[kind=T]", 0.5, weights="w", features=["x", "y"]
    )
    one = FRAME[FRAME.kind == "T"]
    expected = dkde.log_density(np.zeros((1, 2)), one[["x", "y"]].values, 0.5, weights=one.w)
    np.testing.assert_allclose(weighted, expected, rtol=1e-12)


@pytest.mark.sampled(3)
@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ("[kind=A]", r"rows\.\w+\[kind=A\]: no row has this value; there are B cell, T, T7"),
        ("[code=9]", "no row has this value; there are 0, 1, 2, 3"),
        ("[day.month=7]", "no row has this value; there are 1, 2"),
        ("[nosuch=1]", "'nosuch'"),
        ("[kind.month=1]", "column 'kind' holds no times"),
        ("[kind=]", "cannot be read"),
        ("[=T]", "cannot be read"),
        ("[code=1][code=2]", "cannot be read"),
    ],
)
def test_what_is_not_there_is_said(rows, chosen, message):
    with pytest.raises(DkdeError, match=message):
        values(rows + chosen)


def test_labels_and_the_rows_that_sides_share():
    catalog = dkde.Catalog("digits")
    assert catalog.rows("all[label=3]").n_rows == 183
    sevens, eights = (catalog.rows(f"train[label={k}]").parts[0] for k in (7, 8))
    assert sevens.overlaps(catalog.rows("train[:50]").parts[0])
    assert sevens.overlaps(sevens)
    assert not sevens.overlaps(eights)
    with pytest.warns(UserWarning, match="share rows"):
        dkde.score("train[:50]", "train[label=7]", 1.0, source="digits")


@pytest.mark.filterwarnings("ignore:.* fewer than 10 rows")
def test_names_of_classes(tmp_path):
    names = ["cat", "dog"]
    for name, shade in zip(names, (50, 200), strict=True):
        (tmp_path / name).mkdir()
        for i in range(4):
            pixels = np.full((3, 3), shade + i, np.uint8)
            pytest.importorskip("PIL.Image").fromarray(pixels).save(tmp_path / name / f"{i}.png")
    store = str(tmp_path / "pictures.zarr")
    dkde.import_dataset(str(tmp_path), store)
    catalog = dkde.Catalog(store)
    (split,) = catalog.splits()
    for text in ("dog", "1"):
        rows = catalog.rows(f"{split}[label={text}]")
        assert rows.n_rows == 4
        assert rows.read(0, 4, decode=False)[:, 0].tolist() == [200, 201, 202, 203]
    with pytest.raises(
        InputError, match=r"\[label=cow\]: no row has this value; there are cat, dog"
    ):
        catalog.rows(f"{split}[label=cow]")
    query = catalog.rows(split).read(0, 8, decode=True) + 1
    found = dkde.score(query, split, 9.0, source=store, by="label", covariance=[1.0] * 9)
    assert found.label.values.tolist() == names
