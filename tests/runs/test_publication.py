"""Publication: a result appears in one step, and a run that was deposed publishes nothing."""

import asyncio
import json
import os
import shutil
import threading
import time
from pathlib import Path
from uuid import uuid4

import numpy as np
import pytest
import xarray as xr

from dkde.errors import DataSetError
from dkde.runs import bucket_publication
from dkde.runs import publication as module
from dkde.runs.bucket_publication import touch_root
from dkde.runs.publication import appear, drafted, is_taken, publish_store
from dkde.runs.store import RESULT_FORMAT, ResultStore
from dkde.stores import renaming


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(params=["flags", "none"])
def system(request, monkeypatch):
    """Systems that can exchange two names in one step, and others."""
    if request.param == "none":
        monkeypatch.setattr(renaming, "_call", lambda: None)
    return request.param


@pytest.fixture
def far(folder, bucket):
    return f"{bucket}/r.zarr"


def result(value, n=40, **more):
    variables = {"log_density": ("sample", np.full(n, float(value)))}
    variables |= {name: ("x", np.full(size, float(value))) for name, size in more.items()}
    return xr.Dataset(variables, attrs={**RESULT_FORMAT, "complete": 1})


def begin(output="r.zarr"):
    """Begin a run, whatever run is there; return the store and its id."""
    store = ResultStore.at(output)
    present = store.run.look()
    plan = {"id": uuid4().hex, "asked": {}, "machine": {}, "call": None}
    number = 0 if present is None else present.number
    assert store.run.begin(plan, number)
    if number and not store.run.is_local:
        touch_root(store, plan["id"])
    return store, plan["id"]


def published(value, output="r.zarr", replaces=False, **more):
    store, run = begin(output)
    publish_store(result(value, **more), store, run, replaces=replaces)
    store.run.finish(run)
    return store


def values(output="r.zarr"):
    with ResultStore.at(output).open() as found:
        return set(found.log_density.values.tolist())


def in_between(monkeypatch, name, action, when="before", module=module):
    """Do something at a step of publication, once."""
    step, done = getattr(module, name), []

    def then(*arguments, **keywords):
        if when == "before" and not done:
            done.append(1)
            action()
        found = step(*arguments, **keywords)
        if when == "after" and not done:
            done.append(1)
            action()
        return found

    monkeypatch.setattr(module, name, then)


