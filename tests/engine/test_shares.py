"""Blocks that are done in shares: what becomes of those of which a share fails."""

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
from work import side_of, stage_for, work_of

from dkde.engine.blocks import score_share
from dkde.engine.eager_run import run
from dkde.engine.pool import Pool, thread_pool
from dkde.engine.work import Work
from dkde.errors import IncompleteError

SHARES = 4


def in_shares() -> Work:
    """Three blocks of 300 query rows, each in four shares."""
    rng = np.random.default_rng(0)
    query, train = rng.standard_normal((900, 3)), rng.standard_normal((500, 3))
    work = work_of(side_of(query), side_of(train), [0.5], query_rows=300)
    return replace(work, plan=replace(work.plan, n_shares=SHARES))


@dataclass
class Faulty:
    """A pool at which some shares fail: by query block and share, with how often they do."""

    failures: dict[tuple[int, int], int]
    worker: str = ""
    shares: list[tuple[int, int]] = field(default_factory=list)

    def submit(self, call: Callable[..., Any], *arguments: Any) -> Future[Any]:
        future: Future[Any] = Future()
        if call is score_share:
            key = arguments[4][0] // 300, arguments[6][0]
            self.shares.append(key)
            if self.failures.get(key, 0):
                self.failures[key] -= 1
                error = OSError("the disk is gone")
                if self.worker:
                    error.worker = self.worker  # type: ignore[attr-defined]
                future.set_exception(error)
                return future
        future.set_result(call(*arguments))
        return future

    def pool(self) -> Pool:
        def elsewhere(_: Any, call: Callable[..., Any], *arguments: Any) -> Future[Any]:
            return self.submit(call, *arguments)

        return Pool(self.submit, 1, elsewhere=elsewhere if self.worker else None)


def expected() -> Any:
    with thread_pool(2) as pool:
        return run(in_shares(), pool).values


def test_a_block_counts_once_however_many_shares_it_has():
    work, counted = in_shares(), []
    stage = stage_for(work)
    stage.count = lambda: counted.append(len(stage.done()))
    run(work, Faulty({}).pool(), keep=stage)
    assert counted == [1, 2, 3]


def test_shares_make_the_blocks_that_whole_ones_are() -> None:
    whole = in_shares()
    with thread_pool(2) as pool:
        found = run(replace(whole, plan=replace(whole.plan, n_shares=1)), pool).values
    np.testing.assert_array_equal(found, expected())


def test_a_share_that_fails_once_is_tried_again() -> None:
    work = in_shares()
    keep, faulty = stage_for(work), Faulty({(1, 2): 1})
    np.testing.assert_array_equal(run(work, faulty.pool(), keep=keep).values, expected())
    assert len(faulty.shares) == 3 * SHARES + 1


@pytest.mark.parametrize("failing", [{(1, 2): 2}, {(1, 0): 2, (1, 3): 2}])
def test_a_block_of_which_a_share_fails_twice_is_set_aside_whole(
    failing: dict[tuple[int, int], int],
) -> None:
    work = in_shares()
    keep, faulty = stage_for(work), Faulty(dict(failing))
    with pytest.raises(
        IncompleteError, match=r"1 of 3 blocks failed twice.*1-0, query rows 300 to 600: the disk"
    ):
        run(work, faulty.pool(), keep=keep)
    assert set(keep.failed()) == {(1, 0)}
    assert keep.done_rows() == {0, 2}
    # Its other shares were of no use: the block is computed anew, and nothing of the others.
    keep.retry()
    again = Faulty({})
    np.testing.assert_array_equal(run(work, again.pool(), keep=keep).values, expected())
    assert again.shares == [(1, share) for share in range(SHARES)]


def test_a_share_of_a_failed_block_is_not_begun() -> None:
    work = in_shares()
    work = replace(work, plan=replace(work.plan, n_shares=5))
    keep, faulty = stage_for(work), Faulty({(1, 0): 2})
    with pytest.raises(IncompleteError):
        run(work, faulty.pool(), keep=keep)
    begun = [share for block, share in faulty.shares if block == 1]
    # As far as the window had gone when it failed.
    assert begun.count(0) == 2
    assert max(begun) < 4


def test_a_share_that_fails_on_one_worker_is_done_on_another_at_the_end() -> None:
    work = in_shares()
    keep, faulty = stage_for(work), Faulty({(1, 2): 2}, worker="tcp://10.0.0.1:1")
    np.testing.assert_array_equal(run(work, faulty.pool(), keep=keep).values, expected())
    assert keep.failed() == {}


def test_where_every_share_fails_the_first_one_says_so() -> None:
    work = in_shares()
    always = {(block, share): 9 for block in range(3) for share in range(SHARES)}
    with pytest.raises(OSError, match="the disk is gone"):
        run(work, Faulty(always).pool(), keep=stage_for(work))


def test_an_error_of_a_share_ends_a_run_that_keeps_nothing() -> None:
    with pytest.raises(OSError, match="the disk is gone"):
        run(in_shares(), Faulty({(1, 2): 1}).pool())


@dataclass
class Workers:
    """A pool of workers that share nothing, with the blocks and shares it was asked for."""

    n_workers: int
    asked: list[tuple[int, int, int]] = field(default_factory=list)

    def submit(self, call: Callable[..., Any], *arguments: Any) -> Future[Any]:
        if call is score_share:
            rows, panel, (number, n_shares) = arguments[4:7]
            self.asked.append((rows[0] // 300 * 10 + panel[0] // 100, number, n_shares))
        future: Future[Any] = Future()
        future.set_result(call(*arguments))
        return future

    def pool(self) -> Pool:
        return Pool(self.submit, 1, apart=lambda: self.n_workers)


@pytest.mark.parametrize(
    ("n_workers", "panel_rows", "shares"),
    [
        (0, 250, [SHARES] * 6),  # threads share panels
        (1, 250, [1] * 6),
        (2, 250, [1] * 6),  # as many whole blocks each
        (2, 500, [1, 1, SHARES]),  # and shares of the last one
        (5, 250, [1] * 5 + [SHARES]),
        (4, 250, [1, 1, 1, 1, 2, 2]),  # half a block each
        (6, 500, [2, 2, 2]),
        (100, 500, [SHARES] * 3),
    ],
)
def test_workers_that_share_nothing_have_whole_blocks(
    n_workers: int, panel_rows: int, shares: list[int]
) -> None:
    work = in_shares()
    work = replace(work, plan=replace(work.plan, panel_rows=panel_rows))
    workers = Workers(n_workers)
    found = run(work, workers.pool()).values
    with thread_pool(2) as pool:
        np.testing.assert_array_equal(found, run(work, pool).values)
    assert [n for _, number, n in workers.asked if number == 0] == shares
    assert len({(block, number) for block, number, _ in workers.asked}) == sum(shares)
