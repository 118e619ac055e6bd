"""Whatever request fails while something is written into a bucket: old, new or none; one line."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bucket_faults import KINDS, bucket_faults, count_requests, lost_answers

from dkde.datasets.dataset import open_splits
from dkde.datasets.index import index_dataset
from dkde.errors import DataSetError, DkdeError
from dkde.inputs.importing import import_dataset
from dkde.stores.objects import drafted_object, look_at_object
from dkde.stores.publishing import write_whole
from dkde.stores.store import Records, open_store

# Zarr gives up the rest of several writes where one fails.
pytestmark = pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")
A, B = np.arange(12.0).reshape(6, 2), -np.arange(8.0).reshape(4, 2)
UNFINISHED = "unfinished"

# Every request takes half an hour; without the variable one in twenty is met.
STEP = 1 if os.environ.get("DKDE_ALL_FAULTS") else 20


def rows_at(url: str) -> Any:
    """The rows of a data set; None where nothing is."""
    if not Records(open_store(url), url).keys(""):
        return None
    try:
        return {name: split.x[:].tolist() for name, split in open_splits(url).items()}
    except DataSetError:
        return UNFINISHED


def content_at(url: str) -> Any:
    """The content of a file; None where there is none."""
    above, _, name = url.rpartition("/")
    return Records(open_store(above), above).get(name)


class Trial:
    """Something that is written over something else, in a bucket.

    Parameters
    ----------
    act, before : callable
        They write the new one, and the old one.
    see : callable
        What readers see.
    """

    def __init__(
        self,
        act: Callable[[], Any],
        before: Callable[[], Any],
        see: Callable[[], Any],
        url: str,
    ) -> None:
        self.url = url
        self.act, self.before, self.see = act, before, see
        before()
        self.old = see()
        self.n = count_requests(act)
        self.new, self.new_keys = see(), self.keys()

    def keys(self) -> list[str]:
        return sorted(self.records().keys(""))

    def records(self) -> Records:
        return Records(open_store(self.url), self.url)

    def clear(self) -> None:
        self.records().delete_all("")

    def check(self, fault: Callable[[], Any], *, is_file: bool = False) -> Any:
        self.clear()
        self.before()
        refused = None
        try:
            with fault() as log:
                self.act()
        except DkdeError as error:
            refused = str(error)
            assert "\n" not in refused
        found = self.see()
        if log.done:
            assert found == self.new
        else:
            # There a data set that is replaced goes before the new one comes.
            between = () if is_file else (UNFINISHED, None)
            assert found in (self.old, self.new, *between)
            assert log.dead or refused is not None
        self.act()
        assert self.see() == self.new
        assert self.keys() == self.new_keys
        return log


@pytest.fixture
def over(bucket: str, tmp_path: Path) -> Trial:
    """An import over another."""
    np.save(tmp_path / "a.npy", A)
    np.save(tmp_path / "b.npy", B)
    url = f"{bucket}/s.zarr"
    return Trial(
        lambda: import_dataset(tmp_path / "b.npy", url, overwrite=True, index=False),
        lambda: import_dataset(tmp_path / "a.npy", url, overwrite=True, index=False),
        lambda: rows_at(url),
        bucket,
    )


@pytest.fixture
def file(bucket: str) -> Trial:
    url = f"{bucket}/s.csv"
    return Trial(
        lambda: write_whole(url, b"new"),
        lambda: write_whole(url, b"old"),
        lambda: content_at(url),
        bucket,
    )


@pytest.fixture
def index(bucket: str, tmp_path: Path) -> Trial:
    np.save(tmp_path / "a.npy", A)
    url = f"{bucket}/s.zarr"
    return Trial(
        lambda: index_dataset(url),
        lambda: import_dataset(tmp_path / "a.npy", url, overwrite=True),
        lambda: rows_at(url),
        bucket,
    )


@pytest.mark.sampled(5)
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "delay"])
def test_every_request_of_a_file(file, kind):
    for k in range(1, file.n + 1):
        assert file.check(partial(bucket_faults, kind, k), is_file=True).fired


@pytest.mark.sampled(3)
@pytest.mark.parametrize(("kind", "from_end"), [("before", 20), ("after", 0), ("kill after", 9)])
def test_some_requests_of_an_import(over, kind, from_end):
    assert over.check(partial(bucket_faults, kind, over.n - from_end)).fired


@pytest.mark.slow
@pytest.mark.parametrize("name", ["file", "over"])
def test_an_answer_is_lost(request, name, served):
    """The client asks again: what it finds is its own."""
    trial = request.getfixturevalue(name)
    log = trial.check(partial(lost_answers, served, 1), is_file=name == "file")
    assert log.fired
    assert log.done


@pytest.mark.slow  # the client waits before it asks again
@pytest.mark.parametrize("there", [None, b"old"])
def test_the_answer_of_a_write_that_replaces_nothing_else_is_lost(bucket, served, there):
    url = f"{bucket}/s.csv"
    if there is not None:
        write_whole(url, there)
    seen = look_at_object(url)
    with lost_answers(served, 1) as log, drafted_object(url, seen) as draft:
        draft.write_bytes(b"new")
    assert log.fired
    assert content_at(url) == b"new"
    # What another process wrote meanwhile still stays.
    with (
        pytest.raises(DataSetError, match="by another process"),
        drafted_object(url, seen) as draft,
    ):
        draft.write_bytes(b"newer")
    assert content_at(url) == b"new"


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_every_request_of_an_import(over, kind):
    for k in range(1, over.n + 1, STEP):
        assert over.check(partial(bucket_faults, kind, k)).fired


@pytest.mark.slow
def test_every_answer_of_an_import_is_lost(over, served):
    k, log = 0, None
    while log is None or log.fired:
        k += STEP
        log = over.check(partial(lost_answers, served, k))
        assert log.done


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["before", "after", "kill before"])
def test_requests_of_an_index(index, kind):
    for k in range(1, index.n + 1, STEP):
        index.check(partial(bucket_faults, kind, k))
