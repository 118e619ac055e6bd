"""The call that made a result, as its store records it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from dkde.errors import DataSetError
from dkde.runs.plan_schema import call_fault
from dkde.runs.store import ResultStore, no_result
from dkde.typing import StrPath


def recorded_call(path: StrPath) -> dict[str, Any]:
    """Return the call that made a result, or samples in a data set.

    Parameters
    ----------
    path : path or URL
        Of a result, complete or not, or of a data set that :func:`dkde.sample` wrote.

    Returns
    -------
    dict
        Ready for JSON. ``function``, its ``arguments`` by name, the ``source`` of the selectors,
        ``features`` and other keywords that say what a row is, the ``folder`` where names begin,
        and ``versions``: those of Python, packages and the machine that made it.

    Raises
    ------
    DataSetError
        When there is neither, or the call had arrays in memory, which no store holds.
    """
    state = ResultStore.at(path).look()
    plan = (state.plan or {}) if state.is_result else _of_samples(state.attributes)
    if not state.is_result and not state.attributes:
        if os.path.isfile(path):
            raise DataSetError(f"{path}: is a file; only stores hold the call that made them")
        raise no_result(path)
    if "call" not in plan:
        raise DataSetError(
            f"{path}: holds no record of a call; a result that was written by --output or output= "
            "has one, and samples that were"
        )
    call = plan["call"]
    if call is None:
        raise DataSetError(
            f"{path}: was made in Python from rows in arrays or data frames, which it does not "
            "hold; a call whose rows are selectors of files or stores can be written down"
        )
    if (fault := call_fault(call)) is not None:
        raise DataSetError(f"{path}: the record of its call is damaged ({fault})")
    versions = {k: text for k, text in plan["machine"].items() if isinstance(text, str | int)}
    return {**call, "versions": versions}


def _of_samples(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the record of samples in a data set, in the form of a run's; empty for others."""
    if "call" not in attributes:
        return {}
    return {"call": attributes["call"], "machine": {"dkde": attributes.get("dkde_version", "")}}
