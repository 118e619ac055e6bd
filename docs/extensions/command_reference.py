"""What the commands say of themselves, as a part of the page ``commands.md``."""

import re
from collections.abc import Iterator
from inspect import cleandoc
from typing import Any

import click
from dkde_cli.main import cli

PAGE = "commands"


def reference() -> str:
    """A section in Markdown for each command, in the order of a workflow."""
    with click.Context(cli, info_name="dkde", show_default=True) as group:
        sections = []
        for name in cli.list_commands(group):
            command = cli.commands[name]
            with click.Context(command, info_name=name, parent=group) as context:
                sections.append("\n".join(_section(command, context)))
    return "\n".join(sections)


def _section(command: click.Command, context: click.Context) -> Iterator[str]:
    yield f"## {context.command_path}\n"
    usage = command.get_usage(context).removeprefix("Usage: ")
    yield f"```text\n{usage}\n```\n"
    yield from _paragraphs(command.help or "")
    for parameter in command.get_params(context):
        record = parameter.get_help_record(context)
        if isinstance(parameter, click.Option) and record is not None:
            names, text = record
            yield f"`{names}`\n: {_escaped(text)}\n"
    yield from _paragraphs(command.epilog or "")


def _paragraphs(text: str) -> Iterator[str]:
    """Paragraphs; those that click does not wrap, after a line of a backspace, as they stand."""
    for paragraph in re.split(r"\n\s*\n", cleandoc(text)):
        if paragraph.startswith("\b\n"):
            kept = paragraph.removeprefix("\b\n")
            yield f"```text\n{kept}\n```\n"
        elif paragraph:
            yield f"{_escaped(paragraph)}\n"


def _escaped(text: str) -> str:
    """Text that Markdown leaves as it is.

    Examples
    --------
    >>> _escaped("[SOURCE::]SPLIT, |log p|")
    '\\\\[SOURCE::\\\\]SPLIT, \\\\|log p\\\\|'
    """
    return re.sub(r"([\\`*_{}\[\]<>()#+|$~-])", r"\\\1", " ".join(text.split()))


def _add(_: Any, docname: str, source: list[str]) -> None:
    if docname == PAGE:
        source[0] += "\n" + reference()


def setup(app: Any) -> dict[str, bool]:
    app.connect("source-read", _add)
    return {"parallel_read_safe": True}
