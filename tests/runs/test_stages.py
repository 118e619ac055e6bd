"""Blocks in a store: there whole or not at all, and read as what was written."""

import json
from contextlib import suppress
from dataclasses import asdict

import numpy as np
import pytest

from dkde.errors import DataSetError
from dkde.runs.commits import Commits
from dkde.runs.stages import Stage, StageShape
from dkde.stores.store import Records, open_store

SHAPE = StageShape(n_density_rows=8, n_partial_rows=9, rows=23, block_rows=5, n_panels=4)


@pytest.fixture
def records(tmp_path):
    records = Records(open_store(tmp_path / "run"), "r.zarr")
    records.make("")
    return records


@pytest.fixture
def begun(records):
    """Make stages of the run, each in a session of its own."""
    made, stages = [], []

    def make(name="score", shape=SHAPE):
        made.append(Commits(records, f"{len(made):012x}", lambda: None))
        stage = Stage.begun(records, name, shape, made[-1])
        stages.append(stage)
        return stage

    yield make
    for stage in stages:
        stage.close()
    for commits in made:
        with suppress(DataSetError):
            commits.close()


@pytest.fixture
def stage(begun):
    return begun()


def files(tmp_path):
    return sorted(path for path in (tmp_path / "run/score").iterdir() if path.suffix == ".npz")


def log_sums(rows, seed=0):
    return np.random.default_rng(seed).normal(size=(9, rows))


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_shape():
    assert SHAPE.n_query_blocks == 5
    assert SHAPE.n_blocks == 20


def test_nothing_is_done_at_first(stage):
    assert stage.done() == set()
    assert stage.done_rows() == set()
    assert stage.failed() == {}


@pytest.mark.parametrize("values", ["normal", "nan", "-inf"])
def test_blocks_are_read_as_they_were_written(records, stage, values):
    first, last = log_sums(5), log_sums(3, seed=1)
    if values != "normal":
        first[:], last[:] = float(values), float(values)
    stage.write(0, 2, first)
    stage.write(4, 1, last)
    stage.flush()
    for again in (stage, Stage.found(records, "score")):
        assert again.shape == SHAPE
        assert again.done() == {(0, 2), (4, 1)}
        np.testing.assert_array_equal(again.read(0, 2), first)
        np.testing.assert_array_equal(again.read(4, 1), last)
        again.close()


def test_a_block_is_read_before_it_is_committed(records, stage):
    stage.write(0, 2, log_sums(5))
    np.testing.assert_array_equal(stage.read(0, 2), log_sums(5))
    assert Stage.found(records, "score").done() == set()


@pytest.mark.parametrize("committed", [False, True])
@pytest.mark.parametrize("fill", [None, np.nan, -np.inf, 0.0])
def test_rows_take_the_place_of_their_blocks(tmp_path, stage, fill, committed):
    for p in range(4):
        stage.write(4, p, log_sums(3, p))
    if committed:
        assert stage.done() == {(4, p) for p in range(4)}
    values = log_sums(3)[:8] if fill is None else np.full((8, 3), fill)
    stage.write_rows(4, values)
    assert stage.done_rows() == {4}
    assert stage.done() == {(4, p) for p in range(4)}
    np.testing.assert_array_equal(stage.read_rows(4), values)
    stage.write_rows(3, log_sums(5)[:8])  # what is merged goes with the next rows
    assert all("-r" in path.name for path in files(tmp_path))


def test_blocks_of_another_session_are_merged_too(tmp_path, begun):
    first, second = begun(), begun()
    for p in range(4):
        (first if p % 2 else second).write(2, p, log_sums(5, p))
    first.flush()
    assert second.done() == {(2, p) for p in range(4)}
    np.testing.assert_array_equal(second.read(2, 1), log_sums(5, 1))
    second.write_rows(2, log_sums(5)[:8])
    second.flush()
    second.write_rows(3, log_sums(5)[:8])
    second.flush()
    assert all("-r" in path.name for path in files(tmp_path))
    assert first.done() == {(q, p) for q in (2, 3) for p in range(4)}


