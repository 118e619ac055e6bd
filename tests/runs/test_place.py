"""The place of a run: one begins it, and one that was deposed is heard by nobody."""

import json
import os
import subprocess
import sys
import threading
from uuid import uuid4

import pytest

from dkde.errors import DataSetError, Remedy
from dkde.runs import place as module
from dkde.runs.marks import PLAN, Marks
from dkde.runs.place import RunPlace
from dkde.stores.store import Records


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(params=["folder", pytest.param("bucket", marks=pytest.mark.slow)])
def output(request, folder):
    return "r.zarr" if request.param == "folder" else f"{request.getfixturevalue('bucket')}/r.zarr"


def plan(number=0):
    return {"id": uuid4().hex, "asked": {}, "machine": {}, "call": None, "of": number}


def begun(output="r.zarr", after=0):
    made = plan()
    place = RunPlace(output)
    assert place.begin(made, after)
    return place, made["id"]


def below(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


class TestBegin:
    def test_nothing_is_there_at_first(self, output):
        place = RunPlace(output)
        assert place.look() is None
        assert place.leftovers() == []
        place.check_free()

    def test_a_run_is_there_once_it_was_begun(self, output):
        place, run = begun(output)
        for each in (place, RunPlace(output), RunPlace(f"{output}.run")):
            present = each.look()
            assert (present.number, present.id) == (1, run)
            assert present.content["asked"] == {}
            assert each.leftovers() == []
            each.check_present(run)
        assert json.loads(place.records(run).get(PLAN)) == present.content

    def test_where_the_files_lie(self, folder):
        _, run = begun()
        assert set(below(folder)) == {f"r.zarr.run/{run}/plan.json", "r.zarr.run/dkde-run-1.json"}

    def test_beside_the_target_of_a_link(self, folder):
        (folder / "large").mkdir()
        (folder / "r.zarr").symlink_to(folder / "large" / "r.zarr")
        begun()
        assert (folder / "large" / "r.zarr.run" / "dkde-run-1.json").is_file()

    def test_one_that_is_begun_anew_has_the_next_number(self, output):
        place, first = begun(output)
        place.records(first).make("score")
        place.records(first).put("score/x", b"")
        _, second = begun(output, after=1)
        present = place.look()
        assert (present.number, present.id) == (2, second)
        assert not place.records(first).has("score/x")
        assert place.leftovers() == []
        with pytest.raises(DataSetError, match=r"r\.zarr: was begun anew by another process"):
            place.check_present(first)

    def test_of_many_threads_one_begins(self, output):
        plans, barrier, won = [plan(i) for i in range(8)], threading.Barrier(8), []

        def begin(made):
            place = RunPlace(output)
            barrier.wait()
            if place.begin(made, 0):
                won.append(made["id"])

        threads = [threading.Thread(target=begin, args=(made,)) for made in plans]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(won) == 1
        assert RunPlace(output).look().id == won[0]
        RunPlace(output).check_present(won[0])

    @pytest.mark.slow
    def test_of_many_processes_one_begins_each_time(self, folder):
        code = (
            "import sys\n"
            "from uuid import uuid4\n"
            "from dkde.runs.place import RunPlace\n"
            "sys.stdin.readline()\n"
            "for number in range(30):\n"
            "    run = uuid4().hex\n"
            "    try:\n"
            "        if RunPlace('r.zarr').begin({'id': run}, number):\n"
            "            print(number, flush=True)\n"
            "    except Exception as error:\n"
            "        assert 'was begun anew' in str(error), error\n"
            "        print(number, flush=True)\n"
        )
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        processes = [subprocess.Popen([sys.executable, "-c", code], **pipes) for _ in range(4)]
        for process in processes:
            process.stdin.write("\n")
            process.stdin.flush()
        won = [int(line) for each in processes for line in each.communicate(timeout=120)[0].split()]
        assert all(process.returncode == 0 for process in processes)
        # The last number was begun once, and that run is the present one, whole.
        assert won.count(29) == 1
        present = RunPlace("r.zarr").look()
        assert present.number == 30
        RunPlace("r.zarr").check_present(present.id)

    def test_one_that_begins_late_does_no_harm(self, output):
        """It had looked before the others, and the number that it found free is free again."""
        place, _ = begun(output)
        _, second = begun(output, after=1)
        with pytest.raises(DataSetError, match="was begun anew by another process"):
            place.begin(plan(), 0)
        place.check_present(second)
        RunPlace(output).set_up(second)
        assert place.look().id == second
        assert place.leftovers() == []

    def test_one_that_goes_on_late_does_no_harm(self, output):
        """It had found the former run before another began anew."""
        place, first = begun(output)
        _, second = begun(output, after=1)
        with pytest.raises(DataSetError, match="was begun anew by another process"):
            place.set_up(first)
        place.check_present(second)

    def test_one_that_is_begun_while_another_goes_on_stays(self, output, monkeypatch):
        """In the moment between its look at the present run and what it gives up."""
        place, first = begun(output)
        look, later = RunPlace.look, []

        def looked(self):
            found = look(self)
            if self is place and not later:
                later.append(None)
                later.append(begun(output, after=1)[1])
            return found

        with monkeypatch.context() as patch:
            patch.setattr(RunPlace, "look", looked)
            place.set_up(first)
        assert look(RunPlace(output)).id == later[1]
        assert RunPlace(output).records(later[1]).has(PLAN)

    def test_what_a_process_that_was_killed_left_undone_is_done(self, output, monkeypatch):
        place, first = begun(output)

        def killed(*arguments):
            raise KeyboardInterrupt

        made = plan()
        with monkeypatch.context() as patch:
            patch.setattr(RunPlace, "set_up", killed)
            with pytest.raises(KeyboardInterrupt):
                place.begin(made, 1)
        assert place.look().id == made["id"]
        assert place.leftovers() == [first]
        place.set_up(made["id"])
        place.check_present(made["id"])
        assert place.leftovers() == []
        assert not place.records(first).has(PLAN)

    @pytest.mark.parametrize("name", ["thesis.tex", "run.json", "sub/dkde-run-1.json"])
    def test_a_folder_of_something_else_is_left_alone(self, folder, name):
        path = folder / "r.zarr.run" / name
        path.parent.mkdir(parents=True)
        path.write_text("all of it")
        with pytest.raises(
            DataSetError, match=r"r\.zarr\.run: is there already, and is no run of dkde; move it"
        ):
            RunPlace("r.zarr").begin(plan(), 0)
        assert below(folder) == [f"r.zarr.run/{name}"]
        assert RunPlace("r.zarr").leftovers() == []

    def test_files_of_others_in_the_folder_of_a_run_stay(self, folder):
        place, _ = begun()
        (folder / "r.zarr.run" / "notes.txt").write_text("mine")
        begun(after=1)
        place.finish(place.look().id)
        assert below(folder) == ["r.zarr.run/notes.txt"]


class TestDamage:
    @pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff", b"[" * 10_000])
    def test_a_damaged_mark_is_read_from_the_copy(self, folder, content):
        place, run = begun()
        expected = place.look()
        (folder / "r.zarr.run/dkde-run-1.json").write_bytes(content)
        assert place.look() == expected
        place.check_present(run)

    @pytest.mark.parametrize("kind", ["folder", "link"])
    def test_a_mark_that_is_no_file_is_damaged(self, folder, kind):
        place, run = begun()
        expected, mark = place.look(), folder / "r.zarr.run/dkde-run-1.json"
        mark.unlink()
        mark.mkdir() if kind == "folder" else mark.symlink_to("nowhere")
        assert place.look() == expected
        assert place.restore(expected)
        assert mark.is_file()
        assert not mark.is_symlink()
        mark.unlink()
        mark.mkdir() if kind == "folder" else mark.symlink_to("nowhere")
        (folder / "r.zarr.run" / run / PLAN).write_bytes(b"")
        assert isinstance(place.look().content, DataSetError)
        _, run = begun(after=1)
        place.finish(run)
        assert below(folder) == []

    def test_a_folder_of_a_user_in_place_of_a_mark_stays(self, folder):
        place, run = begun()
        mark = folder / "r.zarr.run/dkde-run-1.json"
        mark.unlink()
        mark.mkdir()
        (mark / "notes.txt").write_text("mine")
        for call in (lambda: place.set_up(run), lambda: place.begin(plan(), 1)):
            with pytest.raises(DataSetError, match=r"run-1\.json: is a folder where the record"):
                call()
        assert (mark / "notes.txt").read_text() == "mine"

    def test_a_copy_of_another_run_is_not_taken(self, folder):
        place, _ = begun()
        mark = folder / "r.zarr.run/dkde-run-1.json"
        mark.rename(folder / "r.zarr.run/dkde-run-2.json")
        (folder / "r.zarr.run/dkde-run-2.json").write_bytes(b"")
        present = place.look()
        assert (present.number, present.id) == (2, None)
        with pytest.raises(DataSetError):
            raise present.content

    def test_where_both_are_damaged_it_is_begun_anew(self, folder):
        place, run = begun()
        (folder / "r.zarr.run/dkde-run-1.json").write_bytes(b"{")
        (folder / "r.zarr.run" / run / PLAN).write_bytes(b"{")
        error = place.look().content
        assert str(error).startswith(
            "r.zarr: the record of how its run was begun (r.zarr.run/dkde-run-1.json) is damaged"
        )
        assert Remedy("restart") in error.message.parts
        _, second = begun(after=1)
        assert place.look().id == second
        there = {f"r.zarr.run/{second}/plan.json", "r.zarr.run/dkde-run-2.json"}
        assert set(below(folder)) == there

    @pytest.mark.parametrize("run", [None, 3, "", "../../etc", "a" * 31, "A" * 32])
    def test_no_other_folder_is_named_by_a_mark(self, folder, run):
        (folder / "r.zarr.run").mkdir()
        (folder / "r.zarr.run/dkde-run-1.json").write_text(json.dumps({"id": run}))
        assert RunPlace("r.zarr").look().id is None


class TestDeposed:
    def test_its_records_cannot_be_written(self, folder):
        place, first = begun()
        records = place.records(first)
        records.make("score")
        records.put("score/a", b"1")
        begun(after=1)
        before = below(folder)
        for key in ("score/a", "score/b", "x"):
            with pytest.raises(DataSetError, match=r"r\.zarr: .* could not be read or written"):
                records.put(key, b"2")
        with pytest.raises(DataSetError, match=r"r\.zarr: .* could not be read or written"):
            records.claim("x", b"2")
        assert below(folder) == before

    def test_one_that_has_a_file_open_writes_where_nobody_reads(self, folder):
        place, first = begun()
        records = place.records(first)
        records.make("score")
        with (records.folder / "score/a").open("wb") as file:
            begun(after=1)
            file.write(b"late")
        assert place.leftovers() == []
        assert not any("score" in name for name in below(folder))

    def test_what_it_makes_anew_is_no_run_and_is_removed_by_the_next(self, folder):
        place, first = begun()
        _, second = begun(after=1)
        with pytest.raises(DataSetError, match="sessions could not be read or written"):
            place.records(first).make("sessions")
        place.records(first).make("")  # as Zarr does
        place.records(first).make("sessions")
        assert place.look().id == second
        assert place.leftovers() == [first]
        assert place.remove_leftovers() == [first]
        assert sorted(os.listdir("r.zarr.run")) == sorted([second, "dkde-run-2.json"])

    def test_it_may_be_removed_only_once(self, folder, monkeypatch):
        """A folder that cannot be removed whole is found by the next command."""
        place, first = begun()
        with monkeypatch.context() as patch:
            patch.setattr(module.shutil, "rmtree", lambda *_, **__: None)
            _, second = begun(after=1)
        (left,) = place.leftovers()
        assert left.startswith(f"dead-{first}-")
        place.check_present(second)
        assert place.remove_leftovers() == [left]
        assert place.look().id == second


class TestFinish:
    def test_nothing_is_left(self, output, folder):
        place, run = begun(output)
        place.records(run).make("score")
        place.records(run).put("score/a", b"1")
        place.finish(run)
        assert place.look() is None
        assert Records(place._records.store, output).keys("") == []
        place.finish(run)
        assert os.listdir(folder) == []
        with pytest.raises(DataSetError, match=r"its run \(.*r\.zarr\.run\) was removed while"):
            place.check_present(run)

    @pytest.mark.parametrize("run", ["../mine", "mine", "", "."])
    def test_what_is_no_id_removes_nothing(self, folder, run):
        for path in (folder / "mine", folder / "r.zarr.run" / "mine"):
            path.mkdir(parents=True)
        RunPlace("r.zarr").finish(run)
        assert (folder / "mine").is_dir()
        assert (folder / "r.zarr.run" / "mine").is_dir()

    def test_a_run_that_was_begun_meanwhile_stays(self, output):
        place, first = begun(output)
        _, second = begun(output, after=1)
        place.finish(first)
        place.check_present(second)

    @pytest.mark.parametrize(("owner", "step"), [
        (RunPlace, "look"), (RunPlace, "_give_up"), (Marks, "numbers"), (Marks, "remove"),
        (RunPlace, "_remove_leftovers"),
    ])  # fmt: skip
    def test_a_run_that_is_begun_in_between_stays(self, output, owner, step, monkeypatch):
        """At whatever moment; also when the marks were gone, so that it has the first number."""
        place, first = begun(output)
        call, later = getattr(owner, step), []

        def then(self, *arguments):
            found = call(self, *arguments)
            if self in (place, place._marks) and len(later) == 0:
                later.append("")
                present = RunPlace(output).look()
                later.append(begun(output, after=present.number if present else 0)[1])
            return found

        with monkeypatch.context() as patch:
            patch.setattr(owner, step, then)
            place.finish(first)
        assert place.look().id == later[1]
        place.check_present(later[1])

    def test_a_run_that_is_begun_while_leftovers_are_listed_stays(self, output, monkeypatch):
        place, later, look = RunPlace(output), [], RunPlace.look

        def looked(self):
            found = look(self)
            if self is place and not later:
                later.append("")
                later.append(begun(output)[1])
            return found

        with monkeypatch.context() as patch:
            patch.setattr(RunPlace, "look", looked)
            assert place.remove_leftovers() == []
        place.check_present(later[1])

    def test_one_that_was_killed_as_it_finished_is_finished(self, folder, monkeypatch):
        place, run = begun()

        def killed(*arguments):
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(Records, "delete", killed)
            with pytest.raises(KeyboardInterrupt):
                place.finish(run)
        assert place.look().id == run
        place.finish(run)
        assert os.listdir(folder) == []


@pytest.mark.parametrize("copied", [True, False])
def test_a_mark_that_the_disk_cannot_read_is_no_dead_end(folder, monkeypatch, copied):
    place, run = begun()
    if not copied:
        (folder / "r.zarr.run" / run / PLAN).write_text("")
    get = Records.get

    def fails(self, key):
        if key == "dkde-run-1.json":
            raise DataSetError("r.zarr.run: dkde-run-1.json could not be read")
        return get(self, key)

    monkeypatch.setattr(Records, "get", fails)
    present = place.look()
    assert (present.number, present.id) == (1, run if copied else None)
    _, second = begun(after=present.number)
    assert place.look().id == second
    assert place.leftovers() == []


class TestFilesOfUsers:
    """Names that look like the id of a run, such as checksums, are not always those of one."""

    NAME = "d41d8cd98f00b204e9800998ecf8427e"

    @pytest.mark.parametrize(
        "file", ["", "/notes.txt", "/result/notes.txt", "/sessions/a.json+/notes.txt"]
    )
    @pytest.mark.parametrize("begins", [False, True])
    def test_they_stay(self, folder, file, begins):
        if begins:
            place, _ = begun()
        files = [folder / "r.zarr.run" / f"{self.NAME}{each}" for each in file.split("+")]
        for path in files:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("mine")
        if begins:
            _, run = begun(after=1)
            place.finish(run)
        else:
            with pytest.raises(DataSetError, match="is there already, and is no run of dkde"):
                begun()
        assert RunPlace("r.zarr").leftovers() == []
        assert RunPlace("r.zarr").remove_leftovers() == []
        assert [path.read_text() for path in files] == ["mine"] * len(files)

    def test_what_a_late_process_makes_anew_is_found(self, folder):
        place, run = begun()
        records = place.records(uuid4().hex)
        for name, file in (
            ("score", "stage.json"),
            ("sessions", "a.json"),
            ("result", "zarr.json"),
        ):
            records.make("")  # as Zarr does
            records.make(name)
            records.put(f"{name}/{file}", b"{}")
        assert len(place.leftovers()) == 1
        place.finish(run)
        assert not (folder / "r.zarr.run").exists()
