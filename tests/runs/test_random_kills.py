"""Runs killed at random moments, and resumed: nothing is lost, and no bit is another.

A process that has loaded dkde forks one for each attempt, so that an attempt starts at once.
"""

import os
import queue
import random
import signal
import sys
import threading
import time
from contextlib import suppress

import numpy as np
import pytest
import zarr
from numpy.testing import assert_array_equal
from processes import running

import dkde

pytestmark = [
    pytest.mark.alone,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="forks processes"),
]

H = [0.5, 1.0]
PLAN = {"block_rows": 20, "panel_rows": 1000}
# Of a run: the seconds in which its blocks are computed, and those of its publication, about.
WORK, PUBLICATION = 0.8, 0.05

SERVER = """
import os, sys
import dkde, dkde.runs.commits, dkde.runs.run, dkde.estimation.scoring, dkde.runs.publication
dkde.runs.commits.INTERVAL = 0.02
finish = dkde.runs.run.Run.finish
def told(run, result):
    print("publishing", flush=True)
    return finish(run, result)
dkde.runs.run.Run.finish = told
for line in sys.stdin:
    pid = os.fork()
    if pid == 0:
        print("began", os.getpid(), flush=True)
        folder, environment, call = eval(line)
        os.chdir(folder)
        os.environ.update(environment)
        dkde.score(**call)
        print("done", flush=True)
        os._exit(0)
    status = os.waitpid(pid, 0)[1]
    print("ended", status, flush=True)
"""


class Server:
    """The process that makes an attempt at a call, in a child of its own."""

    def __init__(self, process):
        self.process = process
        self.child = 0
        self.lines = queue.SimpleQueue()
        # A pipe that is looked at would not show the lines that are read already, in its buffer.
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        for line in self.process.stdout:
            self.lines.put(line)
        self.lines.put("gone")

    def begin(self, call):
        environment = {name: value for name, value in os.environ.items() if name[:4] == "AWS_"}
        self.process.stdin.write(f"{(os.getcwd(), environment, call)!r}\n")
        self.process.stdin.flush()
        self.child = int(self.line("began").split()[1])

    def line(self, *wanted, seconds=60):
        """The next line that begins with one of some words."""
        end = time.monotonic() + seconds
        while True:
            try:
                line = self.lines.get(timeout=max(0, end - time.monotonic()))
            except queue.Empty:
                pytest.fail(f"there came no {wanted}")
            assert line != "gone", "the process of the attempts is gone"
            if line.split()[0] in wanted:
                return line

    def kill(self):
        """Kill the attempt; return whether it was done before."""
        with suppress(ProcessLookupError):
            os.kill(self.child, signal.SIGKILL)
        return self.line("ended").split()[1] == "0"


@pytest.fixture(scope="module")
def server():
    pipes = {"stdin": -1, "stdout": -1, "bufsize": 1}
    with running([sys.executable, "-W", "ignore", "-c", SERVER], **pipes) as process:
        yield Server(process)


def done_in(output):
    """The number of blocks that are done; of a finished run all."""
    try:
        status = dkde.status(output)
    except dkde.DkdeError:
        return 0
    if status["complete"]:
        return sys.maxsize
    stages = status["stages"]
    return stages["score"]["done"] if stages else 0  # there is none before its first block


def kill_and_resume(server, call, outputs, n_kills, expected):
    """Kill a call again and again, in its work and as it publishes; begin anew when it is done."""
    seed = random.randrange(2**32)
    chance, kills, output = random.Random(seed), {"work": 0, "publishing": 0, "done": 0}, None
    while sum(kills.values()) < n_kills:
        output = output or next(outputs)
        before = done_in(output)
        server.begin(call | {"output": output})
        if sum(kills.values()) % 2:
            server.line("publishing")
            time.sleep(chance.uniform(0, PUBLICATION))
            when = "publishing"
        else:
            time.sleep(chance.uniform(0, WORK))
            when = "work"
        before = max(before, done_in(output))
        when = "done" if server.kill() else when
        kills[when] += 1
        now = done_in(output)
        assert now >= before, f"seed {seed}: {before} blocks were done, and now {now}"
        assert (now == sys.maxsize) or when != "done"
        if now == sys.maxsize:  # what is visible is whole
            assert_array_equal(dkde.score(**call, output=output).log_density, expected)
            assert dkde.verify(output, trust_sources=True)["blocks"] > 0
            output = None
    output = output or next(outputs)
    assert_array_equal(dkde.score(**call, output=output).log_density, expected)
    assert dkde.clean(output) == []
    return kills


N_KILLS = [2, pytest.param(20, marks=pytest.mark.slow)]


@pytest.fixture
def call(tmp_path, monkeypatch):
    """A call of about eighty blocks, of rows in two files."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(5)
    np.save("q.npy", rng.normal(size=(400, 12)))
    np.save("x.npy", rng.normal(size=(4000, 12)))
    return {"query": "q.npy", "train": "x.npy", "bandwidth": H, **PLAN}


@pytest.mark.slow
@pytest.mark.parametrize("n_kills", N_KILLS)
def test_a_repository_as_the_output(server, call, n_kills):
    pytest.importorskip("icechunk")
    expected = dkde.score(**call).log_density
    outputs = (f"r{i}.icechunk" for i in range(n_kills + 1))
    kill_and_resume(server, call, outputs, n_kills, expected)


@pytest.mark.slow
@pytest.mark.parametrize("n_kills", N_KILLS)
def test_a_commit_in_a_repository_that_is_there(server, call, n_kills):
    icechunk = pytest.importorskip("icechunk")
    icechunk.set_logs_filter("error")
    found = icechunk.Repository.create(icechunk.local_filesystem_storage("all.icechunk"))
    first = found.lookup_branch("main")
    expected = dkde.score(**call).log_density

    def outputs():
        for i in range(n_kills + 1):
            found.create_branch(f"b{i}", first)
            yield f"all.icechunk@b{i}"

    kill_and_resume(server, call, outputs(), n_kills, expected)
    for branch in found.list_branches() - {"main"}:  # of each run one commit, or none yet
        assert len(list(found.ancestry(branch=branch))) <= 2


@pytest.mark.slow
@pytest.mark.parametrize("n_kills", N_KILLS)
def test_a_sharded_array_as_the_rows(server, call, n_kills):
    rows = np.load("x.npy")
    zarr.create_array("x.zarr", data=rows, chunks=(100, 12), shards=(1000, 12))
    expected = dkde.score(**call).log_density
    call |= {"train": "x.zarr"}
    kill_and_resume(server, call, (f"r{i}.zarr" for i in range(n_kills + 1)), n_kills, expected)


@pytest.mark.slow
@pytest.mark.parametrize("n_kills", N_KILLS)
def test_a_bucket(server, call, bucket, n_kills):
    expected = dkde.score(**call).log_density
    dkde.import_dataset("x.npy", f"{bucket}/x.zarr", index=False)
    call |= {"train": f"{bucket}/x.zarr::train"}
    outputs = (f"{bucket}/r{i}.zarr" for i in range(n_kills + 1))
    kill_and_resume(server, call, outputs, n_kills, expected)
