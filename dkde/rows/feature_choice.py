"""The user's choice of features, and one-line messages about the columns taken and left out.

The choice names variables or columns, the dims of rows, and the latitude and longitude.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from dkde.errors import InputError, some, warn
from dkde.rows.place_names import LATITUDE, LONGITUDE, PlaceName
from dkde.rows.row_filter import RowFilter
from dkde.rows.side import Part

NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|[+-]?(nan|inf|infinity)", re.IGNORECASE)
# Dates and times of ISO 8601, in the forms that Arrow reads.
TIME = re.compile(r"\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d(\.\d{1,9})?)?)?")
# The number of cells that decide the kind of a text column: all cells would take long.
LOOKED_AT = 1000
# The largest number of names that one line of a message holds.
_MOST = 6
_NAMING = "name the features to take others (--features, or features=)"
# The reason why a column of numbers in the query is no feature.
NO_SUCH = "train has no such feature"


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
        True if the user named only the latitude and the longitude, and these two are the features.
    where : str, optional
        The condition that rows meet; others are left out.
    own : bool
        True if the features were named for one side alone, and others may call them otherwise.
    """

    features: tuple[str, ...] | None = None
    row_dim: tuple[str, ...] | None = None
    lat: str | None = None
    lon: str | None = None
    implied: bool = False
    where: str | None = None
    own: bool = False

    @classmethod
    def of(
        cls,
        features: Sequence[str] | None = None,
        row_dim: str | Sequence[str] | None = None,
        lat: str | None = None,
        lon: str | None = None,
        where: str | None = None,
    ) -> "FeatureChoice":
        """Return the checked choice of a user.

        If the user names no features, the latitude and the longitude are the features.

        Raises
        ------
        InputError
            When a value is no name, a name occurs twice, or only one of lat and lon is given.

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
        # A PlaceName equals its text, and adds that another source may name the column otherwise.
        if chosen is not None and lat is not None and lon is not None:
            roles = {lat: LATITUDE, lon: LONGITUDE}
            chosen = tuple(PlaceName(n, roles[n]) if n in roles else n for n in chosen)
        if where is not None:
            RowFilter.parsed(where)  # refuses anything but a filter
        return cls(chosen, dims, lat, lon, implied, where)

    @property
    def places(self) -> tuple[str, ...]:
        """Return the names of the latitude and the longitude, if the user gave them."""
        return tuple(name for name in (self.lat, self.lon) if name is not None)

    @property
    def literal(self) -> "FeatureChoice":
        """Return this choice with latitude and longitude matched by their exact names only."""
        chosen = tuple(PlaceName(n) if isinstance(n, PlaceName) else n for n in self.features or ())
        return replace(self, features=chosen or None)

    @property
    def given(self) -> dict[str, Any]:
        """Return the given options, by name, ready for JSON."""
        names = [field.name for field in fields(self) if field.name not in ("implied", "own")]
        values = {name: getattr(self, name) for name in names}
        return {
            name: list(map(str, value)) if isinstance(value, tuple) else value
            for name, value in values.items()
            if value is not None
        }


def _names(what: str, given: Any) -> tuple[str, ...]:
    """Return one name or several as a tuple; refuse anything else, and names that repeat."""
    is_listed = isinstance(given, Iterable) and not isinstance(given, bytes)
    names = (given,) if isinstance(given, str) or not is_listed else tuple(given)
    if not names or not all(isinstance(name, str) and name for name in names):
        kind = "dims" if what == "row_dim" else "variables"
        verb = "is" if what == "row_dim" else "are"
        raise InputError(
            f"{what} {verb} {given!r}, but they are names of {kind}; give one, or a list"
        )
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise InputError(f"{what} name {twice!r} more than once")
    return names


def of_a_list(name: str, known: Sequence[str]) -> str:
    """Return advice for a message where a name may mean one number of a column of lists.

    Examples
    --------
    >>> of_a_list("emb_0", ["id", "emb"]), of_a_list("x", ["id", "emb"])
    ('; if emb holds lists, name all of their numbers as emb', '')
    """
    column, _, number = name.rpartition("_")
    if column not in known or not number.isdecimal():
        return ""
    return f"; if {column} holds lists, name all of their numbers as {column}"


def left_out_line(
    name: str, features: Sequence[str] | None, left_out: Mapping[str, str], way: str
) -> str:
    """Return the line that says which columns are features, and which are not and why.

    Parameters
    ----------
    name : str
        The name of the source.
    features : sequence of str, optional
        The names of the features, if they have names.
    left_out : mapping of str to str
        The columns left out, and why each is no feature.
    way : str
        The advice for users who want other features.

    Examples
    --------
    >>> left_out_line("t.csv", ["x"], {"y": "text"}, "name others")
    't.csv: the features are x; left out: y (text); name others'
    """
    taken = "" if features is None else f"the features are {some(features, _MOST)}; "
    rest = some([f"{column} ({why})" for column, why in left_out.items()], _MOST)
    return f"{name}: {taken}left out: {rest}; {way}"


def why_text(cells: Sequence[tuple[int, str]]) -> str:
    """Return the reason why a text column is no feature, with an example cell.

    Parameters
    ----------
    cells : sequence of (row, text)
        The first cells that are not empty.

    Examples
    --------
    >>> why_text([(0, "-"), (1, "3.5")]), why_text([(0, "red"), (1, "blue")])
    ("text, for instance '-' in row 0", 'text')
    """
    bad = next(((row, text) for row, text in cells if not NUMBER.fullmatch(text)), None)
    if bad is None:
        return "text, though of numbers" if cells else "text"
    row, text = bad
    # An example helps if the column is nearly one of numbers. In a column of words it does not.
    example = f"for instance {text[:40]!r} in row {row}"
    if re.fullmatch(r"[+-]?\d+,\d+", text):
        return (
            f"text, {example}; if it has a decimal comma, write a point, or read the file with "
            "--decimal , (source=dkde.Catalog(path, decimal=','))"
        )
    has_numbers = any(NUMBER.fullmatch(each) for _, each in cells) or re.match(r"\W*\d", text)
    return f"text, {example}" if has_numbers else "text"


def only_weights(name: str, columns: Sequence[str]) -> InputError:
    """Return the error for rows whose only columns are weights."""
    are = "are" if len(columns) > 1 else "is"
    return InputError(
        f"{name}: {some(columns)} {are} named as weights, and there is no other feature; name the "
        "features as well (--features, or features=)"
    )


def warn_of_columns(part: Part, said: set[str]) -> None:
    """Warn of dims that were guessed, columns left out, and values converted to numbers.

    Parameters
    ----------
    part : Part
        The rows to warn about.
    said : set of str
        The notes and names that this call has warned of already; new ones are added. Several
        sides and functions share the set, so that one call warns of each once.
    """
    for note in part.notes:
        if note not in said:
            said.add(note)
            warn(f"{part.name}: {note}")
    new = {name: why for name, why in part.left_out.items() if name not in said}
    if new:
        said.update(new)
        warn(left_out_line(part.name, part.features, new, _NAMING))
    warn_of_conversions(part.name, part.converted, said)


def warn_of_conversions(name: str, converted: Mapping[str, str], said: set[str]) -> None:
    """Warn of columns whose values are converted to numbers, such as timestamps."""
    made = [f"{column} is taken as {what}" for column, what in converted.items()]
    new = [line for line in made if line not in said]
    if new:
        said.update(new)
        warn(f"{name}: {some(new, _MOST)}")
