"""Stores as releases made them, and what becomes of them with the code of now, elsewhere."""

import json
import os
import shutil
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
import zarr

import dkde
from dkde.engine import block_plan, task
from dkde.errors import Remedy
from dkde.estimation.protocols import PROTOCOLS, Take
from dkde.results.rereading import read_back
from dkde.runs.scored_rows import scored_rows

FROZEN = Path(__file__).parent / "frozen"
RELEASES = sorted(path.name.removesuffix(".tar.xz") for path in FROZEN.glob("*.tar.xz"))
COMPLETE = ["score", "ordered", "sweep", "cv", "sphere"]
SPHERE = {"kernel": "vonmises_fisher"}


@pytest.fixture(params=RELEASES)
def frozen(request, tmp_path, monkeypatch):
    """The stores of a release, moved to a folder of another name."""
    folder = tmp_path / "moved"
    with tarfile.open(FROZEN / f"{request.param}.tar.xz") as archive:
        archive.extractall(folder, filter="data")
    monkeypatch.chdir(tmp_path)
    return folder


@pytest.fixture(params=["now", pytest.param("later", marks=pytest.mark.slow)])
def engine(request, monkeypatch):
    """The engine of now, and one of a later revision, which cuts into other blocks by default."""
    if request.param == "later":
        monkeypatch.setattr(task, "REVISION", task.REVISION + 1)
        monkeypatch.setattr(block_plan, "LEAVES_QUERY_ROWS", 7)
    return request.param


def assert_expected(found, frozen, name):
    """The numbers are those of the release, within the bounds on the errors of both."""
    with np.load(frozen / "expected.npz") as expected:
        numbers = {key: expected[key] for key in expected if key.startswith(f"{name}/")}
    assert f"{name}/log_density" in numbers
    for key, then in numbers.items():
        variable = key.partition("/")[2]
        now = np.asarray(found[variable].values)
        if variable.endswith("log_density"):
            bounds = numbers[f"{key}_error"] + found[f"{variable}_error"].values
            assert (np.abs(now - then) <= bounds).all()
        elif not variable.endswith("_error"):
            np.testing.assert_allclose(now, then, rtol=1e-6)


def test_there_are_stores_of_each_release():
    assert {"0.1.0", dkde.__version__} <= set(RELEASES)


@pytest.mark.sampled(15)
@pytest.mark.parametrize("name", COMPLETE)
def test_a_result_opens_exports_and_verifies(frozen, name, engine):
    store = frozen / "runs" / f"{name}.zarr"
    with xr.open_zarr(store) as result:
        assert_expected(result, frozen, name)
    dkde.export(store, frozen / "r.csv")
    assert (frozen / "r.csv").stat().st_size > 1000
    found = dkde.verify(store, anywhere=True)
    assert found["blocks"] > 0
    assert found["reason"] is None
    assert engine == "now" or "engine was" in found["elsewhere"]
    assert dkde.status(store)["complete"]
    dkde.report(store, frozen / "r.html")
    assert "highest" in (frozen / "r.html").read_text().lower()
    with xr.open_zarr(store) as result:
        for side in scored_rows(result):
            rows, reason = read_back(side)
            assert reason == ""
            assert rows.n_rows == side.n_rows


@pytest.mark.slow
@pytest.mark.parametrize("name", ["score", "sweep", "cv"])
def test_a_result_compares_with_one_of_now(frozen, name):
    store, now = frozen / "runs" / f"{name}.zarr", frozen / "now.zarr"
    source = frozen / "data" / "d.zarr"
    if name == "score":
        dkde.score(str(frozen / "data" / "q.npy"), "train", [0.3, 0.5], source=source, output=now)
    elif name == "sweep":
        dkde.sweep(
            train="train[:80]", valid="train[80:100]", test="train[100:]",
            bandwidths=[0.3, 0.6, 1.2], source=source, output=now,
        )  # fmt: skip
    else:
        dkde.cross_validate("train", [0.3, 0.6, 1.2], source=source, refine=True, output=now)
    compared = dkde.compare(store, now, bandwidth=0.3 if name == "score" else None)
    assert float(np.abs(compared["difference"]).max()) < 1e-6


@pytest.mark.sampled(5)
@pytest.mark.parametrize("name", ["d", "o", "sample"])
def test_a_data_set_opens(frozen, name):
    folder = "runs" if name == "sample" else "data"
    rows = dkde.Catalog(str(frozen / folder / f"{name}.zarr")).rows("all")
    with np.load(frozen / "expected.npz") as expected:
        then = expected[f"{name}/rows"]
    np.testing.assert_array_equal(rows.read(0, rows.n_rows, decode=True), then)


@pytest.fixture
def later(frozen):
    """The stores of a release whose unfinished runs lie beside their results."""
    if not (frozen / "runs" / "half.zarr.run").exists():
        pytest.skip("this release kept blocks in another way")
    return frozen


