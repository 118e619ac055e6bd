"""A plan says what the work then does."""

import json
import subprocess
import sys
from time import process_time

import dask.array as da
import numpy as np
import pytest
import zarr
from zarr.storage import MemoryStore

import dkde
from dkde.workers.cluster import warm_up


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
    monkeypatch.setattr("dkde.estimation.cost.measure_baseline", lambda precision: 123)
    cost = digits(baseline=True, n_threads=3, threads_per_worker=2)
    assert json.loads(json.dumps(cost)) == cost
    peak = 123 + 2 * cost["block_bytes"] + cost["resident_bytes"]
    assert cost["peak_bytes_per_worker"] == peak
    assert cost["threads"] == 3
    assert cost["seconds"] > 0


def test_code_of_openblas_for_an_older_processor_is_said(monkeypatch):
    monkeypatch.setattr("dkde.estimation.cost.older_kernels", lambda: "runs its code for Nehalem")
    assert digits()["slow_blas"] == "runs its code for Nehalem"


def test_without_a_baseline():
    cost = digits()
    assert cost["baseline_bytes"] is None
    assert cost["peak_bytes_per_worker"] is None


def test_the_default_grid_is_that_of_the_sweep():
    assert digits()["bandwidths"] == 16


def test_a_limit(monkeypatch):
    monkeypatch.setattr("dkde.estimation.cost.measure_baseline", lambda precision: 10**8)
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
    start = process_time()
    cost = dkde.plan(query=rows[:10_000], train=rows, bandwidths=[1, 2], baseline=False)
    assert process_time() - start < 2
    assert cost["pairs"] == 10**12
    assert cost["method"] == "chosen from a sample when it runs"


@pytest.mark.slow
def test_large_stores_plan_at_once():
    """Chunks were never written: rows are zeros."""
    shape, chunks = (10**8, 64), (2**16, 64)
    rows = zarr.create_array(MemoryStore(), shape=shape, chunks=chunks, dtype=np.uint8)
    few = np.zeros((10**4, 64), np.uint8)
    dkde.plan(query=few, train=few, bandwidths=[1, 2], baseline=False)  # compiled by now
    start = process_time()
    with pytest.warns(UserWarning, match="not in the store"):
        cost = dkde.plan(query=rows, train=rows, bandwidths=[1, 2], baseline=False)
    assert process_time() - start < 2
    assert cost["pairs"] == 10**16
    assert cost["method"]


def test_no_process_is_started_for_the_baseline(monkeypatch):
    def start(*_, **__):
        raise AssertionError("a process is started")

    monkeypatch.setattr("subprocess.Popen.__init__", start)
    monkeypatch.setattr("multiprocessing.process.BaseProcess.start", start)
    assert 50e6 < digits(baseline=True)["baseline_bytes"] < 1e9


PLAN = """
import dkde
print(dkde.plan(query="valid", train="train", source="digits", n_threads=1)["baseline_bytes"])
"""


def in_script(folder, text):
    path = folder / "script.py"
    path.write_text(text)
    return subprocess.run(
        [sys.executable, path], cwd=folder, capture_output=True, text=True, timeout=120
    )


@pytest.mark.alone
@pytest.mark.slow
def test_a_script_of_two_lines(tmp_path):
    done = in_script(tmp_path, PLAN)
    assert (done.returncode, done.stderr) == (0, "")
    assert 50e6 < int(done.stdout) < 1e9


@pytest.mark.alone
@pytest.mark.slow
def test_a_script_that_starts_workers_without_asking_for_its_name(tmp_path):
    done = in_script(tmp_path, "import dkde\nwith dkde.connect(workers=1):\n    print('there')\n")
    last = done.stderr.splitlines()[-1]
    assert last.startswith("dkde.errors.ClusterError: each worker runs this program's main module")
    assert last.endswith('if __name__ == "__main__":')
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) < 20


