"""``dkde index``, and what ``dkde import`` says of the order of rows."""

import numpy as np
import pytest


@pytest.mark.slow
def test_an_index_is_written_where_there_is_none(run):
    run("import", "digits", "d.zarr", "--no-index")
    assert " yes" not in run("info", "d.zarr").stdout
    assert run("index", "d.zarr", "--split", "train").stderr == (
        "d.zarr::train: index of 1 chunks\n"
    )
    assert " yes" in run("info", "d.zarr").stdout
    assert run("index", "d.zarr").stderr.count("index of") == 3
    assert "has no split 'none'" in run("index", "d.zarr", "--split", "none", status=2).stderr


def test_sorted_rows_are_not_shuffled(run):
    np.save("x.npy", np.random.default_rng(0).normal(size=(2000, 2)))
    refused = run("import", "x.npy", "d.zarr", "--order", "--shuffle-seed", "3", status=2)
    assert len(refused.stderr.splitlines()) == 1
    run("import", "x.npy", "d.zarr", "--order")
    assert "order True" in run("info", "d.zarr").stdout
