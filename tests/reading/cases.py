"""Cases: two tables in two forms, what is asked of them, and what is right."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from reading import arrays, datasets, frames, tables  # noqa: F401  (they register their forms)
from reading.container import CONTAINERS, Array, Container, matrix, with_nan
from reading.truth import (
    EXTRAS,
    HUGE,
    LIST,
    LISTS,
    NAMES,
    NEVER,
    NUMBERS,
    ONLY_IF_NAMED,
    WEIGHT,
    Column,
    Right,
    Schema,
    Table,
    draw_column,
    draw_table,
    gaussian,
    is_missing,
    kept,
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
        if self.container.is_named and not self.container.is_one_type:
            return True
        together = self.table.of(NUMBERS) if self.container.is_named else names
        return with_nan(*matrix(self.table, together)).dtype.kind in "iu"

    @property
    def numbers(self) -> tuple[str, ...]:
        """The features where nobody names any."""
        found = self.table.of(NUMBERS)
        if self.container.is_grid:
            return found[2:] or found
        return self.table.of(LISTS) or found

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
        weights = [half.weights_by(self.asked.weights) for half in (self.train, self.query)]
        return gaussian(*sides, self.asked.bandwidth, *weights)

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
        return tuple(word for half in self.halves.values() for word in self._impossible(half))

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
        weights = half.weights_by(self.asked.weights)
        if self.asked.weights is not None and half is self.train and weights is None:
            yield self.asked.weights
        counts = np.ones(len(table), bool) if weights is None else weights != 0
        missing = is_missing(table.rows(self.names), weights)
        if self.asked.nan == "raise" and (missing & counts).any():
            yield from ("missing", "masked", "nan", "NaN")

    @property
    def doubtful(self) -> str:
        """Why a refusal would do as well; empty where it would not."""
        if self.impossible:
            return ""
        if self.asked.way == ESTIMATOR:
            return "scikit-learn's own checks"
        reasons = (self._doubtful(half) for half in self.halves.values())
        return next(filter(None, reasons), "")

    def _doubtful(self, half: Half) -> str:
        table, found = half.table, half.container
        kinds = {column.kind for column in table.columns}
        wanted = {table[name].kind for name in self.names}
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
        weights = half.weights_by(self.asked.weights)
        if weights is None or self.asked.nan == "drop":
            return ""
        missing = is_missing(table.rows(self.names), None)
        return "missing values in rows of weight 0" if missing[weights == 0].any() else ""


# ------------------------------------------------------------------------------------ drawing


def draw(name: str, rng: np.random.Generator) -> Case:
    """A random case of a training side's form."""
    train, query, by_command, has_lists = draw_forms(name, rng)
    kinds = draw_kinds(rng, has_lists, grid=train.is_grid or query.is_grid)
    weighted = not has_lists and not train.is_grid and rng.random() < 0.35
    as_arrays = weighted and not by_command and rng.random() < (0.4 if train.is_named else 1)
    by_name = weighted and train.is_named and not as_arrays
    schema = Schema(kinds | ({WEIGHT: NUMBERS} if by_name else {}), int(rng.integers(2, 4)))
    features = draw_features(rng, schema, (train, query), have_to=by_name)
    share = float(rng.choice([0, 0, 0.1, 0.3]))
    halves = []
    for found in (train, query):
        table = held(draw_side(rng, schema, found, share), found)
        halves.append(Half(found, table, draw_weights(rng, table, share) if as_arrays else None))
    if as_arrays and (query.is_grid or rng.random() < 0.5):  # whose rows' order is not told
        halves[1] = replace(halves[1], weights=None)
    asked = Asked(
        float(rng.choice([0.5, 1.0, 2.0])),
        features,
        "drop" if rng.random() < 0.7 else "raise",
        WEIGHT if by_name else None,
        DIM if has_lists and rng.random() < 0.7 else None,
        str(rng.choice(["comp", "feature"])),
        COMMAND if by_command else draw_way(rng, features, by_name, halves),
    )
    return Case(*halves, asked, meant(features, *halves))


