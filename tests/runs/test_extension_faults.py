"""Extensions of a result that are killed, or meet a fault, at any operation.

Until the extended result is there, the first one is; and the same call goes on.
"""

import os
import random
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import xarray as xr
from faults import count, faults

import dkde
from dkde.runs import sessions

SHM = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
KINDS = ("kill", "cut", "EIO")
IS_THERE = "already"


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(5)
    for name, n_rows in {"t": 60, "q": 40, "more": 30, "asked": 20}.items():
        np.save(folder / f"{name}.npy", rng.normal(size=(n_rows, 2)))
    return folder


@pytest.fixture
def folder():
    found = tempfile.mkdtemp(prefix="dkde-extension-", dir=SHM)
    yield Path(found).resolve()
    shutil.rmtree(found, ignore_errors=True)


def score(data, folder):
    place = folder / "r.zarr"
    names = (str(data / f"{name}.npy") for name in ("q", "t"))
    return dkde.score(*names, [0.5, 1.0], output=place, block_rows=10, panel_rows=20)


def extended(data, folder, **options):
    return dkde.extend(
        folder / "r.zarr", train=data / "more.npy", query=data / "asked.npy", **options
    )


def values_there(folder):
    with xr.open_zarr(folder / "r.zarr") as found:
        return found.log_density.values


def check(data, folder, kind, k, first, expected):
    score(data, folder)
    elsewhere = mock.patch.object(sessions, "_place", side_effect=map(str, range(10**6)))
    with mock.patch.object(sessions, "STALE", -1.0), elsewhere:
        with suppress(dkde.DkdeError), faults(folder, kind, k, seed=k):
            extended(data, folder)
        seen = values_there(folder)
        is_new = np.array_equal(seen, expected)
        assert is_new or np.array_equal(seen, first)
        if is_new:
            with pytest.raises(dkde.InputError, match=IS_THERE):
                extended(data, folder)
        else:
            np.testing.assert_array_equal(extended(data, folder).log_density.values, expected)
        np.testing.assert_array_equal(values_there(folder), expected)
    dkde.clean(folder, remove=True)
    assert os.listdir(folder) == ["r.zarr"]
    shutil.rmtree(folder / "r.zarr")


def tried(data, folder, kind, n_tries):
    first = score(data, folder).log_density.values
    n = count(folder, lambda: extended(data, folder))
    expected = values_there(folder)
    shutil.rmtree(folder / "r.zarr")
    assert n > 0
    for k in random.Random(kind).sample(range(1, n + 2), min(n_tries, n)):
        check(data, folder, kind, k, first, expected)


@pytest.mark.sampled(3)
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", KINDS)
def test_a_fault_at_some_operations_loses_nothing(data, folder, kind):
    tried(data, folder, kind, 4)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", KINDS)
def test_a_fault_at_many_operations_loses_nothing(data, folder, kind):
    tried(data, folder, kind, 20)
