"""Parameters that another function describes, on each function's own page as well.

A docstring says ``As for :func:`dkde.score`.`` where a parameter is that of another function. On a
terminal this is short; on a page the reader wants the parameter itself.
"""

import inspect
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from typing import Any

_KIND = re.compile(r"as for :func:`(?:[\w.]*\.)?(\w+)`")
_REFERENCE = re.compile(r"As for :(?:func|class):`(?:[\w.]*\.)?(\w+)`(?:[.;]\s*|$)")


@dataclass(frozen=True)
class Entry:
    """A parameter, or several that are described together."""

    names: tuple[str, ...]
    kind: str
    body: tuple[str, ...]

    @property
    def lines(self) -> list[str]:
        """The entry as it stands in a docstring."""
        head = ", ".join(self.names) + (f" : {self.kind}" if self.kind else "")
        return [head, *(f"    {line}" if line else "" for line in self.body)]


def entries(lines: list[str]) -> Iterator[Entry]:
    """Yield the entries of a section of parameters, whose lines begin at the margin."""
    found: list[tuple[str, list[str]]] = []
    for line in lines:
        if line and not line[0].isspace():
            found.append((line, []))
        elif found:
            found[-1][1].append(line[4:])
    for head, body in found:
        names, _, kind = head.partition(" : ")
        while body and not body[-1].strip():
            body.pop()
        yield Entry(tuple(name.strip() for name in names.split(",")), kind, tuple(body))


def section(lines: list[str]) -> tuple[int, int]:
    """Return where the entries of a docstring's parameters begin and end."""
    for start, (line, below) in enumerate(pairwise(lines)):
        if line == "Parameters" and set(below) == {"-"}:
            end = start + 2
            while end < len(lines) and not (
                end + 1 < len(lines) and lines[end + 1] and set(lines[end + 1]) == {"-"}
            ):
                end += 1
            return start + 2, end
    return 0, 0


def expanded(lines: list[str], docstring_of: Any) -> list[str]:
    r"""Return a docstring's lines with the parameters that it describes by reference.

    Parameters
    ----------
    docstring_of : callable
        Returns the lines of the docstring of a public name; an empty list for others.

    Examples
    --------
    >>> head = ["Parameters", "----------"]
    >>> first = [*head, "a, b : int", "    Two numbers.", "c : str", "    Text."]
    >>> second = [*head, "b, c", "    As for :func:`first`. Here c is not empty."]
    >>> print(*expanded(second, lambda name: first), sep="\n")
    Parameters
    ----------
    b : int
        Two numbers.
    c : str
        Text.
    <BLANKLINE>
        Here c is not empty.

    >>> first = [*head, "**style", "    Colours and the like."]
    >>> second = [*head, "**style", "    As for :func:`first`. Not ``label``."]
    >>> print(*expanded(second, lambda name: first), sep="\n")
    Parameters
    ----------
    **style
        Colours and the like.
    <BLANKLINE>
        Not ``label``.
    """
    start, end = section(lines)
    made: list[str] = []
    for entry in map(partial(_side, docstring_of=docstring_of), entries(lines[start:end])):
        reference = _REFERENCE.match(" ".join(entry.body))
        known = _entries_of(reference[1], docstring_of) if reference else {}
        there = tuple(name for name in entry.names if name in known)
        if not reference or not there:
            made += entry.lines
            continue
        text = " ".join(entry.body)
        more = text[reference.end() :].strip()
        more = more[:1].upper() + more[1:]
        made += _named(replace(entry, names=there), known, more)
        others = tuple(name for name in entry.names if name not in known)
        if others:
            made += replace(entry, names=others, body=(reference[0].strip(),)).lines
    return [*lines[:start], *made, *([""] if end < len(lines) and end else []), *lines[end:]]


def _side(entry: Entry, docstring_of: Any) -> Entry:
    """Return the entry of a side, as the other function describes its training rows."""
    reference = _KIND.search(entry.kind)
    known = _entries_of(reference[1], docstring_of) if reference else {}
    if "train" not in known:
        return entry
    train, own = known["train"], entry.body
    return Entry(entry.names, train.kind, (*train.body, "", *own) if own else train.body)


def _entries_of(name: str, docstring_of: Any) -> dict[str, Entry]:
    """Return the entries of a function by the names in them."""
    lines = expanded(docstring_of(name), docstring_of)
    start, end = section(lines)
    known = {name: entry for entry in entries(lines[start:end]) for name in entry.names}
    if "bandwidth" in known:
        known.setdefault("bandwidths", replace(known["bandwidth"], names=("bandwidths",)))
    return known


def _named(asked: Entry, known: dict[str, Entry], more: str) -> Iterator[str]:
    """Yield the entries of these names; what is said beside stands with the one it speaks of."""
    groups: dict[Entry, list[str]] = {}
    for name in asked.names:
        groups.setdefault(known[name], []).append(name)
    words = set(re.findall(r"\w+", more))  # of ``**options`` the name is options
    meant = next((n for n in asked.names if n.lstrip("*") in words), asked.names[0])
    for entry, own in groups.items():
        body = (*entry.body, "", more) if more and meant in own else entry.body
        # A list of choices says more than the type of a choice.
        is_list = entry.kind.startswith("{") or not asked.kind
        kind = entry.kind if is_list else asked.kind
        yield from Entry(tuple(own), kind, body).lines


def _docstring_of(name: str) -> list[str]:
    import dkde

    found = getattr(dkde, name, None) if name in dkde.__all__ else None
    return inspect.cleandoc(found.__doc__ or "").splitlines() if found is not None else []


def _process(_: Any, __: str, ___: str, ____: Any, _____: Any, lines: list[str]) -> None:
    lines[:] = expanded(list(lines), _docstring_of)


def setup(app: Any) -> dict[str, bool]:
    # Before numpydoc, which turns sections into markup.
    app.connect("autodoc-process-docstring", _process, priority=400)
    return {"parallel_read_safe": True}
