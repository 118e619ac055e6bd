"""On Dask workers: the same numbers, memory as planned, and words for what cannot work."""

import ctypes
import gc
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import dask.array as da
import numpy as np
import pandas as pd
import psutil
import pytest
import xarray as xr
import zarr
from distributed import Client, Future
from processes import tied
from zarr.storage import MemoryStore

import dkde
from dkde.engine.eager_run import run
from dkde.engine.graph import lazy_densities
from dkde.engine.pool import thread_pool
from dkde.estimation.bandwidth_matrix import BandwidthMatrix
from dkde.estimation.covariance import Covariance
from dkde.estimation.options import Options
from dkde.inputs.selectors import Catalog
from dkde.inputs.sides import operand, side
from dkde.workers.cluster import active_client, check_workers

pytestmark = [pytest.mark.alone, pytest.mark.slow]

H = [0.5, 1.0]


@pytest.fixture(scope="module")
def client():
    with dkde.connect(workers=2, memory_limit="600MB") as client:
        yield client


@pytest.fixture(scope="module")
def arrays():
    rng = np.random.default_rng(5)
    return rng.standard_normal((1500, 6)), rng.standard_normal((4000, 6))


class TestNumbers:
    def test_every_form_gives_what_threads_give(self, client, arrays):
        query, train = arrays
        there = dkde.log_density(query, train, H, panel_rows=700)
        lazy = dkde.log_density(da.from_array(query, chunks=400), train, H, panel_rows=700)
        np.testing.assert_array_equal(lazy, there)
        assert active_client() is client
        plain = Options(panel_rows=700).work(
            side(operand(query, "query", Catalog())),
            side(operand(train, "train", Catalog())),
            BandwidthMatrix(np.array(H), Covariance(6)),
        )
        here = plain.densities(plain.block(plain.survey(), 0, p) for p in range(6)).values
        np.testing.assert_array_equal(there[:, : here.shape[1]], here)

    def test_arrays_in_memory_are_sent_once(self, client, arrays, monkeypatch):
        sent = []
        scatter = type(client).scatter
        monkeypatch.setattr(
            type(client), "scatter", lambda self, x, **kw: sent.append(x) or scatter(self, x, **kw)
        )
        query, train = (np.tile(side, 4) for side in arrays)
        dkde.log_density(query, train, H, panel_rows=500)
        assert len(sent) == 2
        dkde.log_density(query[:100], train[:100], H)  # small ones go with the tasks
        assert len(sent) == 2
        sent.clear()
        dkde.sweep(train=train, valid=query[:900], test=query[900:], bandwidths=[0.1, *H])
        assert sorted(side.rows.n_rows for side in sent) == [600, 900, 4000]

    def test_what_is_sent_is_let_go_when_the_pool_ends(self, client, arrays):
        dkde.log_density(*arrays, H)
        deadline = time.monotonic() + 10
        while any(client.has_what().values()) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not any(client.has_what().values())

    def test_a_lazy_result_can_be_computed_anywhere(self, client, arrays):
        query, train = arrays
        query = da.from_array(query, chunks=400)
        lazy = dkde.log_density(query, train, H, panel_rows=700)
        there = lazy.compute()
        for scheduler in ("synchronous", "threads"):
            np.testing.assert_array_equal(lazy.compute(scheduler=scheduler), there)

    def test_a_lazy_result_outlives_its_client(self, arrays):
        query, train = arrays
        with Client(processes=False, n_workers=1, dashboard_address="127.0.0.1:0"):
            lazy = dkde.log_density(da.from_array(query, chunks=400), train, 0.7)
            there = lazy.compute()
        np.testing.assert_array_equal(lazy.compute(), there)

    def test_work_has_one_graph_with_a_client_and_without(self, client, arrays):
        query, train = arrays
        sides = [side(operand(rows, "query", Catalog())) for rows in (query, train)]
        with_client = lazy_densities(
            Options().work(*sides, BandwidthMatrix(np.array(H), Covariance(6)))
        )[0]
        graph = dict(with_client.__dask_graph__())
        assert not any(isinstance(value, Future) for value in graph.values())
        np.testing.assert_array_equal(
            with_client.compute(), with_client.compute(scheduler="synchronous")
        )


