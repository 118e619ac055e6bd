"""Times ways of doing one work in turn, and says how far each is from the exact answer."""

import contextlib
import math
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

Array = np.ndarray
Score = Callable[[Array], Array | None]

_CHECKED = 16  # queries whose exact log-densities are taken
_TILE = 500_000  # differences at a time, in extended precision
_SHORT = 20.0  # seconds: what takes no longer is repeated as often as is asked for
_AT_MOST = 100.0  # seconds that the repeats of what takes longer may take


@dataclass(frozen=True)
class Way:
    """One side of a comparison.

    Parameters
    ----------
    prepare : callable
        What is done once for any number of queries, such as building a tree; returns the
        function that maps queries (rows, features) to log-densities (rows,) or (bandwidths,
        rows), or to None where there are none to check.
    start : int, optional
        Queries of the first sample. Samples grow until more queries take `patience` seconds
        more, or until all would take ten times that, and are then taken. By default all are.
    exact : callable, optional
        The answer to hold it against, where it is not the work's own.
    """

    name: str
    prepare: Callable[[], Score]
    start: int | None = None
    patience: float = 3.0
    exact: Score | None = None
    note: str = ""
    may_fail: bool = False


@dataclass(frozen=True)
class Work:
    """What is to be done, dkde's way of doing it first, then the one of the target, then others.

    `target` is how many times as long as the second way the first may take at most (``"<="``),
    or how many times faster it is to be (``">="``).
    """

    number: int
    title: str
    queries: Array
    exact: Score
    ways: tuple[Way, ...]
    target: tuple[str, float] | None
    missing: tuple[str, ...] = ()


@dataclass
class Measured:
    """Seconds for all queries, of which `timed` were; `error` is the largest, in nats.

    Of a way that failed there are no seconds, and `failure` says why.
    """

    name: str
    n_queries: int
    timed: int = 0
    prepare_seconds: float = 0.0
    seconds: float = math.nan
    repeats: int = 0
    cores: float = math.nan
    error: float | None = None
    note: str = ""
    failure: str = ""
    times: list[float] = field(default_factory=list)


def exact_log_density(train: Array, bandwidths: float | Sequence[float]) -> Score:
    """Log-densities by the definition, a query at a time, in extended precision."""
    n, d = train.shape
    scales = np.atleast_1d(np.asarray(bandwidths, np.longdouble))
    log_norms = d * np.log(scales * np.sqrt(2 * np.longdouble(np.pi))) + np.log(np.longdouble(n))
    step = max(1, _TILE // d)

    def one(query: Array) -> Array:
        row = query.astype(np.longdouble)
        squared = np.concatenate(
            [((train[i : i + step] - row) ** 2).sum(axis=1) for i in range(0, n, step)]
        )
        sums = [np.exp((squared.min() - squared) / (2 * h * h)).sum() for h in scales]
        return np.log(np.array(sums)) - squared.min() / (2 * scales**2) - log_norms

    def score(queries: Array) -> Array:
        values = np.stack([one(query) for query in queries], axis=1).astype(float)
        return values if np.ndim(bandwidths) else values[0]

    return score


def measure(
    work: Work, repeats: int, patience: float = 1.0, by_processor: bool = False
) -> list[Measured]:
    """Times every way of a work, in turn, after untimed calls of each.

    Parameters
    ----------
    repeats : int
        Of ways that take up to 20 seconds; the others get 100 seconds, or one repeat.
    patience : float
        Times as much patience as the ways ask for.
    by_processor : bool
        Whether seconds are those of the processor, of all threads.
    """
    checked = work.queries[:_CHECKED]
    exact = work.exact(checked)
    runners = []
    for way in work.ways:
        print(f"  {way.name}", file=sys.stderr, flush=True)
        runner = _Runner(way, work.queries, patience, by_processor)
        with contextlib.redirect_stdout(sys.stderr):  # some say that they compile
            runner.begin(exact if way.exact is None else way.exact(checked), repeats)
        runners.append(runner)
    for turn in range(repeats):
        for runner in runners:
            if turn < runner.row.repeats:
                runner.turn()
    return [runner.finish() for runner in runners]


class _Runner:
    """One way, its sample, and what was measured of it."""

    def __init__(self, way: Way, queries: Array, patience: float, by_processor: bool) -> None:
        self.way, self.queries, self.by_processor = way, queries, by_processor
        self.enough = way.patience * patience
        self.row = Measured(way.name, len(queries), note=way.note)
        self.smaller = 0  # queries of the sample before the last
        self.fewer: list[float] = []  # ... and the seconds that it took
        self.cores: list[float] = []

    def begin(self, exact: Array | None, repeats: int) -> None:
        try:
            start = self._now()
            self.score = self.way.prepare()
            self.row.prepare_seconds = self._now() - start
            seconds, values = self._sample()
        except Exception as failure:
            if not self.way.may_fail:
                raise
            self.row.failure = f"{type(failure).__name__}: {failure}".splitlines()[0]
            return
        self.row.repeats = min(repeats, max(1, int(_AT_MOST / seconds)))
        if seconds <= _SHORT:
            self.row.repeats = repeats
        self.row.error = _error(values, exact)

    def _sample(self) -> tuple[float, Array | None]:
        """Find how many queries to time; returns their seconds and values."""
        n = len(self.queries)
        rows = n if self.way.start is None else min(self.way.start, n)
        # The first call compiles and loads; what it takes says nothing.
        self._timed(rows)
        before = 0.0
        while True:
            seconds, _, values = self._timed(rows)
            more = seconds - before
            # Of the first sample nobody knows how much is what every call costs.
            known = self.smaller > 0 and more >= self.enough
            if rows == n or known or seconds >= 10 * self.enough:
                break
            whole = seconds + max(more, 0) * (n - rows) / (rows - self.smaller)
            if whole <= 10 * self.enough or 4 * rows >= n:
                rows = n
            else:
                self.smaller, before, rows = rows, seconds, 4 * rows
        self.row.timed = rows
        if rows == n:
            self.smaller = 0
        return seconds, values

    def turn(self) -> None:
        if self.smaller:
            self.fewer.append(self._timed(self.smaller)[0])
        seconds, cores, _ = self._timed(self.row.timed)
        self.row.times.append(seconds)
        self.cores.append(cores)

    def finish(self) -> Measured:
        row = self.row
        if not row.failure:
            seconds = statistics.median(row.times)
            # What every call costs is in both samples: their difference is what queries cost.
            fewer = statistics.median(self.fewer) if self.fewer else 0.0
            each = max(seconds - fewer, 0.0) / (row.timed - self.smaller)
            row.seconds = row.prepare_seconds + seconds + each * (row.n_queries - row.timed)
            row.cores = statistics.median(self.cores)
        return row

    def _now(self) -> float:
        return time.process_time() if self.by_processor else time.perf_counter()

    def _timed(self, rows: int) -> tuple[float, float, Array | None]:
        """Seconds, cores that this process used, and values of the first queries."""
        start, processor = time.perf_counter(), time.process_time()
        values = self.score(self.queries[:rows])
        worked, passed = time.process_time() - processor, time.perf_counter() - start
        return worked if self.by_processor else passed, worked / passed, values


def _error(values: Array | None, exact: Any) -> float | None:
    """The largest error in nats, of the queries that were taken and checked."""
    if values is None:
        return None
    columns = min(values.shape[-1], exact.shape[-1])
    with np.errstate(invalid="ignore"):
        errors = np.abs(values[..., :columns] - exact[..., :columns])
    return float(np.nan_to_num(errors, nan=np.inf).max())
