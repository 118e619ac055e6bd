"""The marks of an output's runs: the one with the highest number names the present run.

The file ``dkde-run-N.json`` is the plan of a run, and names its id. It is made by one exclusive
step, so that of several processes that begin a run at once only one does. Its name alone says that
a folder is of runs, whatever the file holds.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from typing import Any

from dkde.errors import DataSetError, Remedy
from dkde.stores.json_text import object_from_json
from dkde.stores.store import Records

PLAN = "plan.json"
# The ids of runs, which are the names of their folders too.
ID = re.compile(r"[0-9a-f]{32}")
_MARK = re.compile(r"dkde-run-(\d+)\.json")
# A process that finds a mark may find it gone as it reads it: the run was finished meanwhile.
_LOOKS = 5


@dataclass(frozen=True)
class Present:
    """The present run of an output.

    Parameters
    ----------
    number : int
        How often a run was begun at this place.
    content : dict or DataSetError
        Its plan; where that is damaged, the error, which is raised by those who need it.
    """

    number: int
    content: dict[str, Any] | DataSetError

    @property
    def id(self) -> str | None:
        """Return the id of the run, which is also the name of its folder; None if unknown."""
        return self.content["id"] if isinstance(self.content, dict) else None

    @property
    def known_id(self) -> str:
        """Return the id of the run.

        Raises
        ------
        DataSetError
            When its plan is damaged.
        """
        if isinstance(self.content, DataSetError):
            raise self.content
        return str(self.content["id"])


class Marks:
    """The marks in the folder of an output's runs, or below a URL.

    Parameters
    ----------
    records : Records
        The records of that folder.
    name : str
        The name of the output, for messages.
    """

    def __init__(self, records: Records, name: str) -> None:
        self._records, self._name = records, name

    def present(self) -> Present | None:
        """Return the present run; None where there is none."""
        for _ in range(_LOOKS):
            numbers = self.numbers()
            if not numbers:
                return None
            key = _key(numbers[-1])
            try:
                content = self._records.get(key)
            except DataSetError:
                if self._records.folder is None:
                    raise
                content = b""  # a disk that cannot read it: its name is enough to begin anew
            if content is None and self._is_other(key):
                content = b""
            if content is not None:
                return Present(numbers[-1], self._plan(numbers[-1], content))
        return None

    def numbers(self) -> list[int]:
        """Return the numbers of the marks, the lowest first."""
        return numbers_in(self._records.names(""))

    def claim(self, number: int, content: bytes) -> bool:
        """Make a mark, if it is not there; return whether it was made, with this content."""
        return self._records.claim(_key(number), content)

    def restore(self, present: Present) -> bool:
        """Write the mark of a run again where it is damaged; return whether it was."""
        key = _key(present.number)
        if _parsed(self._records.get(key) or b"") is not None:
            return False
        if self._is_other(key):
            self._remove_other(key)
        self._records.put(key, json.dumps(present.content).encode())
        return True

    def remove(self, numbers: list[int]) -> None:
        """Remove marks."""
        for key in map(_key, numbers):
            if self._is_other(key):
                self._remove_other(key)
            else:
                self._records.delete(key)

    def check(self) -> None:
        """Refuse a folder at the place of a mark, if a user's files would be lost with it.

        Raises
        ------
        DataSetError
        """
        if self._records.folder is None:
            return
        for number in self.numbers():
            if self._records.names(key := _key(number)):
                raise DataSetError(
                    f"{self._records.name}/{key}: is a folder where the record of a run belongs, "
                    "and holds files; move it away"
                )

    def _is_other(self, key: str) -> bool:
        """Return whether a folder, or a link that leads nowhere, is at the place of a mark."""
        folder = self._records.folder
        return folder is not None and os.path.lexists(folder / key) and not (folder / key).is_file()

    def _remove_other(self, key: str) -> None:
        assert self._records.folder is not None
        path = self._records.folder / key
        try:
            path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
        except OSError as error:
            raise DataSetError(
                f"{path}: is no file, and could not be removed ({error.strerror})"
            ) from error

    def _plan(self, number: int, content: bytes) -> dict[str, Any] | DataSetError:
        """Return the plan of a mark; where it is damaged, the copy beside the run's records."""
        if (plan := _parsed(content)) is not None:
            return plan
        for name in self._records.names(""):
            if ID.fullmatch(name):
                plan = _parsed(self._records.get(f"{name}/{PLAN}") or b"")
                if plan is not None and (plan.get("number"), plan["id"]) == (number, name):
                    return plan
        return DataSetError(
            f"{self._name}: the record of how its run was begun "
            f"({self._records.name}/{_key(number)}) is damaged; begin it anew ",
            Remedy("restart"),
        )


def numbers_in(names: list[str]) -> list[int]:
    """Return the numbers of the marks among names, the lowest first."""
    return sorted(int(mark[1]) for mark in map(_MARK.fullmatch, names) if mark)


def _key(number: int) -> str:
    return f"dkde-run-{number}.json"


def _parsed(content: bytes) -> dict[str, Any] | None:
    """Return a plan that names the folder of its run; None for anything else."""
    found = object_from_json(content)
    run = None if found is None else found.get("id")
    return found if isinstance(run, str) and ID.fullmatch(run) else None
