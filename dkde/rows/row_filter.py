"""A choice of rows by text, such as ``year == 2020 and depth < 50``.

The text is parsed by Python's own ``ast``, and only the nodes that a filter needs are accepted. It
is never evaluated as Python: it stands in results, and people open the results of others.

A comparison with a missing value (NaN, None, NaT) holds for no row, whatever its operator, and the
same is true after ``not``, as in SQL. To make this so, ``not`` is moved inwards while the text is
parsed: ``not (a < 3 and b)`` becomes ``a >= 3 or not b``. What is left are comparisons joined by
``and`` and ``or``, each false where a value is missing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from dkde.errors import Argument, InputError, NoVariableError, some
from dkde.rows.filter_conditions import (
    Comparison,
    Condition,
    Joined,
    Membership,
    Missing,
    holds,
)
from dkde.rows.filter_text import Parser
from dkde.rows.filter_values import Mask, as_values

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class RowFilter:
    """A condition on the columns of rows; rows for which it holds are kept.

    Parameters
    ----------
    text : str
        The condition as the user wrote it.
    condition : Condition
        Its meaning.

    Examples
    --------
    >>> chosen = RowFilter.parsed("year == 2020 and not depth < 50")
    >>> chosen.names
    ('year', 'depth')
    >>> chosen.mask({"year": np.array([2020, 2020, 2021]), "depth": np.array([60.0, np.nan, 60.0])})
    array([ True, False, False])
    """

    text: str
    condition: Condition

    @classmethod
    def parsed(cls, text: str) -> RowFilter:
        """Return the filter that a text describes.

        Parameters
        ----------
        text : str
            Comparisons of columns with numbers, text, True and False, or with other columns; lists
            after ``in``; ``and``, ``or``, ``not``, ``is None``. A column whose name is no Python
            name stands between backticks: ```sea level` > 3``.

        Raises
        ------
        InputError
            When the text is anything else.
        """
        if not isinstance(text, str):
            raise InputError(
                Argument("where"),
                f" is {_shown(text)}; it is text, such as 'year == 2020 and depth < 5'",
            )
        return cls(text.strip(), Parser(text.strip()).condition())

    def __str__(self) -> str:
        return self.text

    @property
    def names(self) -> tuple[str, ...]:
        """Return the columns that the condition names, each once."""
        return self.condition.names

    @property
    def texts(self) -> frozenset[str]:
        """Return the columns that are compared with text."""
        return frozenset(_compared_with_text(self.condition))

    @property
    def compared(self) -> tuple[str, ...]:
        """Return the columns of which more is asked than whether values are missing."""
        return tuple(dict.fromkeys(_compared(self.condition)))

    def check_names(self, known: Sequence[str], where: str) -> None:
        """Refuse a column that does not exist.

        Parameters
        ----------
        known : sequence of str
            The columns that exist.
        where : str
            The data, for messages.

        Raises
        ------
        NoVariableError
        """
        for name in self.names:
            if name not in known:
                raise no_such(where, name, known)

    def mask(self, values: Mapping[str, Any]) -> Mask:
        """Return whether the condition holds, row by row.

        Parameters
        ----------
        values : mapping of str to array
            The columns by name: numbers, booleans, text or times, of one shape.

        Raises
        ------
        InputError
            When a column is compared with another kind of value, as text with a number.
        """
        found = {name: as_values(np.asanyarray(values[name]), name) for name in self.names}
        return holds(self.condition, found)

    def arrow(self, schema: pa.Schema) -> Any:
        """Return an expression of ``pyarrow.compute`` that holds for all rows that are kept.

        Where :meth:`is_arrows` is true, it holds for no other row.

        Parameters
        ----------
        schema : pyarrow.Schema
            The columns of the table that the expression is for.

        Raises
        ------
        InputError
            When a column does not exist, or is compared with another kind of value.
        """
        from dkde.rows.filter_arrow import expression

        self.check_names(schema.names, "the table")
        return expression(self.condition, schema)

    def is_arrows(self, schema: pa.Schema) -> bool:
        """Return whether Arrow alone can tell the rows of a table that are kept."""
        from dkde.rows.filter_arrow import is_exact

        return is_exact(self.condition, schema)


def _shown(value: Any) -> str:
    """Return a value that is no text; of arrays and columns only what they are."""
    return f"a {type(value).__name__}" if hasattr(value, "__len__") else repr(value)


def _compared(condition: Condition) -> Iterator[str]:
    if isinstance(condition, Joined):
        for part in condition.parts:
            yield from _compared(part)
    elif not isinstance(condition, Missing):
        yield from condition.names


def _compared_with_text(condition: Condition) -> Iterator[str]:
    if isinstance(condition, Joined):
        for part in condition.parts:
            yield from _compared_with_text(part)
    elif isinstance(condition, Membership):
        yield from condition.names if any(isinstance(v, str) for v in condition.values) else ()
    elif isinstance(condition, Comparison) and isinstance(condition.value, str):
        yield condition.name


def no_such(where: str, name: str, known: Sequence[str]) -> NoVariableError:
    """Return the error for a column that a filter names and that does not exist."""
    rest = f"it has {some(known)}" if known else "its columns have no names"
    return NoVariableError(f"{where}: has no column {name!r} for ", Argument("where"), f"; {rest}")
