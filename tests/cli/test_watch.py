"""``dkde status --watch``: a run is looked at until it is complete."""

import io
import json
import sys
from datetime import datetime
from types import SimpleNamespace

import pytest
from dkde_cli import watching
from dkde_cli.watching import watch

import dkde

WATCH = ("status", "r.zarr", "--watch", "--every", "2")


@pytest.fixture
def steps(run, begun, monkeypatch):
    """The run goes on between two looks: a part, nothing, the other part, and the end."""
    parts = [
        lambda: run("run-part", begun, "--part", 0, "--parts", 2),
        lambda: None,
        lambda: run("run-part", begun, "--part", 1, "--parts", 2),
        lambda: run("finish", begun),
    ]
    slept = []

    def sleep(seconds):
        slept.append(seconds)
        parts.pop(0)()

    monkeypatch.setattr(watching, "time", SimpleNamespace(sleep=sleep))
    return slept


def test_a_line_where_something_is_done(run, steps):
    lines = run(*WATCH).stdout.splitlines()
    told = [line.split(" ", 1) for line in lines]
    assert all(datetime.fromisoformat(time).tzinfo is not None for time, _ in told)
    begun, half, all_done, complete = (words for _, words in told)
    assert begun == "state stopped; valid 0 of 6 blocks, 0%"
    assert half.startswith("state stopped; valid 3 of 6 blocks, 50%; speed ")
    assert half.endswith(", when it last ran")
    assert "6 of 6 blocks, 100%" in all_done
    assert complete == "state complete"
    assert steps == [2.0] * 4


def test_a_line_of_json_for_each_look(run, steps):
    looks = [json.loads(line) for line in run(*WATCH, "--json").stdout.splitlines()]
    assert [look["complete"] for look in looks] == [False] * 4 + [True]
    done = [look["stages"]["valid"]["done"] for look in looks[:-1]]
    assert done == [0, 3, 3, 6]
    last = looks[-1]
    assert datetime.fromisoformat(last.pop("time")).tzinfo is not None
    assert last == dkde.status("r.zarr")


def test_what_is_complete_is_looked_at_once(run, begun, monkeypatch):
    run("sweep", "digits", "--bandwidths", "1,2,4", "--output", begun)
    monkeypatch.setattr(watching, "time", None)
    assert run(*WATCH).stdout.endswith("state complete\n")


def test_a_picture_on_a_terminal(run, steps, monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setattr(sys, "stdout", terminal := Terminal())
    watch(
        lambda: dkde.status("r.zarr"), 1.0, lambda found: {"state": f"[b]\x1b {found['complete']}"},
        as_json=False,
    )  # fmt: skip
    text = terminal.getvalue()
    assert text.count("False") == 4
    assert r"[b]\x1b False" in text
    assert text.index("True") > text.rindex("False")


def test_a_run_that_is_moved_while_it_is_looked_at(monkeypatch, capsys):
    gone = dkde.DataSetError("r.zarr: there is nothing")
    looks = [{"complete": False}, gone, {"complete": True}, {"complete": False}, gone, gone]
    monkeypatch.setattr(watching, "time", SimpleNamespace(sleep=lambda _: None))

    def look():
        found = looks.pop(0)
        if isinstance(found, Exception):
            raise found
        return found

    watch(look, 1.0, dict, as_json=True)
    assert len(capsys.readouterr().out.splitlines()) == 2
    with pytest.raises(dkde.DataSetError, match="there is nothing"):
        watch(look, 1.0, dict, as_json=True)


def test_what_is_refused(run, begun):
    assert "--every is of use with --watch" in run("status", begun, "--every", 3, status=2).stderr
    line = run("status", begun, "--watch", "--config", status=2).stderr
    assert "--config and --watch exclude each other" in line
    assert "there is no file" in run("status", "x.zarr", "--watch", status=2).stderr
