"""Runs whose data sets and results lie in a bucket: the same to the last bit as on disk."""

import json
import os
import pickle
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import zarr
from buckets import KEY_ID, SECRET
from click.testing import CliRunner
from dkde_cli.main import cli
from processes import tied
from zarr.storage import ObjectStore

import dkde
from dkde.rows.sources import ZarrSource
from dkde.stores.store import Records, open_store
from dkde.workers.cluster import _place

TRAIN, VALID, FEATURES, CHUNK = 1200, 240, 16, 100
GRID = [0.5, 1.0, 2.0, 4.0]


def rows_of(n_rows, seed):
    return np.random.default_rng(seed).standard_normal((n_rows, FEATURES)).astype(np.float32)


@pytest.fixture
def source(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DASK_LOGGING", "{}")
    monkeypatch.setattr("dkde.datasets.writing._CHUNK_BYTES", CHUNK * FEATURES * 4)
    np.savez("a.npz", train=rows_of(TRAIN, 0), valid=rows_of(VALID, 1), test=rows_of(50, 2))
    return "a.npz"


@pytest.fixture
def data(source, bucket):
    """A data set of 12 chunks of training rows, in a bucket."""
    dkde.import_dataset(source, f"{bucket}/a.zarr")
    return f"{bucket}/a.zarr"


@pytest.fixture
def sweep(data):
    def call(source=data, **options):
        cut = {"block_rows": 60, "panel_rows": 600} | options
        return dkde.sweep(
            train="train", valid="valid", test="test", bandwidths=GRID, source=source, **cut
        )

    return call


def command(*arguments, status=0):
    result = CliRunner().invoke(cli, [str(argument) for argument in arguments])
    assert result.exit_code == status, result.output
    return result


def contents(url):
    """All that lies below a URL, by key."""
    records = Records(open_store(url, read_only=True), url)
    return {key: records.get(key) for key in records.keys("")}


def same(a, b):
    assert set(a.data_vars) == set(b.data_vars)
    for name in a.data_vars:
        np.testing.assert_array_equal(a[name].values, b[name].values)


# ---- the same as on disk ----


@pytest.mark.slow
def test_a_sweep_is_the_same_as_of_a_file(data, source, bucket, sweep):
    there, here = sweep(output=f"{bucket}/r.zarr"), sweep(source)
    same(there, here)
    same(sweep(output=f"{bucket}/r.zarr"), here)  # it is complete, and read
    provenance = json.loads(there.attrs["provenance"])
    assert provenance["valid"]["train"]["parts"][0]["name"] == f"{data}::train"
    assert dkde.status(f"{bucket}/r.zarr")["complete"]
    assert dkde.verify(f"{bucket}/r.zarr")["blocks"] == 4


@pytest.mark.slow
def test_a_run_in_parts(data, source, bucket, sweep):
    url = f"{bucket}/r.zarr"
    with dkde.init_only():
        sweep(output=url)
    dkde.run_part(url, 1, 2)
    assert dkde.status(url)["stages"]["valid"]["done"] == 4
    with pytest.raises(dkde.IncompleteError, match=r"all of part 0; run: dkde.run_part"):
        dkde.finish(url)
    dkde.run_part(url, 0, 2)
    same(dkde.finish(url), sweep(source))


@pytest.mark.slow
def test_a_result_of_selectors_of_urls_is_verified(data, bucket):
    dkde.score(f"{data}::valid[:50]", f"{data}::train+{data}::test", 1.0, output=f"{bucket}/R.zarr")
    assert dkde.verify(f"{bucket}/R.zarr", trust_sources=True)["exact"]


@pytest.mark.slow
def test_another_content_is_refused(data, source, bucket, sweep, monkeypatch):
    sweep(output=f"{bucket}/r.zarr")
    np.savez("b.npz", train=rows_of(TRAIN, 5), valid=rows_of(VALID, 1), test=rows_of(50, 2))
    dkde.import_dataset("b.npz", data, overwrite=True)
    with pytest.raises(dkde.DataSetError, match=r"was begun otherwise: .*train"):
        sweep(output=f"{bucket}/r.zarr")


@pytest.mark.slow
def test_import_info_and_sweep(data, source, bucket, tmp_path):
    url = f"{bucket}/b.zarr"
    command("import", source, url)
    assert "exists already" in command("import", source, url, status=2).stderr
    assert url in command("info", url).stdout
    asked = ["--bandwidths", "0.5,1,2", "--json", "--no-plot", "--no-test"]
    a, b = (json.loads(command("sweep", where, *asked).stdout) for where in (url, source))
    assert a["valid"] == b["valid"]
    assert sorted(os.listdir(tmp_path)) == ["a.npz"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "asked"),
    [
        ("score", ["--bandwidth", "1", "--query", "valid"]),
        ("cv", ["--bandwidths", "0.5,1,2", "--train", "train[:300]"]),
        ("plan", ["--query", "valid", "--bandwidths", "1"]),
    ],
)
def test_commands_say_the_same(data, source, name, asked):
    a, b = (json.loads(command(name, where, *asked, "--json").stdout) for where in (data, source))
    for key in ("mean_log_likelihood", "best_bandwidth", "blocks"):
        assert a.get(key) == b.get(key)
    assert {"mean_log_likelihood", "best_bandwidth", "blocks"} & set(a)


