"""All of MNIST as a run that is killed, as a whole, again and again: nothing is lost by it."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from processes import tied

import dkde

pytestmark = [pytest.mark.alone, pytest.mark.slow]

ENVIRONMENT = {**os.environ, "PYTHONWARNINGS": "ignore"}
BANDWIDTHS = [0.05, 0.08, 0.1, 0.2, 0.5, 1.0, 1.5, 2.0]
KILLS = 3

# A process that does the run and says of each block when its worker began and ended it, of the
# client when it had it, in seconds since the epoch and in processor seconds of the process.
CHILD = """
import os, sys, time
import dkde
import dkde.runs.commits
from dkde.engine import eager_run as run

dkde.runs.commits.INTERVAL = 0.0  # else a kill costs the blocks of the last second, too

def note(what, *rest):
    line = " ".join(map(str, (what, os.getpid(), time.time(), time.process_time(), *rest)))
    file = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(file, (line + "\\n").encode())
    os.close(file)

score_share = run.score_share

def noted(query, train, task, reference, rows, panel, share):
    note("begin", rows[0], panel[0])
    result = score_share(query, train, task, reference, rows, panel, share)
    note("end", rows[0], panel[0])
    return result

if __name__ == "__main__":
    run.score_share = noted
    note("start")
    with dkde.connect(workers=workers) as client:
        dkde.score(**call, output=output, progress=lambda *pairs: note("kept"))
    note("over")
"""


@dataclass(frozen=True)
class Event:
    """A line of the log."""

    what: str
    pid: int
    time: float
    processor: float
    block: tuple[int, ...]


@dataclass
class Session:
    """A process that does the run, or goes on with it, until it is done or killed."""

    log: Path
    process: subprocess.Popen
    killed: float | None = None

    @classmethod
    def start(cls, folder, call, output, workers):
        log = folder / f"{len(list(folder.glob('*.log')))}.log"
        code = folder / "child.py"
        names = {"call": call, "output": str(output), "workers": workers, "log": str(log)}
        code.write_text("\n".join(f"{k} = {v!r}" for k, v in names.items()) + CHILD)
        return cls(log, subprocess.Popen(tied([sys.executable, code]), env=ENVIRONMENT,
                                         start_new_session=True))  # fmt: skip

    def events(self):
        lines = self.log.read_text().split("\n")[:-1] if self.log.exists() else []
        return [
            Event(what, int(pid), float(at), float(processor), tuple(map(int, block)))
            for what, pid, at, processor, *block in map(str.split, lines)
        ]

    def of(self, what):
        return [event for event in self.events() if event.what == what]

    def kill(self):
        """The client, the scheduler in it, the workers and who watches over them."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.killed = time.time()

    def wait_for(self, n_blocks):
        end = time.monotonic() + 600
        while len(self.of("end")) < n_blocks:
            assert self.process.poll() is None, f"over before block {n_blocks}"
            assert time.monotonic() < end, f"no block {n_blocks}"
            time.sleep(0.002)

    @property
    def seconds(self):
        """From the beginning to the end, or the kill."""
        end = self.events()[-1].time if self.killed is None else self.killed
        return end - self.events()[0].time

    @property
    def start_up(self):
        """Seconds until the first block began."""
        return min(event.time for event in self.of("begin")) - self.events()[0].time

    @property
    def processor_seconds(self):
        """Of all its processes; and how much of them until each began to work on blocks."""
        events = self.events()
        most = {event.pid: event.processor for event in events}
        first = {event.pid: event.processor for event in reversed(events) if event.what != "start"}
        return sum(most.values()), sum(first.values())

    @property
    def processor_seconds_in_blocks(self):
        """Of the blocks that ended."""
        begun = {(event.pid, event.block): event.processor for event in self.of("begin")}
        return sum(event.processor - begun[event.pid, event.block] for event in self.of("end"))

    @property
    def block_seconds(self):
        """Of the longest block."""
        begun = {event.block: event.time for event in self.of("begin")}
        return max(event.time - begun[event.block] for event in self.of("end"))


