"""The places of results and data that were moved together: at the beginning of a run and now.

A run names its data by the paths at its beginning. If these lead nowhere, or to other content, the
data are looked for at the same place relative to the store. A user may also say where they are now.
They are accepted if their stamp, which is a checksum, or sizes and times, equals the one that the
run noted.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from dkde.datasets.formats.files import is_pattern
from dkde.errors import Argument, InputError, some
from dkde.inputs.grammar import names_in, sources_in
from dkde.inputs.noted_files import Noted, read_noted, with_noted_times
from dkde.inputs.trusted import Trust
from dkde.stores.json_text import from_json
from dkde.stores.repositories import is_icechunk, plain

# The arguments of a recorded call that are selectors.
_SIDES = ("query", "train", "valid", "test")
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
        The files and stores that the call named, and other parts of its texts that might be such.
    sources : tuple of str
        The files and stores that the call named, as it named them.
    told : mapping of str to str
        The present paths that a user gave, by former path or URL: of files and stores, or of
        folders above them.
    files : mapping
        The files that the run noted with checksums, by former path.
    result : str or None
        The path or URL of the result, whose place decides what of its data is opened; None for one
        in memory, which the user's own program holds.
    trusting : bool
        Whether the user trusts all that the result names.
    """

    store: str | None = None
    place: str | None = None
    folder: str | None = None
    names: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    told: Mapping[str, str] = field(default_factory=dict)
    files: Noted = field(default_factory=dict)
    result: str | None = None
    trusting: bool = False

    @classmethod
    def of(cls, plan: Any, store: str | os.PathLike[str] | None) -> Whereabouts:
        """Return the places of a run, from its plan or from parts of a damaged one."""
        # A plan is read from a store that may be damaged: nothing is taken for granted.
        plan = plan if isinstance(plan, Mapping) else {}
        call = plan.get("call")
        call = call if isinstance(call, Mapping) else {}
        arguments = call.get("arguments")
        arguments = arguments if isinstance(arguments, Mapping) else {}
        given = (call.get("source"), *arguments.values())
        texts = [text for text in given if isinstance(text, str)]
        selectors = [text for side in _SIDES if isinstance(text := arguments.get(side), str)]
        default = (_text(call.get("source")) or "").partition("::")[0]
        own = [default] if default else []
        named = [*own, *(name for text in selectors for name in sources_in(text))]
        named = [name for name in named if name != "digits"]  # which need no file
        local = store is not None and "://" not in os.fspath(store)
        return cls(
            os.path.realpath(store) if local and store is not None else None,
            _whole(plan.get("place")),
            _whole(call.get("folder")),
            tuple(dict.fromkeys(name for text in texts for name in names_in(text))),
            _without_repeats(named, _whole(call.get("folder"))),
            files=read_noted(plan.get("files")),
            result=None if store is None else os.fspath(store),
        )

    @classmethod
    def of_result(cls, attributes: Mapping[Any, Any], store: Any) -> Whereabouts:
        """Return the places of a result; one without provenance has only its present path."""
        try:
            plan = from_json(attributes["run"])
        except (KeyError, ValueError, TypeError):
            plan = None
        return cls.of(plan, store if isinstance(store, str | os.PathLike) else None)

    @cached_property
    def trust(self) -> Trust:
        """Return the places from which its data are opened."""
        if self.result is None:
            return Trust(everything=True)
        return Trust.of(self.result, self.place, self.told, everything=self.trusting)

    @property
    def has_moved(self) -> bool:
        """Return whether the store has moved since the run began."""
        return None not in (self.store, self.place) and self.store != self.place

    def telling(self, sources: Mapping[str, str] | None, *, trusting: bool = False) -> Whereabouts:
        """Return the same places, with those that a user gave for some of the data.

        Parameters
        ----------
        sources : mapping of str to path, optional
            Present paths by former ones, or by names as the call named them; see :func:`told_of`.
        trusting : bool
            Whether the user trusts all that the result names.
        """
        if not sources and not trusting:
            return self
        now = {self.recorded(old): _absolute(new) for old, new in (sources or {}).items()}
        return replace(self, told=now, trusting=trusting)

    def told_place(self, name: str) -> str | None:
        """Return the place that a user gave for a name; None if there is none."""
        return _below(self.recorded(name), self.told) if self.told else None

    def is_named(self, name: str) -> bool:
        """Return whether the call named a file or a store, or one in a folder of that name."""
        path = self.recorded(name)
        known = (self.recorded(each) for each in (*self.sources, *self.names))
        return any(_below(each, {path: ""}) is not None for each in known)

    def recorded(self, name: str) -> str:
        """Return the absolute path that a name meant when the run began."""
        name = os.path.expanduser(plain(name))
        if "://" in name:
            return name.rstrip("/")
        return name if self.folder is None else os.path.normpath(os.path.join(self.folder, name))

    def present(self, name: str) -> str | None:
        """Return the likeliest present path of a file or store; None if nothing is at any.

        A URL is taken to lead somewhere: to ask would cost a request.
        """
        path = self.recorded(name)
        if self.told_place(name) is None and "://" in path:
            return path
        others = self.elsewhere(name)
        if self.has_moved or self.told:  # what lay beside the store was probably moved with it
            return next(others, path if self.trust.sees(path) else None)
        return path if self.trust.sees(path) else next(others, None)

    def elsewhere(self, name: str) -> Iterator[str]:
        """Yield other present paths for a name, the likeliest first."""
        path = self.recorded(name)
        if (told := self.told_place(name)) is not None:
            yield told
            return
        name = plain(name)
        if self.store is None or "://" in name or not os.path.isabs(path):
            return
        beside = None if self.place is None else self._beside(path, self.place, self.store)
        if beside is not None and beside != path and self._has(beside):
            yield beside
        if not os.path.dirname(name) and "." not in name:
            return  # a bare word is more likely a split than a file
        # Look for the ends of the path below each folder above the store. A long end is less
        # likely to match by chance than a short one, so long ends come first.
        parts = Path(path).parts[1:]
        above = [folder for folder in Path(self.store).parents if folder.name]
        least = self._least_end(name)
        for end in (end for end in _ends(parts) if len(end) > least):
            for folder in above:
                # The folder's own brackets must not be read as a part of the pattern.
                origin = glob.escape(str(folder)) if is_pattern(path) else str(folder)
                found = os.path.join(origin, *end)
                if found != path and self._has(found):
                    yield found

    def _least_end(self, name: str) -> int:
        """Return the number of last folders and files in a name that are a name of their own.

        A text is read from its longest part that exists: ``a.npy+/data/b.npy`` is no file, though
        ``b.npy`` may lie beside the store.
        """
        tails = (name[place + 1 :].strip() for place, mark in enumerate(name) if mark == "+")
        named = {self.recorded(each) for each in self.sources}
        known = [Path(tail) for tail in tails if tail and self.recorded(tail) in named]
        return max((len(tail.parts) - tail.is_absolute() for tail in known), default=0)

    def _has(self, path: str) -> bool:
        """Return whether something is at a path, and may be opened."""
        return self.trust.admits(path) and _is_there(path)

    def renamings(self, paths: list[str]) -> list[Renaming]:
        """Return functions that may turn present paths into those that the run noted.

        Parameters
        ----------
        paths : list of str
            All present paths of the stamps to compare. They are needed for runs that did not note
            the path of their store.
        """
        found: list[Renaming] = [_renamed_folder(new, old) for old, new in self.told.items()]
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

    def formers(self, paths: list[str]) -> list[Callable[[Any], Any]]:
        """Return functions that may turn present stamps into those that the run noted.

        Parameters
        ----------
        paths : list of str
            As for :meth:`renamings`.
        """
        renamings = self.renamings(paths)
        # Without the noted times, a stamp at its own place is what it is.
        here = [_as_it_is] if self.files else []
        return [partial(self._former, renaming=each) for each in (*here, *renamings)]

    def _former(self, stamp: Any, renaming: Renaming) -> Any:
        return renamed(with_noted_times(stamp, self.files, renaming), renaming)

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


