"""The current folder, which may have been deleted since: relative paths then lead nowhere."""

from __future__ import annotations

import os

from dkde.errors import InputError
from dkde.typing import StrPath

_GONE = "the current folder was deleted, in which relative paths begin; change to another"


def current_folder() -> str:
    """Return the current folder.

    Raises
    ------
    InputError
        When it was deleted.
    """
    try:
        return os.getcwd()
    except FileNotFoundError:
        raise InputError(_GONE) from None


def check_leads_somewhere(path: StrPath) -> None:
    """Refuse a relative path where the current folder was deleted.

    Raises
    ------
    InputError
    """
    if os.path.isabs(path):
        return
    try:
        os.getcwd()
    except FileNotFoundError:
        raise InputError(f"{os.fspath(path)}: {_GONE}") from None
