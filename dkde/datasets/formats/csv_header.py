"""The first lines of a CSV file: what separates columns, and what they are called."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dkde.datasets.formats.csv_text import BLOCK_BYTES, squeezed
from dkde.datasets.formats.files import open_binary
from dkde.errors import DataSetError, some, warn
from dkde.rows.feature_choice import NUMBER

_SEPARATORS = "\t;, "
_YEAR = re.compile(r"1[89]\d\d|20\d\d")
_LINE_END = re.compile(r"\r\n?|\n")
NO_UTF8 = "is no UTF-8; convert it (iconv -f latin1 -t utf-8, or what its encoding is)"


@dataclass(frozen=True)
class Layout:
    """The layout of a file, read from its first line."""

    path: Path
    separator: str
    named: bool
    names: tuple[str, ...]


def split_lines(*lines: str) -> list[list[str]]:
    """The cells of two lines, without regard to quotes."""
    separator = separator_of(lines)
    return [line.split() if separator == " " else line.split(separator) for line in lines]


def uncommented(first: str, second: str) -> str:
    """A first line without the mark of a comment, where it has as many names as there are columns.

    NumPy writes such a line.

    Examples
    --------
    >>> uncommented("# x y", "1.0 2.0"), uncommented("# by hand", "1.0 2.0 3.0")
    ('x y', '# by hand')
    """
    if not first.lstrip().startswith("#"):
        return first
    names = first.lstrip()[1:].lstrip(" \t")
    separator = None if (mark := separator_of([second])) == " " else mark
    return names if len(names.split(separator)) == len(second.split(separator)) else first


def separator_of(lines: Sequence[str]) -> str:
    """A comma, unless there is something in these lines that is rarer in names."""
    bare = [re.sub(r'"[^"]*"', "", line.strip(" \r\n")) for line in lines if line.strip()]
    return next((mark for mark in _SEPARATORS if all(mark in line for line in bare)), ",")


def bare(cell: str) -> str:
    """Return a cell without its quotes and the blanks around it."""
    return cell.strip().strip('"').strip()


def layout_of(path: Path) -> Layout:
    """Read what the first line of a file says.

    Raises
    ------
    DataSetError
        When it is empty, in another encoding, or its separator cannot be determined.
    """
    from pyarrow.csv import ConvertOptions

    with open_binary(path) as file:
        head = file.read(BLOCK_BYTES)
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise DataSetError(f"{path}: is UTF-16; convert it (iconv -f utf-16 -t utf-8)")
    text = head.decode("utf-8-sig", "surrogateescape")
    lines = _LINE_END.split(text, maxsplit=2)[:2]
    if not lines[0].strip():
        raise DataSetError(f"{path}: empty, or its first line is; a table has a line of names")
    first = uncommented(lines[0], lines[-1])
    text = first + text[len(lines[0]) :]
    separator = separator_of([first, *lines[1:]])
    if separator == " ":
        text = squeezed(text.encode("utf-8", "surrogateescape")).decode("utf-8", "surrogateescape")
    cells = [bare(cell) for cell in next(csv.reader(io.StringIO(text, ""), delimiter=separator))]
    if any("\udc80" <= letter <= "\udcff" for cell in cells for letter in cell):
        raise DataSetError(f"{path}: its first line {NO_UTF8}")
    missing = set(ConvertOptions().null_values)
    named = not all(NUMBER.fullmatch(cell) or cell in missing for cell in cells)
    if not named:
        _warn_of_positions(path, cells)
        return Layout(path, separator, named, tuple(f"f{i}" for i in range(len(cells))))
    _check_first_line(path, cells)
    for i, cell in enumerate(cells):
        if not cell:
            # As pandas calls it, and as a file has it that came through pandas before.
            name = f"Unnamed: {i}"
            while name in cells:
                name += ".1"
            cells[i] = name
    return Layout(path, separator, named, tuple(cells))


def _warn_of_positions(path: Path, cells: Sequence[str]) -> None:
    """Say so if a first row is what pandas calls columns that have no names."""
    counted = list(cells[1:] if cells[0] == "" else cells)
    line = f"{path}: its first line is {some(cells, 4)}"
    if len(cells) > 1 and counted == [str(i) for i in range(len(counted))]:
        warn(
            f"{line}, as pandas numbers columns without names, and is taken for a row; if it is "
            "none, write the file without it (header=False, index=False)"
        )
    elif len(counted) > 1 and all(map(_YEAR.fullmatch, counted)) and _are_consecutive(counted):
        warn(
            f"{line}, which may be years, and is taken for a row; if these are names, put a "
            "letter before each"
        )


def _are_consecutive(cells: Sequence[str]) -> bool:
    numbers = [int(cell) for cell in cells]
    return numbers == list(range(numbers[0], numbers[0] + len(numbers)))


def _check_first_line(path: Path, cells: Sequence[str]) -> None:
    """Refuse names that are numbers cut at decimal commas, and say so if some are numbers.

    Raises
    ------
    DataSetError
    """
    for cell in cells:
        if len(cell.split()) > 1 and all(map(NUMBER.fullmatch, cell.split())):
            raise DataSetError(
                f"{path}: its first line has {cell!r} between separators, so what separates "
                "columns cannot be told; write decimal points, and one mark between columns"
            )
    numbers = [cell for cell in cells if NUMBER.fullmatch(cell) and cell[-1] in "0123456789."]
    if numbers and numbers != [str(i) for i in range(len(numbers))]:
        warn(
            f"{path}: its first line, of which some are numbers ({some(numbers, 4)}), is taken "
            "for names; if it is a row, give the file a line of names"
        )
