"""Coordinates of text, with and without missing values, go through and come back."""

import numpy as np
import pandas as pd
import pytest
import reference
import xarray as xr

import dkde

N, H = 12, 1.0
NAMES = np.array([f"s{i}" for i in range(N)], object)

pytestmark = pytest.mark.filterwarnings("ignore:train .* share rows")


def stations(label, name="station"):
    values = np.random.default_rng(0).normal(size=N)
    return xr.Dataset({"t": ("station", values)}, {name: ("station", label)})


def missing():
    found = NAMES.copy()
    found[3] = None
    return found


def written(dataset, folder, form):
    if form == "dataset":
        return dataset
    if form == "nc":
        dataset.to_netcdf(folder / "d.nc", engine="h5netcdf")
        return str(folder / "d.nc")
    path = folder / "d.zarr"
    dataset.to_zarr(path, zarr_format=int(form[-1]), consolidated=False)
    return str(path)


FORMS = ["dataset", "nc", "zarr 2", "zarr 3"]


@pytest.mark.sampled(16)
@pytest.mark.parametrize("name", ["station", "label"])
@pytest.mark.parametrize("label", [NAMES, missing()], ids=["whole", "missing"])
@pytest.mark.parametrize("form", FORMS)
def test_they_come_back(tmp_path, form, label, name):
    data = written(stations(label, name), tmp_path, form)
    call = {"source": dkde.Catalog(features=["t"])}
    expected = ["" if value is None else value for value in label]
    found = dkde.score(data, data, H, **call)
    assert found[name].values.tolist() == expected
    rows = stations(label).t.values.reshape(-1, 1)
    truth = reference.log_density(rows, rows, [H])
    np.testing.assert_allclose(found.log_density, np.asarray(truth, float), rtol=1e-9)
    kept = dkde.score(data, data, H, output=tmp_path / "r.zarr", **call)
    assert kept[name].values.tolist() == expected
    dkde.export(tmp_path / "r.zarr", tmp_path / "r.csv")
    dkde.export(tmp_path / "r.zarr", tmp_path / "r.nc")
    assert pd.read_csv(tmp_path / "r.csv", keep_default_na=False)[name].tolist() == expected
    with xr.open_dataset(tmp_path / "r.nc", engine="h5netcdf") as again:
        assert again[name].values.tolist() == expected
    if form != "dataset":
        described = dkde.describe(data, ["t"])
        assert described["rows"] == N
        assert not described["variables"][name]["numeric"]


@pytest.mark.parametrize(
    ("label", "expected"),
    [
        (NAMES.astype(np.dtypes.StringDType()), NAMES.tolist()),
        (pd.array([*NAMES[:-1], None], dtype="string"), [*NAMES[:-1], ""]),
        (pd.Categorical(NAMES), NAMES.tolist()),
        (np.arange(N) % 2 == 0, (np.arange(N) % 2 == 0).tolist()),
        (pd.array([None, *range(1, N)], dtype="Int64"), [np.nan, *range(1, N)]),
    ],
    ids=["text", "pandas", "categories", "bool", "integers"],
)
def test_other_dtypes_come_back(label, expected):
    data = stations(label, "label")
    found = dkde.score(data, data, H).label.values
    np.testing.assert_array_equal(found, np.array(expected, found.dtype))


def test_what_no_store_holds_is_left_out_in_a_line():
    mixed = NAMES.copy()
    mixed[2] = 5
    data = stations(mixed, "label")
    with pytest.warns(UserWarning, match=r"'label' holds objects \(int, str\), .* it is left out"):
        assert "label" not in dkde.score(data, data, H).coords
