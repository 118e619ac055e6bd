"""Patterns of paths, which mean in a bucket what they mean on a disk."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from itertools import takewhile


def matches_pattern(path: str, pattern: str) -> bool:
    """Return whether a path matches a pattern as it does on a disk, for :func:`glob.glob`.

    Wildcards stand for no slash, and for no point at the beginning of a name. ``**`` alone between
    slashes is any number of folders; at the end it is all files below.

    Examples
    --------
    >>> [matches_pattern("a/b.csv", each) for each in ("a/*", "*", "a?b.csv", "**/*.csv", "**")]
    [True, False, False, True, True]
    """
    return _matches(path.split("/"), [part for part in pattern.split("/") if part])


def _matches(names: Sequence[str], pattern: Sequence[str]) -> bool:
    if not pattern:
        return not names
    first, rest = pattern[0], pattern[1:]
    if first != "**":
        hidden = names and names[0].startswith(".") and not first.startswith(".")
        is_like = bool(names) and not hidden and fnmatchcase(names[0], first)
        return is_like and _matches(names[1:], rest)
    seen = list(takewhile(lambda name: not name.startswith("."), names))
    if not rest:
        return bool(names) and len(seen) == len(names)
    return any(_matches(names[i:], rest) for i in range(len(seen) + 1))
