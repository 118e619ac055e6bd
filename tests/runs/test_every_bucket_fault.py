"""Each request of a run in a bucket fails in turn, done or not, or the process ends there.

After each the same call resumes, and its result is that of a clean run to the last bit. Readers see
an older result until the root is claimed, then none, then the new one, and never a mixture.
"""

from __future__ import annotations

import itertools
import os
import random
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import xarray as xr
from bucket_faults import bucket_faults, count_requests, lost_answers

import dkde
from dkde.runs import sessions
from dkde.runs.roots import parsed_root
from dkde.stores.store import Records, open_store

# Zarr gives up the rest of several writes where one fails.
pytestmark = pytest.mark.filterwarnings("ignore")
KINDS = ("before", "after", "kill before", "kill after")
# Every request takes two hours of a processor; without the variable one in eighty is met.
STEP = 1 if os.environ.get("DKDE_ALL_FAULTS") else 80


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(5)
    np.save(folder / "q.npy", rng.normal(size=(40, 2)))
    np.save(folder / "t.npy", rng.normal(size=(60, 2)))
    return folder


class Case:
    """An output in a bucket, and the calls that make it."""

    def __init__(self, data: Path, bucket: str) -> None:
        self.data, self.url, self.name = data, bucket, "r.zarr"
        self.records = Records(open_store(bucket), bucket)

    @property
    def output(self) -> str:
        return f"{self.url}/{self.name}"

    def score(self, bandwidth: float = 1.0, **options: Any) -> xr.Dataset:
        return dkde.score(
            str(self.data / "q.npy"), str(self.data / "t.npy"), bandwidth,
            output=self.output, block_rows=10, panel_rows=30, **options,
        )  # fmt: skip

    def begin(self) -> None:
        with dkde.init_only():
            self.score()

    def part(self, number: int) -> None:
        dkde.run_part(self.output, number, 2, trust_sources=True)

    def half(self) -> None:
        self.begin()
        self.part(0)

    def parts(self) -> None:
        self.half()
        self.part(1)

    def older(self) -> None:
        self.score(0.5)

    def spoilt(self) -> None:
        """A run with damage of each kind."""
        self.half()
        (run,) = {key.split("/")[0] for key in self.run_keys() if "/" in key}
        segment = next(key for key in self.run_keys() if key.endswith(".npz"))
        spoilt = {
            "dkde-run-1.json": b"", segment: b"PK", f"{run}/score/failed-0-0.json": b"{",
            f"{run}/sessions/0.json": b"?", f"{run}/score/stage.json": bytes(10),
        }  # fmt: skip
        for key, content in spoilt.items():
            self.records.put(f"{self.name}.run/{key}", content)

    def run_keys(self) -> list[str]:
        above = f"{self.name}.run"
        return [key.removeprefix(f"{above}/") for key in self.records.keys(above)]

    @property
    def has_run(self) -> bool:
        return any(key.startswith("dkde-run-") for key in self.run_keys())

    @property
    def is_table(self) -> bool:
        """Whether a table is complete, which says of no run that it is its result."""
        return self.name == "r.csv" and not self.has_run and self.records.has(self.name)


def nothing(case: Case) -> None:
    pass


# What was there before, and the call that the fault meets. The call after it resumes.
CASES: dict[str, tuple[Callable[[Case], Any], Callable[[Case], Any]]] = {
    "run": (nothing, Case.score),
    "file": (lambda case: setattr(case, "name", "r.csv"), Case.score),
    "restart": (Case.older, lambda case: case.score(restart=True)),
    "parts": (Case.begin, lambda case: case.part(0)),
    "finish": (Case.parts, lambda case: dkde.finish(case.output, trust_sources=True)),
    "repair": (Case.spoilt, lambda case: dkde.repair(case.output)),
    "clean": (Case.spoilt, lambda case: dkde.clean(case.output, remove=True)),
}


