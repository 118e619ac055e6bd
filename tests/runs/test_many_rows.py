"""Memory does not grow with the rows that are scored: a finished result lies on the disk."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import xarray as xr

pytestmark = pytest.mark.slow

# A process that makes calls, and says how much memory the arrays of each took at most. Those of all
# rows lie on the disk from a megabyte on, so that few rows are enough.
CHILD = """
import json, sys, tracemalloc
import dkde
from dkde.rows import row_source
from dkde.runs import commits, store
from dkde.stores import scratch

store._CHUNK_BYTES = 2**16  # several chunks are written at once
scratch._IN_MEMORY, scratch._SMALL, commits.MOST_BYTES = 2**20, 2**17, 2**20
row_source.READ_BYTES, row_source.SLAB_BYTES = 2**18, 2**20  # by which rows are read
tracemalloc.start()
for function, call in json.loads(sys.argv[1]):
    tracemalloc.reset_peak()
    before = tracemalloc.get_traced_memory()[0]
    getattr(dkde, function)(**call)
    print(tracemalloc.get_traced_memory()[1] - before)
"""
FEW, FACTOR = 100_000, 8
# By what one array of all rows in memory would make the larger peak larger.
MOST = 8 * FEW * (FACTOR - 1)

CASES = {
    "plain": {},
    "bandwidths": {"bandwidth": [0.3, 0.5, 1.0], "contamination": 0.1},
    "missing": {"nan": "drop", "atol": 1e-3},
    "weights": {"query_weights": "w", "features": ["x"]},
}


def peaks(calls):
    command = [sys.executable, "-W", "ignore", "-c", CHILD, json.dumps(calls)]
    done = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, "DKDE_PROGRESS": "0"}
    )
    assert done.returncode == 0, done.stderr
    return list(map(int, done.stdout.split()))


def rows(path, n, name):
    """Selectors of so many rows."""
    rng = np.random.default_rng(0)
    values = rng.standard_normal((n, 1))
    if name == "missing":
        values[:: n // 7] = np.nan
    if name != "weights":
        np.save(path.with_suffix(".npy"), values)
        return {"query": str(path.with_suffix(".npy"))}
    columns = {"x": values[:, 0], "w": rng.random(n), "l": rng.random(n)}
    found = xr.Dataset({name: ("t", each) for name, each in columns.items()})
    found.set_coords("l").to_zarr(
        path.with_suffix(".zarr"), zarr_format=3, consolidated=False,
        encoding={name: {"chunks": (8192,)} for name in columns},
    )  # fmt: skip
    return {"query": str(path.with_suffix(".zarr"))}


@pytest.mark.parametrize("name", CASES)
def test_a_score_and_its_verification(name, tmp_path):
    np.save(tmp_path / "train.npy", np.random.default_rng(1).standard_normal((50, 1)))
    train, calls = str(tmp_path / "train.npy"), []
    for n in (FEW // 10, FEW, FACTOR * FEW):  # the first ones load code
        query = rows(tmp_path / f"rows-{n}", n, name)
        output = str(tmp_path / f"{n}.zarr")
        call = {"train": train, "bandwidth": 0.3, "block_rows": 8192, "output": output}
        call |= query | CASES[name]
        calls += [("score", call), ("verify", {"path": output, "blocks": 1})]
    *_, few, few_verified, many, many_verified = peaks(calls)
    assert many - few < MOST, (few, many)
    assert many_verified - few_verified < MOST, (few_verified, many_verified)