@pytest.mark.slow
def test_samples_go_to_a_bucket(data, bucket):
    sampled = f"{bucket}/s.zarr"
    draw = ["sample", data, "--bandwidth", "1", "-n", "5", "--seed", "1", "--output"]
    command(*draw, sampled)
    assert "exists already" in command(*draw, sampled, status=2).stderr
    command(*draw, sampled, "--overwrite")
    drawn = dkde.sample("train", 1.0, 5, source=data, random_state=1)
    np.testing.assert_array_equal(dkde.open_dataset(sampled)["samples"]["x"].values, drawn)
    assert "one place" in command(*draw, data, "--overwrite", status=2).stderr
    with pytest.raises(dkde.DataSetError, match=r"the source .* lies in it"):
        dkde.sample("train", 1.0, 5, source=data, output=data, overwrite=True)


# ---- requests ----


@pytest.mark.slow
@pytest.mark.parametrize(("block_rows", "panel_rows"), [(60, 1200), (60, 600), (240, 1200)])
def test_training_chunks_are_read_once_a_panel(data, served, block_rows, panel_rows):
    n_blocks, n_chunks = VALID // block_rows, TRAIN // CHUNK
    catalog = dkde.Catalog(data)
    catalog.splits()
    served.clear()
    dkde.score("valid", "train", GRID, source=catalog, block_rows=block_rows, panel_rows=panel_rows)
    reads = served.count("GET", "/train/x/c/")
    # The reference row's 1,024 rows first. Blocks of one panel share its tree; of several panels
    # only those in work are kept.
    times = 1 if panel_rows == TRAIN else n_blocks
    assert n_chunks <= reads <= times * n_chunks + 11
    queries = served.count("GET", "/valid/x/c/")
    assert queries <= (n_blocks + 3) * TRAIN // panel_rows
    assert served.count("HEAD") == 0
    # The rest: labels and row numbers, which are coordinates of the result.
    assert served.requests.total() - reads - queries <= 10


@pytest.mark.slow
def test_the_training_rows_are_read_as_often_whatever_the_blocks(data, served):
    reads = {}
    for block_rows in (20, 60, 240):
        served.clear()
        dkde.score("valid", "train", GRID, source=data, block_rows=block_rows)
        reads[block_rows] = served.count("GET", "/train/x/c/")
    assert reads[20] == reads[60] == reads[240]


@pytest.mark.slow
def test_keeping_blocks_takes_a_few_requests_each(data, bucket, served, sweep):
    sweep(output=f"{bucket}/r.zarr", block_rows=240)
    few = served.requests.total()
    served.clear()
    sweep(output=f"{bucket}/q.zarr", block_rows=20)
    # 12 + 3 query blocks of 2 panels, with 1 + 1 before; 12 chunks of training rows each.
    more = served.requests.total() - few - 13 * 12
    assert more <= 13 * 2 * 12


# ---- credentials ----


