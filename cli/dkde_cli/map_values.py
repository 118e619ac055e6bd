"""Parsers of the values of ``dkde map``: its cells, its box and its levels."""

from typing import Any

from dkde_cli.values import parse_scales


def parse_cell(text: str | None) -> Any:
    """Return the widths of cells: a number, numbers in order, or by name.

    Raises
    ------
    InputError

    Examples
    --------
    >>> parse_cell("0.25"), parse_cell("1,2"), parse_cell("x=1,y=2")
    (0.25, [1.0, 2.0], {'x': 1.0, 'y': 2.0})
    """
    if text is None:
        return None
    if "=" in text:
        return parse_scales(text, "--cell")
    found = _numbers(text, ",", float, "--cell", "0.25, or lon=0.5,lat=0.25")
    return found[0] if len(found) == 1 else found


def parse_cells(text: str | None) -> Any:
    """Return numbers of cells.

    Raises
    ------
    InputError

    Examples
    --------
    >>> parse_cells("1280x960"), parse_cells("100")
    ([1280, 960], 100)
    """
    if text is None:
        return None
    found = _numbers(text.lower(), "x", int, "--cells", "1280x960")
    return found[0] if len(found) == 1 else found


def parse_levels(text: str | None) -> list[float] | None:
    """Return levels in percent.

    Raises
    ------
    InputError

    Examples
    --------
    >>> parse_levels("50,95%")
    [50.0, 95.0]
    """
    if text is None:
        return None
    return _numbers(text.replace("%", ""), ",", float, "--levels", "50,95")


def parse_box(text: str | None) -> dict[str, Any] | None:
    """Return the ends of a box by feature; times stay text.

    Raises
    ------
    InputError

    Examples
    --------
    >>> parse_box("lon=-10:5,day=2020-01-01:2020-02-01")
    {'lon': (-10.0, 5.0), 'day': ('2020-01-01', '2020-02-01')}
    """
    if text is None:
        return None
    from dkde import InputError

    found: dict[str, Any] = {}
    for part in text.split(","):
        name, is_named, ends = part.strip().rpartition("=")
        # Times have colons of their own: the two ends have equally many.
        pieces = ends.split(":")
        half = len(pieces) // 2
        if not (is_named and name and len(pieces) % 2 == 0 and all(pieces)):
            raise InputError(
                f"--box {text!r}: {part.strip()!r} is not NAME=LOW:HIGH; write lon=-10:5,lat=40:60"
            )
        if name in found:
            raise InputError(f"--box {text!r}: {name} is given twice")
        found[name] = tuple(map(_end, (":".join(pieces[:half]), ":".join(pieces[half:]))))
    return found


def _end(text: str) -> Any:
    try:
        return float(text)
    except ValueError:
        return text.strip()


def _numbers(text: str, mark: str, kind: Any, option: str, example: str) -> list[Any]:
    try:
        return [kind(part) for part in text.split(mark)]
    except ValueError:
        from dkde import InputError

        raise InputError(f"{option} {text!r} cannot be read; write {example}") from None
