"""A CSV file that is not held whole: opened and scored within the memory that is planned."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pa = pytest.importorskip("pyarrow")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.alone,
    pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process's own peak"),
]

MEASURED = """
import json, sys, warnings
from pathlib import Path

import dkde
from dkde.inputs.selectors import Catalog
from dkde.rows.csv_source import CsvSource
from dkde.workers.cluster import warm_up

query, train = sys.argv[1:]
warnings.simplefilter("ignore")

def of_status(name):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))

def taken(call):
    before = of_status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    found = call()
    return of_status("VmHWM") - before, found

dkde.score(query, query, 0.1)  # the libraries take memory too
warm_up()
opening, rows = taken(lambda: Catalog().rows(train))
assert isinstance(rows.parts[0].source, CsvSource)
scoring, result = taken(lambda: dkde.score(query, train, 0.1))
cost = dkde.plan(query=query, train=train, bandwidths=[0.1], baseline=False)
planned = cost["block_bytes"] * cost["threads"] + cost["resident_bytes"] + cost["answer_bytes"]
print(json.dumps({"opening": opening, "scoring": scoring, "planned": planned,
                  "rows": rows.n_rows, "sum": float(result.log_density.sum())}))
"""


def test_a_large_file_takes_what_is_planned(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    n, piece, names = 6_000_000, 500_000, list("abcd")
    from pyarrow import csv

    schema = pa.schema([(name, pa.float64()) for name in names])
    with csv.CSVWriter(tmp_path / "x.csv", schema) as writer:
        for _ in range(n // piece):
            values = rng.standard_normal((piece, len(names))).round(4)
            columns = [np.ascontiguousarray(column) for column in values.T]
            writer.write(pa.table(columns, names))
    assert (tmp_path / "x.csv").stat().st_size > 2**27
    query = rng.standard_normal((200, len(names)))
    np.savetxt(tmp_path / "q.csv", query, delimiter=",", header=",".join(names), comments="")
    call = [sys.executable, "-c", MEASURED, str(tmp_path / "q.csv"), str(tmp_path / "x.csv")]
    found = json.loads(subprocess.run(call, capture_output=True, text=True, check=True).stdout)
    print(found)
    assert found["rows"] == n
    # Loaded, the rows alone would take this; as text they are about as much.
    held = n * len(names) * 8
    assert found["opening"] < 0.65 * held  # most of it is the same for any file
    assert found["scoring"] < found["planned"]
    (tmp_path / "x.csv").unlink()
