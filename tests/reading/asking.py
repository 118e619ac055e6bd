"""What comes of a case, in Python or by command."""

import json
import subprocess
import sys
import traceback
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import dask.array as da
import numpy as np
import pandas as pd
from click.testing import CliRunner
from dkde_cli.main import cli
from reading.arrays import marked, masked
from reading.cases import ESTIMATOR, LOG_DENSITY, SCORE, Case
from reading.container import Side, with_nan
from reading.truth import Column, Table

import dkde


@dataclass(frozen=True)
class Outcome:
    """Values or a refusal, what was said, and what must never come.

    Parameters
    ----------
    mean, standard_error : float, optional
    n : int, optional
        How many rows count, where it is printed.
    log_density : array, optional
    refusal : str, optional
    said : tuple of str
        Warnings, and lines on standard error.
    faults : tuple of str
        Other exceptions, other warnings, another status.
    """

    mean: float | None = None
    standard_error: float | None = None
    n: int | None = None
    log_density: Any = None
    refusal: str | None = None
    said: tuple[str, ...] = ()
    faults: tuple[str, ...] = field(default=())


@dataclass(frozen=True)
class Done:
    """A command that has ended."""

    status: int
    out: str
    err: str
    exception: BaseException | None = None


def in_this_process(words: Sequence[str]) -> Done:
    done = CliRunner().invoke(cli, words)
    return Done(done.exit_code, done.stdout, done.stderr, done.exception)


def in_a_process(words: Sequence[str]) -> Done:
    program = [sys.executable, "-c", "from dkde_cli.main import main; main()"]
    done = subprocess.run([*program, *words], capture_output=True, text=True, timeout=120)
    return Done(done.returncode, done.stdout, done.stderr)


def in_python(case: Case, sides: Mapping[str, Side], rng: np.random.Generator) -> Outcome:
    weights = {
        keyword: as_weights(column, rng)
        for role, keyword in (("train", "weights"), ("query", "query_weights"))
        if (column := case.halves[role].weights) is not None
    }
    call = {SCORE: scored, LOG_DENSITY: log_density, ESTIMATOR: estimated}[case.asked.way]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            outcome = call(case, sides["query"].data, sides["train"].data, weights)
        except (dkde.InputError, dkde.DataSetError) as error:
            outcome = Outcome(refusal=str(error))
        except Exception as error:
            is_own = case.asked.way == ESTIMATOR and isinstance(error, ValueError | TypeError)
            if is_own and "sklearn" in raised_in(error):
                outcome = Outcome(refusal="scikit-learn's")
            else:
                outcome = Outcome(faults=(f"{type(error).__name__}: {error}",))
    others = [w for w in caught if w.category is not UserWarning]
    faults = (*outcome.faults, *(f"{w.category.__name__}: {w.message}" for w in others))
    return replace(outcome, said=tuple(str(w.message) for w in caught), faults=faults)


def scored(case: Case, query: Any, train: Any, weights: Mapping[str, Any]) -> Outcome:
    asked = case.asked
    result = dkde.score(query, train, asked.bandwidth, **asked.keywords, **weights)
    return Outcome(
        float(result.mean_log_likelihood.squeeze()),
        float(result.standard_error.squeeze()),
        log_density=in_order(result.log_density, case.query.table),
    )


def log_density(case: Case, query: Any, train: Any, weights: Mapping[str, Any]) -> Outcome:
    asked = case.asked
    given = {"weights": weights["weights"]} if weights else {}
    values = dkde.log_density(query, train, asked.bandwidth, **asked.keywords, **given)
    return Outcome(log_density=in_order(values, case.query.table))


def estimated(case: Case, query: Any, train: Any, weights: Mapping[str, Any]) -> Outcome:
    asked = case.asked
    model = dkde.KernelDensity(bandwidth=asked.bandwidth, nan=asked.nan, row_dim=asked.row_dim)
    values = model.fit(train, sample_weight=weights.get("weights")).score_samples(query)
    return Outcome(log_density=in_order(values, case.query.table))


def raised_in(error: BaseException) -> str:
    """The file of the line that raised an error."""
    return traceback.extract_tb(error.__traceback__)[-1].filename


def as_weights(column: Column, rng: np.random.Generator) -> Any:
    """Weights in one of the forms of a vector, missing where they are."""
    values, missing = column.values, column.missing
    plain = with_nan(values, missing)
    forms = (
        lambda: plain,
        lambda: plain.tolist(),
        lambda: masked(values, missing),
        lambda: da.from_array(plain, chunks=2),
        lambda: pd.Series(plain),
        lambda: pd.Series(plain).convert_dtypes(),
        lambda: marked(values, missing, rng),
    )
    return forms[rng.integers(len(forms))]()


def in_order(values: Any, table: Table) -> Any:
    """Log-densities in the order of the table's rows: dims of a grid come in any order."""
    axes = table.names[:2]
    if table.sizes is not None and set(axes) <= set(getattr(values, "dims", ())):
        values = values.transpose(..., *axes)
    return np.asarray(values).reshape(-1)


def by_command(
    case: Case, sides: Mapping[str, Side], invoke: Callable[[Sequence[str]], Done]
) -> Outcome:
    train, query = (str(sides[role].data) for role in ("train", "query"))
    data = train.removesuffix("::train")  # a split of a data set
    words = ["score", data, "--train", train, "--query", query, "--json", *case.asked.options]
    done = invoke(words)
    said = tuple(line for line in done.err.splitlines() if line and "Done in" not in line)
    if done.status == 0:
        figures = json.loads(done.out).items()
        row = {key: np.nan if value is None else value for key, value in figures}
        return Outcome(row["mean_log_likelihood"], row["standard_error"], n=row["n"], said=said)
    faults = []
    if done.status != 2:
        faults.append(f"status {done.status}: {done.err} {done.exception!r}")
    errors = [line for line in said if not line.startswith("Warning: ")]
    if len(errors) != 1:
        faults.append(f"{len(errors)} lines on standard error: {done.err}")
    return Outcome(refusal=errors[-1] if errors else "", said=said, faults=tuple(faults))
