"""The values of any column beside the rows of a side: numbers, truths, text or times."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from dkde.errors import InputError, NoVariableError
from dkde.inputs.calendar import CALENDAR, calendar_values
from dkde.inputs.filtering import column_of_rows
from dkde.inputs.operands import Operand
from dkde.rows.csv_source import CsvSource
from dkde.rows.filter_values import Mask, as_values
from dkde.rows.frame_values import values_of_arrow
from dkde.rows.parquet_source import ParquetSource
from dkde.rows.row_source import innermost
from dkde.rows.side import Part
from dkde.rows.table_files import TableFiles
from dkde.typing import Array


def numbered_values(operand: Operand, name: str, what: str) -> tuple[Array, Array]:
    """Return the different values of a column, in order, and the number of each row's value.

    Parameters
    ----------
    operand : Operand
        The rows.
    name : str
        Any column, variable, coordinate or label beside them.
    what : str
        What the values are for, in messages: "folds".

    Raises
    ------
    NoVariableError
        When there is no such column.
    InputError
        When values are missing, or of no kind that can be told apart.
    """
    values, present = column_values(operand, name, what)
    if not present.all():
        row = int((~present).argmax())
        raise InputError(
            f"{what}: column {name!r} misses the value of row {row}; fill it, or leave such rows "
            f"out (where: {name} is not None)"
        )
    known, numbers = np.unique(values, return_inverse=True)
    return known, numbers


def column_values(operand: Operand, name: str, what: str) -> tuple[Array, Mask]:
    """Return the values of a column, and which of them are present.

    Parameters
    ----------
    operand, what
        As for :func:`numbered_values`.
    name : str
        Any column, variable, coordinate or label beside the rows; or a part of the times of one,
        ``"time.month"``.

    Raises
    ------
    NoVariableError
        When there is no such column.
    InputError
        When values are of no kind that can be told apart.
    """
    if operand.before is not None and operand.kept is not None:
        values, present = column_values(operand.before, name, what)
        numbers = operand.kept.numbers(0, operand.kept.n_rows)
        return values[numbers], present[numbers]
    column, _, calendar = name.rpartition(".")
    if not column or calendar not in CALENDAR:
        return _values(operand, name, what)
    try:
        return _values(operand, name, what)
    except NoVariableError:
        times, present = _values(operand, column, what)
    if times.dtype.kind != "M":
        raise InputError(f"{what}: column {column!r} holds no times, which {name!r} needs")
    return calendar_values(times, calendar), present


def _values(operand: Operand, name: str, what: str) -> tuple[Array, Mask]:
    parts = []
    for part in operand.rows.parts:
        try:
            read = _of_part(operand, part, name)
        except NoVariableError:
            operand.variable(name, what)  # whose message names what there is
            raise
        try:
            parts.append(as_values(read, name))
        except InputError:
            raise InputError(
                f"{part.name}: column {name!r} cannot be {what}: it holds no numbers, text, True "
                "and False, or times"
            ) from None
    kinds = {kind for kind, _, _ in parts if kind != "missing"}
    if len(kinds) > 1:
        raise InputError(
            f"column {name!r} cannot be {what}: it holds {' and '.join(sorted(kinds))} values"
        )
    return (
        np.concatenate([values for _, values, _ in parts]),
        np.concatenate([present for _, _, present in parts]),
    )


def _of_part(operand: Operand, part: Part, name: str) -> Array:
    source = innermost(part.source)
    if isinstance(source, TableFiles):
        if isinstance(source, CsvSource):
            assert source.others is not None
            source = source.others([name])
        elif isinstance(source, ParquetSource):
            source.check_column(name)
        batches = source.arrow(part.start, part.stop, [name])
        return values_of_arrow([batch.column(name) for batch in batches])
    column = column_of_rows(operand, part, name)
    pieces = pairwise(column.cuts(part.start, part.stop))
    read = [column.read(*piece) for piece in pieces]
    if any(isinstance(each, np.ma.MaskedArray) for each in read):
        # NumPy's own would take what is masked for values.
        masked: Array = np.ma.concatenate(read)  # type: ignore[no-untyped-call]
        return masked
    return np.concatenate(read)
