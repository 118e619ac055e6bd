"""Moments of all training rows that a run keeps: what its first session chose, and each panel's."""

import io
import json
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from dkde.engine.task import Survey

Arrays = dict[str, npt.NDArray[Any]]
# What the moments are of.
_CHOICE = "moments.json"


class Beside(Protocol):
    """A place for what is kept beside blocks."""

    def beside(self, name: str) -> bytes | None:
        """Return what is kept under a name."""

    def put_beside(self, name: str, content: bytes) -> None:
        """Keep something under a name."""

    def drop_beside(self, name: str) -> None:
        """Keep what is under a name no longer."""

    def agreed(self, name: str, content: bytes) -> bytes:
        """Return what the first of all who asked gave under a name."""

    def has_panels(self) -> bool:
        """Return whether there are partial results of single panels."""


def name_of(p: int) -> str:
    """Return the name under which the moments of a panel are kept."""
    return f"moments-{p}.npz"


def is_agreed(keep: Beside) -> bool:
    """Return whether a session has said what moments a run is to have."""
    return keep.beside(_CHOICE) is not None


def agreed(survey: Survey, keep: Beside, is_whole: bool) -> tuple[Survey, bool]:
    """Return the survey with the moments that a run is to have, and whether it has any."""
    mine = {
        "whole": is_whole,
        "bandwidths": list(survey.by_cells),
        "tol": survey.cell_tol,
        "reference": survey.reference.tolist(),
    }
    said = json.loads(keep.agreed(_CHOICE, json.dumps(mine).encode()))
    if said == mine or not said["whole"]:
        return survey, bool(said["whole"])
    at = np.array(said["reference"], survey.reference.dtype)
    chosen = tuple(map(int, said["bandwidths"]))
    return replace(survey, reference=at, by_cells=chosen, cell_tol=said["tol"]), True


def give_up(keep: Beside) -> None:
    """Say, in place of what was agreed, that a run has no moments of all training rows."""
    keep.put_beside(_CHOICE, json.dumps({"whole": False}).encode())


def drop_panels(keep: Beside, n_panels: int) -> None:
    """Keep the moments of panels no longer: all blocks are done, and committed."""
    for p in range(n_panels):
        keep.drop_beside(name_of(p))


def packed(arrays: Arrays) -> bytes:
    """Return arrays as the content of a file."""
    content = io.BytesIO()
    np.savez(content, **arrays)  # type: ignore[arg-type]
    return content.getvalue()


def kept_panel(keep: Beside, p: int) -> Arrays | None:
    """Return what is kept of a panel; None where it is missing or damaged."""
    content = keep.beside(name_of(p))
    if content is None:
        return None
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except Exception:  # damaged files raise many kinds
        return None
