"""Runs whose processes are killed, whose cluster goes away, whose disk is full: for real."""

import json
import os
import random
import resource
import signal
import subprocess
import sys
import textwrap
import threading
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path

import dask
import distributed
import numpy as np
import psutil
import pytest
import xarray as xr
from numpy.testing import assert_array_equal
from processes import tied

import dkde

# They measure memory or time, or start many processes.
pytestmark = pytest.mark.alone

ENVIRONMENT = {**os.environ, "PYTHONWARNINGS": "ignore"}
H = [0.5, 1.0, 2.0]
# A hundred and twenty blocks, of about a fortieth of a second.
PLAN = {"block_rows": 200, "panel_rows": 4000}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Selectors of 6,000 and 16,000 rows."""
    folder = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(11)
    names = {}
    for name, rows in (("query", 6000), ("train", 16_000)):
        np.save(folder / f"{name}.npy", rng.normal(size=(rows, 40)))
        dkde.import_dataset(folder / f"{name}.npy", folder / f"{name}.zarr")
        names[name] = f"{folder}/{name}.zarr::train"
    return names


@pytest.fixture(scope="module")
def expected(data):
    return dkde.score(**data, bandwidth=H, **PLAN).log_density.values


@pytest.fixture
def output(tmp_path):
    return tmp_path / "r.zarr"


def score(data, output, **keywords):
    return dkde.score(**data, bandwidth=H, **PLAN, output=output, **keywords)


def blocks_done(output):
    try:
        stages = dkde.status(output)["stages"]
    except dkde.DkdeError:
        return 0
    return sum(stage["done"] for stage in stages.values())


def wait_for(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.02)


@contextmanager
def child(code, **names):
    """A process, in a group of its own, that runs some code; killed at the end."""
    lines = [f"{name} = {value!r}" for name, value in names.items()]
    command = [sys.executable, "-c", "\n".join([*lines, textwrap.dedent(code)])]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    with group(command, **pipes) as process:
        try:
            yield process
        finally:
            kill_group(process)
            process.stdout.close()


@contextmanager
def group(command, **options):
    """A process in a group of its own, which is killed at the end, and when this process ends."""
    process = subprocess.Popen(tied(command), env=ENVIRONMENT, start_new_session=True, **options)
    try:
        yield process
    finally:
        kill_group(process)


def kill_group(process):
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


# Commits are so frequent that a kill within three seconds of work leaves some of it.
SCORE = """
import dkde
import dkde.runs.commits
dkde.runs.commits.INTERVAL = 0.05
dkde.score(**data, bandwidth=h, **plan, output=output)
print("done")
"""


def scoring(data, output, code=SCORE, **names):
    return child(code, data=data, output=str(output), h=H, plan=PLAN, **names)


def is_running(pid):
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="asks the system to kill it")
def test_processes_end_with_the_tests_that_are_killed():
    code = """
    import sys, time
    sys.path[:0] = folders
    from test_run_faults import child
    with child("import time; time.sleep(600)") as process:
        print(process.pid, flush=True)
        time.sleep(600)
    """
    with child(code, folders=list(map(str, Path(__file__).parents[:2]))) as process:
        pid = int(process.stdout.readline())
        assert is_running(pid)
        process.kill()
        process.wait()
        wait_for(lambda: not is_running(pid))


@pytest.mark.slow
def test_killed_at_random_moments(data, expected, output):
    chance = random.Random(os.getpid())
    waits = [chance.uniform(0.05, 0.5) for _ in range(3)]
    done = 0
    for wait in waits:
        with scoring(data, output) as process:
            before = done
            wait_for(lambda before=before: blocks_done(output) > before)
            time.sleep(wait)
            kill_group(process)
        assert blocks_done(output) >= done
        done = blocks_done(output)
    state = dkde.status(output)
    assert not state["complete"], f"done before the kills at {waits}"
    assert state["running"] == []
    calls = []
    result = score(data, output, progress=lambda *pairs: calls.append(pairs))
    assert len(calls) == 120 - done
    assert_array_equal(result.log_density, expected)
    assert dkde.status(output)["complete"]
    assert len(json.loads(result.attrs["run"])["sessions"]) == 4
    assert dkde.verify(output)["blocks"] == 4


@pytest.mark.slow
def test_a_second_run_is_refused_and_takes_over_after_a_kill(data, expected, output):
    with scoring(data, output) as process:
        wait_for(lambda: blocks_done(output) > 3)
        assert str(process.pid) in dkde.status(output)["running"][0]
        for restart in (False, True):
            with pytest.raises(
                dkde.DataSetError, match=rf"is being written by process {process.pid} on "
            ):
                score(data, output, restart=restart)
        kill_group(process)
        assert dkde.status(output)["running"] == []
        assert_array_equal(score(data, output).log_density, expected)


@pytest.mark.slow
def test_a_killed_process_that_nobody_waited_for_holds_nothing(data, output):
    with scoring(data, output) as process:
        wait_for(lambda: blocks_done(output) > 3)
        os.killpg(process.pid, signal.SIGKILL)
        wait_for(lambda: psutil.Process(process.pid).status() == psutil.STATUS_ZOMBIE)
        assert dkde.status(output)["running"] == []


@pytest.mark.slow
def test_ctrl_c(data, expected, output):
    with scoring(data, output) as process:
        wait_for(lambda: blocks_done(output) > 3)
        os.kill(process.pid, signal.SIGINT)
        words, _ = process.communicate(timeout=20)
    assert "KeyboardInterrupt" in words
    assert "Finishing the blocks at hand; interrupt again to stop now\n" in words
    assert "120 blocks are done and kept" in words
    assert_array_equal(score(data, output).log_density, expected)


@pytest.mark.slow
def test_the_same_part_in_two_processes_at_once(data, expected, output):
    with dkde.init_only():
        score(data, output)
    code = "import dkde\nfor part in parts: dkde.run_part(output, part, 3)\nprint('done')"
    with (
        child(code, output=str(output), parts=[2, 0]) as first,
        child(code, output=str(output), parts=[2, 1, 1]) as second,
    ):
        while first.poll() is None or second.poll() is None:
            dkde.status(output)  # whatever they are at
            time.sleep(0.1)
        for process in (first, second):
            assert process.communicate(timeout=60)[0].strip() == "done"
    result = dkde.finish(output)
    assert_array_equal(result.log_density, expected)


# ---- clusters ----


@pytest.fixture
def cluster(tmp_path):
    """A scheduler and two workers, each a process of this machine, and the scheduler's file."""
    file = tmp_path / "scheduler.json"
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with ExitStack() as running:

        def start(kind, *arguments):
            command = [
                sys.executable, "-m", f"distributed.cli.dask_{kind}", "--scheduler-file", file,
                *arguments, "--dashboard-address", "127.0.0.1:0",
            ]  # fmt: skip
            return running.enter_context(group(command, cwd=tmp_path, **quiet))

        scheduler = start("scheduler", "--host", "127.0.0.1", "--port", "0")
        wait_for(file.exists)
        workers = [
            start("worker", "--host", "127.0.0.1", "--nworkers", "1", "--nthreads", "1")
            for _ in range(2)
        ]
        yield {"file": str(file), "scheduler": scheduler, "workers": workers}


