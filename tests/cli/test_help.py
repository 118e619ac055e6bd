"""Everything has help."""

import re

import click
import pytest
from dkde_cli.main import cli

from dkde.datasets.formats import FORMATS

COMMANDS = {"": cli, **cli.commands}


@pytest.mark.parametrize("name", COMMANDS)
def test_commands_and_options_have_help(name):
    command = COMMANDS[name]
    assert command.help
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.help, parameter.name


@pytest.mark.parametrize("name", cli.commands)
def test_short_help_is_not_cut(run, name):
    assert "..." not in cli.commands[name].get_short_help_str(limit=60)
    assert run(name, "--help").stdout.startswith("Usage: ")


def test_every_format_is_named(run):
    text = run("import", "--help").stdout
    assert all(name in text for name in FORMATS)


@pytest.mark.parametrize("name", ["show", "plan", "sweep", "cv", "score", "map", "sample"])
def test_what_data_may_be_is_said_once(run, name):
    text = " ".join(run(name, "--help").stdout.split())
    (said,) = re.findall(r"DATA is (.*?)\.", text)
    assert all(word in said for word in ("dkde import", "folder", "digits", "Zarr", "NetCDF"))


def test_features_are_of_tables_too(run):
    text = " ".join(run("score", "--help").stdout.split())
    (said,) = re.findall(r"--features A,B,\.\.\. (.*?) --", text)
    assert all(word in said for word in ("table", "data set", "Zarr", "NetCDF"))


def test_commands_are_in_the_order_of_a_workflow(run):
    text = run("--help").stdout.split("Commands:\n")[1]
    names = [line.split()[0] for line in text.splitlines() if line.strip()]
    assert names == [
        "import", "info", "index", "show", "plan", "sweep", "cv", "score", "classify", "map",
        "sample", "extend", "compare", "report", "export", "run", "status", "verify", "run-part",
        "finish", "script", "repair", "unlock", "clean",
    ]  # fmt: skip
