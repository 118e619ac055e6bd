"""Icechunk repositories as outputs: a result is one commit, and a run beside it is as ever."""

import os
from pathlib import Path

import numpy as np
import pytest
import zarr
from click.testing import CliRunner
from dkde_cli.main import cli
from numpy.testing import assert_array_equal

import dkde
from dkde.runs.opened import opened_result
from dkde.runs.place import RunPlace

icechunk = pytest.importorskip("icechunk")
repository_publication = pytest.importorskip("dkde.runs.repository_publication")

icechunk.set_logs_filter("error")
H = [0.5, 1.0]


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(3)
    np.save("q.npy", rng.normal(size=(40, 3)))
    np.save("x.npy", rng.normal(size=(300, 3)))


def score(output=None, bandwidth=H, **options):
    return dkde.score("q.npy", "x.npy", bandwidth, output=output, block_rows=10, **options)


def opened(path="r.icechunk"):
    return icechunk.Repository.open(icechunk.local_filesystem_storage(str(path)))


def commits(branch="main", path="r.icechunk"):
    return [each.id for each in opened(path).ancestry(branch=branch)]


def command(*arguments, status=0):
    result = CliRunner().invoke(cli, [str(argument) for argument in arguments])
    assert result.exit_code == status, result.output
    return result


def killed(*_, **__):
    raise KeyboardInterrupt


class TestResults:
    @pytest.mark.sampled(3)
    @pytest.mark.parametrize("name", ["r.icechunk", "icechunk://r.icechunk", "r.icechunk@main"])
    def test_are_one_commit_and_nothing_beside_it(self, name):
        found = score(name)
        assert_array_equal(found.log_density, score().log_density)
        assert len(commits()) == 2  # the first of every repository is empty
        assert sorted(os.listdir()) == ["q.npy", "r.icechunk", "x.npy"]
        assert_array_equal(score(name).log_density, found.log_density)  # read again
        assert len(commits()) == 2
        assert dkde.verify(name, blocks="all")["blocks"] == 4
        assert dkde.status(name)["complete"]

    @pytest.mark.slow
    def test_that_are_replaced_stay_in_the_history(self):
        first = score("r.icechunk")
        with pytest.raises(dkde.DataSetError, match="was begun otherwise"):
            score("r.icechunk", [2.0, 3.0])
        second = score("r.icechunk", [2.0, 3.0], restart=True)
        now, before, _ = commits()
        for snapshot, result in ((now, second), (before, first)):
            found = opened_result(f"r.icechunk@{snapshot}")
            assert_array_equal(found.log_density, result.log_density)
            assert dkde.verify(f"r.icechunk@{snapshot}")["blocks"] > 0

    @pytest.mark.sampled(4)
    @pytest.mark.filterwarnings("ignore::UserWarning")
    @pytest.mark.parametrize("kind", ["sweep", "cv", "groups", "map"])
    def test_of_other_calls(self, kind):
        def call(output=None):
            if kind == "sweep":
                return dkde.sweep(train="x.npy", valid="q.npy", bandwidths=H, output=output)
            if kind == "cv":
                return dkde.cross_validate("x.npy", bandwidths=H, folds=3, output=output)
            if kind == "map":
                cells = {"cells": 8, "bandwidth": 1.0, "output": output}
                return dkde.density_map(np.load("x.npy")[:, :2], **cells)
            found = {"by": "label", "source": "digits", "output": output}
            return dkde.score("test[:9]", "train[:300]", 2.0, **found)

        result, expected = call("r.icechunk"), call()
        for name in expected.variables:
            assert_array_equal(result[name].values, expected[name].values)
        if kind != "map":  # of arrays in memory no call is recorded
            assert dkde.verify("r.icechunk")["blocks"] > 0

    @pytest.mark.slow
    def test_commands(self):
        asked = ["x.npy", "--query", "q.npy", "--bandwidth", "0.5,1", "--output", "r.icechunk"]
        command("score", *asked)
        assert "complete" in command("status", "r.icechunk").output
        for each in ("verify", "finish"):
            assert "r.icechunk" in command(each, "r.icechunk").output
        assert 'output = "r.icechunk"' in command("status", "r.icechunk", "--config").output
        assert "nothing is left over" in command("clean", ".").output
        command("report", "r.icechunk", "-o", "r.html")
        assert Path("r.html").stat().st_size
        assert "is a result of dkde" in command("info", "r.icechunk", status=2).output

    def test_in_parts(self):
        with dkde.init_only():
            score("r.icechunk")
        assert sorted(os.listdir()) == ["q.npy", "r.icechunk.run", "x.npy"]
        for part in range(2):
            dkde.run_part("r.icechunk", part, 2)
        assert_array_equal(dkde.finish("r.icechunk.run").log_density, score().log_density)
        assert dkde.status("r.icechunk")["complete"]

    @pytest.mark.slow
    def test_of_workers(self):
        with dkde.connect(workers=2):
            assert_array_equal(score("r.icechunk").log_density, score().log_density)

    @pytest.mark.slow
    def test_in_a_bucket(self, bucket):
        pytest.importorskip("boto3")
        expected, output = score(), f"{bucket}/r.icechunk"
        assert_array_equal(score(output).log_density, expected.log_density)
        assert_array_equal(score(output).log_density, expected.log_density)
        score(output, 2.0, restart=True)
        assert dkde.verify(f"icechunk://{output}", trust_sources=True)["blocks"] > 0
        assert dkde.clean(output) == []


