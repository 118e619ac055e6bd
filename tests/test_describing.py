"""What is said of a data set is what is in it."""

import json

import numpy as np
import pytest

import dkde


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
    monkeypatch.setattr("dkde.describing._RANGE_BYTES", 1)
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
