"""The layout of a CSV file: separator, names and comments, by its first lines."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from dkde.errors import DataSetError, some, warn
from dkde.rows.csv_cells import unmarked
from dkde.rows.csv_text import squeezed
from dkde.rows.feature_choice import NUMBER
from dkde.stores.limits import check_unpacked
from dkde.stores.listed_files import Url

# Rarest first: a comma or a blank may also stand within a name.
_SEPARATORS = "\t;, "
# Half of what pyarrow takes for each column while it converts text, however short: tables of fifty
# thousand columns, as of genes, are read whatever is in them, in half a gigabyte.
_COLUMN_BYTES = 5 * 2**10
_YEAR = re.compile(r"1[89]\d\d|20\d\d")
# A comment in front of the rows.
_COMMENT = re.compile(r"[ \t]*#([^\r\n]*)(?:\r\n?|\n|$)")
_LINE = re.compile(r"[^\r\n]*(?:\r\n?|\n|$)")
_LINE_END = re.compile(r"\r\n?|\n")
NO_UTF8 = "is no UTF-8; convert it (iconv -f latin1 -t utf-8, with its own encoding for latin1)"


@dataclass(frozen=True)
class Layout:
    """The layout of a file, read from its first line.

    Parameters
    ----------
    separator : str
        One character; a blank stands for one or more.
    named : bool
        Whether the first line holds names; otherwise it is a row.
    names : tuple of str
        The names of the columns, f0, f1, ... if there are none.
    has_comments : bool
        Whether the file begins with lines of comments, which begin with ``#``; the names may stand
        in the last of them. Then all such lines are left out.
    decimal : str
        The decimal mark of its numbers.
    named_in_comment : bool
        Whether the names stand in a comment.
    is_gzipped : bool
        Whether the file is gzipped.
    """

    separator: str
    named: bool
    names: tuple[str, ...]
    has_comments: bool = False
    decimal: str = "."
    named_in_comment: bool = False
    is_gzipped: bool = False

    @property
    def n_header_lines(self) -> int:
        """Return the number of lines of names before the first row, comments not counted."""
        return int(self.named and not self.named_in_comment)


def split_lines(*lines: str) -> list[list[str]]:
    """Return the cells of each line, split at their common separator without regard to quotes."""
    separator = separator_of(lines)
    return [line.split() if separator == " " else line.split(separator) for line in lines]


def parted(text: str) -> tuple[list[str], str]:
    """Return the comments at the beginning of a text, without their ``#``, and the rest.

    numpy.savetxt writes its header so. A text of comments alone has none: its lines may be rows.

    Examples
    --------
    >>> parted("# by hand\\n# x y\\n1.0 2.0\\n")
    (['by hand', 'x y'], '1.0 2.0\\n')
    """
    comments, start = [], 0
    while found := _COMMENT.match(text, start):
        comments.append(found[1].strip())
        start = found.end()
    return (comments, text[start:]) if text[start:].strip() else ([], text)


def names_in(comments: Sequence[str], lines: Sequence[str], decimal: str) -> str | None:
    """Return the line of names that is the last of the comments; None if it is none.

    It has as many names as the first line has cells, and that line is not one of names itself.

    Examples
    --------
    >>> names_in(["x y"], ["1.0 2.0"], "."), names_in(["by hand"], ["x y", "1.0 2.0"], ".")
    ('x y', None)
    """
    if not comments:
        return None
    first, second = lines[0], lines[-1]
    separator = None if (mark := separator_of([first], decimal)) == " " else mark
    if len(comments[-1].split(separator)) != len(first.split(separator)):
        return None
    has_number = [
        any(NUMBER.fullmatch(pointed(bare(cell), decimal)) for cell in line.split(separator))
        for line in (first, second)
    ]
    return None if has_number == [False, True] else comments[-1]


def pointed(cell: str, decimal: str) -> str:
    """Return a cell with a point for the decimal mark."""
    return cell if decimal == "." else cell.replace(decimal, ".")


def separator_of(lines: Sequence[str], decimal: str = ".") -> str:
    """Return the separator of lines: the first of tab, semicolon, comma and blank in all of them.

    Without any of these it is a comma, or a semicolon beside decimal commas: there is one column.
    """
    # Text between quotes may hold any separator.
    bare = [re.sub(r'"[^"]*"', "", line.strip(" \r\n")) for line in lines if line.strip()]
    marks = _SEPARATORS.replace(decimal, "")
    rest = ";" if decimal == "," else ","
    return next((mark for mark in marks if all(mark in line for line in bare)), rest)


def bare(cell: str) -> str:
    """Return a cell without its quotes and the blanks around it."""
    return cell.strip().strip('"').strip()


def layout_of(path: Path | Url, head: bytes, decimal: str = ".", n_stored: int = 0) -> Layout:
    """Return the layout of a file by its first lines.

    Parameters
    ----------
    path : pathlib.Path or Url
        The path of the file, for messages.
    head : bytes
        The first block of its content.
    decimal : str
        The decimal mark of its numbers.
    n_stored : int
        The bytes of the file as it is stored, which limit how many columns it may have.

    Raises
    ------
    DataSetError
        When it has more columns than can be read in memory of a size that fits its own, or
        when the file is empty, in another encoding, or its separator cannot be determined.
    """
    from pyarrow.csv import ConvertOptions

    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise DataSetError(f"{path}: is UTF-16; convert it (iconv -f utf-16 -t utf-8)")
    # The block may end within a character, and other columns may be in another encoding: bytes
    # that are no UTF-8 become surrogates, and are refused below if a name has them.
    text = head.decode("utf-8-sig", "surrogateescape")
    comments, text = parted(text)
    lines = [line for line in _LINE_END.split(text, maxsplit=2)[:2] if line.strip()]
    if not text.strip() or not _LINE_END.split(text, maxsplit=1)[0].strip():
        raise DataSetError(f"{path}: it is empty, or its first line is; write a line of names")
    noted = names_in(comments, lines, decimal)
    if noted is not None:
        lines, text = [noted, lines[0]], f"{noted}\n{text}"
    separator = separator_of(lines, decimal)
    if separator == " ":
        text = squeezed(text.encode("utf-8", "surrogateescape")).decode("utf-8", "surrogateescape")
    # csv.reader joins a name that has a line end within its quotes.
    lines_of_text = (found[0] for found in _LINE.finditer(text))
    cells = next(csv.reader(lines_of_text, delimiter=separator))
    # A few kilobytes hold thousands of empty cells.
    n_columns = len(cells)
    check_unpacked(str(path), f"its {n_columns} columns", n_columns * _COLUMN_BYTES, n_stored)
    cells = [bare(cell) for cell in cells]
    if any("\udc80" <= letter <= "\udcff" for cell in cells for letter in cell):
        raise DataSetError(f"{path}: its first line {NO_UTF8}")
    # A first line of numbers and missing values only is a row. Missing values are pyarrow's.
    missing = set(ConvertOptions().null_values)
    named = noted is not None or not all(
        NUMBER.fullmatch(pointed(cell, decimal)) or cell in missing for cell in cells
    )
    layout = Layout(separator, named, (), bool(comments), decimal, noted is not None)
    if not named:
        _warn_of_positions(path, cells)
        return replace(layout, names=tuple(f"f{i}" for i in range(len(cells))))
    _check_first_line(path, cells)
    cells = list(map(unmarked, cells))
    for i, cell in enumerate(cells):
        if not cell:
            # The name that pandas gives to such a column, so that both name it alike.
            name = f"Unnamed: {i}"
            while name in cells:
                name += ".1"
            cells[i] = name
    return replace(layout, names=tuple(cells))


def _warn_of_positions(path: Path | Url, cells: Sequence[str]) -> None:
    """Warn if a first row may be a line of names: pandas' column numbers, or years."""
    # pandas' row numbers have an empty name in front.
    counted = list(cells[1:] if cells[0] == "" else cells)
    line = f"{path}: its first line is {some(cells, 4)}"
    if len(cells) > 1 and counted == [str(i) for i in range(len(counted))]:
        warn(
            f"{line}, as pandas numbers columns without names, and is read as a row; if it is "
            "none, write the file without it (header=False, index=False)"
        )
    elif len(counted) > 1 and all(map(_YEAR.fullmatch, counted)) and _are_consecutive(counted):
        warn(
            f"{line}, which may be years, and is read as a row; if these are names, put a letter "
            "before each"
        )


def _are_consecutive(cells: Sequence[str]) -> bool:
    numbers = [int(cell) for cell in cells]
    return numbers == list(range(numbers[0], numbers[0] + len(numbers)))


def _check_first_line(path: Path | Url, cells: Sequence[str]) -> None:
    """Refuse names that are numbers cut at decimal commas, and warn if some names are numbers.

    Raises
    ------
    DataSetError
    """
    # "1,5 2,5" cut at its commas has the cell "5 2": two numbers with a blank between them.
    for cell in cells:
        if len(cell.split()) > 1 and all(map(NUMBER.fullmatch, cell.split())):
            raise DataSetError(
                f"{path}: its first line has {cell!r} between two separators, so it is not clear "
                "what separates columns; write decimal points, and one mark between columns"
            )
    numbers = [cell for cell in cells if NUMBER.fullmatch(cell) and cell[-1] in "0123456789."]
    if numbers and numbers != [str(i) for i in range(len(numbers))]:
        warn(
            f"{path}: its first line, in which some cells are numbers ({some(numbers, 4)}), is "
            "read as names; if it is a row, give the file a line of names"
        )
