"""Return the densities of a result: ``dkde.density(result, *, relative=False)``.

They have a name, a unit and a label of their own, for plots.
The exponential of the log-densities has the same values, but ``np.exp`` leaves it the name and
the unit of the logarithm. In many dimensions densities may be larger or smaller than any
number that float64 holds: they become inf or 0 then, with a warning, or, of lazy results,
without one.

Parameters
----------
result : xarray.Dataset, xarray.DataArray, path or URL
    A result of :func:`dkde.score`, :func:`dkde.sweep` or :func:`dkde.cross_validate`, or the
    path of their output; or labelled log-densities of :func:`dkde.log_density`.
relative : bool
    Whether densities are divided by the largest one at each bandwidth, which is 1 then. None
    of these is too large.

Returns
-------
xarray.DataArray
    ``density``, in the dims and with the coordinates of ``log_density``. The unit is the
    inverse product of those of the features, ``"km-2 day-1"``, where these are known; on the
    sphere it is ``"sr-1"``.

Raises
------
InputError
    When it is no result, or its scores are of a kernel that is no density.
DataSetError
    When there is no store of a result at the path, or it is not complete.

Examples
--------
>>> import dkde, numpy as np
>>> rows = np.array([[0.0], [1.0], [4.0]])
>>> found = dkde.density(dkde.score(np.array([[0.5], [2.0]]), rows, 1.0))
>>> found.name, found.values.round(4)
('density', array([[0.235 , 0.1166]]))
"""

# The folder of the functions that users call has the name of one of them. What is imported as
# ``dkde.density`` serves as both: it is a module that can be called.
from __future__ import annotations

import sys
from types import ModuleType

TYPE_CHECKING = False  # as in typing, which is slow to import
if TYPE_CHECKING:
    import xarray as xr

    from dkde.typing import ResultLike


class _Callable(ModuleType):
    """The module, which can be called as the function of its name."""

    def __call__(self, result: ResultLike, *, relative: bool = False) -> xr.DataArray:
        """Return the densities of a result: see the module."""
        from dkde.runs.densities import density

        return density(result, relative=relative)


sys.modules[__name__].__class__ = _Callable
