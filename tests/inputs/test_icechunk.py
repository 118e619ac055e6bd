"""Icechunk repositories as sides: by name and as sessions, at a snapshot that stays what it is."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import reference
import xarray as xr
from click.testing import CliRunner
from dkde_cli.main import cli
from numpy.testing import assert_allclose, assert_array_equal

import dkde
from dkde.inputs.opening import open_source
from dkde.stores.repositories import divided, is_icechunk, plain

icechunk = pytest.importorskip("icechunk")

icechunk.set_logs_filter("error")
H = 0.6
FEATURES = {"train": ["a", "b"]}


def rows(n_rows, seed, shift=0.0):
    return np.random.default_rng(seed).normal(size=(n_rows, 2)) + shift


def dataset(values):
    return xr.Dataset({"a": ("row", values[:, 0]), "b": ("row", values[:, 1])})


def repository(path="R"):
    return icechunk.Repository.create(icechunk.local_filesystem_storage(str(path)))


def commit(repository, values, chunk=37):
    session = repository.writable_session("main")
    session.store.sync_clear()
    encoding = {name: {"chunks": (chunk,)} for name in "ab"}
    dataset(values).to_zarr(session.store, consolidated=False, encoding=encoding)
    return session.commit("rows")


@pytest.fixture
def made(tmp_path, monkeypatch):
    """A repository of two commits, the first with a tag, and the rows of both."""
    monkeypatch.chdir(tmp_path)
    first, second = rows(300, 0), rows(180, 1, 1.0)
    found = repository()
    snapshot = commit(found, first)
    found.create_tag("v1", snapshot)
    commit(found, second)
    np.save("q.npy", rows(25, 2))
    return found, snapshot, first, second


def score(train, **options):
    return dkde.score("q.npy", train, H, features=FEATURES, **options)


def values(train, **options):
    return score(train, **options).log_density.values[0]


def expected(train):
    return dkde.log_density(np.load("q.npy"), train, H)


class TestNames:
    def test_a_version_stands_behind_the_last_mark(self):
        assert divided("icechunk://a@b/R@v1") == ("a@b/R", "v1")
        assert divided("a@b/R") == ("a@b/R", None)
        assert divided("R@v1::train") == ("R@v1::train", None)  # a version, and a group in it
        assert plain("icechunk:///data/R") == "/data/R"
        assert is_icechunk("icechunk://s3://bucket/R")

    def test_a_folder_whose_own_name_holds_the_mark(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        repository("R@1")
        Path("S@1").touch()
        assert divided("R@1") == ("R@1", None)
        assert is_icechunk("R@1")
        assert is_icechunk("R@1@main")
        assert not is_icechunk("S@1")

    def test_credentials_are_refused_all_the_same(self):
        with pytest.raises(dkde.InputError, match="holds a name, a password"):
            dkde.score("x.npy", "icechunk://s3://me:secret@bucket/R", H)


class TestSides:
    @pytest.mark.parametrize("name", ["R", "R@main", "icechunk://R", "icechunk://{here}/R@main"])
    def test_a_branch_is_what_it_holds_now(self, made, name):
        *_, second = made
        assert_array_equal(values(name.format(here=os.getcwd())), expected(second))

    @pytest.mark.parametrize("name", ["R@v1", "R@{snapshot}", "icechunk://R@v1"])
    def test_a_tag_and_a_snapshot_stay(self, made, name):
        _, snapshot, first, _ = made
        assert_array_equal(values(name.format(snapshot=snapshot)), expected(first))

    @pytest.mark.parametrize("seed", range(3))
    def test_any_shape_and_chunks_equal_the_naive_loop(self, tmp_path, monkeypatch, seed):
        monkeypatch.chdir(tmp_path)
        chance = np.random.default_rng(seed)
        train, query = (rows(int(n), seed, 3.0) for n in chance.integers(5, 60, 2))
        weights = chance.uniform(0.5, 2, len(train))
        session = (found := repository()).writable_session("main")
        data = dataset(train).assign(w=("row", weights))
        chunks = {name: {"chunks": (int(chance.integers(1, 20)),)} for name in ("a", "b", "w")}
        data.to_zarr(session.store, consolidated=False, encoding=chunks)
        session.commit("rows")
        got = dkde.log_density(query, "R", H, features=FEATURES, weights="w", block_rows=7)
        want = reference.log_density(query, train, [H], weights)[0]
        assert_allclose(got, np.array(want, float), rtol=1e-9)
        opened = xr.open_zarr(found.readonly_session("main").store, consolidated=False)
        assert_array_equal(
            dkde.log_density(query, opened, H, features=FEATURES, weights="w", block_rows=7), got
        )

    @pytest.mark.parametrize("name", ["G::train", "G@v1::train", "icechunk://G@v1::train"])
    def test_a_group_of_a_version(self, tmp_path, monkeypatch, name):
        monkeypatch.chdir(tmp_path)
        (session := (found := repository("G")).writable_session("main")).store.sync_clear()
        train = rows(60, 3)
        dataset(train).to_zarr(session.store, group="train", consolidated=False)
        found.create_tag("v1", session.commit("rows"))
        np.save("q.npy", rows(25, 2))
        assert_array_equal(values(name), expected(train))
        assert_array_equal(values(f"{name}[:9]"), expected(train[:9]))

    @pytest.mark.parametrize(("name", "what"), [
        ("R", "R: the branch main"), ("R::train", "R: the branch main"), ("R@v0", "R: v0"),
        ("icechunk://R", "R: the branch main"), (None, "the Icechunk session"),
    ])  # fmt: skip
    def test_a_repository_that_holds_nothing_is_refused(self, tmp_path, monkeypatch, name, what):
        monkeypatch.chdir(tmp_path)
        session = (found := repository("R")).readonly_session("main")
        found.create_tag("v0", session.snapshot_id)
        np.save("q.npy", rows(25, 2))
        with pytest.raises(dkde.DataSetError, match=f"^{what} holds nothing yet$"):
            score(session if name is None else name)

    def test_sessions_stores_and_their_datasets(self, made):
        found, _, first, _ = made
        session = found.readonly_session(tag="v1")
        opened = xr.open_zarr(session.store, consolidated=False)
        for side in (session, session.store, opened):
            assert_array_equal(dkde.log_density(np.load("q.npy"), side, H, features=FEATURES),
                               expected(first))  # fmt: skip

    def test_a_session_that_may_write_is_refused(self, made):
        found, *_ = made
        with pytest.raises(dkde.InputError, match="session may write"):
            score(found.writable_session("main"))
        with pytest.raises(dkde.InputError, match="a Repository of Icechunk holds no rows"):
            score(found)

    def test_commands_take_them(self, made):
        result = CliRunner().invoke(cli, ["info", "R@v1", "--json"])
        assert '"rows": 300' in result.output, result.output
        asked = ["plan", "R@v1", "--query", "R@main", "--features", "a,b", "--bandwidths", "0.6"]
        result = CliRunner().invoke(cli, asked)
        assert result.exit_code == 0, result.output

    @pytest.mark.slow
    def test_workers_open_the_snapshot_of_the_plan(self, made):
        *_, second = made
        with dkde.connect(workers=2):
            assert_array_equal(values("R", block_rows=5), expected(second))


class TestFingerprints:
    def test_are_the_snapshot_and_read_no_chunk(self, made):
        _, snapshot, *_ = made
        by_name = open_source("R@v1", ("a", "b"))[""].source.stamp()
        shutil.rmtree("R/chunks", ignore_errors=True)  # small ones lie in the manifest
        assert by_name == open_source(f"R@{snapshot}", ("a", "b"))[""].source.stamp()
        assert snapshot in str(by_name)
        assert by_name != open_source("R", ("a", "b"))[""].source.stamp()

    @pytest.mark.parametrize("chunks", [{}, None])
    def test_of_datasets_read_no_chunk(self, tmp_path, monkeypatch, chunks):
        monkeypatch.chdir(tmp_path)
        np.save("q.npy", rows(25, 2))
        found, reads = repository(), []
        commit(found, rows(5000, 0), chunk=2500)
        get = icechunk.IcechunkStore.get

        async def noted(self, key, *arguments, **options):
            reads.append(key)
            return await get(self, key, *arguments, **options)

        monkeypatch.setattr(icechunk.IcechunkStore, "get", noted)
        store = found.readonly_session("main").store
        side = xr.open_zarr(store, consolidated=False, chunks=chunks)
        score(side, output="r.zarr")
        n_chunks = sum("/c/" in key for key in reads)
        score(side, output="r.zarr")  # it is complete: its data are compared alone
        assert sum("/c/" in key for key in reads) == n_chunks
        other = side.isel(row=slice(1, None))
        with pytest.raises(dkde.DataSetError, match="was begun otherwise"):
            score(other, output="r.zarr")

    @pytest.mark.slow
    def test_a_branch_that_has_moved_is_another_side(self, made):
        found, *_ = made
        score("R", output="r.zarr")
        commit(found, rows(180, 7))
        with pytest.raises(dkde.DataSetError, match=r"was begun otherwise: .*train"):
            score("R", output="r.zarr")
        score("R@v1", output="s.zarr")
        commit(found, rows(180, 8))
        assert score("R@v1", output="s.zarr").attrs["complete"] == 1

    def test_move_with_the_result(self, made, tmp_path):
        score("icechunk://R@v1", output="r.zarr")
        os.chdir("/")
        shutil.move(tmp_path, tmp_path.with_name("moved"))
        assert dkde.verify(tmp_path.with_name("moved") / "r.zarr")["blocks"] == 1


class TestWhatIsGone:
    @pytest.mark.parametrize("name", ["R@v2", "R@1CECHNKREP0F1RSTCMTX"])
    def test_a_version(self, made, name):
        with pytest.raises(dkde.DataSetError, match=r"R: has no branch, tag or snapshot") as raised:
            score(name)
        assert "its branches are main, its tags v1" in str(raised.value)

    def test_a_repository(self, made):
        with pytest.raises(dkde.DataSetError, match="none: there is no Icechunk repository"):
            score("icechunk://none")

    def test_a_snapshot_behind_a_tag(self, made):
        _, snapshot, *_ = made
        Path("R/snapshots", snapshot).unlink()
        with pytest.raises(dkde.DataSetError, match="the snapshot is gone") as raised:
            score("R@v1")
        assert "\n" not in str(raised.value)

    @pytest.mark.parametrize("chunks", ["by name", {}, None])
    def test_chunks(self, tmp_path, monkeypatch, chunks):
        monkeypatch.chdir(tmp_path)
        np.save("q.npy", rows(25, 2))
        found = repository()
        commit(found, rows(5000, 0), chunk=2500)
        side = "R"
        if chunks != "by name":
            store = found.readonly_session("main").store
            side = xr.open_zarr(store, consolidated=False, chunks=chunks)
        for path in Path("R/chunks").iterdir():
            path.unlink()
        with pytest.raises(Exception, match=r"not found|part of the snapshot is gone") as e:
            values(side)
        if chunks != {}:  # of Dask's graphs the errors are the user's own
            assert isinstance(e.value, dkde.DataSetError)
            assert "\n" not in str(e.value)


class TestResultsOfOthers:
    """A result that somebody else made names a repository: it must lie beside the result."""

    @pytest.mark.slow
    @pytest.mark.parametrize("name", ["{here}/R@v1", "icechunk://{here}/R@v1"])
    def test_one_elsewhere_is_not_opened(self, made, tmp_path, monkeypatch, name):
        other = tmp_path / "other"
        other.mkdir()
        score(name.format(here=tmp_path), output=other / "r.zarr")
        shutil.copytree(other / "r.zarr", tmp_path.parent / "unpacked/r.zarr")
        monkeypatch.setattr("dkde.inputs.trusted.is_own", lambda store: False)
        with pytest.raises(dkde.InputError, match="named by the result"):
            dkde.verify(tmp_path.parent / "unpacked/r.zarr")
        shutil.rmtree(tmp_path.parent / "unpacked")

    @pytest.mark.slow
    def test_one_beside_it_holds_no_link_out(self, made, tmp_path, monkeypatch):
        score("R@v1", output="r.zarr")
        monkeypatch.setattr("dkde.inputs.trusted.is_own", lambda store: False)
        assert dkde.verify("r.zarr")["blocks"] == 1
        (tmp_path / "R/link").symlink_to("/etc")
        with pytest.raises(dkde.InputError, match="a link to /etc"):
            dkde.verify("r.zarr")