class TestBranches:
    @pytest.mark.slow
    def test_take_results_of_their_own(self):
        score("r.icechunk")
        found = opened()
        found.create_branch("other", commits()[-1])
        other = score("r.icechunk@other", 2.0)
        assert_array_equal(score("r.icechunk").log_density, score().log_density)
        assert_array_equal(score("r.icechunk@other", 2.0).log_density, other.log_density)

    @pytest.mark.parametrize("name", ["r.icechunk@nope", "r.icechunk@v1", "new.icechunk@b"])
    def test_that_are_none_take_no_result(self, name):
        score("r.icechunk")
        opened().create_tag("v1", commits()[0])
        with pytest.raises(
            dkde.InputError, match=r"is committed to a branch, .* branches are main"
        ):
            score(name)

    def test_that_hold_something_else_are_left_alone(self):
        storage = icechunk.local_filesystem_storage("r.icechunk")
        session = icechunk.Repository.create(storage).writable_session("main")
        zarr.create_array(session.store, name="x", data=np.zeros(3))
        session.commit("something else")
        for options in ({}, {"restart": True}):
            with pytest.raises(dkde.DataSetError, match="is no result of dkde; give another name"):
                score("r.icechunk", **options)
        assert len(commits()) == 2

    def test_that_moved_meanwhile_are_left_alone(self, monkeypatch):
        score("r.icechunk")
        write = repository_publication.write_result

        def overtaken(*arguments):
            write(*arguments)
            session = opened().writable_session("main")
            zarr.create_array(session.store, name="mine", data=np.zeros(3))
            session.commit("overtaken")

        monkeypatch.setattr(repository_publication, "write_result", overtaken)
        with pytest.raises(dkde.DataSetError, match="another process meanwhile wrote there"):
            score("r.icechunk", 2.0, restart=True)
        assert opened().lookup_branch("main") == commits()[0]
        assert len(commits()) == 3


class TestPlaces:
    def test_a_new_name_without_the_suffix_is_refused(self):
        with pytest.raises(dkde.InputError, match=r"a new one needs .*: new\.icechunk"):
            score("icechunk://new")

    def test_a_repository_of_any_name(self):
        icechunk.Repository.create(icechunk.local_filesystem_storage("own"))
        score("own")
        assert len(commits(path="own")) == 2

    def test_a_folder_of_something_else(self):
        Path("r.icechunk").mkdir()
        Path("r.icechunk/notes.txt").touch()
        with pytest.raises(dkde.DataSetError, match="is no result of dkde; give another name"):
            score("r.icechunk")

    def test_an_empty_folder(self):
        Path("r.icechunk").mkdir()
        assert_array_equal(score("r.icechunk").log_density, score().log_density)

    def test_without_the_library(self, monkeypatch):
        monkeypatch.setitem(__import__("sys").modules, "dkde.stores.snapshots", None)
        with pytest.raises(
            dkde.InputError, match=r'needs icechunk; pip install "dkde\[icechunk\]"'
        ):
            score("r.icechunk")


