"""The images of rows that a support asks for, at given bandwidths."""

from dkde.errors import Argument, InputError
from dkde.estimation.bandwidth_matrix import BandwidthMatrix
from dkde.numerics.images import Axis, AxisImages, Images, reach_of
from dkde.numerics.kernels import Kernel
from dkde.numerics.linear import LinearMap, Scaling
from dkde.rows.row_source import Derived
from dkde.rows.side import Rows
from dkde.rows.sphere import UnitVectors, as_stored
from dkde.rows.support import Periodic, Support

# A row has no more images. At so many a density along a period of its own is uniform, to all
# digits.
_MOST = 1024


def check_support(kernel: Kernel, metric: str, *, pca: int | None = None) -> None:
    """Refuse options that a support does not go with, before anything is read.

    Raises
    ------
    InputError
    """
    if kernel.sphere and kernel.angle is None:
        raise InputError(
            f"kernel {kernel.name!r} is for places on the sphere, which has no bounds; leave out ",
            Argument("support"),
        )
    if metric != "euclidean":
        raise InputError(
            f"metric {metric!r} gives no density, and ", Argument("support"), " is for densities; "
            "use ", Argument("metric", "euclidean"),
        )  # fmt: skip
    if pca is not None:
        raise InputError(
            "principal components mix features, so that bounds of these are none of theirs; leave "
            "out pca or ",
            Argument("support"),
        )


def check_axes(support: Support, linear: LinearMap | None) -> Scaling | None:
    """Return the map of rows, or of a covariance; refuse one that mixes features.

    Raises
    ------
    InputError
    """
    if linear is None or isinstance(linear, Scaling):
        return linear
    raise InputError(
        "a covariance that is not diagonal mixes features, so that a kernel that is reflected "
        f"at a bound would be another one ({support.in_words}); use ",
        Argument("covariance", "diag"), ", or scales of the features",
    )  # fmt: skip


def axes_of(support: Support, rows: Rows) -> list[tuple[int, Axis | Periodic]]:
    """Return the columns of prepared rows that have a support, before the map, and their supports.

    Raises
    ------
    InputError
        When there is no such column.
    """
    source = rows.parts[0].source
    if not isinstance(source, Derived) or not isinstance(source.step, UnitVectors):
        return support.axes(rows.parts[0])
    before, step = as_stored(rows)
    return [(step.place_of(column), one) for column, one in support.axes(before.parts[0])]


def images_for(
    support: Support, rows: Rows, matrix: BandwidthMatrix, kernel: Kernel, largest_scale: float
) -> Images:
    """Return the images of rows at the widest bandwidth.

    Parameters
    ----------
    support : Support
    rows : Rows
        The training rows, whitened.
    matrix : BandwidthMatrix
    kernel : Kernel
    largest_scale : float
        Of the training rows.

    Raises
    ------
    InputError
        When C mixes a feature with others, or there are too many images.
    """
    linear = check_axes(support, rows.linear)
    named = axes_of(support, rows)
    if kernel.radii is None and not kernel.sphere and matrix.rank > 1:
        raise InputError(
            f"kernel {kernel.name!r} is no density of {matrix.rank} features, and ",
            Argument("support"), " is for densities",
        )  # fmt: skip
    widest = float(matrix.bandwidths.max()) * largest_scale
    # The features that are left, their factors, and where they are.
    kept = range(rows.n_stored_features) if linear is None else linear.columns.tolist()
    factors = [1.0] * len(kept) if linear is None else linear.factors.tolist()
    places = {stored: place for place, stored in enumerate(kept)}
    axes = []
    for stored, one in named:
        if stored not in places:  # it does not vary, and is no dimension
            continue
        axis = one.axis if isinstance(one, Periodic) else one
        if axis.is_finite and matrix.rank > 1 and kernel.name == "exponential":
            raise InputError(
                "kernel 'exponential' reaches so far beside an axis that no number of images along "
                "a period, or between two bounds, is enough; use another kernel"
            )
        place = places[stored]
        reach = reach_of(
            widest / factors[place],
            has_support=kernel.profile is not None,
            is_gaussian=kernel.is_gaussian,
        )
        if axis.is_finite and reach > _MOST * axis.period:
            raise _too_many(widest, axis.period, factors[place], support)
        images = axis.images(reach, squares=kernel.is_gaussian)
        axes.append(AxisImages(place, stored, factors[place], tuple(images), axis.low, axis.high))
        if Images(tuple(axes), matrix.rank).count > _MOST:
            raise _too_many(widest, axis.period, factors[place], support)
    return Images(tuple(axes), matrix.rank)


def _too_many(bandwidth: float, period: float, factor: float, support: Support) -> InputError:
    return InputError(
        f"bandwidth {bandwidth:g} takes more than {_MOST} images of each row in the support "
        f"{support.in_words}: along it a density is uniform from a bandwidth of "
        f"{1.5 * period * factor:g} on; use smaller bandwidths, or fewer bounds"
    )
