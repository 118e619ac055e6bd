"""Messages that name arguments: their text, and that they travel between processes whole."""

import pickle

import pytest

import dkde
from dkde.errors import Argument, DataSetError, Message, Remedy, warn

PARTS = ("set ", Argument("nan", "drop"), ", or begin anew ", Remedy("restart"))
TEXT = 'set nan="drop", or begin anew (restart)'


def names(message):
    return [part.name for part in message.parts if not isinstance(part, str)]


def test_a_message_is_its_text_and_knows_its_arguments():
    error = dkde.InputError(*PARTS)
    assert str(error) == TEXT
    assert names(error.message) == ["nan", "restart"]
    assert error.message.spelled(lambda part: str(getattr(part, "name", part))) == (
        "set nan, or begin anew restart"
    )


def test_one_message_within_another():
    outer = dkde.DataSetError("a.csv: ", dkde.InputError(*PARTS).message)
    assert str(outer) == f"a.csv: {TEXT}"
    assert names(outer.message) == ["nan", "restart"]


def test_it_comes_whole_from_another_process():
    found = pickle.loads(pickle.dumps(dkde.InputError(*PARTS)))
    assert (str(found), names(found.message)) == (TEXT, ["nan", "restart"])
    remedy = Message(Argument("retry_failed"), " takes them up again")
    kept = pickle.loads(pickle.dumps(dkde.IncompleteError("2 blocks failed", remedy=remedy)))
    assert str(kept) == "2 blocks failed; retry_failed takes them up again"
    assert (kept.missing, kept.remedy) == ("2 blocks failed", remedy)
    assert names(kept.remedy) == ["retry_failed"]


def test_a_message_is_one_line_whatever_names_hold():
    error = DataSetError("a\r\n  b.csv: is gone\u2028; begin it anew ", Remedy("restart"))
    assert str(error) == "a b.csv: is gone ; begin it anew (restart)"
    assert error.message.parts[0] == "a b.csv: is gone ; begin it anew "
    with pytest.warns(UserWarning, match="^one two$"):
        warn("one\ntwo")
