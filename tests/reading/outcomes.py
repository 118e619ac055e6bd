"""Cases that are run, and what is wrong with what comes out."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from reading.asking import Done, Outcome, by_command, in_python, in_this_process
from reading.cases import DIM, Case
from reading.container import Place, Side, quiet
from reading.drawing import draw
from reading.truth import Right

import dkde

TOLERANCE = 1e-9
LONGEST = 600  # letters of a line that one still reads


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
        if case.doubtful or excuse:
            return faults
        if not case.impossible:
            return [*faults, "refused, though it can be taken"]
        words = {*case.impossible, *(word.replace("_", "-") for word in case.impossible)}
        if not any(word in outcome.refusal for word in words):
            faults.append(f"the refusal has none of {sorted(words)}")
        return faults
    if case.impossible:
        return [*faults, f"not refused, in spite of {', '.join(case.impossible)}"]
    right = case.right()
    if outcome.mean is not None and not alike(outcome.mean, right.mean):
        faults.append(f"mean {outcome.mean} is not {right.mean}")
    error = outcome.standard_error
    lost = 1e-12 * abs(right.mean) / max(1, right.standard_error)  # in differences from the mean
    if error is not None and not alike(error, right.standard_error, 1e-7 + lost):
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
