"""The schema of what a store says of its run: checked before anything is done with it.

A plan is data from a file that anybody may have written. Only the functions and the arguments of
the schema are known, each of its own type; what says where results go, or what is dropped, is not
among them.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta, Struct

from dkde.errors import DataSetError, MessagePart

T = TypeVar("T")

# Whole numbers that fit in 64 bits: JSON has longer ones, which no array can have.
_Int = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
_Count = Annotated[int, Meta(ge=0, le=2**63 - 1)]
_Size = Annotated[int, Meta(ge=1, le=2**63 - 1)]
_Number = _Int | float
_Names = str | list[str] | dict[str, str | list[str]] | None
_Column = str | None
_Bandwidths = str | _Number | list[str | _Number] | dict[str, str | _Number] | None
_Bounds = list[str | _Number | None]


class _Arguments(Struct, forbid_unknown_fields=True, kw_only=True):
    """The arguments that the calls of all functions share: the options of the computation."""

    kernel: str | dict[str, str] = "gaussian"
    metric: str = "euclidean"
    covariance: str | _Number | list[_Number | list[_Number]] | dict[str, str | _Number] | None = (
        None
    )
    singular: str = "raise"
    precision: str = "float64"
    tol: _Number | None = None
    atol: _Number = 0.0
    nan: str = "raise"
    support: list[_Bounds | dict[str, _Number | None] | None] | dict[str, Any] | None = None
    outside: str = "raise"
    adaptive: _Number | None = None
    block_rows: _Size | None = None
    panel_rows: _Size | None = None
    weights: _Column = None


class _Score(_Arguments, kw_only=True):
    query: str
    train: str
    bandwidth: _Bandwidths
    query_weights: _Column = None
    bandwidth_scale: _Column = None
    by: _Column = None
    common_bandwidth: bool | None = None
    contamination: str | _Number | None = None


class _Sweep(_Arguments, kw_only=True):
    train: str | None = None
    valid: str | None = None
    test: str | None = None
    valid_weights: _Column = None
    test_weights: _Column = None
    bandwidths: _Bandwidths = None
    protocol: str | None = None
    bandwidth_scale: _Column = None


class _DensityMap(_Arguments, kw_only=True):
    train: str
    bandwidth: _Bandwidths = None
    box: dict[str, _Bounds] | None = None
    margin: _Number | None = None
    cell: str | _Number | list[str | _Number] | dict[str, str | _Number] | None = None
    cells: _Int | list[_Int] | dict[str, _Int] | None = None
    like: str | None = None
    expected: bool | None = None
    levels: list[_Number] | None = None
    levels_from: str | None = None
    bandwidth_scale: _Column = None
    by: _Column = None
    common_bandwidth: bool | None = None


class _Classify(_Arguments, kw_only=True):
    query: str
    train: str
    valid: str | None = None
    bandwidth: _Bandwidths = None
    by: _Column
    query_by: _Column = None
    priors: str | list[_Number] | dict[str, _Number] | None = None
    common_bandwidth: bool | None = None


class _CrossValidate(_Arguments, kw_only=True):
    train: str
    bandwidths: _Bandwidths = None
    folds: str | _Int | list[_Int] = 5
    shuffle: bool = False
    random_state: _Int | None = None
    refine: bool = False
    per_feature: bool = False
    criterion: str | None = None
    pca: _Int | None = None
    bandwidth_scale: _Column = None


class _Sample(_Arguments, kw_only=True):
    train: str
    bandwidth: _Bandwidths = None
    n_samples: _Size | None = None
    random_state: _Int | None = None
    covariance_scale: _Number | None = None
    bandwidth_scale: _Column = None
    label: str | bool | _Number | None = None
    pca: _Int | None = None


class _Extend(Struct, forbid_unknown_fields=True, kw_only=True):
    """The arguments of an extension: those of the computation are in the result that it extends."""

    result: str
    train: str | None = None
    query: str | None = None
    derived: str = "keep"
    tol: _Number | None = None
    # What tells the result from those before and after it at its place.
    version: str | None = None


# By the name of the function that a call is of.
ARGUMENTS: dict[str, type[_Arguments | _Extend]] = {
    "score": _Score, "sweep": _Sweep, "density_map": _DensityMap, "classify": _Classify,
    "cross_validate": _CrossValidate, "sample": _Sample, "extend": _Extend,
}  # fmt: skip
# Those whose calls are runs; samples are no run.
_RUNS = tuple(name for name in ARGUMENTS if name != "sample")
# Those to whose results rows may be added.
_EXTENDED = ("score", "sweep", "cross_validate")
# A selector of many terms takes time to read that grows with their square.
_MOST_MARKS = 1000


class _Call(Struct, forbid_unknown_fields=True, kw_only=True):
    """A call; of its arguments there is a schema for each function."""

    function: str
    arguments: dict[str, Any]
    folder: str
    source: str | None
    features: _Names = None
    where: _Names = None
    row_dim: _Names = None
    lat: _Names = None
    lon: _Names = None
    decimal: str | None = None
    # The number of first training rows from which bandwidths, covariances and components are
    # derived, where rows were added to them.
    derived_from: _Size | None = None


class _AskedPart(Struct, kw_only=True):
    """A part of the rows of a side; later versions may add keys, here and below."""

    start: _Count
    stop: _Count
    dtype: str
    scale: _Number
    offset: _Number
    checksum: str | None = None
    fingerprint: str | None = None


class _AskedSide(Struct, kw_only=True):
    rows: _Count
    features: _Count
    parts: list[_AskedPart]


class _Asked(Struct, kw_only=True):
    """The description of a piece of work, to which that of a later call is compared."""

    bandwidths: list[_Number]
    kernel: str
    metric: str
    block_rows: _Size
    panel_rows: _Size
    query: _AskedSide
    train: _AskedSide
    content: dict[str, Any]


class _Session(Struct, kw_only=True):
    id: str
    host: str
    pid: _Int
    started: _Number
    seen: _Number
    blocks: _Count = 0
    ended: str | None = None
    part: str | None = None
    place: str | None = None


class _Machine(Struct, kw_only=True):
    """The circumstances that decide last bits; all but the engine are only compared."""

    engine: _Int = 1


class _Plan(Struct, kw_only=True):
    """The record of how a run began; of a finished one with its sessions."""

    asked: dict[str, _Asked]
    machine: _Machine
    call: dict[str, Any] | None
    id: str | None = None
    place: str | None = None
    files: dict[str, list[Any]] | None = None
    sessions: list[_Session] | None = None


class _Part(_AskedPart, kw_only=True):
    """A part of rows as a result's provenance describes it, to be read again."""

    name: str
    checksum: str | None
    stored: bool = False
    source: str | None = None
    opened: list[str] | None = None
    decimal: str | None = None
    row_dims: list[str] | None = None
    columns: list[_Int] | None = None
    names: list[str] | str | None = None
    left_out: dict[str, str] | None = None
    converted: dict[str, str] | None = None
    where: dict[str, Any] | None = None


