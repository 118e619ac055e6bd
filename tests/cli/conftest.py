"""A small data set on disk, and the command run on it in this process."""

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from dkde_cli.main import cli

Run = Callable[..., Result]
# What makes of a process a job of an array.
ARRAYS = ("SLURM_ARRAY_TASK_ID", "PBS_ARRAY_INDEX", "PBS_ARRAYID", "SGE_TASK_ID", "LSB_JOBINDEX")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder for every test, in no array of jobs; Dask's configuration kept."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DASK_LOGGING", "{}")
    for name in ARRAYS:
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.fixture
def run() -> Run:
    """Run ``dkde`` with arguments; fails the test if it fails, unless ``status`` says so."""

    def invoke(*arguments: object, status: int = 0) -> Result:
        result = CliRunner().invoke(cli, [str(argument) for argument in arguments])
        assert result.exit_code == status, result.output
        return result

    return invoke


@pytest.fixture
def refused(run: Run, folder: Path) -> Iterator[Callable[..., str]]:
    """Run ``dkde``, which must refuse in one line and leave nothing behind; gives the line."""
    before: list[str] = []

    def invoke(*arguments: object) -> str:
        before[:] = sorted(os.listdir(folder))
        result = run(*arguments, status=2)
        # Where a machine is slow, bars of progress are shown as well.
        told = (line for line in result.stderr.splitlines() if not re.fullmatch(r"\w+: .*%", line))
        lines = [line for line in told if not line.startswith("Warning")]
        assert len(lines) == 1
        assert lines[0].startswith("Error: ")
        assert "Traceback" not in result.output
        assert result.stdout == ""
        assert sorted(os.listdir(folder)) == before
        return lines[0]

    yield invoke
    assert sorted(os.listdir(folder)) == before


@pytest.fixture
def npz(folder: Path) -> str:
    """``a.npz``: 60 training, 20 validation and 10 test rows of three features."""
    rng = np.random.default_rng(4)
    sizes = {"train": 60, "valid": 20, "test": 10}
    np.savez("a.npz", **{name: rng.standard_normal((n, 3)) for name, n in sizes.items()})
    return "a.npz"


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in many blocks, for all that it is small: 6 for the digits' 359 validation rows."""
    monkeypatch.setattr("dkde.engine.block_plan.MIN_QUERY_ROWS", 64)
    monkeypatch.setattr("dkde.engine.block_plan.LEAVES_QUERY_ROWS", 64)


@pytest.fixture
def stop_after(monkeypatch: pytest.MonkeyPatch) -> Callable[[int | None], None]:
    """Ctrl-C when so many blocks are done; None: never."""

    def stop(n_blocks: int | None) -> None:
        calls: list[int] = []

        def count(*_: object) -> None:
            calls.append(1)
            if len(calls) == n_blocks:
                raise KeyboardInterrupt

        monkeypatch.setattr("dkde_cli.progress.Lines.__call__", count)

    return stop


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Let blocks fail whose query rows begin there, until that is undone by -1."""
    from dkde.engine import eager_run as engine

    score_share = engine.score_share

    def fail(start: int) -> None:
        def score(*arguments: Any) -> Any:
            if arguments[4][0] == start:
                raise OSError("no such luck")
            return score_share(*arguments)

        monkeypatch.setattr("dkde.engine.eager_run.score_share", score)

    return fail


@pytest.fixture
def begun(run: Run, small_blocks: None) -> str:
    """``r.zarr``: a sweep of the digits that is set up."""
    run("sweep", "digits", "--bandwidths", "1,2,4", "--output", "r.zarr", "--init-only")
    return "r.zarr"
