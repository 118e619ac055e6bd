"""The errors that a caller may want to catch, and warnings.

Every message is one line: what was wrong, where, and what to do about it.
"""

import re
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

_PACKAGE = str(Path(__file__).parent)
_USER = re.compile(r"://[^\s/?#\"'<>]*@")
_PARAMETERS = re.compile(r"(://[^\s?#\"'<>]*)[?#][^\s\"'<>)]*")


def warn(message: str) -> None:
    """Warn at the line that called into dkde, however deep in it this is."""
    frame, level = sys._getframe(1), 2
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_PACKAGE):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, UserWarning, stacklevel=level)


def scrubbed(text: str) -> str:
    """Text without what the URLs in it may hold of credentials: a name, a password, parameters.

    Examples
    --------
    >>> scrubbed("cannot open https://me:password@host/a.zarr?signature=x now")
    'cannot open https://host/a.zarr now'
    """
    return _PARAMETERS.sub(r"\1", _USER.sub("://", text))


def one_line(error: BaseException) -> str:
    """What an error of another package says, for a message: in a line, and not a long one."""
    return (" ".join(scrubbed(str(error)).split()) or type(error).__name__)[:200]


def some(names: Sequence[str], most: int = 12) -> str:
    """Names for a message, not too many.

    Examples
    --------
    >>> some(["lat", "lon", "depth"], most=2)
    'lat, lon and 1 more'
    """
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")


class DkdeError(Exception):
    """Anything that dkde refuses or could not do."""


class InputError(DkdeError, ValueError):
    """An argument or an array that cannot be used as it is."""


class NoVariableError(InputError):
    """A variable or a column that is asked for by name, and is not there."""


class DataSetError(DkdeError):
    """A file or a store that is missing, broken, foreign or in the way."""


class MemoryLimitError(DkdeError):
    """A plan that needs more memory than a worker has."""


class ClusterError(DkdeError):
    """A scheduler or a worker that cannot be reached, or cannot see the data."""


class IncompleteError(DkdeError):
    """A run some of whose blocks failed and were set aside; the others are done and kept."""
