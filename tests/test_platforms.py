"""What is there on Linux alone is looked for, and not taken for granted."""

import subprocess
import sys

import pytest

# On this system, but without what others lack: first what dkde stands on, as it has its own ways.
ELSEWHERE = """
import os, pkgutil, signal, sys
import dask.array, distributed, h5netcdf, matplotlib.pyplot, numba, psutil, pyarrow, rich, sklearn
import xarray, zarr
for name in ("fcntl", "grp", "pwd", "resource", "syslog", "termios", "tty"):
    sys.modules[name] = None
for module, name in ((os, "sched_getaffinity"), (os, "fork"), (signal, "pthread_sigmask")):
    vars(module).pop(name, None)

import importlib
import dkde, dkde_cli
for package in (dkde, dkde_cli):
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        importlib.import_module(module.name)
assert dkde.stores.staging.fcntl is None
dkde.stores.renaming._CALLS.clear()

dkde.import_dataset("digits", "d.zarr")
dkde.import_dataset("digits", "d.zarr", overwrite=True)
made = dkde.score("test", "train", 1.0, source="d.zarr", output="r.zarr")
again = dkde.score("test", "train", 1.0, source="d.zarr", output="r.zarr")
assert made.identical(again)
dkde.export("r.zarr", "r.csv")
"""


@pytest.mark.slow
def test_without_what_posix_systems_have(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", ELSEWHERE], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "r.csv").stat().st_size > 1000
