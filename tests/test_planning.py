"""A plan says what the work then does."""

import json
from time import perf_counter

import dask.array as da
import numpy as np
import pytest
import zarr
from zarr.storage import MemoryStore

import dkde


def digits(**options):
    return dkde.plan(query="valid", train="train", source="digits", **{"baseline": False} | options)


def test_it_is_the_plan_that_the_result_was_made_by():
    cost = digits(bandwidths=[1, 2], block_rows=100, panel_rows=300)
    assert (cost["query_blocks"], cost["panels"], cost["blocks"]) == (4, 4, 16)
    result = dkde.score("valid", "train", [1, 2], source="digits", block_rows=100, panel_rows=300)
    made = json.loads(result.attrs["provenance"])["score"]["plan"]
    assert (made["query_rows"], made["panel_rows"]) == (cost["block_rows"], cost["panel_rows"])
    for name in ("pairs", "bytes_read", "block_bytes"):
        assert made[name] == cost[name]


def test_re_reads_count():
    cost = digits(block_rows=100, panel_rows=300)
    assert cost["bytes_read"] == 64 * (359 * 4 + 1078 * 4)


def test_it_is_json_and_adds_up(monkeypatch):
    monkeypatch.setattr("dkde.planning.measure_baseline", lambda precision: 123)
    cost = digits(baseline=True, n_threads=3, threads_per_worker=2)
    assert json.loads(json.dumps(cost)) == cost
    peak = 123 + 2 * cost["block_bytes"] + cost["resident_bytes"]
    assert cost["peak_bytes_per_worker"] == peak
    assert cost["threads"] == 3
    assert cost["seconds"] > 0


def test_without_a_baseline():
    cost = digits()
    assert cost["baseline_bytes"] is None
    assert cost["peak_bytes_per_worker"] is None


def test_the_default_grid_is_that_of_the_sweep():
    assert digits()["bandwidths"] == 16


def test_a_limit(monkeypatch):
    monkeypatch.setattr("dkde.planning.measure_baseline", lambda precision: 10**8)
    assert digits(memory_limit="1GB")["baseline_bytes"] == 10**8
    with pytest.raises(dkde.MemoryLimitError, match="pauses at 80% of its 95"):
        digits(memory_limit=10**8)
    with pytest.raises(dkde.InputError, match="is no size"):
        digits(memory_limit="-3GB")


@pytest.mark.parametrize("name", ["n_threads", "threads_per_worker"])
def test_no_threads(name):
    with pytest.raises(dkde.InputError, match=name):
        digits(**{name: 0})


def test_features_differ():
    with pytest.raises(dkde.InputError, match=r"5 features and query .*has 3"):
        dkde.plan(query=np.zeros((2, 3)), train=np.zeros((2, 5)), bandwidths=1)


def test_large_sides_plan_at_once():
    rows = da.zeros((10**8, 64), chunks=(10**6, 64), dtype=np.float32)
    dkde.plan(query=np.zeros((1, 1)), train=np.zeros((1, 1)), bandwidths=1, baseline=False)
    start = perf_counter()
    cost = dkde.plan(query=rows[:10_000], train=rows, bandwidths=[1, 2], baseline=False)
    assert perf_counter() - start < 2
    assert cost["pairs"] == 10**12
    assert cost["method"] == "chosen from a sample when it runs"


def test_large_stores_plan_at_once():
    """Chunks were never written: rows are zeros."""
    shape, chunks = (10**8, 64), (2**16, 64)
    rows = zarr.create_array(MemoryStore(), shape=shape, chunks=chunks, dtype=np.uint8)
    dkde.plan(query=np.zeros((1, 1)), train=np.zeros((1, 1)), bandwidths=1, baseline=False)
    start = perf_counter()
    cost = dkde.plan(query=rows, train=rows, bandwidths=[1, 2], baseline=False)
    assert perf_counter() - start < 2
    assert cost["pairs"] == 10**16
    assert cost["method"]


@pytest.mark.slow
def test_the_baseline_is_measured_in_a_worker():
    cost = digits(baseline=True)
    assert 50e6 < cost["baseline_bytes"] < 1e9
