"""What a result says of how it was done: the method, the pairs evaluated, the rows read."""

import json
from pathlib import Path
from typing import Any
from unittest import mock

import dask.array as da
import numpy as np
import pytest

import dkde
from dkde.datasets import writing
from dkde.engine import reads
from dkde.rows import row_source

N_TRAIN = 9000


def flat(rows: int, d: int, seed: int) -> Any:
    return np.random.default_rng(seed).standard_normal((rows, d))


def faces(rows: int, seed: int) -> Any:
    """Rows of 100 features, most of whose variance lies along few directions."""
    return flat(rows, 100, seed) * np.geomspace(10, 0.01, 100)


def method(result: Any, work: str = "score") -> str:
    return str(json.loads(result.attrs["provenance"])[work]["method"])


def effort(result: Any, prefix: str = "") -> tuple[Any, Any]:
    """Pairs evaluated and rows read, of each query row."""
    found = [result[f"{prefix}{name}"] for name in ("pairs_evaluated", "rows_read")]
    for variable in found:
        assert variable.dims == (f"{prefix}sample",)
        assert variable.dtype == np.int64
        assert variable.attrs["units"] == "1"
    return found[0].values, found[1].values


@pytest.fixture
def sorted_store(tmp_path: Path) -> Path:
    """Sorted rows of three features in twelve clusters, about 80 chunks of them."""
    rng = np.random.default_rng(0)
    rows = (30 * rng.standard_normal((12, 3)))[rng.integers(12, size=40_000)]
    np.save(tmp_path / "x.npy", rows + rng.standard_normal(rows.shape))
    with mock.patch.object(writing, "_CHUNK_BYTES", 4096 * 3):
        dkde.import_dataset(tmp_path / "x.npy", tmp_path / "x.zarr", order=True)
    return tmp_path / "x.zarr"


@pytest.mark.parametrize("panel_rows", [None, 300])
def test_all_pairs_are_all(panel_rows: int | None) -> None:
    result = dkde.score(flat(50, 5, 0), flat(1000, 5, 1), [0.5, 1.0], panel_rows=panel_rows)
    for count in effort(result):
        np.testing.assert_array_equal(count, 1000)
    assert method(result) == "pairs of near leaves"


def test_near_pairs_are_few_and_all_rows_are_read() -> None:
    train = faces(N_TRAIN, 0)
    result = dkde.score(train[:600] + 0.01, train, 0.5)
    pairs, read = effort(result)
    assert method(result).startswith("near pairs, by bounds in ")
    assert pairs.min() >= 1
    assert pairs.mean() < 0.2 * N_TRAIN
    np.testing.assert_array_equal(read, N_TRAIN)


@pytest.mark.slow
def test_expansions_evaluate_no_pair_but_for_far_rows() -> None:
    query = np.concatenate([flat(3000, 2, 0), [[9.0, 9.0], [-9.0, 9.0]]])
    result = dkde.score(query, flat(60_000, 2, 1), 0.2)
    pairs, read = effort(result)
    assert method(result) == "expansions"
    assert (pairs == 0).mean() > 0.9
    # Rows that are summed directly are read for that too.
    direct = pairs > 0
    assert direct[-2:].all()
    np.testing.assert_array_equal(read, np.where(direct, 120_000, 60_000))


@pytest.mark.slow
def test_an_expansion_that_is_given_up_was_read_for() -> None:
    query, train = flat(3000, 2, 0), flat(60_000, 2, 1)
    with mock.patch("dkde.engine.cells.MOMENT_BYTES", {2: 2**25 + 2**10}):
        pairs, read = effort(dkde.score(query, train, 0.2))
    assert (pairs > 0).all()
    np.testing.assert_array_equal(read, 120_000)


@pytest.mark.slow
@pytest.mark.parametrize("rows", [300, 20])
def test_rows_read_are_those_that_were(sorted_store: Path, rows: int) -> None:
    query = np.load(sorted_store.parent / "x.npy")
    query = query[np.argsort(query[:, 0])[:rows]]
    read = []

    def counted(*arguments: Any) -> Any:
        read.append(arguments[2] - arguments[1])
        return read_present(*arguments)

    read_present = reads.read_present
    with (
        mock.patch.object(reads, "read_present", counted),
        mock.patch.object(row_source, "READ_BYTES", 1),  # a chunk at a time
    ):
        found = effort(dkde.score(query, "train", 1.0, source=sorted_store, kernel="epanechnikov"))[
            1
        ]
    np.testing.assert_array_equal(found, sum(read))
    assert (found < 40_000).all()  # also of rows so few that no survey is made


