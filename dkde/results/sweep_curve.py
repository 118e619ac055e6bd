"""The curves of sweeps and cross-validations, drawn on a user's axes or into a file."""

from __future__ import annotations

from typing import Any

from dkde.drawing.curves import curve_height, draw_curves
from dkde.errors import InputError
from dkde.results.canvas import Canvas
from dkde.results.named import named_results, opened_results
from dkde.typing import Axes, ResultsLike, StrPath

_NEEDED = ("mean_log_likelihood", "standard_error", "best_bandwidth")


def plot_sweep(
    results: ResultsLike,
    ax: Axes | None = None,
    *,
    path: StrPath | None = None,
    **style: Any,
) -> Axes:
    """Draw sweeps: the mean and its standard error over bandwidths, with the best one marked.

    Means of -inf are triangles at the lower edge. Means that are NaN are left out. Nothing is
    written unless ``path`` says where.

    Parameters
    ----------
    results : xarray.Dataset, path or URL, or several as a dict or list
        Results of :func:`dkde.sweep` or :func:`dkde.cross_validate`, paths of their outputs, or
        fitted :class:`dkde.KernelDensityCV`. A dict's keys are the names in the legend.
    ax : matplotlib.axes.Axes, optional
        The axes to draw on; by default those of a new figure. A path is taken for ``path``.
    path : path, optional
        A file to write, which ends in .png, .svg or .pdf and is replaced.
    **style
        What ``matplotlib.axes.Axes.errorbar`` takes: ``color``, ``marker``, ``label``, ...

    Returns
    -------
    matplotlib.axes.Axes
        For titles, limits and scales.

    Raises
    ------
    InputError
        When the suffix is another, a result is not of a sweep or a cross-validation, or the
        bandwidths have different units.
    DataSetError
        When the file cannot be written.

    Examples
    --------
    >>> import dkde
    >>> found = dkde.cross_validate("valid", [1, 2, 4], folds=4, source="digits")
    >>> axes = dkde.plot_sweep({"digits": found}, color="black")
    >>> axes.get_xscale()
    'log'
    """
    canvas = Canvas.of(ax, path)
    opened = opened_results(named_results(results))
    for name, result in opened.items():
        missing = set(_NEEDED) - set(result.variables)
        if missing:
            which = "the result" if len(opened) == 1 else name
            raise InputError(
                f"{which} has no {', '.join(sorted(missing))}; pass one of dkde.sweep or "
                "dkde.cross_validate"
            )
    axes = canvas.axes(6.4, curve_height(len(opened)))
    draw_curves(axes, opened, **style)
    canvas.write()
    return axes
