"""Where workers come from: batch queues, schedulers by TLS, workers that join late."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections import Counter
from contextlib import contextmanager

import dask
import dask.array as da
import numpy as np
import pytest
import xarray as xr
from distributed import get_task_stream
from dkde_cli.values import parse_cluster_options
from numpy.testing import assert_array_equal
from processes import next_error_line, running

import dkde
from dkde.workers.batch_queues import known_queues
from dkde.workers.connecting import n_jobs

# They measure memory or time, or start many processes.
pytestmark = pytest.mark.alone

JOB = {"cores": 1, "memory": "700MB", "interface": "lo"}
DKDE = (sys.executable, "-c", "from dkde_cli.main import main; main()")
ENVIRONMENT = {**os.environ, "PYTHONWARNINGS": "ignore"}


def connect(**keywords):
    with dkde.connect(**keywords):
        pytest.fail("it was not refused")


@pytest.fixture
def queue(tmp_path, monkeypatch):
    """A Slurm that runs each job at once, as a process of this machine."""
    folder = tmp_path / "bin"
    folder.mkdir()
    submit = f"""\
        #!{sys.executable}
        import os, subprocess, sys
        one = {str(folder / "one")!r}
        if os.path.exists(one + "-is-there") or os.path.exists({str(folder / "refuse")!r}):
            sys.exit("sbatch: error: no such account")
        if os.path.exists(one):
            os.rename(one, one + "-is-there")
        with open(sys.argv[1]) as file, open({str(tmp_path / "job.sh")!r}, "w") as copy:
            copy.write(file.read())
        if os.path.exists({str(folder / "hold")!r}):
            print("Submitted batch job 99999999")
            sys.exit()
        log = open({str(tmp_path / "job.log")!r}, "a")
        job = subprocess.Popen(["bash", copy.name], stdout=log, stderr=log, start_new_session=True)
        print("Submitted batch job", job.pid)
        """
    cancel = f"""\
        #!{sys.executable}
        import os, signal, sys
        with open({str(folder / "cancelled")!r}, "a") as file:
            print(sys.argv[1], file=file)
        try:
            os.killpg(int(sys.argv[1]), signal.SIGTERM)
        except ProcessLookupError:
            sys.exit(1)
        """
    for name, text in (("sbatch", submit), ("scancel", cancel)):
        (folder / name).write_text(textwrap.dedent(text))
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONWARNINGS", "ignore")
    monkeypatch.chdir(tmp_path)
    return folder


class TestRefused:
    def test_queues_that_are_known(self):
        assert {"slurm", "pbs", "sge", "lsf", "oar", "htcondor", "moab"} <= set(known_queues())

    def test_no_such_queue(self):
        with pytest.raises(
            dkde.InputError, match=r"'slurp' is not known; give one of htcondor, lsf, .*, slurm"
        ):
            connect(cluster="slurp", jobs=1, cluster_options=JOB)

    def test_no_dask_jobqueue(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "dask_jobqueue", None)
        with pytest.raises(dkde.ClusterError, match=r"pip install 'dkde\[jobqueue\]'"):
            connect(cluster="slurm", jobs=1, cluster_options=JOB)

    def test_no_command(self, monkeypatch, tmp_path):
        monkeypatch.setenv("PATH", str(tmp_path))
        with pytest.raises(dkde.ClusterError, match="slurm: there is no command sbatch here"):
            connect(cluster="slurm", jobs=1, cluster_options=JOB)

    @pytest.mark.parametrize(
        ("given", "words"),
        [
            ({}, "the cores and the memory of a job are not known"),
            ({"cores": 2}, "slurm: the memory of a job .* jobqueue.slurm$"),
        ],
    )
    def test_no_size_of_a_job(self, queue, given, words):
        with pytest.raises(dkde.InputError, match=words):
            connect(cluster="slurm", jobs=1, cluster_options=given)

    @pytest.mark.parametrize(
        ("given", "words"),
        [
            ({"cluster": "slurm"}, "number of jobs of slurm is missing"),
            ({"cluster": "slurm", "minimum": 1}, "number of jobs of slurm is missing"),
            ({"cluster": "slurm", "jobs": 2, "minimum": 1}, "give one of both"),
            ({"cluster": "slurm", "jobs": 2, "maximum": 4}, "give one of both"),
            ({"cluster": "slurm", "jobs": 0}, "at least 1 job"),
            ({"cluster": "slurm", "minimum": 0, "maximum": 3}, "at least 1 job"),
            ({"cluster": "slurm", "minimum": 4, "maximum": 3}, "4 to 3"),
            ({"cluster": "slurm", "jobs": 1, "address": "tcp://a:1"}, "leave out a running"),
            ({"cluster": "slurm", "jobs": 1, "workers": 2}, "and the local options"),
            ({"cluster": "slurm", "jobs": 1, "memory_limit": "1GB"}, "a cluster option"),
            ({"jobs": 1}, "need the cluster"),
            ({"cluster_options": JOB}, "need the cluster"),
        ],
    )
    def test_what_does_not_go_together(self, given, words):
        with pytest.raises(dkde.InputError, match=words):
            connect(**given)

    def test_an_option_that_there_is_not(self, queue):
        options = {**JOB, "colour": "red"}
        with pytest.raises(
            dkde.ClusterError, match=r"^slurm: .*unexpected keyword argument 'colour'$"
        ):
            connect(cluster="slurm", jobs=1, cluster_options=options)

    def test_certificates_that_cannot_be_written(self, queue):
        options = {**JOB, "shared_temp_directory": "/nowhere"}
        with pytest.raises(dkde.ClusterError, match="/nowhere: may not be written to"):
            connect(cluster="slurm", jobs=1, cluster_options=options)

    def test_folders_that_scripts_would_take_apart(self, queue, tmp_path):
        for name, error, words in (
            ("two words", dkde.ClusterError, "two words: .*name another folder"),
            ("x\nrm y", dkde.InputError, r"shared_temp_directory is '.*x\\nrm y', with a line end"),
        ):
            (tmp_path / name).mkdir()
            options = {**JOB, "shared_temp_directory": str(tmp_path / name)}
            with pytest.raises(error, match=words):
                connect(cluster="slurm", jobs=1, cluster_options=options)
        options = {**JOB, "local_directory": "a\nb"}
        with pytest.raises(dkde.InputError, match="option local_directory"):
            connect(cluster="slurm", jobs=1, cluster_options=options)

    @pytest.mark.slow
    def test_jobs_that_the_queue_refuses(self, queue):
        (queue / "refuse").touch()
        words = "^slurm refuses the jobs: sbatch: error: no such account$"
        with pytest.raises(dkde.ClusterError, match=words):
            connect(cluster="slurm", jobs=2, cluster_options=JOB)


class TestOptions:
    def test_fixed_and_adaptive(self):
        assert n_jobs("slurm", 3, None, None) == (3, 3)
        assert n_jobs("slurm", None, None, 5) == (1, 5)
        assert n_jobs("slurm", None, 2, 5) == (2, 5)

    @pytest.mark.parametrize("text", ["cores", "=4", "cores=", "a b=4"])
    def test_an_option_that_is_none(self, text):
        with pytest.raises(dkde.InputError, match="is not KEY=VALUE"):
            parse_cluster_options([text])

    def test_a_list_that_is_none(self):
        with pytest.raises(dkde.InputError, match="begins like JSON and cannot be read"):
            parse_cluster_options(["job_script_prologue=[module load python]"])

    @pytest.mark.parametrize("text", ["job_script_prologue=[export KEY=hush", "a b=hush"])
    def test_an_error_keeps_the_value_to_itself(self, text):
        with pytest.raises(dkde.InputError, match=r"--cluster-option '(job_|a b)") as caught:
            parse_cluster_options([text])
        assert "hush" not in str(caught.value)


@pytest.fixture
def certificates(tmp_path):
    """Dask's settings for TLS, with a certificate that signs itself."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl to make a certificate with")
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    subprocess.run(
        [
            "openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1",
            "-subj", "/CN=dkde", "-keyout", key, "-out", certificate,
        ],
        check=True, capture_output=True,
    )  # fmt: skip
    both = {"cert": str(certificate), "key": str(key)}
    tls = {"ca-file": str(certificate), "scheduler": both, "worker": both, "client": both}
    return {"require-encryption": True, "tls": tls}


