"""The record of a run in its store: what is computed, where, and by which call."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from dkde.engine.provenance import NOTES, describe_work, versions
from dkde.engine.work import Work
from dkde.inputs.moved import Whereabouts, paths_in, renamed
from dkde.inputs.selectors import Catalog
from dkde.numerics.machine import altered_target, blas, processor

_SIDES = (
    "query", "train", "valid", "test", "weights", "query_weights", "valid_weights", "test_weights",
)  # fmt: skip


def circumstances(works: Mapping[str, Work]) -> dict[str, Any]:
    """Return what else decides the last bit of results: the machine, and indexes."""
    stamps = {}
    for name, work in works.items():
        known = work.summaries
        stamps[name] = "none" if known is None else known.stamp
    machine = {"processor": processor(), "blas": blas(), **versions(), "index of train": stamps}
    # Only what somebody asked for: runs of before know of no such thing.
    return machine | ({"compiled for": asked} if (asked := altered_target()) else {})


def given(**arguments: Any) -> dict[str, Any]:
    """Return arguments that are not None: calls of older versions did not have the others."""
    return {name: value for name, value in arguments.items() if value is not None}


def recorded(function: str, source: Catalog, **arguments: Any) -> dict[str, Any] | None:
    """A call as JSON, with which another process can make it; None where it is no such.

    Sides and weights must be selectors: arrays are not written down, however small.
    """
    sides = [arguments[name] for name in _SIDES if arguments.get(name) is not None]
    if not all(isinstance(side, str | os.PathLike) for side in sides):
        return None
    plain = {
        name: os.fspath(value) if isinstance(value, os.PathLike) else value
        for name, value in arguments.items()
    }
    call = {
        "function": function,
        "arguments": plain,
        "source": source.location,
        "features": source.features,
        **{key: value for key, value in source.choice.given.items() if key != "features"},
        "folder": os.getcwd(),  # selectors may name files by paths from here
    }
    try:
        copied: dict[str, Any] = json.loads(json.dumps(call, default=_as_plain))
    except TypeError:
        return None
    return copied


def _as_plain(value: Any) -> Any:
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    raise TypeError


def asked_of(work: Work) -> dict[str, Any]:
    """Return what is computed: a resumed run must ask for the same as its first call."""
    described = describe_work(work)
    plan = described.pop("plan")
    for side in ("query", "train"):
        for part in described[side]["parts"]:
            # The same file by another path is the same; and what it is known by is its content.
            for word in ("name", *NOTES):
                del part[word]
    return {
        "bandwidths": [float(h) for h in work.task.bandwidths],
        **described,
        "content": work.fingerprint(),
        "block_rows": plan["query_rows"],
        "panel_rows": plan["panel_rows"],
    }


def asked_where_it_was(
    works: Mapping[str, Work], then: Mapping[str, Any], where: Whereabouts
) -> dict[str, Any]:
    """Return what is computed, with the data's paths of when the run began.

    What files and stores without a checksum are known by holds their paths.

    Parameters
    ----------
    works : mapping of str to Work
    then : mapping
        What was asked when the run was begun.
    where : Whereabouts
    """
    asked = {name: asked_of(work) for name, work in works.items()}
    for name, work in works.items():
        content = asked[name]["content"]
        known = then.get(name, {}).get("content")
        if content == known:
            continue
        paths: list[str] = []
        work.fingerprint(lambda stamp: paths.extend(paths_in(stamp)))  # noqa: B023
        others = [
            work.fingerprint(partial(renamed, renaming=renaming))
            for renaming in where.renamings(list(dict.fromkeys(paths)))
        ]
        asked[name]["content"] = _likest(known, [content, *others])
    copied: dict[str, Any] = json.loads(json.dumps(asked))
    return copied


def _likest(known: Any, variants: list[Any]) -> Any:
    """Return the known JSON values from several records of one form, if one has them."""
    first = variants[0]
    if isinstance(first, dict) and isinstance(known, Mapping):
        return {key: _likest(known.get(key), [v[key] for v in variants]) for key in first}
    if isinstance(first, list) and isinstance(known, list) and len(first) == len(known):
        return [_likest(k, [v[i] for v in variants]) for i, k in enumerate(known)]
    return known if known in variants else first


def differences(then: Any, now: Any, name: str = "") -> Iterator[str]:
    """Return the differences between two pieces of JSON, in words."""
    if isinstance(then, Mapping) and isinstance(now, Mapping):
        for key in [*then, *(key for key in now if key not in then)]:
            yield from differences(then.get(key), now.get(key), f"{name} {key}".strip())
    elif isinstance(then, list) and isinstance(now, list) and _alike(then, now):
        for number, (before, after) in enumerate(zip(then, now, strict=True)):
            yield from differences(before, after, f"{name} {number}")
    elif then != now:
        yield f"{name} was {_short(then)} and is {_short(now)}"


def _alike(then: list[Any], now: list[Any]) -> bool:
    """Return whether two lists hold equally many objects, to be compared one by one."""
    return len(then) == len(now) and all(isinstance(x, Mapping) for x in [*then, *now])


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


@dataclass(frozen=True)
class Former:
    """The work that older versions did for the same call.

    Parameters
    ----------
    works : callable
        Returns it; called only for a run that is of other work than now.
    what : str
        What older versions did, for messages.
    """

    works: Callable[[], Mapping[str, Work]]
    what: str

    @property
    def made(self) -> str:
        """The maker of such a run, for messages."""
        return f"made by an older version of dkde, which {self.what}"

    def was_asked(self, then: Mapping[str, Any], where: Whereabouts) -> bool:
        """Return whether this is what was asked when a run was begun."""
        return next(differences(then, asked_where_it_was(self.works(), then, where)), None) is None
