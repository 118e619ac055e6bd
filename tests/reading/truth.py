"""What is in a file or an object, apart from its form; and what densities of it are right.

A table is columns of true values. A container (``containers.py``) writes it in one of the forms
that data come in. What is right follows from the true values alone, and shares nothing with dkde.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import logsumexp

Array = npt.NDArray[Any]

# What a column holds. Numbers are features if nobody names any; truths and times if they are named.
NUMBERS, TRUTHS, TIMES, LENGTHS, LISTS = "numbers", "truths", "times", "lengths", "lists"
TEXT, MARKED = "text", "marked"  # no features; MARKED are numbers with a mark among them
ONLY_IF_NAMED = (TRUTHS, TIMES, LENGTHS)
NEVER = (TEXT, MARKED)


@dataclass(frozen=True, eq=False)
class Column:
    """True values of a column.

    Parameters
    ----------
    name, kind : str
    values : array (n_rows,), of lists (n_rows, n)
        In the type in which they are stored; anything where they are missing.
    missing : array of bool (n_rows,)
    """

    name: str
    kind: str
    values: Array
    missing: npt.NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.values)

    @property
    def is_huge(self) -> bool:
        """Whether there are integers among the values that no double holds."""
        return self.values.dtype.kind in "iu" and bool((self.values.astype(object) > 2**53).any())

    @property
    def numbers(self) -> npt.NDArray[np.float64]:
        """The values (n_rows, n) as features, NaN where they are missing."""
        values = self.values
        if self.kind in (TIMES, LENGTHS):  # days, of times since 1970
            values = values.astype(f"{values.dtype.kind}8[ns]").astype(np.int64) / 86_400e9
        numbers = values.astype(np.float64).reshape(len(values), -1)
        return np.where(self.missing[:, None], np.nan, numbers)


@dataclass(frozen=True, eq=False)
class Table:
    """Columns of as many rows; of a grid in C order.

    Parameters
    ----------
    columns : tuple of Column
    sizes : tuple of int, optional
        Of the axes of a grid, which are the first columns.
    """

    columns: tuple[Column, ...]
    sizes: tuple[int, ...] | None = None

    def __len__(self) -> int:
        return len(self.columns[0])

    def __getitem__(self, name: str) -> Column:
        return next(column for column in self.columns if column.name == name)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(column.name for column in self.columns)

    def of(self, kind: str) -> tuple[str, ...]:
        return tuple(column.name for column in self.columns if column.kind == kind)

    def taking(self, names: Sequence[str]) -> "Table":
        return replace(self, columns=tuple(self[name] for name in names))

    def rows(self, names: Sequence[str]) -> npt.NDArray[np.float64]:
        return np.concatenate([self[name].numbers for name in names], axis=1)


@dataclass(frozen=True)
class Right:
    """What is right.

    Parameters
    ----------
    log_density : array (query rows,)
        NaN for rows with missing values.
    mean, standard_error : float
        Of the rows that have a density, by their weights.
    n : int
        How many these are.
    checked : array of bool (query rows,)
        Rows whose own log-density is defined: a missing weight leaves that open.
    """

    log_density: npt.NDArray[np.float64]
    mean: float
    standard_error: float
    n: int
    checked: npt.NDArray[np.bool_]


def is_missing(rows: Array, weights: Array | None) -> npt.NDArray[np.bool_]:
    gone = np.isnan(rows).any(axis=1)
    return gone if weights is None else gone | np.isnan(weights)


def gaussian(
    query: Array,
    train: Array,
    bandwidth: float,
    weights: Array | None = None,
    query_weights: Array | None = None,
) -> Right:
    """Log-densities of rows (n, d) and their mean; rows with missing values are left out."""
    w = np.ones(len(train)) if weights is None else weights
    v = np.ones(len(query)) if query_weights is None else query_weights
    counts = ~is_missing(train, w) & ~(w == 0)
    train, w = train[counts], w[counts]
    d2 = ((query[:, None] - train) ** 2).sum(axis=-1)
    log_volume = query.shape[1] * np.log(2 * np.pi * bandwidth**2) / 2
    missing = np.isnan(query).any(axis=1)
    log_density = np.full(len(query), np.nan)
    sums = logsumexp(-d2[~missing] / (2 * bandwidth**2), b=w, axis=1)
    log_density[~missing] = sums - log_volume - np.log(w.sum())
    there = ~is_missing(query, v) & ~(v == 0)
    values, v = log_density[there], v[there]
    mean = float(v @ values / v.sum())
    n_effective = v.sum() ** 2 / (v @ v)
    spread = float(v @ (values - mean) ** 2 / v.sum())
    error = np.sqrt(spread / (n_effective - 1)) if n_effective > 1 else np.nan
    whole = np.ones(len(query)) if query_weights is None else query_weights
    checked = ~np.isnan(whole) & ~(whole == 0)
    return Right(log_density, mean, error, int(there.sum()), checked)


# ------------------------------------------------------------------------------- random tables

# Integers that no double holds.
HUGE = "huge"

NAMES = ("x", "depth", "Z", "mag 2", "größe", "b")
EXTRAS = {TEXT: "site", TRUTHS: "flag", TIMES: "when", LENGTHS: "took", MARKED: "reading"}
LIST = "emb"
WEIGHT = "w"


@dataclass(frozen=True)
class Schema:
    """What both sides have: names and kinds.

    Parameters
    ----------
    kinds : mapping of str to str
    list_width : int
    """

    kinds: Mapping[str, str]
    list_width: int = 2


def draw_column(
    rng: np.random.Generator, name: str, kind: str, n: int, dtype: str, share: float, width: int
) -> Column:
    """Random values that the dtype holds exactly, of which a share is missing."""
    missing = rng.random(n) < share
    if kind in (NUMBERS, LISTS):
        values = draw_numbers(rng, dtype, (n, width) if kind == LISTS else (n,))
        if name == WEIGHT:
            values = abs(values)
        missing &= dtype != HUGE
    elif kind == TRUTHS:
        values = rng.integers(2, size=n).astype(bool)
    elif kind in (TIMES, LENGTHS):
        quarters = rng.integers(-12, 13, n).astype("m8[h]") * 6
        values = np.datetime64("1970-01-03", "ns") + quarters if kind == TIMES else quarters
        values = values.astype("M8[ns]" if kind == TIMES else "m8[ns]")
    elif kind == MARKED:  # 1.5, -, 2, ...
        values = np.array([f"{number}" for number in rng.integers(-9, 9, n) / 2], object)
        values[0] = str(rng.choice(["-", "?", "1,234.5", "n.a."]))
        missing[:] = False
    else:
        values = rng.choice(["north", "süd", "e-4", "west gate"], n).astype(object)
    return Column(name, kind, values, missing)


def draw_numbers(rng: np.random.Generator, dtype: str, shape: tuple[int, ...]) -> Array:
    if dtype == "quarters":
        return np.round(4 * rng.normal(size=shape)) / 4
    if dtype == HUGE:
        return 2**53 + rng.integers(1, 99, shape)
    found = np.dtype(dtype)
    if found.kind == "f":
        return rng.normal(size=shape).astype(found)
    if found.kind == "b":
        return rng.integers(2, size=shape).astype(bool)
    low = 0 if found.kind == "u" else -3
    return rng.integers(low, 4, shape).astype(found)


def draw_table(
    rng: np.random.Generator,
    schema: Schema,
    dtypes: Mapping[str, str],
    *,
    share: float,
    grid: bool,
    least: int = 4,
    most: int = 12,
) -> Table:
    """A table with the columns of a schema in any order; of a grid the axes come first.

    Parameters
    ----------
    dtypes : mapping of str to str
        How numbers are stored.
    share : float
        Of values that are missing.
    grid : bool
        Whether rows are the points of a grid, whose axes are the first two columns of numbers.
    """
    n = int(rng.integers(least, most))
    axes: tuple[Column, ...] = ()
    sizes = None
    names = list(schema.kinds)
    if grid:
        sizes = (int(rng.integers(2, 5)), int(rng.integers(2, 4)))
        n = sizes[0] * sizes[1]
        numbers = [name for name, kind in schema.kinds.items() if kind == NUMBERS][:2]
        points = np.meshgrid(*(draw_axis(rng, size) for size in sizes), indexing="ij")
        there = np.zeros(n, bool)
        axes = tuple(
            Column(name, NUMBERS, values.ravel(), there)
            for name, values in zip(numbers, points, strict=True)
        )
        names = [name for name in names if name not in numbers]
    else:
        names = [str(name) for name in rng.permutation(names)]
    others = tuple(
        draw_column(
            rng, name, schema.kinds[name], n, dtypes.get(name, "f8"), share, schema.list_width
        )
        for name in names
    )
    return Table(kept(axes + others), sizes)


def draw_axis(rng: np.random.Generator, size: int) -> Array:
    return rng.normal() + np.cumsum(0.25 + rng.random(size))


def kept(columns: tuple[Column, ...], least: int = 2) -> tuple[Column, ...]:
    """The columns, with so many rows in which nothing is missing."""
    for column in columns:
        column.missing[:least] = False
        if column.name == WEIGHT:
            column.values[:least] = 1
    return columns
