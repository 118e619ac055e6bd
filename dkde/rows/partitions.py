"""Partitions of a table: values that stand in the names of folders, ``year=2020/month=1/``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import unquote

from dkde.rows.feature_choice import NUMBER, TIME

# What Hive and Spark write for a missing value.
_MISSING = "__HIVE_DEFAULT_PARTITION__"
KIND = "a partition"


def partitions_of(root: str, names: Sequence[str]) -> dict[str, Any]:
    """Return the partitions that all files have, by name, as Arrow arrays with a value a file.

    The folders directly above a file count as far as they are ``name=value``, those of the root
    included. Values that are all whole numbers, numbers, dates, or True and False become these;
    others stay text.

    Parameters
    ----------
    root : str
        The folder or URL of the files.
    names : sequence of str
        The paths of the files below it.

    Examples
    --------
    >>> found = partitions_of("t", ["y=2020/kind=a/x.parquet", "y=2021/kind=b%20c/x.parquet"])
    >>> {name: values.to_pylist() for name, values in found.items()}
    {'y': [2020, 2021], 'kind': ['a', 'b c']}
    """
    above = _pairs(root.replace("\\", "/").split("/"))
    pairs: list[Mapping[str, str]] = []
    for name in names:
        folders = name.split("/")[:-1]
        own = _pairs(folders)
        pairs.append({**above, **own} if len(own) == len(folders) else own)
    known = [key for key in pairs[0] if all(key in each for each in pairs)] if pairs else []
    return {key: _values([each[key] for each in pairs]) for key in known}


def _pairs(folders: Sequence[str]) -> dict[str, str]:
    """Return the names and values of the last folders that are ``name=value``."""
    found: list[tuple[str, str]] = []
    for folder in reversed(folders):
        key, mark, value = folder.partition("=")
        if not (key and mark):
            break
        found.append((unquote(key), unquote(value)))
    return dict(reversed(found))


def _values(texts: Sequence[str]) -> Any:
    """Return texts as an Arrow array of the narrowest kind that holds all of them."""
    import pyarrow as pa

    held = [None if text == _MISSING else text for text in texts]
    there = [text for text in held if text is not None]
    plain = pa.array(held, pa.string())
    if there and {text.lower() for text in there} <= {"true", "false"}:
        return plain.cast(pa.bool_())
    if not there or not all(map(NUMBER.fullmatch, there)):
        dated = bool(there) and all(map(TIME.fullmatch, there))
        return plain.cast(pa.timestamp("us")) if dated else plain
    try:
        return plain.cast(pa.int64())
    except pa.ArrowInvalid:
        return plain.cast(pa.float64())