@pytest.fixture
def one_thread():
    with Client(
        processes=False, n_workers=1, threads_per_worker=1, dashboard_address="127.0.0.1:0"
    ) as client:
        yield client


def test_the_dashboard_has_tasks_in_words(one_thread, tmp_path):
    """Its groups are the prefixes of keys."""
    rng = np.random.default_rng(0)
    splits = {name: rng.normal(size=(n, 3)) for name, n in (("valid", 40), ("test", 30))}
    np.savez(tmp_path / "a.npz", train=rng.normal(size=(90, 3)), **splits)
    dkde.sweep(
        train="train", valid="valid", test="test", bandwidths=[0.3, 0.6, 2.0], covariance="full",
        source=str(tmp_path / "a.npz"), block_rows=4, output=tmp_path / "r.zarr",
    )  # fmt: skip
    shown = one_thread.run_on_scheduler(lambda dask_scheduler: set(dask_scheduler.task_prefixes))
    assert shown == {
        "first row", "moments of rows", "survey of valid", "blocks of valid", "survey of test",
        "blocks of test",
    }  # fmt: skip


def test_calls_one_after_the_other_log_nothing(tmp_path):
    """Sides that are sent to all workers leave events in the scheduler that it cannot send."""
    script = tmp_path / "calls.py"
    script.write_text(
        "import dkde, numpy as np\n"
        "if __name__ == '__main__':\n"
        "    rows = np.random.default_rng(0).normal(size=(9000, 40))\n"
        "    with dkde.connect(workers=2):\n"
        "        for _ in range(2):\n"
        "            dkde.log_density(rows[:100], rows, 1.0)\n"
    )
    done = subprocess.run(tied([sys.executable, str(script)]), capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


class TestInsideATask:
    def test_a_task_does_its_blocks_itself(self, one_thread, arrays):
        query, train = arrays
        there = one_thread.submit(dkde.log_density, query, train, 0.7).result(timeout=60)
        assert active_client() is one_thread
        with thread_pool(1) as pool:
            sides = [side(operand(rows, "query", Catalog())) for rows in arrays]
            here = run(
                Options().work(*sides, BandwidthMatrix(np.array([0.7]), Covariance(6))), pool
            )
        np.testing.assert_array_equal(there, here.values[0])

    def test_a_task_in_a_process_starts_no_threads(self, client, arrays):
        def names(query, train):
            seen = set()

            def note(done, total):
                seen.update(t.name for t in threading.enumerate() if t.name.startswith("dkde_"))

            dkde.score(query, train, 0.7, progress=note)
            return seen

        assert client.submit(names, *arrays).result(timeout=60) == set()


def test_ctrl_c_reaches_this_process_only(client):
    blocked = client.run(lambda: signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, []))
    assert all(blocked.values())
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, [])


def test_a_new_cluster_listens_to_this_machine_alone_and_its_files_are_private():
    with dkde.connect(workers=2) as client:
        mine = psutil.Process()
        sockets = [
            socket
            for process in (mine, *mine.children(recursive=True))
            for socket in process.net_connections()
            if socket.status == psutil.CONN_LISTEN
        ]
        folders = client.run(lambda dask_worker: dask_worker.local_directory)
        assert len(sockets) >= 4  # scheduler, dashboard, two workers
        assert {socket.laddr.ip for socket in sockets} <= {"127.0.0.1", "::1"}
        # The folder that those of the workers lie in.
        (top,) = {
            parent
            for folder in folders.values()
            for parent in Path(folder).parents
            if parent.name.startswith("dkde-")
        }
        assert top.stat().st_mode & 0o777 == 0o700


