"""The plan: pure functions of integers."""

import ast
import inspect
import time
from dataclasses import replace
from itertools import pairwise
from math import ceil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dkde.engine import block_plan as plan_module
from dkde.engine import leaf_plan, side_size
from dkde.engine.block_plan import (
    MAX_BLOCK_FLOPS,
    MAX_QUERY_BYTES,
    MAX_QUERY_ROWS,
    MIN_PANEL_ROWS,
    MIN_QUERY_ROWS,
    QUERY_TILE_ROWS,
    TRAIN_TILE_ROWS,
    Plan,
    make_plan,
)
from dkde.engine.side_size import SideSize
from dkde.numerics import tiles
from dkde.numerics.leaf_axes import MAX_BOX, LeafAxes
from dkde.numerics.tree import make_tree

row_counts = st.one_of(st.integers(1, 100), st.integers(1, 10**5), st.integers(1, 10**9))


@st.composite
def side_sizes(draw: st.DrawFn) -> SideSize:
    rows = draw(row_counts)
    return SideSize(
        rows=rows,
        itemsize=draw(st.sampled_from([1, 2, 4, 8])),
        read_rows=draw(st.integers(1, 10**5)),
        decoded_itemsize=draw(st.sampled_from([1, 4, 8])),
        resident_bytes=draw(st.sampled_from([0, 10**6])),
        copies=draw(st.integers(0, 2)),
        is_held=draw(st.booleans()),
    )


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    explicit = st.one_of(st.none(), st.integers(1, 10**6))
    return make_plan(
        draw(side_sizes()),
        draw(side_sizes()),
        n_features=draw(st.integers(1, 200_000)),
        n_bandwidths=draw(st.integers(1, 100)),
        precision_bytes=draw(st.sampled_from([4, 8])),
        cut=(draw(explicit), draw(explicit)),
    )


def size(rows: int, itemsize: int = 8, read_rows: int = 1000) -> SideSize:
    return SideSize(rows, itemsize, read_rows, itemsize)


