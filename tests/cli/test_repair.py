"""dkde repair, unlock and clean, as they are typed."""

import json
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


def test_a_damaged_block(run, unfinished):
    content = bytearray(segment().read_bytes())
    content[len(content) // 2] ^= 255
    segment().write_bytes(content)
    found = run("repair", unfinished)
    assert "1 block of score was damaged; the same call computes it anew\n" in found.stdout
    assert "0 whole blocks left" in found.stderr


def test_a_lock_is_shown_without_what_a_terminal_would_obey(run, unfinished, monkeypatch):
    monkeypatch.setattr("dkde.unlock", lambda _: [f"process 1 on {BAD}"])
    assert run("unlock", unfinished).stdout == f"process 1 on {SHOWN}: is taken to have ended\n"


def test_a_lock_that_may_be_alive_says_how_long_to_wait(refused, unfinished):
    path = next(Path("r.zarr.run").rglob("sessions/*.json"))
    session = json.loads(path.read_text())
    elsewhere = {"host": "node-7", "place": "boot/1", "ended": None}
    path.write_text(json.dumps(session | elsewhere))
    line = refused("unlock", unfinished)
    assert line.startswith(f"Error: r.zarr: is being written by process {session['pid']} on node-7")
    assert line.endswith("its lock is passed over a minute after its last heartbeat")


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
