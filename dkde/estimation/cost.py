"""The cost of a piece of work, estimated without doing it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from dkde.engine.block_plan import Plan
from dkde.engine.estimate import Estimate, estimate, estimate_seconds
from dkde.engine.planned_reads import planned_reads
from dkde.engine.work import Work
from dkde.errors import InputError
from dkde.estimation.fitted import Fitted
from dkde.estimation.options import Options
from dkde.inputs.checks import check_same_features
from dkde.inputs.selectors import Catalog
from dkde.inputs.sides import catalog_of, operands, side
from dkde.numerics.machine import older_kernels
from dkde.typing import (
    BandwidthsLike,
    CovarianceLike,
    KernelLike,
    Names,
    RowsLike,
    SupportLike,
    Text,
    WeightsLike,
)
from dkde.workers.cluster import check_limit, measure_baseline, pool_for, threads_there
from dkde.workers.connecting import parse_limit

# The method of lazy sides, of which no sample is read for a plan.
_LATER = "chosen from a sample when it runs"


def plan(
    *,
    query: RowsLike,
    train: RowsLike,
    bandwidths: BandwidthsLike | None = None,
    kernel: KernelLike = "gaussian",
    metric: str = "euclidean",
    covariance: CovarianceLike = "identity",
    singular: str = "raise",
    precision: str = "float64",
    tol: float | None = None,
    atol: float = 0.0,
    nan: str = "raise",
    support: SupportLike = None,
    outside: str = "raise",
    weights: WeightsLike = None,
    bandwidth_scale: WeightsLike = None,
    source: str | Catalog | None = None,
    features: Names | None = None,
    where: Text | None = None,
    row_dim: Names | None = None,
    lat: Text | None = None,
    lon: Text | None = None,
    n_threads: int | None = None,
    threads_per_worker: int = 1,
    memory_limit: str | int | None = None,
    baseline: bool = True,
    block_rows: int | None = None,
    panel_rows: int | None = None,
) -> dict[str, Any]:
    """Return the cut of the pairs into blocks, and the cost of them; no block is computed.

    Parameters
    ----------
    query, train, bandwidths, kernel, metric, covariance, singular, precision, tol, atol, nan, \
            support, outside, weights, bandwidth_scale, source, features, where, row_dim, lat, lon
        As for :func:`dkde.score`. A covariance is found, which reads the training rows; a
        sample of both sides is read, unless they are lazy.
    block_rows, panel_rows
        As for :func:`dkde.score`. The plan is the one that this function would follow. The default
        bandwidths are those of :func:`dkde.sweep`.
    n_threads : int, optional
        The threads for ``seconds``; by default those of the active Dask client's workers, else
        one for each processor.
    threads_per_worker : int
        The threads of a worker, for ``peak_bytes_per_worker``.
    memory_limit : str or int, optional
        The memory of a worker, in bytes or as ``"2GB"``; a plan that does not fit is refused.
    baseline : bool
        Whether to return the memory of a worker before any block. It is measured on the active
        Dask client's workers. Without a client it is that of this process, or, if this process
        holds more than libraries, what workers were measured to take. No process is started.

    Returns
    -------
    dict
        Ready for JSON. ``pairs``; ``flops``, floating point operations; ``bytes_read``,
        uncompressed, re-reads counted, where all pairs are computed; ``blocks``, ``query_blocks``
        times ``panels``, of ``block_rows`` times ``panel_rows`` rows; ``bandwidths``, how many;
        ``baseline_bytes`` of a worker at rest, None unless asked for; ``reads``, what blocks read
        of ``query`` and ``train`` by their method: ``bytes``, ``times`` and ``why``, or None where
        sides are lazy; ``block_bytes`` that one block adds;
        ``resident_bytes`` that sides in memory take, with what blocks share, such as rows in
        leaves; ``peak_bytes_per_worker``, all of these together, where there is a baseline;
        ``answer_bytes`` that the calling process takes for the answer of a call without an output,
        beside a worker's if it is one itself; ``method``, how blocks would be done, in words, with
        the share of the query rows, found from samples, that expansions would leave to the pairs of
        near leaves;
        ``shares`` of all pairs, by how they are answered for, or None where that is not known;
        ``threads``, and roughly the ``seconds`` on them by that method, those of all pairs where
        sides are lazy and not looked at; ``seconds_all_pairs``; and ``slow_blas``, a line where
        NumPy's OpenBLAS runs code for an older processor than this one, else None.

    Raises
    ------
    InputError, DataSetError, ClusterError
        As :func:`dkde.score`.
    MemoryLimitError
        When the plan does not fit into a worker of that limit.

    Examples
    --------
    >>> import dkde
    >>> cost = dkde.plan(query="valid", train="train", source="digits", baseline=False)
    >>> cost["pairs"], cost["blocks"]
    (387002, 1)
    """
    workers = Workers.of(n_threads, threads_per_worker, memory_limit, baseline=baseline)
    # The same steps as in `score`, so that it would follow the plan that is shown.
    catalog = catalog_of(
        source,
        ("train", "query"),
        features=features,
        where=where,
        row_dim=row_dim,
        lat=lat,
        lon=lon,
        beside=(weights, bandwidth_scale),
    )
    t, q = operands(catalog, train=train, query=query)
    check_same_features(q, t, "query")
    options = Options(
        kernel, metric, precision, covariance, singular, block_rows, panel_rows, tol,
        nan=nan, atol=atol, support=support, outside=outside,
    )  # fmt: skip
    train_side = options.prepared(side(t, weights, scales=bandwidth_scale))
    query_side = options.prepared(side(q, role="query"))
    work = Fitted.to(train_side, bandwidths, options, pool_for).work(query_side)
    return cost_of(work, options, workers)


@dataclass(frozen=True)
class Workers:
    """The workers for which a cost is estimated.

    Parameters
    ----------
    n_threads : int, optional
        All their threads; by default those that there are.
    threads_per_worker : int
    limit : int, optional
        The memory of a worker, in bytes.
    baseline : bool
        Whether the memory of a worker at rest is asked for.
    """

    n_threads: int | None
    threads_per_worker: int
    limit: int | None
    baseline: bool

    @classmethod
    def of(
        cls,
        n_threads: int | None,
        threads_per_worker: int,
        memory_limit: str | int | None,
        *,
        baseline: bool,
    ) -> Workers:
        """Return the workers that a user asks for.

        Raises
        ------
        InputError
        """
        for name, count in (("n_threads", n_threads), ("threads_per_worker", threads_per_worker)):
            if count is not None and count < 1:
                raise InputError(f"{name} is {count}; at least one is needed")
        return cls(n_threads, threads_per_worker, parse_limit(memory_limit), baseline)


def cost_of(work: Work, options: Options, workers: Workers) -> dict[str, Any]:
    """Return the cost of a piece of work, as :func:`plan` returns it.

    Raises
    ------
    MemoryLimitError
        When the plan does not fit into a worker.
    """
    return planned(work, options, workers)[0]


def planned(
    work: Work, options: Options, workers: Workers
) -> tuple[dict[str, Any], Plan, Estimate]:
    """Return the cost of a piece of work, and the plan and the estimate that it is from.

    Raises
    ------
    MemoryLimitError
        When the plan does not fit into a worker.
    """
    cut = work.plan
    n_threads, limit = workers.n_threads or threads_there(), workers.limit
    is_asked = workers.baseline or limit is not None
    at_rest = measure_baseline(options.precision) if is_asked else None
    if at_rest is not None and limit is not None:
        check_limit("a worker", cut.worker_bytes(workers.threads_per_worker), at_rest, limit)
    all_pairs = estimate_seconds(cut, n_threads, options.radial.name, options.metric)
    # A survey reads rows; those of lazy sides would have to be computed for it.
    found, survey, reads = Estimate(all_pairs, _LATER), None, None
    if not work.is_lazy:
        survey = work.survey()
        reads = planned_reads(work, survey)
        # Before the survey room for moments of cells is kept, wherever there may be some, and for
        # rows with and without regions.
        cut = cut.knowing_cells(bool(survey.by_cells))
        cut = cut.knowing_regions(survey.summaries is not None)
        found = estimate(replace(work, plan=cut), survey, n_threads, all_pairs)
    sizes = _sizes(cut, at_rest, workers.threads_per_worker)
    if survey is not None:  # beside memory, which is that of shares as they are planned
        cut = replace(cut, n_shares=survey.n_shares(cut.n_shares, cut.query_rows))
    cost = {
        **sizes,
        "reads": reads,
        "method": found.method,
        "threads": n_threads,
        "shares": None if found.answers is None else found.answers.shares,
        "seconds": found.seconds,
        "seconds_all_pairs": all_pairs,
        "slow_blas": older_kernels(),
    }
    return cost, cut, found


def _sizes(cut: Plan, at_rest: int | None, threads_per_worker: int) -> dict[str, Any]:
    """Return the figures that follow from the cut of the pairs, and a worker's bytes at rest."""
    peak = None if at_rest is None else at_rest + cut.worker_bytes(threads_per_worker)
    return {
        "pairs": cut.pairs,
        "flops": cut.flops,
        "bytes_read": cut.bytes_read,
        "bandwidths": cut.n_bandwidths,
        "blocks": cut.n_blocks,
        "query_blocks": cut.n_query_blocks,
        "panels": cut.n_panels,
        "block_rows": cut.query_rows,
        "panel_rows": cut.panel_rows,
        "baseline_bytes": at_rest,
        "peak_bytes_per_worker": peak,
        "block_bytes": cut.block_bytes,
        "resident_bytes": cut.resident_bytes,
        "answer_bytes": cut.answer_bytes,
    }
