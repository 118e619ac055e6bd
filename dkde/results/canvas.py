"""Where a plot goes: a user's axes, a new figure of the session, or a file."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

from dkde.drawing.palette import new_figure
from dkde.errors import InputError
from dkde.results.pictures import check_picture
from dkde.stores.publishing import write_whole


@dataclass(frozen=True)
class Panel:
    """One of several axes of a figure, where a plot asks for axes."""

    drawn: Any

    def axes(self, width: float = 6.4, height: float = 4.2) -> Any:
        """Return the axes, whatever size is asked for."""
        return self.drawn


@dataclass
class Canvas:
    """Axes to draw on, and the file that they are written to, if there is one.

    Parameters
    ----------
    given : matplotlib.axes.Axes or None
    path : path or None
    """

    given: Any
    path: str | os.PathLike[str] | None
    _drawn: Any = field(default=None, init=False)

    @classmethod
    def of(cls, ax: Any, path: str | os.PathLike[str] | None) -> Canvas:
        """Return the canvas of a call; refuse what cannot be drawn on, or written.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, path or None
        path : path or None

        Raises
        ------
        InputError, DataSetError
        """
        # The path was the second argument before plots took axes.
        if isinstance(ax, str | os.PathLike):
            if path is not None:
                raise InputError("two paths are given, and no axes; leave out one of them")
            ax, path = None, ax
        if ax is not None and not hasattr(ax, "get_figure"):
            raise InputError(f"ax is {type(ax).__name__}; pass axes of matplotlib, or nothing")
        if path is not None:
            check_picture(path)
        return cls(ax, path)

    def axes(self, width: float = 6.4, height: float = 4.2) -> Any:
        """Return the axes; new ones are those of pyplot, so that a notebook shows them.

        Parameters
        ----------
        width, height : float
            Of a new figure, in inches.
        """
        if self.given is not None:
            self._drawn = self.given
        elif self.path is not None:
            # A file needs no display, and leaves the session's figures alone.
            _, self._drawn = new_figure(width, height)
        else:
            from matplotlib import pyplot

            _, self._drawn = pyplot.subplots(figsize=(width, height), layout="constrained")
        return self._drawn

    def panels(self, n: int, columns: int) -> Any:
        """Return an array of axes, on a new figure of rows of so many."""
        rows = -(-n // columns)
        size = 3.4 * columns, 2.9 * rows
        if self.path is None:
            from matplotlib import pyplot

            figure = pyplot.figure(figsize=size, layout="constrained")
        else:
            figure, axes = new_figure(*size)
            axes.remove()
        every = figure.subplots(rows, columns, squeeze=False).ravel()
        for axes in every[n:]:
            axes.remove()
        self._drawn = every[0]
        return every[:n]

    def write(self) -> None:
        """Write the figure to the path, if there is one: whole, or not at all."""
        if self.path is None:
            return
        file = BytesIO()
        format = Path(self.path).suffix[1:].lower()
        self._drawn.get_figure().canvas.figure.savefig(file, format=format, dpi=150)
        write_whole(self.path, file.getvalue())
