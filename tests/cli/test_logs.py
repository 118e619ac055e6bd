"""How much commands say: -q, -v and --log-json; answers on standard output, all else beside it."""

import json
import logging
import time
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import dkde

SCORE = ("score", "a.npz", "--query", "test", "--train", "train", "--bandwidth", "0.5")


@pytest.fixture
def blocks(monkeypatch):
    """Work in blocks of four query rows."""
    monkeypatch.setattr("dkde.engine.block_plan.MIN_QUERY_ROWS", 4)
    monkeypatch.setattr("dkde.engine.block_plan.LEAVES_QUERY_ROWS", 4)


@pytest.mark.parametrize("before", [False, True])
def test_quiet_leaves_the_answer_alone(run, npz, before):
    plain = run(*SCORE)
    assert plain.stderr.startswith("Done in ")
    quiet = run("-q", *SCORE) if before else run(*SCORE, "-q")
    assert (quiet.stdout, quiet.stderr) == (plain.stdout, "")
    # The next command is not quiet, and nothing of the log is left behind.
    assert "Done in" in run(*SCORE).stderr
    assert logging.getLogger("dkde").handlers == []


def test_warnings_stay_warnings(run, npz, monkeypatch):
    shared = ("score", "a.npz", "--query", "train[:5]", "--train", "train", "--bandwidth", "0.5")
    assert run(*shared, "-q").stderr.startswith("Warning: ")
    monkeypatch.setenv("PYTHONWARNINGS", "ignore")
    with pytest.warns(UserWarning, match="share rows"):
        dkde.score("train[:5]", "train", 0.5, source=npz)


def test_verbose_shows_blocks(run, npz, blocks):
    lines = run(*SCORE, "-v", "--output", "r.zarr").stderr.splitlines()
    shown = [line for line in lines if line.startswith("score: block ")]
    assert len(shown) == 3
    assert sorted(shown)[-1].startswith("score: block 2-0, query rows 8 to 10, ")
    assert "-q and -v exclude each other" in run(*SCORE, "-v", "-q", status=2).stderr


def test_lines_of_json(run, npz, blocks):
    run("sweep", npz, "--bandwidths", "0.1,0.5,9", "--output", "r.zarr", "--log-json", "log.jsonl")
    lines = [json.loads(line) for line in Path("log.jsonl").read_text().splitlines()]
    assert all(datetime.fromisoformat(line["time"]).tzinfo is not None for line in lines)
    found = [line for line in lines if line["event"] == "block"]
    assert {(line["stage"], *line["block"]) for line in found} == {
        *(("valid", q, 0) for q in range(5)),
        *(("test", q, 0) for q in range(3)),
    }
    for line in found:
        start, _ = line["rows"]
        assert start == 4 * line["block"][0]
        assert 0 < line["seconds"] < 60
        assert set(line["spent"]) == {"read", "prepare", "sum", "keep"}
        assert all(seconds >= 0 for seconds in line["spent"].values())
        assert sum(line["spent"].values()) - line["spent"]["keep"] == pytest.approx(
            line["seconds"], abs=1e-5
        )
        assert line["bytes_read"] == 0  # all rows are in memory
        assert line["worker"] is None
    assert "Done in" in lines[-1]["message"]
    # A later command goes on in the file; errors are in it.
    run("sweep", npz, "--bandwidths", "x", "--log-json", "log.jsonl", status=2)
    last = json.loads(Path("log.jsonl").read_text().splitlines()[-1])
    assert last["event"] == "error"
    assert "x" in last["message"]


def test_a_log_that_cannot_be_written(refused, npz):
    assert "--log-json nowhere/log: No such file" in refused(*SCORE, "--log-json", "nowhere/log")
    logging.shutdown()  # as at exit: handlers that were not made are not closed
    before = Path(npz).read_bytes()
    assert "a.npz: is there already, and is no log" in refused(*SCORE, "--log-json", npz)
    assert Path(npz).read_bytes() == before