def test_a_block_is_written_again_without_harm(stage):
    stage.write(1, 1, log_sums(5))
    stage.write(1, 1, log_sums(5))
    assert stage.done() == {(1, 1)}
    np.testing.assert_array_equal(stage.read(1, 1), log_sums(5))


def test_stages_are_found_by_name(records, stage, begun):
    begun("refine-1")
    records.make("sessions")
    records.put("plan.json", b"{}")
    assert Stage.names(records) == ["refine-1", "score"]


def test_a_stage_that_is_cut_otherwise_is_refused(stage, begun):
    for other in ((8, 9, 23, 6, 4), (6, 9, 23, 5, 4), (8, 7, 23, 5, 4), (8, 9, 23, 5, 3)):
        with pytest.raises(DataSetError, match="cut into other blocks"):
            begun(shape=StageShape(*other))


def test_damaged_blocks_are_removed_with_a_warning_and_made_anew(tmp_path, stage, begun):
    stage.write(0, 2, log_sums(5))
    stage.write(1, 2, log_sums(5))
    stage.flush()
    stage.write_rows(3, log_sums(5)[:8])
    stage.flush()
    first, second = files(tmp_path)
    flip(first)
    with pytest.warns(UserWarning, match=r"r\.zarr: 2 blocks of the stage score are damaged, and"):
        again = begun()
    assert again.done() == {(3, p) for p in range(4)}
    second.write_bytes(second.read_bytes()[:20])
    with pytest.warns(UserWarning, match="1 blocks of the stage score are damaged"):
        again = begun()
    assert again.done() == set()
    again.write(0, 2, log_sums(5))
    assert again.done() == {(0, 2)}


@pytest.mark.parametrize("what", ["p0-2", "r0"])
def test_a_damaged_block_is_named_and_not_read_as_nan(tmp_path, stage, what):
    stage.write(0, 2, log_sums(5))
    if what == "r0":
        stage.write_rows(0, log_sums(5)[:8])
    stage.flush()

    def read():
        return stage.read_rows(0) if what == "r0" else stage.read(0, 2)

    segment = files(tmp_path)[-1]
    assert what in segment.name
    flip(segment)
    message = rf"r\.zarr: block {what} of score \(.*\) is damaged \(.*the same run makes it anew"
    with pytest.raises(DataSetError, match=message):
        read()
    stage.close()
    segment.write_bytes(segment.read_bytes()[:20])
    with pytest.raises(DataSetError, match=message):
        read()
    segment.unlink()
    with pytest.raises(DataSetError, match="it is missing"):
        read()
    assert (0, 2) not in stage.done() or what == "r0"


def test_what_a_killed_writer_left_is_no_block(tmp_path, stage):
    stage.write(0, 2, log_sums(5))
    folder = tmp_path / "run/score"
    (folder / ".0123456789ab-000001-r1.npz.9f8e.partial").write_bytes(b"half")
    (folder / ".failed-0-1.json.9f8e.partial").write_bytes(b"{")
    assert stage.done() == {(0, 2)}
    assert stage.failed() == {}


def test_what_failed_is_set_aside_and_tried_again(records, stage):
    stage.fail(4, 2, OSError("no\n  luck " + "x" * 1000))
    stage.fail(0, 0, MemoryError())
    found = Stage.found(records, "score").failed()
    assert set(found) == {(4, 2), (0, 0)}
    assert found[4, 2]["rows"] == [20, 23]
    assert found[4, 2]["error"].startswith("no luck xxx")
    assert len(found[4, 2]["error"]) == 500
    assert found[0, 0] == {"block": [0, 0], "rows": [0, 5], "error": "MemoryError"}
    stage.retry()
    assert stage.failed() == {}


def test_a_run_that_was_removed_is_not_made_anew(tmp_path, stage):
    stage.write(0, 0, log_sums(5))
    stage.flush()
    (tmp_path / "run").rename(tmp_path / "dead")
    stage.write(0, 1, log_sums(5))
    for call in (stage.flush, stage.done, lambda: stage.write(0, 2, log_sums(5))):
        with pytest.raises(DataSetError, match=r"r\.zarr: .* could not be read or written"):
            call()
    assert not (tmp_path / "run").exists()