class _Side(Struct, kw_only=True):
    rows: _Count
    features: _Count
    stored_features: _Count
    parts: list[_Part]


class _BlockPlan(Struct, kw_only=True):
    n_blocks: _Count
    query_rows: _Count
    panel_rows: _Count
    pairs: _Count
    n_features: _Count
    n_bandwidths: _Count


class _Described(Struct, kw_only=True):
    """A piece of work as a result's provenance describes it."""

    kernel: str
    metric: str
    precision: str
    tol: _Number
    plan: _BlockPlan
    query: _Side
    train: _Side
    method: str | None = None
    atol: _Number | None = None


class _Versions(Struct, kw_only=True):
    options: dict[str, Any] = {}
    versions: dict[str, str | _Int] = {}


def fault_of(value: Any, schema: Any) -> str | None:
    """Return in words what of a value is not as a schema has it; None if all is."""
    try:
        msgspec.convert(value, schema, strict=True)
    except (msgspec.ValidationError, RecursionError) as error:
        return " ".join(str(error).split())
    return None


def check_plan(name: str, plan: Any, *remedy: MessagePart) -> dict[str, Any]:
    """Return the plan of a run from its store, if it is one.

    Parameters
    ----------
    name : str
        The name of the store, for messages.
    plan : anything
        What the store holds as its plan, parsed as JSON.
    remedy : str or other parts of a message
        What to do about a damaged plan.

    Raises
    ------
    DataSetError
        When it is damaged, or its call has an argument that no recorded call has.
    """
    if (fault := fault_of(plan, _Plan)) is not None:
        raise DataSetError(
            f"{name}: the record of how it was begun is damaged ({fault}); ", *remedy
        )
    call = plan["call"]
    if call is not None and (fault := call_fault(call, _RUNS)) is not None:
        raise DataSetError(
            f"{name}: was begun by a call which this version of dkde does not know ({fault}); "
            "continue with the version that began it, or ",
            *remedy,
        )
    found: dict[str, Any] = plan
    return found


def call_fault(call: Any, known: Collection[str] = tuple(ARGUMENTS)) -> str | None:
    """Return in words what is wrong with a recorded call; None if nothing is.

    Parameters
    ----------
    call : anything
        What a store holds as its call, parsed as JSON.
    known : collection of str
        The functions that it may be of.
    """
    fault = fault_of(call, _Call)
    if fault is not None:
        return fault
    if call["function"] not in known:
        return f"of the function {call['function']!r}"
    if call.get("derived_from") is not None and call["function"] not in _EXTENDED:
        return f"of {call['function']}, to which no rows are added"
    marks = sum(map(str(call["arguments"]).count, ("+", "::")))
    if marks > _MOST_MARKS:
        return f"its selectors have {marks} terms; there may be {_MOST_MARKS}"
    fault = fault_of(call["arguments"], ARGUMENTS[call["function"]])
    return None if fault is None else f"in the call of {call['function']}: {fault}"


def session_fault(record: Any) -> str | None:
    """Return in words what is wrong with the record of a session; None if nothing is."""
    return fault_of(record, _Session)


def is_described(described: Any) -> bool:
    """Return whether a result's description of a piece of work has all that is read of it."""
    return fault_of(described, _Described) is None


def is_provenance(found: Any) -> bool:
    """Return whether a result's provenance has options and versions as they are written."""
    return isinstance(found, dict) and fault_of(found, _Versions) is None
