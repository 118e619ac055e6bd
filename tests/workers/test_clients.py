"""Clients that cannot be waited for, and clusters whose workers come and go."""

import asyncio
import threading

import dask.array as da
import numpy as np
import pytest
from distributed import Client, LocalCluster

import dkde

pytestmark = [pytest.mark.alone, pytest.mark.slow]

RNG = np.random.default_rng(3)
QUERY, TRAIN, H = RNG.normal(size=(300, 4)), RNG.normal(size=(2000, 4)), [0.5, 1.0]
# Sixty blocks.
PLAN = {"block_rows": 20, "panel_rows": 500}
HERE = {"dashboard_address": "127.0.0.1:0"}


@pytest.fixture(scope="module")
def expected():
    return dkde.score(QUERY, TRAIN, H, **PLAN).log_density.values


CALLS = {
    "eager": lambda folder: dkde.log_density(QUERY, TRAIN, H),
    "lazy": lambda folder: dkde.log_density(da.from_array(QUERY, chunks=(100, 4)), TRAIN, H),
    "score": lambda folder: dkde.score(QUERY, TRAIN, H, output=folder / "r.zarr"),
    "sweep": lambda folder: dkde.sweep(train=TRAIN, valid=QUERY, bandwidths=H),
    "cross_validate": lambda folder: dkde.cross_validate(TRAIN, bandwidths=H, folds=2),
    "sample": lambda folder: dkde.sample(TRAIN, "silverman", 5),
    "map": lambda folder: dkde.density_map(TRAIN[:, :2], bandwidth="silverman", cells=5),
    "estimator": lambda folder: dkde.KernelDensity(bandwidth=0.5).fit(TRAIN).score_samples(QUERY),
}


@pytest.mark.parametrize("name", CALLS)
def test_an_asynchronous_client_is_refused_in_its_loop_alone(name, tmp_path, expected):
    async def call():
        async with Client(processes=False, asynchronous=True, **HERE):
            with pytest.raises(dkde.ClusterError, match=r"is asynchronous, .* asyncio\.to_thread"):
                CALLS[name](tmp_path)
            if name == "eager":
                return await asyncio.to_thread(dkde.score, QUERY, TRAIN, H, **PLAN)

    result = asyncio.run(call())
    if result is not None:
        np.testing.assert_array_equal(result.log_density, expected)


@pytest.mark.parametrize("name", CALLS)
def test_a_closed_client_is_refused_where_it_is_the_current_one(name, tmp_path):
    client = Client(processes=False, n_workers=1, **HERE)
    client.close()
    with client.as_current(), pytest.raises(dkde.ClusterError, match="client is closed; make a"):
        CALLS[name](tmp_path)


def after(count, action):
    """A progress function that does something once, when so many blocks are done."""
    calls = []

    def progress(done, total):
        calls.append(done)
        if len(calls) == count:
            action()

    return progress


@pytest.mark.parametrize("how", ["close", "shutdown"])
def test_a_client_that_is_closed_during_a_call(how, tmp_path, expected):
    output = tmp_path / "r.zarr"
    client = Client(processes=False, n_workers=1, **HERE)
    with pytest.raises(dkde.ClusterError, match="was closed during the call; make the") as caught:
        dkde.score(QUERY, TRAIN, H, **PLAN, output=output, progress=after(5, getattr(client, how)))
    assert "blocks are done and kept" in caught.value.__notes__[0]
    client.close()
    found = dkde.score(QUERY, TRAIN, H, **PLAN, output=output)
    np.testing.assert_array_equal(found.log_density, expected)


def test_workers_that_are_retired_and_come_back(expected):
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, processes=False, **HERE) as cluster,
        Client(cluster) as client,
    ):

        def retire():
            client.retire_workers([*client.nthreads()])
            threading.Timer(1.0, cluster.scale, (1,)).start()

        for count in (5, 20):
            found = dkde.score(QUERY, TRAIN, H, **PLAN, progress=after(count, retire))
            np.testing.assert_array_equal(found.log_density, expected)


def test_an_adaptive_cluster_without_workers(expected):
    with (
        LocalCluster(n_workers=0, threads_per_worker=1, processes=False, **HERE) as cluster,
        Client(cluster),
    ):
        cluster.adapt(minimum=0, maximum=2, interval="100ms", wait_count=1)
        for _ in range(4):
            found = dkde.score(QUERY, TRAIN, H, **PLAN)
            np.testing.assert_array_equal(found.log_density, expected)


def test_a_cluster_that_never_has_workers(monkeypatch, caplog):
    monkeypatch.setattr("dkde.workers.absence._PATIENCE", 2.0)
    monkeypatch.setattr("dkde.workers.absence.QUIET", 0.5)
    with (
        LocalCluster(n_workers=0, processes=False, **HERE) as cluster,
        Client(cluster),
        pytest.raises(dkde.ClusterError, match="or all its workers are gone; start them again"),
    ):
        dkde.score(QUERY, TRAIN, H)
    assert (
        len([line for line in caplog.messages if "Waiting for workers: none is left" in line]) == 1
    )
