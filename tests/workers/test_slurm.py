"""A Slurm of one node, started here: the array of jobs, and workers that are jobs."""

import grp
import json
import os
import pwd
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import dask
import numpy as np
import psutil
import pytest
import xarray as xr
from processes import next_error_line, running

import dkde
from dkde.runs.place import RunPlace
from dkde.runs.stages import Stage

pytestmark = [pytest.mark.alone, pytest.mark.slow]

BINARIES = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scancel", "sinfo")
DKDE = str(Path(sys.executable).parent / "dkde")
H = [0.4, 0.7, 1.2]
SWEEP = ("sweep", "a.npz", "--bandwidths", "0.4,0.7,1.2")
SLURM = ("--cluster", "slurm")
OPTIONS = {
    "cores": 1, "memory": "700MB", "interface": "lo", "walltime": "00:05:00",
    "log_directory": "logs",
}  # fmt: skip
WORKER = tuple(
    text for key, value in OPTIONS.items() for text in ("--cluster-option", f"{key}={value}")
)

CONFIG = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket
CredType=cred/munge
SlurmUser=root
SlurmdUser=root
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SwitchType=switch/none
MpiDefault=none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
ReturnToService=2
SlurmdParameters=config_overrides
SchedulerParameters=sched_interval=1
NodeName={host} NodeAddr=127.0.0.1 CPUs=2 RealMemory=4000 State=UNKNOWN
PartitionName=all Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def wait_for(condition, seconds=60, words=lambda: ""):
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, f"it did not come to that\n{words()}"
        time.sleep(0.2)
    return found


