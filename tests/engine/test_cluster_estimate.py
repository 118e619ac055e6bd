"""The time of work on several workers: integers, and what one thread takes."""

from dataclasses import replace

import pytest

from dkde.engine.block_plan import Plan, make_plan
from dkde.engine.cluster_estimate import OnWorkers, Rates, on_workers
from dkde.engine.estimate import Estimate
from dkde.engine.leaf_estimate import Answers
from dkde.engine.side_size import SideSize

FAST = Rates(1e30, 1e30, 1e30, 1e30)
FOUND = Estimate(100.0, "", Answers(1, 0, 0, 0, 0, seconds=100.0, preparing=40.0, n_passes=2))


def plan(n_train: int, n_query: int, n_shares: int = 8) -> Plan:
    sides = [SideSize(rows, 8, 2**16, 8) for rows in (n_query, n_train)]
    made = make_plan(*sides, n_features=2, n_bandwidths=1, in_leaves=True, cut=(1000, 2**21))
    return replace(made, n_shares=n_shares)


ONE_PANEL, PANELS = plan(10**6, 10_000), plan(10 * 2**21, 10_000)


def computing(plan: Plan, n_workers: int, n_threads: int = 1) -> float:
    return on_workers(plan, FOUND, n_workers, n_threads, FAST).computing


@pytest.mark.parametrize("work", [ONE_PANEL, PANELS])
def test_one_worker_takes_what_one_thread_does(work: Plan) -> None:
    assert computing(work, 1) == 100
    assert computing(work, 1, 4) == 25


def test_what_each_worker_makes_for_itself_is_not_shared_out() -> None:
    # The panel of all blocks: each worker makes it once.
    assert computing(ONE_PANEL, 5) == 40 + 60 / 5
    # Panels of single blocks: each is made by the worker that has the block.
    assert computing(PANELS, 5) == 100 / 5
    # Shares of a block are at all workers of several threads.
    assert computing(PANELS, 5, 2) == (60 + 40 * 5) / 10
    # More workers than blocks: shares of each are at two workers.
    assert (PANELS.n_blocks, computing(PANELS, 200)) == (100, (60 + 40 * 2) / 200)


def test_there_is_no_work_for_more_threads_than_shares() -> None:
    found = on_workers(PANELS, FOUND, 5000, 1, FAST)
    assert found.n_busy == 800
    assert found.computing == (60 + 40 * 8) / 800


def test_bytes_are_those_that_workers_read() -> None:
    query, train = 10_000 * 16, 10**6 * 16
    for n_workers in (1, 4):
        found = on_workers(ONE_PANEL, FOUND, n_workers, 1, FAST)
        assert found.bytes_read == query + 2 * n_workers * train
    found = on_workers(PANELS, FOUND, 4, 1, FAST)
    assert found.bytes_read == 10 * query + 2 * 10 * 10 * 2**21 * 16
    assert found.result_bytes == 10 * 10_000 * 6 * 8


@pytest.mark.parametrize(
    ("rates", "limit"),
    [
        (FAST, "computing"),
        (replace(FAST, read=1e6), "reading"),
        (replace(FAST, store=1e6), "reading"),
        (replace(FAST, results=1e4), "collecting"),
        (replace(FAST, tasks=0.1), "handing out"),
    ],
)
def test_the_slowest_is_the_limit(rates: Rates, limit: str) -> None:
    found = on_workers(PANELS, FOUND, 4, 1, rates)
    assert found.limit == limit
    beside = max(found.collecting, found.handing_out)
    assert found.seconds == max(found.computing + found.reading, beside)


def test_a_store_gives_no_more_to_many_workers() -> None:
    def reading(n_workers: int) -> OnWorkers:
        return on_workers(PANELS, FOUND, n_workers, 1, replace(FAST, read=1e6, store=3e6))

    assert reading(1).reading == pytest.approx(2 * reading(2).reading)
    assert reading(3).reading == pytest.approx(reading(100).reading)


def test_where_moments_are_made_once_a_query_block_is_one_block() -> None:
    assert FOUND.answers is not None
    once = replace(FOUND, answers=replace(FOUND.answers, once=True))
    found = on_workers(PANELS, once, 4, 1, replace(FAST, tasks=1.0))
    assert found.handing_out == PANELS.n_query_blocks == 10
    assert found.n_busy == 4


def test_short_blocks_share_a_task() -> None:
    def handing_out(seconds: float) -> float:
        assert FOUND.answers is not None
        short = replace(FOUND, seconds=seconds, answers=replace(FOUND.answers, preparing=0.0))
        return on_workers(PANELS, short, 4, 1, replace(FAST, tasks=1.0)).handing_out

    # Of a hundred blocks: a second, 10 ms, and nothing at all each; 64 are the most of a task.
    assert [handing_out(s) for s in (100.0, 0.99, 0.0)] == [100, 20, 2]