@pytest.mark.slow
class TestJobs:
    def test_options_reach_the_job(self, queue, tmp_path):
        def blas_threads():  # here, so that it is sent as it is: jobs do not see this module
            from dkde.engine.threads import _libraries, one_blas_thread

            with one_blas_thread():
                return [library.get_num_threads() for library in _libraries()]

        options = {
            **JOB, "cores": 2, "processes": 1, "account": "abc", "queue": "long",
            "walltime": "00:07:00", "job_script_prologue": ["export DKDE_SEEN=yes"],
        }  # fmt: skip
        x = np.random.default_rng(1).standard_normal((3000, 5))
        here = dkde.log_density(x, x + 1, [0.5, 1.0])
        with dkde.connect(cluster="SLURM", jobs=1, cluster_options=options) as client:
            assert client.scheduler.address.startswith("tls://127.0.0.1:")
            assert client.dashboard_link.startswith("http://127.0.0.1:")
            assert list(client.nthreads().values()) == [2]
            assert set(client.run(os.getenv, "DKDE_SEEN").values()) == {"yes"}
            # One thread of BLAS for each of the two of the worker.
            (threads,) = client.run(blas_threads).values()
            assert threads == [1] * len(threads) != []
            assert_array_equal(dkde.log_density(x, x + 1, [0.5, 1.0]), here)
            (keys,) = tmp_path.glob(".dkde-*")
            assert keys.stat().st_mode & 0o777 == 0o700
            assert {path.stat().st_mode & 0o777 for path in keys.iterdir()} == {0o600}
        assert not list(tmp_path.glob(".dkde-*"))
        script = (tmp_path / "job.sh").read_text()
        for line in ("-A abc", "-p long", "-t 00:07:00", "--cpus-per-task=2", "--mem=668M"):
            assert f"#SBATCH {line}\n" in script
        assert len((queue / "cancelled").read_text().split()) == 1

    def test_without_tls(self, queue):
        options = {**JOB, "security": False}
        with dkde.connect(cluster="slurm", jobs=1, cluster_options=options) as client:
            assert client.scheduler.address.startswith("tcp://127.0.0.1:")

    def test_with_the_certificates_of_dasks_configuration(self, queue, tmp_path, certificates):
        with (
            dask.config.set(dict(_flat("distributed.comm", certificates))),
            dkde.connect(cluster="slurm", jobs=1, cluster_options=JOB) as client,
        ):
            assert client.scheduler.address.startswith("tls://127.0.0.1:")
            assert client.submit(sum, [1, 2]).result() == 3
            assert not any(path for folder in tmp_path.glob(".dkde-*") for path in folder.iterdir())
        assert f"--tls-cert {tmp_path}/cert.pem" in (tmp_path / "job.sh").read_text()

    def test_a_plan_over_the_memory_of_a_job(self, queue):
        wide = da.zeros((20_000, 20_000), chunks=-1)
        with (
            dkde.connect(cluster="slurm", jobs=1, cluster_options=JOB),
            pytest.raises(dkde.MemoryLimitError, match="raise the memory limit"),
        ):
            dkde.log_density(wide, wide, 1.0)

    def test_there_are_as_many_jobs_as_there_is_work_for(self, queue, tmp_path):
        rng = np.random.default_rng(2)
        query, train = (rng.standard_normal((rows, 60)) for rows in (8000, 4000))
        here = dkde.score(query, train, bandwidth=1.0, block_rows=1000).log_density
        go = tmp_path / "go"

        def held(rows):
            """Rows that are there only when a second worker is."""
            while not go.exists():
                time.sleep(0.05)
            return rows

        with dkde.connect(cluster="slurm", minimum=1, maximum=3, cluster_options=JOB) as client:
            assert len(client.nthreads()) == 1

            def let_go():
                try:
                    client.wait_for_workers(2, timeout=180)
                    came.append(2)
                finally:
                    go.touch()

            came = []
            waiter = threading.Thread(target=let_go)
            waiter.start()
            lazy = da.from_array(query, chunks=(1000, 60)).map_blocks(
                held, dtype=float, meta=np.ones((0, 60))
            )
            there = dkde.score(lazy, train, bandwidth=1.0, block_rows=1000)
            waiter.join()
        assert came, "there was no second job"
        assert_array_equal(there.log_density, here)
        assert len(set((queue / "cancelled").read_text().split())) > 1

    def test_jobs_that_are_refused_when_others_were_not(self, queue, caplog):
        (queue / "one").touch()
        with dkde.connect(cluster="slurm", jobs=3, cluster_options=JOB) as client:
            end = time.monotonic() + 60
            while not any("refuses" in line for line in caplog.messages):
                assert time.monotonic() < end, caplog.messages
                time.sleep(0.1)
            assert client.submit(sum, [1, 2]).result(timeout=60) == 3
        assert [line for line in caplog.messages if "refuses" in line] == [
            "slurm refuses some of the jobs, the others go on: sbatch: error: no such account"
        ]

    def test_ctrl_c_while_it_waits(self, queue, tmp_path):
        (queue / "hold").touch()
        options = [f"--cluster-option={key}={value}" for key, value in JOB.items()]
        command = ("sweep", "digits", "--no-plot", "--cluster", "slurm", "--jobs", "2", *options)
        with running([*DKDE, *command], stderr=subprocess.PIPE) as process:
            line = next_error_line(process)
            assert line.startswith("Waiting for the queue: no worker yet of job 99999999, "), line
            process.send_signal(signal.SIGINT)
            assert process.communicate(timeout=60)[1] == "Interrupted\n"
            assert process.returncode == 130
        assert (queue / "cancelled").read_text().split() == ["99999999"] * 2
        assert not list(tmp_path.glob(".dkde-*"))


