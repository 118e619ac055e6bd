"""Things that blocks share are made once, and given up when nobody needs them."""

import threading
import time
from typing import Any

import pytest

from dkde.engine.shelf import Shelf


class Thing:
    """To which weak references can be made."""


def kept(shelf: Shelf, key: tuple[Any, ...], others: bool = True) -> Thing:
    return shelf.get(key, Thing, others=others)


def test_of_several_threads_one_makes_it_and_the_others_wait() -> None:
    shelf, made, found = Shelf(), [], []

    def make() -> Thing:
        time.sleep(0.05)
        made.append(Thing())
        return made[-1]

    def ask() -> None:
        found.append(shelf.get(("run", "tree", 0), make, others=True))

    threads = [threading.Thread(target=ask) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1
    assert found == 5 * made


def test_others_of_the_kind_are_dropped_unless_they_are_in_use() -> None:
    shelf = Shelf()
    first = kept(shelf, ("run", "tree", 0), others=False)
    kept(shelf, ("run", "tree", 1), others=False)
    assert kept(shelf, ("run", "tree", 0), others=False) is first
    number = id(first)
    del first
    kept(shelf, ("run", "tree", 1), others=False)
    assert set(shelf._kept) == {("run", "tree", 1)}
    assert number  # freed: what is made now may well lie there


def test_other_kinds_and_panels_stay() -> None:
    shelf = Shelf()
    things = {key: kept(shelf, key) for key in [("run", "a", 0), ("run", "a", 1), ("run", "b", 0)]}
    assert all(kept(shelf, key) is thing for key, thing in things.items())


def test_of_old_runs_nothing_is_kept() -> None:
    shelf = Shelf()
    for number in range(20):
        kept(shelf, (number, "tree", 0))
    assert {key[0] for key in shelf._kept} == {18, 19}


def test_a_run_is_dropped() -> None:
    shelf = Shelf()
    kept(shelf, (1, "tree", 0))
    kept(shelf, (2, "tree", 0))
    shelf.drop(1)
    assert set(shelf._kept) == {(2, "tree", 0)}


def test_without_requests_everything_goes() -> None:
    shelf = Shelf(idle=0.05)
    kept(shelf, (1, "tree", 0))
    for _ in range(100):
        if not shelf._kept:
            break
        time.sleep(0.02)
    assert not shelf._kept


def test_an_error_is_raised_and_the_next_one_tries_again() -> None:
    shelf = Shelf()

    def fail() -> Thing:
        raise OSError("no such luck")

    with pytest.raises(OSError, match="no such luck"):
        shelf.get(("run", "tree", 0), fail, others=True)
    assert isinstance(kept(shelf, ("run", "tree", 0)), Thing)
