"""``dkde run``: commands whose options stand in a TOML file."""

import re
import sys
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import click

from dkde.errors import DataSetError, printable
from dkde_cli.group import Command, Refusal
from dkde_cli.logs import is_quiet, say

_NAME = "run"
_BARE = re.compile(r"[A-Za-z0-9_-]+")


@dataclass(frozen=True)
class Step:
    """A command of a file, with the words of its call.

    Parameters
    ----------
    place : str
        The file and the table, for messages.
    name : str
        Name of the command.
    words : tuple of str
        Options and arguments, as a shell would pass them.
    """

    place: str
    name: str
    words: tuple[str, ...]


def keys_of(command: click.Command) -> dict[str, click.Parameter]:
    """Return the keys of a command's table: long names of options, and names of arguments."""
    keys: dict[str, click.Parameter] = {}
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            names = [name for name in parameter.opts if name.startswith("--")] or parameter.opts
            keys |= {name.lstrip("-"): parameter for name in names}
        elif parameter.name is not None:
            keys[parameter.name] = parameter
    return keys


def steps_of(text: str, file: str, commands: Mapping[str, click.Command]) -> list[Step]:
    """Return the commands of a file in order.

    Parameters
    ----------
    text : str
        TOML: a table for each command; of a command that is given several times, an array of
        tables.
    file : str
        Its name, for messages.
    commands : mapping of str to Command

    Raises
    ------
    Refusal
    """
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise Refusal(f"{file}: cannot be read as TOML: {error}") from error
    steps = [
        Step(f"{file}: [{name}]", name, tuple(_words(f"{file}: [{name}]", table, commands[name])))
        for name, table in _checked(tables, file, commands)
    ]
    if not steps:
        raise Refusal(f"{file}: names no command; write its options in a table, such as [sweep]")
    return steps


