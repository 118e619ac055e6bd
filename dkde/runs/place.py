"""The place of a run: a folder beside its output, which says which run is the present one.

Each run lies in a folder under its own id, and a mark names the present one, see
:mod:`dkde.runs.marks`. A run that is begun anew has the next number, and the folder of the one
before is renamed: a process that still works on that one writes nothing that anybody reads,
whatever its clock says and however long it was paused.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

from dkde.errors import Call, DataSetError
from dkde.runs.marks import ID, PLAN, Marks, Present, numbers_in
from dkde.runs.output_names import RUN, output_of, run_of
from dkde.runs.roots import ROOT
from dkde.runs.segments import is_segment
from dkde.stores.durable import sync_folder
from dkde.stores.renaming import move
from dkde.stores.store import PARTIAL, Records, open_store
from dkde.typing import StrPath

# Marks, and such files as are being written.
_OF_RUNS = re.compile(r"\.?dkde-run-\d+\.json(\..*)?")
# What a run's folder, and that of a stage in it, holds.
_IN_RUN = re.compile(
    rf"{re.escape(PLAN)}|sessions|published\.json|result(\.\w+)?|.*{re.escape(PARTIAL)}"
)
_IN_STAGE = re.compile(rf"stage\.json|failed-\d+-\d+\.json|.*{re.escape(PARTIAL)}")
# The folders of runs that were given up.
_DEAD = re.compile(r"dead-[0-9a-f]{32}-\w+")
# An older result that is being replaced, where the system cannot exchange two names.
_OLDER = re.compile(r"older-[0-9a-f]{32}")
# How often a run is begun whose folder another process removes meanwhile.
_ATTEMPTS = 5


class RunPlace:
    """The folder of the runs of an output, or the same below a URL.

    Parameters
    ----------
    output : path or URL
    """

    def __init__(self, output: StrPath) -> None:
        # Of messages: users know the output by this name.
        self.name = output_of(output)
        self.path = run_of(output)
        self._records = Records(open_store(self.path), self.path)
        self._marks = Marks(self._records, self.name)

    @property
    def is_local(self) -> bool:
        """Return whether the runs lie in a folder, where names can be changed in one step."""
        return self._records.folder is not None

    def look(self) -> Present | None:
        """Return the present run; None where there is none."""
        return self._marks.present()

    def records(self, run: str) -> Records:
        """Return the records of a run."""
        found = self._records.below(run)
        return Records(found.store, self.name)

    def begin(self, plan: dict[str, Any], after: int) -> bool:
        """Begin a run; return False if another process has just begun one.

        Parameters
        ----------
        plan : dict
            Its plan, with its ``id``.
        after : int
            The number of the run before it; 0 where there is none.

        Raises
        ------
        DataSetError
            When it cannot be written.
        """
        self.check_free()
        self._marks.check()
        number = after + 1
        content = json.dumps(plan | {"number": number}).encode()
        for attempt in reversed(range(_ATTEMPTS)):
            try:
                self._records.make("")
                if not self._marks.claim(number, content):
                    return False
                break
            except DataSetError:
                # A process whose result has just appeared may have removed the folder in between.
                if not attempt or self._records.names(""):
                    raise
        self.set_up(plan["id"], content)
        return True

    def set_up(self, run: str, content: bytes | None = None) -> None:
        """Make the folder of a run, with a copy of its plan, and give up all other runs.

        Whoever goes on with a run calls this first: the process that began it may have been killed
        before it was done.

        Raises
        ------
        DataSetError
            When the run is no longer the present one.
        """
        # Listed before the look: a run that is begun after it is not among these names.
        names = self._records.names("")
        self._marks.check()
        present = self.look()
        if present is None or present.id != run:
            raise self._not_present(present)
        records = self.records(run)
        if not records.has(PLAN):
            try:
                records.make("")
                records.put(PLAN, content or json.dumps(present.content).encode())
            except DataSetError:
                if (now := self.look()) is None or now.id != run:
                    raise self._not_present(now) from None
                raise
        self.put_back()
        for name in names:
            if name != run and self._is_run(name):
                self._give_up(name)
        self._marks.remove([n for n in numbers_in(names) if n < present.number])

    def check_present(self, run: str) -> None:
        """Refuse to go on if the run was removed, or begun anew by another process.

        Raises
        ------
        DataSetError
        """
        present = self.look()
        if present is not None and present.id == run and not self.records(run).has(PLAN):
            present = None
        if present is None or present.id != run:
            raise self._not_present(present)

    @contextmanager
    def naming_what_came(self, run: str) -> Iterator[None]:
        """If something fails because the run was removed or begun anew, say that."""
        try:
            yield
        except DataSetError:
            self.check_present(run)
            raise

    def _not_present(self, present: Present | None) -> DataSetError:
        if present is None:
            return DataSetError(
                f"{self.name}: its run ({self.path}) was removed while it was written; start the "
                "run again"
            )
        return DataSetError(
            f"{self.name}: was begun anew by another process while it was written; look at it "
            "(dkde status), and ",
            Call.MAKE_SAME,
            " again",
        )

    def restore(self, present: Present) -> bool:
        """Write the mark of a run again where it is damaged; return whether it was."""
        return self._marks.restore(present)

    def finish(self, run: str) -> None:
        """Remove what is left of a run whose result has appeared; it may be repeated.

        A run that was begun meanwhile stays. What is no id names no folder, and removes nothing.
        """
        if not ID.fullmatch(run):  # a result may come from anybody
            return
        present = self.look()
        is_present = present is not None and present.id == run
        if present is not None and is_present:
            # The marks first: as long as one is there, the folder says what the run has written.
            self._marks.remove([n for n in self._marks.numbers() if n <= present.number])
            if self._records.folder is not None:
                with suppress(OSError):  # another process may have removed it
                    sync_folder(self._records.folder)
        with suppress(DataSetError):  # only leftovers stay, and the next command finds them
            self._give_up(run)
        if is_present:
            self._remove_leftovers()

    def leftovers(self) -> list[str]:
        """Return the names of what runs that were given up have left in the folder."""
        names = self._records.names("")  # before the look, as above
        present = self.look()
        own = None if present is None else present.id
        return [
            name for name in names
            if _DEAD.fullmatch(name)
            or (name != own and self._is_run(name))
            or (_OLDER.fullmatch(name) and os.path.lexists(self._output))
            or (_OF_RUNS.fullmatch(name) and name.endswith(PARTIAL))
        ]  # fmt: skip

    @property
    def is_there(self) -> bool:
        """Return whether there is a folder of runs, or, in a bucket, anything of runs."""
        return os.path.isdir(self.path) if self.is_local else bool(self._records.names(""))

    @property
    def is_empty(self) -> bool:
        """Return whether there is a folder of runs, and nothing in it."""
        return (
            self._records.folder is not None
            and os.path.isdir(self.path)
            and not os.listdir(self.path)
        )

    def remove_leftovers(self) -> list[str]:
        """Remove what runs that were given up have left, and return the names."""
        self.put_back()
        return self._remove_leftovers()

    def _remove_leftovers(self) -> list[str]:
        found = self.leftovers()
        for name in found:
            if name.endswith(PARTIAL):
                self._records.delete(name)
            else:
                self._remove(name)
        if self._records.folder is not None:
            with suppress(OSError):  # something is in it: another run, or a user's file
                os.rmdir(self.path)
        return found

    def check_free(self) -> None:
        """Refuse a folder that is of something else.

        Raises
        ------
        DataSetError
        """
        names = self._records.names("")
        if names and not any(map(self._is_own, names)):
            raise DataSetError(
                f"{self.path}: is there already, and is no run of dkde; move it away, or give "
                "another name for the output"
            )

    def _is_own(self, name: str) -> bool:
        """Return whether a name in the folder shows that it is of runs."""
        of_runs = (_OF_RUNS, _DEAD, _OLDER)
        return any(each.fullmatch(name) for each in of_runs) or self._is_run(name)

    def _is_run(self, name: str) -> bool:
        """Return whether a name is that of the folder of a run, and not one of a user's."""
        if ID.fullmatch(name) is None or not self._is_folder(name):
            return False
        within = self._records.names(name)
        if PLAN in within:
            return True
        # A process whose run was given up may make parts of its folder anew. Another's folder may
        # hold a result, too.
        if not all(_IN_RUN.fullmatch(each) or self._is_stage(f"{name}/{each}") for each in within):
            return False
        draft = f"{name}/result"
        if "result" not in within or not self._records.names(draft):
            return True
        return self._records.has(f"{draft}/{ROOT}")

    def _is_stage(self, key: str) -> bool:
        """Return whether something in the folder of a run holds nothing but what a stage does."""
        return self._is_folder(key) and all(
            _IN_STAGE.fullmatch(name) or is_segment(name) for name in self._records.names(key)
        )

    def _is_folder(self, key: str) -> bool:
        """Return whether a folder, and no link, is at a key; or, in a bucket, keys below it."""
        if self._records.folder is None:
            return bool(self._records.names(key))
        path = self._records.folder / key
        return path.is_dir() and not path.is_symlink()

    @property
    def _output(self) -> str:
        """Return the path of the output, with links followed."""
        return self.path[: -len(RUN)]

    def older(self, run: str) -> Path:
        """Return where an older result lies while that of a run is moved to its place."""
        assert self._records.folder is not None
        return self._records.folder / f"older-{run}"

    def put_back(self) -> None:
        """Move an older result back, whose replacement in two steps was interrupted."""
        if self._records.folder is None:
            return
        for name in self._records.names(""):
            if _OLDER.fullmatch(name) and not os.path.lexists(self._output):
                with suppress(FileExistsError, FileNotFoundError):  # another process was faster
                    move(self._records.folder / name, Path(self._output))

    def forget(self, run: str) -> None:
        """Remove what a process has written into a run, if another one was begun since."""
        present = self.look()
        if present is not None and present.id != run:
            self._give_up(run)
            self._remove_leftovers()

    def _give_up(self, run: str) -> None:
        """Rename the folder of a run, so that nothing is published from it; then remove it."""
        if self._records.folder is None:
            self._records.delete_all(run)
            return
        dead = f"dead-{run}-{uuid4().hex[:8]}"
        try:
            os.rename(self._records.folder / run, self._records.folder / dead)
        except FileNotFoundError:
            return
        except OSError as error:
            raise DataSetError(
                f"{self.name}: its former run ({self.path}/{run}) could not be given up ({error})"
            ) from error
        self._remove(dead)

    def _remove(self, name: str) -> None:
        if self._records.folder is None:
            self._records.delete_all(name)
        else:
            # A process that was deposed may still write there: the rest is found by the next one.
            shutil.rmtree(self._records.folder / name, ignore_errors=True)
