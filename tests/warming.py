"""Compilation of what most tests run, shared out to the processes that run the whole quick suite.

Where there is no compiled code yet, the processes would all begin with the same tests' calls, and
compile the same functions at the same time. Each of these calls compiles functions of its own.
"""

import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
from numba import config
from work import side_of, work_of

import dkde
from dkde.engine.blocks import score_block
from dkde.engine.group_survey import GroupCost
from dkde.numerics.compiling import cache_folder

_RNG = np.random.default_rng(0)


def is_anything_compiled() -> bool:
    """Return whether the cache has compiled code of these sources."""
    folder = cache_folder(config.CACHE_DIR)
    return folder != "" and any(Path(folder).rglob("*.nbc"))


def _leaves() -> None:
    rows = _RNG.normal(size=(400, 3))
    dkde.log_density(rows, rows, 0.5)


def _groups() -> None:
    rows = _RNG.normal(size=(900, 3))
    work = work_of(side_of(rows), side_of(rows), np.array([0.3]))
    survey = replace(work.survey(), by_groups={0: GroupCost(1e9, 0.5)})
    score_block(
        work.query, work.train, work.task, survey, work.plan.query_block(0), work.plan.panel(0)
    )


def _supports() -> None:
    rows = _RNG.normal(size=(20_000, 2))
    dkde.log_density(rows, rows, 0.1, kernel="epanechnikov")


def _supports_of_higher_powers() -> None:
    rows = _RNG.normal(size=(20_000, 2))
    dkde.log_density(rows, rows, 0.1, kernel="biweight")


def _supports_without_moments() -> None:
    rows = _RNG.normal(size=(2000, 2))
    dkde.log_density(rows, rows, 0.1, kernel="cosine")


def _cells() -> None:
    rows = _RNG.normal(size=(20_000, 2))
    dkde.log_density(rows, rows, 0.3)


def _products() -> None:
    rows = _RNG.normal(size=(64, 100))
    for kernel in ("gaussian", "exponential", "tophat", "epanechnikov", "linear", "cosine"):
        dkde.log_density(rows, rows, 15.0, kernel=kernel)


def _products_in_float32() -> None:
    rows = _RNG.normal(size=(64, 100)).astype(np.float32)
    dkde.log_density(rows, rows, 15.0, precision="float32")


# Of two processes, which take these in turn, either has about as much to compile.
_CALLS = (
    _leaves, _supports, _groups, _cells, _supports_without_moments, _products_in_float32,
    _supports_of_higher_powers, _products,
)  # fmt: skip


def warm(number: int, count: int) -> None:
    """Compile the share of a process, by its number of so many."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for call in _CALLS[number::count]:
            call()