@given(plans())
def test_every_pair_is_in_one_block(plan: Plan) -> None:
    for number, piece, total in (
        (plan.n_query_blocks, plan.query_block, plan.query.rows),
        (plan.n_panels, plan.panel, plan.train.rows),
    ):
        # All pieces where there are few; else both ends and some between.
        few = (
            range(number) if number < 50 else [*range(20), number // 2, *range(number - 20, number)]
        )
        pieces = [piece(i) for i in few]
        assert pieces[0][0] == 0
        assert pieces[-1][1] == total
        assert all(start < stop for start, stop in pieces)
        for (i, (_, stop)), (j, (start, _)) in pairwise(zip(few, pieces, strict=True)):
            assert j != i + 1 or start == stop


@given(plans())
def test_pieces_are_equal_but_for_the_last(plan: Plan) -> None:
    for number, piece in (
        (plan.n_query_blocks, plan.query_block),
        (plan.n_panels, plan.panel),
    ):
        lengths = {stop - start for start, stop in map(piece, {0, number // 2, max(number - 2, 0)})}
        assert len(lengths) <= 2
        start, stop = piece(number - 1)
        assert stop - start <= max(lengths)


@given(side_sizes(), side_sizes(), st.integers(1, 10**5), st.integers(1, 50))
def test_chosen_sizes_keep_their_limits(
    query: SideSize, train: SideSize, n_features: int, n_bandwidths: int
) -> None:
    plan = make_plan(query, train, n_features=n_features, n_bandwidths=n_bandwidths)
    assert plan.query_rows <= MAX_QUERY_ROWS
    assert plan.query_rows * n_features * 8 <= MAX_QUERY_BYTES
    # Whole reads of the train side: no chunk is read by two panels.
    assert plan.panel_rows % train.read_rows == 0 or plan.n_panels == 1
    # Not much longer than the longest, unless one read is.
    pair_flops = plan.flops // plan.pairs
    reads = plan.panel_rows - train.read_rows
    assert max(0, reads) * plan.query_rows * pair_flops <= MAX_BLOCK_FLOPS


@given(side_sizes(), side_sizes(), st.integers(1, 4000), st.integers(1, 50))
def test_no_more_query_blocks_than_needed_and_even(
    query: SideSize, train: SideSize, n_features: int, n_bandwidths: int
) -> None:
    plan = make_plan(query, train, n_features=n_features, n_bandwidths=n_bandwidths)
    # Evened out: one row less a block would take another block.
    fewer = plan.query_rows - 1
    assert fewer == 0 or ceil(query.rows / fewer) > plan.n_query_blocks


@given(plans())
def test_costs_are_whole_numbers_that_add_up(plan: Plan) -> None:
    assert plan.pairs == plan.query.rows * plan.train.rows
    for cost in (plan.flops, plan.bytes_read, plan.block_bytes, plan.worker_bytes()):
        assert isinstance(cost, int)
        assert cost > 0
    assert plan.worker_bytes() >= plan.resident_bytes


@given(plans())
def test_bytes_read_are_those_of_all_blocks(plan: Plan) -> None:
    if plan.n_blocks > 200:
        return
    total = 0
    for q in range(plan.n_query_blocks):
        for p in range(plan.n_panels):
            (a, b), (c, d) = plan.query_block(q), plan.panel(p)
            total += (
                (b - a) * plan.query.itemsize + (d - c) * plan.train.itemsize
            ) * plan.n_features
    assert plan.bytes_read == total


@given(plans())
def test_a_plan_follows_from_its_arguments_alone(plan: Plan) -> None:
    def again() -> Plan:
        return make_plan(
            plan.query, plan.train, n_features=plan.n_features, n_bandwidths=plan.n_bandwidths
        )

    assert again() == again()


def test_a_plan_can_look_at_nothing_else() -> None:
    # No module that could tell it of processors, memory or clusters.
    imported = set()
    for module in (plan_module, leaf_plan, side_size):
        tree = ast.parse(Path(inspect.getfile(module)).read_text())
        imported |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
        assert not [node for node in ast.walk(tree) if isinstance(node, ast.Import)]
    assert imported == {"dataclasses", "math", leaf_plan.__name__, side_size.__name__}


@given(side_sizes(), st.integers(1, 1000), st.integers(1, 1000))
def test_explicit_sizes_are_taken(query: SideSize, query_rows: int, panel_rows: int) -> None:
    plan = make_plan(
        query,
        size(5000),
        n_features=3,
        n_bandwidths=1,
        cut=(query_rows, panel_rows),
    )
    assert plan.query_rows == min(query_rows, query.rows)
    assert plan.panel_rows == panel_rows


def test_a_hundred_million_rows_a_side_are_planned_at_once() -> None:
    start = time.perf_counter()
    plan = make_plan(size(10**8), size(10**8), n_features=784, n_bandwidths=8)
    assert plan.query_block(plan.n_query_blocks - 1)[1] == 10**8
    assert plan.panel(plan.n_panels - 1)[1] == 10**8
    assert plan.pairs == 10**16
    assert plan.worker_bytes() < 2**30
    assert time.perf_counter() - start < 0.1


def test_small_work_is_one_block() -> None:
    plan = make_plan(size(MIN_QUERY_ROWS), size(MIN_PANEL_ROWS), n_features=8, n_bandwidths=1)
    assert plan.n_blocks == 1


@pytest.mark.parametrize(
    ("query_rows", "train_rows", "n_shares"),
    [
        (1000, 1000, 1), (64, 2**20, 1), (100, 10**6, 2), (1000, 10**6, 16),
        (20_000, 300_000, 32), (10**6, 100, 1), (10**6, 10_000, 25),
    ],
)  # fmt: skip
def test_few_query_rows_on_many_are_shared_out(
    query_rows: int, train_rows: int, n_shares: int
) -> None:
    # What is read at a time may be more than there is.
    train = size(train_rows, read_rows=2**18)
    plan = make_plan(size(query_rows), train, n_features=3, n_bandwidths=1, in_leaves=True)
    assert plan.n_shares == n_shares
    assert plan.n_query_blocks == -(-query_rows // 2**16)


@pytest.mark.parametrize("train_rows", [10**5, 10**7, 10**9])
def test_memory_does_not_grow_with_the_rows(train_rows: int) -> None:
    small = make_plan(size(10**5), size(10**5), n_features=784, n_bandwidths=8)
    plan = make_plan(size(10**9), size(train_rows), n_features=784, n_bandwidths=8)
    assert plan.block_bytes <= 3 * small.block_bytes


@given(plans())
def test_more_of_anything_does_not_take_less_memory(plan: Plan) -> None:
    assert replace(plan, n_features=plan.n_features + 1).block_bytes >= plan.block_bytes
    assert replace(plan, n_bandwidths=plan.n_bandwidths + 1).block_bytes >= plan.block_bytes


def test_tiles_are_what_the_numerics_use() -> None:
    assert (QUERY_TILE_ROWS, TRAIN_TILE_ROWS) == (tiles.QUERY_TILE, tiles.TRAIN_TILE)


@pytest.mark.sampled(5)
@pytest.mark.parametrize("d", [1, 3, 8, 20, 40])
def test_trees_take_what_is_planned(d: int) -> None:
    rows = np.random.default_rng(0).standard_normal((20_000, d))
    axes = LeafAxes.of(rows) if d > MAX_BOX else None
    codes = np.zeros(len(rows), np.int32)
    taken = make_tree(rows, codes=codes, axes=axes).nbytes / len(rows)
    assert 0.9 * leaf_plan.tree_row_bytes(d) - 4 <= taken <= 1.1 * leaf_plan.tree_row_bytes(d)


def test_what_blocks_share_is_there_once_for_all_threads() -> None:
    memory = replace(size(10**6), resident_bytes=24 * 10**6, is_view=True, is_held=True)
    plan = make_plan(size(50_000), memory, n_features=3, n_bandwidths=1, in_leaves=True)
    assert plan.n_shares > 1
    assert plan.shared_bytes > 10**6 * leaf_plan.tree_row_bytes(3)
    assert plan.block_bytes < plan.shared_bytes / 10


def test_weights_groups_and_bandwidths_are_counted() -> None:
    def added(train: SideSize, n_bandwidths: int = 1) -> int:
        plan = make_plan(
            size(10**5), train, n_features=3, n_bandwidths=n_bandwidths, in_leaves=True
        )
        return 2 * plan.block_bytes + plan.shared_bytes

    plain = size(10**6)
    assert added(replace(plain, is_weighted=True)) > added(plain) + 8 * 10**6
    assert added(replace(plain, is_grouped=True)) > added(plain) + 28 * 10**6
    assert added(plain, 20) > added(plain)
