"""The search for a latitude and a longitude among columns, by their names and units."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from dkde.errors import InputError

LATITUDE, LONGITUDE = "latitude", "longitude"
HOW_TO_NAME = "say which with lat and lon (--lat COLUMN --lon COLUMN)"

# The spellings in sections 4.1 and 4.2 of the CF conventions, in lower case.
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
# Names that join these words to another without a break: XLAT, geolon, gpslat, latdeg. Any other
# prefix could make another word of them, as in flat or along.
_JOINED = re.compile(
    r"(?:geo|gps|x|t|u)?(lat|latitude|lon|long|lng|longitude)(?:deg|dd)?", re.IGNORECASE
)
# A name with one of these words is not that of a place in degrees: lat_error, lon_rad, lat_bnds.
_OTHERWISE = _RADIANS | {
    "err", "error", "std", "sd", "se", "sigma", "unc", "uncertainty", "accuracy", "precision",
    "var", "variance", "bnds", "bounds", "delta", "diff", "speed", "velocity",
}  # fmt: skip
# Letters alone: digits, underscores and all other marks separate words.
_RUN = re.compile(r"[^\W\d_]+")
# The words of a name in camel case: decimalLatitude.
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[^\WA-Z]+")


class PlaceName(str):
    """A name that a user gave to a latitude or a longitude.

    The other side, or another source, may have another name for the same thing.

    Parameters
    ----------
    name : str
        The name.
    role : {"latitude", "longitude"}
    """

    role: str | None

    def __new__(cls, name: str, role: str | None = None) -> "PlaceName":
        """Make the name; it equals any other text with the same letters."""
        made = super().__new__(cls, name)
        made.role = role
        return made


def role_of_name(name: str) -> tuple[str, tuple[str, ...]] | None:
    """Return the role that a column's name says, and the name's other words.

    Returns
    -------
    The role, and the other words of more than one letter in lower case; None where the name says
    neither role, or both.

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
        # Of a joined word the part in brackets counts: "lat" of "geolat".
        plain = word if joined is None else joined[1]
        known = [role for role in _WORDS if plain in _WORDS[role]]
        roles.update(known)
        if not known and len(word) > 1:
            rest.append(word)
    return (roles.pop(), tuple(rest)) if len(roles) == 1 else None


def role_of(name: str, unit: str | None) -> str | None:
    """Return the role of a column: by its unit, or by its name if it is in degrees or has no unit.

    Returns
    -------
    "latitude", "longitude" or None
    """
    spelt = (unit or "").strip().lower()
    for role, spellings in _UNITS.items():
        if spelt in spellings:
            return role
    # A column in metres or radians is no place in degrees, whatever its name is.
    named = role_of_name(name) if spelt in _DEGREES else None
    return None if named is None else named[0]


def role_asked(name: str) -> str | None:
    """Return the role that a user means by a name: the one given with it, or that in the name."""
    return name.role if isinstance(name, PlaceName) else role_of(name, None)


def is_one_unit(name: str, unit: str | None, other: str | None) -> bool:
    """Return whether two units of a column may be one: any is, where one is not known.

    The spellings of degrees north, or east, are one unit, and so are plain degrees of a latitude.

    Examples
    --------
    >>> is_one_unit("x", "m", "km"), is_one_unit("lat", "degrees", "degrees_north")
    (False, True)
    """
    if not (unit and other) or unit.strip() == other.strip():
        return True
    role = role_of(name, unit)
    return role is not None and role == role_of(name, other)


def is_radians(unit: str | None) -> bool:
    """Return whether a unit is an angle in radians."""
    return (unit or "").strip().lower() in _RADIANS


def unit_of(attributes: Mapping[Any, Any]) -> str | None:
    """Return the unit of a variable; ``standard_name`` can say that degrees are north or east."""
    unit = attributes.get("units")
    unit = unit if isinstance(unit, str) else None
    role = attributes.get("standard_name")
    if isinstance(role, str) and role in _CF_UNITS and (unit or "").strip().lower() in _DEGREES:
        return _CF_UNITS[role]
    return unit


def in_degrees(what: str, name: str, unit: str | None, role: str) -> str:
    """Return the unit of degrees for a column that a user named as a latitude or longitude.

    Parameters
    ----------
    what : str
        The owner of the column, for messages.
    name : str
        The name of the column.
    unit : str or None
        The unit that the data say.
    role : {"latitude", "longitude"}
        The role that the user gave.

    Raises
    ------
    InputError
        When the data say that the column is in another unit.
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

    If units do not say so, the two names may differ in that one word only: start_lat and start_lng
    belong together, lat_ms and how_long do not.
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
    # One unit that is sure is enough: then the other column may go by its name alone.
    both = {LATITUDE, LONGITUDE}
    if by_unit:
        return both <= by_unit | {role for role, _ in by_name}
    rests = {rest for _, rest in by_name}
    return any({role for role, words in by_name if words == rest} == both for rest in rests)


def as_called(
    wanted: Sequence[str], names: Sequence[str], units: Sequence[str | None] | None, what: str
) -> tuple[str, ...]:
    """Return the names that wanted columns have in this source.

    A name that exists is returned as it is. For a latitude or longitude that does not exist, the
    name of the source's only latitude or longitude is returned. Other names are not changed.

    Parameters
    ----------
    wanted : sequence of str
        Names as the user, or the other side, gives them.
    names, units : sequences
        The names and units of all columns of the source.
    what : str
        The owner of the columns, for messages.

    Raises
    ------
    InputError
        When several columns could be meant.

    Examples
    --------
    >>> as_called(["lat", "lon", "depth"], ["depth", "Longitude", "Latitude"], None, "train")
    ('Latitude', 'Longitude', 'depth')
    """
    roles = [role_asked(name) for name in wanted]
    called = list(map(str, wanted))
    there = set(names)
    for i, role in enumerate(roles):
        # Two wanted latitudes (start and end) are not distinguished by their role alone.
        if role is None or called[i] in there or roles.count(role) > 1:
            continue
        columns = zip(names, units or [None] * len(names), strict=True)
        found = [name for name, unit in columns if role_of(name, unit) == role]
        found = [name for name in found if name not in called]
        if len(found) > 1:
            raise InputError(
                f"{what}: has no column {called[i]!r}, and each of {', '.join(found[:8])} could be "
                f"that {role}; {HOW_TO_NAME}"
            )
        called[i] = found[0] if found else called[i]
    return tuple(called)
