"""Where a result comes from: versions, plan, inputs."""

import platform
from dataclasses import asdict
from importlib.metadata import version
from typing import Any

from dkde.engine.work import Work
from dkde.storage.rows import Rows, Side

_PACKAGES = ("dkde", "numpy", "numba", "dask", "zarr", "xarray")


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that the numbers depend on."""
    return {"python": platform.python_version(), **{name: version(name) for name in _PACKAGES}}


def describe_work(work: Work) -> dict[str, Any]:
    """The plan and the inputs of a piece of work, ready for JSON."""
    plan = work.plan
    return {
        "kernel": work.task.kernel.name,
        "metric": work.task.metric.name,
        "precision": work.task.precision,
        "tol": work.task.tol,
        "log_volume": work.task.log_volume,
        "plan": {
            **asdict(plan),
            "n_blocks": plan.n_blocks,
            "pairs": plan.pairs,
            "bytes_read": plan.bytes_read,
            "block_bytes": plan.block_bytes,
        },
        "query": describe_side(work.query),
        "train": describe_side(work.train),
    }


def describe_side(side: Side) -> dict[str, Any]:
    """What a side consists of; checksums are None for sources that keep none."""
    return {
        "rows": side.rows.n_rows,
        "features": side.rows.n_features,
        "stored_features": side.rows.n_stored_features,
        "weighted": side.weights is not None,
        "grouped": side.groups is not None,
        "parts": _parts(side.rows),
    }


def _parts(rows: Rows) -> list[dict[str, Any]]:
    return [
        {
            "name": part.name,
            "start": part.start,
            "stop": part.stop,
            "dtype": str(part.source.dtype),
            "scale": part.encoding.scale,
            "offset": part.encoding.offset,
            "checksum": part.checksum,
        }
        for part in rows.parts
    ]
