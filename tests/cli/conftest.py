"""A small data set on disk, and the command run on it in this process."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from dkde_cli.main import cli

Run = Callable[..., Result]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder for every test, and Dask's configuration left as it was."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DASK_LOGGING", "{}")
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
        lines = [line for line in result.stderr.splitlines() if not line.startswith("Warning")]
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
