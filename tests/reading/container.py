"""Forms in which data come: each writes a table of true values as one side of the work.

A container is a function of a table and the names of the columns that are wanted as features; one
without names has these columns alone, in that order.
"""

import importlib.util
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from reading.truth import LISTS, NUMBERS, TRUTHS, Table

Array = npt.NDArray[Any]

FLOATS = ("f8", "f8", "f4", "f2")
INTEGERS = ("i8", "i4", "i2", "i1", "u1", "u2", "u4", "u8")
ANY = FLOATS + INTEGERS
NO_HALVES = ("f8", "f4", *INTEGERS)
GARBAGE = 99  # what stands where a mask says that nothing does


@dataclass(frozen=True, eq=False)
class Place:
    """Where a side is made.

    Parameters
    ----------
    folder : pathlib.Path
        An empty one.
    dim : str
        The rows' dim, where dims have names.
    components : str
        The dim of a list's elements.
    """

    folder: Path
    rng: np.random.Generator
    dim: str = "cell"
    components: str = "comp"

    def chance(self, share: float = 0.5) -> bool:
        return bool(self.rng.random() < share)

    def pick(self, *choices: Any) -> Any:
        return choices[self.rng.integers(len(choices))]

    def chunks(self, *shape: int) -> tuple[int, ...]:
        return tuple(int(self.rng.integers(1, n + 1)) for n in shape)


@dataclass(frozen=True, eq=False)
class Side:
    """One side as it is passed.

    Parameters
    ----------
    data : Any
        An object, or a selector.
    note : str
        In which variant of its form it is.
    may_refuse : str
        Why it may be refused as well; empty where it has to be taken.
    """

    data: Any
    note: str = ""
    may_refuse: str = ""


@dataclass(frozen=True)
class Container:
    """A form in which data come.

    Parameters
    ----------
    name : str
    make : callable, (Table, names, Place) -> Side
    is_path : bool
        Whether it is a file or a folder, which commands take too.
    is_named : bool
        Whether its columns have names.
    needs_features : bool
        Whether they have to be named.
    holds : frozenset of str
        Kinds of columns, beside numbers.
    has_dims : bool
        Whether lists lie along a dim with a name.
    is_one_type : bool
        Whether all its columns are of one type; those without names are.
    is_imported : bool
        Whether all its columns are read before any is asked for.
    only_lists : bool
        Whether it holds nothing else.
    is_grid : bool
        Whether its rows are the points of a grid.
    dtypes : tuple of str
        In which it holds numbers.
    """

    name: str
    make: Callable[[Table, Sequence[str], Place], Side]
    is_path: bool = False
    is_named: bool = True
    needs_features: bool = False
    holds: frozenset[str] = frozenset()
    has_dims: bool = False
    is_one_type: bool = False
    is_imported: bool = False
    only_lists: bool = False
    is_grid: bool = False
    dtypes: tuple[str, ...] = ANY


CONTAINERS: dict[str, Container] = {}


def container(name: str, *, holds: Sequence[str] = (), **about: Any) -> Callable[[Any], Any]:
    """Register a container under a name."""

    def register(make: Any) -> Any:
        CONTAINERS[name] = Container(name, make, holds=frozenset(holds), **about)
        return make

    return register


def is_installed(package: str) -> bool:
    """Whether there is an optional package, whose forms are left out where there is none."""
    return importlib.util.find_spec(package) is not None


def matrix(table: Table, names: Sequence[str]) -> tuple[Array, npt.NDArray[np.bool_]]:
    """Stored values (rows, features) in one type, and where they are missing.

    Times are days already: an array of one type has them in no other form beside numbers.
    """
    columns = [table[name] for name in names]
    values = [
        (c.values if c.kind in (NUMBERS, LISTS, TRUTHS) else np.nan_to_num(c.numbers)).reshape(
            len(table), -1
        )
        for c in columns
    ]
    missing = [
        np.repeat(column.missing[:, None], value.shape[1], axis=1)
        for column, value in zip(columns, values, strict=True)
    ]
    return np.concatenate(values, axis=1), np.concatenate(missing, axis=1)


def with_nan(values: Array, missing: npt.NDArray[np.bool_]) -> Array:
    """The values, NaN where they are missing; as they are stored where none is."""
    if not missing.any():
        return values
    floats = values if values.dtype.kind == "f" else values.astype(np.float64)
    return np.where(missing, np.array(np.nan, floats.dtype), floats)


def as_text(value: Any) -> str:
    return repr(value) if isinstance(value, float) else str(value)


@contextmanager
def quiet() -> Iterator[None]:
    """Keep what writers warn of to themselves."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