class TestFolder:
    def test_a_result_appears_and_nothing_else(self, folder, system):
        published(1)
        assert values() == {1.0}
        assert os.listdir(folder) == ["r.zarr"]

    def test_an_older_one_is_replaced_whole(self, folder, system):
        published(1, old=3)
        published(2, replaces=True, new=4)
        assert values() == {2.0}
        assert set(xr.open_zarr("r.zarr").variables) == {"log_density", "new"}
        assert not Path("r.zarr/old").exists()
        assert os.listdir(folder) == ["r.zarr"]

    def test_it_is_on_the_disk_before_it_appears(self, folder, monkeypatch):
        steps = []
        sync, move, sync_folder = module.sync_tree, module.move, module.sync_folder
        monkeypatch.setattr(module, "sync_tree", lambda path: steps.append("tree") or sync(path))
        monkeypatch.setattr(module, "move", lambda *both: steps.append("move") or move(*both))
        monkeypatch.setattr(
            module, "sync_folder", lambda path: steps.append("folder") or sync_folder(path)
        )
        published(1)
        assert steps == ["tree", "move", "folder"]

    @pytest.mark.parametrize("kind", ["folder", "link", "dead link"])
    def test_into_an_empty_folder_or_where_a_link_leads(self, folder, system, kind):
        if kind == "folder":
            Path("r.zarr").mkdir()
        else:
            Path("large").mkdir()
            if kind == "link":
                Path("large/r.zarr").mkdir()
            Path("r.zarr").symlink_to(folder / "large" / "r.zarr")
        published(1)
        assert values() == {1.0}
        assert Path("r.zarr").is_symlink() == (kind != "folder")
        assert list(Path().rglob("*.run")) == []

    @pytest.mark.slow
    def test_a_reader_sees_the_old_one_or_the_new_one(self, folder):
        """At each moment, and never neither."""
        published(1)
        stop, seen, errors = threading.Event(), set(), []

        def read():
            while not stop.is_set():
                # The root is read by its name anew each time, as another process does.
                try:
                    root = json.loads(Path("r.zarr/zarr.json").read_bytes())
                    assert root["attributes"]["complete"] == 1
                    seen.add(root["attributes"]["value"])
                except Exception as error:
                    errors.append(error)

        marked = lambda value: result(value).assign_attrs(value=value)  # noqa: E731
        store, run = begin()
        publish_store(marked(0), store, run, replaces=True)
        store.run.finish(run)
        thread = threading.Thread(target=read)
        thread.start()
        try:
            for value in range(1, 11):
                store, run = begin()
                publish_store(marked(value), store, run, replaces=True)
                store.run.finish(run)
        finally:
            time.sleep(0.05)
            stop.set()
            thread.join()
        assert errors == []
        assert len(seen) > 3

    def test_the_old_one_stays_readable_until_the_new_one_is_whole(
        self, folder, system, monkeypatch
    ):
        published(1)
        store, run = begin()
        seen = []
        in_between(monkeypatch, "_appear", lambda: seen.append(values()))
        publish_store(result(2), store, run, replaces=True)
        assert seen == [{1.0}]
        assert values() == {2.0}

    @pytest.mark.parametrize("is_there", [False, True])
    def test_a_deposed_run_publishes_nothing(self, folder, system, monkeypatch, is_there):
        """Paused before its last step, after it had made sure that it is the present one."""
        if is_there:
            published(1)
        store, first = begin()
        in_between(monkeypatch, "_appear", begin)
        with pytest.raises(DataSetError, match=r"r\.zarr: was begun anew by another process"):
            publish_store(result(2), store, first, replaces=is_there)
        second = store.run.look().id
        assert second != first
        if is_there:
            assert values() == {1.0}
        else:
            assert not Path("r.zarr").exists()
        publish_store(result(3), store, second, replaces=is_there)
        assert values() == {3.0}

    @pytest.mark.parametrize("step", ["write_result", "sync_tree", "_appear"])
    def test_a_run_that_was_deposed_and_replaced_publishes_nothing(
        self, folder, system, monkeypatch, step
    ):
        """The other has even finished."""
        store, first = begin()
        in_between(monkeypatch, step, lambda: published(3))
        with pytest.raises(DataSetError):
            publish_store(result(2), store, first, replaces=True)
        assert values() == {3.0}
        assert os.listdir(folder) == ["r.zarr"]

    def test_what_is_put_there_meanwhile_stays(self, folder, system, monkeypatch):
        store, run = begin()

        def other():
            Path("r.zarr").mkdir()
            Path("r.zarr/thesis.tex").write_text("all of it")

        in_between(monkeypatch, "move", other)
        with pytest.raises(DataSetError, match=r"r\.zarr: something was put there by another proc"):
            publish_store(result(2), store, run, replaces=False)
        assert os.listdir("r.zarr") == ["thesis.tex"]
        store.run.check_present(run)  # the run is kept

    def test_what_is_changed_in_the_last_moment_stays(self, folder, system, monkeypatch):
        """After the check, before the exchange."""
        published(1)
        store, run = begin()
        note = Path("r.zarr/notes.txt")
        name = "exchange" if system == "flags" else "os"
        if system == "flags":
            in_between(monkeypatch, name, lambda: note.write_text("mine"))
        else:
            rename = os.rename

            def late(source, target):
                if Path(target).name.startswith("older-"):
                    note.write_text("mine")
                rename(source, target)

            monkeypatch.setattr(module.os, "rename", late)
        with pytest.raises(DataSetError, match=r"holds what is no part of the result \(notes\.txt"):
            publish_store(result(2), store, run, replaces=True)
        assert note.read_text() == "mine"
        assert values() == {1.0}

    @pytest.mark.sampled(6)
    @pytest.mark.parametrize("name", [
        "notes.txt", "d.zarr/zarr.json", ".hidden", "log_density/notes.txt", "log_density/c/notes",
        "log_density/c/7", "log_density/c/0.txt", "log_density/mine/zarr.json", "mine/c/0",
    ])  # fmt: skip
    def test_files_of_others_are_not_lost(self, folder, system, name):
        published(1)
        path = Path("r.zarr", name)
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_text("mine")
        store, run = begin()
        with pytest.raises(
            DataSetError, match=r"r\.zarr: holds what is no part of the result \("
        ) as e:
            publish_store(result(2), store, run, replaces=True)
        assert name.partition("/")[0] in str(e.value)
        assert path.read_text() == "mine"
        assert values() == {1.0}
        path.unlink()
        if name.startswith(("d.zarr", "mine")):
            shutil.rmtree(folder / "r.zarr" / name.partition("/")[0])
        publish_store(result(2), store, run, replaces=True)
        assert values() == {2.0}

    @pytest.mark.parametrize("content", ["", "{", "[]", '{"attributes": {"dkde_format": "d/1"}}'])
    def test_what_is_no_result_is_never_replaced(self, folder, system, content):
        store, run = begin()
        Path("r.zarr").mkdir()
        Path("r.zarr/zarr.json").write_text(content)
        with pytest.raises(DataSetError, match=r"r\.zarr: is there already, and i"):
            publish_store(result(2), store, run, replaces=True)
        assert Path("r.zarr/zarr.json").read_text() == content

    def test_a_result_that_another_made_meanwhile_is_not_replaced_unasked(self, folder, system):
        published(1)
        store, run = begin()
        with pytest.raises(DataSetError, match="another process meanwhile put a result there"):
            publish_store(result(2), store, run, replaces=False)
        assert values() == {1.0}

    def test_a_store_of_an_earlier_version_is_replaced_with_its_blocks(self, folder, system):
        published(1)
        Path("r.zarr/run/score").mkdir(parents=True)
        root = json.loads(Path("r.zarr/zarr.json").read_text())
        root["attributes"]["complete"] = 0
        del root["consolidated_metadata"]
        Path("r.zarr/zarr.json").write_text(json.dumps(root))
        published(2, replaces=True)
        assert values() == {2.0}
        assert not Path("r.zarr/run").exists()

    def test_a_place_is_taken_by_anything_but_an_empty_folder(self, folder):
        store = ResultStore.at("r.zarr")
        assert not is_taken(store)
        Path("r.zarr").mkdir()
        assert not is_taken(store)
        Path("r.zarr/x").write_text("")
        assert is_taken(store)