def paired_sources(then: Any, now: Any) -> dict[str, str]:
    """Return the present paths of data by former ones, where two records name as many.

    The same call with its data at other paths names them in the same places.
    """
    former, present = (Whereabouts.of({"call": call}, None) for call in (then, now))
    if len(former.sources) != len(present.sources):
        return {}
    found = {}
    for old, new in zip(former.sources, present.sources, strict=True):
        if (path := present.recorded(new)) != former.recorded(old):
            found[old] = path
    return found


def _without_repeats(names: list[str], folder: str | None) -> tuple[str, ...]:
    """Return names without those that mean the same path as one before them."""
    meant = Whereabouts(folder=folder)
    return tuple({meant.recorded(name): name for name in reversed(names)}.values())[::-1]


def told_of(sources: Mapping[str, str] | None, runs: Iterable[Whereabouts]) -> dict[str, str]:
    """Return the places that a user gave as absolute paths, once they are checked.

    Parameters
    ----------
    sources : mapping of str to path, optional
        Present paths or URLs by former ones. A former path is one that the call of a run named, or
        that of a folder above it.
    runs : iterable of Whereabouts
        The runs whose data they may be.

    Raises
    ------
    InputError
        When a former path is named by none of the runs, or nothing is at a present one.
    """
    runs, found = list(runs), {}
    for old, new in (sources or {}).items():
        old = os.fspath(old)
        if not any(run.is_named(old) for run in runs):
            known = list(dict.fromkeys(name for run in runs for name in run.sources))
            has = f"it names {some(known)}" if known else "it names no file and no store"
            raise InputError(Argument("sources"), f": {old} is not named in the result; {has}")
        place = found[old] = _absolute(new)
        if "://" not in place and not _is_there(place):
            raise InputError(Argument("sources"), f": {place}, given for {old}, is not there")
    return found


def _absolute(place: str | os.PathLike[str]) -> str:
    place = os.fspath(place)
    return place.rstrip("/") if "://" in place else os.path.abspath(os.path.expanduser(place))


def _below(path: str, places: Mapping[str, str]) -> str | None:
    """Return a path in the place of one of several paths, or of a folder of these; None if in none.

    Examples
    --------
    >>> _below("/old/data/x.npy", {"/old": "/new"}), _below("/older/x.npy", {"/old": "/new"})
    ('/new/data/x.npy', None)
    """
    # The longest path is the most precise.
    for old in sorted(places, key=len, reverse=True):
        whole = old.rstrip("/")
        if path == old or path.startswith((f"{whole}/", f"{whole}{os.sep}", f"{whole}::")):
            return places[old] + path[len(whole) :]
    return None


def _as_it_is(path: str) -> str:
    return path


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _whole(value: Any) -> str | None:
    """Return a recorded path that is whole, as those of runs are; None for anything else."""
    return value if isinstance(value, str) and os.path.isabs(value) and "\0" not in value else None


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
    return (
        os.path.exists(path)
        or is_icechunk(path)
        or (is_pattern(path) and next(glob.iglob(path, recursive=True), None) is not None)
    )


def _renamed_folder(now: str, then: str) -> Renaming:
    """Return a function that replaces the folder ``now`` by ``then`` in paths below it."""

    def renamed(path: str) -> str:
        return found if (found := _below(path, {now: then})) is not None else path

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