def _flat(name, settings):
    for key, value in settings.items():
        if isinstance(value, dict):
            yield from _flat(f"{name}.{key}", value)
        else:
            yield f"{name}.{key}", value


# ---- schedulers ----


@contextmanager
def started(folder, kind, *arguments, **environment):
    """A scheduler or a worker, a process of this machine; of a worker, one that is registered."""
    log = folder / f"{kind}.log"
    before = log.read_text().count("Registered to:") if log.exists() else 0
    with log.open("ab") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", f"distributed.cli.dask_{kind}", *map(str, arguments)],
            env={**ENVIRONMENT, **environment}, cwd=folder, stdout=out, stderr=out,
        )  # fmt: skip
    try:
        if kind == "worker":
            wait_for_lines(log, before + 1)
        yield process
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait_for_lines(log, count, seconds=120):
    end = time.monotonic() + seconds
    while log.read_text().count("Registered to:") < count:
        assert time.monotonic() < end, log.read_text()
        time.sleep(0.1)


def address_in(file, seconds=60):
    end = time.monotonic() + seconds
    while True:
        try:
            return json.loads(file.read_text())["address"]
        except (OSError, ValueError):
            assert time.monotonic() < end, "the scheduler did not start"
            time.sleep(0.1)


WORKER = (
    "--nworkers", 1, "--nthreads", 1, "--dashboard-address", "127.0.0.1:0", "--host", "127.0.0.1",
)  # fmt: skip