class TestWithoutExchange:
    """Two steps, between which the process may be killed."""

    @pytest.fixture(autouse=True)
    def none(self, monkeypatch):
        monkeypatch.setattr(renaming, "_call", lambda: None)

    def test_where_the_second_step_fails_the_old_one_comes_back(self, folder, monkeypatch):
        published(1)
        store, run = begin()
        move, done = module.move, []

        def full(source, target):
            done.append(source)
            if len(done) == 1:
                raise OSError(28, "No space left on device")
            move(source, target)

        monkeypatch.setattr(module, "move", full)
        with pytest.raises(DataSetError, match="No space left"):
            publish_store(result(2), store, run, replaces=True)
        assert values() == {1.0}
        publish_store(result(2), store, run, replaces=True)
        assert values() == {2.0}

    def test_one_that_was_killed_between_them_is_finished_by_the_same_call(
        self, folder, monkeypatch
    ):
        published(1)
        store, run = begin()

        def killed(*_):
            os.chdir("/")  # whatever it does after this has no effect
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(module, "move", killed)
            with pytest.raises(KeyboardInterrupt):
                publish_store(result(2), store, run, replaces=True)
        os.chdir(folder)
        store.run.check_present(run)
        publish_store(result(2), store, run, replaces=True)
        store.run.finish(run)
        assert values() == {2.0}
        assert os.listdir(folder) == ["r.zarr"]


class TestFiles:
    def test_a_file_appears_whole_or_not_at_all(self, folder, system):
        place, run = begin("r.csv")[0].run, None
        run = place.look().id
        with drafted(place, run, "result.csv") as draft:
            draft.write_text("new")
            appear(draft, folder / "r.csv", place, run, lambda path: None)
        assert Path("r.csv").read_text() == "new"
        place.finish(run)
        assert os.listdir(folder) == ["r.csv"]

    def test_an_older_file_is_replaced_once_it_was_checked(self, folder, system):
        Path("r.csv").write_text("old")
        place = begin("r.csv")[0].run
        run, checked = place.look().id, []
        with drafted(place, run, "result.csv") as draft:
            draft.write_text("new")
            appear(
                draft, folder / "r.csv", place, run, lambda path: checked.append(path.read_text())
            )
        assert Path("r.csv").read_text() == "new"
        assert set(checked) == {"old"}

    @pytest.mark.parametrize("is_there", [False, True])
    def test_a_deposed_run_publishes_no_file(self, folder, system, monkeypatch, is_there):
        if is_there:
            Path("r.csv").write_text("old")
        place = begin("r.csv")[0].run
        run = place.look().id
        in_between(monkeypatch, "_appear", lambda: begin("r.csv"))
        with drafted(place, run, "result.csv") as draft:
            draft.write_text("new")
            with pytest.raises(DataSetError, match=r"r\.csv: was begun anew by another process"):
                appear(draft, folder / "r.csv", place, run, lambda path: None)
        assert Path("r.csv").exists() == is_there
        assert not is_there or Path("r.csv").read_text() == "old"

    def test_the_draft_of_a_process_that_was_killed_is_no_obstacle(self, folder):
        place = begin("r.csv")[0].run
        run = place.look().id
        path = place.records(run).folder / "result"
        path.mkdir()
        (path / "half").write_text("")
        with drafted(place, run, "result") as draft:
            assert not draft.exists()


