"""Units of densities, written as UDUNITS reads them, and the attributes that name them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from dkde.numerics.kernels import Kernel
from dkde.rows.side import Part, Rows
from dkde.rows.sphere import as_stored
from dkde.runs.densities import DENSITY_UNITS

# Attributes of quantities that are logarithms: numbers without a unit, in nats.
NATS = {"units": "1", "comment": "in nats (natural logarithm)"}
BITS = {"units": "1", "comment": "in bits (logarithm to base 2)"}
ROWS = {"units": "1", "comment": "a number of rows"}

_FACTOR = re.compile(r"(?P<name>[^\W\d]+|[%°])(?:(?:\^|\*\*)?(?P<power>[+-]?\d+))?")
_SINCE = re.compile(r"\s+(since|after|from|ref|@)\s.*$", re.IGNORECASE)
# CF's units of latitudes and longitudes: all are degrees.
_DEGREES = re.compile(r"degrees?_?(north|east|true|n|e|t)", re.IGNORECASE)
# Names that are written otherwise in a product: the singular, and words for signs.
_WRITTEN = {
    "days": "day", "degrees": "degree", "hours": "hour", "seconds": "second", "metres": "metre",
    "meters": "meter", "kilometers": "kilometer", "kilometres": "kilometre", "%": "percent",
    "°": "degree",
}  # fmt: skip


def inverse_product(units: Sequence[str | None]) -> str | None:
    """Return the inverse of a product of units; None where one is not known or not simple.

    Parameters
    ----------
    units : sequence of str or None
        Products of powers, as CF has them: "km", "m s-1", "kg/m3", "days since 1970-01-01".

    Examples
    --------
    >>> inverse_product(["km", "km", "days since 1970-01-01"]), inverse_product(["m/s", "1"])
    ('km-2 day-1', 'm-1 s')
    >>> inverse_product(["km", None]), inverse_product(["1", "1"])
    (None, '1')
    """
    powers: dict[str, int] = {}
    for unit in units:
        factors = None if unit is None else _factors(unit)
        if factors is None:
            return None
        for name, power in factors:
            powers[name] = powers.get(name, 0) - power
    left = [name if p == 1 else f"{name}{p}" for name, p in powers.items() if p != 0]
    return " ".join(left) or "1"


def _factors(unit: str) -> list[tuple[str, int]] | None:
    """Return the names and powers that make up a unit; None where it is more than that."""
    text = _SINCE.sub("", unit.strip())
    if text in ("", "1"):
        return []
    if _DEGREES.fullmatch(text):
        return [("degree", 1)]
    found = []
    # What follows one slash is divided by, as UDUNITS reads it: factor by factor.
    for sign, factor in re.findall(r"([\s.·*/]*)([^\s.·*/]+)", text.replace("**", "^")):
        match = _FACTOR.fullmatch(factor)
        if match is None:
            return None
        name = match["name"]
        power = int(match["power"] or 1)
        found.append((_WRITTEN.get(name, name), -power if "/" in sign else power))
    return found


def density_units(train: Rows, kernel: Kernel, rank: int) -> str | None:
    """Return the unit of a density; None where the units of the features are not known.

    Parameters
    ----------
    train : Rows
        The training rows.
    kernel : Kernel
    rank : int
        The dimensions of the density.
    """
    if kernel.sphere and kernel.angle is None:
        return "sr-1"
    if kernel.angle is not None:
        stored, step = as_stored(train)
        units = _units(stored.parts[0])
        return inverse_product(["sr", *(units[i] for i in step.others)])
    if kernel.radii is None and rank != 1:  # no density in so many dimensions
        return None
    units = _units(train.parts[0])
    if rank == len(units):
        return inverse_product(units)
    # Axes of a subspace, or principal ones, mix features: they have a unit if all have the same.
    return inverse_product([units[0]] * rank) if len(set(units)) == 1 else None


def _units(part: Part) -> list[str | None]:
    """Return the unit of each column; None where it is not known."""
    units = list(part.units or [None] * part.source.shape[1])
    for i, name in enumerate(part.features or ()):
        units[i] = part.converted.get(name, units[i])
    return units


def log_density_notes(units: str | None) -> dict[str, Any]:
    """Return the attributes of log-densities.

    Parameters
    ----------
    units : str or None
        The unit of the density, as from :func:`density_units`.
    """
    of = (
        "a density per unit of volume of the features" if units is None else f"a density in {units}"
    )
    notes = {"units": "1", "long_name": "log-density", "comment": f"natural logarithm of {of}"}
    return notes if units is None else notes | {DENSITY_UNITS: units}


LOG_DENSITY_ERROR = {**NATS, "long_name": "bound on the error of the log-density"}