def uninterrupted(folder, call, output, workers):
    session = Session.start(folder, call, output, workers)
    assert session.process.wait(timeout=1800) == 0
    return session


def killed(folder, call, output, workers, n_blocks, block_seconds):
    """Sessions that were killed at random moments, each after it did something, and the last."""
    chance = random.Random(os.urandom(8))
    sessions = []
    for kill in range(KILLS):
        sessions.append(Session.start(folder, call, output, workers))
        # In its own third of the run, and anywhere in a block.
        done = dkde.status(output)["stages"]["score"]["done"] if kill else 0
        most = (kill + 1) * n_blocks // (KILLS + 1) - done
        sessions[-1].wait_for(chance.randint(1, max(1, most)))
        time.sleep(chance.uniform(0, block_seconds))
        sessions[-1].kill()
        status = dkde.status(output)
        assert not status["complete"]
        assert status["running"] == []
    sessions.append(uninterrupted(folder, call, output, workers))
    return sessions


def check(folder, call, workers, n_blocks):
    """One run that is left alone and one that is killed, compared."""
    plain, hurt = folder / "plain.zarr", folder / "hurt.zarr"
    whole = uninterrupted(folder, call, plain, workers)
    sessions = killed(folder, call, hurt, workers, n_blocks, whole.block_seconds)
    with xr.open_zarr(plain) as expected, xr.open_zarr(hurt) as result:
        for name in ("log_density", "mean_log_likelihood", "standard_error"):
            np.testing.assert_array_equal(result[name], expected[name])
        assert result.attrs["complete"] == 1
        assert len(json.loads(result.attrs["run"])["sessions"]) == KILLS + 1
        values = result.log_density.values
    assert len(whole.of("end")) == n_blocks >= 50
    ended = Counter(event.block for session in sessions for event in session.of("end"))
    assert len(ended) == n_blocks
    # A kill costs each worker the block that it is at, and the two that it was handed if the client
    # had no turn to keep them.
    for session in sessions:
        assert len(session.of("begin")) - len(session.of("end")) <= workers
        assert 0 <= len(session.of("end")) - len(session.of("kept")) <= 2 * workers
    assert ended.total() - n_blocks <= 2 * workers * KILLS
    began = sum(len(session.of("begin")) for session in sessions)
    longest = max(session.block_seconds for session in [whole, *sessions])
    spent, starting = whole.processor_seconds
    figures = {
        "blocks begun again": began - n_blocks,
        "longest block": longest,
        "uninterrupted": whole.seconds,
        "start-up": whole.start_up,
        "killed": [session.seconds for session in sessions],
        "their start-up": [session.start_up for session in sessions],
        "uninterrupted, processor": spent,
        "start-up, processor": starting,
        "killed, processor": sum(session.processor_seconds[0] for session in sessions),
    }
    print(f"{workers} workers, {n_blocks} blocks: {figures}")
    # Beside blocks and start-ups there is little. All are of the same processes: what else the
    # machine does to the clock rate and the caches, it does to each of them.
    # Those that are killed are taken together: one that ends at its first block has hardly any.
    for taken in ([whole], sessions):
        totals, startings = zip(*(session.processor_seconds for session in taken), strict=True)
        in_blocks = sum(session.processor_seconds_in_blocks for session in taken)
        assert sum(totals) <= 1.25 * (sum(startings) + in_blocks), figures
    return values


SIZES = [
    pytest.param("train[:6000]", 2000, 60, id="a tenth of the training rows"),
    pytest.param("train+valid", 12_000, 100, id="all", marks=pytest.mark.full),
]


@pytest.mark.parametrize(("train", "panel_rows", "n_blocks"), SIZES)
def test_a_kill_costs_each_worker_a_block(mnist_store, tmp_path, train, panel_rows, n_blocks):
    call = {
        "query": "test", "train": train, "bandwidth": BANDWIDTHS, "source": str(mnist_store),
        "block_rows": 500, "panel_rows": panel_rows,
    }  # fmt: skip
    results = []
    for workers in (1, 2):
        folder = tmp_path / str(workers)
        folder.mkdir()
        results.append(check(folder, call, workers, n_blocks))
    np.testing.assert_array_equal(*results)
