"""Commands with an output are runs: they go on, are set up only, and say what is missing."""

import json
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import dkde
from dkde.engine.task import REVISION

pytestmark = pytest.mark.usefixtures("small_blocks")

H = ("--bandwidths", "1,2,4")
COMMANDS = {
    "score": ("score", "digits", "--query", "valid", "--bandwidth", "1,2"),
    "sweep": ("sweep", "digits", *H),
    "cv": ("cv", "digits", *H, "--refine"),
}
FIRST_STAGE = {"score": "score", "sweep": "valid", "cv": "grid"}


def same(store, other):
    """Whether two results hold the same numbers, to the last bit."""
    a, b = xr.open_zarr(store).load(), xr.open_zarr(other).load()
    return a.identical(b.assign_attrs(a.attrs))


@pytest.mark.parametrize("name", COMMANDS)
class TestEach:
    @pytest.mark.slow
    def test_goes_on_where_it_stopped(self, run, stop_after, name):
        command = COMMANDS[name]
        whole = run(*command, "--output", "whole.zarr").stdout
        stop_after(2)
        result = run(*command, "--output", "s.zarr", status=130)
        assert result.stdout == ""
        line, kept = result.stderr.splitlines()[-2:]
        assert line == "Interrupted"
        n_blocks = 17 if name == "cv" else 6
        assert kept == (
            f"2 of {n_blocks} blocks are done and kept in s.zarr.run; the same command goes on "
            "from there"
        )
        found = json.loads(run("status", "s.zarr", "--json").stdout)
        stage = found["stages"][FIRST_STAGE[name]]
        assert (stage["blocks"], stage["done"], stage["failed"]) == (n_blocks, 2, [])
        assert (found["complete"], found["running"]) == (False, [])
        stop_after(None)
        assert run(*command, "--output", "s.zarr").stdout == whole
        assert same("s.zarr", "whole.zarr")

    @pytest.mark.slow
    def test_what_is_complete_is_not_computed_again(self, run, monkeypatch, name):
        arguments = (*COMMANDS[name], "--output", "s.zarr", "--csv", "s.csv", "--json")
        first, table = run(*arguments), Path("s.csv").read_text()
        Path("s.csv").unlink()
        monkeypatch.setattr("dkde.engine.eager_run.score_share", lambda *_: pytest.fail("computed"))
        again = run(*arguments)
        assert "s.zarr was complete already" in again.stderr
        before, now = json.loads(first.stdout), json.loads(again.stdout)
        assert now.pop("seconds") > 0
        before.pop("seconds")
        assert now == before
        assert Path("s.csv").read_text() == table

    @pytest.mark.sampled(3)
    def test_set_up_only(self, run, name, monkeypatch):
        with monkeypatch.context() as patch:
            patch.setattr("dkde.engine.eager_run.score_share", lambda *_: pytest.fail("computed"))
            result = run(*COMMANDS[name], "--output", "my run.zarr", "--init-only")
        assert result.stdout == ""
        n_blocks = 17 if name == "cv" else 6
        assert result.stderr.splitlines()[-1] == (
            f"{n_blocks} blocks; run dkde run-part 'my run.zarr' --part I --parts N, then "
            "dkde finish 'my run.zarr'"
        )
        assert not list(Path().glob("*.png"))
        # The whole command is a part of its own.
        whole = run(*COMMANDS[name], "--json").stdout
        there = run(*COMMANDS[name], "--output", "my run.zarr", "--json").stdout
        assert json.loads(there) | {"seconds": 0} == json.loads(whole) | {"seconds": 0}

    @pytest.mark.sampled(3)
    def test_blocks_that_fail_are_set_aside(self, run, failing, name):
        command = (*COMMANDS[name], "--output", "s.zarr")
        step = 64 if name == "cv" else 60
        failing(step)
        result = run(*command, status=3)
        assert result.stdout == ""
        error, hint = result.stderr.splitlines()[-2:]
        assert error.startswith("Error: 1 of ")
        assert error.endswith(f"query rows {step} to {2 * step}: no such luck")
        assert hint == "dkde status s.zarr names them; --retry-failed takes them up again"
        text = run("status", "s.zarr").stdout
        assert "; 1 set aside" in text
        stage, block, rows, reason = text.splitlines()[-1].split("  ", 3)
        assert (stage, block.strip()) == (FIRST_STAGE[name], "1-0")
        assert f"{rows}  {reason}".split() == f"{step} to {2 * step} no such luck".split()
        failing(-1)
        run(*command, status=3)
        run(*command, "--retry-failed")
        run(*COMMANDS[name], "--output", "whole.zarr")
        assert same("s.zarr", "whole.zarr")


