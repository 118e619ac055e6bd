"""Tokens of content: the same whatever hashes are installed, and those of earlier versions."""

import hashlib

import dask.hashing
import numpy as np
import pytest
from dask.tokenize import tokenize

import dkde
from dkde.engine.tokens import dask_token, stable_token

VALUES = [
    np.arange(6.0).reshape(2, 3),
    np.asfortranarray(np.arange(6).reshape(2, 3)),
    np.arange(10)[::3],
    ("a", [np.ones(3), {"b": np.zeros(2, bool)}], 5),
    np.float64(3),
    np.array(3.0),
]


def _another(buffer):
    return hashlib.md5(buffer).digest()


@pytest.mark.parametrize("value", VALUES)
def test_tokens_are_those_of_dask_without_other_hashes(value, monkeypatch):
    found = stable_token(value)
    monkeypatch.setattr(dask.hashing, "hashers", [_another])
    assert stable_token(value) == found
    monkeypatch.setattr(dask.hashing, "hashers", [dask.hashing._hash_sha1])
    assert stable_token(value) == str(tokenize(value)) == dask_token(value)


def test_a_run_goes_on_where_another_hash_is_installed(tmp_path, monkeypatch):
    rows, output = np.random.default_rng(0).normal(size=(20, 2)), tmp_path / "r.zarr"
    dkde.score(rows, rows + 1, 0.5, output=output)
    monkeypatch.setattr(dask.hashing, "hashers", [_another])
    assert dkde.score(rows, rows + 1, 0.5, output=output).attrs["complete"] == 1
    with pytest.raises(dkde.DataSetError, match="was begun otherwise"):
        dkde.score(rows, rows + 2, 0.5, output=output)


def test_a_run_whose_tokens_were_dasks(tmp_path, monkeypatch):
    rows, output = np.random.default_rng(0).normal(size=(20, 2)), tmp_path / "r.zarr"
    monkeypatch.setattr(dask.hashing, "hashers", [_another])
    with monkeypatch.context() as patch:
        patch.setattr("dkde.engine.tokens._hashed", lambda value: value)
        dkde.score(rows, rows + 1, 0.5, output=output)
    assert dkde.score(rows, rows + 1, 0.5, output=output).attrs["complete"] == 1
