"""Outputs that are files: a run beside them until they are complete, then the file alone."""

import csv
import os
import subprocess
import sys

import numpy as np
import pytest
import xarray as xr

import dkde
from dkde.runs import output_file, result_files
from dkde.runs.place import RunPlace

ROWS = np.random.default_rng(3).normal(size=(60, 2))


def kinds(quick):
    """Files of each kind; tests of all but one are slow ones."""
    return [
        name if name.endswith(quick) else pytest.param(name, marks=pytest.mark.slow)
        for name in ("scores.csv", "scores.parquet", "scores.nc")
    ]


@pytest.fixture
def data(tmp_path, monkeypatch):
    """Forty training rows and twenty others, as a file in the working directory."""
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", ROWS)
    return "x.npy"


def score(data, output, **options):
    return dkde.score(
        f"{data}[:20]", f"{data}[20:]", [0.5, 1.0], output=output, block_rows=5, **options
    )


def densities(path):
    """The log-densities in a file, along bandwidth and row."""
    if path.endswith(".csv"):
        with open(path, newline="") as file:
            values = [float(row["log_density"]) for row in csv.DictReader(file)]
    elif path.endswith(".parquet"):
        import pandas as pd

        values = pd.read_parquet(path)["log_density"].to_list()
    else:
        with xr.open_dataset(path, engine="h5netcdf") as found:
            return found["log_density"].values
    return np.reshape(values, (20, 2)).T


@pytest.mark.parametrize("name", kinds("parquet"))
def test_the_file_and_nothing_else_is_left(data, name):
    found = score(data, name)
    assert sorted(os.listdir()) == sorted([data, name])
    assert os.path.isfile(name)
    np.testing.assert_array_equal(densities(name), found.log_density)
    assert found.attrs["complete"] == 1
    # It is as what export makes of a store.
    score(data, "r.zarr")
    dkde.export("r.zarr", f"exported-{name}")
    np.testing.assert_array_equal(densities(f"exported-{name}"), densities(name))