class TestRefused:
    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            (("--init-only",), "--init-only needs --output"),
            (("--restart",), "--restart needs --output"),
            (("--retry-failed",), "--retry-failed needs --output"),
            (("--anywhere",), "--anywhere needs --output"),
            (("--output", "s.zarr", "--init-only", "--csv", "s.csv"), "leave out --csv"),
            (("--output", "s.zarr", "--init-only", "--json"), "leave out --json"),
            (("--output", "s.zarr", "--init-only", "--plot", "s.png"), "leave out --plot"),
            (("--output", "ftp://there/s.zarr"), "ftp:// is not known"),
        ],
    )
    def test_options(self, refused, arguments, words):
        assert words in refused("sweep", "digits", *H, *arguments)

    @pytest.mark.slow
    def test_another_command(self, run, refused):
        run(*COMMANDS["sweep"], "--output", "s.zarr")
        line = refused(*COMMANDS["score"], "--output", "s.zarr")
        assert "s.zarr: was begun otherwise" in line
        assert "begin it anew with --restart" in line

    def test_another_machine(self, run, refused, stop_after, monkeypatch):
        command = (*COMMANDS["score"], "--output", "s.zarr")
        stop_after(1)
        run(*command, status=130)
        stop_after(None)
        monkeypatch.setattr(
            "dkde.runs.run.circumstances", lambda _: {"processor": "Z80", "engine": REVISION}
        )
        line = refused(*command)
        assert "was begun elsewhere: " in line
        assert 'processor was "' in line
        assert "allow it with --anywhere" in line

    @pytest.mark.slow
    def test_what_is_no_result(self, run, refused):
        run("import", "digits", "d.zarr")
        for restart in ((), ("--restart",)):
            line = refused("sweep", "digits", *H, "--output", "d.zarr", *restart)
            assert "d.zarr: is there already, and is no result of dkde" in line


def test_another_machine_is_allowed(run, stop_after, monkeypatch):
    command = (*COMMANDS["score"], "--output", "s.zarr")
    stop_after(1)
    run(*command, status=130)
    stop_after(None)
    monkeypatch.setattr(
        "dkde.runs.run.circumstances", lambda _: {"processor": "Z80", "engine": REVISION}
    )
    run(*command, "--anywhere")
    assert dkde.status("s.zarr")["complete"]


def test_a_defect_says_what_is_kept(run, monkeypatch):
    def fail(*_, **__):
        raise ValueError("oh")

    monkeypatch.setattr("dkde.runs.run.publish_store", fail)
    result = run(*COMMANDS["score"], "--output", "s.zarr", status=1)
    error, kept = result.stderr.splitlines()[-2:]
    assert error.startswith("Error: ValueError: oh (a defect of dkde")
    assert kept.startswith("6 of 6 blocks are done and kept in s.zarr.run; the same command")


@pytest.mark.slow
def test_scales_of_a_file_are_kept_in_the_store(run):
    np.save("c.npy", np.full(64, 2.0))
    arguments = (*COMMANDS["sweep"], "--covariance", "c.npy")
    run(*arguments, "--output", "s.zarr", "--init-only")
    run("run-part", "s.zarr", "--part", 0, "--parts", 1)
    assert run("finish", "s.zarr").stdout == run(*arguments).stdout
    assert dkde.status("s.zarr")["complete"]
