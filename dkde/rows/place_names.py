"""The columns that are a latitude and a longitude, found by names and units."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from dkde.errors import InputError

LATITUDE, LONGITUDE = "latitude", "longitude"
SAY = "say which with lat and lon (--lat COLUMN --lon COLUMN)"

# As the CF conventions spell them, sections 4.1 and 4.2, in lower case.
_UNITS = {
    LATITUDE: {f"degree{s}north" for s in ("_", "s_")}
    | {f"degree{s}n" for s in ("_", "s_", "", "s")},
    LONGITUDE: {f"degree{s}east" for s in ("_", "s_")}
    | {f"degree{s}e" for s in ("_", "s_", "", "s")},
}
_CF_UNITS = {LATITUDE: "degrees_north", LONGITUDE: "degrees_east"}
_DEGREES = {"degree", "degrees", "deg", "°", ""}
_RADIANS = {"radian", "radians", "rad"}
_WORDS = {
    LATITUDE: {"lat", "lats", "latitude", "latitudes"},
    LONGITUDE: {"lon", "lons", "long", "lng", "longitude", "longitudes"},
}
# What is written without a break before and after these words: XLAT, geolon, gpslat, latdeg.
_JOINED = re.compile(
    r"(?:geo|gps|x|t|u)?(lat|latitude|lon|long|lng|longitude)(?:deg|dd)?", re.IGNORECASE
)
# Beside these words a name is not that of a place in degrees.
_OTHERWISE = _RADIANS | {
    "err", "error", "std", "sd", "se", "sigma", "unc", "uncertainty", "accuracy", "precision",
    "var", "variance", "bnds", "bounds", "delta", "diff", "speed", "velocity",
}  # fmt: skip
_RUN = re.compile(r"[^\W\d_]+")
# Parts of camel case: decimalLatitude.
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[^\WA-Z]+")


class PlaceName(str):
    """A name that a user gave to a latitude or a longitude.

    The other side, or another source, may call the same thing otherwise.

    Parameters
    ----------
    name : str
    role : {"latitude", "longitude"}
    """

    role: str | None

    def __new__(cls, name: str, role: str | None = None) -> "PlaceName":
        """Make the text, which compares as any other."""
        made = super().__new__(cls, name)
        made.role = role
        return made


def role_of_name(name: str) -> tuple[str, tuple[str, ...]] | None:
    """Return what a name says that a column is, and the name's other words.

    Returns
    -------
    The role and the words, in lower case, of more than one letter; None where it says neither, or
    both.

    Examples
    --------
    >>> role_of_name("decimalLatitude"), role_of_name("location-long")
    (('latitude', ('decimal',)), ('longitude', ('location',)))
    >>> [role_of_name(name) for name in ("flat", "along", "platform", "lat_rad", "lat_lon")]
    [None, None, None, None, None]
    """
    words = [word.lower() for run in _RUN.findall(name) for word in _WORD.findall(run)]
    if _OTHERWISE.intersection(words):
        return None
    roles, rest = set(), []
    for word in words:
        joined = _JOINED.fullmatch(word)
        plain = word if joined is None else joined[1]
        known = [role for role in _WORDS if plain in _WORDS[role]]
        roles.update(known)
        if not known and len(word) > 1:
            rest.append(word)
    return (roles.pop(), tuple(rest)) if len(roles) == 1 else None


def role_of(name: str, unit: str | None) -> str | None:
    """Return what a column is by its unit, or by its name where the unit is degrees or none.

    Returns
    -------
    "latitude", "longitude" or None
    """
    spelt = (unit or "").strip().lower()
    for role, spellings in _UNITS.items():
        if spelt in spellings:
            return role
    named = role_of_name(name) if spelt in _DEGREES else None
    return None if named is None else named[0]


def role_asked(name: str) -> str | None:
    """Return what a user means by the name of a feature: what was said, else what the name says."""
    return name.role if isinstance(name, PlaceName) else role_of(name, None)


def same_unit(unit: str) -> str:
    """Return a unit in CF's spelling: degrees north and east each have many spellings."""
    spelt = unit.strip().lower()
    return next((what for what, spellings in _UNITS.items() if spelt in spellings), unit.strip())


def is_radians(unit: str | None) -> bool:
    """Return whether a unit is an angle in radians."""
    return (unit or "").strip().lower() in _RADIANS


def unit_of(attributes: Mapping[Any, Any]) -> str | None:
    """Return the unit of a variable, which its ``standard_name`` may make that of a place."""
    unit = attributes.get("units")
    unit = unit if isinstance(unit, str) else None
    role = attributes.get("standard_name")
    if isinstance(role, str) and role in _CF_UNITS and (unit or "").strip().lower() in _DEGREES:
        return _CF_UNITS[role]
    return unit


def in_degrees(what: str, name: str, unit: str | None, role: str) -> str:
    """Return the unit of a column of which a user says that it is a latitude, or a longitude.

    Parameters
    ----------
    what : str
        Whose column it is, for messages.

    Raises
    ------
    InputError
        When the data say otherwise.
    """
    spelt = (unit or "").strip().lower()
    if spelt in _DEGREES or spelt in _UNITS[role]:
        return _CF_UNITS[role]
    remedy = "; convert it (numpy.rad2deg)" if spelt in _RADIANS else ""
    raise InputError(
        f"{what}: {name} is in {unit}, and was named as a {role} in degrees{remedy}"
    )  # fmt: skip


def have_places(names: Sequence[str], units: Sequence[str | None]) -> bool:
    """Return whether columns include a latitude and longitude that belong together.

    Names alone have to be alike but for the word: start_lat and start_lng, not lat_ms and how_long.
    """
    by_unit, by_name = set(), set()
    for name, unit in zip(names, units, strict=True):
        role = role_of(name, unit)
        if role is None:
            continue
        if role_of("", unit):  # by the unit alone
            by_unit.add(role)
        else:
            by_name.add(role_of_name(name) or (role, ()))
    both = {LATITUDE, LONGITUDE}
    if by_unit:
        return both <= by_unit | {role for role, _ in by_name}
    rests = {rest for _, rest in by_name}
    return any({role for role, words in by_name if words == rest} == both for rest in rests)


def as_called(
    wanted: Sequence[str], names: Sequence[str], units: Sequence[str | None] | None, what: str
) -> tuple[str, ...]:
    """Return the names that some columns have here.

    Names that are there are themselves. A latitude or a longitude that is not there is the only
    column of the kind.

    Parameters
    ----------
    wanted : sequence of str
        Names as the user, or the other side, has them.
    names, units : sequences
        Of all columns that there are.
    what : str
        Whose columns they are, for messages.

    Raises
    ------
    InputError
        When several columns may be meant.

    Examples
    --------
    >>> as_called(["lat", "lon", "depth"], ["depth", "Longitude", "Latitude"], None, "train")
    ('Latitude', 'Longitude', 'depth')
    """
    roles = [role_asked(name) for name in wanted]
    called = list(map(str, wanted))
    there = set(names)
    for i, role in enumerate(roles):
        if role is None or called[i] in there or roles.count(role) > 1:
            continue
        columns = zip(names, units or [None] * len(names), strict=True)
        found = [name for name, unit in columns if role_of(name, unit) == role]
        found = [name for name in found if name not in called]
        if len(found) > 1:
            raise InputError(
                f"{what}: has no column {called[i]!r}, and which of {', '.join(found[:8])} is that "
                f"{role} cannot be told; {SAY}"
            )
        called[i] = found[0] if found else called[i]
    return tuple(called)