@pytest.mark.sampled(5)
@pytest.mark.parametrize("name", ["half", "sphere_half", "init"])
def test_an_unfinished_run_of_an_early_release_is_refused_in_one_line(frozen, name):
    store = frozen / "runs" / f"{name}.zarr"
    if (frozen / "runs" / f"{name}.zarr.run").exists():
        pytest.skip("this release keeps blocks as now")
    before = sorted((path, path.stat().st_mtime_ns) for path in store.rglob("*"))
    for call in (
        lambda: dkde.status(store),
        lambda: dkde.run_part(store, 0, 2, anywhere=True),
        lambda: dkde.finish(store, anywhere=True),
        *([lambda: same_call(frozen, store)] if name == "sphere_half" else []),
    ):
        with pytest.raises(
            dkde.DataSetError, match=r"\.zarr: was begun by an earlier version of dkde, .*restart"
        ) as said:
            call()
        assert "\n" not in str(said.value)
        assert Remedy("restart") in said.value.message.parts
    assert sorted((path, path.stat().st_mtime_ns) for path in store.rglob("*")) == before


@pytest.mark.sampled(3)
def test_an_unfinished_run_of_an_early_release_is_begun_anew(frozen):
    store = frozen / "runs" / "sphere_half.zarr"
    result = same_call(frozen, store, restart=True)
    assert_expected(result, frozen, "sphere_half")
    assert not (store / "run").exists()
    assert not store.with_name("sphere_half.zarr.run").exists()
    assert dkde.verify(store)["exact"]


@pytest.mark.sampled(3)
@pytest.mark.parametrize("name", ["half", "sphere_half"])
def test_a_run_goes_on(later, name, engine):
    frozen = later
    store = frozen / "runs" / f"{name}.zarr"
    before = dkde.status(store)["stages"]["score"]
    assert before["done"] == 2
    result = None
    if name == "half":
        for part in range(2):
            dkde.run_part(store, part, 2, anywhere=True)
        result = dkde.finish(store, anywhere=True)
    else:
        result = same_call(frozen, store)
    assert_expected(result, frozen, name)
    assert dkde.verify(store, anywhere=True)["blocks"] == 4


def same_call(frozen, store, **keywords):
    """The call of the unfinished run on the sphere, with the paths of now."""
    globe = str(frozen / "data" / "globe.zarr")
    return dkde.score(
        f"{globe}[:20]", f"{globe}[20:]", ["500km"], block_rows=5, output=store, anywhere=True,
        source=dkde.Catalog(globe, ["lat", "lon"]), **SPHERE, **keywords,
    )  # fmt: skip


@pytest.mark.sampled(3)
def test_a_run_on_the_sphere_goes_on_in_parts(later, engine):
    frozen = later
    store = frozen / "runs" / "sphere_half.zarr"
    for part in range(3):
        dkde.run_part(store, part, 3, anywhere=True)
    assert_expected(dkde.finish(store, anywhere=True), frozen, "sphere_half")


def test_a_run_that_was_only_begun_is_done(later, engine):
    frozen = later
    store = frozen / "runs" / "init.zarr"
    dkde.run_part(store, 0, 1, anywhere=True)
    assert_expected(dkde.finish(store, anywhere=True), frozen, "init")
    assert dkde.verify(store, anywhere=True)["blocks"] == 4


@pytest.mark.sampled(3)
def test_other_content_at_the_other_place_is_refused(frozen):
    np.save(frozen / "data" / "q.npy", np.ones((40, 3)))
    if (frozen / "runs" / "half.zarr.run").exists():
        with pytest.raises(dkde.DataSetError, match=r"begun otherwise: .*checksum.*found .*q\.npy"):
            dkde.run_part(frozen / "runs" / "half.zarr", 0, 1, anywhere=True)
    with pytest.raises(dkde.DataSetError, match=r"found .*q\.npy.* is not the data of the result"):
        dkde.verify(frozen / "runs" / "score.zarr", anywhere=True)


def test_places_of_other_content_are_refused(later):
    frozen = later
    globe = frozen / "data" / "globe.zarr"
    for path in globe.rglob("*"):
        os.utime(path, (1, 1))
    dkde.run_part(frozen / "runs" / "sphere_half.zarr", 0, 2, anywhere=True)
    (globe / "lat" / "c" / "0").write_bytes((globe / "lon" / "c" / "0").read_bytes())
    with pytest.raises(dkde.DataSetError, match=r"begun otherwise: .*content.*found .*globe\.zarr"):
        dkde.run_part(frozen / "runs" / "sphere_half.zarr", 0, 1)
    with pytest.raises(dkde.DataSetError, match=r"begun otherwise: .*content"):
        same_call(frozen, frozen / "runs" / "sphere_half.zarr")