def test_blocks_in_the_log_of_a_program(caplog):
    rows = np.random.default_rng(0).normal(size=(40, 2))
    with caplog.at_level(logging.DEBUG, "dkde"):
        dkde.score(rows, rows + 1, 0.5, block_rows=10)
    noted = [record.dkde for record in caplog.records if record.name == "dkde.blocks"]
    assert sorted(line["rows"] for line in noted) == [[q, q + 10] for q in range(0, 40, 10)]


@pytest.mark.slow
def test_stages_of_a_block_are_those_in_which_its_time_went(caplog, monkeypatch):
    """A slow source is time of reading, and a slow store time of keeping."""
    rows = np.random.default_rng(0).normal(size=(40, 2))

    def slow(source, start, stop):
        time.sleep(0.2)
        return source.array[start:stop]

    monkeypatch.setattr("dkde.rows.sources.ArraySource.read", slow)
    for options in ({}, {"kernel": "exponential", "nan": "drop"}):
        caplog.clear()
        with caplog.at_level(logging.DEBUG, "dkde"):
            dkde.score(rows, rows + 1, 0.5, **options)
        (line,) = [record.dkde for record in caplog.records if record.name == "dkde.blocks"]
        assert line["spent"]["read"] >= 0.35
        assert line["bytes_read"] == 0  # all rows are in memory


@pytest.mark.slow
def test_products_and_moments_have_their_stages(caplog):
    rng = np.random.default_rng(0)
    for rows, options in (
        (rng.normal(size=(300, 100)), {}),
        (rng.normal(size=(20_000, 2)), {"tol": 1e-6}),
    ):
        caplog.clear()
        with caplog.at_level(logging.DEBUG, "dkde"):
            dkde.score(rows + 0.1, rows, 0.9, **options)
        lines = [record.dkde for record in caplog.records if record.name == "dkde.blocks"]
        assert all(line["spent"]["sum"] > 0 for line in lines)


def test_what_was_complete_says_how_long_it_took(run, npz, monkeypatch):
    np.save("x.npy", np.ones((9, 2)))
    np.save("q.npy", np.ones((4, 2)))
    score = "score", "x.npy", "--query", "q.npy", "--bandwidth", "1", "--output", "r.zarr"
    assert "Read: " in run(*score).stderr
    for again in (run(*score), run("finish", "r.zarr")):
        assert "r.zarr was complete already; it took " in again.stderr
        assert "Done in" not in again.stderr
        assert "Read: " not in again.stderr


def test_the_time_of_this_call_and_of_all_sessions(run, npz, monkeypatch):
    monkeypatch.setattr("dkde.runs.run.total_seconds", lambda _: 120.0)
    lines = run(*SCORE, "--output", "r.zarr").stderr.splitlines()
    assert lines[-1].startswith("Done in ")
    assert lines[-1].endswith("; all sessions together took 2 min")


def test_moments_have_lines_of_their_own(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = np.random.default_rng(0).normal(size=(20_000, 2))
    dkde.import_rows({"train": [rows], "query": [rows[:900] + 0.1]}, "d.zarr", index=False)
    done = run(
        "score", "d.zarr", "--train", "train", "--query", "query", "--bandwidth", "0.9",
        "--tol", "1e-6", "--log-json", "log.jsonl", "-v", "--output", "r.zarr",
    )  # fmt: skip
    assert "\nscore: moments of panel 0, training rows 0 to 20000, " in "\n" + done.stderr
    lines = [json.loads(line) for line in Path("log.jsonl").read_text().splitlines()]
    (moments,) = [line for line in lines if line["event"] == "moments"]
    assert (moments["stage"], moments["panel"], moments["rows"]) == ("score", 0, [0, 20_000])
    assert moments["bytes_read"] == 20_000 * 16
    assert min(moments["spent"][stage] for stage in ("read", "prepare", "keep")) > 0
    seconds = sum(moments["spent"].values()) - moments["spent"]["keep"]
    assert moments["seconds"] == pytest.approx(seconds, abs=1e-5)
    # Together with the blocks these are what the result says.
    noted = json.loads(xr.open_zarr("r.zarr", consolidated=False).attrs["bytes_read"])["score"]
    read = sum(line["bytes_read"] for line in lines if line["event"] in ("block", "moments"))
    assert read == sum(both[0] for both in noted.values())
