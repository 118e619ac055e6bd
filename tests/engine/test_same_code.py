"""Workers of another kind than the process that hands out the blocks."""

import os
import shutil
import sys
import time
import warnings
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
import pytest
from distributed import Client, Scheduler, SpecCluster, Worker, get_worker
from processes import running

import dkde
from dkde.engine import same_code
from dkde.engine.same_code import Likeness, UnlikeWorkerError, kind, unlike
from dkde.workers.client_pool import client_pool

ROOT = Path(dkde.__file__).parents[1]
RNG = np.random.default_rng(5)
QUERY, TRAIN = RNG.normal(size=(1200, 3)), RNG.normal(size=(400, 3))


@pytest.fixture(scope="module")
def altered(tmp_path_factory):
    """A folder with a copy of dkde whose densities are wrong."""
    folder = tmp_path_factory.mktemp("altered")
    shutil.copytree(ROOT / "dkde", folder / "dkde")
    module = folder / "dkde" / "engine" / "blocks.py"
    with module.open("a") as file:
        file.write(
            "\n_right = score_share\n\n\ndef score_share(*arguments):\n"
            "    columns, partial, *_ = _right(*arguments)\n"
            "    return ShareOfBlock(columns, partial + 1.0)\n"
        )
    return folder


@pytest.fixture
def client(monkeypatch):
    monkeypatch.setenv("DASK_LOGGING", "{}")
    cluster = SpecCluster(scheduler={"cls": Scheduler, "options": {"dashboard_address": None}})
    with cluster, Client(cluster) as found:
        yield found


@contextmanager
def worker(client, n=1, **environment):
    """A worker in a process of its own."""
    command = [
        sys.executable, "-m", "distributed.cli.dask_worker", client.scheduler.address,
        "--no-nanny", "--nthreads", "1", "--no-dashboard", "--memory-limit", "0",
    ]  # fmt: skip
    with running(command, cwd="/", env={**os.environ, "DASK_LOGGING": "{}", **environment}):
        client.wait_for_workers(n, timeout=60)
        yield


def work():
    return dkde.log_density(QUERY, TRAIN, 0.7, block_rows=20)


@pytest.fixture(scope="module")
def expected():
    """Densities that this process computes, as no client is there yet."""
    return work()


@pytest.mark.alone
@pytest.mark.slow
def test_a_worker_with_another_dkde_is_refused(client, altered):
    with worker(client), worker(client, 2, PYTHONPATH=str(altered)):
        with pytest.raises(dkde.ClusterError, match=r"^worker tcp://.* has another dkde") as raised:
            work()
        assert "\n" not in str(raised.value)
        lazy = pytest.importorskip("dask.array").from_array(QUERY, chunks=(100, 3))
        with pytest.raises(dkde.ClusterError, match="has another dkde"):
            dkde.log_density(lazy, TRAIN, 0.7)


@pytest.mark.alone
@pytest.mark.slow
def test_a_late_worker_with_another_dkde_gets_no_block(client, altered, expected):
    with worker(client), ExitStack() as late:
        there = []

        def progress(done, total):
            if not there:  # while the first worker is at it
                there.append(late.enter_context(worker(client, 2, PYTHONPATH=str(altered))))
            time.sleep(0.02)

        with pytest.warns(
            UserWarning, match=r"of another kind and gets no work: another dkde"
        ) as w:
            result = dkde.score(
                query=QUERY, train=TRAIN, bandwidth=0.7, block_rows=20, progress=progress
            )
        assert len(w) == 1
        assert len(client.nthreads()) == 2
    np.testing.assert_array_equal(result.log_density.values[0], expected)


@pytest.mark.alone
@pytest.mark.slow
def test_a_lazy_result_of_a_late_worker_is_refused(client, altered, expected):
    da = pytest.importorskip("dask.array")
    with worker(client):
        lazy = dkde.log_density(da.from_array(QUERY, chunks=(100, 3)), TRAIN, 0.7)
        np.testing.assert_allclose(lazy.compute(), expected, rtol=1e-12)
        with worker(client, 2, PYTHONPATH=str(altered)):
            addresses = [*client.nthreads()]
            (bad,) = (a for a, k in client.run(kind).items() if k != kind())
            assert bad in addresses
            with pytest.raises(dkde.ClusterError, match="is of another kind: another dkde"):
                client.compute(lazy, workers=[bad]).result()