def test_a_run_that_is_interrupted_goes_on_to_the_file(data):
    def stop(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as interrupted:
        score(data, "scores.csv", progress=stop)
    assert sorted(os.listdir()) == ["scores.csv.run", data]
    assert "kept in scores.csv.run; the same call goes on" in interrupted.value.__notes__[0]
    done = dkde.status("scores.csv")["stages"]["score"]["done"]
    assert dkde.status("scores.csv.run")["stages"]["score"]["done"] == done > 0
    with pytest.raises(dkde.DataSetError, match="is not complete"):
        dkde.report("scores.csv", "r.html")
    found = score(data, "scores.csv")
    assert sorted(os.listdir()) == ["scores.csv", data]
    np.testing.assert_array_equal(densities("scores.csv"), found.log_density)


@pytest.mark.parametrize(
    "named", ["scores.parquet", pytest.param("scores.parquet.run", marks=pytest.mark.slow)]
)
def test_parts_of_a_run_that_becomes_a_file(data, named):
    with dkde.init_only():
        score(data, "scores.parquet")
    assert os.path.isdir("scores.parquet.run")
    for part in range(2):
        dkde.run_part(named, part, 2)
    found = dkde.finish(named)
    assert sorted(os.listdir()) == ["scores.parquet", data]
    np.testing.assert_array_equal(densities("scores.parquet"), found.log_density)


@pytest.mark.slow
@pytest.mark.parametrize("name", kinds("nc"))
def test_a_file_that_is_there_stays_until_it_is_replaced(data, name):
    score(data, name)
    before = densities(name)
    if name.endswith(".nc"):  # which holds all of a result
        assert score(data, name, progress=lambda *_: pytest.fail("computed")).attrs["complete"] == 1
        refusal = r"was begun otherwise: score tol was .*begin it anew \(restart\)"
    else:
        refusal = r"is there already; .* begin it anew \(restart\)"
    with pytest.raises(dkde.DataSetError, match=refusal):
        score(data, name, tol=1e-6)
    np.testing.assert_array_equal(densities(name), before)

    def stop(done, total):
        raise KeyboardInterrupt

    # The old file is there as long as the new one is not complete.
    with pytest.raises(KeyboardInterrupt):
        score(data, name, restart=True, tol=1e-6, progress=stop)
    np.testing.assert_array_equal(densities(name), before)
    score(data, name, tol=1e-6)
    assert sorted(os.listdir()) == sorted([data, name])


@pytest.mark.parametrize("name", ["scores.csv", "scores.parquet", "scores.nc"])
def test_what_is_no_result_is_never_replaced(data, name):
    with open(name, "w") as file:
        file.write("a,b\n1,2\n")
    for restart in (False, True):
        with pytest.raises(dkde.DataSetError, match="is there already"):
            score(data, name, restart=restart)
    with open(name) as file:
        assert file.read() == "a,b\n1,2\n"
    assert not os.path.exists(f"{name}.run")


def test_a_file_that_appears_meanwhile_stays_and_the_run_too(data):
    def appear(done, total):
        with open("scores.csv", "w") as file:
            file.write("mine")

    with pytest.raises(dkde.DataSetError, match="something was put there"):
        score(data, "scores.csv", progress=appear)
    with open("scores.csv") as file:
        assert file.read() == "mine"
    os.remove("scores.csv")
    assert dkde.status("scores.csv")["stages"]["score"]["done"] == 4
    score(data, "scores.csv")
    assert densities("scores.csv").shape == (2, 20)


def test_nothing_half_written_is_left(data, monkeypatch):
    write = result_files._write_csv

    def fail(result, path):
        write(result, path)
        raise OSError("No space left on device")

    monkeypatch.setitem(result_files._WRITERS, ".csv", ((), "", fail))
    with pytest.raises(dkde.DataSetError, match=r"could not be .* renamed to scores.zarr.run"):
        score(data, "scores.csv")
    assert sorted(os.listdir()) == ["scores.csv.run", data]
    os.rename("scores.csv.run", "scores.zarr.run")
    assert dkde.finish("scores.zarr").attrs["complete"] == 1
    assert dkde.verify("scores.zarr")["exact"]


@pytest.mark.slow
def test_a_store_of_such_a_name_goes_on_as_one(data, monkeypatch):
    score(data, "r.zarr")
    os.rename("r.zarr", "scores.csv")  # as earlier versions made it
    found = score(data, "scores.csv")
    assert os.path.isdir("scores.csv")
    assert dkde.verify("scores.csv")["exact"]
    np.testing.assert_array_equal(found.log_density, score(data, "again.zarr").log_density)


@pytest.mark.slow
def test_a_sweep_is_no_single_table(data):
    rows = {"train": f"{data}[:20]", "valid": f"{data}[20:40]", "test": f"{data}[40:]"}
    for name in ("sweep.csv", "sweep.parquet"):
        with pytest.raises(dkde.InputError, match=rf"{name}: a table could .* sweep.nc or sweep.z"):
            dkde.sweep(**rows, bandwidths=[0.5, 1.0], output=name)
        with pytest.raises(dkde.InputError, match="a table could hold"):
            dkde.cross_validate(f"{data}[:20]", [0.5, 1.0], output=name)
    found = dkde.sweep(**rows, bandwidths=[0.1, 0.5, 5.0], output="sweep.nc")
    with xr.open_dataset("sweep.nc", engine="h5netcdf") as kept:
        np.testing.assert_array_equal(kept.test_log_density, found.test_log_density)
    # NetCDF holds all of a result, so that it is opened as one.
    dkde.report("sweep.nc", "r.html")
    found = dkde.status("sweep.nc")
    assert (found["complete"], found["stages"], list(found["sources"])) == (True, {}, [data])
    dkde.export("sweep.nc", "rows.csv")
    assert float(dkde.compare("sweep.nc", "sweep.nc").mean_difference) == 0


@pytest.mark.parametrize("name", ["r.xlsx", "r.npy", "R.JSON", "r.tar.gz", "r.html", "r.h5"])
def test_no_store_is_named_like_a_file(data, name):
    for make in (
        lambda: score(data, name),
        lambda: dkde.import_dataset(data, name),
        lambda: dkde.import_rows(ROWS, name, split="train"),
    ):
        with pytest.raises(dkde.InputError, match=r"is the name of a \.\w+ file, and a .* folder"):
            make()
    assert os.listdir() == [data]


@pytest.mark.parametrize("name", ["r.csv", "r.parquet", "r.nc"])
def test_no_data_set_is_named_like_a_table(data, name):
    with pytest.raises(dkde.InputError, match=r"name it .*r\.zarr"):
        dkde.import_dataset(data, name)


@pytest.mark.slow
def test_a_file_in_a_bucket(data, bucket):
    found = score(data, f"{bucket}/scores.csv")
    local = score(data, "scores.csv")
    np.testing.assert_array_equal(found.log_density, local.log_density)
    from dkde.stores.store import Records, open_store

    records = Records(open_store(bucket), bucket)
    assert records.keys("") == ["scores.csv"]
    with open("scores.csv", "rb") as file:
        assert records.get("scores.csv") == file.read()
    for restart in (False, True):
        with pytest.raises(dkde.DataSetError, match="a result in a bucket is not replaced"):
            score(data, f"{bucket}/scores.csv", restart=restart)
    score(data, f"{bucket}/r.zarr")
    dkde.export(f"{bucket}/r.zarr", f"{bucket}/r.parquet")
    with pytest.raises(dkde.DataSetError, match=r"is there already; .* replace it"):
        dkde.export(f"{bucket}/r.zarr", f"{bucket}/r.parquet")
    before = records.get("r.parquet")
    dkde.export(f"{bucket}/r.zarr", f"{bucket}/r.parquet", overwrite=True)
    assert len(records.get("r.parquet")) == len(before)
    dkde.report(f"{bucket}/r.zarr", f"{bucket}/r.html")
    assert b"<html" in records.get("r.html")
    with pytest.raises(dkde.DataSetError, match=r"is a Zarr store; give the .* another name"):
        dkde.write_whole(f"{bucket}/r.zarr", b"")


@pytest.mark.slow
def test_a_file_in_a_bucket_that_is_put_there_meanwhile(data, bucket, monkeypatch):
    from dkde.stores.store import Records, open_store

    records = Records(open_store(bucket), bucket)
    write = output_file.write_file

    def late(*arguments):
        records.put("scores.csv", b"mine")
        write(*arguments)

    monkeypatch.setattr(output_file, "write_file", late)
    with pytest.raises(dkde.DataSetError, match="something was put there by another process"):
        score(data, f"{bucket}/scores.csv")
    assert records.get("scores.csv") == b"mine"
    assert dkde.status(f"{bucket}/scores.csv")["stages"]["score"]["done"] == 4


@pytest.mark.slow
@pytest.mark.parametrize("step", ["finish", "_give_up", "_remove", "_remove_leftovers"])
def test_a_process_that_is_killed_at_the_end(data, step):
    script = (
        "import dkde, os\n"
        "from dkde.runs.place import RunPlace\n"
        f"RunPlace.{step} = lambda *_, **__: os._exit(9)\n"
        "dkde.score('x.npy[:20]', 'x.npy[20:]', [0.5, 1.0], output='scores.csv', block_rows=5)\n"
    )
    assert subprocess.run([sys.executable, "-c", script]).returncode == 9
    # The file is complete, and what is left of the run goes with the same call.
    whole = densities("scores.csv")
    is_marked = os.path.exists("scores.csv.run/dkde-run-1.json")
    assert is_marked == (step == "finish")
    score(data, "scores.csv", restart=not is_marked)
    assert sorted(os.listdir()) == ["scores.csv", data]
    np.testing.assert_array_equal(densities("scores.csv"), whole)


@pytest.mark.sampled(3)
@pytest.mark.parametrize("step", ["finish", "_give_up", "_remove"])
def test_what_a_process_left_that_was_killed_as_it_finished_goes(data, monkeypatch, step):
    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(RunPlace, step, killed)
        with pytest.raises(KeyboardInterrupt):
            score(data, "r.nc")
    assert sorted(os.listdir()) == ["r.nc", "r.nc.run", data]
    score(data, "r.nc")
    assert sorted(os.listdir()) == ["r.nc", data]


@pytest.mark.parametrize("name", ["r.zarr", "scores.csv"])
def test_a_link_whose_target_is_missing_leads_to_the_result(data, name):
    os.mkdir("large")
    os.symlink(f"large/{name}", name)
    score(data, name)
    assert os.path.islink(name)
    assert os.listdir("large") == [name]
    assert sorted(os.listdir()) == sorted(["large", name, data])


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes")
def test_a_pipe_is_refused_and_not_read(data):
    os.mkfifo("scores.csv")
    for restart in (False, True):
        with pytest.raises(dkde.DataSetError, match=r"scores\.csv: is a pipe or a device"):
            score(data, "scores.csv", restart=restart)


@pytest.mark.parametrize("name", [".", "./", "../here", "x/.."])
def test_the_current_folder_is_refused_at_once(data, monkeypatch, name):
    os.makedirs("here/x")
    monkeypatch.chdir("here")
    with pytest.raises(dkde.DataSetError, match="is the current folder; give the result a name"):
        score(f"../{data}", name)
    assert os.listdir() == ["x"]


def test_a_name_that_ends_in_a_point_is_that_of_the_folder(data):
    os.mkdir("r")
    score(data, "r/.")
    assert sorted(os.listdir()) == sorted(["r", data])
    assert dkde.status("r")["complete"]
