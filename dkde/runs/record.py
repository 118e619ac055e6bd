"""The record of a run in its store: the work, the machine and the call."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from dkde.engine import task
from dkde.engine.provenance import NOTES, describe_work, versions
from dkde.engine.tokens import dask_token
from dkde.engine.work import Work, as_it_is
from dkde.inputs.moved import Whereabouts, paths_in
from dkde.inputs.selectors import Catalog
from dkde.numerics.machine import altered_target, blas, processor
from dkde.stores.current_folder import current_folder

# The arguments of a call that are rows, or have a value for each: only text of them is recorded.
_SIDES = (
    "query", "train", "valid", "test", "weights", "query_weights", "valid_weights", "test_weights",
    "by", "query_by", "bandwidth_scale",
)  # fmt: skip


def circumstances(works: Mapping[str, Work]) -> dict[str, Any]:
    """Return what decides the last bits of results beside the work: machine, engine, indexes."""
    # With an index far rows may be left out, and the sums then differ in their last bits.
    stamps = {}
    for name, work in works.items():
        known = work.summaries
        stamps[name] = "none" if known is None else known.stamp
    machine = {
        "processor": processor(), "blas": blas(), **versions(), **task.revision_noted(),
        "index of train": stamps,
    }  # fmt: skip
    # The key is there only if a target was asked for: older runs do not have it, and a key with
    # None would be a difference from them.
    return machine | ({"compiled for": asked} if (asked := altered_target()) else {})


def engine_of(begun: Mapping[str, Any]) -> int:
    """Return the revision of the engine that began a run, from its plan."""
    return int(begun["machine"].get("engine", 1))


def cut_as_recorded(works: Mapping[str, Work], begun: Mapping[str, Any]) -> Mapping[str, Work]:
    """Return works in the blocks that the plan of a run recorded.

    Another revision of the engine may choose other blocks by default. Those of the record are
    taken only then, so that any other difference is refused; and only where the call asks for
    none itself.
    """
    if engine_of(begun) == task.REVISION:
        return works
    cuts = {
        name: (asked["block_rows"], asked["panel_rows"]) for name, asked in begun["asked"].items()
    }
    return {name: work.recut(*cuts[name]) if name in cuts else work for name, work in works.items()}


def elsewhere(begun: Mapping[str, Any], machine: Mapping[str, Any]) -> list[str]:
    """Return in words how circumstances differ from those that began a run."""
    first = {"engine": 1}
    return list(differences({**first, **begun["machine"]}, {**first, **machine}))


def given(**arguments: Any) -> dict[str, Any]:
    """Return arguments that are not None: calls of older versions did not have the others."""
    return {name: value for name, value in arguments.items() if value is not None}


def recorded(function: str, source: Catalog, **arguments: Any) -> dict[str, Any] | None:
    """Return a call as JSON, with which another process can repeat it; None where that fails.

    Sides and weights must be selectors: arrays are not recorded, however small.
    """
    sides = [arguments[name] for name in _SIDES if arguments.get(name) is not None]
    if not all(isinstance(side, str | os.PathLike) for side in sides):
        return None
    plain = {
        name: os.fspath(value) if isinstance(value, os.PathLike) else _with_text_keys(value)
        for name, value in arguments.items()
    }
    # Stores keep this dict, and later versions read it: keys may be added, and none renamed.
    call = {
        "function": function,
        "arguments": plain,
        "source": source.location,
        "features": None,
        **source.choices.given,
        **given(decimal=source.decimal),
        "folder": current_folder(),  # selectors may name files by paths from here
    }
    # Through JSON and back, so that tuples and NumPy numbers compare equal to what a store holds.
    try:
        copied: dict[str, Any] = json.loads(json.dumps(call, default=_as_plain))
    except TypeError:
        return None
    return copied


def _with_text_keys(value: Any) -> Any:
    """Return a mapping with text for each tuple of names, as ``lat,lon``; all else as it is."""
    if not isinstance(value, Mapping):
        return value
    return {",".join(key) if isinstance(key, tuple) else key: one for key, one in value.items()}


def _as_plain(value: Any) -> Any:
    """Return an array or a NumPy number as plain Python; for json.dumps."""
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    raise TypeError


def asked_of(work: Work, seen: Callable[[Any], Any] = as_it_is) -> dict[str, Any]:
    """Return a description of the work; a resumed run must ask for the same as its first call.

    Parameters
    ----------
    seen : callable
        As for :meth:`dkde.engine.work.Work.fingerprint`.
    """
    described = describe_work(work)
    plan = described.pop("plan")
    # No part of the work: a run of another engine may go on.
    described.pop("engine", None)
    for side in ("query", "train"):
        for part in described[side]["parts"]:
            # The same file by another path is the same data: only its content is compared.
            for word in ("name", *NOTES):
                del part[word]
    return {
        "bandwidths": [float(h) for h in work.task.bandwidths],
        **described,
        "content": work.fingerprint(seen),
        "block_rows": plan["query_rows"],
        "panel_rows": plan["panel_rows"],
    }


def asked_now(works: Mapping[str, Work], seen: Callable[[Any], Any] = as_it_is) -> dict[str, Any]:
    """Return descriptions of works as a store holds them: JSON has lists for tuples."""
    asked: dict[str, Any] = json.loads(json.dumps({n: asked_of(w, seen) for n, w in works.items()}))
    return asked


def asked_where_it_was(
    works: Mapping[str, Work], then: Mapping[str, Any], where: Whereabouts
) -> dict[str, Any]:
    """Return descriptions of works, with the paths that the data had when the run began.

    Data without a checksum are identified by their paths, sizes and times. After a move the
    paths are others, although the data are the same.

    Parameters
    ----------
    works : mapping of str to Work
    then : mapping
        The descriptions of when the run began.
    where : Whereabouts
        The places of the run and its data, then and now.
    """
    asked = {name: asked_of(work) for name, work in works.items()}
    for name, work in works.items():
        content = asked[name]["content"]
        known = then.get(name, {}).get("content")
        if content == known:
            continue
        # The first call only collects the paths; the others say what the stamps would have been
        # if the data lay at their former places.
        paths: list[str] = []
        work.fingerprint(lambda stamp: paths.extend(paths_in(stamp)))  # noqa: B023
        formers = where.formers(list(dict.fromkeys(paths)))
        others = [work.fingerprint(former) for former in formers]
        # Of earlier versions, whose tokens depended on what else was installed.
        others += [work.fingerprint(former, dask_token) for former in (as_it_is, *formers)]
        asked[name]["content"] = _likest(known, [content, *others])
        if asked[name]["content"] != known:
            # Older versions loaded some files whose values are read by tasks now.
            former = work.fingerprint(former=True)
            asked[name]["content"] = _likest(known, [content, *others, former])
            _take_checksums(asked[name], work, then.get(name, {}))
    copied: dict[str, Any] = json.loads(json.dumps(asked))
    return copied


def _take_checksums(asked: dict[str, Any], work: Work, then: Mapping[str, Any]) -> None:
    """Write checksums that older versions recorded into a description, if the files have them."""
    for name, side in (("query", work.query), ("train", work.train)):
        before = then.get(name, {}).get("parts", [])
        for part, now, recorded in zip(side.rows.parts, asked[name]["parts"], before, strict=False):
            if now["checksum"] is None and recorded.get("checksum") and part.full_checksum:
                now["checksum"] = part.full_checksum()


def _likest(known: Any, variants: list[Any]) -> Any:
    """Return JSON that has, value by value, the known one if any of several variants has it.

    The variants have the same form. Each value is chosen by itself: of several files, some may
    have been moved and others not.
    """
    first = variants[0]
    if isinstance(first, dict) and isinstance(known, Mapping):
        return {key: _likest(known.get(key), [v[key] for v in variants]) for key in first}
    if isinstance(first, list) and isinstance(known, list) and len(first) == len(known):
        return [_likest(k, [v[i] for v in variants]) for i, k in enumerate(known)]
    return known if known in variants else first


def differences(then: Any, now: Any, name: str = "") -> Iterator[str]:
    """Yield the differences between two pieces of JSON, in words."""
    if isinstance(then, Mapping) and isinstance(now, Mapping):
        # A key that is missing on one side counts as None: JSON null and no key are the same.
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
    """Return a JSON value as text, shortened to 80 characters."""
    text = json.dumps(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


@dataclass(frozen=True)
class Former:
    """The work that older versions did for the same call.

    Parameters
    ----------
    works : callable
        Returns the works; called only for a run whose work is not that of this version.
    what : str
        What older versions did, for messages.
    """

    works: Callable[[], Mapping[str, Work]]
    what: str

    @property
    def made(self) -> str:
        """Return who made such a run, for messages."""
        return f"made by an older version of dkde, which {self.what}"

    def was_asked(self, begun: Mapping[str, Any], where: Whereabouts) -> bool:
        """Return whether the run of a plan was begun with this work."""
        works = cut_as_recorded(self.works(), begun)
        asked = asked_where_it_was(works, begun["asked"], where)
        return next(differences(begun["asked"], asked), None) is None
