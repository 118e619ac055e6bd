"""The command as a process: streams, exit status, signals, time."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import pytest
from processes import running

import dkde as library

DKDE = [sys.executable, "-c", "from dkde_cli.main import main; main()"]
DASK = Path(sys.executable).with_name("dask")
# What a user's terminal would not have: pytest's own settings for Python's warnings.
ENVIRONMENT = {k: v for k, v in os.environ.items() if k not in ("PYTHONWARNINGS", "DASK_LOGGING")}


def dkde(*arguments: str, **options):
    return subprocess.run(
        [*DKDE, *arguments], capture_output=True, text=True, env=ENVIRONMENT, timeout=120, **options
    )


def processor_seconds(code: str) -> float:
    """Of a Python process, the least of three: what else this machine does is not counted."""
    program = f"{code}\nimport time\nprint(time.process_time())"
    return min(
        float(subprocess.check_output([sys.executable, "-c", program], text=True).split()[-1])
        for _ in range(3)
    )


@pytest.mark.slow
def test_help_is_quick():
    help = "from dkde_cli.main import cli; cli(['--help'], standalone_mode=False)"
    assert processor_seconds(help) < 0.3


def test_help_imports_nothing_heavy():
    code = "import sys; import dkde_cli.main; print(*sorted(sys.modules))"
    modules = subprocess.check_output([sys.executable, "-c", code], text=True).split()
    heavy = {"dkde.estimation", "numpy", "dask", "xarray", "zarr", "numba", "rich", "matplotlib"}
    assert not heavy & set(modules)


def test_version():
    done = dkde("--version")
    assert re.fullmatch(r"dkde \d+\.\d+\.\d+\S*\n", done.stdout)


def test_alone_it_says_what_it_can():
    done = dkde()
    assert done.returncode == 0
    assert "Commands:" in done.stdout


def test_data_on_stdout_and_all_else_on_stderr(npz):
    done = dkde("sweep", npz, "--bandwidths", "0.001,0.7", "--json")
    assert done.returncode == 0
    assert json.loads(done.stdout)["best_bandwidth"] == 0.7
    assert [line.split(" ")[0] for line in done.stderr.splitlines()] == ["Warning:", "Done"]


def test_an_error_is_a_line(npz):
    done = dkde("sweep", npz, "--bandwidths", "0")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "Error: --bandwidths: bandwidth 0 must be a positive, finite number\n"


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [("--debug", "sweep"), ("sweep", "--debug")])
def test_debug_shows_where(npz, arguments):
    done = dkde(*arguments, npz, "--bandwidths", "0")
    assert done.returncode == 2
    assert "Traceback" in done.stderr
    assert "InputError: bandwidth 0" in done.stderr


@pytest.mark.slow
def test_a_closed_pipe_is_no_error(npz):
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [*DKDE, "info", npz], stdout=writer, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT
    )
    os.close(writer)
    assert done.stderr == ""
    assert done.returncode in (0, 141)


@pytest.mark.sampled(3)
@pytest.mark.parametrize("arguments", [("info",), ("--help",), ("sweep", "--help")])
def test_a_full_disk_is_no_defect(npz, arguments):
    # A standard output that cannot be written to; of a full one Python says the same, later.
    with Path(npz).open("rb") as read_only:
        done = subprocess.run(
            [*DKDE, *arguments, *([npz] if arguments == ("info",) else [])],
            stdout=read_only, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT,
        )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.startswith("Error: ")
    assert len(done.stderr.splitlines()) == 1
    assert "defect" not in done.stderr


@pytest.mark.slow
def test_the_digits_need_no_code_of_scikit_learn():
    code = "import sys, dkde; dkde.describe('digits'); print('sklearn' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "False\n"


@pytest.mark.slow
@pytest.mark.skipif(not DASK.exists(), reason="no dask command beside this Python")
def test_as_a_part_of_dask(npz):
    help = subprocess.run([DASK, "kde", "--help"], capture_output=True, text=True)
    assert "sweep" in help.stdout
    arguments = [DASK, "kde", "sweep", npz, "--bandwidths", "0"]
    done = subprocess.run(arguments, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr == "Error: --bandwidths: bandwidth 0 must be a positive, finite number\n"


@pytest.mark.slow
def test_the_first_look_takes_15_seconds(folder: Path):
    environment = ENVIRONMENT | {"NUMBA_CACHE_DIR": str(folder / "cache")}  # compiles all
    # Processor time: whatever else the machine does meanwhile is not counted.
    process = subprocess.Popen(
        [*DKDE, "sweep", "digits"], env=environment,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    assert usage.ru_utime + usage.ru_stime < 15
    assert (folder / "digits-sweep.png").exists()


def blocks_done(store: str) -> int:
    try:
        stages = library.status(store)["stages"]
    except library.DkdeError:  # not yet begun
        return 0
    return sum(stage["done"] for stage in stages.values())


def wait_for_block(process: subprocess.Popen, n_done: int, seconds: float) -> None:
    """Wait until ``s.zarr`` has more blocks than that."""
    end = time.monotonic() + seconds
    while blocks_done("s.zarr") <= n_done:
        assert process.poll() is None, "it ended before it could be interrupted"
        assert time.monotonic() < end
        time.sleep(0.1)


@pytest.mark.slow
def test_interrupted(folder: Path):
    # Ten blocks of about a second on two threads: some are left after two interruptions.
    arguments = ["sweep", "big.npy", "--train", "train[:10000]", "--valid", "train[10000:]"]
    make = "import numpy as np; np.save('big.npy', np.random.rand(650_000, 20))"
    subprocess.run([sys.executable, "-c", make], check=True)
    arguments += ["--bandwidths", "0.1,0.2,1", "--output", "s.zarr", "--csv", "s.csv"]
    n_blocks = [0]
    for _ in range(2):
        pipes = {"stderr": subprocess.PIPE, "stdout": subprocess.PIPE}
        with running([*DKDE, *arguments], **pipes, env=ENVIRONMENT) as process:
            wait_for_block(process, n_blocks[-1], 120)
            process.send_signal(signal.SIGINT)
            _, stderr = process.communicate(timeout=60)
        assert process.returncode == 130
        interrupted, kept = stderr.splitlines()[-2:]
        assert interrupted == "Interrupted"
        found = re.fullmatch(
            r"(\d+) of \d+ blocks are done and kept in s.zarr.run; the same command goes on "
            "from there",
            kept,
        )
        assert found
        n_blocks.append(int(found[1]))
        status = json.loads(dkde("status", "s.zarr", "--json").stdout)
        assert (status["complete"], status["running"]) == (False, [])
        assert status["stages"]["valid"]["done"] == n_blocks[-1]
    assert n_blocks[0] < n_blocks[1] < n_blocks[2]
    assert sorted(path.name for path in folder.iterdir()) == ["big.npy", "s.zarr.run"]


@pytest.mark.slow
def test_a_cluster_says_where_its_dashboard_is_and_no_more(npz):
    here = json.loads(dkde("sweep", npz, "--bandwidths", "0.3,0.7,2", "--json").stdout)
    done = dkde("sweep", npz, "--bandwidths", "0.3,0.7,2", "--json", "--workers", "2")
    there = json.loads(done.stdout)
    assert there["valid"] == here["valid"]
    workers, end = done.stderr.splitlines()
    dashboard = ", dashboard: http://.*" if find_spec("bokeh") else ""
    assert re.fullmatch(f"Workers: 2, threads: 2{dashboard}", workers)
    assert end.startswith("Done in ")


@pytest.mark.slow
def test_an_unreachable_scheduler_is_found_out_soon(npz):
    start = time.perf_counter()
    # An address of a network that is set aside for documentation: nobody is there.
    done = dkde("sweep", npz, "--bandwidths", "1", "--scheduler", "tcp://192.0.2.1:8786")
    assert time.perf_counter() - start < 15  # 10 s on a machine with nothing else to do
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1


# What is left when Python is taken down says so.
_AT_THE_END = """
import atexit, os, sys
class Last:
    def __del__(self, write=os.write): write(2, b"taken down\\n")
