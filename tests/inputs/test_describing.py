"""What is said of a data set is what is in it."""

import json

import numpy as np
import pytest

import dkde


@pytest.mark.slow
def test_a_store(tmp_path):
    store = tmp_path / "d.zarr"
    dkde.import_dataset("digits", store, shuffle_seed=1)
    described = dkde.describe(store)
    assert json.loads(json.dumps(described)) == described
    assert described["kind"] == "data set"
    assert described["source"] == "digits"
    assert described["import_options"] == {"shuffle_seed": 1}
    assert list(described["splits"]) == ["train", "valid", "test"]
    split = described["splits"]["train"]
    assert (split["rows"], split["features"], split["dtype"]) == (1078, 64, "uint8")
    assert split["bytes_raw"] == 1078 * 64
    assert 0 < split["bytes_stored"] < split["bytes_raw"]
    assert split["value_range"] == [0.0, 16.0]
    assert split["image_shape"] == [8, 8]
    assert split["labels"] == {"label": 10}
    assert split["checksum"].startswith("sha256:")


@pytest.mark.slow
def test_a_file_says_the_same_as_the_store_made_of_it(tmp_path):
    store = tmp_path / "d.zarr"
    dkde.import_dataset("digits", store)
    file, stored = dkde.describe("digits")["splits"], dkde.describe(store)["splits"]
    only_stores = {"chunk_rows", "bytes_stored", "checksum", "index"}
    for name, split in file.items():
        assert {split[key] for key in only_stores} == {None}
        assert {k: v for k, v in split.items() if k not in only_stores} == {
            k: v for k, v in stored[name].items() if k not in only_stores
        }


def test_the_range_leaves_out_what_is_not_finite(tmp_path):
    np.save(tmp_path / "x.npy", np.array([[np.nan, 2.0], [np.inf, -1.0]]))
    assert dkde.describe(tmp_path / "x.npy")["splits"]["train"]["value_range"] == [-1.0, 2.0]
    np.save(tmp_path / "y.npy", np.full((2, 2), np.nan))
    assert dkde.describe(tmp_path / "y.npy")["splits"]["train"]["value_range"] is None


def test_a_large_file_is_not_read_to_its_end(tmp_path, monkeypatch):
    monkeypatch.setattr("dkde.inputs.describing._RANGE_BYTES", 1)
    rows = np.zeros((3_000_000, 1))
    rows[-1] = 9
    np.save(tmp_path / "x.npy", rows)
    split = dkde.describe(tmp_path / "x.npy")["splits"]["train"]
    assert split["value_range_rows"] < split["rows"]
    assert split["value_range"] == [0.0, 0.0]


def test_what_is_no_data_set(tmp_path):
    with pytest.raises(dkde.DataSetError, match="no such file"):
        dkde.describe(tmp_path / "none")
    (tmp_path / "zarr.json").write_text('{"zarr_format": 3, "node_type": "group"}')
    with pytest.raises(dkde.DataSetError, match="not a data set of dkde"):
        dkde.describe(tmp_path)


def test_a_result_is_no_data_set(tmp_path):
    store = tmp_path / "r.zarr"
    dkde.sweep(train="train", valid="valid", source="digits", bandwidths=[1, 2, 4], output=store)
    with pytest.raises(dkde.DataSetError, match=r"is a result of dkde.*open it with xarray"):
        dkde.describe(store)


SCALES = np.array([100.0, 1.0, 0.001])


@pytest.fixture
def table(tmp_path):
    """A table of three columns of unlike scales, as a file and as a data set."""
    rows = np.random.default_rng(0).normal(size=(500, 3)) * SCALES
    rows[3, 1], rows[5, 2], rows[6, 2] = np.nan, np.inf, -np.inf
    path = tmp_path / "t.csv"
    np.savetxt(path, rows, delimiter=",", header="a,b,c", comments="")
    dkde.import_dataset(path, tmp_path / "t.zarr")
    return [path, tmp_path / "t.zarr"], rows


