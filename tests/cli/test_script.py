"""Arrays of jobs: ``dkde script`` writes them, and each job says which part is its own."""

import subprocess
from pathlib import Path

import pytest

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

    def test_a_name_of_two_lines_is_refused(self, run, folder, refused):
        run(*SWEEP, "--output", "a\ntouch b.zarr", "--init-only")
        line = refused("script", "slurm", "a\ntouch b.zarr", "--parts", 2)
        assert "touch b.zarr: has a line end" in line

    @pytest.mark.slow
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


def test_a_script_trusts_sources_only_if_asked(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run("score", "digits", "--query", "test[:9]", "--bandwidth", "2", "--output", "r.zarr",
        "--init-only")  # fmt: skip
    for words, times in ((), 0), (("--trust-sources",), 2):
        text = run("script", "slurm", "r.zarr", "--parts", "1", *words).stdout
        assert text.count(" --trust-sources") == times
