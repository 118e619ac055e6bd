"""Bandwidths as users write them, checked and returned as an array."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from dkde.errors import InputError
from dkde.typing import FloatArray

_GRIDS: dict[str, Callable[..., FloatArray]] = {
    "logspace": np.logspace,
    "geomspace": np.geomspace,
    "linspace": np.linspace,
}
EARTH_RADIUS_KM = 6371.0088
KILOMETRES, RADIANS = "km", "radian"
# Every query row has a sum for each bandwidth. More than this is taken for a mistake.
MAX_BANDWIDTHS = 10_000
_SYNTAX = (
    "write 0.05,0.1,0.2 or logspace:-1:1:20 or geomspace:0.05:2:12, or a rule: scott, silverman, "
    "isj"
)


def parse_bandwidths(text: str) -> FloatArray | list[str]:
    """Return bandwidths from text: a list, or a grid given by its ends and its length.

    Lengths on the Earth, in kilometres, stay text: the kernel ``"vonmises_fisher"`` takes them
    in this form.

    Raises
    ------
    InputError
        When the text is neither a list nor a grid, or a value is no bandwidth.

    Examples
    --------
    >>> parse_bandwidths("0.05,0.1")
    array([0.05, 0.1 ])
    >>> parse_bandwidths("geomspace:50km:200km:3")
    ['50.0km', '100.0km', '200.0km']
    >>> parse_bandwidths("logspace:-1:1:3")
    array([ 0.1, 1. , 10. ])
    """
    return _lengths(text) if "km" in text else _numbers(text)


def _numbers(text: str) -> FloatArray:
    name, *arguments = (part.strip() for part in text.split(":"))
    try:
        if name in _GRIDS:
            start, stop, number = arguments
            # Before the grid is made: it may be too large for memory.
            if int(number) > MAX_BANDWIDTHS:
                raise InputError(
                    f"bandwidths {text!r}: {number} are too many; give {MAX_BANDWIDTHS} at most"
                )
            with np.errstate(over="ignore", invalid="ignore"):  # check_bandwidths refuses those
                values = _GRIDS[name](float(start), float(stop), int(number))
        else:
            values = np.array([float(part) for part in text.split(",") if part.strip()])
    except InputError:
        raise
    except (ValueError, OverflowError):
        raise InputError(f"bandwidths {text!r} cannot be read; {_SYNTAX}") from None
    return check_bandwidths(values)


def in_radians(length: str) -> float:
    """Return a length on the Earth, "250km", as the angle at its centre, in radians.

    The radius is the mean one of the Geodetic Reference System 1980.

    Raises
    ------
    InputError
        When the text is not a length in kilometres.

    References
    ----------
    Moritz (2000), Geodetic Reference System 1980, Journal of Geodesy 74, 128-133.

    Examples
    --------
    >>> round(in_radians("6371.0088 km"), 12)
    1.0
    """
    return in_kilometres(length) / EARTH_RADIUS_KM


def in_kilometres(length: str) -> float:
    """Return a length on the Earth, "250km", as a number.

    Raises
    ------
    InputError
        When the text is not a length in kilometres.
    """
    number, unit, rest = length.strip().partition("km")
    try:
        if unit and not rest:
            return float(number)
    except ValueError:
        pass
    raise InputError(
        f"bandwidth {length!r} cannot be read; give radians as a number, or a length as 250km"
    )


@dataclass(frozen=True)
class Angles:
    """Bandwidths on the sphere: angles in radians, shown in the unit in which they were given.

    Parameters
    ----------
    kilometres : tuple of float, optional
        The lengths on the Earth, if they were given as such.
    """

    kilometres: tuple[float, ...] | None = None

    @classmethod
    def of(cls, bandwidth: Any) -> Angles:
        """Return the angles of bandwidths that a user gives.

        Raises
        ------
        InputError
            When some are lengths and some are not, or a text is no length.
        """
        if isinstance(bandwidth, str):
            return cls((in_kilometres(bandwidth),))
        # Arrays of text or of objects may hold lengths; arrays of numbers are radians.
        if isinstance(bandwidth, np.ndarray) and bandwidth.dtype.kind in "UO":
            bandwidth = bandwidth.tolist()
        if not isinstance(bandwidth, list | tuple):
            return cls()
        lengths = [h for h in bandwidth if isinstance(h, str)]
        if not lengths:
            return cls()
        if len(lengths) < len(bandwidth):
            other = next(h for h in bandwidth if not isinstance(h, str))
            raise InputError(_mixed(lengths[0], str(other)))
        return cls(tuple(map(in_kilometres, lengths)))

    @property
    def unit(self) -> str:
        """Return the unit in which bandwidths are shown."""
        return RADIANS if self.kilometres is None else KILOMETRES

    def radians(self, given: Any) -> Any:
        """Return the given bandwidths in radians."""
        if self.kilometres is None:
            return given
        return [length / EARTH_RADIUS_KM for length in self.kilometres]

    def in_given_unit(self, radians: npt.ArrayLike) -> FloatArray:
        """Return bandwidths in the user's unit; those that the user gave are unchanged.

        Examples
        --------
        >>> lengths = Angles.of(["500km", "20000km"])
        >>> lengths.in_given_unit(lengths.radians(None)).tolist()
        [500.0, 20000.0]
        """
        angles = np.asarray(radians, np.float64)
        if self.kilometres is None:
            return angles
        # Division and product do not undo each other to the last bit: hence a look-up.
        given = {length / EARTH_RADIUS_KM: length for length in self.kilometres}
        lengths = [given.get(h, h * EARTH_RADIUS_KM) for h in angles.ravel().tolist()]
        return np.array(lengths).reshape(angles.shape)

    def in_words(self, radians: float) -> str:
        """Return a bandwidth as text with its unit; an angle in kilometres as well."""
        if self.kilometres is not None:
            return f"{float(self.in_given_unit(radians)):g} km"
        return f"{radians:g} radians ({radians * EARTH_RADIUS_KM:g} km)"


def _mixed(length: str, other: str) -> str:
    return (
        f"bandwidths mix units: {length.strip()!r} is a length, and {other.strip()!r} has no unit "
        "(radians); give all in kilometres, or all in radians"
    )


def _lengths(text: str) -> list[str]:
    """Return lengths on the Earth as text; both ends of a grid have the unit."""
    name, *arguments = (part.strip() for part in text.split(":"))
    if name not in ("geomspace", "linspace"):
        lengths = [part.strip() for part in text.split(",") if part.strip()]
        if bare := [part for part in lengths if _is_number(part)]:
            raise InputError(_mixed(next(part for part in lengths if "km" in part), bare[0]))
        # Called for its errors only: the text is what is returned.
        check_bandwidths([in_radians(length) for length in lengths])
        return lengths
    if len(arguments) != 3 or not all(end.endswith("km") for end in arguments[:2]):
        raise InputError(f"bandwidths {text!r} cannot be read; write {name}:50km:500km:8")
    # A grid of lengths is a grid of plain numbers with the unit put back.
    ends = [end.removesuffix("km").strip() for end in arguments[:2]]
    return [f"{value}km" for value in _numbers(":".join([name, *ends, arguments[2]]))]


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def check_bandwidths(bandwidths: float | Sequence[float] | npt.ArrayLike) -> FloatArray:
    """Return bandwidths as a float64 array (n,), in the given order.

    Raises
    ------
    InputError
        When there is no bandwidth, or one is zero, negative, not finite, or repeated.
    """
    try:
        # A masked value becomes NaN, which is refused below; asarray would drop the mask.
        given = np.ma.filled(np.ma.asarray(bandwidths, np.float64), np.nan)
        values = np.atleast_1d(given)
    except (TypeError, ValueError, OverflowError):
        raise InputError(f"bandwidth {bandwidths!r} is not a number or a list of them") from None
    if values.ndim != 1 or values.size == 0:
        raise InputError(f"bandwidths must be at least one number in one dimension; {_SYNTAX}")
    if values.size > MAX_BANDWIDTHS:
        raise InputError(f"{values.size} bandwidths are too many; give {MAX_BANDWIDTHS} at most")
    for value in values:
        if not (np.isfinite(value) and value > 0):
            raise InputError(f"bandwidth {value:g} must be a positive, finite number")
        # The hot loop uses the inverse square, which must neither overflow nor vanish.
        if not 1e-150 < value < 1e150:
            raise InputError(f"bandwidth {value:g} is out of range; rescale the data")
    repeated = _first_repeated(values)
    if repeated is not None:
        raise InputError(f"bandwidth {repeated:g} is given twice; give each one once")
    return values


def _first_repeated(values: Iterable[float]) -> float | None:
    """Return the first value that occurred before; None if each occurs once."""
    seen: set[float] = set()
    for value in values:
        if value in seen:
            return value
        seen.add(value)
    return None