class TestKills:
    def test_before_the_commit_nothing_is_visible(self, monkeypatch):
        with monkeypatch.context() as patch:
            patch.setattr(icechunk.Repository, "reset_branch", killed)
            with pytest.raises(KeyboardInterrupt):
                score("r.icechunk")
        assert not Path("r.icechunk").exists()
        assert dkde.status("r.icechunk")["stages"]["score"]["done"] == 4
        calls = []
        found = score("r.icechunk", progress=lambda *pairs: calls.append(pairs))
        assert_array_equal(found.log_density, score().log_density)
        assert len(calls) <= 1

    @pytest.mark.slow
    def test_before_a_second_commit_the_first_is_visible(self, monkeypatch):
        first = score("r.icechunk").log_density.values
        with monkeypatch.context() as patch:
            patch.setattr(icechunk.Repository, "reset_branch", killed)
            with pytest.raises(KeyboardInterrupt):
                score("r.icechunk", 2.0, restart=True)
        assert len(commits()) == 2
        assert_array_equal(opened_result("r.icechunk@main").log_density, first)
        second = score("r.icechunk", 2.0)
        assert_array_equal(second.log_density, score(bandwidth=2.0).log_density)
        assert len(commits()) == 3

    def test_after_the_commit_the_same_call_clears_up(self, monkeypatch):
        with monkeypatch.context() as patch:
            patch.setattr(RunPlace, "finish", killed)
            with pytest.raises(KeyboardInterrupt):
                score("r.icechunk")
        assert Path("r.icechunk.run").exists()
        assert dkde.status("r.icechunk")["complete"]
        score("r.icechunk")
        assert sorted(os.listdir()) == ["q.npy", "r.icechunk", "x.npy"]

    @pytest.mark.slow
    def test_a_run_that_was_begun_anew_commits_nothing(self, monkeypatch):
        write = repository_publication.write_result
        score("r.icechunk")
        patch = pytest.MonkeyPatch()

        def deposed(*arguments):
            patch.undo()
            write(*arguments)
            # As where the first process was paused until its heartbeat was too old.
            with monkeypatch.context() as other:
                other.setattr("dkde.runs.sessions.Ledger.at_work", lambda self, **_: [])
                score("r.icechunk", 2.0, restart=True)

        patch.setattr(repository_publication, "write_result", deposed)
        with pytest.raises(dkde.DataSetError, match=r"was removed while|begun anew by another"):
            score("r.icechunk", 3.0, restart=True)
        assert len(commits()) == 3
        assert_array_equal(opened_result("r.icechunk").bandwidth, [2.0])


class TestExtensions:
    @pytest.fixture(autouse=True)
    def result(self):
        np.save("more.npy", np.random.default_rng(1).normal(size=(50, 3)))
        return score("r.icechunk")

    @pytest.mark.sampled(3)
    @pytest.mark.parametrize(
        ("name", "output"),
        [
            ("icechunk://r.icechunk", None),
            ("r.icechunk", "r.icechunk@main"),
            ("r.icechunk@main", "icechunk://r.icechunk/"),
        ],
    )
    def test_replace_the_result_by_whatever_name(self, name, output):
        found = dkde.extend(name, train="more.npy", output=output)
        assert_array_equal(opened_result("r.icechunk").log_density, found.log_density)
        assert len(commits()) == 3
        with pytest.raises(dkde.InputError, match="already"):
            dkde.extend(name, train="more.npy", output=output)

    @pytest.mark.slow
    def test_of_a_snapshot_need_another_place(self):
        snapshot = commits()[0]
        with pytest.raises(dkde.DkdeError, match=snapshot):
            dkde.extend(f"r.icechunk@{snapshot}", train="more.npy")
        opened().create_branch("more", snapshot)
        first = opened_result("r.icechunk").log_density.load()
        dkde.extend("r.icechunk@more", train="more.npy")
        assert_array_equal(opened_result("r.icechunk").log_density, first)
        assert len(commits("more")) == 3

    @pytest.mark.slow
    def test_in_a_bucket(self, bucket):
        place = f"icechunk://{bucket}/R"
        score(place)
        found = dkde.extend(place, train="more.npy", trust_sources=True)
        assert_array_equal(opened_result(place).log_density, found.log_density)


def test_damage_is_found():
    score("r.icechunk")
    manifest = next(Path("r.icechunk/manifests").iterdir())
    content = bytearray(manifest.read_bytes())
    content[len(content) // 2] ^= 1
    manifest.write_bytes(content)
    result = command("verify", "r.icechunk", status=2)
    assert "r.icechunk" in result.output
    assert len(result.output.strip().splitlines()) == 1