class TestRowsThatTheClusterHolds:
    @pytest.fixture
    def held(self, client, arrays):
        return client.persist(da.from_array(arrays[1], chunks=(1000, 6)) + 1)

    @pytest.mark.parametrize("form", ["array", "computed on", "features apart", "DataArray",
                                      "Dataset"])  # fmt: skip
    def test_they_are_read_by_tasks(self, client, arrays, held, form):
        query, train = arrays[0], arrays[1] + 1
        names = list("abcdef")
        side = {
            "array": lambda: held,
            "computed on": lambda: held[:2500] * 2,
            "features apart": lambda: held.rechunk((500, 2)),
            "DataArray": lambda: xr.DataArray(held, dims=("row", "feature")),
            "Dataset": lambda: xr.Dataset({n: ("row", held[:, i]) for i, n in enumerate(names)}),
        }[form]()
        if form == "computed on":
            train = train[:2500] * 2
        if form == "Dataset":
            query = xr.Dataset({n: ("row", query[:, i]) for i, n in enumerate(names)})
        found = dkde.log_density(query, side, H, panel_rows=700)
        expected = dkde.log_density(arrays[0], train, H, panel_rows=700)
        np.testing.assert_allclose(np.asarray(found), expected, rtol=1e-9)

    def test_as_query_and_as_weights(self, client, arrays, held):
        weights = client.persist(da.arange(4000, chunks=900) * 1.0)
        lazy = dkde.log_density(held, arrays[1], H, weights=weights)
        expected = dkde.log_density(arrays[1] + 1, arrays[1], H, weights=np.arange(4000.0))
        np.testing.assert_allclose(lazy.compute(), expected, rtol=1e-9)
        # On threads of this process, which fetch what the workers hold.
        np.testing.assert_allclose(lazy.compute(scheduler="threads"), expected, rtol=1e-9)

    @pytest.mark.parametrize("is_held", [False, True])
    def test_data_frames(self, client, arrays, is_held):
        dd = pytest.importorskip("dask.dataframe")
        frame = pd.DataFrame(arrays[1], columns=list("abcdef")).assign(note="text")
        lazy = dd.from_pandas(frame, npartitions=5)
        lazy = client.persist(lazy) if is_held else lazy
        said = {"features": list("abcdef")}
        found = dkde.log_density(frame[:50], lazy, H, panel_rows=700, **said)
        expected = dkde.log_density(arrays[1][:50], arrays[1], H, panel_rows=700)
        np.testing.assert_allclose(found, expected, rtol=1e-9)
        scored = dkde.score(lazy, frame[:50], H, **said)
        expected = dkde.log_density(arrays[1], arrays[1][:50], H)
        np.testing.assert_allclose(scored.log_density, expected, rtol=1e-9)

    def test_an_estimator_keeps_them(self, client, arrays, held):
        found = dkde.KernelDensity(bandwidth=0.7).fit(held).score_samples(arrays[0])
        expected = dkde.log_density(arrays[0], arrays[1] + 1, 0.7)
        np.testing.assert_allclose(found, expected, rtol=1e-9)

    def test_those_that_are_gone_are_told(self, arrays):
        with dkde.connect(workers=1) as client:
            # Not what another test may have left on the cluster of this module, by the same key.
            held = client.persist(da.from_array(arrays[1], chunks=(1000, 6)) + 17)
        with pytest.raises(dkde.ClusterError, match=r"holds no longer; keep its client open"):
            dkde.log_density(arrays[0], held, 1.0)


class TestWordsForWhatCannotWork:
    def test_a_store_in_this_process(self, client):
        array = zarr.create_array(MemoryStore(), data=np.zeros((5, 2)))
        with pytest.raises(dkde.ClusterError, match="MemoryStore lives in this process"):
            dkde.log_density(array, array, 1.0)

    def test_a_path_that_workers_do_not_see(self, client, tmp_path):
        np.save(tmp_path / "a.npy", np.zeros((5, 2)))
        catalog = Catalog()
        train = operand(str(tmp_path / "a.npy"), "train", catalog)
        query = operand([[0.0, 0.0]], "query", catalog)
        # Opened here, and not there (any more), as on a machine that mounts other disks.
        (tmp_path / "a.npy").unlink()
        with pytest.raises(dkde.ClusterError, match=r"cannot see .*a\.npy; put it on storage"):
            check_workers(
                client,
                Options().work(
                    side(query),
                    side(train),
                    BandwidthMatrix(np.array([1.0]), Covariance(query.rows.n_features)),
                ),
            )

    def test_a_plan_over_the_memory_limit(self, client):
        wide = da.zeros((20_000, 20_000), chunks=(20_000, 20_000))
        with pytest.raises(dkde.MemoryLimitError, match=r"blocks need .*raise the memory limit"):
            dkde.log_density(wide, wide, 1.0)

    def test_no_scheduler_there(self):
        start = time.perf_counter()
        with (
            pytest.raises(dkde.ClusterError, match="no Dask scheduler answers at tcp://127"),
            dkde.connect("tcp://127.0.0.1:9"),
        ):
            pass
        assert time.perf_counter() - start < 15

    def test_no_scheduler_file(self, tmp_path):
        with (
            pytest.raises(dkde.ClusterError, match="no such scheduler file"),
            dkde.connect(scheduler_file=tmp_path / "s.json"),
        ):
            pass

    @pytest.mark.parametrize("limit", ["lots", "12 parsecs"])
    def test_a_memory_limit_that_is_no_size(self, limit):
        with pytest.raises(dkde.InputError, match="is no size"), dkde.connect(memory_limit=limit):
            pass


