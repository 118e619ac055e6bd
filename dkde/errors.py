"""The errors that a caller may want to catch, and warnings.

Every message is one line: what was wrong, where, and what to do about it.
"""

import re
import sys
import unicodedata
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

_PACKAGE = str(Path(__file__).parent)
_USER = re.compile(r"(?<!icechunk)://[^\s/?#\"'<>]*@")
_PARAMETERS = re.compile(r"(://[^\s?#\"'<>]*)[?#][^\s\"'<>)]*")


def warn(message: str) -> None:
    """Warn at the line that called into dkde, however deep in it this is."""
    frame, level = sys._getframe(1), 2
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_PACKAGE):
        frame, level = frame.f_back, level + 1
    warnings.warn(printable(_BREAKS.sub(" ", message)), UserWarning, stacklevel=level)


@contextmanager
def held_warnings() -> Iterator[None]:
    """Give the warnings of a block once it is done, each once; none where it is refused."""
    with warnings.catch_warnings(record=True) as held:
        warnings.simplefilter("always")
        yield
    for each in {(each.category, str(each.message)): each for each in held}.values():
        warnings.warn_explicit(each.message, each.category, each.filename, each.lineno)


# What a terminal may obey, show in another order or not show: controls, invisible marks of format
# (those that turn the direction of writing are among them), line ends, halves of characters.
_ESCAPED = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
# Joiners belong to the spelling of words, and to the shape of emoji.
_JOINERS = "\u200c\u200d"


def printable(text: str) -> str:
    r"""Text with escapes for what a terminal would not show as it is.

    Names and messages come from files, and may hold commands to the terminal, or marks that show
    them in another order.

    Examples
    --------
    >>> print(printable("a\x1b[2Jb\nc\u202ed é"))
    a\x1b[2Jb\nc\u202ed é
    """
    if text.isprintable():
        return text
    return "".join(
        letter.encode("unicode_escape").decode()
        if unicodedata.category(letter) in _ESCAPED and letter not in _JOINERS
        else letter
        for letter in text
    )


def scrubbed(text: str) -> str:
    """Text without what the URLs in it may hold of credentials: a name, a password, parameters.

    Examples
    --------
    >>> scrubbed("cannot open https://me:password@host/a.zarr?signature=x now")
    'cannot open https://host/a.zarr now'
    """
    return _PARAMETERS.sub(r"\1", _USER.sub("://", text))


def one_line(error: BaseException) -> str:
    """Return another package's error as one line, shortened if it is long."""
    return printable(" ".join(scrubbed(str(error)).split()) or type(error).__name__)[:200]


def some(names: Sequence[str], most: int = 12) -> str:
    """Return names for a message, shortened where there are many.

    Examples
    --------
    >>> some(["lat", "lon", "depth"], most=2)
    'lat, lon and 1 more'
    """
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")


@dataclass(frozen=True)
class Argument:
    """An argument of a call, as a message names it: ``nan="drop"``.

    Parameters
    ----------
    name : str
    value : str, optional
        What it is to be.
    """

    name: str
    value: str | None = None

    def __str__(self) -> str:
        return self.name if self.value is None else f'{self.name}="{self.value}"'


@dataclass(frozen=True)
class Remedy:
    """The argument that does what a message advises: "begin it anew (restart)"."""

    name: str

    def __str__(self) -> str:
        return f"({self.name})"


class Call(StrEnum):
    """The call that is being made, as a message names it."""

    SAME = "the same call"
    MAKE_SAME = "make the same call"


@dataclass(frozen=True)
class Command:
    """A call that a message advises to make, in Python and on the command line.

    Parameters
    ----------
    python, shell : str
    """

    python: str
    shell: str

    def __str__(self) -> str:
        return self.python


MessagePart = str | Argument | Remedy | Call | Command


# Line breaks, as str.splitlines has them, with the blanks around them.
_BREAKS = re.compile(r"\s*[\n\r\v\f\x1c-\x1e\x85\u2028\u2029]+\s*")


def _in_a_line(part: MessagePart) -> MessagePart:
    # What files hold, their names included, may have line breaks and commands to a terminal.
    return printable(_BREAKS.sub(" ", part)) if type(part) is str else part


class Message(str):
    """A message that knows where it names arguments, which a command line spells otherwise.

    Parameters
    ----------
    *parts : str, Message, Argument, Remedy or Call
        As text it is all of them, one after the other.

    Examples
    --------
    >>> message = Message("give another name, or begin it anew ", Remedy("restart"))
    >>> message
    'give another name, or begin it anew (restart)'
    >>> message.spelled(lambda part: part if isinstance(part, str) else f"with --{part.name}")
    'give another name, or begin it anew with --restart'
    """

    parts: tuple[MessagePart, ...]

    def __new__(cls, *parts: MessagePart) -> "Message":
        found = tuple(
            inner
            for part in parts
            for inner in (part.parts if isinstance(part, Message) else (_in_a_line(part),))
        )
        message = super().__new__(cls, printable("".join(map(str, found))))
        message.parts = found
        return message

    def __getnewargs__(self) -> tuple[MessagePart, ...]:  # type: ignore[override]
        return self.parts

    def spelled(self, spell: Callable[[MessagePart], str]) -> str:
        """Return the message with each of its parts spelled by a function."""
        return printable("".join(map(spell, self.parts)))


class DkdeError(Exception):
    """Anything that dkde refuses or could not do.

    Parameters
    ----------
    *parts : str, Argument, Remedy or Call
        Of the message; see ``Message``.
    """

    def __init__(self, *parts: MessagePart) -> None:
        super().__init__(Message(*parts))

    @property
    def message(self) -> Message:
        """The message, in parts."""
        first = self.args[0] if self.args else ""
        return first if isinstance(first, Message) else Message(str(self))


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
    """A run of which some blocks failed; the others are done and kept.

    Parameters
    ----------
    *parts : str, Argument, Remedy or Call
        What is missing.
    remedy : Message, optional
        What takes up again the blocks that were set aside, if any were. The message ends in it.
    """

    def __init__(self, *parts: MessagePart, remedy: Message | None = None) -> None:
        super().__init__(*parts, *(() if remedy is None else ("; ", remedy)))
        self.missing, self.remedy = Message(*parts), remedy