@pytest.fixture(scope="module")
def expected(data: Path) -> dict[float, np.ndarray]:
    sides = str(data / "q.npy"), str(data / "t.npy")
    return {
        h: dkde.score(*sides, h, block_rows=10, panel_rows=30).log_density.values
        for h in (1.0, 0.5)
    }


def seen(case: Case) -> np.ndarray | None:
    """What a reader sees who knows nothing of dkde but that a result says if it is complete."""
    root = parsed_root(case.records.get(f"{case.name}/zarr.json"))
    if not root or not root["attributes"]["complete"]:
        return None
    with xr.open_zarr(open_store(case.output, read_only=True)) as found:
        return found.log_density.values


def done(case: Case) -> int:
    with suppress(dkde.DkdeError):
        found = dkde.status(case.output)
        if found["complete"]:
            return sys.maxsize
        return sum(stage["done"] for stage in found["stages"].values())
    return 0


def elsewhere() -> Any:
    """Let each session be of a machine of its own, as that of a dead process is."""
    return mock.patch.object(sessions, "_place", side_effect=map(str, itertools.count()))


def check(
    name: str,
    case: Case,
    expected: dict[float, np.ndarray],
    fault: Callable[[], AbstractContextManager[Any]],
) -> Any:
    """Let a fault meet a request of a call, and return the log."""
    case.records.delete_all("")
    before, call = CASES[name]
    before(case)
    committed = done(case)
    refused = None
    with mock.patch.object(sessions, "STALE", -1.0), elsewhere():
        try:
            with fault() as log:
                call(case)
        except dkde.DkdeError as error:
            refused = str(error)
            assert "\n" not in refused
        if case.name == "r.zarr" and (values := seen(case)) is not None:
            assert any(np.array_equal(values, each) for each in expected.values())
        elif name == "restart":
            # Between claim and root there is none, and the run goes on.
            assert case.has_run or case.run_keys(), "the older result is gone"
        # "restart" gives up what was there, and of "clean" and "repair" it was spoilt.
        assert done(case) >= committed or name in ("restart", "clean", "repair")
        if refused is None and not log.dead and name in ("run", "restart", "finish"):
            assert done(case) == sys.maxsize
        if not case.is_table:
            # A call that was to begin anew, and did not come to it, is made again.
            is_older = name == "restart" and not case.has_run
            resumed = case.score(restart=is_older)
            np.testing.assert_array_equal(resumed.log_density.values, expected[1.0])
        dkde.clean(case.output, remove=True)
        assert dkde.clean(case.output) == []
        assert {key.split("/")[0] for key in case.records.keys("")} == {case.name}
        if case.name == "r.zarr":
            np.testing.assert_array_equal(seen(case), expected[1.0])
    return log


def requests(name: str, case: Case) -> int:
    """The number of requests of a call."""
    before, call = CASES[name]
    before(case)
    return count_requests(lambda: call(case))


@pytest.fixture
def case(data: Path, bucket: str) -> Case:
    return Case(data, bucket)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "kind", "k"), [
    ("restart", "after", 60), ("parts", "kill before", 12),
])  # fmt: skip
def test_a_request(name, kind, k, case, expected):
    assert check(name, case, expected, partial(bucket_faults, kind, k)).fired


def first(seed: str, n: int) -> int:
    """The first of so many requests that meets a fault."""
    return 1 if STEP == 1 else random.Random(seed).randint(1, min(n, STEP))


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", CASES)
def test_every_request(name, kind, case, expected):
    n = requests(name, case)
    for k in range(first(f"{name}{kind}", n), n + 2, STEP):
        check(name, case, expected, partial(bucket_faults, kind, k))


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_every_answer_is_lost(name, case, expected, served):
    """The client asks again: what it finds is its own."""
    k, log = first(name, requests(name, case)), None
    while log is None or log.fired:
        log = check(name, case, expected, partial(lost_answers, served, k))
        assert log.done
        k += STEP