@pytest.mark.alone
@pytest.mark.slow
def test_a_worker_that_compiles_for_another_processor(client, tmp_path, expected):
    output = tmp_path / "r.zarr"
    call = {"query": QUERY[:40], "train": TRAIN, "bandwidth": 0.7, "block_rows": 20}
    with worker(client, NUMBA_ENABLE_AVX="0", NUMBA_CPU_NAME="x86-64"):
        with pytest.warns(UserWarning, match="last bits from worker tcp.*: processor x86-64 there"):
            found = dkde.log_density(QUERY, TRAIN, 0.7)
        np.testing.assert_allclose(found, expected, rtol=1e-9)
        with pytest.raises(
            dkde.ClusterError, match=r"processor x86-64 there.*allow it \(anywhere\)"
        ):
            dkde.score(**call, output=output)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            dkde.score(**call, output=output, anywhere=True)


OURS = {"sources": "a", "python": "3.11", "numpy": "2.4", "processor": "x"}


def test_what_differs_is_said():
    assert unlike(OURS, OURS, hard=True) == unlike(OURS, OURS, hard=False) == ""
    theirs = OURS | {"python": "3.12", "numpy": "2.3"}
    assert unlike(OURS, theirs, hard=True) == "python 3.12 there and 3.11 here"
    assert unlike(OURS, theirs, hard=False) == "numpy 2.3 there and 2.4 here"
    assert unlike(OURS, OURS | {"sources": "b"}, hard=True).startswith("another dkde")


@pytest.mark.parametrize("manner", ["refuse", "warn", "allow"])
def test_manners(manner):
    assert Likeness(kind(), manner).check() == ""
    with pytest.raises(UnlikeWorkerError, match="python"):
        Likeness(kind() | {"python": "3.1"}, manner).check()
    other = Likeness(kind() | {"numpy": "1.0"}, manner)
    if manner == "refuse":
        with pytest.raises(UnlikeWorkerError, match="numpy"):
            other.check()
    else:
        assert other.check().endswith("and 1.0 here") == (manner == "warn")


class Workers:
    """What a client's workers answer when they are asked of what kind they are."""

    def __init__(self, *kinds):
        self._kinds = kinds

    def run(self, call, on_error):
        assert call is kind
        return {f"tcp://{n}": kind for n, kind in enumerate(self._kinds)}


def test_a_worker_that_cannot_be_asked_is_refused():
    with pytest.raises(dkde.ClusterError, match=r"tcp://1 has another dkde"):
        same_code.check_alike(Workers(kind(), ModuleNotFoundError("dkde.engine.same_code")))
    with pytest.raises(dkde.ClusterError, match=r"tcp://0 has python 3\.1 there"):
        same_code.check_alike(Workers(kind() | {"python": "3.1"}), "allow")


def test_the_provenance_says_what_was_compiled_for(monkeypatch):
    import json

    result = dkde.score(query=QUERY[:4], train=TRAIN[:4], bandwidth=1.0)
    provenance = json.loads(result.attrs["provenance"])
    assert set(provenance["compiled_for"]) == {"processor", "features", "optimisation", "svml"}
    assert "sources" not in str(provenance)


@pytest.mark.slow
def test_good_workers_on_the_machine_of_one_that_is_refused_go_on(monkeypatch):
    monkeypatch.setenv("DASK_LOGGING", "{}")

    def check(self):
        worker = get_worker()
        if worker.name == "bad":
            raise UnlikeWorkerError(worker.address, "another dkde")
        return ""

    monkeypatch.setattr(Likeness, "check", check)
    hosts = {"bad": "127.0.0.1", "beside": "127.0.0.1", "elsewhere": "127.0.0.2"}
    workers = {
        name: {"cls": Worker, "options": {"host": host, "nthreads": 1, "dashboard": False}}
        for name, host in hosts.items()
    }
    scheduler = {"cls": Scheduler, "options": {"dashboard_address": None, "host": "127.0.0.1"}}
    with SpecCluster(workers, scheduler) as cluster, Client(cluster) as client:
        client.wait_for_workers(3, timeout=60)
        with client_pool(client) as pool:
            bad = UnlikeWorkerError(cluster.workers["bad"].address, "another dkde")
            with pytest.warns(UserWarning, match="gets no work"):
                assert pool.refused(bad)
            futures = [pool.submit(_slow_name) for _ in range(12)]
            assert {pool.taken(future) for future in futures} == {"beside", "elsewhere"}


def _slow_name():
    from distributed import get_worker  # as this is sent by value

    time.sleep(0.1)
    return get_worker().name
