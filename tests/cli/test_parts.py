"""A run in parts: ``run-part``, ``finish``, ``status``, ``verify``."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

pytestmark = pytest.mark.usefixtures("small_blocks")

H = ("--bandwidths", "1,2,4")
COMMANDS = {
    "score": ("score", "digits", "--query", "valid", "--bandwidth", "1"),
    "scores": ("score", "digits", "--query", "valid", "--bandwidth", "1,2"),
    "sweep": ("sweep", "digits", *H),
    "sweep without test": ("sweep", "digits", *H, "--no-test"),
    "cv": ("cv", "digits", *H, "--refine", "--folds", "3"),
    "loo": ("cv", "digits", *H, "--folds", "loo", "--pca", "4"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", COMMANDS)
def test_parts_are_the_whole(run, name):
    command = COMMANDS[name]
    table, whole = run(*command), run(*command, "--output", "whole.zarr", "--json")
    run(*command, "--output", "r.zarr", "--init-only")
    for part in (2, 0, 1):
        run("run-part", "r.zarr", "--part", part, "--parts", 3)
    result = run("finish", "r.zarr")
    assert result.stdout == table.stdout
    assert result.stderr.splitlines()[-1].startswith("Done in ")
    again = json.loads(run("finish", "r.zarr", "--json").stdout)
    assert again | {"seconds": 0} == json.loads(whole.stdout) | {"seconds": 0}
    a, b = xr.open_zarr("r.zarr").load(), xr.open_zarr("whole.zarr").load()
    assert a.identical(b.assign_attrs(a.attrs))
    assert run("status", "r.zarr").stdout.splitlines()[0].split() == ["state", "complete"]
    n_again = 4
    assert f", {n_again} blocks computed again and the same to the last bit" in (
        run("verify", "r.zarr").stdout
    )


class TestRunPart:
    @pytest.mark.slow
    def test_says_what_is_done(self, run, begun):
        first = run("run-part", begun, "--part", 1, "--parts", 2)
        assert first.stdout == ""
        assert first.stderr == "Part 1 of 2 is done; 3 of 6 blocks are there\n"
        second = run("run-part", begun, "--part", 0, "--parts", 2)
        assert second.stderr.endswith("6 of 6 blocks are there: run dkde finish r.zarr\n")
        run("finish", begun)
        assert run("run-part", begun, "--part", 0, "--parts", 2).stderr == "r.zarr is complete\n"

    @pytest.mark.parametrize(
        ("environment", "given", "words"),
        [
            (
                {"SLURM_ARRAY_TASK_ID": "4", "SLURM_ARRAY_TASK_COUNT": "8"}, (),
                "--part and --parts must be given; in this array of jobs: "
                "--part $SLURM_ARRAY_TASK_ID --parts $SLURM_ARRAY_TASK_COUNT "
                "(parts are numbered from 0)",
            ),
            (
                {"SLURM_ARRAY_TASK_ID": "4"}, ("--parts", 8),
                "--part must be given; in this array of jobs: --part $SLURM_ARRAY_TASK_ID (",
            ),
            ({"PBS_ARRAY_INDEX": "0"}, (), ": --part $PBS_ARRAY_INDEX --parts N ("),
            ({"PBS_ARRAYID": "0"}, ("--part", 0), ": --parts N ("),
            ({"SGE_TASK_ID": "5"}, (), ": --part $((SGE_TASK_ID - 1)) --parts $SGE_TASK_LAST ("),
            (
                {"LSB_JOBINDEX": "1"}, (),
                ": --part $((LSB_JOBINDEX - 1)) --parts $LSB_JOBINDEX_END (",
            ),
            # In a job of theirs that is in no array.
            ({"SGE_TASK_ID": "undefined"}, (), "must be given, such as --part 0 --parts 8"),
            ({"LSB_JOBINDEX": "0"}, (), "must be given, such as --part 0 --parts 8"),
        ],
    )  # fmt: skip
    def test_no_part_is_guessed_in_an_array(
        self, begun, refused, monkeypatch, environment, given, words
    ):
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        assert words in refused("run-part", begun, *given)

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            ((), "--part and --parts must be given, such as --part 0 --parts 8"),
            (("--part", "1"), "--parts must be given, such as"),
            (("--part", "2", "--parts", "2"), "--part is 2 of 2; parts are numbered from 0"),
            (("--part", "-1", "--parts", "2"), "'--part'"),
        ],
    )
    def test_refused(self, begun, refused, arguments, words):
        assert words in refused("run-part", begun, *arguments)

    @pytest.mark.slow
    def test_blocks_that_fail(self, run, begun, failing):
        failing(60)
        result = run("run-part", begun, "--part", 1, "--parts", 3, status=3)
        error, hint = result.stderr.splitlines()
        assert "1 of 2 blocks failed twice and were set aside; the first is 1-0, query rows 60" in (
            error
        )
        assert error.endswith("no such luck")
        assert hint == "dkde status r.zarr names them; --retry-failed takes them up again"
        # Those of another part are its own affair; they stay set aside until it takes them up.
        run("run-part", begun, "--part", 0, "--parts", 3)
        run("run-part", begun, "--part", 2, "--parts", 3, "--retry-failed")
        assert "1 set aside" in run("status", begun).stdout
        run("run-part", begun, "--part", 1, "--parts", 3, status=3)
        failing(-1)
        run("run-part", begun, "--part", 1, "--parts", 3, status=3)
        run("run-part", begun, "--part", 1, "--parts", 3, "--retry-failed")
        assert "best bandwidth 2" in run("finish", begun).stdout

    def test_interrupted(self, run, begun, stop_after):
        stop_after(2)
        result = run("run-part", begun, "--part", 0, "--parts", 1, status=130)
        *_, line, kept = result.stderr.splitlines()
        assert line == "Interrupted"
        assert kept.startswith("2 of 6 blocks are done and kept in ")
        stop_after(None)
        run("run-part", begun, "--part", 0, "--parts", 1)

    def test_from_another_folder(self, run, npz, monkeypatch):
        arguments = ("sweep", npz, "--bandwidths", "0.3,0.7,2", "--json")
        whole = json.loads(run(*arguments).stdout)
        run(*arguments[:-1], "--output", "r.zarr", "--init-only")
        Path("elsewhere").mkdir()
        monkeypatch.chdir("elsewhere")
        run("run-part", "../r.zarr", "--part", 0, "--parts", 1)
        there = json.loads(run("finish", "../r.zarr", "--json").stdout)
        assert there | {"seconds": 0} == whole | {"seconds": 0}


class TestFinish:
    @pytest.mark.slow
    def test_names_what_is_missing(self, run, begun):
        result = run("finish", begun, status=3)
        assert result.stderr.splitlines()[-1] == "dkde status r.zarr says how far it is"
        run("run-part", begun, "--part", 1, "--parts", 3)
        result = run("finish", begun, status=3)
        assert (
            "4 of 6 blocks are missing, all of part 0, all of part 2; run: for PART in 0 2; do "
            "dkde run-part r.zarr --part $PART --parts 3; done"
        ) in result.stderr
        run("run-part", begun, "--part", 0, "--parts", 3)
        result = run("finish", begun, status=3)
        assert (
            "2 of 6 blocks are missing, all of part 2; run: dkde run-part r.zarr --part 2 --parts 3"
        ) in result.stderr
        assert result.stdout == ""
        # The command that began it goes on as well.
        assert "best bandwidth 2" in run(*COMMANDS["sweep"], "--output", begun).stdout

    def test_blocks_that_were_set_aside(self, run, begun, failing):
        failing(60)
        run("run-part", begun, "--part", 0, "--parts", 2)
        run("run-part", begun, "--part", 1, "--parts", 2, status=3)
        result = run("finish", begun, status=3)
        error, hint = result.stderr.splitlines()
        assert "1 of 6 blocks failed twice and were set aside; the first is 1-0" in error
        assert hint == "dkde status r.zarr names them; --retry-failed takes them up again"
        failing(-1)
        assert "best bandwidth 2" in run("finish", begun, "--retry-failed").stdout


class TestStatus:
    def test_stages_stand_in_the_order_of_the_run(self, run, begun, stop_after):
        import dkde

        stop_after(7)
        run(*COMMANDS["sweep"], "--output", begun, status=130)
        assert list(dkde.status(begun)["stages"]) == ["valid", "test"]

    def test_in_words(self, run, begun):
        run("run-part", begun, "--part", 0, "--parts", 4)
        lines = run("status", begun).stdout.splitlines()
        assert lines[0] == "state       stopped"
        assert lines[1] == "valid       2 of 6 blocks, 33%"
        assert lines[2].startswith("speed       ")
        assert lines[2].endswith("blocks/s, when it last ran")
        assert lines[3].startswith("time spent  ")

    def test_of_one_at_work(self, run, monkeypatch):
        found = {
            "complete": False,
            "stages": {
                "valid": {"blocks": 1000, "done": 999, "failed": []},
                "test": {
                    "blocks": 40,
                    "done": 2,
                    "failed": [
                        {"block": [q, 0], "rows": [10 * q, 10 * q + 10], "error": "no such luck"}
                        for q in range(30)
                    ],
                },
            },
            "running": [f"process {n} on there" for n in range(5)],
            "blocks_per_second": 0.01,
            "seconds_left": 900.0,
            "seconds": 7200.0,
            "replaces": False,
            "sources": {},
        }
        monkeypatch.setattr("dkde.status", lambda _, **options: found)
        lines = run("status", "r.zarr").stdout.splitlines()
        assert lines[:6] == [
            "state       running: process 0 on there; process 1 on there; process 2 on there, "
            "and 2 more",
            "valid       999 of 1000 blocks, 99%",
            "test        2 of 40 blocks, 5%; 30 set aside",
            "speed       36 blocks/h",
            "time left   about 15 min",
            "time spent  2.0 h",
        ]
        assert lines[7:10] == [
            "set aside",
            "stage  block  query rows  error",
            "test   0-0    0 to 10     no such luck",
        ]
        assert lines[-1] == "and 10 more, which --json names"
        assert json.loads(run("status", "r.zarr", "--json").stdout) == found

    def test_of_none(self, run, refused, npz):
        assert "is no result of dkde" in refused("status", npz)
        assert refused("status", "nowhere.zarr").endswith("there is no file or folder of this name")


class TestVerify:
    def test_damage(self, run, refused):
        run(*COMMANDS["score"], "--output", "s.zarr")
        assert run("verify", "s.zarr", "--blocks", 0).stdout.endswith("blocks verified so far\n")
        assert ", 1 block computed again and" in run("verify", "s.zarr", "--blocks", 1).stdout
        chunk = next(path for path in Path("s.zarr/log_density/c").rglob("*") if path.is_file())
        content = bytearray(chunk.read_bytes())
        content[20] ^= 1
        chunk.write_bytes(content)
        line = refused("verify", "s.zarr")
        assert "s.zarr: " in line
        assert "log_density" in line
        assert "with --restart" in line

    @pytest.mark.slow
    def test_blocks_of_elsewhere(self, run, refused):
        import zarr

        run(*COMMANDS["score"], "--output", "s.zarr")
        assert "the same to the last bit" in run("verify", "s.zarr", "--anywhere").stdout
        stored = zarr.open_array("s.zarr/log_density", mode="r+")
        stored[...] = np.nextafter(stored[...], 0)
        line = refused("verify", "s.zarr")
        assert line.endswith("other libraries computed them; allow it with --anywhere")
        text = run("verify", "s.zarr", "--anywhere").stdout
        assert "computed again and within the bounds on errors\n" in text

    def test_blocks_of_a_seed(self, run, refused):
        run(*COMMANDS["score"], "--output", "s.zarr")
        text = run("verify", "s.zarr", "--blocks", 2, "--seed", 5).stdout
        assert "2 blocks computed again and the same to the last bit\n2 of " in text
        assert text.endswith(" blocks verified so far; seed 5\n")
        text = run("verify", "s.zarr", "--blocks", "all").stdout
        number = re.search(r"(\d+) of (\d+) blocks verified so far", text)
        assert number is not None
        assert number[1] == number[2]
        assert "'some' is no number of blocks" in refused("verify", "s.zarr", "--blocks", "some")

    def test_not_complete(self, refused, begun):
        assert "is not complete" in refused("verify", begun)

    def test_of_arrays(self, run):
        import dkde

        rows = np.eye(4)
        dkde.score(rows, rows + 0.5, 1.0, output="s.zarr")
        text = run("verify", "s.zarr").stdout
        assert "no block computed again: the run was begun with arrays in memory" in text
