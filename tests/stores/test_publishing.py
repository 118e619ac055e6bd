"""What is put in its place: nothing is replaced but what was looked at, and kills lose nothing."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

import dkde
from dkde.datasets.dataset import is_dataset, open_split, open_splits
from dkde.datasets.index import index_dataset, index_state
from dkde.datasets.streaming import import_rows
from dkde.errors import DataSetError
from dkde.inputs.importing import import_dataset
from dkde.results import exporting
from dkde.stores import publishing, renaming, two_steps
from dkde.stores.publishing import publish
from dkde.stores.staging import staged
from dkde.stores.targets import look

A, B = np.arange(12.0).reshape(6, 2), -np.arange(8.0).reshape(4, 2)
HERE = Path(__file__).parent
PUT = "something was put there by another process while this was written, and stays as it is"
CHANGED = "was changed or replaced by another process while this was written, and stays as it is"


@pytest.fixture(params=["flags", "EINVAL", "ENOSYS", "none"])
def system(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """A system, or a file system, that can rename by flags, or not."""
    answer = request.param
    if answer == "none":
        monkeypatch.setattr(renaming, "_call", lambda: None)
    elif answer != "flags":
        monkeypatch.setattr(renaming, "_call", lambda: lambda *_: getattr(errno, answer))
    elif renaming._call() is None:
        pytest.skip("this system has no such call")
    return str(answer)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    np.save(tmp_path / "a.npy", A)
    np.save(tmp_path / "b.npy", B)
    return tmp_path


def entries(folder: Path) -> dict[str, Any]:
    """All below a folder, links as links, and what is in files."""
    return {
        str(path.relative_to(folder)): (
            os.readlink(path) if path.is_symlink() else path.is_file() and path.read_bytes()
        )
        for path in folder.rglob("*")
    }


def hidden_in(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.name.startswith(".")]


def rows(store: Path) -> Any:
    return open_split(store, "train").x[:]


def once(function: Callable[[], Any]) -> Callable[..., None]:
    """A callback that does something at its first call."""
    waiting = [function]

    def call(*_: Any) -> None:
        while waiting:
            waiting.pop()()

    return call


def refused(message: str, source: Path, store: Path, meanwhile: Any, **options: Any) -> None:
    """An import during which something happens is refused in a line, and changes nothing then."""
    after: dict[str, Any] = {}

    def happens() -> None:
        (hidden,) = hidden_in(store.parent)
        meanwhile()
        found = entries(store.parent)
        after.update({k: v for k, v in found.items() if not k.startswith(hidden.name)})

    with pytest.raises(DataSetError, match=message) as caught:
        import_dataset(source, store, progress=once(happens), **options)
    assert "\n" not in str(caught.value)
    assert entries(store.parent) == after


def put(store: Path, what: str) -> None:
    """Put something at a place."""
    if what == "a file":
        store.write_text("precious")
    elif what == "an empty folder":
        store.mkdir()
    elif what == "a folder":
        store.mkdir()
        (store / "precious").write_text("x")
    elif what == "a link to nothing":
        store.symlink_to(store.parent / "nowhere")
    elif what == "a link to a folder":
        (store.parent / "other").mkdir()
        store.symlink_to(store.parent / "other")
    elif what == "a data set":
        import_rows(B, store)
    else:
        zarr.create_group(store, zarr_format=3)


THINGS = [
    "a file", "an empty folder", "a folder", "a link to nothing", "a link to a folder",
    "a data set", "a zarr group",
]  # fmt: skip


class TestWhereNothingWas:
    @pytest.mark.slow
    @pytest.mark.parametrize("overwrite", [False, True])
    @pytest.mark.parametrize("what", THINGS)
    def test_what_comes_meanwhile_stays(self, folder, system, what, overwrite):
        store = folder / "s.zarr"
        # Where its links lead to is another place.
        message = "is a link to another place" if "link" in what else PUT
        refused(message, folder / "a.npy", store, lambda: put(store, what), overwrite=overwrite)

    @pytest.mark.sampled(4)
    def test_a_free_place_is_taken(self, folder, system):
        import_dataset(folder / "a.npy", folder / "s.zarr")
        np.testing.assert_array_equal(rows(folder / "s.zarr"), A)
        assert {path.name for path in folder.iterdir()} == {"a.npy", "b.npy", "s.zarr"}

    @pytest.mark.sampled(4)
    def test_an_empty_folder_is_taken_while_it_is_empty(self, folder, system):
        store = folder / "s.zarr"
        store.mkdir()
        precious = store / "precious"
        refused(CHANGED, folder / "a.npy", store, lambda: precious.write_text("x"))
        precious.unlink()
        import_dataset(folder / "a.npy", store)
        np.testing.assert_array_equal(rows(store), A)

    @pytest.mark.slow
    @pytest.mark.parametrize("calls", ["flags", "none"])
    def test_of_imports_that_race_one_wins(self, folder, calls):
        """Forty, in pairs, all of which have looked before any is done."""
        np.save(folder / "c.npy", A + 1)
        done = subprocess.run(
            [sys.executable, HERE / "races.py", folder, calls],
            check=True, timeout=300, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        lost = [line.split(" ", 2) for line in done.stdout.splitlines()]
        assert sorted(int(number) for number, _, _ in lost) == list(range(20))
        for number, loser, message in lost:
            store = folder / f"{number}.zarr"
            assert PUT in message
            assert [*open_splits(store)] == ["train"]
            np.testing.assert_array_equal(rows(store), A + 1 if loser == "a.npy" else A)
        assert not hidden_in(folder)


class TestWhatIsOverwritten:
    @pytest.fixture
    def store(self, folder: Path) -> Path:
        import_dataset(folder / "b.npy", folder / "s.zarr")
        return folder / "s.zarr"

    @pytest.mark.sampled(4)
    def test_it_is_replaced(self, folder, store, system):
        import_dataset(folder / "a.npy", store, overwrite=True)
        np.testing.assert_array_equal(rows(store), A)
        assert {path.name for path in folder.iterdir()} == {"a.npy", "b.npy", "s.zarr"}

    @pytest.mark.slow
    @pytest.mark.parametrize("what", [w for w in THINGS if "link" not in w])
    def test_what_took_its_place_stays(self, folder, store, system, what):
        def meanwhile() -> None:
            shutil.rmtree(store)
            put(store, what)

        refused(CHANGED, folder / "a.npy", store, meanwhile, overwrite=True)

    @pytest.mark.sampled(8)
    @pytest.mark.parametrize("name", ["precious", "zarr.json"])
    def test_what_was_put_into_it_stays(self, folder, store, system, name):
        refused(
            CHANGED, folder / "a.npy", store, lambda: (store / name).write_text("{}"),
            overwrite=True,
        )  # fmt: skip

    @pytest.mark.slow
    def test_of_two_that_overwrite_one_wins(self, folder, store, system):
        np.save(folder / "c.npy", A + 1)
        refused(
            CHANGED, folder / "a.npy", store,
            lambda: import_dataset(folder / "c.npy", store, overwrite=True), overwrite=True,
        )  # fmt: skip
        np.testing.assert_array_equal(rows(store), A + 1)

    @pytest.mark.sampled(4)
    def test_it_was_removed_meanwhile(self, folder, store, system):
        import_dataset(
            folder / "a.npy", store, overwrite=True, progress=once(lambda: shutil.rmtree(store))
        )
        np.testing.assert_array_equal(rows(store), A)

    @pytest.mark.slow
    def test_its_index_may_be_written_meanwhile(self, folder, store, system):
        import_dataset(
            folder / "a.npy", store, overwrite=True, progress=once(lambda: index_dataset(store))
        )
        np.testing.assert_array_equal(rows(store), A)

    @pytest.mark.sampled(4)
    def test_what_comes_in_the_last_moment_is_put_back(self, folder, store, system, monkeypatch):
        """After it was looked at for the last time, and before it is exchanged."""
        kept = publishing.exchange

        def late(one: Path, other: Path) -> bool:
            monkeypatch.setattr(publishing, "exchange", kept)
            shutil.rmtree(store)
            put(store, "a folder")
            return kept(one, other)

        monkeypatch.setattr(publishing, "exchange", late)
        with pytest.raises(DataSetError, match=CHANGED):
            import_dataset(folder / "a.npy", store, overwrite=True)
        assert (store / "precious").read_text() == "x"
        assert {path.name for path in folder.iterdir()} == {"a.npy", "b.npy", "s.zarr"}

    @pytest.mark.slow
    def test_a_link_that_leads_elsewhere_meanwhile(self, folder, store, system):
        link = folder / "link"
        link.symlink_to(store)
        import_dataset(folder / "a.npy", link, overwrite=True)
        assert link.is_symlink()
        np.testing.assert_array_equal(rows(store), A)
        import_dataset(folder / "a.npy", folder / "t.zarr")

        def turn() -> None:
            link.unlink()
            link.symlink_to(folder / "t.zarr")

        refused("is a link to another place", folder / "b.npy", link, turn, overwrite=True)

    def test_a_second_step_that_fails_is_taken_back(self, folder, store, monkeypatch):
        monkeypatch.setattr(renaming, "_call", lambda: None)
        rename = Path.rename

        def failing(self: Path, target: Path) -> Path:
            if self.name == "new":
                raise OSError("no space")
            return rename(self, target)

        monkeypatch.setattr(Path, "rename", failing)
        with pytest.raises(DataSetError, match="could not be written"):
            import_dataset(folder / "a.npy", store, overwrite=True)
        np.testing.assert_array_equal(rows(store), B)
        assert {path.name for path in folder.iterdir()} == {"a.npy", "b.npy", "s.zarr"}

    def test_what_cannot_be_taken_back_is_kept_and_named(self, folder, store, monkeypatch):
        """Another takes the place between the two steps."""
        monkeypatch.setattr(renaming, "_call", lambda: None)
        kept = two_steps.move

        def overtaken(source: Path, target: Path) -> None:
            if source.name == "new":
                put(store, "a folder")
            kept(source, target)

        monkeypatch.setattr(two_steps, "move", overtaken)
        with (
            pytest.warns(UserWarning, match=r"holds what was at .* \(old\) and what was to repl"),
            pytest.raises(DataSetError, match="could not be written"),
        ):
            import_dataset(folder / "a.npy", store, overwrite=True, index=False)
        assert (store / "precious").read_text() == "x"
        (hidden,) = hidden_in(folder)
        np.testing.assert_array_equal(rows(hidden / "old"), B)
        np.testing.assert_array_equal(rows(hidden / "new"), A)


class TestKills:
    @pytest.mark.slow
    @pytest.mark.parametrize("calls", ["flags", "none"])
    def test_a_kill_leaves_the_old_or_the_new(self, tmp_path, calls):
        np.savez(tmp_path / "a.npz", train=A)
        np.savez(tmp_path / "b.npz", train=B)
        import_dataset(tmp_path / "a.npz", tmp_path / "old", index=False)
        subprocess.run(
            [sys.executable, HERE / "kills.py", tmp_path, calls], check=True, timeout=300
        )
        steps = sorted(int(path.name) for path in tmp_path.iterdir() if path.name.isdigit())
        assert len(steps) > 6
        seen = set()
        for step in steps:
            here = tmp_path / str(step)
            store = here / "s.zarr"
            for hidden in hidden_in(here):
                os.utime(hidden, (time.time() - 3600,) * 2)  # no more one that is being made
            with warnings.catch_warnings(record=True) as said:
                warnings.simplefilter("always")
                told = dkde.describe(store, values=False)["splits"]["train"]["rows"]
                found = rows(store)
                seen.add("new" if told == len(B) else "old")
                np.testing.assert_array_equal(found, B if told == len(B) else A)
                import_dataset(tmp_path / "a.npz", store, overwrite=True, index=False)
            np.testing.assert_array_equal(rows(store), A)
            left = {path.name for path in here.iterdir()} - {"s.zarr"}
            for name in left:  # of what it was not sure, it has told
                assert any(name in str(each.message) for each in said), name
            if step < steps[-1]:
                continue
            assert not said
            assert not left
        assert seen == {"old", "new"}

    @pytest.mark.slow
    def test_another_command_completes_it(self, folder):
        """A process dies between the two steps; each way to open the place does the second."""
        ways = (
            open_splits,
            lambda s: dkde.describe(s, values=False),
            lambda s: dkde.Catalog(str(s)).splits(),
            lambda s: dkde.Catalog().rows(str(s)),
            lambda s: dkde.Catalog().rows(f"{s}::train"),
            dkde.open_dataset,
        )
        stores = [folder / f"{number}.zarr" for number in range(len(ways))]
        for store in stores:
            import_dataset(folder / "b.npy", store)
        leave_between(folder / "a.npy", stores)
        for store, look_at in zip(stores, ways, strict=True):
            assert not store.exists()
            with pytest.warns(UserWarning, match="replacement was interrupted, and is complete"):
                look_at(store)
            np.testing.assert_array_equal(rows(store), A)
        names = {path.name for path in folder.iterdir()}
        assert names == {"a.npy", "b.npy", *(store.name for store in stores)}

    @pytest.mark.parametrize("content", [b"gone", b"\xff\xfe"])
    def test_a_stale_mark_is_no_matter_for_who_may_not_write(self, folder, monkeypatch, content):
        import_dataset(folder / "b.npy", folder / "s.zarr", index=False)
        mark = two_steps.mark_of(folder / "s.zarr")
        mark.write_bytes(content)

        def refuse(*_, **__):
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(Path, "unlink", refuse)
        two_steps.complete(folder / "s.zarr")
        assert mark.read_bytes() == content

    def test_it_goes_on_where_another_completed_it(self, folder, monkeypatch):
        monkeypatch.setattr(renaming, "_call", lambda: None)
        store, kept = folder / "s.zarr", two_steps.move
        import_dataset(folder / "b.npy", store)

        def completed(source: Path, target: Path) -> None:
            if source.name != "new":  # the mark
                kept(source, target)
                return
            monkeypatch.setattr(two_steps, "move", kept)
            two_steps.complete(store)  # which says nothing, as this process lives
            np.testing.assert_array_equal(rows(store), A)
            assert two_steps.mark_of(store).exists()  # it is this process's
            kept(source, target)

        monkeypatch.setattr(two_steps, "move", completed)
        import_dataset(folder / "a.npy", store, overwrite=True, index=False)
        np.testing.assert_array_equal(rows(store), A)
        assert {path.name for path in folder.iterdir()} == {"a.npy", "b.npy", "s.zarr"}

    @pytest.mark.slow
    def test_what_came_before_the_first_step_is_put_back(self, folder):
        """The process is killed before it compares what it moved away with what it saw."""
        store = folder / "s.zarr"
        import_dataset(folder / "b.npy", store)
        leave_between(folder / "a.npy", [store], before="put_precious(target)")
        with pytest.warns(UserWarning, match=r"another process had changed .* is back as it was"):
            two_steps.complete(store)
        assert (store / "precious").read_text() == "x"
        np.testing.assert_array_equal(rows(store), B)
        assert {path.name for path in folder.iterdir()} == {"a.npy", "b.npy", "s.zarr"}
        two_steps.complete(store)

    def test_while_its_process_lives_that_puts_back_what_came(self, folder, monkeypatch):
        monkeypatch.setattr(renaming, "_call", lambda: None)
        store, rename = folder / "s.zarr", Path.rename
        import_dataset(folder / "b.npy", store)

        def late(self: Path, target: Path) -> Path:
            if target.name != "old":
                return rename(self, target)
            (store / "precious").write_text("x")
            found = rename(self, target)
            two_steps.complete(store)
            assert not store.exists()
            return found

        monkeypatch.setattr(Path, "rename", late)
        with pytest.raises(DataSetError, match=CHANGED):
            import_dataset(folder / "a.npy", store, overwrite=True, index=False)
        assert (store / "precious").read_text() == "x"
        assert {path.name for path in folder.iterdir()} == {"a.npy", "b.npy", "s.zarr"}

    @pytest.mark.slow
    def test_a_process_of_which_nobody_knows_may_have_been_interrupted(self, folder):
        store = folder / "s.zarr"
        import_dataset(folder / "b.npy", store)
        leave_between(folder / "a.npy", [store])
        (hidden,) = (path for path in hidden_in(folder) if path.is_dir())
        owner = hidden / "owner.json"
        owner.write_text(owner.read_text().replace('"boot": "', '"boot": "x'))
        with pytest.warns(UserWarning, match="may have been interrupted, and is complete now"):
            two_steps.complete(store)
        np.testing.assert_array_equal(rows(store), A)


def leave_between(source: Path, stores: list[Path], before: str | None = None) -> None:
    """Leave replacements as processes do that are killed between the two steps.

    Parameters
    ----------
    before : str, optional
        Code that is run before the first step; the kill comes right after it then.
    """
    end = "two_steps._move_or_find = kill"
    if before is not None:
        end = (
            "kept = publishing.Path.rename\n"
            "def rename(target, to):\n"
            "    if to.name != 'old':\n"
            "        return kept(target, to)\n"
            f"    {before}\n"
            "    kept(target, to)\n"
            "    kill()\n"
            "publishing.Path.rename = rename"
        )
    script = (
        "import os, signal, dkde\n"
        "from dkde.inputs import importing\n"
        "from dkde.stores import publishing, renaming, two_steps\n"
        "renaming._call = lambda: None\n"
        "def put_precious(target):\n"
        "    (target / 'precious').write_text('x')\n"
        "def kill(*_):\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        f"{end}\n"
        f"for store in {[str(store) for store in stores]}:\n"
        "    child = os.fork()\n"
        "    if not child:\n"
        f"        importing.import_dataset({str(source)!r}, store, overwrite=True)\n"
        "    assert os.waitpid(child, 0)[1] == signal.SIGKILL\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=120)


class TestWhatIsLeft:
    """What a killed command leaves beside its place."""

    @pytest.fixture
    def killed(self, folder: Path) -> Path:
        """What an import leaves that was killed while it wrote."""
        script = (
            "import os, signal, dkde\n"
            f"dkde.import_dataset({str(folder / 'a.npy')!r}, {str(folder / 's.zarr')!r},\n"
            "    progress=lambda *_: os.kill(os.getpid(), signal.SIGKILL))\n"
        )
        done = subprocess.run([sys.executable, "-c", script], timeout=120)
        assert done.returncode == -signal.SIGKILL
        (hidden,) = hidden_in(folder)
        return hidden

    @pytest.mark.slow
    def test_the_next_import_removes_it_and_says_so(self, folder, killed):
        with pytest.warns(UserWarning, match=f"removed what a .* killed left \\({killed}\\)"):
            import_dataset(folder / "a.npy", folder / "s.zarr")
        assert not killed.exists()
        import_dataset(folder / "a.npy", folder / "s.zarr", overwrite=True)

    @pytest.mark.slow
    def test_a_look_names_it(self, folder, killed):
        named = f"{killed} was left by a command that was killed; remove it"
        with (
            pytest.warns(UserWarning, match=named),
            pytest.raises(DataSetError, match="no such"),
        ):
            dkde.describe(folder / "s.zarr")
        assert killed.exists()

    @pytest.mark.slow
    @pytest.mark.parametrize("owner", ["of another machine", "unlocked", "damaged"])
    def test_what_is_not_certain_is_named_and_stays(self, folder, killed, owner):
        path = killed / "owner.json"
        text = path.read_text()
        if owner == "of another machine":
            path.write_text(text.replace('"boot": "', '"boot": "x'))
        elif owner == "unlocked":
            path.write_text(text.replace("true", "false"))
        else:
            path.write_text("")
            os.utime(killed, (time.time() - 3600,) * 2)
        with pytest.warns(UserWarning, match=f"{killed} may be left by .* that was killed; rem"):
            import_dataset(folder / "a.npy", folder / "s.zarr")
        assert (killed / "new").exists()

    def test_what_another_writes_is_not_mentioned(self, folder):
        def meanwhile() -> None:
            import_dataset(folder / "b.npy", folder / "s.zarr")
            dkde.describe(folder / "s.zarr")

        with pytest.raises(DataSetError, match=PUT):
            import_dataset(folder / "a.npy", folder / "s.zarr", progress=once(meanwhile))
        np.testing.assert_array_equal(rows(folder / "s.zarr"), B)

    def test_other_hidden_things_are_left_alone(self, folder):
        for name in (".s.zarr.backup", ".s.zarr.ABCDEFGH", ".t.zarr.abcdefgh", ".s.zarr.abcdefgh9"):
            (folder / name).mkdir()
        (folder / ".s.zarr.abcdefgh").write_text("a file")
        import_dataset(folder / "a.npy", folder / "s.zarr")
        assert len(hidden_in(folder)) == 5

    @pytest.mark.slow
    def test_what_was_another_s_is_never_removed(self, folder, monkeypatch):
        """Killed after what came in the last moment was exchanged, and before it was put back."""
        if renaming._call() is None:
            pytest.skip("this system has no such call")
        store = folder / "s.zarr"
        import_dataset(folder / "b.npy", store)
        script = (
            "import os, shutil, signal, dkde\n"
            "from dkde.stores import publishing\n"
            "kept = publishing.exchange\n"
            "def late(one, other):\n"
            f"    shutil.rmtree({str(store)!r}); os.mkdir({str(store)!r})\n"
            f"    open({str(store / 'precious')!r}, 'w').write('x')\n"
            "    kept(one, other)\n"
            "    os.kill(os.getpid(), signal.SIGKILL)\n"
            "publishing.exchange = late\n"
            f"dkde.import_dataset({str(folder / 'a.npy')!r}, {str(store)!r}, overwrite=True)\n"
        )
        done = subprocess.run([sys.executable, "-c", script], timeout=120)
        assert done.returncode == -signal.SIGKILL
        for _ in range(2):
            with pytest.warns(UserWarning, match=r"another process put at .* \(new\); move it"):
                import_dataset(folder / "b.npy", store, overwrite=True)
        (hidden,) = hidden_in(folder)
        assert (hidden / "new" / "precious").read_text() == "x"


class TestFiles:
    def test_one_that_comes_meanwhile_stays(self, tmp_path, system):
        path = tmp_path / "a.csv"
        for before in (None, "old"):
            if before is not None:
                path.write_text(before)
            seen = look(path)
            path.unlink(missing_ok=True)
            path.write_text("precious")
            with staged(path) as stage:
                stage.new.write_text("new")
                with pytest.raises(DataSetError, match=PUT if before is None else CHANGED):
                    publish(stage, seen)
            assert entries(tmp_path) == {"a.csv": b"precious"}

    def test_one_is_made_and_replaced(self, tmp_path, system):
        path = tmp_path / "a.csv"
        for text in ("one", "two"):
            with staged(path) as stage:
                seen = look(path)
                stage.new.write_text(text)
                publish(stage, seen)
            assert entries(tmp_path) == {"a.csv": text.encode()}
        (tmp_path / "usual").touch()
        assert path.stat().st_mode == (tmp_path / "usual").stat().st_mode

    def test_a_file_system_without_hard_links(self, tmp_path, monkeypatch):
        def none(*_: Any, **__: Any) -> None:
            raise PermissionError(errno.EPERM, "no hard links")

        monkeypatch.setattr(renaming, "_call", lambda: None)
        monkeypatch.setattr(os, "link", none)
        (tmp_path / "new").write_text("x")
        renaming.move(tmp_path / "new", tmp_path / "a")
        assert entries(tmp_path) == {"a": b"x"}
        (tmp_path / "new").write_text("y")
        with pytest.raises(FileExistsError):
            renaming.move(tmp_path / "new", tmp_path / "a")
        assert entries(tmp_path) == {"a": b"x", "new": b"y"}

    @pytest.mark.parametrize("suffix", [".csv", ".nc"])
    @pytest.mark.parametrize("overwrite", [False, True])
    def test_exports(self, tmp_path, monkeypatch, suffix, overwrite):
        result = dkde.score("test[:2]", "train", [1.0], source="digits")
        path = tmp_path / f"r{suffix}"
        if overwrite:
            path.write_text("old")
        kept = exporting.opened_result

        def meanwhile(found: Any, **options: Any) -> Any:
            path.write_text("precious")
            return kept(found, **options)

        with monkeypatch.context() as patch:
            patch.setattr("dkde.results.exporting.opened_result", meanwhile)
            with pytest.raises(DataSetError, match=CHANGED if overwrite else PUT):
                dkde.export(result, path, overwrite=overwrite)
        assert entries(tmp_path) == {path.name: b"precious"}
        dkde.export(result, path, overwrite=True)
        assert list(entries(tmp_path)) == [path.name]


class TestIndexes:
    def test_a_kill_leaves_the_old_one(self, folder, monkeypatch):
        store = folder / "s.zarr"
        import_dataset(folder / "a.npy", store)

        def stop(*_: Any) -> None:
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr("dkde.datasets.index.publish", stop)
            with pytest.raises(KeyboardInterrupt):
                index_dataset(store)
        assert index_state(open_split(store, "train")) == "yes"
        assert index_dataset(store) == ["train"]
        assert {path.name for path in (store / "_index").iterdir()} == {"train", "zarr.json"}


class TestWithoutAFlag:
    """What the system's own call answers, and is made of it."""

    def test_the_call(self, tmp_path):
        if renaming._call() is None:
            pytest.skip("this system has no such call")
        for name in "ab":
            (tmp_path / name).mkdir()
            (tmp_path / name / name).touch()
        assert renaming.exchange(tmp_path / "a", tmp_path / "b")
        assert (tmp_path / "a" / "b").exists()
        with pytest.raises(FileExistsError):
            renaming.move(tmp_path / "a", tmp_path / "b")
        with pytest.raises(FileNotFoundError):
            renaming.exchange(tmp_path / "a", tmp_path / "c")
        renaming.move(tmp_path / "a", tmp_path / "c")
        assert sorted(os.listdir(tmp_path)) == ["b", "c"]

    def test_folders_that_are_never_replaced(self, tmp_path, monkeypatch):
        """Where not even an empty folder is, as on Windows, a free name is taken."""
        monkeypatch.setattr(renaming, "_call", lambda: None)
        rename = Path.rename

        def exclusive(self: Path, target: Path) -> Path:
            if target.exists():
                raise FileExistsError(errno.EEXIST, "exists", str(target))
            return rename(self, target)

        monkeypatch.setattr(Path, "rename", exclusive)
        (tmp_path / "new").mkdir()
        renaming.move(tmp_path / "new", tmp_path / "a")
        assert os.listdir(tmp_path) == ["a"]


def test_samples_replace_nothing_that_came_meanwhile(tmp_path, monkeypatch):
    from dkde.estimation import sampling

    store, kept = tmp_path / "s.zarr", sampling.draw

    def meanwhile(*arguments: Any, **options: Any) -> Any:
        put(store, "a folder")
        return kept(*arguments, **options)

    monkeypatch.setattr(sampling, "draw", meanwhile)
    with pytest.raises(DataSetError, match=PUT):
        dkde.sample("train", 1.0, 4, source="digits", output=store, overwrite=True)
    assert entries(tmp_path) == {"s.zarr": False, "s.zarr/precious": b"x"}
    assert not is_dataset(store)
