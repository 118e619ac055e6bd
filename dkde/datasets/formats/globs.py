"""Several files under one name: a pattern such as ``data/*.csv``."""

from __future__ import annotations

import glob
import os
from pathlib import Path

from dkde.errors import DataSetError


def is_pattern(path: str | os.PathLike[str]) -> bool:
    """Return whether a path has shell wildcards and names no file."""
    text = os.fspath(path)
    return any(mark in text for mark in "*?[") and "://" not in text and not os.path.exists(text)


def files_of(path: Path) -> list[Path]:
    """The file itself; or those that a pattern matches, in order of name.

    Raises
    ------
    DataSetError
        If there are none.
    """
    if not is_pattern(path):
        return [path]
    names = sorted(glob.glob(os.fspath(path), recursive=True))
    files = [found for found in map(Path, names) if found.is_file()]
    if not files:
        raise DataSetError(f"{path}: matches no file")
    return files