@pytest.mark.slow
class TestBucket:
    def test_a_result_appears_and_nothing_else(self, far):
        store = published(1, far)
        assert values(far) == {1.0}
        assert all(key.startswith(("zarr.json", "log_density/")) for key in store.records.keys(""))
        assert store.run.look() is None

    def test_an_older_one_stays_readable_until_the_new_one_is_written(self, far):
        published(1, far)
        store, run = begin(far)
        assert values(far) == {1.0}
        assert not store.look().is_complete
        publish_store(result(2), store, run, replaces=True)
        assert values(far) == {2.0}

    def test_no_reader_takes_a_half_for_a_result(self, far, monkeypatch):
        published(1, far)
        store, run = begin(far)
        seen = []
        in_between(
            monkeypatch,
            "write_result",
            lambda: seen.append(store._attributes()["complete"]),
            "after",
            bucket_publication,
        )
        publish_store(result(2), store, run, replaces=True)
        assert seen == [0]
        assert values(far) == {2.0}

    @pytest.mark.parametrize("is_there", [False, True])
    @pytest.mark.parametrize("step", ["write_result", "_check_root", "writing"])
    def test_a_deposed_run_publishes_nothing(self, far, monkeypatch, step, is_there):
        if is_there:
            published(1, far)
        elif step == "_check_root":
            pytest.skip("there is no root to be checked")
        store, first = begin(far)
        when = "after" if step == "write_result" else "before"
        in_between(monkeypatch, step, lambda: begin(far), when, bucket_publication)
        with pytest.raises(DataSetError, match="another process"):
            publish_store(result(2), store, first, replaces=is_there)
        second = store.run.look().id
        assert second != first
        assert not store._attributes().get("complete") or values(far) == {1.0}
        publish_store(result(3), store, second, replaces=is_there)
        assert values(far) == {3.0}

    @pytest.mark.parametrize("step", ["write_result", "writing"])
    def test_a_run_that_was_deposed_and_replaced_publishes_nothing(self, far, monkeypatch, step):
        """The other has even finished, while this one was paused."""
        published(1, far)
        store, first = begin(far)

        def other():
            published(3, far, replaces=True)

        in_between(monkeypatch, step, other, "before", bucket_publication)
        with pytest.raises(DataSetError):
            publish_store(result(2), store, first, replaces=True)
        assert values(far) == {3.0}

    # One that is made again as it was before has the identity that the paused writer knows.
    @pytest.mark.parametrize("value", [3, 1])
    def test_paused_within_its_chunks(self, far, monkeypatch, value):
        """Each chunk is written only where the bucket holds what it held before."""
        published(1, far)
        store, first = begin(far)
        put, done = bucket_publication._Objects.set, []

        async def paused(self, key, content):
            if "/c/" in key and not done:
                done.append(key)
                await asyncio.to_thread(published, value, far, True)
            await put(self, key, content)

        with monkeypatch.context() as patch:
            patch.setattr(bucket_publication._Objects, "set", paused)
            with pytest.raises(DataSetError):
                publish_store(result(2), store, first, replaces=True)
        assert done
        assert values(far) == {value}

    def test_two_publishers_of_one_run_make_one_result(self, far):
        _, run = begin(far)
        errors = []

        def publish():
            try:
                publish_store(result(2), ResultStore.at(far), run, replaces=False)
            except DataSetError as error:
                errors.append(error)

        threads = [threading.Thread(target=publish) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(errors) < 2
        assert values(far) == {2.0}

    def test_what_is_no_result_is_never_replaced(self, far):
        store, run = begin(far)
        store.records.put("zarr.json", b'{"attributes": {"dkde_format": "dataset/1"}}')
        with pytest.raises(DataSetError, match="is there already, and is no result of dkde"):
            publish_store(result(2), store, run, replaces=True)
        assert store.records.keys("") == ["zarr.json"]
        assert is_taken(store)

    def test_one_that_was_killed_is_finished_by_the_same_run(self, far, monkeypatch):
        store, run = begin(far)

        def killed(*_):
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(bucket_publication, "write_result", killed)
            with pytest.raises(KeyboardInterrupt):
                publish_store(result(2), store, run, replaces=False)
        assert not store.look().is_complete
        publish_store(result(2), store, run, replaces=False)
        assert values(far) == {2.0}
