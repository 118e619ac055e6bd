"""Labels of a table: a column of whole numbers, or of texts, which are numbered."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np

from dkde.datasets.metadata import class_words
from dkde.errors import DataSetError
from dkde.typing import Array

_INTEGER = re.compile(r"\s*[+-]?\d+\s*")
_MAX_CLASSES = 2**16


def encode(column: Any, codes: dict[str, int], path: Path, label: str, start: int) -> Array:
    """Numbers of the texts of a column, in order of appearance.

    Parameters
    ----------
    column : pyarrow.Array
        Of a batch.
    codes : dict of str to int
        The texts so far; new ones are added.
    path, label : pathlib.Path, str
        For messages.
    start : int
        The batch's first row.

    Raises
    ------
    DataSetError
        If one is missing.
    """
    import pyarrow as pa

    missing = column.is_null(nan_is_null=True).to_numpy(zero_copy_only=False)
    if missing.any():
        row = start + int(np.argmax(missing)) + 1
        raise DataSetError(
            f"{path}: column {label!r}, the label, is empty or NA in row {row}; leave such rows "
            "out, or call the class something else"
        )
    encoded = column.cast(pa.string()).dictionary_encode()
    texts = encoded.dictionary.to_pylist()
    numbers = np.array([codes.setdefault(text, len(codes)) for text in texts], np.int64)
    found: Array = numbers[encoded.indices.to_numpy(zero_copy_only=False)].astype(np.int32)
    return found


def numbered(
    codes: Array, texts: list[str], path: Path, label: str
) -> tuple[Array, tuple[str, ...] | None]:
    """Labels from the codes of texts, and what they stand for.

    Returns
    -------
    labels : array of int64
        Whole numbers as they are; else numbers of the texts, in their order.
    classes : tuple of str or None
        The texts, in their order.

    Raises
    ------
    DataSetError
        If they cannot be labels.
    """
    numbers = [_whole(text) for text in texts]
    values = [number for number in numbers if number is not None]
    if len(values) == len(texts):
        if not all(-(2**63) <= value < 2**63 for value in values):
            raise DataSetError(f"{path}: column {label!r}, the label, has numbers beyond 64 bits")
        return np.array(values, np.int64)[codes], None
    if len(texts) > _MAX_CLASSES:
        raise DataSetError(
            f"{path}: column {label!r} has {len(texts)} different texts; is it a label?"
        )
    order = sorted(texts)
    try:
        class_words(order)
    except DataSetError as error:
        raise DataSetError(f"{path}: column {label!r}, the label: {error}") from None
    place = {text: i for i, text in enumerate(order)}
    return np.array([place[text] for text in texts], np.int64)[codes], tuple(order)


def _whole(text: str) -> int | None:
    """The whole number that a text is, as 3 and 3.0 are."""
    if _INTEGER.fullmatch(text):
        return int(text)
    try:
        value = float(text)
    except ValueError:
        return None
    return int(value) if value.is_integer() else None
