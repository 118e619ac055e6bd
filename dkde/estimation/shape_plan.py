"""The cost of a score of rows that do not exist: their numbers are given, and a model of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from numbers import Integral
from typing import Any

from dkde.datasets.writing import chunk_rows
from dkde.engine.cluster_estimate import OnWorkers, Rates, on_workers
from dkde.errors import Argument, InputError
from dkde.estimation.bandwidth_matrix import PLUG_IN, rules_among
from dkde.estimation.cost import Workers, planned
from dkde.estimation.covariance import find_covariance
from dkde.estimation.fitted import Fitted
from dkde.estimation.options import Options
from dkde.rows.model_rows import MODELS, ModelRows
from dkde.rows.side import Part, Rows, Side
from dkde.typing import BandwidthsLike, CovarianceLike, FloatArray, KernelLike
from dkde.workers.cluster import pool_for
from dkde.workers.connecting import parse_limit

# Rows of the model from which a covariance is found.
_SAMPLED = 2**16
# Tasks that a scheduler hands out in a second: each was measured to take 2 to 4 ms of a processor,
# see docs/clusters.md.
_TASKS = 250.0


def plan_shape(
    shape: tuple[int, int],
    n_query: int,
    bandwidths: BandwidthsLike = "scott",
    *,
    model: str = "normal",
    n_workers: int | Sequence[int] = 1,
    threads_per_worker: int = 1,
    memory_limit: str | int | None = None,
    baseline: bool = True,
    read_rate: str | float = "200MB",
    store_rate: str | float = "5GB",
    result_rate: str | float = "500MB",
    kernel: KernelLike = "gaussian",
    metric: str = "euclidean",
    covariance: CovarianceLike = "identity",
    precision: str = "float64",
    tol: float | None = None,
    atol: float = 0.0,
    block_rows: int | None = None,
    panel_rows: int | None = None,
) -> dict[str, Any]:
    """Return what it costs to score rows that do not exist yet, on each of some numbers of workers.

    The plan is the one that :func:`dkde.score` would follow for float64 rows in a store, in random
    order. What it looks at are rows drawn from a model of the density.

    Parameters
    ----------
    shape : (int, int)
        The numbers of training rows and of features.
    n_query : int
        The number of query rows.
    bandwidths, kernel, metric, covariance, precision, tol, atol, block_rows, panel_rows
        As for :func:`dkde.plan`. A covariance ``"diag"`` or ``"full"`` is that of 65,536 rows of
        the model.
    model : {"normal", "mixture"}
        One standard normal; or 20 Gaussians of different widths, whose centres are normal with a
        standard deviation of 3 and whose own standard deviations are 0.3 to 1.2, times 1 along the
        first feature to 0.3 along the last one.
    n_workers : int or sequence of int
        The numbers of workers, which are processes that share no memory.
    threads_per_worker : int
        The threads of each.
    memory_limit : str or int, optional
        The memory of a worker, in bytes or as ``"2GB"``; a plan that does not fit is refused.
    baseline : bool
        As for :func:`dkde.plan`.
    read_rate, store_rate : str or float
        Bytes a second that a worker reads from the store, and that the store gives to all workers
        together, before compression; a number, or as ``"200MB"``.
    result_rate : str or float
        Bytes a second of partial results that the process which hands out the blocks receives and
        keeps.

    Returns
    -------
    dict
        Ready for JSON. What :func:`dkde.plan` returns, with ``threads`` 1 and the ``seconds`` of
        one thread as fast as this machine's; ``shape``, ``n_query``, ``model`` and
        ``bandwidth_values``, h; ``rates``, bytes and tasks a second; and ``workers``, for each
        number of workers a dict: ``workers`` and ``threads``; ``busy_threads``, for which there is
        work; ``seconds``, and what they are the larger of: ``seconds_computing`` and
        ``seconds_reading`` of a worker, added up, and the seconds of the calling process beside
        them, ``seconds_collecting`` partial results and ``seconds_handing_out`` blocks; ``limit``,
        which of these four is the largest; ``bytes_read`` by all workers, re-reads counted, before
        compression; ``result_bytes``, which are sent back; and ``peak_bytes_per_worker``.

    Raises
    ------
    InputError
        When an argument is not known, or a bandwidth is by a rule that looks at all rows.
    MemoryLimitError
        When the plan does not fit into a worker of that limit.

    Examples
    --------
    >>> import dkde
    >>> cost = dkde.plan_shape((10**9, 3), 10**6, n_workers=[1, 64], baseline=False)
    >>> cost["pairs"], [on["workers"] for on in cost["workers"]]
    (1000000000000000, [1, 64])
    """
    numbers = [n_workers] if isinstance(n_workers, Integral) else list(n_workers)  # type: ignore[arg-type]
    for name, value in (
        ("shape[0]", shape[0]), ("shape[1]", shape[1]), ("n_query", n_query),
        *(("n_workers", n) for n in numbers),
    ):  # fmt: skip
        if not isinstance(value, Integral) or value < 1:
            raise InputError(f"{name} is {value!r}; it must be a whole number, at least 1")
    if not isinstance(model, str) or model not in MODELS:
        raise InputError(f"model {model!r} is not known; choose one of: {', '.join(MODELS)}")
    _refuse_plug_in(bandwidths)
    workers = Workers.of(1, threads_per_worker, memory_limit, baseline=baseline)
    rates = Rates(
        _rate("read_rate", read_rate), _rate("store_rate", store_rate),
        _rate("result_rate", result_rate), _TASKS,
    )  # fmt: skip
    options = Options(
        kernel, metric, precision, covariance, "raise", block_rows, panel_rows, tol, atol=atol
    )
    n_features = int(shape[1])
    train, query = (_side(model, n, n_features, seed) for seed, n in enumerate((shape[0], n_query)))
    options = replace(options, covariance=_covariance(options, model, n_features))
    fitted = Fitted.to(options.prepared(train), bandwidths, options, pool_for)
    cost, plan, found = planned(fitted.work(options.prepared(query)), options, workers)
    peak = cost["peak_bytes_per_worker"]
    return {
        **cost,
        "shape": [int(n) for n in shape],
        "n_query": int(n_query),
        "model": model,
        "bandwidth_values": fitted.bandwidths.tolist(),
        "rates": {
            "read": rates.read, "store": rates.store, "results": rates.results,
            "tasks": rates.tasks,
        },
        "workers": [
            _figures(n, threads_per_worker, on_workers(plan, found, n, threads_per_worker, rates))
            | {"peak_bytes_per_worker": peak}
            for n in map(int, numbers)
        ],
    }  # fmt: skip


def _side(model: str, n_rows: int, n_features: int, seed: int) -> Side:
    """Return rows of a model, in chunks as an import would write them."""
    rows = min(int(n_rows), chunk_rows(8 * n_features))
    source = ModelRows(model, (int(n_rows), n_features), seed, rows)
    return Side(Rows((Part(source, 0, int(n_rows), f"model {model}"),)))


def _covariance(options: Options, model: str, n_features: int) -> Any:
    """Return C, or its scales, as an array where it is that of the rows."""
    given = options.covariance
    if not isinstance(given, str) or given == "identity":
        return given
    options.check()
    sample = _side(model, _SAMPLED, n_features, seed=2)
    matrix: FloatArray = find_covariance(sample, given, options.singular, pool_for).matrix
    return matrix if given == "full" else matrix.diagonal() ** 0.5


def _refuse_plug_in(bandwidths: Any) -> None:
    """Refuse a rule that looks at all rows.

    Raises
    ------
    InputError
    """
    if PLUG_IN in str(rules_among(bandwidths)):
        raise InputError(
            f"bandwidth {PLUG_IN!r} looks at all rows, which are not there; give a number, or "
            "scott or silverman"
        )


def _rate(name: str, given: str | float) -> float:
    """Return a rate in bytes a second.

    Raises
    ------
    InputError
    """
    try:
        rate = parse_limit(given if isinstance(given, str) else int(given))
    except InputError:
        rate = None
    if rate is None:
        raise InputError(
            Argument(name), f" is {given!r}, which are no bytes a second; write 200MB or 5GB"
        )
    return float(rate)


def _figures(n_workers: int, n_threads: int, on: OnWorkers) -> dict[str, Any]:
    """Return the figures of some workers, ready for JSON."""
    return {
        "workers": n_workers,
        "threads": n_workers * n_threads,
        "busy_threads": on.n_busy,
        "seconds": on.seconds,
        "limit": on.limit,
        "seconds_computing": on.computing,
        "seconds_reading": on.reading,
        "seconds_collecting": on.collecting,
        "seconds_handing_out": on.handing_out,
        "bytes_read": on.bytes_read,
        "result_bytes": on.result_bytes,
    }
