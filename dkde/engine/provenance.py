"""The provenance of a result: versions, plan, inputs."""

import platform
from dataclasses import asdict
from functools import cache
from importlib.metadata import version
from typing import Any

from dask.tokenize import tokenize

from dkde.engine.task import revision_noted
from dkde.engine.tokens import stable_token
from dkde.engine.work import Work
from dkde.rows.column_steps import TableSource
from dkde.rows.columns import columns_of
from dkde.rows.filtered import KeptArray
from dkde.rows.row_source import Derived, foundation, innermost
from dkde.rows.side import Part, Side
from dkde.rows.within_support import Checked
from dkde.version import __version__

# The keys that are recorded for a part of rows, to identify it and to read it again.
NOTES = (
    "fingerprint", "source", "stored", "opened", "row_dims", "columns", "names", "left_out",
    "converted",
)  # fmt: skip
# With more columns, a digest of their names is recorded instead of a list.
_MOST_NAMES = 1000
_PACKAGES = ("numpy", "numba", "dask", "zarr", "xarray")


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that the numbers depend on."""
    return {
        "python": platform.python_version(),
        "dkde": __version__,
        **{name: _version(name) for name in _PACKAGES},
    }


@cache
def _version(package: str) -> str:
    """Return the version of a package as it was when first asked for; each reads a file."""
    return version(package)


def describe_work(work: Work) -> dict[str, Any]:
    """Return the task, the plan and the inputs of a piece of work, ready for JSON."""
    plan = work.plan
    return {
        "kernel": work.task.kernel.name,
        "metric": work.task.metric.name,
        "precision": work.task.precision,
        "tol": work.task.tol,
        **({"atol": work.task.atol} if work.task.atol else {}),
        **_support(work.train),
        "log_volume": work.task.log_volume,
        **revision_noted(),
        # The fields, and the properties that a reader of the store would have to compute.
        "plan": {
            **asdict(plan),
            "n_blocks": plan.n_blocks,
            "pairs": plan.pairs,
            "bytes_read": plan.bytes_read,
            "block_bytes": plan.block_bytes,
        },
        "query": describe_side(work.query, compared=True),
        "train": describe_side(work.train),
    }


def _support(side: Side) -> dict[str, str]:
    """Return the support of a side's rows as text; empty without one."""
    source = side.rows.parts[0].source
    while isinstance(source, Derived):
        if isinstance(source.step, Checked):
            return {"support": source.step.in_words}
        source = source.wrapped
    return {}


def describe_side(side: Side, *, compared: bool = False) -> dict[str, Any]:
    """Describe a side, to distinguish it from others and to read its rows again.

    Parameters
    ----------
    compared : bool
        True if results are compared by these rows. Sources without a checksum get a fingerprint
        then: arrays in memory of their content, lazy ones of their name, files and stores of their
        place and the time of their last change.
    """
    return {
        "rows": side.rows.n_rows,
        "features": side.rows.n_features,
        "stored_features": side.rows.n_stored_features,
        "weighted": side.weights is not None,
        "grouped": side.groups is not None,
        **({"scaled": True} if side.scales is not None else {}),
        "parts": [_part(part, compared) for part in side.rows.parts],
        # Only where it is not the default: stores of older versions have no such key.
        **({"nan": "drop"} if side.rows.drops_missing else {}),
    }


def _part(part: Part, compared: bool) -> dict[str, Any]:
    """Return what is recorded of one part; its keys are part of the stored format."""
    source, kept = foundation(part.source), innermost(part.source).kept
    # A checksum already identifies the content, and a fingerprint may take a pass over an array.
    has_fingerprint = compared and part.checksum is None
    columns = columns_of(part.source)
    return {
        "name": part.name,
        "start": part.start if kept is None else kept.start,
        "stop": part.stop if kept is None else kept.stop,
        "dtype": str(part.source.dtype),
        "scale": part.encoding.scale,
        "offset": part.encoding.offset,
        "checksum": part.checksum,
        "fingerprint": stable_token(source.stamp()) if has_fingerprint else None,
        "source": _kind(part),
        "stored": part.identity is not None and not source.is_lazy,
        # What is needed to read the rows again: the columns requested of the source, the dims along
        # which rows lie, the columns chosen among those, and their names.
        "opened": None if part.opened is None else list(part.opened),
        **({} if part.decimal is None else {"decimal": part.decimal}),
        "row_dims": None if part.row_dims is None else list(part.row_dims),
        "columns": None if columns is None else list(columns),
        "names": _names(part),
        "left_out": dict(part.left_out),
        "converted": dict(part.converted),
        # Only with a filter, before which the range is: older stores have no such key.
        **({} if kept is None else {"where": kept.described}),
    }


def _kind(part: Part) -> str:
    """Return the kind of a source; a data frame in memory counts as an array."""
    source = foundation(part.source)
    is_frame = isinstance(source, TableSource | KeptArray) and part.identity is None
    return "ArraySource" if is_frame else type(source).__name__


def _names(part: Part) -> list[str] | str | None:
    """Return the names of the columns, or a digest of them if there are very many."""
    names = part.column_names
    if names is None or len(names) <= _MOST_NAMES:
        return None if names is None else list(names)
    # Sorted, so that the digest does not depend on the order of the columns.
    return str(tokenize(sorted(names)))
