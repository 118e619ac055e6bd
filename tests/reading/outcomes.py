"""What comes of a case, in Python or by command, and what is wrong with it."""

import json
import subprocess
import sys
import traceback
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pandas as pd
from click.testing import CliRunner
from dkde_cli.main import cli
from reading.arrays import masked
from reading.cases import DIM, ESTIMATOR, LOG_DENSITY, SCORE, Case, draw
from reading.container import Place, Side, quiet, with_nan
from reading.truth import Column, Right, Table

import dkde

TOLERANCE = 1e-9
LONGEST = 600  # letters of a line that one still reads


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
class Report:
    """A case that was run: what came out, and what is wrong with that."""

    case: Case
    outcome: Outcome
    faults: tuple[str, ...]
    notes: Mapping[str, str]
    again: str

    def __str__(self) -> str:
        lines = [self.again, *self.faults, str(self.case)]
        lines += [f"{role}: {note}" for role, note in self.notes.items()]
        if self.outcome.refusal is not None:
            lines.append(f"refused: {self.outcome.refusal}")
        return "\n".join([*lines, *(f"said: {line}" for line in self.outcome.said)])


def random_of(name: str, seed: int) -> np.random.Generator:
    return np.random.default_rng([seed, *name.encode()])


def run(
    name: str, seed: int, folder: Path, invoke: Callable[[Sequence[str]], Done] | None = None
) -> Report:
    """Draw a case, make its sides in an empty folder, ask, and judge.

    Parameters
    ----------
    invoke : callable, optional
        How a command is run; by default in this process.
    """
    rng = random_of(name, seed)
    case = draw(name, rng)
    sides: dict[str, Side] = {}
    try:
        for role, half in case.halves.items():
            (folder / role).mkdir(parents=True)
            place = Place(folder / role, rng, DIM, case.asked.components)
            with quiet():
                sides[role] = half.container.make(half.table, case.names, place)
    except (dkde.InputError, dkde.DataSetError) as error:  # as it was imported
        outcome = Outcome(refusal=str(error))
    else:
        outcome = (
            by_command(case, sides, invoke or in_this_process)
            if case.by_command
            else in_python(case, sides, rng)
        )
    excuse = "; ".join(side.may_refuse for side in sides.values() if side.may_refuse)
    notes = {role: side.note for role, side in sides.items()}
    again = f"run({name!r}, {seed}, Path(...)) says"
    return Report(case, outcome, tuple(faults_of(case, outcome, excuse)), notes, again)


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
    )
    return forms[rng.integers(len(forms))]()


def in_order(values: Any, table: Table) -> Any:
    """Log-densities in the order of the table's rows: dims of a grid come in any order."""
    axes = table.names[:2]
    if table.sizes is not None and set(axes) <= set(getattr(values, "dims", ())):
        values = values.transpose(..., *axes)
    return np.asarray(values).reshape(-1)


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


def faults_of(case: Case, outcome: Outcome, excuse: str = "") -> list[str]:
    """What is wrong with an outcome.

    Parameters
    ----------
    excuse : str
        Why a form may be refused, whatever it holds.
    """
    faults = list(outcome.faults)
    faults += [f"a warning of several lines: {line}" for line in outcome.said if "\n" in line]
    if outcome.refusal is None and outcome.mean is None and outcome.log_density is None:
        return faults
    if outcome.refusal is not None:
        if "\n" in outcome.refusal or len(outcome.refusal) > LONGEST:
            faults.append("the refusal is no line that one reads")
        if not (case.impossible or case.doubtful or excuse):
            faults.append("refused, though it can be taken")
        words = {*case.impossible, *(word.replace("_", "-") for word in case.impossible)}
        is_own = case.asked.way != ESTIMATOR
        if words and is_own and not any(word in outcome.refusal for word in words):
            faults.append(f"the refusal has none of {sorted(words)}")
        return faults
    if case.impossible:
        return [*faults, f"not refused, in spite of {', '.join(case.impossible)}"]
    right = case.right()
    if outcome.mean is not None and not alike(outcome.mean, right.mean):
        faults.append(f"mean {outcome.mean} is not {right.mean}")
    error = outcome.standard_error
    if error is not None and not alike(error, right.standard_error, 1e-7):
        faults.append(f"standard error {error} is not {right.standard_error}")
    if outcome.n is not None and outcome.n != right.n:
        faults.append(f"{outcome.n} rows count, not {right.n}")
    for name in case.left_out:
        if not any(name in line for line in outcome.said):
            faults.append(f"no line says that {name} was left out")
    return faults + wrong_rows(outcome, right)


def wrong_rows(outcome: Outcome, right: Right) -> list[str]:
    if outcome.log_density is None:
        return []
    if outcome.log_density.shape != right.log_density.shape:
        return [f"{outcome.log_density.shape} rows came back, not {right.log_density.shape}"]
    rows = zip(outcome.log_density, right.log_density, right.checked, strict=True)
    return [
        f"row {i}: {got} is not {expected}"
        for i, (got, expected, is_checked) in enumerate(rows)
        if not alike(got, expected) and (is_checked or not np.isnan(got))
    ]


def alike(got: float, expected: float, tolerance: float = TOLERANCE) -> bool:
    if np.isnan(expected):
        return bool(np.isnan(got))
    return bool(abs(got - expected) <= tolerance * max(1, abs(expected)))