@pytest.mark.alone
@pytest.mark.slow
def test_a_script_whose_guard_is_elsewhere(tmp_path):
    done = in_script(
        tmp_path, "import dkde\nname = __name__\nwith dkde.connect(workers=1):\n    0\n"
    )
    assert done.returncode == 1
    assert "\ndkde: each worker runs this program's main module" in "\n" + done.stderr
    last = done.stderr.splitlines()[-1]
    assert last.startswith("dkde.errors.ClusterError: workers on this machine ended before they")


@pytest.mark.alone
@pytest.mark.slow
def test_the_baseline_is_what_a_worker_takes(tmp_path):
    with dkde.connect(workers=1) as client:
        taken = max(client.run(warm_up).values())
    alone = int(in_script(tmp_path, PLAN).stdout)
    held = np.ones(2**26)  # 512 MiB: more than libraries
    beside_data = digits(baseline=True)["baseline_bytes"]
    del held
    assert alone == pytest.approx(taken, rel=0.15)
    assert beside_data == pytest.approx(taken, rel=0.15)


class TestMaps:
    def plan(self, **asked):
        rows = np.random.default_rng(0).normal(size=(300, 2)) * [4, 1]
        return rows, dkde.plan_map(rows, 0.5, **{"baseline": False, **asked})

    def test_it_is_the_plan_of_the_map(self):
        asked = {"cell": (0.5, 0.25), "block_rows": 200, "panel_rows": 100}
        rows, cost = self.plan(**asked)
        found = dkde.density_map(rows, 0.5, **asked)
        assert cost["cells"] == dict(found.density.sizes)
        assert list(cost["cells"]) == ["y", "x"]
        assert cost["n_cells"] == found.density.size
        assert cost["cell_widths"] == pytest.approx({"x": 0.5, "y": 0.25})
        assert cost["bandwidth_along"] == {"x": 0.5, "y": 0.5}
        made = json.loads(found.attrs["provenance"])["score"]["plan"]
        assert (made["query_rows"], made["panel_rows"]) == (cost["block_rows"], cost["panel_rows"])
        assert (cost["pairs"], cost["bytes_read"]) == (made["pairs"], made["bytes_read"])
        assert cost["map_bytes"] >= found.density.nbytes + found.log_density.nbytes
        assert json.loads(json.dumps(cost)) == cost

    def test_nothing_is_summed(self, monkeypatch):
        for name in ("map_job.MapJob.answer", "performing.perform"):
            monkeypatch.setattr(f"dkde.estimation.{name}", None)
        _, cost = self.plan(cells=9, expected=True, levels=50)
        assert cost["seconds"] > 0

    def test_levels_from_the_sample_are_more_work(self, monkeypatch):
        monkeypatch.setattr("dkde.estimation.cost.measure_baseline", lambda precision: 123)
        _, plain = self.plan(cells=3, levels=50)
        _, cost = self.plan(cells=3, levels=50, levels_from="sample", baseline=True)
        assert plain["seconds_of_sample"] == 0
        assert 0 < cost["seconds_of_sample"] < cost["seconds"]
        assert cost["block_bytes"] > plain["block_bytes"]
        peak = 123 + cost["block_bytes"] + cost["resident_bytes"]
        assert cost["peak_bytes_per_worker"] == peak

    def test_what_is_refused(self):
        with pytest.raises(dkde.errors.MemoryLimitError):
            self.plan(memory_limit="1MB")
        with pytest.raises(dkde.InputError, match="n_threads is 0"):
            self.plan(n_threads=0)
        with pytest.warns(UserWarning, match="Silverman's rule makes it"):
            dkde.plan_map(np.random.default_rng(0).normal(size=(9, 2)), cells=5, baseline=False)

    def test_it_has_a_summary(self):
        _, cost = self.plan(cells=(7, 5))
        assert "5 along y × 7 along x" in str(dkde.summary(cost))
