"""The user's choice of variables, columns and dims for rows and features."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from dkde.errors import InputError
from dkde.rows.place_names import LATITUDE, LONGITUDE, PlaceName


@dataclass(frozen=True)
class FeatureChoice:
    """The user's choice of features; None where no option was given.

    Parameters
    ----------
    features : tuple of str, optional
        Names of the variables or columns, in this order.
    row_dim : tuple of str, optional
        The dims along which rows lie; dims beside them hold features.
    lat, lon : str, optional
        The features that are a latitude and a longitude, in degrees.
    implied : bool
        Whether nobody named the features, and they are the latitude and the longitude.
    """

    features: tuple[str, ...] | None = None
    row_dim: tuple[str, ...] | None = None
    lat: str | None = None
    lon: str | None = None
    implied: bool = False

    @classmethod
    def of(
        cls,
        features: Sequence[str] | None = None,
        row_dim: str | Sequence[str] | None = None,
        lat: str | None = None,
        lon: str | None = None,
    ) -> "FeatureChoice":
        """Check what a user said.

        Latitude and longitude alone are the features, where no others are named.

        Raises
        ------
        InputError
            When something is no name, or is there twice, or one of lat and lon is missing.

        Examples
        --------
        >>> FeatureChoice.of(lat="y", lon="x").features
        ('y', 'x')
        """
        if (lat is None) != (lon is None):
            missing = "lat" if lat is None else "lon"
            raise InputError(f"lat and lon go together; {missing} is missing")
        places = () if lat is None else _names("lat and lon", (lat, lon))
        chosen = None if features is None else _names("features", features)
        implied = chosen is None and bool(places)
        if implied:
            chosen = places
        absent = [name for name in places if name not in (chosen or ())]
        if absent:
            raise InputError(f"{absent[0]!r} is not among the features {', '.join(chosen or ())}")
        dims = None if row_dim is None else _names("row_dim", row_dim)
        if chosen is not None and lat is not None and lon is not None:
            roles = {lat: LATITUDE, lon: LONGITUDE}
            chosen = tuple(PlaceName(n, roles[n]) if n in roles else n for n in chosen)
        return cls(chosen, dims, lat, lon, implied)

    def updated(self, **said: Any) -> "FeatureChoice":
        """Return this choice, with what was said beside it in place of its own."""
        given = {name: value for name, value in said.items() if value is not None}
        if not given:
            return self
        own = self.given
        if self.implied:
            del own["features"]  # they follow what is a latitude and a longitude now
        return self.of(**{**own, **given})

    @property
    def places(self) -> tuple[str, ...]:
        """The names of the latitude and the longitude, where they were said."""
        return tuple(name for name in (self.lat, self.lon) if name is not None)

    @property
    def literal(self) -> "FeatureChoice":
        """Return this choice, with latitude and longitude found by exact name only."""
        chosen = tuple(PlaceName(n) if isinstance(n, PlaceName) else n for n in self.features or ())
        return replace(self, features=chosen or None)

    @property
    def given(self) -> dict[str, Any]:
        """The given options, by name, ready for JSON."""
        names = [field.name for field in fields(self) if field.name != "implied"]
        values = {name: getattr(self, name) for name in names}
        return {
            name: list(map(str, value)) if isinstance(value, tuple) else value
            for name, value in values.items()
            if value is not None
        }


def of_a_list(name: str, known: Sequence[str]) -> str:
    """Return the way out where a name may be that of one number of a column of lists.

    Examples
    --------
    >>> of_a_list("emb_0", ["id", "emb"]), of_a_list("x", ["id", "emb"])
    ('; if emb holds lists, name all of their numbers as emb', '')
    """
    column, _, number = name.rpartition("_")
    if column not in known or not number.isdecimal():
        return ""
    return f"; if {column} holds lists, name all of their numbers as {column}"


def _names(what: str, given: Any) -> tuple[str, ...]:
    is_listed = isinstance(given, Iterable) and not isinstance(given, bytes)
    names = (given,) if isinstance(given, str) or not is_listed else tuple(given)
    if not names or not all(isinstance(name, str) and name for name in names):
        kind = "dims" if what == "row_dim" else "variables"
        verb = "is" if what == "row_dim" else "are"
        raise InputError(f"{what} {verb} {given!r}; they are names of {kind}")
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise InputError(f"{what} name {twice!r} more than once")
    return names
