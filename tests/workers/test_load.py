"""What a run puts on its client and its scheduler, in numbers."""

import threading
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from distributed import Client, LocalCluster, get_worker
from distributed.comm.tcp import TCP
from work import side_of, work_of

from dkde.engine import attempts, batches, eager_run, stragglers
from dkde.engine.blocks import score_share
from dkde.engine.eager_run import compute
from dkde.workers.client_pool import _SMALL_BYTES, client_pool

pytestmark = [pytest.mark.slow, pytest.mark.alone]

WORKERS, BLOCKS = 3, 60
# Messages that come by the second or once a run, and not by the block; and what answers either.
BY_TIME = {
    "reply",
    "heartbeat_worker", "heartbeat-client", "adjust-heartbeat-interval", "set_metadata", "ncores",
    "identity", "keep-alive", "register-client", "scatter",
}  # fmt: skip


@pytest.fixture(scope="module")
def client():
    options = {"processes": False, "protocol": "tcp://", "dashboard_address": None}
    with (
        LocalCluster(n_workers=WORKERS, threads_per_worker=1, **options) as cluster,
        Client(cluster) as client,
    ):
        yield client


@pytest.fixture
def sent(monkeypatch):
    """Count the messages of all processes, by what they ask for; and the bytes of the largest."""
    counts, largest, write = Counter(), Counter(), TCP.write

    async def counting(self, msg, *arguments, **options):
        n_bytes = await write(self, msg, *arguments, **options)
        parts = msg if isinstance(msg, (list, tuple)) else [msg]
        ops = [part.get("op", "reply") for part in parts if isinstance(part, dict)]
        counts.update(ops)
        for op in ops[:1]:  # of messages that are sent together, those of one kind share the bytes
            largest[op] = max(largest[op], n_bytes // ops.count(op))
        return n_bytes

    monkeypatch.setattr(TCP, "write", counting)
    return counts, largest


def work(train_rows):
    rng = np.random.default_rng(0)
    query, train = (side_of(rng.normal(size=(n, 3))) for n in (BLOCKS * 2, train_rows))
    return work_of(query, train, [0.5, 1.0], query_rows=2, panel_rows=train_rows)


@pytest.mark.parametrize("train_rows", [40, 8000])  # these are sent to each worker once
def test_messages_of_a_block_and_bytes_of_a_task(client, sent, monkeypatch, train_rows):
    monkeypatch.setattr(batches, "_WORTH", 0.0)  # each block a task of its own
    counts, largest = sent
    with client_pool(client) as pool:
        compute(work(train_rows), pool, lambda *_: None)
    assert counts["update-graph"] == BLOCKS + 1  # the survey
    by_block = {op: count for op, count in counts.items() if op not in BY_TIME}
    assert sum(by_block.values()) <= 12 * (BLOCKS + 1), counts
    # Query, train, survey and summaries travel with a task up to so many bytes each.
    assert largest["update-graph"] < 4 * _SMALL_BYTES + 8192, largest
    assert largest["compute-task"] < 4 * _SMALL_BYTES + 8192, largest


@pytest.mark.parametrize("worth", [0.0, 0.05])
def test_blocks_in_flight(client, monkeypatch, worth):
    monkeypatch.setattr(batches, "_WORTH", worth)
    handed, most, largest = [], 0, 0
    with client_pool(client) as pool:

        def submit(call, *arguments, **options):
            nonlocal most, largest
            handed.append(pool.submit(call, *arguments, **options))
            most = max(most, sum(not each.done() for each in handed))
            if call is batches.one_after_the_other:
                largest = max(largest, len(arguments[2]))
            return handed[-1]

        compute(work(40), replace(pool, submit=submit), lambda *_: None)
    assert most <= 2 * WORKERS
    assert largest <= 64
    assert worth or not largest


# In this process are the workers, too.
GO_ON, TRIES = threading.Event(), []


def late(*arguments):
    """In the place of a block: one waits at its first worker until all others are done."""
    if arguments[4] == (60, 62):
        TRIES.append(get_worker().address)
        if len(TRIES) == 1:
            assert GO_ON.wait(60)
    return score_share(*arguments)


def test_an_idle_worker_makes_a_late_block_once_more(client, monkeypatch):
    monkeypatch.setattr(stragglers, "_LEAST", 0.3)
    monkeypatch.setattr(attempts, "LOOK", 0.05)
    monkeypatch.setattr(batches, "_WORTH", 0.0)
    GO_ON.clear()
    TRIES.clear()
    expected, found = {}, {}
    with client_pool(client) as pool:
        compute(work(40), pool, lambda block, part, _: expected.update({block: part}))
        monkeypatch.setattr(eager_run, "score_share", late)
        compute(work(40), pool, lambda block, part, _: found.update({block: part}))
        GO_ON.set()
    assert len(set(TRIES)) == len(TRIES) in (2, 3)  # each at another worker
    assert found.keys() == expected.keys()
    for block, part in found.items():
        np.testing.assert_array_equal(part, expected[block])
