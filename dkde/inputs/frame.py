"""A table of any package, as columns with names that are read when they are needed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import pandas as pd

from dkde.inputs.frame_columns import is_plain, kind_of_column
from dkde.rows.arrow_values import Column


@dataclass(frozen=True, eq=False)
class Frame:
    """A table.

    Parameters
    ----------
    columns : tuple
        The labels of the columns: text, or anything else that pandas takes.
    kind : callable, (position) -> Column
        Returns the kind of a column. Of a column that is not in memory it is that of its type.
    read : callable, (positions) -> DataFrame and the kinds of its columns
        Returns some columns, in order. No others are read or converted.
    is_plain : bool
        Whether all columns are NumPy's numbers, so that all are read without a copy.
    main : str, optional
        The geometry that gives the features, where a table has several.
    """

    columns: tuple[Any, ...]
    kind: Callable[[int], Column]
    read: Callable[[Sequence[int]], tuple[pd.DataFrame, list[Column]]]
    is_plain: bool = False
    main: str | None = None

    @property
    def kinds(self) -> dict[str, Column]:
        """Return the kind of every column by its name, for messages."""
        return {str(name): self.kind(i) for i, name in enumerate(self.columns)}


def frame_of_pandas(data: pd.DataFrame) -> Frame:
    """Return a data frame of pandas, or of GeoPandas, as a table."""
    kind = cache(lambda i: kind_of_column(data.iloc[:, i]))
    places = list(range(data.shape[1]))

    def read(chosen: Sequence[int]) -> tuple[pd.DataFrame, list[Column]]:
        # The frame itself if all columns are wanted: a selection of columns is a copy.
        found = data if list(chosen) == places else data.iloc[:, list(chosen)]
        return found, [kind(i) for i in chosen]

    return Frame(
        tuple(data.columns),
        kind,
        read,
        is_plain=all(map(is_plain, data.dtypes)),
        main=getattr(data, "_geometry_column_name", None),
    )