def after(count, action):
    """A progress function that does something once, when so many blocks are done."""
    calls = []

    def progress(done, total):
        calls.append(done)
        if len(calls) == count:
            action()

    return progress


@pytest.mark.slow
def test_one_worker_of_a_local_cluster_is_killed(data, expected, output):
    with dkde.connect(workers=2) as client:
        pids = client.run(os.getpid)
        victim = next(iter(pids.values()))
        result = score(data, output, progress=after(5, lambda: os.kill(victim, signal.SIGKILL)))
    assert_array_equal(result.log_density, expected)


@pytest.mark.slow
def test_the_only_worker_is_killed_with_what_was_sent_to_it(data):
    arrays = {
        name: np.asarray(dkde.open_dataset(value.split("::")[0])["train"].x)
        for name, value in data.items()
    }
    with dkde.connect(workers=1) as client:
        (victim,) = client.run(os.getpid).values()
        result = dkde.score(
            **arrays,
            bandwidth=H,
            **PLAN,
            progress=after(5, lambda: os.kill(victim, signal.SIGKILL)),
        )
    # Of the arrays themselves: the store has an index, by which chunks come in another order.
    undisturbed = dkde.score(**arrays, bandwidth=H, **PLAN)
    assert_array_equal(result.log_density, undisturbed.log_density)


@pytest.mark.slow
def test_a_remote_worker_is_killed(data, expected, output, cluster):
    with dkde.connect(scheduler_file=cluster["file"]) as client:
        client.wait_for_workers(2, timeout=60)
        victim = cluster["workers"][0]
        result = score(
            data, output, progress=after(5, lambda: os.killpg(victim.pid, signal.SIGKILL))
        )
    assert_array_equal(result.log_density, expected)


@pytest.mark.slow
def test_the_connection_is_lost_for_five_seconds(data, expected, output, cluster):
    scheduler = cluster["scheduler"]

    def pause():
        os.kill(scheduler.pid, signal.SIGSTOP)
        threading.Timer(5, os.kill, (scheduler.pid, signal.SIGCONT)).start()

    with dkde.connect(scheduler_file=cluster["file"]) as client:
        client.wait_for_workers(2, timeout=60)
        result = score(data, output, progress=after(5, pause))
    assert_array_equal(result.log_density, expected)


