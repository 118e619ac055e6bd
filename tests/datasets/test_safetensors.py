"""Tensors of safetensors files: splits by name, of which ranges are read."""

from pathlib import Path

import numpy as np
import pytest
import reference

import dkde
from dkde.inputs.selectors import Catalog
from dkde.rows.tensor_file import TensorSource

numpy_files = pytest.importorskip("safetensors.numpy")

ROWS = np.random.default_rng(1).normal(size=(50, 3))


@pytest.fixture
def path(tmp_path):
    tensors = {"a": ROWS[:30], "b": ROWS[30:], "bias": ROWS[0], "cube": ROWS.reshape(5, 10, 3)}
    numpy_files.save_file(tensors, tmp_path / "t.safetensors")
    return str(tmp_path / "t.safetensors")


def test_tensors_of_two_dims_are_splits(path):
    found = dkde.score(f"{path}::b", f"{path}::a[5:]", 0.7)
    right = reference.log_density(ROWS[30:], ROWS[5:30], [0.7])
    np.testing.assert_allclose(found.log_density, right, rtol=1e-9)
    with pytest.raises(dkde.InputError, match=r"has several splits \(a, b\); write .*::a"):
        dkde.log_density(ROWS, path, 0.7)
    with pytest.raises(dkde.InputError, match=r"has no split 'bias', .*; it has a, b"):
        dkde.log_density(ROWS, f"{path}::bias", 0.7)


def test_a_task_reads_its_range(path):
    source = Catalog().splits(path)["a"].source
    assert isinstance(source, TensorSource)
    assert source.resident_bytes == 0
    np.testing.assert_array_equal(source.read(3, 9), ROWS[3:9])


def test_files_without_rows_are_refused(tmp_path):
    numpy_files.save_file({"bias": ROWS[0], "cube": ROWS.reshape(5, 10, 3)}, tmp_path / "t")
    message = r"has no tensor of two dims, .*; it has bias \(3,\), cube \(5, 10, 3\)"
    with pytest.raises(dkde.DataSetError, match=message):
        dkde.log_density(ROWS, str(tmp_path / "t"), 0.7)


def test_a_file_that_changed_is_refused(path):
    source = Catalog().splits(path)["a"].source
    numpy_files.save_file({"a": ROWS.astype("f4")}, path)
    with pytest.raises(dkde.DataSetError, match=r"tensor a was float64 of shape .* it changed"):
        source.read(0, 2)


def test_bfloat16_is_read_in_float32(tmp_path):
    small = pytest.importorskip("ml_dtypes").bfloat16
    numpy_files.save_file({"a": ROWS.astype(small)}, tmp_path / "t.safetensors")
    path = str(tmp_path / "t.safetensors")
    exact = ROWS.astype(small).astype(float)
    found = dkde.log_density(ROWS, path, 0.7)
    right = reference.log_density(ROWS, exact, [0.7])[0]
    np.testing.assert_allclose(np.asarray(found), right, rtol=1e-9)
    dkde.import_dataset(path, tmp_path / "t.zarr")
    found = dkde.log_density(ROWS, str(tmp_path / "t.zarr::a"), 0.7)
    np.testing.assert_allclose(np.asarray(found), right, rtol=1e-9)


@pytest.mark.parametrize("n_bytes", [5, 9, 40, -1, -100])
def test_damaged_files_are_refused(path, tmp_path, n_bytes):
    (tmp_path / "cut").write_bytes(Path(path).read_bytes()[:n_bytes])
    with pytest.raises((dkde.DataSetError, dkde.InputError)) as refusal:
        dkde.log_density(ROWS, f"{tmp_path / 'cut'}::a", 0.7)
    assert len(str(refusal.value).splitlines()) == 1
