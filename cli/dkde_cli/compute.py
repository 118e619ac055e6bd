"""Options for the place where the work runs."""

import json
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

from dkde_cli.logs import say
from dkde_cli.options import Where

_LOGGERS = ("distributed", "distributed.client", "distributed.gc", "tornado", "tornado.application")

# The value of DASK_LOGGING, which Dask parses as a Python literal.
_QUIET = repr(dict.fromkeys(_LOGGERS, "critical"))


@contextmanager
def compute(where: Where) -> Iterator[None]:
    """Make the Dask cluster that the work is to run on the active one, if one is named.

    Parameters
    ----------
    where : Where
        What the user said; else the scheduler of Dask's configuration; else threads of this
        process, which are as fast as worker processes on this machine.
    """
    import dkde

    is_named = where.is_given or dkde.configured_scheduler() is not None
    with _connected(where) if is_named else nullcontext():
        yield


@contextmanager
def attach(where: Where) -> Iterator[None]:
    """Make a running cluster the active one, if one is named; start none."""
    import dkde

    # Options such as --workers would start a cluster: here they describe one.
    is_named = dkde.configured_scheduler() is not None and not where.is_given
    with _connected(where) if where.is_remote or is_named else nullcontext():
        yield


@contextmanager
def _connected(where: Where) -> Iterator[None]:
    """Connect to the cluster, and print its size and its dashboard."""
    import dkde

    _check_scheduler_file(where.scheduler_file)
    if where.cluster is not None:
        _leave_log_of_jobs_on()
    # The fields of Where are the keywords of dkde.connect.
    options = dict(vars(where))
    with dkde.connect(options.pop("scheduler"), **options) as client:
        threads = client.nthreads().values()
        where_to_look = ", dashboard: " + client.dashboard_link if _has_dashboard(client) else ""
        say(f"Workers: {len(threads)}, threads: {sum(threads)}{where_to_look}")
        yield


def _has_dashboard(client: Any) -> bool:
    """Return whether the scheduler shows a dashboard, for which it needs bokeh.

    Without bokeh it has the address all the same, where a page says what is missing.
    """
    from importlib.metadata import version

    try:
        return bool(client.dashboard_link) and bool(client.run_on_scheduler(version, "bokeh"))
    except Exception:  # bokeh is not there, or the scheduler runs nothing for clients
        return False


def _check_scheduler_file(path: str | None) -> None:
    if path is None or not os.path.isfile(path):  # dkde refuses a missing file
        return
    from dkde import ClusterError

    try:
        with open(path, encoding="utf-8") as file:
            known = "address" in dict(json.load(file))
    except (OSError, ValueError, TypeError):
        known = False
    if not known:
        raise ClusterError(
            f"{path}: is not a scheduler file (JSON with an address); "
            "dask scheduler --scheduler-file FILE writes one"
        )


def quieten_dask() -> None:
    """Keep the log of Dask's schedulers and workers off the terminal.

    The environment variable reaches child processes, and Dask if it is not imported yet. The
    loggers' levels count if it is imported already.
    """
    # A value that the user has set wins.
    os.environ.setdefault("DASK_LOGGING", _QUIET)
    for name in _LOGGERS:
        logging.getLogger(name).setLevel(logging.CRITICAL)


def _leave_log_of_jobs_on() -> None:
    """Leave the log of a queue's jobs on: dkde searches their log files for causes of failures."""
    import dkde

    # This imports Dask, which has then read the variable for this process: it stays quiet here.
    dkde.configured_scheduler()
    if os.environ.get("DASK_LOGGING") == _QUIET:
        del os.environ["DASK_LOGGING"]
