"""Blocks in a store: there whole or not at all, and read as what was written."""

import numpy as np
import pytest
from zarr.storage import LocalStore

from dkde.errors import DataSetError
from dkde.runs.stages import PLAN, Stage, StageShape
from dkde.stores.store import Records

SHAPE = StageShape(n_density_rows=8, n_partial_rows=9, rows=23, block_rows=5, n_panels=4)


@pytest.fixture
def records(tmp_path):
    records = Records(LocalStore(tmp_path / "r.zarr"), "r.zarr")
    records.put(PLAN, b"{}")
    return records


@pytest.fixture
def stage(records):
    return Stage(records, "score", SHAPE)


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
    for again in (stage, Stage.found(records, "score")):
        assert again.shape == SHAPE
        assert again.done() == {(0, 2), (4, 1)}
        np.testing.assert_array_equal(again.read(0, 2), first)
        np.testing.assert_array_equal(again.read(4, 1), last)


@pytest.mark.parametrize("fill", [None, np.nan, -np.inf, 0.0])
def test_rows_take_the_place_of_their_blocks(records, stage, fill):
    for p in range(4):
        stage.write(4, p, log_sums(3, p))
    values = log_sums(3)[:8] if fill is None else np.full((8, 3), fill)
    stage.write_rows(4, values)
    assert stage.done_rows() == {4}
    assert stage.done() == {(4, p) for p in range(4)}
    np.testing.assert_array_equal(stage.read_rows(4), values)
    assert records.keys("run/score/partial/c") == []


def test_a_block_is_written_again_without_harm(stage):
    stage.write(1, 1, log_sums(5))
    stage.write(1, 1, log_sums(5))
    assert stage.done() == {(1, 1)}
    np.testing.assert_array_equal(stage.read(1, 1), log_sums(5))


def test_stages_are_found_by_name(records, stage):
    Stage(records, "refine-1", SHAPE)
    assert Stage.names(records) == ["refine-1", "score"]


def test_a_stage_that_is_cut_otherwise_is_refused(records, stage):
    for other in ((8, 9, 23, 6, 4), (6, 9, 23, 5, 4), (8, 7, 23, 5, 4), (8, 9, 23, 5, 3)):
        with pytest.raises(DataSetError, match="cut into other blocks"):
            Stage(records, "score", StageShape(*other))


@pytest.mark.parametrize("what", ["partial/c/2/0/0", "log_density/c/0/0"])
def test_a_damaged_chunk_is_named(tmp_path, stage, what):
    stage.write(0, 2, log_sums(5))
    if what.startswith("log"):
        stage.write_rows(0, log_sums(5)[:8])

    def read():
        return stage.read_rows(0) if what.startswith("log") else stage.read(0, 2)

    chunk = tmp_path / "r.zarr/run/score" / what
    flip(chunk)
    message = rf"r\.zarr: chunk run/score/{what} is damaged \(.*remove it, and the same run makes"
    with pytest.raises(DataSetError, match=message):
        read()
    chunk.write_bytes(chunk.read_bytes()[:20])
    with pytest.raises(DataSetError, match=message):
        read()
    chunk.unlink()
    # And is not read as NaN.
    with pytest.raises(DataSetError, match="it is missing"):
        read()
    assert stage.done() == set()


def test_what_a_killed_writer_left_is_no_block(tmp_path, stage):
    stage.write(0, 2, log_sums(5))
    folder = tmp_path / "r.zarr/run/score"
    (folder / "partial/c/2/0/1.9f8e.partial").write_bytes(b"half")
    (folder / "log_density/c/0").mkdir(parents=True)
    (folder / "log_density/c/0/0.9f8e.partial").write_bytes(b"half")
    (folder / "failed-0-1.9f8e.partial").write_bytes(b"{")
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


