"""The kind of text in cells (numbers, times or other), and its name in messages."""

import re
from collections.abc import Sequence

NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|[+-]?(nan|inf|infinity)", re.IGNORECASE)
# Dates and times of ISO 8601, as far as Arrow reads them.
TIME = re.compile(r"\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d(\.\d{1,9})?)?)?")
# Number of cells that decide the kind of a text column.
LOOKED_AT = 1000


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
