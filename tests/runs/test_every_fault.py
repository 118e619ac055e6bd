"""Each operation of a run fails in turn, or the process ends there, or the power goes.

After each the same call resumes, and its result is that of a clean run to the last bit; an older
result is whole until the new one is there.
"""

from __future__ import annotations

import itertools
import os
import random
import shutil
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import xarray as xr
from faults import DEATHS, ERRORS, LASTING, ODD_ERRORS, count, faults

import dkde
from dkde.runs import sessions

# Faster than a disk, where there is one in memory.
SHM = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
FEW = 4
KINDS = ("kill", "cut", "EIO")
# Every operation, and all kinds, take an hour; without the variable every fifteenth is tried.
IS_LONG = bool(os.environ.get("DKDE_ALL_FAULTS"))
OTHERS = [kind for kind in (*DEATHS, *ERRORS, *ODD_ERRORS, *LASTING) if kind not in KINDS]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(5)
    np.save(folder / "q.npy", rng.normal(size=(40, 2)))
    np.save(folder / "t.npy", rng.normal(size=(60, 2)))
    return folder


class Case:
    """An output in a folder of its own, and the calls that make it."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self.folder = Path(tempfile.mkdtemp(prefix="dkde-faults-", dir=SHM)).resolve()

    def score(self, bandwidth: float = 1.0, name: str = "r.zarr", **options: Any) -> xr.Dataset:
        return dkde.score(
            str(self.data / "q.npy"), str(self.data / "t.npy"), bandwidth,
            output=self.folder / name, block_rows=10, panel_rows=30, **options,
        )  # fmt: skip

    def begin(self) -> None:
        with dkde.init_only():
            self.score()

    def half(self) -> None:
        self.begin()
        dkde.run_part(self.folder / "r.zarr", 0, 2)

    def older(self) -> None:
        self.score(0.5)

    def spoilt(self) -> None:
        """A run with damage of each kind."""
        self.half()
        run = next(path for path in (self.folder / "r.zarr.run").iterdir() if path.is_dir())
        (self.folder / "r.zarr.run" / "dkde-run-1.json").write_bytes(b"")
        next((run / "score").glob("*.npz")).write_bytes(b"PK")
        (run / "score" / "failed-0-0.json").write_bytes(b"{")
        (run / "sessions" / "0.json").write_bytes(b"?")
        (run / "score" / "stage.json").write_bytes(bytes(10))


def nothing(case: Case) -> None:
    pass


# What was there before, and the call that the fault meets. The call after it resumes.
CASES: dict[str, tuple[Callable[[Case], None], Callable[[Case], Any]]] = {
    "run": (nothing, Case.score),
    "file": (nothing, lambda case: case.score(name="r.csv")),
    "restart": (Case.older, lambda case: case.score(restart=True)),
    "parts": (Case.begin, lambda case: dkde.run_part(case.folder / "r.zarr", 0, 2)),
    "finish": (
        lambda case: (case.half(), dkde.run_part(case.folder / "r.zarr", 1, 2)),
        lambda case: dkde.finish(case.folder / "r.zarr"),
    ),
    "repair": (Case.spoilt, lambda case: dkde.repair(case.folder / "r.zarr")),
    "clean": (Case.spoilt, lambda case: dkde.clean(case.folder, remove=True)),
}  # fmt: skip


@pytest.fixture(scope="module")
def expected(data):
    case = Case(data)
    values = {h: case.score(h).log_density.values for h in (1.0,)}
    shutil.rmtree(case.folder / "r.zarr")
    values[0.5] = case.score(0.5).log_density.values
    shutil.rmtree(case.folder)
    return values


def seen(case: Case) -> np.ndarray | None:
    """What a reader sees who knows nothing of dkde."""
    if not (case.folder / "r.zarr" / "zarr.json").exists():
        return None
    with xr.open_zarr(case.folder / "r.zarr") as found:
        return found.log_density.values


def check(name: str, data: Path, expected: dict[float, np.ndarray], kind: str, k: int) -> bool:
    """Let a fault meet the k-th operation of a call; return whether there is one."""
    case = Case(data)
    try:
        before, call = CASES[name]
        before(case)
        committed = done(case)
        with mock.patch.object(sessions, "STALE", -1.0), elsewhere():
            with suppress(dkde.DkdeError), faults(case.folder, kind, k, seed=k) as log:
                call(case)
            if name == "restart":
                found = seen(case)
                assert found is not None, "the older result is gone"
                assert any(np.array_equal(found, each) for each in expected.values())
            # "restart" gives up what was there, and of "clean" and "repair" it was spoilt.
            assert done(case) >= committed or name in ("restart", "clean", "repair")
            file = "r.csv" if name == "file" else "r.zarr"
            if not is_finished_csv(case):
                # A call that was to begin anew, and did not come to it, is made again.
                is_older = name == "restart" and not any(case.folder.glob("r.zarr.run/dkde-run-*n"))
                resumed = case.score(name=file, restart=is_older)
                np.testing.assert_array_equal(resumed.log_density.values, expected[1.0])
            dkde.clean(case.folder, remove=True)
            assert os.listdir(case.folder) == [file]
        return log.fired
    finally:
        shutil.rmtree(case.folder, ignore_errors=True)


def is_finished_csv(case: Case) -> bool:
    """Whether a table is complete, which says of no run that it is its result."""
    is_there = (case.folder / "r.csv").exists()
    return is_there and not any(case.folder.glob("r.csv.run/dkde-run-*n"))


def done(case: Case) -> int:
    with suppress(dkde.DkdeError):
        found = dkde.status(case.folder / "r.zarr")
        if found["complete"]:
            return sys.maxsize
        return sum(stage["done"] for stage in found["stages"].values())
    return 0


def elsewhere() -> Any:
    """Let each session be of a machine of its own, as that of a dead process is."""
    return mock.patch.object(sessions, "_place", side_effect=map(str, itertools.count()))


def operations(name: str, data: Path) -> int:
    case = Case(data)
    try:
        before, call = CASES[name]
        before(case)
        return count(case.folder, lambda: call(case))
    finally:
        shutil.rmtree(case.folder, ignore_errors=True)


@pytest.mark.sampled(21)
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", CASES)
def test_some_operations(name, kind, data, expected):
    n = operations(name, data)
    assert n > 0
    for k in random.Random(f"{name}{kind}").sample(range(1, n + 2), min(FEW, n)):
        check(name, data, expected, kind, k)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", [*KINDS, *OTHERS] if IS_LONG else KINDS)
@pytest.mark.parametrize("name", CASES)
def test_every_operation(name, kind, data, expected):
    n = operations(name, data)
    start, step = (1, 1) if IS_LONG else (random.Random(f"{name}{kind}").randint(1, 15), 15)
    for k in range(start, n + 2, step):
        check(name, data, expected, kind, k)
