"""The grammar of selectors: ``[SOURCE::]SPLIT[a:b]`` or ``SPLIT[label=7]``, joined by ``+``.

File names may contain ``+``, ``::`` or brackets. So at the start of every term, the longest name
that exists is taken as it is, and the grammar reads only the text after it.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from dkde.errors import InputError

_GRAMMAR = "write [SOURCE::]SPLIT[a:b] or SPLIT[label=7], several joined by +"
# No more digits than a row number can have: int() refuses thousands of them.
_ROW = r"\s*(?:-?[0-9]{1,18})?\s*"
_RANGE, _VALUE = rf"\[{_ROW}:{_ROW}\]", r"\[[^\[\]=+]+=[^\[\]+]+\]"
# A range, the rows of a value, or both in either order: the second is of what the first leaves.
_CHOICES = rf"((?:{_RANGE}(?:{_VALUE})?|{_VALUE}(?:{_RANGE})?)?)\s*(?:\+|$)"
_CHOICE = re.compile(r"\[([^\[\]]*)\]")
# A URL within a selector: it cannot contain + or ::, which belong to the grammar, nor brackets but
# those of a pattern, which are no range of rows.
_URL = re.compile(r"[a-z][a-z0-9]*://(?:(?!::)(?:[^+\[\]\s]|\[[^\[\]:+=\s]+\]))+")
# A split's name holds none of the grammar's marks; a source may hold brackets. Both begin with a
# character that is no blank, and are as short as the rest allows.
_SPLIT = r"\s*(?!\s)((?:(?!::)[^\[\]+])+?)\s*"
_SOURCE = r"\s*(?!\s)((?:(?!::)[^+])+?)\s*"
# What may follow the name of an existing source, and that of an existing file.
_AFTER_SOURCE = re.compile(rf"\s*::{_SPLIT}{_CHOICES}")
_AFTER_FILE = re.compile(rf"\s*{_CHOICES}")
_TERM = re.compile(rf"(?:{_SOURCE}::)?{_SPLIT}{_CHOICES}")
# A text with one of these names a file or a folder rather than a split.
_FILE = re.compile(r"[./\\]")
# A name may end before any of these, or at the end of the text.
_BORDER = re.compile(r"\s*(?:\+|::|\[|$)")


@dataclass(frozen=True)
class Term:
    """One term of a selector, as it was written.

    Parameters
    ----------
    source : str or None
        The name of the source; None if the term has none.
    split : str
        The name of a split, or without a source that of a file with one split.
    chosen : str
        What follows the split, in brackets: a range, the rows of a value, or both; often empty.
    """

    source: str | None
    split: str
    chosen: str = ""

    @property
    def choices(self) -> list[tuple[str, str, str]]:
        """Return what is in brackets, in order: ("a", ":", "b"), or ("label", "=", "7").

        Examples
        --------
        >>> Term(None, "train", "[label=7][:100]").choices
        [('label', '=', '7'), ('', ':', '100')]
        """
        found = []
        for text in _CHOICE.findall(self.chosen):
            mark = "=" if "=" in text else ":"
            first, _, second = text.partition(mark)
            found.append((first.strip(), mark, second.strip()))
        return found


def is_url(name: str) -> bool:
    """Return whether a name is a URL, and nothing of the grammar beside it."""
    return _URL.fullmatch(name) is not None


def parse(
    selector: str, *, exists: Callable[[str], bool], is_file: Callable[[str], bool]
) -> list[Term]:
    """Return the terms of a selector.

    Parameters
    ----------
    selector : str
        The selector.
    exists : callable
        Returns whether a name before ``::`` is that of a source.
    is_file : callable
        Returns whether a name without ``::`` is that of a file, and not of a split.

    Raises
    ------
    InputError
        When the text is no selector.

    Examples
    --------
    >>> there = {"a+b.npy"}.__contains__
    >>> [(t.split, t.chosen) for t in parse("a+b.npy[:10]+train", exists=there, is_file=there)]
    [('a+b.npy', '[:10]'), ('train', '')]
    """
    terms = []
    position = 0
    while True:
        found = _known(selector, position, exists, is_file)
        if found is None:
            # No existing name begins here: a split of the default source, or a URL or file that is
            # missing. Opening it then raises the error that fits.
            match = _TERM.match(selector, position)
            if match is None:
                raise InputError(f"selector {selector!r} cannot be read; {_GRAMMAR}")
            found = match, Term(*match.groups())
        match, term = found
        terms.append(term)
        position = match.end()
        if not match[0].endswith("+"):
            return terms


def _known(
    text: str, start: int, exists: Callable[[str], bool], is_file: Callable[[str], bool]
) -> tuple[re.Match[str], Term] | None:
    """Return the term that begins with the longest existing name; None if no name exists."""
    start += len(text[start:]) - len(text[start:].lstrip())
    # The longest first. A match of the grammar is tried before the file system is asked.
    for stop in reversed([border for border in _borders(text, start) if border > start]):
        name = text[start:stop]
        if (match := _AFTER_SOURCE.match(text, stop)) and exists(name):
            return match, Term(name, *match.groups())
        if (match := _AFTER_FILE.match(text, stop)) and is_file(name):
            return match, Term(None, name, *match.groups())
    return None


def names_in(selector: str) -> list[str]:
    """Return all parts of a selector that could be the name of a source or a file.

    Examples
    --------
    >>> names_in("a.npy[:10]+b.npy")
    ['a.npy', 'a.npy[:10]', 'a.npy[:10]+b.npy', 'b.npy']
    """
    starts = [0, *(place + 1 for place, mark in enumerate(selector) if mark == "+")]
    found = (
        selector[start:stop].strip()
        for start in starts
        for stop in _borders(selector, start)
        if stop > start
    )
    return [name for name in dict.fromkeys(found) if name]


def sources_in(selector: str) -> list[str]:
    """Return the names of sources and files in a selector, none of which need exist.

    Examples
    --------
    >>> sources_in("data/a.npy[:10]+b.zarr::train+test")
    ['data/a.npy', 'b.zarr']
    """
    try:
        terms = parse(selector, exists=lambda _: False, is_file=lambda _: False)
    except InputError:  # other texts among a call's arguments
        return []
    named = [term.source or term.split for term in terms if term.source or _FILE.search(term.split)]
    return list(dict.fromkeys(named))


def _borders(text: str, start: int) -> Iterator[int]:
    """Yield the positions at which a name that begins at ``start`` may end."""
    return (match.start() for match in _BORDER.finditer(text, start))
