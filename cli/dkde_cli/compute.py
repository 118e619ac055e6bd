"""Options for the place where the work runs."""

import json
import logging
import os
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import click

from dkde_cli.options import Where
from dkde_cli.sides import Training
from dkde_cli.tables import duration

# Work that is estimated to take longer is worth a cluster of processes, its start and dashboard.
SHORT_SECONDS = 60.0

_LOGGERS = ("distributed", "distributed.client", "distributed.gc", "tornado", "tornado.application")

_QUIET = repr(dict.fromkeys(_LOGGERS, "critical"))


@contextmanager
def compute(where: Where, estimate: Callable[[], float] | None = None) -> Iterator[None]:
    """Make the Dask cluster that the work is to run on the active one, if it needs one.

    Parameters
    ----------
    where : Where
        What the user said; else the scheduler of Dask's configuration; else this machine.
    estimate : callable, optional
        Seconds that the work would take here; if few, or if it is not given, the work runs in
        threads of this process.
    """
    import dkde

    if not where.is_given and dkde.configured_scheduler() is None:
        seconds = 0.0 if estimate is None else _quiet(estimate)
        if seconds < SHORT_SECONDS:
            yield
            return
        click.echo(f"This will take about {duration(seconds)}", err=True)
    with _connected(where):
        yield


def estimated_seconds(
    training: Training,
    *,
    query: str,
    train: str,
    bandwidths: Any,
    density: Mapping[str, Any],
    n_features: int | None = None,
) -> float:
    """Return the time to score one side under the other, on all local processors.

    Parameters
    ----------
    training : Training
        Where both sides come from.
    n_features : int, optional
        What is left of them, if not all are.
    """
    import dkde

    # A covariance changes next to nothing, and to find it takes a pass over the rows.
    cheap = {**density, "covariance": "identity"}
    cost = dkde.plan(
        query=query,
        train=train,
        weights=training.weights,
        bandwidths=bandwidths,
        source=training.catalog,
        baseline=False,
        **cheap,
    )
    # What is chosen for other rows than will be scored, or for rows that are not held out, says
    # nothing of the method.
    mapped = n_features is not None or str(density.get("covariance", "identity")) != "identity"
    seconds = float(cost["seconds_all_pairs" if mapped or query == train else "seconds"])
    if n_features is not None:
        # A feature of a pair is a multiplication and an addition.
        saved = 2 * (training.catalog.rows(train).n_features - n_features) * cost["pairs"]
        seconds *= min(1 - saved / cost["flops"], 1.0)
    return seconds


@contextmanager
def attach(where: Where) -> Iterator[None]:
    """Make a running cluster the active one, if one is named; start none."""
    import dkde

    if where.is_remote or (not where.is_given and dkde.configured_scheduler() is not None):
        with _connected(where):
            yield
    else:
        yield


@contextmanager
def _connected(where: Where) -> Iterator[None]:
    import dkde

    _check_scheduler_file(where.scheduler_file)
    if where.cluster is not None:
        _let_jobs_talk()
    options = dict(vars(where))
    with dkde.connect(options.pop("scheduler"), **options) as client:
        threads = client.nthreads().values()
        click.echo(
            f"Workers: {len(threads)}, threads: {sum(threads)}, dashboard: {client.dashboard_link}",
            err=True,
        )
        yield


def _quiet(estimate: Callable[[], float]) -> float:
    """The estimate, or 0 where the work will be refused: the work's own words say it better."""
    from dkde import DkdeError

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return estimate()
        except DkdeError:
            return 0.0


def _check_scheduler_file(path: str | None) -> None:
    if path is None or not os.path.isfile(path):  # of a missing one, dkde says so
        return
    from dkde import ClusterError

    try:
        with open(path, encoding="utf-8") as file:
            known = "address" in dict(json.load(file))
    except (OSError, ValueError, TypeError):
        known = False
    if not known:
        raise ClusterError(
            f"{path}: is no scheduler file (JSON with an address); "
            "dask scheduler --scheduler-file FILE writes one"
        )


def quieten_dask() -> None:
    """Keep the log of Dask's schedulers and workers off the terminal.

    The environment reaches the processes that are started, and a Dask that is not imported
    yet; the loggers are for one that is.
    """
    os.environ.setdefault("DASK_LOGGING", _QUIET)
    for name in _LOGGERS:
        logging.getLogger(name).setLevel(logging.CRITICAL)


def _let_jobs_talk() -> None:
    """Let jobs log: their logs go to files, which are searched for the reasons of failures."""
    import dkde

    dkde.configured_scheduler()  # Dask is imported now, and has read it
    if os.environ.get("DASK_LOGGING") == _QUIET:
        del os.environ["DASK_LOGGING"]
