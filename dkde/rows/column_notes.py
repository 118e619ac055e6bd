"""One-line messages about the columns used as features and those left out, and why of text."""

import re
from collections.abc import Mapping, Sequence

from dkde.errors import InputError, some, warn
from dkde.rows.side import Part

NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|[+-]?(nan|inf|infinity)", re.IGNORECASE)
# Dates and times of ISO 8601, as far as Arrow reads them.
TIME = re.compile(r"\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d(\.\d{1,9})?)?)?")
# Number of cells that decide the kind of a text column.
LOOKED_AT = 1000
# Names and reasons that a line has room for.
_MOST = 6
_NAMING = "name the features to take others (--features, or features=)"
# Why a column of numbers is no feature of rows that are scored.
NO_SUCH = "train has no such feature"


def left_out_line(
    name: str, features: Sequence[str] | None, left_out: Mapping[str, str], way: str
) -> str:
    """Return the line that says which columns are features, and which are not and why.

    Parameters
    ----------
    name : str
        Of the source.
    features : sequence of str, optional
        Their names, where they have some.
    left_out : mapping of str to str
        Names, and why each is no feature.
    way : str
        What the user does to take others.

    Examples
    --------
    >>> left_out_line("t.csv", ["x"], {"y": "text"}, "name others")
    't.csv: the features are x; left out: y (text); name others'
    """
    taken = "" if features is None else f"the features are {some(features, _MOST)}; "
    rest = some([f"{column} ({why})" for column, why in left_out.items()], _MOST)
    return f"{name}: {taken}left out: {rest}; {way}"


def why_text(cells: Sequence[tuple[int, str]]) -> str:
    """Return why a column of text is no feature, with a cell that shows it.

    Parameters
    ----------
    cells : sequence of (row, text)
        The first ones that are not empty.

    Examples
    --------
    >>> why_text([(0, "-"), (1, "3.5")]), why_text([(0, "red"), (1, "blue")])
    ("text, for instance '-' in row 0", 'text')
    """
    bad = next(((row, text) for row, text in cells if not NUMBER.fullmatch(text)), None)
    if bad is None:
        return "text, though of numbers" if cells else "text"
    row, text = bad
    example = f"for instance {text[:40]!r} in row {row}"
    if re.fullmatch(r"[+-]?\d+,\d+", text):
        return f"text, {example}; if it has a decimal comma, write a point"
    has_numbers = any(NUMBER.fullmatch(each) for _, each in cells) or re.match(r"\W*\d", text)
    return f"text, {example}" if has_numbers else "text"


def only_weights(name: str, columns: Sequence[str]) -> InputError:
    """Return the error that refuses rows which have columns for weights and no others."""
    are = "are" if len(columns) > 1 else "is"
    return InputError(
        f"{name}: {some(columns)} {are} named as weights, and there is no other feature; name the "
        "features as well (--features, or features=)"
    )


def tell_of_columns(part: Part, said: set[str]) -> None:
    """Warn of dims that were guessed, columns left out, and values that were made numbers.

    Parameters
    ----------
    said : set of str
        What was said already in this call; what is said now is added.
    """
    for note in part.notes:
        if note not in said:
            said.add(note)
            warn(f"{part.name}: {note}")
    new = {name: why for name, why in part.left_out.items() if name not in said}
    if new:
        said.update(new)
        warn(left_out_line(part.name, part.features, new, _NAMING))
    tell_of_conversions(part.name, part.converted, said)


def tell_of_conversions(name: str, converted: Mapping[str, str], said: set[str]) -> None:
    """Warn of values that were made numbers, as timestamps are."""
    made = [f"{column} is taken as {what}" for column, what in converted.items()]
    new = [line for line in made if line not in said]
    if new:
        said.update(new)
        warn(f"{name}: {some(new, _MOST)}")
