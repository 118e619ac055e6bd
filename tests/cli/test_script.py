"""Arrays of jobs: ``dkde script`` writes them, and each job finds out which part is its own."""

import subprocess
from pathlib import Path

import click
import pytest
from dkde_cli.parts import array_job, share

pytestmark = pytest.mark.usefixtures("small_blocks")

SWEEP = ("sweep", "digits", "--bandwidths", "1,2,4")


class TestScript:
    def test_slurm(self, run, begun):
        text = run("script", "slurm", begun, "--parts", 3).stdout
        store = Path(begun).absolute()
        assert text.startswith("#!/bin/sh\n#SBATCH ")
        assert "#SBATCH --array=0-2\n" in text
        assert "#SBATCH --output=dkde-r-%A-%a.out\n" in text
        assert "#SBATCH --error=dkde-r-%A-%a.err\n" in text
        assert "#SBATCH --cpus-per-task=1\n" in text
        assert f"# sbatch --dependency=afterok:JOB --wrap 'dkde finish {store}'\n" in text
        last = text.splitlines()[-1]
        assert last == f'dkde run-part {store} --part "$SLURM_ARRAY_TASK_ID" --parts 3'

    def test_pbs(self, run, begun):
        result = run("script", "pbs", begun, "--parts", 6, "-o", "a.pbs")
        assert (result.stdout, result.stderr) == ("", "qsub a.pbs submits 6 jobs\n")
        text = Path("a.pbs").read_text()
        assert "#PBS -J 0-5\n" in text
        assert text.splitlines()[-1].endswith('--part "$PBS_ARRAY_INDEX" --parts 6')
        one = run("script", "pbs", begun, "--parts", 1).stdout
        assert "-J" not in one
        assert one.splitlines()[-1].endswith("--part 0 --parts 1")

    @pytest.mark.parametrize("scheduler", ["slurm", "pbs"])
    def test_names_with_blanks_are_one_word(self, run, folder, scheduler):
        run(*SWEEP, "--output", "a 'b'.zarr", "--init-only")
        run("script", scheduler, "a 'b'.zarr", "--parts", 2, "-o", "job.sh")
        (folder / "bin").mkdir()
        (folder / "bin" / "dkde").write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
        (folder / "bin" / "dkde").chmod(0o755)
        environment = {
            "PATH": f"{folder / 'bin'}:/usr/bin:/bin", "PBS_O_WORKDIR": str(folder),
            "SLURM_ARRAY_TASK_ID": "1", "PBS_ARRAY_INDEX": "1",
        }  # fmt: skip
        said = subprocess.check_output(["sh", "job.sh"], env=environment, text=True)
        store = str(folder / "a 'b'.zarr")
        assert said.splitlines() == ["run-part", store, "--part", "1", "--parts", "2"]

    def test_refused(self, run, refused, begun):
        line = refused("script", "slurm", begun, "--parts", 7)
        assert "--parts is 7; r.zarr has 6 blocks to share out" in line
        assert "'slurm|pbs'" in refused("script", "lsf", begun, "--parts", 2)
        assert "there is no folder" in refused(
            "script", "pbs", begun, "--parts", 2, "-o", "none/x.sh"
        )
        assert "no result of dkde" in refused("script", "pbs", "none.zarr", "--parts", 2)
        run(*SWEEP, "--output", begun)
        assert "there is nothing to submit" in refused("script", "pbs", begun, "--parts", 2)


SLURM = {"SLURM_ARRAY_TASK_ID": "7", "SLURM_ARRAY_TASK_MIN": "5", "SLURM_ARRAY_TASK_MAX": "8"}
SGE = {"SGE_TASK_ID": "5", "SGE_TASK_FIRST": "1", "SGE_TASK_LAST": "9", "SGE_TASK_STEPSIZE": "2"}


class TestArrayJobs:
    @pytest.mark.parametrize(
        ("environment", "given", "expected"),
        [
            (SLURM | {"SLURM_ARRAY_TASK_COUNT": "4"}, (None, None), (2, 4)),
            (SLURM | {"SLURM_ARRAY_TASK_COUNT": "4"}, (None, 4), (2, 4)),
            # Some of the parts again, by their numbers.
            (SLURM | {"SLURM_ARRAY_TASK_COUNT": "4"}, (None, 100), (7, 100)),
            (SLURM | {"SLURM_ARRAY_TASK_COUNT": "2"}, (None, 100), (7, 100)),
            (
                SLURM
                | {
                    "SLURM_ARRAY_TASK_MAX": "9",
                    "SLURM_ARRAY_TASK_COUNT": "3",
                    "SLURM_ARRAY_TASK_STEP": "2",
                },
                (None, None),
                (1, 3),
            ),
            (SLURM | {"SLURM_ARRAY_TASK_COUNT": "4"}, (0, None), (0, 4)),
            ({"PBS_ARRAY_INDEX": "3"}, (None, 9), (3, 9)),
            ({"PBS_ARRAYID": "3"}, (None, 9), (3, 9)),
            (SGE, (None, None), (2, 5)),
            (SGE, (None, 20), (4, 20)),
            ({"LSB_JOBINDEX": "1", "LSB_JOBINDEX_END": "8"}, (None, None), (0, 8)),
            ({"LSB_JOBINDEX": "2"}, (None, 8), (1, 8)),
            ({}, (3, 4), (3, 4)),
        ],
    )
    def test_parts(self, environment, given, expected):
        assert share(*given, environment) == expected

    @pytest.mark.parametrize(
        ("environment", "given", "words"),
        [
            ({}, (None, None), "--part and --parts must be given: this is no job of an array"),
            ({}, (None, 4), "--part must be given"),
            ({"SGE_TASK_ID": "undefined"}, (None, None), "this is no job of an array"),
            ({"LSB_JOBINDEX": "0"}, (None, None), "this is no job of an array"),
            ({"PBS_ARRAY_INDEX": "3"}, (None, None), "--parts must be given: PBS_ARRAY_INDEX"),
            (SLURM | {"SLURM_ARRAY_TASK_COUNT": "3"}, (None, None), "--parts must be given"),
        ],
    )
    def test_refused(self, environment, given, words):
        with pytest.raises(click.UsageError, match=words):
            share(*given, environment)

    def test_none(self):
        assert array_job({"SLURM_JOB_ID": "3"}) is None
