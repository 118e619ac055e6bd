"""Cases: two tables in two forms, what is asked of them, and what is right."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from reading import arrays, datasets, frames, tables  # noqa: F401  (they register their forms)
from reading.container import Array, Container, matrix, with_nan
from reading.truth import (
    LISTS,
    NEVER,
    NUMBERS,
    Column,
    Right,
    Table,
    gaussian,
    is_missing,
)

import dkde

DIM = "cell"
COMMAND, SCORE, LOG_DENSITY, ESTIMATOR = "dkde score", "score", "log_density", "KernelDensity"


@dataclass(frozen=True, eq=False)
class Half:
    """One side of a case.

    Parameters
    ----------
    container : Container
    table : Table
        Whatever its form can hold.
    weights : Column, optional
        That are given as an array.
    """

    container: Container
    table: Table
    weights: Column | None = None

    def weights_by(self, name: str | None) -> Array | None:
        """The weights that count: those that are given, or the variable of that name."""
        if self.weights is not None:
            return self.weights.numbers[:, 0]
        if name is None or not self.container.is_named or name not in self.table.names:
            return None
        return self.table[name].numbers[:, 0]

    def holds_huge(self, names: Sequence[str]) -> bool:
        """Whether there are integers beyond 2**53 in columns, which are no floats already."""
        if not any(self.table[name].is_huge for name in names):
            return False
        has_columns = self.container.is_named or self.container.name == "CSV without names"
        if has_columns and not self.container.is_one_type:
            return True  # each column has a type of its own, whatever others miss
        together = self.table.of(NUMBERS) if self.container.is_named else names
        values, missing = matrix(self.table, together)
        if "masked" in self.container.name:  # which has integers beside what is masked
            there = values[~missing]
            return there.dtype.kind in "iu" and bool((there.astype(object) > 2**53).any())
        return with_nan(values, missing).dtype.kind in "iu"

    @property
    def numbers(self) -> tuple[str, ...]:
        """The features where nobody names any."""
        found = self.table.of(NUMBERS)
        if self.container.is_grid:
            return found[2:] or found
        lists = self.table.of(LISTS)
        if lists and self.container.name == "Dataset":  # each of whose variables is a feature
            return tuple(name for name in self.table.names if name in {*found, *lists})
        return lists or found

    def __str__(self) -> str:
        columns = [
            f"{column.name} {column.kind} {column.values.dtype} ({column.missing.sum()} missing)"
            for column in [*self.table.columns, *([self.weights] if self.weights else [])]
        ]
        return f"{self.container.name}, {len(self.table)} rows: {', '.join(columns)}"


@dataclass(frozen=True)
class Asked:
    """What a call says beside its two sides.

    Parameters
    ----------
    way : str
        Which call it is.
    """

    bandwidth: float
    features: tuple[str, ...] | None
    nan: str
    weights: str | None
    row_dim: str | None
    components: str
    way: str

    @property
    def keywords(self) -> dict[str, Any]:
        """In Python."""
        source = None if self.features is None else dkde.Catalog(features=list(self.features))
        given = {"weights": self.weights, "row_dim": self.row_dim, "source": source}
        return {"nan": self.nan} | {key: value for key, value in given.items() if value is not None}

    @property
    def options(self) -> list[str]:
        """Of a command."""
        said = {
            "--features": None if self.features is None else ",".join(self.features),
            "--weights": self.weights,
            "--row-dim": self.row_dim,
        }
        words = ["--bandwidth", repr(self.bandwidth), "--nan", self.nan]
        return words + [word for key, value in said.items() if value for word in (key, value)]


@dataclass(frozen=True, eq=False)
class Case:
    """Two sides, and what is asked of them.

    Parameters
    ----------
    names : tuple of str
        Of the features that are meant.
    """

    train: Half
    query: Half
    asked: Asked
    names: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.asked}\ntrain: {self.train}\nquery: {self.query}"

    @property
    def by_command(self) -> bool:
        return self.asked.way == COMMAND

    @property
    def halves(self) -> dict[str, Half]:
        return {"train": self.train, "query": self.query}

    def right(self) -> Right:
        """What comes out, where something can."""
        sides = [half.table.rows(self.names) for half in (self.query, self.train)]
        weights = [self.weights_of(half) for half in (self.train, self.query)]
        return gaussian(*sides, self.asked.bandwidth, *weights)

    def weights_of(self, half: Half) -> Array | None:
        """The weights that count on a side: of the rows that are scored in their mean alone."""
        is_asked = half is self.train or self.asked.way in (SCORE, COMMAND)
        return half.weights_by(self.asked.weights) if is_asked else None

    @property
    def leading(self) -> Half:
        """The side that says which the features are, where nobody names any."""
        is_query = self.query.container.is_named and not self.train.container.is_named
        return self.query if is_query else self.train

    @property
    def left_out(self) -> frozenset[str]:
        """The columns that are left out though nobody said which are taken."""
        if self.asked.features is not None or not self.leading.container.is_named:
            return frozenset()
        kinds = {column.name: column.kind for column in self.leading.table.columns}
        return frozenset(
            name for name, kind in kinds.items() if kind != NUMBERS and name not in self.names
        )

    @property
    def impossible(self) -> tuple[str, ...]:
        """Why there is no right answer: words that a refusal has one of; none where there is."""
        halves = self.halves.values()
        has_dims = any(half.container.has_dims for half in halves)
        of_none = () if self.asked.row_dim is None or has_dims else ("row_dim",)
        return (*of_none, *(word for half in halves for word in self._impossible(half)))

    def _impossible(self, half: Half) -> Iterator[str]:
        table, found = half.table, half.container
        kinds = {table[name].kind for name in self.names if name in table.names}
        yield from (name for name in self.names if name not in table.names)
        yield from (name for name in table.names if name in self.names and kinds & {*NEVER})
        is_told = self.asked.components == "feature" or self.asked.row_dim is not None
        if found.has_dims and LISTS in kinds and not is_told:
            yield "row_dim"
        if not set(self.names) <= set(table.names) or kinds & {*NEVER}:
            return
        if half.holds_huge(self.names):
            yield "2**53"
        weights = self.weights_of(half)
        if self.asked.weights is not None and half is self.train and weights is None:
            yield self.asked.weights
        counts = np.ones(len(table), bool) if weights is None else weights != 0
        missing = is_missing(table.rows(self.names), weights)
        if self.asked.nan == "raise" and (missing & counts).any():
            yield from ("missing", "masked", "nan", "NaN")

    @property
    def doubtful(self) -> str:
        """Why a refusal would do as well; empty where it would not."""
        if self.asked.way == ESTIMATOR:
            return "scikit-learn's own checks"
        reasons = (self._doubtful(half) for half in self.halves.values())
        return next(filter(None, reasons), "")

    def _doubtful(self, half: Half) -> str:
        table, found = half.table, half.container
        kinds = {column.kind for column in table.columns}
        wanted = {table[name].kind for name in self.names if name in table.names}
        if found.is_imported and any(column.is_huge for column in table.columns):
            return "integers beyond 2**53 in a column that is imported"
        if self.asked.features is None:
            if found.needs_features:
                return f"{found.name} needs the names of features"
            if LISTS in kinds:
                return "lists that nobody asked for"
            if found.name == "Dataset" and kinds - {NUMBERS}:
                return "variables that are no numbers"
            if found.is_named and set(table.of(NUMBERS)) != set(self.names):
                return "more columns of numbers than the other side has"
        elif found.name == "CSV without names":
            return "columns that are called f0, f1"
        elif not found.is_named and wanted & {LISTS}:
            return "columns without names, of which as many were not asked for"
        if LISTS in wanted and len(self.names) > 1:
            return "lists beside other features"
        weights = self.weights_of(half)
        if weights is None or self.asked.nan == "drop" or self.impossible:
            return ""
        missing = is_missing(table.rows(self.names), None)
        return "missing values in rows of weight 0" if missing[weights == 0].any() else ""