@pytest.mark.slow
def test_all_workers_go_and_the_scheduler_stays(data, output, cluster, monkeypatch):
    monkeypatch.setattr("dkde.workers.absence._PATIENCE", 3.0)

    def kill():
        for worker in cluster["workers"]:
            os.killpg(worker.pid, signal.SIGKILL)

    with dkde.connect(scheduler_file=cluster["file"]) as client:
        client.wait_for_workers(2, timeout=60)
        with pytest.raises(dkde.ClusterError, match="or all its workers are gone; start") as caught:
            score(data, output, progress=after(5, kill))
    assert "of 120 blocks are done and kept" in caught.value.__notes__[0]


@pytest.mark.slow
def test_a_worker_that_goes_bad_costs_no_block(data, expected, output):
    import dask.array as da

    from dkde.engine.pool import worker_of

    rows = np.asarray(dkde.open_dataset(data["query"].split("::")[0])["train"].x)
    bad = output.with_suffix(".bad")

    def at_a_bad_worker(rows):
        if bad.exists() and int(bad.read_text()) == os.getpid():
            raise OSError("its disk is gone")
        return rows

    query = da.from_array(rows, chunks=(200, 40)).map_blocks(
        at_a_bad_worker, dtype=float, meta=np.ones((0, 40))
    )
    seen = []
    with dkde.connect(workers=2) as client, pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "dkde.engine.window.worker_of", lambda error: seen.append(worker_of(error)) or seen[-1]
        )
        pids = client.run(os.getpid)
        victim = next(iter(pids))
        result = dkde.score(
            query, data["train"], H, **PLAN, output=output,
            progress=after(5, lambda: bad.write_text(str(pids[victim]))),
        )  # fmt: skip
    assert_array_equal(result.log_density, expected)
    assert set(seen) == {victim}


REMOTE = """
import time
import dkde
try:
    with dkde.connect(scheduler_file=file) as client:
        client.wait_for_workers(2, timeout=60)
        dkde.score(**data, bandwidth=h, **plan, output=output)
except dkde.ClusterError as error:
    print("ClusterError:", error, *error.__notes__)
"""


@pytest.mark.slow
def test_the_scheduler_is_killed(data, expected, output, cluster):
    with scoring(data, output, REMOTE, file=cluster["file"]) as process:
        wait_for(lambda: blocks_done(output) > 5)
        os.killpg(cluster["scheduler"].pid, signal.SIGKILL)
        words, _ = process.communicate(timeout=75)
    assert "ClusterError: the scheduler at tcp://127.0.0.1:" in words, words
    assert "are gone" in words
    assert "of 120 blocks are done and kept" in words
    done = blocks_done(output)
    assert done > 5
    calls = []
    result = score(data, output, progress=lambda *pairs: calls.append(pairs))
    assert len(calls) == 120 - done
    assert_array_equal(result.log_density, expected)


@pytest.mark.slow
def test_the_client_is_killed_and_the_same_call_goes_on_with_the_cluster(
    data, expected, output, cluster
):
    with scoring(data, output, REMOTE, file=cluster["file"]) as process:
        wait_for(lambda: blocks_done(output) > 5)
        kill_group(process)
    done = blocks_done(output)
    with dkde.connect(scheduler_file=cluster["file"]):
        result = score(data, output)
    assert done > 5
    assert_array_equal(result.log_density, expected)


def note(path):
    with open(path, "a") as file:
        file.write("again\n")


def noted(path):
    return len(path.read_text().splitlines())


def hungry(rows, path):
    """Rows that take more memory than their worker may have, once they are read."""
    distributed.get_worker()  # nowhere else
    note(path)
    much = np.concatenate([rows] + [np.ones((10**6, 40)) for _ in range(6)])
    time.sleep(60)  # until it is found out
    return much[: len(rows)]


@pytest.mark.slow
def test_a_worker_over_its_memory_limit(data, output, tmp_path):
    import dask.array as da

    query, deaths = da.ones((600, 40), chunks=(200, 40)), tmp_path / "deaths"
    greedy = query[400:].map_blocks(hungry, str(deaths), dtype=float, meta=np.ones((0, 40)))
    query = da.concatenate([query[:400], greedy])
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 1}),
        dkde.connect(workers=1, memory_limit="700MB"),
        pytest.raises(dkde.IncompleteError, match=r"1 of 3 blocks failed.*2-0.*400 to 600"),
    ):
        dkde.score(query, data["train"], H, block_rows=200, panel_rows=16_000, output=output)
    assert noted(deaths) == 4  # twice two workers
    (stage,) = dkde.status(output)["stages"].values()
    assert stage["done"] == 2


