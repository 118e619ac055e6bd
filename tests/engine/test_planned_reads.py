"""How often each side will be read, as a plan says it."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from work import side_of, source_of

from dkde.engine.planned_reads import planned_reads
from dkde.engine.task import Survey
from dkde.engine.work import Work
from dkde.estimation.bandwidth_matrix import BandwidthMatrix
from dkde.estimation.covariance import Covariance
from dkde.estimation.options import Options
from dkde.numerics.images import Images
from dkde.numerics.summaries import Summaries

SURVEY = Survey(np.zeros(2), in_leaves=True, n_bandwidths=2)
# Whatever is known of where rows lie.
KNOWN = Summaries(np.array([0, 400]), (), np.zeros((1, 2)), 0.0)
BY_REGIONS = replace(SURVEY, by_cells=(0, 1), summaries=KNOWN)


def work(kind: str = "zarr", panel_rows: int | None = 100, block_rows: int = 50) -> Work:
    random = np.random.default_rng(0)
    query, train = random.standard_normal((200, 2)), random.standard_normal((400, 2))
    sides = side_of(source_of(kind, query, 50)), side_of(source_of(kind, train, 100))
    matrix = BandwidthMatrix(np.array([0.3, 0.6]), Covariance(2))
    return Options(block_rows=block_rows, panel_rows=panel_rows).work(*sides, matrix)


@pytest.mark.parametrize(
    ("found", "panel_rows", "times", "why"),
    [
        (replace(SURVEY, by_cells=(0, 1)), 100, 1, "for the moments of all query blocks"),
        (replace(SURVEY, by_cells=(1,)), 100, 5, "once for moments and once for the pairs of each"),
        (SURVEY, 100, 4, "once for each query block"),
        (replace(BY_REGIONS, share_read=0.125), 100, 0.5, "for each query block, unless too far"),
        (replace(BY_REGIONS, share_read=0.75), 100, 1, "for the moments of all query blocks"),
        (SURVEY, None, 1, "by each worker, which keeps"),
        (replace(SURVEY, in_leaves=False), 100, 4, "for each query block"),
    ],
)
def test_training_rows(found: Survey, panel_rows: Any, times: float, why: str) -> None:
    reads = planned_reads(work(panel_rows=panel_rows), found)["train"]
    assert (reads["times"], reads["bytes"]) == (times, times * 400 * 16)
    assert why in reads["why"]


def test_where_rows_have_images_those_far_out_may_read_all_panels_again() -> None:
    planned = work()
    planned = replace(planned, task=replace(planned.task, images=Images((), 2)))
    reads = planned_reads(planned, replace(SURVEY, by_cells=(0, 1)))["train"]
    assert reads["times"] == 1 + planned.plan.n_query_blocks
    assert reads["why"].startswith("at most")


def test_query_rows_are_read_in_whole_chunks() -> None:
    reads = planned_reads(work(block_rows=20), SURVEY)["query"]
    # Of ten blocks of 20 rows, two lie in two chunks of 50 rows.
    assert reads["bytes"] == 12 * 50 * 16
    assert reads["times"] == 3


def test_rows_in_memory_are_not_read() -> None:
    reads = planned_reads(work("array"), SURVEY)
    assert all((each["bytes"], each["why"]) == (0, "in memory") for each in reads.values())


def test_what_one_query_block_reads_needs_no_reason() -> None:
    assert planned_reads(work(block_rows=200), SURVEY)["train"]["why"] == ""
