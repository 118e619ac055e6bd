"""The rows that a result scored, read again from their sources."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from itertools import chain
from typing import Any

from dkde.engine.tokens import dask_token, stable_token
from dkde.errors import DkdeError, InputError
from dkde.inputs.filtering import kept_only
from dkde.inputs.moved import Whereabouts, paths_in
from dkde.inputs.operands import Operand
from dkde.inputs.selectors import Catalog
from dkde.rows.columns import chosen, picked
from dkde.rows.row_filter import RowFilter
from dkde.rows.row_source import innermost
from dkde.rows.side import Part, Rows
from dkde.runs.scored_rows import ScoredRows


def read_back(side: ScoredRows) -> tuple[Rows | None, str]:
    """Return the rows of a side, opened again from its provenance; their values are not read yet.

    Returns
    -------
    rows : Rows or None
        The rows; None if they cannot be opened again.
    reason : str
        Why they cannot be opened again; else empty.
    """
    parts = side.described.get("query", {}).get("parts", [])
    if not parts:
        return None, "the result does not record where its rows came from"
    if any(map(_is_lost, parts)):
        return None, "the rows were arrays in memory or lazy arrays"
    try:
        return Rows(tuple(_part(part, side.where) for part in parts)), ""
    except DkdeError as error:
        return None, str(error)
    except OSError as error:
        return None, f"{error.filename}: {error.strerror}"


def _is_lost(part: Mapping[str, Any]) -> bool:
    """Return whether a part's rows were in no file or store that could be opened again."""
    known = part["checksum"] or part.get("opened") or part.get("source") == "ParquetSource"
    return not (part.get("stored") and known)


def _part(recorded: Mapping[str, Any], where: Whereabouts) -> Part:
    """Open a recorded part again, at its own place or where it may have been moved.

    Raises
    ------
    DkdeError, OSError
        When it is at none of these places: the fault of the first one.
    """
    # The name is that of a file or a store, followed by "::" and the split where there are several.
    source, separator, split = recorded["name"].rpartition("::")
    source = source if separator else recorded["name"]
    first = source
    if (told := where.told_place(source)) is not None:
        return _part_at(told, split if separator else None, recorded, where)
    # A relative path is one from the folder in which the run was begun, if the file is there.
    if where.folder is not None and "://" not in source and not os.path.exists(source):
        begun = os.path.join(where.folder, source)
        first = begun if os.path.exists(begun) else source
    # The fingerprint decides at each place, so that another file of the same name is passed over.
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
    """Open a recorded part at a place, if it has not changed since it was scored.

    Raises
    ------
    InputError
        When the data have changed, or have fewer rows by now; or the place is not trusted.
    """
    where.trust.check(source)
    known = Catalog(
        features=recorded.get("opened") or None,
        row_dim=recorded.get("row_dims") or None,
        decimal=recorded.get("decimal"),
    ).splits(source)
    part = known[split] if split is not None and split in known else next(iter(known.values()))
    # A data set of dkde holds its checksum. Other files are identified by a stamp that depends on
    # their path, so that the stamps they would have had at former places are tried, too.
    if part.checksum is None and recorded["checksum"] and part.full_checksum is not None:
        same = part.full_checksum() == recorded["checksum"]
    elif part.checksum is None:
        stamp = innermost(part.source).stamp()
        stamps = [stamp, *(former(stamp) for former in where.formers(paths_in(stamp)))]
        same = recorded.get("fingerprint") in [
            token(each) for each in stamps for token in (stable_token, dask_token)
        ]
    else:
        same = part.checksum == recorded["checksum"]
    if not same:
        raise InputError(f"{recorded['name']} was changed since its rows were scored, or moved")
    if recorded["stop"] > part.source.shape[0]:
        raise InputError(f"{recorded['name']} has no row {recorded['stop'] - 1}")
    # The features as they were picked and named then, as the order decides which is which.
    if recorded.get("columns") is not None:
        part = picked(part, recorded["columns"])
    names = recorded.get("names")
    if isinstance(names, list):
        part = replace(part, features=tuple(names))
    part = replace(part, start=recorded["start"], stop=recorded["stop"])
    return part if recorded.get("where") is None else _kept_again(part, recorded)


def _kept_again(part: Part, recorded: Mapping[str, Any]) -> Part:
    """Return the rows that the recorded filter keeps, if they are those that were scored.

    Raises
    ------
    InputError
        When the filter keeps other rows by now.
    """
    where = recorded["where"]
    found = kept_only(Operand(Rows((part,)), "selector"), RowFilter.parsed(where["text"]))
    (part,) = found.rows.parts
    kept = innermost(part.source).kept
    if kept.described["kept"] != where["kept"]:
        raise InputError(
            f"{recorded['name']} was changed since its rows were scored: other rows are those "
            f"where {where['text']}"
        )
    return part


def first_difference(a: Rows, b: Rows) -> int | None:
    """Return the number of the first row whose values differ; None if all are equal.

    NaN equals NaN. If both have columns of the same names, these are compared by name, whatever
    their order.

    Raises
    ------
    DataSetError
        When the rows cannot be read.
    """
    if a.n_stored_features != b.n_stored_features:
        return 0
    names = a.parts[0].features
    if names is not None and all(set(part.features or ()) == set(names) for part in b.parts):
        b = replace(b, parts=tuple(chosen(part, names) for part in b.parts))
    # A range of bounded size at a time, as the rows may not fit in memory.
    for start, stop in a.ranges(0, a.n_rows):
        x, y = (rows.read(start, stop, decode=True) for rows in (a, b))
        # NaN is the only value that differs from itself.
        same = (x == y) | ((x != x) & (y != y))
        if not same.all():
            return start + int((~same.all(axis=1)).argmax())
    return None
