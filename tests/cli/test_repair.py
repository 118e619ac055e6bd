"""dkde repair, unlock and clean, as they are typed."""

import json
import os
from pathlib import Path

import pytest

BAD = "a\x1b[2Jb"
SHOWN = "a\\x1b[2Jb"


@pytest.fixture
def unfinished(run, npz) -> str:
    """A run in parts, of which one is done."""
    run("score", npz, "--query", "test", "--bandwidth", "1", "--output", "r.zarr", "--init-only")
    run("run-part", "r.zarr", "--part", "0", "--parts", "1")
    return "r.zarr"


def segment() -> Path:
    (found,) = Path("r.zarr.run").rglob("*.npz")
    return found


def test_a_run_that_is_whole(run, unfinished):
    found = run("repair", unfinished)
    assert found.stdout == ""
    assert found.stderr == "r.zarr: 1 whole block left; the command that began the run goes on\n"


def test_a_damaged_block(run, unfinished):
    content = bytearray(segment().read_bytes())
    content[len(content) // 2] ^= 255
    segment().write_bytes(content)
    found = run("repair", unfinished)
    assert "1 block of score was damaged; the same call computes what is lost\n" in found.stdout
    assert "0 whole blocks left" in found.stderr
    assert json.loads(run("repair", unfinished, "--json").stdout)["kept"] == 0


def test_a_lock_is_shown_without_what_a_terminal_would_obey(run, unfinished, monkeypatch):
    monkeypatch.setattr("dkde.unlock", lambda _: [f"process 1 on {BAD}"])
    assert run("unlock", unfinished).stdout == f"process 1 on {SHOWN}: is taken to have ended\n"


def test_no_lock(run, unfinished):
    found = run("unlock", unfinished)
    assert (found.stdout, found.stderr) == ("", "r.zarr is not locked\n")


def test_nothing_to_mend(run, refused, unfinished):
    run("finish", unfinished)
    assert refused("repair", unfinished).startswith("Error: r.zarr: is complete; dkde verify says")
    assert refused("unlock", unfinished) == "Error: r.zarr: no run is under way"
    assert refused("clean", "x.zarr").startswith("Error: x.zarr: there is no output or folder")


def test_what_is_left_over_is_listed_and_removed(run, unfinished):
    assert run("clean", ".").stderr == ".: nothing is left over\n"
    dead = Path("r.zarr.run", f"dead-{'0' * 32}-1")
    dead.mkdir()
    found = run("clean", "r.zarr")
    assert found.stdout == f"{os.path.join('r.zarr.run', dead.name)}\n"
    assert found.stderr == "1 found; --remove removes them\n"
    assert dead.is_dir()
    assert run("clean", ".", "--remove").stderr == "1 removed\n"
    assert not dead.exists()
    assert segment().is_file()


def test_the_lock_of_another_machine_is_broken_at_once(run, unfinished):
    path = next(Path("r.zarr.run").rglob("sessions/*.json"))
    session = json.loads(path.read_text())
    elsewhere = {"host": "node-7", "place": "boot/1", "ended": None}
    path.write_text(json.dumps(session | elsewhere))
    line = run("unlock", unfinished).stdout
    assert line.startswith(f"process {session['pid']} on node-7")
    assert json.loads(path.read_text())["ended"] == "stopped"


def test_a_damaged_store_does_not_stand_in_the_way_of_others(run, refused, unfinished):
    dead = Path("r.zarr.run", f"dead-{'0' * 32}-1")
    dead.mkdir()
    Path("a.zarr").mkdir()
    Path("a.zarr/zarr.json").write_text("[" * 100_000)
    found = run("clean", ".", "--remove")
    assert dead.name in found.stdout
    (line,) = (line for line in found.stderr.splitlines() if line.startswith("Warning: "))
    assert "a.zarr/zarr.json: its metadata are nested too deeply" in line
    assert not dead.exists()
    assert "nested too deeply" in refused("clean", "a.zarr")
