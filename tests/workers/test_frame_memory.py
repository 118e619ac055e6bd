"""A data frame of Dask that no worker could hold is scored within the planned memory."""

import resource
import sys

import numpy as np
import pandas as pd
import pytest

import dkde

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform == "win32", reason="no rusage")]

NAMES = list("abcdefgh")
ROWS, PARTITIONS = 78_000, 80  # 400 MB of features, and as much text


def made(number: int) -> pd.DataFrame:
    rng = np.random.default_rng(number)
    values = rng.normal(size=(ROWS, len(NAMES)))
    return pd.DataFrame(values, columns=NAMES).assign(note="a text that takes memory")


def peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def test_it_is_read_partition_by_partition():
    dd = pytest.importorskip("dask.dataframe")
    query, said = made(PARTITIONS)[:50], {"features": NAMES}
    lazy = dd.from_map(made, range(PARTITIONS), meta=query[:0])
    with dkde.connect(workers=2, memory_limit="1GB") as client:
        planned = dkde.plan(query=query, train=lazy, bandwidths=[1.0], **said)
        before = peak()
        result = dkde.score(query, lazy, 1.0, **said)
        # Neither this process nor a worker holds the frame, of about a gigabyte with its text.
        assert peak() - before < 200e6
        for used in client.run(peak).values():
            assert used < planned["peak_bytes_per_worker"] < 0.8e9
    some = pd.concat([made(number) for number in range(PARTITIONS // 16)])
    near = dkde.score(query, some, 1.0, **said)
    assert float(abs(result.mean_log_likelihood - near.mean_log_likelihood)[0]) < 0.05
