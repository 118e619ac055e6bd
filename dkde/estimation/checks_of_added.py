"""The checks of rows that are added to a result, and of the tolerance that its sums leave."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr

from dkde.engine.task import Task
from dkde.engine.tokens import stable_token
from dkde.engine.work import Work
from dkde.errors import Argument, DataSetError, InputError
from dkde.estimation.stored_densities import stored_densities
from dkde.numerics.logsum import Densities
from dkde.numerics.piecewise import pieces
from dkde.rows.row_source import foundation, innermost
from dkde.rows.side import Part, Side
from dkde.rows.slicing import check_units
from dkde.runs.same_call import OtherCallError
from dkde.runs.store import MAIN

_SIDES = ("train", "query")


def check_continues(first: Work, whole: Work, roles: Sequence[str]) -> None:
    """Refuse the work of all rows if its first rows are not those of a result.

    Parameters
    ----------
    roles : sequence of str
        The sides to which rows are added.

    Raises
    ------
    OtherCallError
        When data that were looked for at another place are not those.
    """
    before, after = first.fingerprint(), whole.fingerprint()
    for side in _SIDES:
        n_parts = len(before[side]["parts"])
        if after[side]["parts"][:n_parts] != before[side]["parts"]:
            raise OtherCallError(f"the first rows of {side} are others than those of the result")
        if side in roles and len(after[side]["parts"]) == n_parts:
            raise OtherCallError(f"the rows to add to {side} were not found")
        if after[side]["linear"] != before[side]["linear"]:
            raise OtherCallError(f"the covariance of the first rows of {side} comes out different")
    if not np.array_equal(first.task.bandwidths, whole.task.bandwidths):
        raise OtherCallError("the bandwidths of the first rows come out different")


def check_added(name: str, first: Work, whole: Work) -> None:
    """Refuse added rows that are there already, or whose features have other units.

    Parameters
    ----------
    name : str
        The name of the result, for messages.

    Raises
    ------
    InputError
    """
    for role in _SIDES:
        before, after = (getattr(work, role) for work in (first, whole))
        n_first = len(before.rows.parts)
        for number, part in enumerate(after.rows.parts[n_first:], n_first):
            check_units(before.rows.parts[0], part, f"the rows of {name}")
            known = enumerate(after.rows.parts[:number])
            where = next((i for i, old in known if _share_rows(old, part)), None)
            if where is None:
                continue
            there = after.rows.parts[where]
            same = "" if there.name == part.name else ", which has the same content"
            if where >= n_first:
                raise InputError(
                    f"{part.label}: has rows of {there.label}{same}, which are to be added too; "
                    "name rows once"
                )
            raise InputError(
                f"{name}: rows of {part.label} are among its {role} rows already ({there.label}"
                f"{same}); name other rows"
            )
    _check_dims(name, first.query, whole.query)


def _check_dims(name: str, before: Side, after: Side) -> None:
    """Refuse to add rows to those of a grid, whose dims would no longer be known."""
    if after.rows.n_rows == before.rows.n_rows:
        return
    dims = {len(part.row_dims or part.source.sizes) for part in before.rows.parts}
    if dims - {1}:
        raise InputError(
            f"{name}: its query rows lie along {max(dims)} dims, to which no rows can be added; "
            "leave out ",
            Argument("query"),
        )


def _share_rows(old: Part, new: Part) -> bool:
    """Return whether two parts have rows in common, or rows of the same content."""
    if old.overlaps(new):
        return True
    if any(innermost(part.source).kept is not None for part in (old, new)):
        return False  # rows that a filter keeps are numbered anew
    if max(old.start, new.start) >= min(old.stop, new.stop):
        return False
    # Splits of one file may have the checksum of the file.
    places = [part.name.rpartition("::")[0] for part in (old, new)]
    if places[0] and places[0] == places[1] and old.name != new.name:
        return _token(old) == _token(new)
    return _content(old) == _content(new)


def _content(part: Part) -> str:
    return part.checksum or _token(part)


def _token(part: Part) -> str:
    return stable_token(foundation(part.source).stamp())


def spent_in(found: Densities) -> float:
    """Return the largest bound on the error of a log-density, relative to max(1, |log p|).

    It is infinite where a log-density has none.
    """
    most = 0.0
    for rows in pieces(found.values):
        values, errors = found.at(rows)[:2]
        finite = np.isfinite(values)
        spent = errors[finite] / np.maximum(1.0, np.abs(values[finite]))
        most = max(most, float(np.nan_to_num(spent, nan=np.inf, posinf=np.inf).max(initial=0.0)))
    return most


def check_bounds(name: str, found: Densities, task: Task) -> None:
    """Refuse log-densities whose bounds are above the tolerance.

    With float32 the tolerance is relative to more than the log-density, and only the bounds count.

    Parameters
    ----------
    name : str
        The name of the result, for messages.

    Raises
    ------
    InputError
    """
    spent = spent_in(found)
    if task.precision == "float64" and spent > task.tol:
        raise InputError(
            f"{name}: the bounds on its errors are up to {spent:.3g} max(1, |log p|), above the "
            f"tolerance of {task.tol:g} that is asked; allow more (", Argument("tol"),
            "), or make it anew of all rows",
        )  # fmt: skip


def check_noted_bounds(name: str, result: xr.Dataset, task: Task, noted: Any) -> None:
    """Refuse an extended result whose bounds are above its tolerance, or above what it notes.

    What is computed again is held to these bounds. Wider ones would hide an error.

    Parameters
    ----------
    name : str
        The name of the result, for messages.
    noted : anything
        What its provenance says of its parts.

    Raises
    ------
    DataSetError
    """
    most = noted.get("tolerance_spent") if isinstance(noted, dict) else None
    if not isinstance(most, int | float):
        raise DataSetError(f"{name}: does not say how wide its bounds are; the result is damaged")
    for prefix in ("", "test_"):
        if f"{prefix}{MAIN}" not in result:
            continue
        spent = spent_in(stored_densities(result, prefix))
        which = f"{name}: the bounds {prefix}{MAIN}_error are up to {spent:.3g} max(1, |log p|)"
        if task.precision == "float64" and spent > task.tol:
            raise DataSetError(
                f"{which}, above its tolerance of {task.tol:g}; the result is damaged"
            )
        if not spent <= most * (1 + 1e-12):
            raise DataSetError(f"{which}, and it notes {most:.3g}; the result is damaged")
