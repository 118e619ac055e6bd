"""Tokens of content that are the same in every environment."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
from dask.tokenize import tokenize


def stable_token(value: Any) -> str:
    """Return a token of a value, as Dask makes it where none of the fast hashes is installed.

    Dask hashes the bytes of arrays by the first of several packages that it finds, and so another
    environment finds another token for the same values. Records outlive their environment.

    Examples
    --------
    >>> stable_token((1, "a")) == tokenize((1, "a"))
    True
    """
    return str(tokenize(_hashed(value)))


def dask_token(value: Any) -> str:
    """Return Dask's token in this environment, which earlier versions recorded."""
    return str(tokenize(value))


class _Array:
    """An array that is known by its SHA-1."""

    def __init__(self, values: np.ndarray[Any, Any]) -> None:
        self._values = values

    def __dask_tokenize__(self) -> tuple[Any, ...]:
        # As Dask itself does it; other tokens would be none of those that runs have recorded.
        flat = np.ascontiguousarray(self._values.ravel(order="K")).view("i1")
        digest = hashlib.sha1(flat.data, usedforsecurity=False).hexdigest()
        return digest, self._values.dtype, self._values.shape


def _hashed(value: Any) -> Any:
    if type(value) is np.ndarray and value.ndim and not value.dtype.hasobject:
        return _Array(value)
    if type(value) in (tuple, list):
        return type(value)(map(_hashed, value))
    if type(value) is dict:
        return {key: _hashed(each) for key, each in value.items()}
    return value