def test_where_it_was_is_looked_at_first_and_other_content_passed_over(tmp_path, monkeypatch):
    # A copy of the whole folder, after which the first one was changed.
    first = tmp_path / "first"
    first.mkdir()
    rng = np.random.default_rng(0)
    monkeypatch.chdir(first)
    np.save("q.npy", rng.normal(size=(10, 2)))
    np.save("x.npy", rng.normal(size=(30, 2)))
    dkde.score("q.npy", "x.npy", 1.0, output="r.zarr")
    shutil.copytree(first, tmp_path / "copy")
    np.save("q.npy", np.ones((10, 2)))
    monkeypatch.chdir(tmp_path)
    assert dkde.verify("copy/r.zarr")["blocks"] == 1
    with pytest.raises(dkde.DataSetError, match="come out different"):
        dkde.verify("first/r.zarr")


class TestMovedRunsOfNow:
    """Runs of now, moved with their data to a folder of another name."""

    @pytest.fixture
    def made(self, tmp_path, monkeypatch):
        """A store of others with weights, whose content is known by times; begun elsewhere."""
        rng = np.random.default_rng(0)
        columns = {name: ("row", rng.normal(size=30)) for name in ("a", "b")}
        columns["w"] = ("row", rng.uniform(1, 2, 30))
        (tmp_path / "first" / "runs").mkdir(parents=True)
        xr.Dataset(columns).to_zarr(tmp_path / "first" / "others.zarr", consolidated=False)
        monkeypatch.chdir(tmp_path)
        return tmp_path

    def call(self, folder, **keywords):
        others = f"{folder}/others.zarr"
        return dkde.score(
            f"{others}[:10]", f"{others}[10:]", [0.5], weights="w", query_weights="w", block_rows=5,
            source=dkde.Catalog(others, ["a", "b"]), output=f"{folder}/runs/r.zarr", **keywords,
        )  # fmt: skip

    @pytest.mark.slow
    def test_parts_and_the_same_call(self, made):
        with dkde.init_only():
            self.call("first")
        os.rename("first", "second")
        dkde.run_part("second/runs/r.zarr", 0, 2)
        self.call("second")
        os.rename("second", "third")
        assert dkde.verify("third/runs/r.zarr")["exact"]
        found = dkde.finish("third/runs/r.zarr")
        whole = dkde.score(
            "third/others.zarr[:10]", "third/others.zarr[10:]", [0.5], weights="w",
            query_weights="w", source=dkde.Catalog("third/others.zarr", ["a", "b"]),
        )  # fmt: skip
        np.testing.assert_allclose(found["log_density"], whole["log_density"], rtol=1e-12)

    @pytest.mark.slow
    def test_a_protocol_finds_how_train_was_shuffled(self, made, monkeypatch):
        takes = {
            "train": Take("train", 0, 20),
            "valid": Take("train", 20, 30),
            "test": Take("test"),
        }
        protocol = replace(PROTOCOLS["scratch2019"], takes=takes, train_rows=20)
        monkeypatch.setitem(PROTOCOLS, "scratch2019", protocol)
        rng = np.random.default_rng(1)
        np.savez("d.npz", train=rng.normal(size=(30, 2)), test=rng.normal(size=(10, 2)))
        dkde.import_dataset("d.npz", "first/d.zarr", shuffle_seed=protocol.shuffle_seed)
        with dkde.init_only():
            dkde.sweep(protocol="scratch2019", source="first/d.zarr", output="first/runs/p.zarr")
        os.rename("first", "second")
        dkde.run_part("second/runs/p.zarr", 0, 1)
        provenance = json.loads(dkde.finish("second/runs/p.zarr").attrs["provenance"])
        assert provenance["options"]["protocol"]["otherwise"] == []

    def test_another_store_of_the_same_name_is_refused(self, made):
        with dkde.init_only():
            self.call("first")
        os.rename("first", "second")
        weights = zarr.open_array("second/others.zarr/w", mode="r+")
        weights[:] = weights[:] + 1
        with pytest.raises(
            dkde.DataSetError, match=r"begun otherwise: .*weights.*others\.zarr at"
        ) as said:
            dkde.run_part("second/runs/r.zarr", 0, 2)
        assert str(said.value).count("others.zarr at") == 1
        assert Remedy("restart") in said.value.message.parts


@pytest.mark.slow
def test_blocks_of_elsewhere_are_held_to_their_bounds(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    np.save("x.npy", rng.normal(size=(30, 2)))
    np.save("q.npy", rng.normal(size=(10, 2)))
    dkde.score("q.npy", "x.npy", 1.0, output="r.zarr")
    assert dkde.verify("r.zarr", anywhere=True)["exact"]
    array = zarr.open_array("r.zarr/log_density", mode="r+")
    then = array[...]
    array[...] = np.nextafter(then, 0)
    with pytest.raises(dkde.DataSetError, match=r"within the bounds .*\(anywhere\)"):
        dkde.verify("r.zarr")
    found = dkde.verify("r.zarr", anywhere=True)
    assert (found["blocks"], found["exact"], found["elsewhere"]) == (1, False, None)
    array[...] = then + 1e-3
    with pytest.raises(dkde.DataSetError, match="come out different"):
        dkde.verify("r.zarr", anywhere=True)