def start_munge(folder):
    """An authentication of its own, as the user that its package makes."""
    user = pwd.getpwnam("munge")
    place = folder / "munge"
    place.mkdir()
    (place / "key").write_bytes(os.urandom(128))
    for path, mode in ((place / "key", 0o400), (place, 0o755)):
        os.chown(path, user.pw_uid, user.pw_gid)
        path.chmod(mode)
    arguments = (
        "--foreground", f"--socket={place}/socket", f"--key-file={place}/key",
        f"--log-file={place}/log", f"--pid-file={place}/pid", f"--seed-file={place}/seed",
    )  # fmt: skip
    process = subprocess.Popen(
        [shutil.which("munged"), *arguments],
        user=user.pw_uid, group=user.pw_gid, extra_groups=[], cwd="/",
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    wait_for((place / "socket").exists, 20)
    return process


@pytest.fixture(scope="module")
def slurm():
    """The environment in which its commands work."""
    missing = [name for name in BINARIES if shutil.which(name) is None]
    if missing:
        pytest.skip(f"no {', '.join(missing)} here: apt-get install slurm-wlm munge")
    if os.geteuid() != 0:
        pytest.skip("Slurm's daemons are started as root")
    if "munge" not in {group.gr_name for group in grp.getgrall()}:
        pytest.skip("there is no user munge")
    # Not under pytest's folder: munge wants a path that nobody else may write to.
    folder = (
        Path("/run" if os.access("/run", os.W_OK) else "/var/lib") / f"dkde-slurm-{os.getpid()}"
    )
    folder.mkdir(mode=0o755)
    running = []
    try:
        running.append(start_munge(folder))
        for name in ("state", "spool"):
            (folder / name).mkdir()
        host = socket.gethostname().split(".")[0]
        config = folder / "slurm.conf"
        config.write_text(CONFIG.format(host=host, folder=folder, ports=(free_port(), free_port())))
        environment = {
            **os.environ,
            "SLURM_CONF": str(config),
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYTHONWARNINGS": "ignore",
        }
        for name in ("slurmctld", "slurmd"):
            with (folder / f"{name}.out").open("wb") as out:
                running.append(
                    subprocess.Popen(
                        [shutil.which(name), "-D"],
                        env=environment,
                        stdout=out,
                        stderr=out,
                        start_new_session=True,
                    )
                )

        def idle():
            said = subprocess.run(
                ["sinfo", "-h", "-o", "%T"], env=environment, capture_output=True, text=True
            )
            return said.stdout.strip() == "idle"

        def logs():
            return "\n".join(path.read_text() for path in folder.glob("*.out"))

        wait_for(idle, 60, logs)
        yield environment
    finally:
        for process in reversed(running):
            process.send_signal(signal.SIGTERM)
        for process in reversed(running):
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        # The steps of jobs that were under way are no children of slurmd's.
        for step in psutil.process_iter(["name", "cmdline", "environ"]):
            if (step.info["environ"] or {}).get("SLURM_CONF") == str(folder / "slurm.conf"):
                step.kill()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def command(slurm, data):
    """Run ``dkde`` beside the data; fails the test if it fails."""

    def run(*arguments):
        said = subprocess.run(
            [DKDE, *map(str, arguments)],
            env=slurm, cwd=data, capture_output=True, text=True, timeout=300,
        )  # fmt: skip
        assert said.returncode == 0, said.stderr + told(data)
        return said

    return run


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A folder with ``a.npz``, whose validation rows make five blocks."""
    folder = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(3)
    sizes = {"train": 12_000, "valid": 12_000, "test": 500}
    splits = {name: (0.6 * rng.normal(size=(n, 100))).astype("f4") for name, n in sizes.items()}
    np.savez(folder / "a.npz", **splits)
    return folder


@pytest.fixture(scope="module")
def expected(data):
    """The sweep, in threads of this process."""
    return dkde.sweep(
        train="train", valid="valid", test="test", source=data / "a.npz", bandwidths=H
    )


def told(folder):
    """What jobs printed."""
    files = [path for end in ("*.out", "*.err", "logs/*") for path in folder.glob(end)]
    return "".join(f"\n{path.name}:\n{path.read_text()}" for path in sorted(files))


def called(slurm, folder, *command):
    return subprocess.check_output(command, env=slurm, cwd=folder, text=True, timeout=60).strip()


def queued(slurm):
    """The states of all jobs that wait or run."""
    return called(slurm, "/", "squeue", "-h", "-r", "-o", "%T").split()


def assert_same(store, expected):
    result = xr.open_zarr(store).load()
    assert result.attrs["complete"] == 1
    assert set(result.variables) == set(expected.variables)
    for name in expected.variables:
        np.testing.assert_array_equal(result[name], expected[name])
    return result


def workers_of(result):
    """By how many sessions the blocks of a run were done, and in which parts."""
    return [session["part"] for session in json.loads(result.attrs["run"])["sessions"]]


def test_an_array_of_jobs_and_one_that_finishes(slurm, command, data, expected):
    command(*SWEEP, "--output", "array.zarr", "--init-only")
    command("script", "slurm", "array.zarr", "--parts", 4, "-o", "job.sh")
    script = (data / "job.sh").read_text()
    job = called(slurm, data, "sbatch", "--parsable", "job.sh")
    # The line that the script has for this.
    (line,) = [line for line in script.splitlines() if "afterok" in line]
    last = called(slurm, data, *shlex.split(line.lstrip("# ").replace(":JOB", f":{job}")))
    assert last.startswith("Submitted batch job ")
    wait_for(lambda: not queued(slurm), 240, lambda: told(data))
    result = assert_same(data / "array.zarr", expected)
    assert sorted(workers_of(result), key=str) == [
        *(f"{part} of 4" for part in range(4)), None, "begin",
    ]  # fmt: skip
    assert "best bandwidth 0.7" in (data / f"slurm-{last.split()[-1]}.out").read_text()
    assert " is done; " in (data / f"dkde-array-{job}-3.err").read_text()


def test_a_part_that_fails_holds_up_its_own_job_alone(slurm, command, data, expected):
    """One block is set aside: of four jobs one fails, and what waits for another part goes on."""
    command(*SWEEP, "--output", "aside.zarr", "--init-only")
    command("run-part", "aside.zarr", "--part", 3, "--parts", 4)
    place = RunPlace(data / "aside.zarr")
    stage = Stage.found(place.records(place.look().id), "valid")
    stage.fail(1, 0, OSError("no such luck"))
    command("script", "slurm", "aside.zarr", "--parts", 4, "-o", "aside.sh")
    ends = {}
    for part in (0, 1):
        number = called(slurm, data, "sbatch", "--parsable", f"--array={part}", "aside.sh")
        after = ("sbatch", "--parsable", f"--dependency=afterok:{number}", "--wrap", "true")
        ends[part] = called(slurm, data, *after)
    wait_for(lambda: state(slurm, ends[0]) == "COMPLETED", 120, lambda: told(data))
    wait_for(lambda: "DependencyNever" in state(slurm, ends[1]), 120, lambda: told(data))
    called(slurm, data, "scancel", ends[1])
    command("run-part", "aside.zarr", "--part", 1, "--parts", 4, "--retry-failed")
    command("run-part", "aside.zarr", "--part", 2, "--parts", 4)
    command("finish", "aside.zarr")
    assert_same(data / "aside.zarr", expected)


def state(slurm, job):
    """How a job is, or, of one that waits for ever, why."""
    words = called(slurm, "/", "scontrol", "--oneliner", "show", "job", job)
    fields = dict(word.split("=", 1) for word in words.split() if "=" in word)
    return fields["Reason"] if fields["JobState"] == "PENDING" else fields["JobState"]


def test_workers_that_are_jobs(slurm, command, data, expected):
    said = command(*SWEEP, "--output", "jobs.zarr", "--cluster", "slurm", "--jobs", 2, *WORKER)
    assert_same(data / "jobs.zarr", expected)
    assert "Workers: " in said.stderr
    wait_for(lambda: not queued(slurm), 60)
    assert not list(data.glob(".dkde-*")), "certificates are left"
    logs = [path.read_text() for path in (data / "logs").glob("*.err")]
    assert any("Registered to:" in log and "tls://127.0.0.1" in log for log in logs), logs


def test_ctrl_c_in_the_queue_cancels_the_jobs(slurm, data):
    called(slurm, data, "sbatch", "--ntasks=2", "--wrap", "sleep 600")
    wait_for(lambda: queued(slurm) == ["RUNNING"])
    command = [DKDE, *SWEEP, "--cluster", "SLURM", "--minimum", "1", "--maximum", "2", *WORKER]
    try:
        with running(command, env=slurm, cwd=data, stderr=subprocess.PIPE) as process:
            wait_for(lambda: "PENDING" in queued(slurm))
            line = next_error_line(process)
            assert line.startswith("Waiting for the queue: no worker yet of job "), line
            process.send_signal(signal.SIGINT)
            rest = process.communicate(timeout=60)[1]
            assert process.returncode == 130, rest
            assert rest.splitlines() == ["Interrupted"]
            wait_for(lambda: queued(slurm) == ["RUNNING"])
    finally:
        called(slurm, data, "scancel", "--user=root")
        wait_for(lambda: not queued(slurm))


def test_a_job_that_is_cancelled_is_submitted_again(slurm, command, data, expected):
    environment = {name: slurm[name] for name in ("SLURM_CONF", "PATH")}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        patch.chdir(data)
        with (
            dask.config.set({"distributed.deploy.lost-worker-timeout": "1s"}),
            dkde.connect(cluster="slurm", jobs=1, cluster_options=OPTIONS) as client,
        ):
            (job,) = called(slurm, "/", "squeue", "-h", "-o", "%i").split()
            cancelled = []

            def cancel(done, total):
                if not cancelled:
                    cancelled.append(called(slurm, "/", "scancel", job))

            result = dkde.sweep(
                train="train", valid="valid", test="test", source=data / "a.npz",
                bandwidths=H, progress=cancel, output=data / "again.zarr",
            )  # fmt: skip
            assert called(slurm, "/", "squeue", "-h", "-t", "R", "-o", "%i") not in ("", job)
            assert client.status == "running"
    np.testing.assert_array_equal(result.log_density, expected.log_density)
    wait_for(lambda: not queued(slurm), 60)


def test_a_queue_that_refuses(slurm, data):
    said = subprocess.run(
        [DKDE, *SWEEP, *SLURM, "--jobs", "2", *WORKER, "--cluster-option", "queue=no"],
        env=slurm, cwd=data, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert said.returncode == 2
    (line,) = said.stderr.splitlines()
    assert line.startswith("Error: slurm refuses the jobs: sbatch: error: invalid partition"), line
