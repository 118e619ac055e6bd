"""What is done about damage, dead owners and leftovers."""

import json
import os
import re
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from dkde_cli.main import cli

import dkde
from dkde.runs import sessions
from dkde.runs.place import RunPlace
from dkde.runs.sessions import Ledger
from dkde.runs.store import ResultStore


@pytest.fixture(autouse=True)
def data(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(5)
    np.save("q.npy", rng.normal(size=(40, 2)))
    np.save("t.npy", rng.normal(size=(60, 2)))


def score(**options):
    return dkde.score("q.npy", "t.npy", 1.0, output="r.zarr", block_rows=10, **options)


@pytest.fixture
def expected():
    return dkde.score("q.npy", "t.npy", 1.0, block_rows=10).log_density.values


@pytest.fixture
def half():
    """The folder of a run half of whose blocks are done."""
    with dkde.init_only():
        score()
    dkde.run_part("r.zarr", 0, 2)
    (run,) = (path for path in Path("r.zarr.run").iterdir() if path.is_dir())
    return run


def run(*arguments, status=0):
    result = CliRunner().invoke(cli, arguments)
    assert result.exit_code == status, result.output
    return result.stdout


def test_a_whole_run_needs_no_repair(half):
    assert dkde.repair("r.zarr") == {"lost": [], "repaired": [], "kept": 2}
    assert dkde.status("r.zarr")["stages"]["score"]["done"] == 2


def test_the_record_of_a_call_is_restored_from_its_copy(half, expected):
    mark = Path("r.zarr.run/dkde-run-1.json")
    whole = json.loads(mark.read_bytes())
    mark.write_bytes(b"")
    (said,) = dkde.repair("r.zarr")["repaired"]
    assert "restored from its copy" in said
    assert json.loads(mark.read_bytes()) == whole
    np.testing.assert_array_equal(score().log_density.values, expected)


def test_a_call_that_is_lost_with_its_copy_can_only_be_begun_anew(half, expected):
    for path in ("r.zarr.run/dkde-run-1.json", half / "plan.json"):
        Path(path).write_bytes(b"{")
    for call in (dkde.repair, dkde.unlock, dkde.status, lambda path: score()):
        with pytest.raises(dkde.DataSetError, match=r"is damaged; begin it anew \(restart\)"):
            call("r.zarr")
    np.testing.assert_array_equal(score(restart=True).log_density.values, expected)
    assert sorted(os.listdir()) == ["q.npy", "r.zarr", "t.npy"]


def test_damaged_blocks_are_named_and_made_again(half, expected):
    (segment,) = (half / "score").glob("*.npz")
    segment.write_bytes(segment.read_bytes()[:-40])
    (half / "score" / "failed-3-0.json").write_bytes(b"{")
    (half / "sessions" / f"{'0' * 32}.json").write_bytes(b"?")
    found = json.loads(run("repair", "r.zarr", "--json"))
    assert found["lost"] == ["2 blocks of score were damaged; the same call computes what is lost"]
    assert len(found["repaired"]) == 2
    assert found["kept"] == 0
    assert run("repair", "r.zarr") == ""
    np.testing.assert_array_equal(score().log_density.values, expected)


def test_a_stage_whose_cut_is_damaged_keeps_its_blocks(half, expected):
    (half / "score" / "stage.json").write_bytes(bytes(9))
    found = dkde.repair("r.zarr")
    assert found["kept"] == 2
    assert "stage.json is damaged; the same call makes it anew" in found["repaired"][0]
    np.testing.assert_array_equal(score().log_density.values, expected)


def test_what_cannot_be_repaired():
    for path in ("r.zarr", "q.npy"):
        with pytest.raises(dkde.DataSetError, match="is no result of dkde"):
            dkde.repair(path)
    score()
    with pytest.raises(dkde.DataSetError, match="is complete; dkde verify says"):
        dkde.repair("r.zarr")
    with pytest.raises(dkde.DataSetError, match="no run is under way"):
        dkde.unlock("r.zarr")


def test_the_lock_of_a_dead_owner_is_broken(half, monkeypatch):
    ledger = Ledger(RunPlace("r.zarr").records(half.name))
    ledger.begin()
    who = ledger.mine.who
    for call in (dkde.unlock, dkde.repair, lambda path: score()):
        with pytest.raises(dkde.DataSetError, match=f"is being written by {re.escape(who)}"):
            call("r.zarr")
    ledger.stop_heartbeat()
    monkeypatch.setattr(sessions, "_place", lambda: "elsewhere")
    monkeypatch.setattr(sessions, "STALE", -1.0)  # no heartbeat for a while
    assert run("unlock", "r.zarr").startswith(who)
    assert run("unlock", "r.zarr") == ""


def test_leftovers_are_found_and_removed(half):
    dead = Path("r.zarr.run") / f"dead-{'0' * 32}-abc"
    dead.mkdir()
    (dead / "plan.json").write_bytes(b"{}")
    Path("r.zarr.run/.dkde-run-2.json.0123.partial").write_bytes(b"{")
    for call in ("r.zarr", ".", "r.zarr.run"):
        names = [Path(name).name for name in dkde.clean(call)]
        assert sorted(names) == [".dkde-run-2.json.0123.partial", dead.name]
    assert dead.name in run("clean", ".", "--remove")
    assert run("clean", ".") == ""
    assert dkde.status("r.zarr")["stages"]["score"]["done"] == 2


@pytest.mark.slow
def test_what_an_older_result_left_in_a_bucket_is_found_and_no_file_of_a_user(bucket):
    url = f"{bucket}/r.zarr"
    dkde.score("q.npy", "t.npy", 1.0, output=url, block_rows=10)
    store = ResultStore.at(url).records
    stale = ["old/zarr.json", "old/c/0", "log_density/c/9/9", "run/plan.json", "run/s/x/c/0"]
    mine = ["notes.txt", "mine/a.txt", "other.zarr/zarr.json", "other.zarr/x/c/0", "old2/c/0.txt"]
    for key in (*stale, *mine):
        store.put(key, b"{}")
    assert sorted(dkde.clean(url)) == sorted(f"{url}/{key}" for key in stale)
    dkde.clean(url, remove=True)
    assert {key for key in (*stale, *mine) if store.has(key)} == set(mine)
    assert dkde.verify(url, trust_sources=True)["blocks"] > 0


@pytest.mark.parametrize("name", ["log_density/notes.txt", "log_density/c/mine.txt"])
def test_a_result_with_a_file_of_a_user_is_not_begun_anew(name):
    score()
    Path("r.zarr", name).write_text("mine")
    with pytest.raises(dkde.DataSetError, match=rf"r\.zarr: holds what .* \({re.escape(name)}\), "):
        score(restart=True)
    assert sorted(os.listdir()) == ["q.npy", "r.zarr", "t.npy"]
    assert Path("r.zarr", name).read_text() == "mine"


def test_a_folder_of_a_user_is_no_leftover():
    folder = Path("r.zarr.run") / ("a" * 32)
    folder.mkdir(parents=True)
    (folder / "photo.jpg").write_bytes(b"1")
    with pytest.raises(dkde.DataSetError, match=r"r\.zarr\.run: is there already, and is no run"):
        score()
    assert dkde.clean(".", remove=True) == []
    assert (folder / "photo.jpg").read_bytes() == b"1"
    with pytest.raises(dkde.InputError, match="there is no output or folder"):
        dkde.clean("nothing")


@pytest.mark.slow
def test_an_older_result_is_moved_back(half, expected):
    """As after a kill between the two steps of a replacement."""
    dkde.run_part("r.zarr", 1, 2)
    dkde.finish("r.zarr")
    with dkde.init_only():
        score(restart=True)
    (new,) = (path for path in Path("r.zarr.run").iterdir() if path.is_dir())
    os.rename("r.zarr", f"r.zarr.run/older-{new.name}")
    with dkde.init_only():
        score()
    assert Path("r.zarr/zarr.json").exists()
    np.testing.assert_array_equal(score().log_density.values, expected)
    assert not Path("r.zarr.run").exists()


@pytest.mark.sampled(3)
@pytest.mark.parametrize("root", [b"", b'{"attributes"', bytes(40)])
def test_a_result_whose_root_is_damaged_is_not_replaced(root):
    score()
    Path("r.zarr/zarr.json").write_bytes(root)
    for options in ({}, {"restart": True}):
        with pytest.raises(dkde.DataSetError, match=r"its zarr\.json is damaged, .* move it away"):
            score(**options)
    os.rename("r.zarr", "damaged.zarr")
    score()


def test_a_file_of_another_command_is_not_replaced_by_a_run_that_was_killed(monkeypatch, expected):
    def killed(*_):
        raise KeyboardInterrupt

    call = {"query": "q.npy", "train": "t.npy", "output": "r.csv", "block_rows": 10}
    with monkeypatch.context() as patch:
        patch.setattr("dkde.runs.output_file.appear", killed)
        with pytest.raises(KeyboardInterrupt):
            dkde.score(bandwidth=1.0, **call)
    dkde.score(bandwidth=2.0, **call | {"output": "s.csv"})
    os.rename("s.csv", "r.csv")
    other = Path("r.csv").read_bytes()
    with pytest.raises(dkde.DataSetError, match=r"r\.csv: is there already"):
        dkde.score(bandwidth=1.0, **call)
    assert Path("r.csv").read_bytes() == other
    os.remove("r.csv")
    # Killed after it appeared: it is this run's own.
    with monkeypatch.context() as patch:
        patch.setattr(RunPlace, "finish", killed)
        with pytest.raises(KeyboardInterrupt):
            dkde.score(bandwidth=1.0, **call)
    assert Path("r.csv").exists()
    dkde.score(bandwidth=1.0, **call)
    assert not Path("r.csv.run").exists()