def _checked(
    tables: Mapping[str, Any], file: str, commands: Mapping[str, click.Command]
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield the name and the table of each command."""
    for name, value in tables.items():
        if not isinstance(value, Mapping) and not _is_tables(value):
            raise Refusal(
                f"{file}: {name} stands outside of a table; write the name of its command above "
                "it, such as [sweep]"
            )
        if name not in commands or name == _NAME:
            others = [other for other in commands if other != _NAME]
            raise Refusal(f"{file}: [{name}] is no command{_nearest(name, others, 'dkde --help')}")
        for table in [value] if isinstance(value, Mapping) else value:
            yield name, table


def _is_tables(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(x, Mapping) for x in value)


def _words(place: str, table: Mapping[str, Any], command: click.Command) -> Iterator[str]:
    """Yield the words of a call: options first, then arguments in the command's order."""
    keys = keys_of(command)
    given: dict[str, list[str]] = {}
    for key, value in table.items():
        name = key if key in keys else key.replace("_", "-")
        if name not in keys:
            help = f"dkde {command.name} --help"
            raise Refusal(f"{place} has no option {key}{_nearest(name, keys, help)}")
        parameter = keys[name]
        if isinstance(parameter, click.Option):
            yield from _option(f"{place} {key}", name, parameter, value)
        else:
            several = parameter.nargs != 1
            texts = value if several and isinstance(value, list) else [value]
            given[str(parameter.name)] = [_text(f"{place} {key}", text) for text in texts]
    yield "--"
    for argument in command.params:
        if isinstance(argument, click.Argument):
            yield from given.get(str(argument.name), [])


def _option(place: str, name: str, option: click.Option, value: Any) -> Iterator[str]:
    """Yield the words that give an option its value."""
    spelled = next(opt for opt in option.opts if opt.lstrip("-") == name)
    if option.is_flag:
        if not isinstance(value, bool):
            raise Refusal(f"{place} is {value!r}; it must be true or false")
        if value:
            yield spelled
        return
    for text in value if option.multiple and isinstance(value, list) else [value]:
        # In one word, so that a value may begin with a dash.
        word = _text(place, text)
        yield f"{spelled}={word}" if spelled.startswith("--") else f"{spelled}{word}"


def _text(place: str, value: Any) -> str:
    """Return a value of TOML as it is written on the command line.

    Examples
    --------
    >>> _text("", [0.1, 2]), _text("", {"depth": 10, "time": 2.5}), _text("", [[1, 0], [0, 4]])
    ('0.1,2', 'depth=10,time=2.5', '1,0;0,4')
    """
    if isinstance(value, bool):
        raise Refusal(f"{place} is {str(value).lower()}; it takes a value")
    if isinstance(value, Mapping):
        return ",".join(f"{key}={_text(place, each)}" for key, each in value.items())
    if isinstance(value, list):
        between = ";" if any(isinstance(each, list) for each in value) else ","
        return between.join(_text(place, each) for each in value)
    return str(value)


def _nearest(name: str, known: Any, help: str) -> str:
    """Return the end of a message: the known name that is nearest, or where all are listed."""
    found = get_close_matches(name, known, n=1)
    return f"; did you mean {found[0]}?" if found else f"; {help} lists them"


def as_toml(name: str, options: Mapping[str, Any]) -> str:
    """Return the table of a command.

    Examples
    --------
    >>> print(as_toml("cv", {"data": "a b.npy", "bandwidths": [0.5, 1e-07], "refine": True}))
    [cv]
    data = "a b.npy"
    bandwidths = [0.5, 1e-07]
    refine = true
    """
    lines = [f"{_key(key)} = {_value(value)}" for key, value in options.items()]
    return "\n".join([f"[{_key(name)}]", *lines])


def _key(text: str) -> str:
    return text if _BARE.fullmatch(text) else _value(text)


def _value(value: Any) -> str:
    """Return a value in TOML."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{_key(k)} = {_value(v)}" for k, v in value.items()) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_value, value)) + "]"
    if isinstance(value, str):
        escaped = "".join(_escaped(character) for character in value)
        return f'"{escaped}"'
    return repr(value)


def _escaped(character: str) -> str:
    """Return a character of a text in TOML, which a terminal shows as it is.

    Raises
    ------
    DataSetError
        When it is half of a character, as of a path that is no UTF-8.
    """
    if character in '"\\':
        return f"\\{character}"
    if printable(character) == character:
        return character
    code = ord(character)
    if 0xD800 <= code < 0xE000:
        raise DataSetError(
            "a path or name is no UTF-8, which a file of TOML cannot have; rename it"
        )
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


class _Run(Command):
    """A command that prepares nothing itself: the commands that it does do that."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        return click.Command.invoke(self, ctx)


@click.command(
    _NAME,
    cls=_Run,
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
)
@click.argument("file", metavar="FILE")
@click.argument("more", nargs=-1, type=click.UNPROCESSED, metavar="[OPTIONS OF THE COMMAND]...")
@click.pass_context
def run(ctx: click.Context, file: str, more: tuple[str, ...]) -> None:
    """Do the commands of a TOML file.

    A table has the name of a command, and its keys are the long names of the command's options
    and the names of its arguments. Several tables are done in their order; a command that is done
    twice has an array of tables, [[score]]. Options after FILE are added to the file's only
    command, and win. Paths begin in the current folder. - reads standard input.

    \b
    [sweep]
    data = "mnist.zarr"
    bandwidths = [0.1, 0.2, 0.5]
    no-test = true
    output = "sweep.zarr"

    dkde status STORE --config writes such a file for a result.
    """
    group = ctx.parent.command if ctx.parent is not None else None
    assert isinstance(group, click.Group)
    steps = steps_of(_read(file), file, group.commands)
    if more and len(steps) > 1:
        raise Refusal(f"{file}: has {len(steps)} commands; options can be added to a single one")
    # All are parsed before the first is done: a mistake in the last costs no hours.
    contexts = [_context(ctx, step, more, group.commands[step.name]) for step in steps]
    for step, made in zip(steps, contexts, strict=True):
        if len(steps) > 1 and not is_quiet():
            say(step.place)
        with made:
            made.command.invoke(made)


def _read(file: str) -> str:
    try:
        data = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
        return data.decode()
    except UnicodeDecodeError as error:
        raise Refusal(f"{file}: is not a text in UTF-8") from error
    except OSError as error:
        raise Refusal(f"{file}: {error.strerror}") from error


def _context(
    ctx: click.Context, step: Step, more: tuple[str, ...], command: click.Command
) -> click.Context:
    """Return the context of a step's command, parsed."""
    end = step.words.index("--")
    words = [*step.words[:end], *more, *step.words[end:]]
    try:
        return command.make_context(step.name, words, parent=ctx.parent)
    except click.UsageError as error:
        text = error.format_message().rstrip(".")
        raise Refusal(f"{step.place}: {text}; see dkde {step.name} --help") from error
