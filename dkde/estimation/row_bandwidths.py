"""Bandwidths of training rows' own: which calls may have them."""

from numbers import Real
from typing import Any

from dkde.engine.leaf_plan import MOST_IN_LEAVES
from dkde.errors import Argument, InputError
from dkde.numerics.kernels import Kernel
from dkde.rows.side import Rows


def check_scaled(kernel: Kernel, rows: Rows) -> None:
    """Refuse training rows with scales of their own where sums cannot have them.

    Raises
    ------
    InputError
        On the sphere, where a kernel does not scale, and above 96 features.
    """
    if kernel.sphere:
        raise InputError(
            f"kernel {kernel.name!r} changes its shape with its bandwidth, and no scale of a row "
            "does that; leave out ",
            Argument("bandwidth_scale"), " and ", Argument("adaptive"),
            ", or use a kernel in space",
        )  # fmt: skip
    if rows.n_features > MOST_IN_LEAVES:
        raise InputError(
            f"rows have {rows.n_features} features, and bandwidths of rows' own are for up to "
            f"{MOST_IN_LEAVES}; leave out ",
            Argument("bandwidth_scale"), " and ", Argument("adaptive"), ", or project the rows",
        )  # fmt: skip


def check_one_density(by: Any, adaptive: float | None, scales: Any) -> None:
    """Refuse bandwidths of rows' own beside densities of groups, which have none.

    Parameters
    ----------
    by : str, array or None
        What divides the rows into groups.
    adaptive : float or None
    scales : array, str or None
        The scales of rows, as users give them.

    Raises
    ------
    InputError
    """
    for name, given in (("adaptive", adaptive), ("bandwidth_scale", scales)):
        if by is not None and given is not None:
            raise InputError(
                Argument(name), " is for one density; leave out ", Argument("by"),
                ", or call once for each of its values",
            )  # fmt: skip


def check_adaptive(alpha: Any) -> None:
    """Refuse what is no power of a pilot density.

    Raises
    ------
    InputError
    """
    if alpha is None:
        return
    is_number = isinstance(alpha, Real) and not isinstance(alpha, bool)
    if not (is_number and 0 < float(alpha) <= 1):
        raise InputError(
            Argument("adaptive"), f" is {alpha!r}; it must be a number above 0, and at most 1"
        )
