"""The places of results and data that were moved together: at the beginning of a run and now.

A run names its data by the paths at its beginning. If these lead nowhere, or to other content, the
data are looked for at the same place relative to the store. They are accepted if their stamp, which
is a checksum, or sizes and times, equals the one that the run noted.
"""

from __future__ import annotations

import glob
import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dkde.datasets.formats.files import is_pattern
from dkde.inputs.grammar import names_in

# A function from a present path to a former one; it returns other paths unchanged.
Renaming = Callable[[str], str]


@dataclass(frozen=True)
class Whereabouts:
    """The places of a run's store and data, at its beginning and now.

    Parameters
    ----------
    store : str or None
        The present path of the store; None for a store in a bucket, whose data do not move.
    place : str or None
        The path of the store when the run began; None for runs of versions that did not note it.
    folder : str or None
        The working directory when the run began, from which relative names start.
    names : tuple of str
        The files and stores that the call named.
    """

    store: str | None = None
    place: str | None = None
    folder: str | None = None
    names: tuple[str, ...] = ()

    @classmethod
    def of(cls, plan: Any, store: str | os.PathLike[str] | None) -> Whereabouts:
        """Return the places of a run, from its plan or from parts of a damaged one."""
        # A plan is read from a store that may be damaged: nothing is taken for granted.
        plan = plan if isinstance(plan, Mapping) else {}
        call = plan.get("call")
        call = call if isinstance(call, Mapping) else {}
        arguments = call.get("arguments")
        values = [*(arguments.values() if isinstance(arguments, Mapping) else ())]
        texts = [text for text in (call.get("source"), *values) if isinstance(text, str)]
        local = store is not None and "://" not in os.fspath(store)
        return cls(
            os.path.realpath(store) if local and store is not None else None,
            _text(plan.get("place")),
            _text(call.get("folder")),
            tuple(dict.fromkeys(name for text in texts for name in names_in(text))),
        )

    @classmethod
    def of_result(cls, attributes: Mapping[Any, Any], store: Any) -> Whereabouts:
        """Return the places of a result; one without provenance has only its present path."""
        try:
            plan = json.loads(attributes["run"])
        except (KeyError, ValueError, TypeError):
            plan = None
        return cls.of(plan, store if isinstance(store, str | os.PathLike) else None)

    @property
    def has_moved(self) -> bool:
        """Return whether the store has moved since the run began."""
        return None not in (self.store, self.place) and self.store != self.place

    def recorded(self, name: str) -> str:
        """Return the absolute path that a name meant when the run began."""
        name = os.path.expanduser(name)
        return name if self.folder is None else os.path.normpath(os.path.join(self.folder, name))

    def elsewhere(self, name: str) -> Iterator[str]:
        """Yield other present paths for a name, the likeliest first."""
        path = self.recorded(name)
        if self.store is None or "://" in name or not os.path.isabs(path):
            return
        beside = None if self.place is None else self._beside(path, self.place, self.store)
        if beside is not None and beside != path and _is_there(beside):
            yield beside
        if not os.path.dirname(name) and "." not in name:
            return  # a bare word is more likely a split than a file
        # Look for the ends of the path below each folder above the store. A long end is less
        # likely to match by chance than a short one, so long ends come first.
        parts = Path(path).parts[1:]
        above = [folder for folder in Path(self.store).parents if folder.name]
        for end in _ends(parts):
            for folder in above:
                # The folder's own brackets must not be read as a part of the pattern.
                origin = glob.escape(str(folder)) if is_pattern(path) else str(folder)
                found = os.path.join(origin, *end)
                if found != path and _is_there(found):
                    yield found

    def renamings(self, paths: list[str]) -> list[Renaming]:
        """Return functions that may turn present paths into those that the run noted.

        Parameters
        ----------
        paths : list of str
            All present paths of the stamps to compare. They are needed for runs that did not note
            the path of their store.
        """
        found: list[Renaming] = []
        if self.store is None:
            return found
        if self.place is not None and self.has_moved:
            found.append(self._as_placed)
        # If a folder above a present path has the last name of a recorded path, its parent may be
        # the recorded parent, moved.
        pairs: dict[tuple[str, str], None] = {}
        for name in self.names:
            recorded = Path(self.recorded(name))
            for path in paths:
                whole = Path(path.partition("::")[0])
                for now in (whole, *whole.parents):
                    if recorded.is_absolute() and now.name and now.name == recorded.name:
                        pairs[str(now.parent), str(recorded.parent)] = None
        found.extend(_renamed_folder(now, then) for now, then in pairs if now != then)
        return found

    def _as_placed(self, path: str) -> str:
        """Return the former path of a present one that moved together with the store."""
        return self._beside(path, str(self.store), str(self.place)) or path

    @staticmethod
    def _beside(path: str, store: str, other: str) -> str | None:
        """Return a path moved as the store was; None if path and store share only the root."""
        # Data that share no folder with the store were not moved together with it.
        folder = os.path.dirname(store)
        if os.path.commonpath([folder, path]) == os.path.abspath(os.sep):
            return None
        return os.path.normpath(os.path.join(other, os.path.relpath(path, store)))


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _ends(parts: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """Yield the ends of a path that can be looked for in any folder, the longest first.

    An end that begins with a wildcard would search whole trees of folders, which can take hours
    high above the store. Only a wildcard in the file's own name costs no more than one listing.
    """
    one_pattern = "*" not in "".join(parts[:-1]) and "**" not in parts[-1:]
    for first, part in enumerate(parts):
        if "*" not in part or (one_pattern and first == len(parts) - 1):
            yield parts[first:]


def _is_there(path: str) -> bool:
    return os.path.exists(path) or (
        is_pattern(path) and next(glob.iglob(path, recursive=True), None) is not None
    )


def _renamed_folder(now: str, then: str) -> Renaming:
    """Return a function that replaces the folder ``now`` by ``then`` in paths below it."""

    def renamed(path: str) -> str:
        return then + path[len(now) :] if path.startswith(now.rstrip(os.sep) + os.sep) else path

    return renamed


def renamed(stamp: Any, renaming: Renaming) -> Any:
    """Return a stamp with its absolute paths replaced."""
    if isinstance(stamp, str):
        return renaming(stamp) if os.path.isabs(stamp) else stamp
    if isinstance(stamp, tuple | list):
        return type(stamp)(renamed(each, renaming) for each in stamp)
    if isinstance(stamp, dict):
        return {key: renamed(value, renaming) for key, value in stamp.items()}
    return stamp


def paths_in(stamp: Any) -> list[str]:
    """Return the absolute paths that a stamp holds, each once."""
    found: list[str] = []

    def noted(path: str) -> str:
        found.append(path)
        return path

    # The walk through the stamp is that of ``renamed``; its result is not needed.
    renamed(stamp, noted)
    return list(dict.fromkeys(found))
