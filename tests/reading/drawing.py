"""Random cases: forms, columns, missing values, and what is asked."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from reading import arrays, datasets, frames, tables  # noqa: F401  (they register their forms)
from reading.cases import COMMAND, DIM, ESTIMATOR, LOG_DENSITY, SCORE, Asked, Case, Half
from reading.container import CONTAINERS, Container
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
    Schema,
    Table,
    draw_column,
    draw_table,
    kept,
)


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
    has_dims = train.has_dims or query.has_dims
    # A DataArray of three dims has that dim, too, and other rows along it than those of the table.
    is_cube = "DataArray of three dims" in (train.name, query.name)
    asked = Asked(
        float(rng.choice([0.5, 1.0, 2.0])),
        features,
        "drop" if rng.random() < 0.7 else "raise",
        WEIGHT if by_name else None,
        DIM if has_lists and rng.random() < (0.7 if has_dims else 0.1) and not is_cube else None,
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