@pytest.mark.slow
def test_no_credential_is_stored_or_printed(data, bucket, served, sweep, monkeypatch):
    sweep(output=f"{bucket}/r.zarr")
    with dkde.init_only():
        sweep(output=f"{bucket}/begun.zarr")
    stored = contents(bucket)
    assert len(stored) > 50
    assert any("/sessions/" in key for key in stored)
    assert any("dkde-run-1.json" in key for key in stored)
    printed = []
    for name in ("_RETRIES", "_PATIENCE"):
        monkeypatch.setattr(f"dkde.stores.buckets.{name}", {"max_retries": 0})
    for arguments, environment in (
        (["info", data], {}),
        (["--debug", "info", f"{bucket}/none.zarr"], {}),
        (["--debug", "info", "s3://no-such-bucket/a.zarr"], {}),
        (["--debug", "info", data], {"AWS_ENDPOINT_URL": f"http://{KEY_ID}:{SECRET}@127.0.0.1:9"}),
        (["--debug", "info", f"s3://{KEY_ID}:{SECRET}@bucket/a.zarr"], {}),
        (["--debug", "sweep", data, "--train", f"s3://b/a?X-Amz-Signature={SECRET}::train"], {}),
        (["--debug", "import", "a.npz", f"s3://{SECRET}@bucket/x.zarr"], {}),
        (["--debug", "score", data, "--bandwidth", "1", "--output", f"s3://{SECRET}@b/r"], {}),
        (["--debug", "status", f"{bucket}/begun.zarr"], {}),
    ):
        with monkeypatch.context() as patch:
            for name, value in environment.items():
                patch.setenv(name, value)
            result = CliRunner().invoke(cli, arguments)
        assert result.exit_code in (0, 2), result.output
        printed.append(result.output)
    pickled = pickle.dumps(dkde.Catalog(data).rows("train"))
    everything = [*stored.values(), *(text.encode() for text in printed), pickled]
    for secret in (SECRET, KEY_ID):
        assert not [text for text in everything if secret.encode() in text]


# ---- kills and clusters ----


@pytest.mark.slow
def test_workers_are_not_asked_for_a_store_that_has_no_place():
    own = ObjectStore(pytest.importorskip("obstore.store").MemoryStore())
    array = zarr.create_array(own, name="x", shape=(4, 2), dtype="f8")
    assert _place(ZarrSource(array)) is None


@pytest.mark.slow
def test_workers_are_asked_for_a_place(data):
    (part,) = dkde.Catalog(data).rows("train").parts
    assert _place(part.source) == data


@pytest.mark.slow
def test_a_killed_run_goes_on(bucket, tmp_path, monkeypatch, served):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(3)
    np.savez("big.npz", train=rng.random((40_000, 64)), valid=rng.random((4_000, 64)))
    dkde.import_dataset("big.npz", f"{bucket}/big.zarr", index=False)
    url = f"{bucket}/r.zarr"
    options = {"train": "train", "valid": "valid", "bandwidths": [0.05, 0.25, 1.0]}
    options["block_rows"] = 100
    there = options | {"source": f"{bucket}/big.zarr", "output": url}
    often = "import dkde.runs.commits; dkde.runs.commits.INTERVAL = 0.02"
    call = f"import dkde; {often}; dkde.sweep(**{there})"
    done = 0
    for _ in range(2):
        served.clear()
        process = subprocess.Popen(
            tied([sys.executable, "-c", call]), start_new_session=True, stderr=subprocess.DEVNULL
        )
        end = time.monotonic() + 120
        while served.count("PUT", ".npz") < 2:
            assert time.monotonic() < end
            assert process.poll() is None
            time.sleep(0.02)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        status = dkde.status(url)
        assert not status["complete"]
        assert status["running"] == []
        assert done + 2 <= status["stages"]["valid"]["done"] < 40
        done = status["stages"]["valid"]["done"]
    calls = []
    again = dkde.sweep(**there, progress=lambda *pairs: calls.append(pairs))
    assert len(calls) <= 40 - done + 1
    same(again, dkde.sweep(source="big.npz", **options))
    assert dkde.verify(url)["blocks"] == 4


@pytest.mark.slow
def test_workers_read_by_themselves(data, source, bucket, sweep, served):
    here = sweep(source)
    with dkde.connect(workers=2) as client:
        served.clear()
        same(sweep(output=f"{bucket}/r.zarr"), here)
        assert served.count("GET", "/train/x/c/") <= (4 + 1) * (12 + 1) + 11
        same(sweep(), here)

        def forget():
            del os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"]
            os.environ["AWS_METADATA_ENDPOINT"] = "http://127.0.0.1:9"

        client.run(forget)
        with pytest.raises(dkde.ClusterError, match=r"worker tcp.* cannot read s3.*: no cred"):
            sweep()
