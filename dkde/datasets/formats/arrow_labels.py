"""Labels from Arrow's columns."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dkde.datasets.metadata import class_words
from dkde.errors import DataSetError
from dkde.stores.listed_files import Url
from dkde.typing import Array

_INTEGER = re.compile(r"\s*[+-]?\d+\s*")
# A column with more different texts than this is hardly a label: it may hold names or ids.
_MAX_CLASSES = 2**16


def label_texts(column: Any, path: Path | Url, label: str, start: int) -> Any:
    """Return the labels of a batch as texts that are encoded as a dictionary.

    Parameters
    ----------
    column : pyarrow.Array
    path, label : pathlib.Path or Url, str
        The file and the name of the column, for messages.
    start : int
        Number of the batch's first row, counted from 0.

    Returns
    -------
    pyarrow.DictionaryArray

    Raises
    ------
    DataSetError
        If a label is missing.
    """
    import pyarrow as pa

    missing = column.is_null(nan_is_null=True).to_numpy(zero_copy_only=False)
    if missing.any():
        row = start + int(np.argmax(missing)) + 1
        raise DataSetError(
            f"{path}: column {label!r}, the label, is empty or NA in row {row}; leave such rows "
            "out, or give the class another name"
        )
    # As a dictionary a text is held once for each class and not once for each row.
    return column.cast(pa.string()).dictionary_encode()


def numbered(
    batches: Sequence[Any], path: Path | Url, label: str
) -> tuple[Array, tuple[str, ...] | None]:
    """Return labels as numbers from the texts of a column, and the names of the classes.

    Parameters
    ----------
    batches : sequence of pyarrow.DictionaryArray
        As :func:`label_texts` returns them; at least one.
    path, label : pathlib.Path or Url, str
        The file and the name of the column, for messages.

    Returns
    -------
    labels : array of int64
        The numbers themselves if all texts are whole numbers; else each text's position in the
        sorted texts.
    classes : tuple of str or None
        The sorted texts as words, or None if the texts are numbers.

    Raises
    ------
    DataSetError
        If the texts cannot be labels.
    """
    import pyarrow as pa

    # Each batch has a dictionary of its own; joined, each text has one code.
    joined = pa.chunked_array(batches).unify_dictionaries().combine_chunks()
    texts, codes = joined.dictionary.to_pylist(), joined.indices.to_numpy(zero_copy_only=False)
    values = [number for number in map(_whole, texts) if number is not None]
    if len(values) == len(texts):
        if not all(-(2**63) <= value < 2**63 for value in values):
            raise DataSetError(
                f"{path}: column {label!r}, the label, has numbers beyond 64 bits; use smaller ones"
            )
        return np.array(values, np.int64)[codes], None
    if len(texts) > _MAX_CLASSES:
        raise DataSetError(
            f"{path}: column {label!r} has {len(texts)} different texts, and a label has at most "
            f"{_MAX_CLASSES}; name another column"
        )
    # Sorted, so that the numbers do not depend on the order of the rows.
    order = sorted(texts)
    try:
        words = class_words(order)
    except DataSetError as error:
        raise DataSetError(f"{path}: column {label!r}, the label: {error}") from None
    place = {text: i for i, text in enumerate(order)}
    return np.array([place[text] for text in texts], np.int64)[codes], words


def _whole(text: str) -> int | None:
    """Return the whole number that a text is, such as 3 or 3.0, or None if it is none."""
    if _INTEGER.fullmatch(text):
        return int(text)
    # Programs that hold labels as floats, as pandas does beside missing ones, write 3.0.
    try:
        value = float(text)
    except ValueError:
        return None
    return int(value) if value.is_integer() else None