@pytest.mark.slow
class TestSchedulers:
    @pytest.fixture
    def configured(self, certificates, tmp_path):
        """A folder of configuration that has them."""
        folder = tmp_path / "config"
        folder.mkdir()
        text = json.dumps({"distributed": {"comm": certificates}})  # which is YAML
        (folder / "dask.yaml").write_text(text)
        return {"DASK_CONFIG": str(folder)}

    def test_tls_and_the_address_of_the_environment(self, configured, tmp_path):
        """``dkde`` is told nothing: Dask's own settings say where and how."""
        file = tmp_path / "s.json"
        scheduler = (
            "--scheduler-file", file, "--host", "tls://127.0.0.1", "--port", 0,
            "--dashboard-address", "127.0.0.1:0",
        )  # fmt: skip
        arguments = ["sweep", "digits", "--bandwidths", "1,2,4", "--json", "--no-plot"]

        def swept(**environment):
            said = subprocess.run(
                [*DKDE, *arguments],
                env={**ENVIRONMENT, **environment}, cwd=tmp_path, capture_output=True, text=True,
                timeout=120,
            )  # fmt: skip
            return said

        with started(tmp_path, "scheduler", *scheduler, **configured):
            address = address_in(file)
            assert address.startswith("tls://127.0.0.1:")
            with started(tmp_path, "worker", address, *WORKER, **configured):
                there = swept(DASK_SCHEDULER_ADDRESS=address, **configured)
                assert there.returncode == 0, there.stderr
                assert re.match(r"Workers: 1, threads: 1(, dashboard: .*)?\n", there.stderr)
                # Without the certificate nobody is let in.
                refused = swept(DASK_SCHEDULER_ADDRESS=address)
                assert refused.returncode == 2
                (line,) = refused.stderr.splitlines()
                assert line.startswith(f"Error: no Dask scheduler answers at {address} (")
        here = json.loads(swept().stdout)
        assert json.loads(there.stdout) | {"seconds": 0} == here | {"seconds": 0}

    def test_workers_that_join_late_do_blocks(self, tmp_path, monkeypatch):
        monkeypatch.setattr("dkde.engine.batches._MOST", 1)  # all blocks would be a few tasks
        rng = np.random.default_rng(4)
        for name, rows in (("query", 6000), ("train", 16_000)):
            np.save(tmp_path / f"{name}.npy", rng.standard_normal((rows, 40)))
        sides = {name: str(tmp_path / f"{name}.npy") for name in ("query", "train")}
        options = {"bandwidth": [0.5, 1.0], "block_rows": 100, "panel_rows": 4000}
        expected = dkde.score(**sides, **options).log_density
        file = tmp_path / "s.json"
        scheduler = (
            "--scheduler-file", file, "--host", "127.0.0.1", "--port", 0,
            "--dashboard-address", "127.0.0.1:0",
        )  # fmt: skip
        with started(tmp_path, "scheduler", *scheduler):
            address = address_in(file)
            with (
                started(tmp_path, "worker", address, *WORKER),
                dkde.connect(address) as client,
                get_task_stream(client) as stream,
            ):
                (first,) = client.nthreads()
                late = []

                def join(done, total):
                    if not late:
                        late.append(started(tmp_path, "worker", address, *WORKER))
                        late[0].__enter__()
                        client.wait_for_workers(2, timeout=60)

                try:
                    result = dkde.score(
                        **sides, **options, progress=join, output=tmp_path / "r.zarr"
                    )
                finally:
                    for worker in late:
                        worker.__exit__(None, None, None)
        assert_array_equal(result.log_density, expected)
        blocks = Counter(task["worker"] for task in stream.data if "blocks" in task["key"])
        assert sum(blocks.values()) >= 240
        assert blocks[first] > 40, blocks
        assert sum(blocks.values()) - blocks[first] > 40, blocks
        assert xr.open_zarr(tmp_path / "r.zarr").attrs["complete"] == 1
