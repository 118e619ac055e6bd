"""The progress of the work, on standard error."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic
from typing import Any

from dkde.errors import printable
from dkde_cli.logs import is_quiet, say
from dkde_cli.tables import duration, si

# Seconds between two lines where standard error is no terminal.
_LINE_SECONDS = 60.0

Update = Callable[[str, int, int], None]


@contextmanager
def progress(unit: str) -> Iterator[Update]:
    """Show progress: a bar on a terminal, else a line a minute.

    Parameters
    ----------
    unit : str
        The name of what is counted: "pairs", "rows".

    Yields
    ------
    callable
        Takes (stage, done, total). A new stage gets a bar of its own; the bar of a stage that
        begins anew starts again.
    """
    if is_quiet():
        yield lambda stage, done, total: None
    elif sys.stderr.isatty():
        with _bars(unit) as update:
            yield update
    else:
        yield Lines(unit)


@contextmanager
def _bars(unit: str) -> Iterator[Update]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        Progress,
        ProgressColumn,
        Task,
        TaskID,
        TaskProgressColumn,
        TextColumn,
        TimeRemainingColumn,
    )
    from rich.text import Text

    class Speed(ProgressColumn):
        def render(self, task: Task) -> Text:
            speed = task.finished_speed or task.speed
            return Text("" if speed is None else f"{si(speed)} {unit}/s")

    bars = Progress(
        TextColumn("{task.description}", markup=False),  # a name may have brackets
        BarColumn(),
        TaskProgressColumn(),
        Speed(),
        TimeRemainingColumn(elapsed_when_finished=True),
        console=Console(stderr=True),
        # Only finished blocks are reported, and some take a while: the speed is a mean over two
        # minutes.
        speed_estimate_period=120,
    )
    tasks: dict[str, TaskID] = {}
    # Shown until the first report: moments and principal components report no progress.
    preparing = bars.add_task("preparing", total=None)

    def update(stage: str, done: int, total: int) -> None:
        bars.update(preparing, visible=False)
        if stage not in tasks:
            tasks[stage] = bars.add_task(printable(stage), total=total)
        elif done <= bars.tasks[tasks[stage]].completed:  # the count restarted
            bars.reset(tasks[stage], total=total)
        bars.update(tasks[stage], completed=done)

    with bars:
        yield update


class Lines:
    """Lines on standard error, one a minute; none for work of less than a minute.

    Parameters
    ----------
    unit : str
        The name of what is counted.
    clock : callable
        Returns the time in seconds.
    """

    def __init__(self, unit: str, clock: Callable[[], float] = monotonic) -> None:
        self._unit = unit
        self._clock = clock
        self._last = clock()
        self._stage: str | None = None
        self._done = 0
        # Time and count of the stage's first report: a run that is resumed has blocks from before,
        # which count for no speed.
        self._first = (0.0, 0)

    def __call__(self, stage: str, done: int, total: int) -> None:
        now = self._clock()
        if stage != self._stage or done < self._done:
            self._first = (now, done)
        self._stage, self._done = stage, done
        # Without a block that is done there is no share and no speed to print.
        if now - self._last < _LINE_SECONDS or done == 0:
            return
        self._last = now
        start, before = self._first
        line = f"{stage}: {done / total:.0%}"
        if done > before:
            rate = (done - before) / max(now - start, 1e-9)
            line += f", {si(rate)} {self._unit}/s, {duration((total - done) / rate)} left"
        say(line)


def stages(update: Update, *names: str) -> Callable[[int, int], None]:
    """Return a function that reports (done, total) under the name of the stage.

    The next stage begins where the count restarts; the last one begins anew as often as it does.

    Parameters
    ----------
    update : callable
        From :func:`progress`.
    names : str
        Names of the stages, in order.
    """
    state: dict[str, Any] = {"stage": 0, "last": 0, "total": None}

    def report(done: int, total: int) -> None:
        is_over = state["last"] == state["total"]
        if (is_over or done <= state["last"]) and state["stage"] < len(names) - 1:
            state["stage"] += 1
        state["last"], state["total"] = done, total
        update(names[state["stage"]], done, total)

    return report