def test_what_cannot_be_written_is_said(records, stage, monkeypatch):
    def full(*arguments, **keywords):
        raise OSError(28, "No space left on device")

    stage.write(0, 0, log_sums(5))
    with monkeypatch.context() as patch:
        patch.setattr("dkde.stores.store.write_synced", full)
        with pytest.raises(DataSetError, match=r"No space left.*what is done is kept, make room"):
            stage.flush()
    with pytest.raises(DataSetError, match="No space left"):
        stage.write(0, 1, log_sums(5))
    assert Stage.found(records, "score").done() == set()


def test_what_was_done_since_is_not_set_aside(records, stage):
    for block in ((0, 0), (1, 2), (4, 3)):
        stage.fail(*block, OSError("no luck"))
    stage.write(0, 0, log_sums(5))
    stage.write_rows(4, log_sums(3)[:8])
    assert set(stage.failed()) == {(1, 2)}
    stage.retry()
    assert not [key for key in records.keys("score") if "failed" in key]


def test_files_that_are_no_blocks(tmp_path, stage):
    stage.write(0, 2, log_sums(5))
    stage.write_rows(1, log_sums(5)[:8])
    folder = tmp_path / "run/score"
    for name in (
        ".nfs0001", "x.npz", "0123456789ab-1-r1.npz", "failed-x-1.json", "failed-1.json",
        "r1.npz", "0123456789ab-000001-r1.npz.partial",
    ):  # fmt: skip
        (folder / name).write_bytes(b"{")
    assert stage.done() == {(0, 2)} | {(1, p) for p in range(4)}
    assert stage.done_rows() == {1}
    assert stage.failed() == {}
    (folder / "failed-3-1.json").write_bytes(b'{"block"')
    assert stage.failed() == {}  # the block is tried again


def test_blocks_beyond_the_shape_are_none_of_its(stage):
    stage.write(5, 0, log_sums(5))
    stage.write(0, 4, log_sums(5))
    stage.write_rows(7, log_sums(5)[:8])
    assert stage.done() == set()
    assert stage.done_rows() == set()


DAMAGED = ["{", "[]", '{"rows": 3}', '{"rows": "x"}', "null"] + [
    json.dumps(asdict(SHAPE) | change) for change in ({"n_panels": -0.5}, {"block_rows": 0})
]


@pytest.mark.parametrize("content", DAMAGED)
def test_a_stage_whose_shape_is_damaged(tmp_path, records, stage, begun, content):
    stage.write(0, 2, log_sums(5))
    stage.flush()
    (tmp_path / "run/score/stage.json").write_text(content)
    with pytest.raises(DataSetError, match=r"its stage score is damaged or missing; start the sa"):
        Stage.found(records, "score")
    again = begun()  # the same run, whose plan says how it is cut
    assert again.done() == {(0, 2)}
    assert Stage.found(records, "score").shape == SHAPE


def test_a_stage_says_how_it_is_cut(tmp_path, stage):
    assert json.loads((tmp_path / "run/score/stage.json").read_text()) == {
        "n_density_rows": 8, "n_partial_rows": 9, "rows": 23, "block_rows": 5, "n_panels": 4,
    }  # fmt: skip


def test_credentials_in_errors_are_not_kept(records, stage):
    stage.fail(0, 0, OSError("GET https://me:password@host/a.zarr/c/0?sign=password failed"))
    (record,) = stage.failed().values()
    assert record["error"] == "GET https://host/a.zarr/c/0 failed"


def test_one_panel_is_not_asked_to_be_forgotten(begun, monkeypatch):
    stage = begun(shape=StageShape(8, 9, 23, 5, 1))
    monkeypatch.setattr(Commits, "forget", lambda *_: pytest.fail("asked"))
    stage.write_rows(0, log_sums(5)[:8])