def stored(folder, rows):
    """A data set of 64 features."""
    mapped = np.lib.format.open_memmap(folder / "x.npy", "w+", np.float32, (rows, 64))
    rng = np.random.default_rng(0)
    for start in range(0, rows, 100_000):
        mapped[start : start + 100_000] = rng.standard_normal(
            (min(100_000, rows - start), 64), dtype=np.float32
        )
    del mapped
    dkde.import_dataset(folder / "x.npy", folder / "x.zarr")
    (folder / "x.npy").unlink()
    return str(folder / "x.zarr")


@pytest.fixture(scope="module")
def large_store(tmp_path_factory):
    """2,000,000 x 64 float32: half a gigabyte, more than a worker may hold."""
    return stored(tmp_path_factory.mktemp("large"), 2_000_000)


@pytest.fixture(scope="module")
def small_store(tmp_path_factory):
    return stored(tmp_path_factory.mktemp("small"), 2000)


def _reset_peak():
    """Let the kernel forget the most that this process has occupied; what it occupies now.

    What was freed is given back first: the kernel counts it, and no plan does.
    """
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    return psutil.Process().memory_info().rss


def _peak():
    """The most that this process has occupied since, as the kernel counts it.

    Who looks every few milliseconds misses most of it: readings of one and the same worker were
    up to a fifth of the plan lower.
    """
    (line,) = re.findall(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return 1024 * int(line)


FORMS = {
    "store": lambda store: f"{store}::train",
    "xarray": lambda store: xr.open_zarr(store, group="train").x,
    "projection": lambda store: (
        xr.open_zarr(store, group="train").x.data @ np.eye(64, dtype=np.float32)[:, ::-1]
    ),
}


@pytest.mark.skipif(
    not Path("/proc/self/clear_refs").exists() or not hasattr(ctypes.CDLL(None), "malloc_trim"),
    reason="the kernel is Linux's, and its malloc glibc's",
)
@pytest.mark.parametrize("form", FORMS)
def test_memory_is_as_planned(large_store, small_store, form):
    train = FORMS[form](large_store)
    query = np.random.default_rng(1).standard_normal((1000, 64)).astype(np.float32)
    catalog = Catalog()
    work = Options().work(
        side(operand(query, "query", catalog)),
        side(operand(train, "train", catalog)),
        BandwidthMatrix(np.array([1.0]), Covariance(64)),
    )
    # A fresh cluster: what earlier work left behind is no baseline.
    with dkde.connect(workers=2, memory_limit="600MB") as client:
        names = set(client.scheduler_info(n_workers=-1)["workers"])
        # But what each worker loads once is: libraries, codecs, threads that read.
        for name in names:
            small = query[:50], FORMS[form](small_store), 1.0
            client.submit(dkde.score, *small, workers=[name], pure=False).result(timeout=120)
        baseline = client.run(_reset_peak)
        dkde.score(query, train, 1.0)
        peaks = client.run(_peak)
        logs = [line for lines in client.get_worker_logs().values() for line in lines]
        assert set(client.scheduler_info(n_workers=-1)["workers"]) == names, "a worker restarted"
    # Pausing, spilling and restarting are all warned of.
    assert not [text for level, text in logs if level not in ("DEBUG", "INFO")]
    ratios = [(peaks[name] - baseline[name]) / work.plan.worker_bytes() for name in names]
    # The plan is the most that a worker takes: the other may have had the lighter blocks.
    assert 0.6 <= max(ratios) <= 1.25, f"{ratios} of the {work.plan.worker_bytes()} bytes planned"
