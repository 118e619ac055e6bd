"""``dkde status --config``: the call that made a result, as a file for ``dkde run``."""

import os
import re
from collections.abc import Mapping
from typing import Any

import click

from dkde_cli.config import as_toml, keys_of
from dkde_cli.lines import echo

# The commands of recorded functions.
_COMMANDS = {
    "score": "score", "sweep": "sweep", "cross_validate": "cv", "sample": "sample",
    "density_map": "map", "classify": "classify",
}  # fmt: skip
# Options whose names are not those of the arguments.
_SPELLED = {"random_state": "seed", "n_samples": "n", "contamination": "flag"}
# What begins a selector: its source, with the ``::`` before the split.
_SOURCE = re.compile(r"([^+\[]+?)(?:::.*|\[.*)?")


def config_of(store: str, commands: Mapping[str, click.Command]) -> str:
    """Return the file that makes a result again.

    What has no option on the command line is left out, with a line on stderr.

    Raises
    ------
    DataSetError
        When the store holds no call that could be written down.
    """
    import dkde

    call = dkde.recorded_call(store)
    if call["function"] == "extend":
        raise dkde.DataSetError(
            f"{store}: rows are being added to it by dkde extend, which is not finished; finish "
            "that call first, then --config writes the call of all rows"
        )
    if call["function"] not in _COMMANDS:
        raise dkde.DataSetError(
            f"{store}: was made by a call of {call['function']}, which this version does not know"
        )
    command = commands[_COMMANDS[call["function"]]]
    keys, folder = keys_of(command), call["folder"]
    arguments = _as_options(call)
    given: dict[str, Any] = {"data": _data(call)}
    for argument, value in arguments.items():
        key = argument.replace("_", "-")
        if argument in call and isinstance(value, Mapping):
            value = _by_role(value)
        if key not in keys:
            echo(f"{argument} = {value} has no option, and is left out", err=True)
        elif value != _default(keys[key]):
            given[key] = value
    given["output"] = _below(store if "://" in store else os.path.abspath(store), folder)
    versions = ", ".join(f"{name} {text}" for name, text in call["versions"].items())
    lines = [_comment(f"Made with {versions}.")] if versions else []
    if n_first := call.get("derived_from"):
        lines.append(
            _comment(
                f"Rows were added to it. What a call derives from its training rows was derived "
                f"from the first {n_first} of them; this file derives it from all."
            )
        )
    lines += [_comment(f"Paths begin in {folder}"), "", as_toml(str(command.name), given)]
    return "\n".join(lines)


def _comment(text: str) -> str:
    """Return a comment of one line, whatever a store holds."""
    return "# " + "".join(character if character.isprintable() else " " for character in text)


def _as_options(call: Mapping[str, Any]) -> dict[str, Any]:
    """Return the recorded arguments that were given, by the names of options."""
    given = {_SPELLED.get(name, name): value for name, value in call["arguments"].items()}
    if call["function"] == "sweep":
        # Without test rows the command would take the split of that name.
        given["no_test"] = given.get("test") is None and given.get("protocol") is None
    if isinstance(folds := given.get("folds"), str) and folds != "loo":
        given["folds"] = f"by:{folds}"
    if isinstance(priors := given.get("priors"), Mapping):
        given["priors"] = ",".join(f"{name}={prior!r}" for name, prior in priors.items())
    if call["function"] == "density_map":
        given.pop("metric", None)  # which a map has no choice of
    for name, in_words in (("support", _supports), ("box", _box), ("cells", _cells)):
        if given.get(name) is not None:
            given[name] = in_words(given[name])
    rest = {"function", "arguments", "source", "folder", "versions", "derived_from"}
    given |= {name: value for name, value in call.items() if name not in rest}
    return {name: value for name, value in given.items() if value is not None}


def _supports(record: Any) -> Any:
    """Return a recorded support as the values of an option; as it is where it has no names.

    Examples
    --------
    >>> _supports({"depth": [0.0, None], "lon": {"period": 360.0, "start": -180.0}})
    ['depth=0.0:', 'lon=periodic:360.0:-180.0']
    """
    if not isinstance(record, Mapping):
        return record
    texts = []
    for name, one in record.items():
        if isinstance(one, Mapping):
            numbers = ["periodic", one["period"], *([one["start"]] if "start" in one else [])]
        else:
            numbers = ["" if bound is None else bound for bound in one]
        texts.append(f"{name}=" + ":".join(map(str, numbers)))
    return texts


def _box(record: Mapping[str, Any]) -> str:
    """Return the box of a map as the value of an option.

    Examples
    --------
    >>> _box({"x": [0, 10.5], "day": ["2020-01-01", "2020-02-01"]})
    'x=0:10.5,day=2020-01-01:2020-02-01'
    """
    return ",".join(f"{name}={low}:{high}" for name, (low, high) in record.items())


def _cells(record: Any) -> Any:
    """Return numbers of cells as the value of an option.

    Examples
    --------
    >>> _cells([1280, 960]), _cells(100)
    ('1280x960', 100)
    """
    return "x".join(map(str, record)) if isinstance(record, list) else record


def _by_role(choices: Mapping[str, Any]) -> list[str]:
    """Return choices of rows for single sides as the values of an option.

    Examples
    --------
    >>> _by_role({"train": "year < 2020", "query": ["x", "y"]})
    ['train:year < 2020', 'query:x,y']
    """
    texts = {role: one if isinstance(one, str) else ",".join(one) for role, one in choices.items()}
    return [f"{role}:{text}" for role, text in texts.items()]


def _default(parameter: click.Parameter) -> Any:
    """Return the value of an option that is not given, as the record of a call has it."""
    if isinstance(parameter, click.Option) and parameter.is_flag:
        return False
    value = parameter.to_info_dict().get("default")
    # The number of folds is a text on the command line, as it may be a word.
    return int(value) if isinstance(value, str) and value.isdecimal() else value


def _data(call: Mapping[str, Any]) -> str:
    """Return DATA: the source of the call, or that of its training rows."""
    if call["source"] is not None:
        return _below(call["source"], call["folder"])
    train = call["arguments"].get("train") or ""
    found = _SOURCE.match(train)
    return found[1] if found else train


def _below(path: str, folder: str) -> str:
    """Return the path below the folder where names begin, if it lies there.

    Examples
    --------
    >>> _below("/home/me/study/data/a.zarr", "/home/me/study"), _below("/b.npy", "/home/me")
    ('data/a.zarr', '/b.npy')
    """
    inside = os.path.relpath(path, folder) if os.path.isabs(path) else path
    return path if inside.startswith("..") else inside
