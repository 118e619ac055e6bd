"""Results as NetCDF from strangers: what would fill the memory or block is refused."""

import os
import zlib

import numpy as np
import pytest

import dkde

h5py = pytest.importorskip("h5py")


@pytest.fixture
def result(tmp_path):
    dkde.score(np.ones((3, 1)), np.zeros((5, 1)), 1.0, output=tmp_path / "r.nc")
    return tmp_path / "r.nc"


def test_a_chunk_that_would_fill_the_memory_is_refused(result, monkeypatch):
    monkeypatch.setenv("DKDE_UNPACK_LIMIT", "1MiB")
    with h5py.File(result, "a") as file:
        made = file.create_dataset("big", (3,), "f8", chunks=(3,), compression="gzip")
        made.id.write_direct_chunk((0,), zlib.compress(bytes(2**23), 9))
    with pytest.raises(dkde.DataSetError, match=r"/?big: the chunk at .* would unpack to more"):
        dkde.compare([result, result])


def test_a_link_to_a_pipe_is_refused(result):
    os.mkfifo(result.parent / "pipe")
    with h5py.File(result, "a") as file:
        del file["log_density"]
        file["log_density"] = h5py.ExternalLink(str(result.parent / "pipe"), "x")
    with pytest.raises(dkde.DataSetError, match=r"leads to .*pipe, which is no regular file"):
        dkde.compare([result, result])