@pytest.mark.slow
def test_a_worker_over_its_memory_limit_where_nothing_is_kept(data, tmp_path):
    import dask.array as da

    query = da.ones((600, 40), chunks=(200, 40)).map_blocks(
        hungry, str(tmp_path / "deaths"), dtype=float, meta=np.ones((0, 40))
    )
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 1}),
        dkde.connect(workers=1, memory_limit="700MB"),
        pytest.raises(dkde.ClusterError, match=r"each of 2 workers ended .*lack of memory; raise"),
    ):
        dkde.score(query, data["train"], H, block_rows=200, panel_rows=16_000)


def deadly(rows, path):
    """Rows whose worker dies of them."""
    distributed.get_worker()  # nowhere else
    note(path)
    os._exit(1)


@pytest.mark.slow
@pytest.mark.parametrize("kept", [False, True])
def test_a_block_that_kills_its_only_worker_and_what_was_sent_to_it(data, output, kept, tmp_path):
    import dask.array as da

    train = np.asarray(dkde.open_dataset(data["train"].split("::")[0])["train"].x)
    query = da.ones((600, 40), chunks=(200, 40))
    deaths = tmp_path / "deaths"
    dead = query[200:400].map_blocks(deadly, str(deaths), dtype=float, meta=np.ones((0, 40)))
    query = da.concatenate([query[:200], dead, query[400:]])
    error = dkde.IncompleteError if kept else dkde.ClusterError
    words = r"a worker ended 5 times .*lack of memory; raise"
    match = rf"1 of 3 .* rows 200 to 400: {words}" if kept else words
    with dkde.connect(workers=1), pytest.raises(error, match=match):
        dkde.score(
            query, train, H, block_rows=200, panel_rows=16_000, output=output if kept else None
        )
    assert noted(deaths) == 5
    if kept:
        (stage,) = dkde.status(output)["stages"].values()
        assert stage["done"] == 2


# ---- disks ----


@pytest.mark.slow
def test_a_full_disk(data, expected, tmp_path, monkeypatch):
    monkeypatch.setattr("dkde.runs.commits.INTERVAL", 0.02)  # else nothing is committed by then
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", str(folder)], capture_output=True
    )
    if mounted.returncode:
        pytest.skip(f"mounting is not permitted: {mounted.stderr.decode().strip()}")
    try:
        output = folder / "r.zarr"
        with pytest.raises(
            dkde.DataSetError, match=r"could not be .*No space left on device"
        ) as caught:
            score(data, output)
        assert "of 120 blocks are done and kept" in caught.value.__notes__[0]
        done = blocks_done(output)
        assert 0 < done < 120
        assert dkde.status(output)["running"] == []
        subprocess.run(["mount", "-o", "remount,size=4m", str(folder)], check=True)
        calls = []
        result = score(data, output, progress=lambda *pairs: calls.append(pairs))
        assert len(calls) == 120 - done
        assert_array_equal(result.log_density, expected)
        del result
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.slow
def test_files_that_may_not_grow(data, expected, output):
    """The result does not fit; the blocks are kept."""
    code = """
    import resource, signal
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    import dkde
    dkde.log_density([[0.0]], [[0.0]], 1.0)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    try:
        dkde.score(**data, bandwidth=h, **plan, output=output)
    except dkde.DataSetError as error:
        print(error, *error.__notes__)
    """
    assert resource.RLIMIT_FSIZE
    with scoring(data, output, code, limit=20_000) as process:
        words, _ = process.communicate(timeout=60)
    assert "could not be" in words
    assert "File too large" in words
    assert "of 120 blocks are done and kept" in words
    done = blocks_done(output)
    calls = []
    result = score(data, output, progress=lambda *pairs: calls.append(pairs))
    assert len(calls) <= 120 - done + 1  # once more, if it is all done
    assert_array_equal(result.log_density, expected)
    with xr.open_zarr(output) as stored:
        assert_array_equal(stored.log_density, expected)


@pytest.mark.slow
def test_a_store_is_deleted_under_a_run(data, output):
    code = """
    import dkde
    try:
        dkde.score(**data, bandwidth=h, **plan, output=output)
    except dkde.DataSetError as error:
        print(error)
    """
    with scoring(data, output, code) as process:
        wait_for(lambda: blocks_done(output) > 3)
        moved = Path(f"{output}.moved")
        Path(f"{output}.run").rename(moved)
        words, _ = process.communicate(timeout=60)
    assert "was removed while it was written; start the run again" in words
    # Nothing that could pass for a result or a run.
    assert not output.exists()
    assert not list(Path(f"{output}.run").glob("dkde-run-*"))
