"""Sides without the rows that a filter rules out.

One pass over the columns that the filter names finds the rows that are kept, block by block. These
columns need not be features: they may be any columns, variables, coordinates or labels beside the
rows, of numbers, truths, text or times.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import pairwise
from typing import Any

import dask
import numpy as np
import numpy.typing as npt
import xarray as xr

from dkde.errors import Argument, InputError
from dkde.inputs.arrays import numbers_of
from dkde.inputs.frames import column_as_it_is, frame_of
from dkde.inputs.operands import Operand
from dkde.rows.columns import column_of
from dkde.rows.csv_source import CsvSource
from dkde.rows.filtered import Pieces, kept_of
from dkde.rows.kept import Kept, Masking
from dkde.rows.parquet_source import ParquetSource
from dkde.rows.row_filter import RowFilter, no_such
from dkde.rows.row_source import RowSource, innermost
from dkde.rows.side import Part
from dkde.rows.sources import Numbers
from dkde.rows.variables import VariablesSource

# The blocks whose masks are in memory at a time, before they are packed into bits.
_AT_ONCE = 64
_LOG = logging.getLogger(__name__)
_Mask = npt.NDArray[np.bool_]


def filtered(operand: Operand, where: str | None, role: str) -> Operand:
    """Return the side with only the rows that meet a condition; all rows if there is none.

    Parameters
    ----------
    operand : Operand
        The side, whose columns are its features already.
    where : str, optional
        The condition, as the user wrote it.
    role : str
        The name of the side, for messages.

    Raises
    ------
    InputError
        When the condition cannot be applied to these rows.
    """
    if where is None:
        return _of_values(operand)
    found = kept_only(operand, RowFilter.parsed(where))
    assert found.kept is not None
    n_rows, all_rows = found.kept.n_rows, operand.rows.n_rows
    _LOG.info("%s: %d of %d rows are those where %s", role, n_rows, all_rows, where)
    return found


def _of_values(operand: Operand) -> Operand:
    """Return a side with the rows that its selector names by values."""
    if not any(operand.of_values):
        return operand
    whole = (Kept.of("True", p.start, p.stop, [np.ones(len(p), bool)]) for p in operand.rows.parts)
    return keeping(
        operand, [own or all_ for own, all_ in zip(operand.of_values, whole, strict=True)]
    )


def meeting(
    table: Any, where: str, role: str, beside: Mapping[str, Any]
) -> tuple[Any, dict[str, Any]]:
    """Return the rows of a table in memory that meet a condition, and what is beside them.

    Parameters
    ----------
    table : DataFrame of pandas
        The rows, with all of their columns.
    where, role
        As for :func:`filtered`.
    beside : mapping of str to array, text or None
        By the names of arguments, one number for each row; text and None are returned as they are.

    Raises
    ------
    InputError
        As :func:`filtered`.
    """
    frame, chosen = frame_of(table, role), RowFilter.parsed(where)
    if frame is None:
        raise no_such(role, chosen.names[0], ())
    mask = chosen.mask({name: column_as_it_is(frame, role, name).array for name in chosen.names})
    n_rows, all_rows = int(mask.sum()), len(mask)
    if not n_rows:
        raise none_kept(role, all_rows, chosen)
    _LOG.info("%s: %d of %d rows are those where %s", role, n_rows, all_rows, where)
    found = dict(beside)
    for name, given in beside.items():
        if given is None or isinstance(given, str):
            continue
        numbers = numbers_of(given, name)
        if len(numbers) != all_rows:
            raise InputError(
                f"{name} has {len(numbers)} values; give one for each of the {all_rows} rows "
                "before ", Argument("where"), ", which are filtered alike"
            )  # fmt: skip
        found[name] = numbers[mask]
    return table.loc[mask], found


def kept_only(operand: Operand, chosen: RowFilter) -> Operand:
    """Return a side with the rows that a filter keeps.

    Rows of one dim keep it. Rows of a grid are points along one new dim, ``sample``, with the
    grid's coordinates and their numbers in the grid, ``source_row``.

    Parameters
    ----------
    operand : Operand
        The side.
    chosen : RowFilter
        The filter.

    Raises
    ------
    InputError
        When the side lacks a column of the filter, a column is compared with another kind of value,
        or no row is kept.
    """
    kept = [
        Kept.of(chosen.text, part.start, part.stop, _masks(operand, part, chosen))
        for part in operand.rows.parts
    ]
    if operand.of_values:
        kept = [each.among(own) for each, own in zip(kept, operand.of_values, strict=True)]
    if not any(each.n_rows for each in kept):
        raise none_kept(operand.rows.label, operand.rows.n_rows, chosen)
    return keeping(operand, kept)


def keeping(operand: Operand, kept: Sequence[Kept], shared: Pieces | None = None) -> Operand:
    """Return a side with the rows of each part that are kept, at least one of all.

    Dims are as those of :func:`kept_only`.

    Parameters
    ----------
    operand : Operand
        The side.
    kept : sequence of Kept
        Of each of its parts.
    shared : Pieces, optional
        What other filters of the same side have read.
    """
    parts = operand.rows.parts
    masks = (mask for each in kept for mask in each.masks())
    among_all = Kept.of(kept[0].text, 0, operand.rows.n_rows, masks)
    new = [
        _kept_part(part, each, shared)
        for part, each in zip(parts, kept, strict=True)
        if each.n_rows
    ]
    dims = operand.dims if len(operand.dims) == 1 else ("sample",)
    return replace(
        operand.with_parts(new),
        dims=dims,
        sizes=None,
        labelled=_labelled(operand, among_all),
        before=replace(operand, of_values=()),
        kept=among_all,
        of_values=(),
    )


def kept_rows(operand: Operand, chosen: RowFilter) -> Kept:
    """Return which rows of a side of one part a filter keeps.

    Raises
    ------
    InputError
        As :func:`kept_only`.
    """
    (part,) = operand.rows.parts
    kept = Kept.of(chosen.text, part.start, part.stop, _masks(operand, part, chosen))
    if not kept.n_rows:
        raise none_kept(operand.rows.label, operand.rows.n_rows, chosen)
    return kept


def none_kept(where: str, n_rows: int, chosen: RowFilter) -> InputError:
    """Return the error for rows of which a filter keeps none."""
    return InputError(
        f"{where}: none of its {n_rows} rows is one where {chosen}; a comparison with a missing "
        "value keeps no row"
    )


def _kept_part(part: Part, kept: Kept, pieces: Pieces | None) -> Part:
    """Return the kept rows of a part, with what lies beside them."""
    # A range of the part's source becomes the whole of another source.
    beside = {"source_row": Numbers(part.source.shape[0]), **part.coordinates}
    return replace(
        part,
        source=kept_of(part.source, kept, pieces),
        start=0,
        stop=kept.n_rows,
        coordinates={name: kept_of(source, kept) for name, source in beside.items()},
    )


def _labelled(operand: Operand, kept: Kept) -> xr.Dataset:
    """Return the coordinates of the kept rows of an xarray object."""
    labelled, numbers = operand.labelled, kept.numbers(0, kept.n_rows)
    if len(operand.dims) == 1:
        (dim,) = operand.dims
        return labelled.isel({dim: numbers}) if dim in labelled.dims else labelled
    if operand.form != "xarray":
        return labelled
    # Each coordinate by the indices of the rows along its own dims.
    places = dict(zip(operand.dims, np.unravel_index(numbers, operand.shape), strict=True))
    found = {
        name: ("sample", np.asarray(coordinate.values)[tuple(places[d] for d in coordinate.dims)])
        if coordinate.dims
        else coordinate.variable
        for name, coordinate in labelled.coords.items()
    }
    return xr.Dataset(coords={"source_row": ("sample", numbers)} | found)


def _masks(operand: Operand, part: Part, chosen: RowFilter) -> Iterator[_Mask]:
    """Yield whether the filter holds, block by block, for the rows of a part."""
    how = _masking(operand, part, chosen)
    pieces = list(pairwise(how.cuts(part.start, part.stop)))
    if not how.in_tasks:
        yield from (how.mask(*piece) for piece in pieces)
        return
    # Columns in stores and graphs are read in tasks: by the threads of this process, or by the
    # workers of an active client.
    task = dask.delayed(how.mask, pure=False, traverse=False)
    for first in range(0, len(pieces), _AT_ONCE):
        yield from dask.compute(*(task(*piece) for piece in pieces[first : first + _AT_ONCE]))


def _masking(operand: Operand, part: Part, chosen: RowFilter) -> Masking:
    """Return how the rows of a part that a filter keeps are found."""
    source = innermost(part.source)
    if isinstance(source, ParquetSource):
        from dkde.rows.parquet_filter import masking

        return masking(source, chosen, part.name)
    if isinstance(source, CsvSource):
        from dkde.rows import csv_filter

        return csv_filter.masking(source, chosen)
    columns = {name: column_of_rows(operand, part, name) for name in chosen.names}
    classes = {
        name: np.array(words, object)
        for name in chosen.texts
        if (words := _classes(operand, part, name))
    }
    # The column with the longest chunks decides, so that each of its chunks is read once.
    longest = max(columns.values(), key=lambda source: source.read_rows)
    is_held = any(source.resident_bytes for source in columns.values())
    return Masking(partial(_mask, chosen, columns, classes), longest.cuts, not is_held)


def _classes(operand: Operand, part: Part, name: str) -> Sequence[str]:
    """Return the names of classes, of which labels are the numbers; empty where there are none."""
    if name in part.classes:
        return part.classes[name]
    if name not in operand.labelled.coords:
        return ()
    notes = operand.labelled.coords[name].attrs
    words = str(notes.get("flag_meanings", "")).split()
    is_numbered = np.array_equal(notes.get("flag_values", ()), np.arange(len(words)))
    return words if is_numbered else ()


def _mask(
    chosen: RowFilter,
    columns: dict[str, RowSource],
    classes: dict[str, Any],
    start: int,
    stop: int,
) -> _Mask:
    """Return whether the filter holds for a range of rows."""
    values = {name: source.read(start, stop) for name, source in columns.items()}
    for name, words in classes.items():  # labels are numbers of classes
        values[name] = words[values[name]]
    return chosen.mask(values)


def column_of_rows(operand: Operand, part: Part, name: str) -> RowSource:
    """Return any column of a part's source, as it is there: text and times too.

    Raises
    ------
    NoVariableError
        When there is no such column.
    """
    source = innermost(part.source)
    # Variables are read one by one; a column of an array is read with all others, or from memory.
    # A feature that was converted to numbers is looked for as it was before.
    if source.named is not None and isinstance(source, VariablesSource):
        return source.named(name)
    if (found := part.coordinates.get(name)) is not None:
        return found
    converted = name in part.converted
    if not converted and (found := column_of(part, name)) is not None:
        return found
    if name in operand.labelled.coords:
        variable = operand.labelled.coords[name].variable
        if set(variable.dims) <= set(operand.dims):
            return VariablesSource([variable], operand.dims, operand.shape, [name], is_vector=True)
    if source.named is not None:
        return source.named(name)
    known: Sequence[str] = [
        *part.coordinates, *(part.column_names or ()), *map(str, operand.labelled.coords)
    ]  # fmt: skip
    raise no_such(part.name, name, known)
