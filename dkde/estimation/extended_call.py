"""The call of a result to which rows are added: that of its record, with more rows on its sides."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from dkde.datasets.formats.files import is_pattern
from dkde.errors import Argument, DataSetError, InputError, MessagePart
from dkde.estimation.bandwidth_matrix import RULES
from dkde.inputs.grammar import Term, parse

# The sides to which rows are added, by the function of the call: training and scored rows.
SIDES = {
    "score": ("train", "query"), "sweep": ("train", "valid"), "cross_validate": ("train", "train"),
}  # fmt: skip
_FROM_ROWS = ("diag", "full")
# A text with one of these names a file or a folder rather than a split.
_FILE = re.compile(r"[./\\]")


@dataclass(frozen=True)
class Added:
    """The rows to add, as selectors that mean the same in any folder.

    Parameters
    ----------
    train, query : str or None
    places : mapping of str to str
        The files and stores that they name: these are what the user trusts.
    """

    train: str | None
    query: str | None
    places: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, train: Any, query: Any, call: Mapping[str, Any]) -> Added:
        """Return rows as the user gave them; names of splits are those of the call's source.

        Raises
        ------
        InputError
            When there are none, or they are not given by selectors; when the call scores its
            training rows, and others are given.
        """
        if train is None and query is None:
            raise InputError("no rows to add are named; give ", Argument("train"), " or ",
                             Argument("query"))  # fmt: skip
        if query is not None and call["function"] == "cross_validate":
            raise InputError(
                "a cross-validation scores its training rows; give the rows to add as ",
                Argument("train"), " alone",
            )  # fmt: skip
        places: dict[str, str] = {}
        source = call["source"]
        return cls(
            _in_any_folder(train, "train", source, places),
            _in_any_folder(query, "query", source, places),
            places,
        )

    @property
    def roles(self) -> tuple[str, ...]:
        """Return the sides to which rows are added."""
        given = {"train": self.train, "query": self.query}
        return tuple(role for role, selector in given.items() if selector is not None)

    def to(self, call: Mapping[str, Any], n_train: int, tol: float | None) -> dict[str, Any]:
        """Return a call with these rows after its own.

        Parameters
        ----------
        n_train : int
            The number of training rows from which the call derives what it does not name.
        tol : float, optional
            The tolerance of the new sums; by default that of the call.
        """
        arguments = dict(call["arguments"])
        for side, more in zip(SIDES[call["function"]], (self.train, self.query), strict=True):
            if more is not None:
                arguments[side] = f"{arguments[side]}+{more}"
        if tol is not None:
            arguments["tol"] = float(tol)
        return {**call, "arguments": arguments, "derived_from": n_train}


def _in_any_folder(given: Any, name: str, source: str | None, places: dict[str, str]) -> str | None:
    """Return a selector with whole paths, if there is one; note these."""
    if given is None:
        return None
    if not isinstance(given, str | os.PathLike):
        raise InputError(
            Argument(name), f" is a {type(given).__name__}; rows are added by selectors of files "
            "or stores, which a result can record: write the rows to one of these first",
        )  # fmt: skip
    exists = os.path.lexists
    terms = parse(os.fspath(given), exists=exists, is_file=exists)
    return "+".join(_term_in_any_folder(term, source, places) for term in terms)


def _term_in_any_folder(term: Term, source: str | None, places: dict[str, str]) -> str:
    name = term.source or term.split
    is_split = term.source is None and source is not None and not _FILE.search(name)
    if is_split or name == "digits":
        return _written(term)
    if "://" not in name:
        name = os.path.abspath(os.path.expanduser(name))
        if not os.path.lexists(name) and not is_pattern(name):
            raise DataSetError(f"{name}: is not there")
    places[name] = name
    return _written(replace(term, source=name) if term.source else replace(term, split=name))


def _written(term: Term) -> str:
    return f"{term.source}::{term.split}{term.chosen}" if term.source else term.split + term.chosen


def check_extendable(name: str, call: Mapping[str, Any]) -> None:
    """Refuse results whose figures do not follow from the log-densities of their rows.

    Parameters
    ----------
    name : str
        The name of the result, for messages.
    call : mapping
        The call that made it.

    Raises
    ------
    InputError
    """
    why = next(_reasons(call), None)
    if why is not None:
        raise InputError(f"{name}: cannot be extended, as ", *why, "; make it anew of all rows")


def _reasons(call: Mapping[str, Any]) -> Iterator[tuple[MessagePart, ...]]:
    """Yield why rows cannot be added to the result of a call."""
    if call["function"] not in SIDES:
        yield (f"it is a result of {call['function']}, and not of a score, sweep or cv",)
    given = call["arguments"]
    for argument, why in (
        ("by", " divides all rows into densities"),
        ("contamination", " has a threshold from all training rows under each other"),
        ("adaptive", " has bandwidths from a pilot of all training rows"),
        ("atol", " is absolute, and bounds that add up are relative"),
        ("protocol", " says which rows there are"),
        ("refine", " searches between bandwidths, and what it passed is not kept"),
        ("per_feature", " searches along features, and what it passed is not kept"),
    ):
        if given.get(argument):
            yield Argument(argument), why
    if given.get("criterion") not in (None, "likelihood"):
        yield Argument("criterion", given["criterion"]), " takes a pass that is not kept"
    if call["function"] == "cross_validate":
        folds = given.get("folds", 5)
        if not isinstance(folds, str):
            yield ("its folds are others with more rows; leave-one-out and folds by a column stay",)


def derived_in(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a call with some arguments derives from its training rows, by argument.

    Examples
    --------
    >>> derived_in({"bandwidth": ["scott", 0.5], "covariance": "full"})
    {'bandwidth': 'scott', 'covariance': 'full'}
    >>> derived_in({"bandwidth": 0.5})
    {}
    """
    found: dict[str, Any] = {}
    name = "bandwidth" if "bandwidth" in given else "bandwidths"
    asked = given.get(name)
    each = list(asked.values()) if isinstance(asked, Mapping) else asked
    each = each if isinstance(each, list | tuple) else [each]
    rules = [h for h in each if isinstance(h, str) and h in RULES]
    if asked is None:
        found[name] = "a grid around the scale of the rows"
    elif rules:
        found[name] = ", ".join(map(str, rules))
    if isinstance(given.get("covariance"), str) and given["covariance"] in _FROM_ROWS:
        found["covariance"] = given["covariance"]
    if given.get("pca") is not None:
        found["pca"] = given["pca"]
    return found
