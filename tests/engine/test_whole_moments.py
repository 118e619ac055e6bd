"""Moments of all training rows, made once for all query blocks, against the oracle."""

import json
import pickle
from collections import Counter
from dataclasses import replace
from itertools import pairwise
from threading import Event
from time import sleep
from typing import Any
from unittest import mock

import numpy as np
import numpy.typing as npt
import pytest
import reference
from work import close_stages, rows_of, side_of, source_of, stage_for

from dkde.engine import eager_run, leaf_plan, whole_moments
from dkde.engine.cell_survey import CellChoice
from dkde.engine.eager_run import run
from dkde.engine.graph import lazy_densities
from dkde.engine.handing_out import every_block
from dkde.engine.pool import Pool, calling_thread, thread_pool
from dkde.engine.task import Survey
from dkde.engine.whole_moments import Beside, Made, as_agreed, with_made
from dkde.engine.work import Work
from dkde.estimation.bandwidth_matrix import BandwidthMatrix
from dkde.estimation.covariance import Covariance
from dkde.estimation.options import Options
from dkde.numerics import sparse_rows
from dkde.numerics.cell_moments import CellMoments
from dkde.numerics.sparse_rows import SparseRows
from dkde.rows.side import Rows, Side
from dkde.rows.sources import ArraySource, ZarrSource
from dkde.rows.tally import BytesRead

Array = npt.NDArray[Any]
TOL = 1e-8
N_TRAIN, CHUNK = 1200, 100
KINDS = [
    "normal",
    "uniform",
    "clusters",
    "one point",
    "far row",
    "large offset",
    "weighted",
    "unlike",
]


@pytest.fixture(autouse=True)
def _closing() -> Any:
    yield
    close_stages()


def data(kind: str, d: int) -> tuple[Array, Array, Array | None]:
    """Query rows, some far out, training rows, and their weights."""
    random = np.random.default_rng(3)
    train, weights = random.standard_normal((N_TRAIN, d)), None
    if kind == "uniform":
        train = random.random((N_TRAIN, d))
    elif kind == "clusters":
        train = train * 0.05 + 4 * random.integers(0, 3, (N_TRAIN, 1))
    elif kind == "one point":
        train = np.repeat(train[:1], N_TRAIN, axis=0)
    elif kind == "far row":
        train[0] = 1e7
    elif kind == "large offset":
        train += 1e6
    elif kind == "weighted":
        weights = np.where(random.random(N_TRAIN) < 0.2, 0.0, random.random(N_TRAIN) * 1e9)
    elif kind == "unlike weights":
        weights = np.exp(random.uniform(-600, 600, N_TRAIN))
    far = train[:60] + random.standard_normal((60, d)) * random.choice([0.1, 2.0, 9.0], (60, 1))
    return np.concatenate([train[100:160] + 0.01, far]), train, weights


def work(
    kind: str = "normal", d: int = 2, hs: Any = 0.3, *, panel_rows: int = 300, **options: Any
) -> Work:
    query, train, weights = data(kind, d)
    sides = (
        side_of(source_of("zarr", query, CHUNK), "query"),
        side_of(source_of("zarr", train, CHUNK), "train", weights=weights),
    )
    matrix = BandwidthMatrix(np.atleast_1d(np.asarray(hs, float)), Covariance(d))
    options = {"block_rows": 50, "tol": TOL} | options
    return Options(panel_rows=panel_rows, **options).work(*sides, matrix)


def with_whole(
    work: Work, survey: Survey, pool: Pool, keep: Beside | None = None, made: Made | None = None
) -> Survey:
    """Return the survey of a run, with the moments of all training rows where it has them."""
    survey, is_wanted = as_agreed(work, survey, keep)
    return with_made(work, survey, pool, keep, made) if is_wanted else survey


@pytest.fixture(autouse=True)
def by_cells(monkeypatch: pytest.MonkeyPatch) -> None:
    """Choose moments, however few rows there are, at the bandwidths above 0.1."""
    of_sample = eager_run._survey
    of_work = Work.survey

    def chosen(work: Work, survey: Survey) -> Survey:
        bandwidths = tuple(np.flatnonzero(work.task.bandwidths > 0.1).tolist())
        return replace(survey, in_leaves=True, by_cells=bandwidths)

    monkeypatch.setattr(eager_run, "_survey", lambda w, *rest: chosen(w, of_sample(w, *rest)))
    monkeypatch.setattr(Work, "survey", lambda w: chosen(w, of_work(w)))


