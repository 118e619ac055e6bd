"""The rows that a result scored, read again from their sources."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from itertools import chain
from typing import Any

from dask.tokenize import tokenize

from dkde.errors import DkdeError, InputError
from dkde.inputs.moved import Whereabouts, paths_in, renamed
from dkde.inputs.selectors import Catalog
from dkde.results.scored import ScoredRows
from dkde.rows.columns import chosen, picked
from dkde.rows.row_source import innermost
from dkde.rows.side import Part, Rows


def read_back(side: ScoredRows) -> tuple[Rows | None, str]:
    """Return the rows of a side, opened again from its provenance; nothing is read yet.

    Returns
    -------
    The rows, or None and the reason.
    """
    parts = side.described.get("query", {}).get("parts", [])
    if not parts:
        return None, "nothing is noted of where the rows came from"
    if any(map(_is_lost, parts)):
        return None, "the rows were arrays in memory or lazy ones"
    try:
        return Rows(tuple(_part(part, side.where) for part in parts)), ""
    except DkdeError as error:
        return None, str(error)
    except OSError as error:
        return None, f"{error.filename}: {error.strerror}"


def _is_lost(part: Mapping[str, Any]) -> bool:
    """Return whether no file or store with a part's rows could be opened again."""
    return not part.get("stored") or (part["checksum"] is None and part.get("opened") is None)


def _part(recorded: Mapping[str, Any], where: Whereabouts) -> Part:
    source, separator, split = recorded["name"].rpartition("::")
    source = source if separator else recorded["name"]
    first = source
    if where.folder is not None and "://" not in source and not os.path.exists(source):
        begun = os.path.join(where.folder, source)
        first = begun if os.path.exists(begun) else source
    refused: DkdeError | OSError | None = None
    for place in chain([first], where.elsewhere(source)):
        try:
            return _part_at(place, split if separator else None, recorded, where)
        except (DkdeError, OSError) as error:
            refused = refused or error
    assert refused is not None
    raise refused


def _part_at(
    source: str, split: str | None, recorded: Mapping[str, Any], where: Whereabouts
) -> Part:
    known = Catalog(
        features=recorded.get("opened") or None, row_dim=recorded.get("row_dims") or None
    ).splits(source)
    part = known[split] if split is not None and split in known else next(iter(known.values()))
    if part.checksum is None:
        stamp = innermost(part.source).stamp()
        stamps = [stamp, *(renamed(stamp, then) for then in where.renamings(paths_in(stamp)))]
        same = recorded.get("fingerprint") in [str(tokenize(each)) for each in stamps]
    else:
        same = part.checksum == recorded["checksum"]
    if not same:
        raise InputError(f"{recorded['name']} was changed since its rows were scored, or moved")
    if recorded["stop"] > part.source.shape[0]:
        raise InputError(f"{recorded['name']} has no row {recorded['stop'] - 1}")
    if recorded.get("columns") is not None:
        part = picked(part, recorded["columns"])
    names = recorded.get("names")
    if isinstance(names, list):
        part = replace(part, features=tuple(names))
    return replace(part, start=recorded["start"], stop=recorded["stop"])


def first_difference(a: Rows, b: Rows) -> int | None:
    """Return the first row whose values differ between both; NaN equals NaN.

    Columns of the same names are compared by these, whatever their order.

    Raises
    ------
    DataSetError
        When they cannot be read.
    """
    if a.n_stored_features != b.n_stored_features:
        return 0
    names = a.parts[0].features
    if names is not None and all(set(part.features or ()) == set(names) for part in b.parts):
        b = replace(b, parts=tuple(chosen(part, names) for part in b.parts))
    for start, stop in a.ranges(0, a.n_rows):
        x, y = (rows.read(start, stop, decode=True) for rows in (a, b))
        same = (x == y) | ((x != x) & (y != y))
        if not same.all():
            return start + int((~same.all(axis=1)).argmax())
    return None