class TestColumns:
    def test_figures_of_each(self, table):
        places, rows = table
        for place in places:
            split = dkde.describe(place)["splits"]["train"]
            assert (split["missing"], split["infinite"]) == (1, 2)
            assert list(split["columns"]) == ["a", "b", "c"]
            for column, found in enumerate(split["columns"].values()):
                values = rows[:, column]
                finite = values[np.isfinite(values)]
                assert found["value_range"] == [finite.min(), finite.max()]
                np.testing.assert_allclose(found["mean"], finite.mean(), rtol=1e-9)
                deviation = finite.std(ddof=1)
                np.testing.assert_allclose(found["standard_deviation"], deviation, rtol=1e-9)
            assert split["columns"]["b"]["missing"] == 1
            assert split["columns"]["c"]["infinite"] == 2
            assert 5e4 < split["ratio_of_standard_deviations"] < 2e5
            assert "a spreads" in split["advice"]
            assert "--covariance diag" in split["advice"]

    def test_of_some_columns(self, table):
        places, rows = table
        for place in places:
            split = dkde.describe(place, ["c", "b"])["splits"]["train"]
            assert (split["features"], split["feature_names"]) == (2, ["c", "b"])
            assert list(split["columns"]) == ["c", "b"]
            assert split["value_range"] == [np.nanmin(rows[:, 1]), np.nanmax(rows[:, 1])]
            with pytest.raises(dkde.InputError, match=r"has no (feature|column) 'q'.* a, b, c"):
                dkde.describe(place, ["q"])
            with pytest.raises(dkde.InputError, match="more than once"):
                dkde.describe(place, ["a", "a"])

    def test_the_deviations_are_those_of_diag(self, tmp_path):
        rows = np.random.default_rng(0).normal(size=(20, 2)) * [1, 30]
        np.save(tmp_path / "x.npy", rows)
        columns = dkde.describe(tmp_path / "x.npy")["splits"]["train"]["columns"]
        scales = [each["standard_deviation"] for each in columns.values()]
        by_name = dkde.score(rows + 0.1, rows, 1.0, covariance="diag")
        by_scale = dkde.score(rows + 0.1, rows, 1.0, covariance=np.array(scales))
        np.testing.assert_allclose(by_scale.log_density, by_name.log_density, rtol=1e-9)

    def test_columns_without_names(self, tmp_path):
        np.save(tmp_path / "x.npy", np.arange(12).reshape(4, 3))
        split = dkde.describe(tmp_path / "x.npy")["splits"]["train"]
        assert list(split["columns"]) == ["0", "1", "2"]
        with pytest.raises(dkde.InputError, match="have no names"):
            dkde.describe(tmp_path / "x.npy", ["0"])

    def test_columns_of_one_name(self, tmp_path):
        names = ["a", "a", "b"]
        dkde.import_rows(np.diag([np.nan, 1.0, 2.0]), tmp_path / "x.zarr", feature_names=names)
        split = dkde.describe(tmp_path / "x.zarr")["splits"]["train"]
        assert (list(split["columns"]), split["missing"]) == (["0", "1", "2"], 1)

    def test_what_is_constant(self, tmp_path):
        np.save(tmp_path / "x.npy", np.array([[1.0, 2.0], [1.0, 3.0]]))
        advice = dkde.describe(tmp_path / "x.npy")["splits"]["train"]["advice"]
        assert advice == "0 does not vary: --covariance diag and full need --singular drop"

    def test_of_wide_rows_how_many_are_constant(self, tmp_path):
        dkde.import_dataset("digits", tmp_path / "d.zarr")
        for place in ("digits", tmp_path / "d.zarr"):
            split = dkde.describe(place)["splits"]["train"]
            assert split["columns"] is None
            assert split["constant_features"] == 3
            assert split["advice"].startswith("3 of 64 features do not vary")

    def test_values_may_be_left_alone(self, table, monkeypatch):
        (_, store), rows = table
        monkeypatch.setattr("dkde.inputs.describing.Tally", None)
        split = dkde.describe(store, values=False)["splits"]["train"]
        assert split["columns"] is None
        assert (split["missing"], split["infinite"]) == (1, 2)
        assert split["value_range"] == [rows[:, 0].min(), rows[:, 0].max()]

    def test_progress(self, table):
        for place in table[0]:
            told = []
            dkde.describe(place, progress=lambda *state, told=told: told.append(state))
            assert told[-1][1:] == (500, 500)
            assert told[-1][0].endswith("::train")


@pytest.mark.slow
def test_a_split_alone(tmp_path):
    dkde.import_dataset("digits", tmp_path / "d.zarr")
    for place in (f"{tmp_path}/d.zarr::valid", "digits::valid"):
        described = dkde.describe(place)
        assert described["name"] == place
        assert list(described["splits"]) == ["valid"]
    with pytest.raises(dkde.InputError, match=r"has no split 'none'; it has train, valid, test"):
        dkde.describe("digits::none")