def test_a_store_that_was_removed_is_not_made_anew(records, stage):
    stage.write(0, 0, log_sums(5))
    records.delete_all("")
    for write in (
        lambda: stage.write(0, 1, log_sums(5)),
        lambda: stage.write_rows(0, log_sums(5)[:8]),
    ):
        with pytest.raises(DataSetError, match="was removed while it was written"):
            write()
    assert records.keys("") == []


def test_what_cannot_be_written_is_said(stage, monkeypatch):
    def full(*arguments, **keywords):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("zarr.storage._local._put", full)
    with pytest.raises(DataSetError, match=r"No space left.*what is done is kept, make room"):
        stage.write(0, 0, log_sums(5))
    assert stage.done() == set()


def test_nothing_is_written_into_a_run_that_took_its_place(records):
    records.put(PLAN, b'{"id": "first"}')
    stage = Stage(records, "score", SHAPE, "first")
    stage.write(0, 0, log_sums(5))
    records.put(PLAN, b'{"id": "second"}')
    before = sorted(records.keys(""))
    for write in (
        lambda: stage.write(0, 1, log_sums(5)),
        lambda: stage.write_rows(0, log_sums(5)[:8]),
        lambda: stage.fail(0, 1, OSError()),
    ):
        with pytest.raises(DataSetError, match=r"r\.zarr: was begun anew by another process"):
            write()
    assert sorted(records.keys("")) == before


def test_a_plan_that_is_damaged_is_said(records, stage):
    for content in (b"", b'{"asked": {', b"[]", b"\xff"):
        records.put(PLAN, content)
        with pytest.raises(DataSetError, match=r"plan\.json is damaged; begin the run anew"):
            stage.write(0, 0, log_sums(5))
    assert stage.done() == set()


def test_what_was_done_since_is_not_set_aside(records, stage):
    for block in ((0, 0), (1, 2), (4, 3)):
        stage.fail(*block, OSError("no luck"))
    stage.write(0, 0, log_sums(5))
    stage.write_rows(4, log_sums(3)[:8])
    assert set(stage.failed()) == {(1, 2)}
    stage.retry()
    assert not [key for key in records.keys("run/score") if "failed" in key]


def test_files_that_are_no_blocks(tmp_path, stage):
    stage.write(0, 2, log_sums(5))
    stage.write_rows(1, log_sums(5)[:8])
    folder = tmp_path / "r.zarr/run/score"
    for name in (
        "partial/c/2/0/.nfs0001", "partial/c/2/0/99", "partial/c/9/0/0", "partial/c/x",
        "log_density/c/0/.nfs0001", "log_density/c/0/99", "failed-x-1.json", "failed-1.json",
    ):  # fmt: skip
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"{")
    assert stage.done() == {(0, 2)} | {(1, p) for p in range(4)}
    assert stage.done_rows() == {1}
    assert stage.failed() == {}
    (folder / "failed-3-1.json").write_bytes(b'{"block"')
    with pytest.raises(DataSetError, match=r"failed-3-1\.json is damaged; remove it"):
        stage.failed()


def test_a_stage_whose_arrays_are_damaged(tmp_path, records, stage):
    (tmp_path / "r.zarr/run/score/log_density/zarr.json").write_text("{")
    with pytest.raises(DataSetError, match=r"run/score is damaged .*begin the run anew"):
        Stage.found(records, "score")


def test_credentials_in_errors_are_not_kept(records, stage):
    stage.fail(0, 0, OSError("GET https://me:password@host/a.zarr/c/0?sign=password failed"))
    (record,) = stage.failed().values()
    assert record["error"] == "GET https://host/a.zarr/c/0 failed"


def test_one_panel_is_not_asked_to_be_forgotten(records, monkeypatch):
    stage = Stage(records, "score", StageShape(8, 9, 23, 5, 1))
    deleted = []
    monkeypatch.setattr(Records, "delete", lambda self, key: deleted.append(key))
    stage.write_rows(0, log_sums(5)[:8])
    assert deleted == []