sys.kept = Last()
atexit.register(print, "at exit")
from dkde_cli.main import main
main()
"""


@pytest.mark.slow
def test_a_command_on_a_bucket_ends_before_python_is_taken_down(bucket):
    """A thread of obstore's that comes then aborts the process."""
    for source, last in ((f"{bucket}/*.parquet", []), ("no-such.npy", ["taken down"])):
        done = subprocess.run(
            [sys.executable, "-c", _AT_THE_END, "info", source],
            capture_output=True, text=True, env=dict(os.environ), timeout=120,
        )  # fmt: skip
        lines = done.stderr.splitlines()
        assert done.returncode == 2
        assert done.stdout == "at exit\n"
        assert lines[0].startswith(f"Error: {source}: ")
        assert lines[1:] == last


@pytest.mark.slow
def test_a_command_that_fails_on_a_bucket_never_aborts(bucket):
    for _ in range(10):
        done = subprocess.run(
            [*DKDE, "info", f"{bucket}/*.parquet"],
            capture_output=True, text=True, env=dict(os.environ), timeout=120,
        )  # fmt: skip
        assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)


@pytest.mark.slow
def test_python_without_docstrings_and_assertions(npz):
    """``python -OO`` gives the same help and the same figures."""
    optimised = [sys.executable, "-OO", *DKDE[1:]]
    for words in (
        ("--help",),
        ("sweep", "--help"),
        ("score", npz, "--query", "test", "--bandwidth", "0.7"),
        ("sweep", npz, "--bandwidths", "0.5,0.7,1", "--no-plot"),
    ):
        done = subprocess.run(
            [*optimised, *words], capture_output=True, text=True, env=ENVIRONMENT, timeout=120
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout == dkde(*words).stdout != ""