def watched(monkeypatch: pytest.MonkeyPatch) -> "Counter[int]":
    """Count how often each training row is read by blocks."""
    found: Counter[int] = Counter()
    read = ZarrSource.read

    def counted(source: ZarrSource, start: int, stop: int) -> Array:
        if source.shape[0] == N_TRAIN:
            found.update(range(start, stop))
        return read(source, start, stop)

    monkeypatch.setattr(ZarrSource, "read", counted)
    return found


@pytest.mark.sampled(24)
@pytest.mark.parametrize("d", [1, 2, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_equals_the_oracle(kind: str, d: int) -> None:
    planned = work(kind, d, [0.3, 1.0, 0.05])
    with thread_pool(2) as pool:
        found = run(planned, pool)
    query, train, weights = data(kind, d)
    expected = reference.log_density(query, train, [0.3, 1.0, 0.05], weights)
    errors = np.abs(found.values - expected)
    assert (errors <= found.errors + 1e-12 * np.abs(expected)).all()
    assert (errors <= 1.1 * TOL * np.maximum(1, np.abs(expected))).all()


@pytest.mark.parametrize("nan", ["raise", "drop"])
def test_training_rows_are_read_once(monkeypatch: pytest.MonkeyPatch, nan: str) -> None:
    planned, seen, read = work(nan=nan), watched(monkeypatch), []
    with thread_pool(2) as pool:
        survey = eager_run._survey(planned, pool, "")
        seen.clear()
        whole = with_whole(planned, survey, pool, None, lambda _, made, __: read.append(made.read))
        assert whole.is_summed_at_once
        assert set(seen.values()) == {1}
        assert sum(each.train for each in read) == N_TRAIN * 16
    assert whole.__sizeof__() > whole.whole.nbytes > 0


@pytest.mark.parametrize("kind", ["normal", "weighted"])
def test_no_row_is_read_again_where_lone_rows_are_in_sparse_cells(kind: str) -> None:
    # A far query row is left to pairs; there are no cells with more rows than are kept.
    planned, read = work(kind, hs=0.2), BytesRead()

    def count(more: BytesRead) -> None:
        nonlocal read
        read = read.plus(more)

    with thread_pool(2) as pool:
        found = run(planned, pool, count_read=count)
    assert read.train == N_TRAIN * 16
    assert found.effort.pairs.any()


def test_rows_that_sparse_cells_do_not_answer_for_read_all_panels() -> None:
    # Beside a full square.
    random = np.random.default_rng(0)
    train = random.random((N_TRAIN, 2)) * 0.1
    query = np.array([[1.5, 0.05], [-1.3, 0.0], [0.05, 0.05]])
    sides = side_of(source_of("zarr", query, 2)), side_of(source_of("zarr", train, CHUNK))
    matrix = BandwidthMatrix(np.array([0.2]), Covariance(2))
    planned = Options(tol=TOL, panel_rows=300).work(*sides, matrix)
    read: list[BytesRead] = []
    with thread_pool(1) as pool:
        found = run(planned, pool, count_read=read.append)
    expected = reference.log_density(query, train, [0.2])
    assert (np.abs(found.values - expected) <= found.errors).all()
    assert found.effort.pairs[0] == N_TRAIN
    assert sum(each.train for each in read) == 2 * N_TRAIN * 16


@pytest.mark.slow
@pytest.mark.parametrize("heavy", [1.0, 1e12])
def test_lone_rows_beside_heavy_cells_are_summed_to_the_bound(heavy: float) -> None:
    # Full cells of which nothing is kept; a few lone rows, and query rows amid these.
    random = np.random.default_rng(0)
    train = np.concatenate([random.random((3000, 2)), random.uniform(4, 9, (100, 2))])
    weights = np.where(np.arange(3100) < 3000, heavy, random.random(3100) + 0.1)
    query = np.concatenate([train[-60:] + 0.3, random.uniform(0, 9, (60, 2))])
    sides = (
        side_of(source_of("zarr", query, 40)),
        side_of(source_of("zarr", train, CHUNK), "train", weights=weights),
    )
    matrix = BandwidthMatrix(np.array([0.3]), Covariance(2))
    planned, read = Options(tol=TOL, panel_rows=500, block_rows=40).work(*sides, matrix), []
    with thread_pool(2) as pool:
        found = run(planned, pool, count_read=read.append)
    expected = reference.log_density(query, train, [0.3], weights)
    assert (np.abs(found.values - expected) <= found.errors + 1e-12).all()
    assert (found.errors <= 1.1 * TOL * np.maximum(1, np.abs(expected))).all()
    pairs = found.effort.pairs
    assert ((pairs > 0) & (pairs <= 100)).any()


def test_bits_depend_on_nobody() -> None:
    planned = work(hs=[0.3, 0.05, 1.0])
    with thread_pool(1) as one, thread_pool(3) as three:
        expected = run(planned, one).values
        np.testing.assert_array_equal(run(planned, three).values, expected)
    np.testing.assert_array_equal(run(planned, calling_thread()).values, expected)
    lazy, _ = lazy_densities(planned)
    np.testing.assert_array_equal(lazy.compute(scheduler="sync"), expected)


@pytest.mark.parametrize("hs", [[0.3], [0.3, 0.05]])
def test_moments_that_are_kept_are_not_made_again(hs: list[float]) -> None:
    planned = work(hs=hs)
    stage = stage_for(planned)
    with thread_pool(2) as pool:
        expected = run(planned, pool).values
        with (
            mock.patch.object(eager_run, "score_share", side_effect=KeyboardInterrupt),
            pytest.raises(KeyboardInterrupt),
        ):
            run(planned, pool, keep=stage)
        made = mock.patch.object(whole_moments, "panel_arrays", side_effect=AssertionError)
        with made:
            found = run(planned, pool, keep=stage)
        np.testing.assert_array_equal(found.values, expected)
        # They are of no use any more; what they were of stays.
        names = stage._records.names(stage.name)
        assert [name for name in names if name.startswith("moments")] == ["moments.json"]
        stage.close()
        np.testing.assert_array_equal(run(planned, pool, keep=stage).values, expected)


def test_moments_that_are_damaged_are_made_again() -> None:
    planned = work()
    stage = stage_for(planned)
    with thread_pool(2) as pool:
        expected = run(planned, pool).values
        survey = eager_run._survey(planned, pool, "")
        with_whole(planned, survey, pool, stage)
        content = stage.beside("moments-2.npz")
        assert content is not None
        damaged = bytearray(content)
        damaged[len(content) // 2] ^= 1
        stage.put_beside("moments-2.npz", bytes(damaged))
        stage.put_beside("moments.json", b"{")
        np.testing.assert_array_equal(run(planned, pool, keep=stage).values, expected)


def test_a_run_has_the_moments_of_its_first_session() -> None:
    planned = work(hs=[0.3, 1.0])
    stage = stage_for(planned)
    with thread_pool(2) as pool:
        survey = eager_run._survey(planned, pool, "")
        first = replace(survey, by_cells=(1,), cell_tol=1e-10)
        expected = with_whole(planned, first, pool, stage)
        again = with_whole(planned, survey, pool, stage)
        none = with_whole(planned, replace(survey, by_cells=()), pool, stage)
    for other in (again, none):
        assert (other.by_cells, other.cell_tol) == (expected.by_cells, expected.cell_tol)
        assert other.whole.kept == [1]
        assert not other.is_summed_at_once


@pytest.mark.slow
def test_a_run_that_was_begun_panel_by_panel_goes_on_so() -> None:
    planned = work()
    stage = stage_for(planned)
    with thread_pool(2) as pool:
        survey = eager_run._survey(planned, pool, "")
        stage.write(0, 1, planned.block(survey, 0, 1))
        found = run(planned, pool, keep=stage)
        assert json.loads(stage.beside("moments.json") or b"")["whole"] is False
    expected = reference.log_density(*data("normal", 2)[:2], [0.3])
    assert (np.abs(found.values - expected) <= found.errors).all()


def test_workers_get_the_same_moments() -> None:
    planned = work(hs=[0.3, 0.05])
    survey = with_whole(planned, planned.survey(), calling_thread())
    expected = planned.block(survey, 0, 0)
    sent = replace(pickle.loads(pickle.dumps(survey)), key="another")
    np.testing.assert_array_equal(planned.block(sent, 0, 0), expected)


def test_parts_have_as_many_blocks_each() -> None:
    planned = work()
    shares: list[list[int]] = []
    with thread_pool(1) as pool:
        for part in range(2):
            done: list[int] = []
            eager_run.compute(
                planned, pool, lambda block, each, is_whole: done.append(block[0]),  # noqa: B023
                only=lambda number: number % 2 == part,  # noqa: B023
            )  # fmt: skip
            shares.append(done)
    assert sorted(shares[0] + shares[1]) == list(range(planned.plan.n_query_blocks))
    assert all(shares)


def test_a_panel_in_memory_is_left_to_its_blocks() -> None:
    query, train, _ = data("normal", 2)
    sides = Side(rows_of(ArraySource(query))), Side(rows_of(ArraySource(train)))
    matrix = BandwidthMatrix(np.array([0.3]), Covariance(2))
    planned = Options(tol=TOL).work(*sides, matrix)
    assert isinstance(planned.train.rows, Rows)
    assert not whole_moments.has_whole(planned, planned.survey())


def test_all_rows_of_sparse_cells_are_gathered() -> None:
    random = np.random.default_rng(1)
    x = random.standard_normal((3000, 2))
    whole = SparseRows(2, 0.3, 20)
    for start, stop in pairwise([0, 700, 1900, 3000]):
        part = SparseRows(2, 0.3, 12)
        for a, b in pairwise([start, (start + stop) // 2, stop]):
            part.add(x[a:b], x[a:b])
        whole.merge(whole.empty().filled(part.arrays()))
    cells = np.floor(x / whole.side).astype(int)
    _, where, counts = np.unique(cells, axis=0, return_inverse=True, return_counts=True)
    kept = {tuple(row) for row in whole.rows}
    is_kept = np.array([tuple(row) in kept for row in x])
    assert not is_kept[counts[where.ravel()] > 20].any()
    assert is_kept[counts[where.ravel()] <= 12].all()
    assert whole.n_others == (~is_kept).sum()
    query = random.standard_normal((50, 2)) * 3
    nearest = ((query[:, None] - x[~is_kept]) ** 2).sum(axis=2).min(axis=1)
    bounds = whole.squared_distances(query)
    assert (bounds <= nearest).all()
    assert bounds.max() > 1


def test_rows_that_are_too_many_or_too_far_out_are_not_gathered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rows = SparseRows(1, 1.0)
    rows.add(np.array([[1e300]]), np.array([[1e300]]))
    assert rows.lost
    assert rows.rows is None
    assert rows.empty().filled(rows.arrays()).lost
    monkeypatch.setattr("dkde.numerics.sparse_rows.MOST_BYTES", 100)
    many = SparseRows(1, 1.0)
    many.add(np.arange(20.0)[:, None], np.arange(20.0)[:, None])
    assert many.lost


def test_the_table_of_cells_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dkde.numerics.sparse_rows.MOST_CELLS", 30)
    whole = SparseRows(1, 1.0)
    for start in (0.0, 20.0):
        at = np.arange(start, start + 20)[:, None]
        part = SparseRows(1, 1.0)
        part.add(at, at)
        assert not part.lost
        whole.merge(part)
    assert whole.lost
    assert whole.arrays() == {}


def test_a_panel_that_gave_its_moments_up_is_not_taken_for_one_without_rows() -> None:
    def of(rows: Array) -> CellMoments:
        made = CellMoments(1, np.ones(1), 1e-6, most_bytes=200_000)
        made.add(rows)
        return made

    whole = of(np.empty((0, 1)))
    for part in (np.random.default_rng(0).normal(size=(1000, 1)), np.arange(5000.0)[:, None] * 100):
        whole.merge(whole.empty().filled(of(part).arrays()))
    assert whole.kept == []


def test_rows_of_cells_that_are_dense_in_another_panel_count_once() -> None:
    whole = SparseRows(1, 2.0, 256)
    for rows in (np.array([[0.5]] * 10 + [[100.5]] * 5), np.full((1000, 1), 0.7)):
        part = SparseRows(1, 2.0, 128)
        part.add(rows, rows)
        whole.merge(whole.empty().filled(part.arrays()))
    assert whole.rows is not None
    assert len(whole.rows) + whole.n_others == 1015


def test_partial_results_of_panels_are_no_whole_ones() -> None:
    """As an engine leaves them that knows no moments of all rows, in the folder of this one."""
    planned = work()
    stage = stage_for(planned)
    with thread_pool(1) as pool:
        expected = run(planned, pool)
        survey = eager_run._survey(planned, pool, "")
        with_whole(planned, survey, pool, stage)
        for q in range(planned.plan.n_query_blocks):
            for p in range(planned.plan.n_panels - 1):
                stage.write(q, p, planned.block(survey, q, p))
        found = run(planned, pool, keep=stage)
    np.testing.assert_array_equal(found.values, expected.values)


def test_of_two_sessions_that_choose_at_once_the_first_decides() -> None:
    stage = stage_for(work())
    records = stage._records
    claim = records.claim

    def late(key: str, content: bytes) -> bool:
        claim(key, b'{"whole": true}')
        return claim(key, content)

    with mock.patch.object(type(records), "claim", lambda _, *rest: late(*rest)):
        assert stage.agreed("moments.json", b'{"whole": false}') == b'{"whole": true}'


@pytest.mark.parametrize("n_parts", [2, 3, 4, 8])
def test_no_part_is_without_blocks(n_parts: int) -> None:
    planned = work(block_rows=4).plan
    numbers = Counter(number % n_parts for number, _ in every_block(planned, True))
    assert min(numbers[part] for part in range(n_parts)) > 0
    assert max(numbers.values()) <= 2 * planned.n_query_blocks / n_parts


def test_a_panel_that_fails_once_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    planned, failed = work(), []
    make = whole_moments.panel_arrays

    def once(*arguments: Any) -> whole_moments.PanelArrays:
        if arguments[3][0] == 300 and not failed:
            failed.append(1)
            raise OSError(5, "Input/output error")
        return make(*arguments)

    with thread_pool(2) as pool:
        expected = run(planned, pool)
        monkeypatch.setattr(whole_moments, "panel_arrays", once)
        found = run(planned, pool, keep=stage_for(planned))
    assert failed
    np.testing.assert_array_equal(found.values, expected.values)


def test_no_panel_is_made_far_ahead_of_the_one_that_is_merged_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    planned, third = work(panel_rows=100), Event()
    make, begun = whole_moments.panel_arrays, []

    def late(*arguments: Any) -> whole_moments.PanelArrays:
        begun.append(arguments[3][0] // 100)
        if begun[-1] == 3:
            third.set()
        if begun[-1] == 0:
            third.wait(20)
            sleep(0.2)  # no more are to begin
            begun.append(-1)
        return make(*arguments)

    monkeypatch.setattr(whole_moments, "panel_arrays", late)
    with thread_pool(2) as pool:
        survey = eager_run._survey(planned, pool, "")
        whole = with_whole(planned, survey, pool)
    assert planned.plan.n_panels == 12
    assert max(begun[: begun.index(-1)]) == 3
    assert whole.whole.n_read == N_TRAIN


def test_the_plan_has_room_for_a_panel_of_each_thread() -> None:
    train = np.random.default_rng(0).standard_normal((100_000, 2))
    sides = (
        side_of(source_of("zarr", train[:9000], 9000)),
        side_of(source_of("zarr", train, 1000)),
    )
    matrix = BandwidthMatrix(np.array([0.3]), Covariance(2))
    plan = Options(panel_rows=1000).work(*sides, matrix).plan
    more = plan.worker_bytes(16) - plan.worker_bytes(8)
    assert more >= 8 * (leaf_plan.most_moment_bytes(2) + 1000 * 16)
    known = leaf_plan.SPARSE_BYTES, leaf_plan.SPARSE_CELLS
    assert known == (sparse_rows.MOST_BYTES, sparse_rows.MOST_CELLS)


@pytest.mark.slow
def test_moments_that_are_too_large_together_are_made_panel_by_panel(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    train = np.random.default_rng(0).uniform(0, 200, (N_TRAIN, 1))
    query = train[::10] + 0.01
    sides = side_of(source_of("zarr", query, 60)), side_of(source_of("zarr", train, CHUNK))
    matrix = BandwidthMatrix(np.array([0.3]), Covariance(1))
    planned = Options(tol=TOL, panel_rows=200, block_rows=60).work(*sides, matrix)
    stage, made = stage_for(planned), []
    make = whole_moments.panel_arrays

    def counted(*arguments: Any) -> whole_moments.PanelArrays:
        made.append(make(*arguments))
        return made[-1]

    monkeypatch.setattr(whole_moments, "panel_arrays", counted)
    with thread_pool(1) as pool:
        survey = eager_run._survey(planned, pool, "")
        nbytes = with_whole(planned, survey, pool).whole.moments.nbytes
        made.clear()
        monkeypatch.setattr(whole_moments, "most_moment_bytes", lambda n_axes: nbytes * 0.55)
        found = run(planned, pool)
        n_made = len(made)
        kept = run(planned, pool, keep=stage)
        assert with_whole(planned, survey, pool, stage).whole is None
    assert n_made < planned.plan.n_panels
    assert all(each.arrays["kept"].tolist() == [0] for each in made)
    assert len(made) < 2 * planned.plan.n_panels
    assert found.effort.pairs.mean() < 0.8 * N_TRAIN
    assert json.loads(stage.beside("moments.json") or b"") == {"whole": False}
    np.testing.assert_array_equal(found.values, kept.values)
    assert (np.abs(found.values - reference.log_density(query, train, [0.3])) <= found.errors).all()


def test_moments_that_are_too_large_together_are_foreseen() -> None:
    train = np.random.default_rng(0).uniform(0, 1e4, (1000, 2))
    choice = CellChoice(TOL, (0,), 0.0, 0.0)
    task = work(d=2).task
    assert choice.fits(train[:100], train, task, 1000)
    assert not choice.fits(train[:100], train, task, 10**9)


def test_a_part_without_query_blocks_makes_no_moments(monkeypatch: pytest.MonkeyPatch) -> None:
    planned, read, done = work(block_rows=60), [], []
    monkeypatch.setattr(whole_moments, "panel_arrays", mock.Mock(side_effect=AssertionError))
    drawn = {number for number, _ in every_block(planned.plan, True)}
    with thread_pool(1) as pool:
        found = eager_run.compute(
            planned, pool, lambda *block: done.append(block), keep=stage_for(planned),
            only=lambda number: number not in drawn, count_read=read.append,
        )  # fmt: skip
    assert found is None
    assert not read
    assert not done


def test_parts_that_begin_together_begin_at_different_panels(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    planned, begun = work(block_rows=10), []

    def stop(*arguments: Any) -> None:
        begun.append(arguments[3][0])
        raise KeyboardInterrupt

    monkeypatch.setattr(whole_moments, "panel_arrays", stop)
    for part in range(4):
        with pytest.raises(KeyboardInterrupt):
            eager_run.compute(
                planned, calling_thread(), lambda *block: None, keep=stage_for(planned),
                only=lambda number: number % 4 == part,  # noqa: B023
            )  # fmt: skip
    assert begun == [0, 300, 600, 900]


def test_many_dense_cells_are_compared_in_a_coarser_grid(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sparse_rows, "MOST_BOXES", 20)
    random = np.random.default_rng(0)
    x, query = random.uniform(-20, 20, (4000, 2)), random.uniform(-60, 60, (100, 2))
    rows = SparseRows(2, 1.0, 1)
    rows.add(x, x)
    kept = {tuple(row) for row in rows.rows}
    others = np.array([row for row in x if tuple(row) not in kept])
    bounds = rows.squared_distances(query)
    nearest = ((query[:, None] - others) ** 2).sum(axis=2).min(axis=1)
    assert (bounds <= nearest).all()
    assert bounds.max() > 500
    assert len(rows._boxes[0]) <= 20