def draw_way(rng: np.random.Generator, features: Any, by_name: bool, halves: Sequence[Half]) -> str:
    """Which call it is, in Python: the estimator takes no names, and whatever there is."""
    way = str(rng.choice([SCORE, SCORE, LOG_DENSITY, ESTIMATOR]))
    if halves[1].container.is_grid:
        return SCORE
    named = [half.table for half in halves if half.container.is_named]
    kinds = {column.kind for table in named for column in table.columns}
    fits = features is None and not by_name and kinds <= {NUMBERS} and not halves[1].weights
    return way if fits or way != ESTIMATOR else LOG_DENSITY


def draw_forms(name: str, rng: np.random.Generator) -> tuple[Container, Container, bool, bool]:
    """The two forms, whether a command is asked, and whether features are a list's."""
    train = CONTAINERS[name]
    by_command = train.is_path and rng.random() < 0.6
    others = [other for other in CONTAINERS.values() if other.is_path or not by_command]
    query = others[rng.integers(len(others))]
    may_list = [other for other in others if LISTS in other.holds or not other.is_named]
    has_lists = train in may_list and (query in may_list and rng.random() < 0.25)
    if train.only_lists or (query.only_lists and train in may_list):
        has_lists = True
    elif query.only_lists:  # which the training side cannot have
        query = train
    if has_lists and query not in may_list:
        query = may_list[rng.integers(len(may_list))]
    return train, query, by_command, has_lists


def draw_kinds(rng: np.random.Generator, has_lists: bool, *, grid: bool) -> dict[str, str]:
    names = [str(name) for name in rng.permutation(NAMES)]
    if has_lists:
        return {LIST: LISTS} | dict.fromkeys(names[: rng.integers(2)], NUMBERS)
    kinds = dict.fromkeys(names[: rng.integers(2 if grid else 1, 4)], NUMBERS)
    if not grid:
        kinds |= {name: kind for kind, name in EXTRAS.items() if rng.random() < 0.25}
    return kinds


def draw_features(
    rng: np.random.Generator, schema: Schema, sides: Sequence[Container], *, have_to: bool
) -> tuple[str, ...] | None:
    """What is asked for by name: some columns in any order, or nothing."""
    needed = any(found.needs_features for found in sides)
    kinds = schema.kinds
    numbers = [name for name, kind in kinds.items() if kind == NUMBERS and name != WEIGHT]
    if LIST in kinds:
        also = numbers if rng.random() < 0.1 else []
        return (LIST, *also) if needed or rng.random() < 0.8 else None
    if not have_to and rng.random() < (0.05 if needed else 0.5):
        return None
    most = 1 + len(numbers)
    least = most - 1 if any(found.is_grid for found in sides) else 1
    chosen = list(rng.permutation(numbers)[: rng.integers(least, most)])
    for name, kind in kinds.items():
        is_text = kind in NEVER and all(found.is_named for found in sides)
        if (kind in ONLY_IF_NAMED and rng.random() < 0.3) or (is_text and rng.random() < 0.05):
            chosen.insert(rng.integers(len(chosen) + 1), name)
    return tuple(map(str, chosen))


def draw_side(rng: np.random.Generator, schema: Schema, found: Container, share: float) -> Table:
    dtypes = list(found.dtypes)
    if "i8" in dtypes and rng.random() < 0.05:
        dtypes = ["i8", HUGE]
    one = str(rng.choice(dtypes))
    each = {name: str(rng.choice(dtypes)) for name in schema.kinds}
    if WEIGHT in each:
        each[WEIGHT] = str(rng.choice(["f8", "f4", "i4"]))
    is_one = not found.is_named and rng.random() < 0.7
    stored = dict.fromkeys(each, one) if is_one else each
    return draw_table(rng, schema, stored, share=share, grid=found.is_grid)


def draw_weights(rng: np.random.Generator, table: Table, share: float) -> Column:
    dtype = str(rng.choice(["f8", "f4", "i4", "u1"]))
    column = draw_column(rng, WEIGHT, NUMBERS, len(table), dtype, share, 1)
    return kept((column,))[0]


def held(table: Table, found: Container) -> Table:
    """The columns that a form can hold; all, of one without names, as it is given some."""
    if not found.is_named:
        return table
    kinds = found.holds if found.only_lists else {NUMBERS, *found.holds}
    return table.taking([column.name for column in table.columns if column.kind in kinds])


def meant(features: tuple[str, ...] | None, train: Half, query: Half) -> tuple[str, ...]:
    """The features: those that are asked for, else a side's numbers, in its order."""
    if features is not None:
        return features
    return (train if train.container.is_named or not query.container.is_named else query).numbers
