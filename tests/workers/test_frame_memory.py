"""A data frame of Dask that no worker could hold is scored within the planned memory."""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import dkde

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process's own peak"),
]

NAMES = list("abcdefgh")
ROWS, PARTITIONS = 78_000, 80  # 400 MB of features, and as much text


def made(number: int) -> pd.DataFrame:
    rng = np.random.default_rng(number)
    values = rng.normal(size=(ROWS, len(NAMES)))
    return pd.DataFrame(values, columns=NAMES).assign(note="a text that takes memory")


def peak() -> int:
    # The largest memory that getrusage tells is that of the process that started this one, too.
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


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
