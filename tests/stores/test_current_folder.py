"""A current folder that was deleted: relative paths lead nowhere, and a line says so."""

import os

import numpy as np
import pytest
from click.testing import CliRunner
from dkde_cli.main import cli

import dkde

X = np.zeros((3, 2))
GONE = "the current folder was deleted"


@pytest.fixture
def gone(tmp_path, monkeypatch):
    """A folder that is there; the current one is not."""
    np.save(tmp_path / "q.npy", np.arange(8.0).reshape(4, 2))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    (tmp_path / "here").rmdir()
    return tmp_path


CALLS = {
    "output": lambda: dkde.score(X, X, 1.0, output="r.zarr"),
    "table": lambda: dkde.score(X, X, 1.0, output="r.csv"),
    "map": lambda: dkde.density_map(X, 1.0, output="m.nc"),
    "data set": lambda: dkde.score("d.zarr::train", X, 1.0),
    "source": lambda: dkde.score("train", "train", 1.0, source="d.zarr"),
    "import": lambda: dkde.import_dataset("q.npy", "d.zarr"),
    "index": lambda: dkde.index_dataset("d.zarr"),
    "describe": lambda: dkde.describe("q.npy"),
    "export": lambda: dkde.export("r.zarr", "a.csv"),
    "report": lambda: dkde.report("r.zarr", "a.html"),
    "place": lambda: dkde.check_place("r.zarr", "result"),
    **{
        function.__name__: lambda function=function: function("r.zarr")
        for function in (dkde.status, dkde.verify, dkde.repair, dkde.unlock, dkde.clean,
                         dkde.finish)
    },
}  # fmt: skip


@pytest.mark.parametrize("name", CALLS)
def test_a_relative_path_is_refused_in_a_line(gone, name):
    with pytest.raises(dkde.InputError, match=GONE) as error:
        CALLS[name]()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["q.npy", "q.csv", "*.npy"])
def test_a_file_is_not_found(gone, name):
    with pytest.raises(dkde.DkdeError, match="no such file"):
        dkde.score(name, X, 1.0)


def test_what_needs_no_current_folder_works(gone):
    assert dkde.score(X, X + 1, 1.0).sizes["sample"] == 3
    dkde.score(X, X + 1, 1.0, output=gone / "r.zarr")
    assert dkde.status(gone / "r.zarr")["complete"]
    dkde.import_dataset(gone / "q.npy", gone / "d.zarr")


def test_data_by_a_name_are_recorded_with_the_folder(gone):
    with pytest.raises(dkde.InputError, match=GONE):
        dkde.score(str(gone / "q.npy"), str(gone / "q.npy"), 1.0, output=gone / "r.zarr")
    assert sorted(os.listdir(gone)) == ["q.npy"]


@pytest.mark.parametrize("command", ["status r.zarr", "sweep digits", "import q.npy d.zarr"])
def test_a_command_ends_in_a_line(gone, command):
    found = CliRunner().invoke(cli, command.split())
    assert found.exit_code in (1, 2)
    assert found.stderr.splitlines()[-1].startswith("Error: ")
    assert GONE in found.stderr.splitlines()[-1]