def test_of_a_sweep() -> None:
    result = dkde.sweep(
        train=flat(900, 4, 0), valid=flat(30, 4, 1), test=flat(40, 4, 2), bandwidths=[0.1, 0.6, 3]
    )
    for prefix, rows in (("", 30), ("test_", 40)):
        for count in effort(result, prefix):
            np.testing.assert_array_equal(count, np.full(rows, 900))
    assert method(result, "valid") == method(result, "test") == "pairs of near leaves"


@pytest.mark.parametrize("refine", [False, True])
def test_of_a_cross_validation(refine: bool) -> None:
    result = dkde.cross_validate(flat(300, 4, 0), [0.3, 0.6, 1.2], refine=refine)
    for count in effort(result):
        np.testing.assert_array_equal(count, 300)  # of the pass over the grid
    assert method(result, "cross_validate") == "pairs of near leaves"


@pytest.mark.slow
def test_a_run_that_goes_on_has_the_same(tmp_path: Path) -> None:
    train = faces(N_TRAIN, 0)
    call = {"block_rows": 100, "panel_rows": 4000}
    expected = dkde.score(train[:600] + 0.01, train, 0.5, **call)

    class Stop(Exception):
        pass

    calls: list[int] = []

    def stop(done: int, total: int) -> None:
        calls.append(done)
        if len(calls) == 5:
            raise Stop

    path = tmp_path / "r.zarr"
    with pytest.raises(Stop):
        dkde.score(train[:600] + 0.01, train, 0.5, output=path, progress=stop, **call)
    for _ in range(2):  # going on, and found complete
        result = dkde.score(train[:600] + 0.01, train, 0.5, output=path, **call)
        for found, count in zip(effort(result), effort(expected), strict=True):
            np.testing.assert_array_equal(found, count)
        assert method(result) == method(expected)


def test_a_run_whose_blocks_were_all_done_names_the_method(tmp_path: Path) -> None:
    rows, path = flat(50, 3, 0), tmp_path / "r.zarr"
    with (
        mock.patch("dkde.runs.run.publish_store", side_effect=KeyboardInterrupt),
        pytest.raises(KeyboardInterrupt),
    ):
        dkde.score(rows + 1, rows, 0.5, output=path)
    with mock.patch(
        "dkde.engine.eager_run.score_share", side_effect=AssertionError
    ):  # no block again
        assert method(dkde.score(rows + 1, rows, 0.5, output=path)) == "pairs of near leaves"


class TestPlans:
    def test_name_the_method(self) -> None:
        train = faces(N_TRAIN, 0)
        query = train[:600] + 0.01
        cost = dkde.plan(query=query, train=train, bandwidths=0.5, baseline=False)
        assert cost["method"] == method(dkde.score(query, train, 0.5))
        assert 0 < cost["seconds"] < cost["seconds_all_pairs"]

    @pytest.mark.slow
    def test_of_expansions(self) -> None:
        cost = dkde.plan(
            query=flat(3000, 2, 0), train=flat(60_000, 2, 1), bandwidths=0.2, baseline=False
        )
        assert cost["method"] == "expansions"
        assert 0 < cost["seconds"] < cost["seconds_all_pairs"]

    def test_of_few_rows(self) -> None:
        query, train = flat(40, 100, 0), flat(200, 100, 1)
        cost = dkde.plan(query=query, train=train, bandwidths=10.0, baseline=False)
        assert cost["method"] == "all pairs"
        assert cost["seconds"] == cost["seconds_all_pairs"]

    def test_of_leaves(self) -> None:
        query, train = flat(600, 5, 0), flat(N_TRAIN, 5, 1)
        cost = dkde.plan(query=query, train=train, bandwidths=0.2, baseline=False)
        result = dkde.score(query, train, 0.2)
        assert cost["method"].startswith(f"{method(result)}, about ")
        share = float(cost["method"].split()[-4][:-1]) / 100
        assert share == pytest.approx(effort(result)[0].mean() / N_TRAIN, rel=0.5)

    @pytest.mark.parametrize("lazy", ["query", "train"])
    def test_compute_nothing_of_what_is_lazy(self, lazy: str) -> None:
        def fail(block: Any) -> Any:
            raise AssertionError

        sides = {"query": flat(600, 3, 0), "train": flat(N_TRAIN, 3, 1)}
        sides[lazy] = da.from_array(sides[lazy]).map_blocks(
            fail, dtype=float, meta=np.empty((0, 0))
        )
        cost = dkde.plan(**sides, bandwidths=0.5, baseline=False)
        assert cost["method"] == "chosen from a sample when it runs"
        assert cost["seconds"] == cost["seconds_all_pairs"]
