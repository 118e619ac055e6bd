"""How much a call read of each side, as its result says it."""

import json
import logging
from unittest import mock

import numpy as np
import pytest

import dkde
from dkde.engine import eager_run
from dkde.rows.tally import BytesRead, bytes_read_of, counting, note, query_rows_read
from dkde.runs.reading import reading_noted
from dkde.runs.sessions import Session, total_read


@pytest.fixture
def store(tmp_path, monkeypatch):
    """A data set of 400 + 100 rows of three features, in chunks of 40 rows."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("dkde.datasets.writing.chunk_rows", lambda row_bytes: 40)
    rng = np.random.default_rng(0)
    rows = {"train": rng.standard_normal((400, 3)), "query": rng.standard_normal((100, 3))}
    dkde.import_rows({name: [x] for name, x in rows.items()}, "d.zarr", index=False)
    return "d.zarr"


def noted(result):
    return json.loads(result.attrs["bytes_read"])


@pytest.mark.slow
@pytest.mark.parametrize("output", [None, "r.zarr"])
def test_a_result_says_how_much_was_read(store, output):
    found = dkde.score(
        query="query", train="train", source=store, bandwidth=0.5,
        block_rows=40, panel_rows=200, output=output,
    )  # fmt: skip
    read = noted(found)["score"]
    assert read["query"] == [100 * 24, 100 * 24]
    # A panel at most once for each of the three query blocks: threads share what they read.
    assert read["train"][0] in range(400 * 24, 3 * 400 * 24 + 1, 200 * 24)
    assert read["train"][1] == 400 * 24


def test_matrix_products_count_what_they_read(store):
    x = np.random.default_rng(0).standard_normal((100, 97))
    dkde.import_rows([x], "wide.zarr", index=False)
    found = dkde.score(query="train[:50]", train="train[60:]", source="wide.zarr", bandwidth=9.0)
    nbytes = 8 * 97
    assert noted(found)["score"]["query"] == [80 * nbytes, 80 * nbytes]
    assert noted(found)["score"]["train"] == [60 * nbytes, 60 * nbytes]


def test_rows_in_memory_are_not_read():
    x = np.random.default_rng(0).standard_normal((50, 2))
    assert "bytes_read" not in dkde.score(query=x[:20], train=x[20:].copy(), bandwidth=0.5).attrs


def test_parts_of_chunks_count_as_whole_ones(store):
    found = dkde.score(query="query[30:50]", train="train", source=store, bandwidth=0.5)
    assert noted(found)["score"]["query"] == [80 * 24, 80 * 24]


@pytest.mark.slow
def test_a_run_that_was_resumed_counts_all_sessions(store):
    call = {
        "query": "query", "train": "train", "source": store, "bandwidth": 0.5, "block_rows": 40,
    }  # fmt: skip
    whole = noted(dkde.score(**call, output="whole.zarr"))
    done = []
    score_share = eager_run.score_share

    def stops_after_two(*arguments):
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(0)
        return score_share(*arguments)

    stopped = mock.patch.object(eager_run, "score_share", stops_after_two)
    with stopped, pytest.raises(KeyboardInterrupt):
        dkde.score(**call, output="r.zarr")
    resumed = noted(dkde.score(**call, output="r.zarr"))["score"]
    assert resumed["query"][1] == whole["score"]["query"][1]
    assert resumed["train"][0] >= resumed["train"][1]
    assert resumed["query"][0] >= whole["score"]["query"][0]


def test_the_log_of_blocks_counts_what_was_read(store, caplog):
    with caplog.at_level(logging.DEBUG, logger="dkde.blocks"):
        found = dkde.score(query="query", train="train", source=store, bandwidth=0.5)
    lines = [record.dkde["bytes_read"] for record in caplog.records if hasattr(record, "dkde")]
    assert sum(lines) == sum(read for read, _ in noted(found)["score"].values())


def test_counts_of_both_sides():
    with counting() as tally:
        note(5)
        with query_rows_read():
            note(7)
        note(1)
    note(100)  # nobody counts
    assert tally.found == BytesRead(7, 6)
    assert tally.found.plus(BytesRead(1, 1)) == BytesRead(8, 7)


def test_counts_of_a_session_that_are_none():
    assert bytes_read_of({"score": [1, 2], "x": "y", "z": [1, None]}) == {"score": (1, 2)}
    assert bytes_read_of(None) == {}
    record = {"id": "a", "host": "h", "pid": 1, "started": 0.0, "seen": 1.0}
    one = Session.of(record | {"read": {"score": [1, 2]}})
    assert total_read([one, one, Session.of(record)]) == {"score": BytesRead(2, 4)}


def test_what_is_noted_of_sides_in_memory():
    assert reading_noted({}, {"score": BytesRead()}) == {}
