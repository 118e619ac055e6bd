"""``dkde plan --shape``: rows that do not exist."""

import json

import pytest
from dkde_cli.plan_shape import MODELS

import dkde
from dkde.rows import model_rows

SHAPE = ("plan", "--shape", "1e9x3", "--queries", "1000000")


@pytest.fixture(autouse=True)
def at_rest(monkeypatch):
    monkeypatch.setattr("dkde.estimation.cost.measure_baseline", lambda precision: 10**8)


def test_models_are_those_that_there_are():
    assert set(MODELS) == set(model_rows.MODELS)


@pytest.mark.slow
def test_json(run):
    found = json.loads(run(*SHAPE, "--workers", "1,64", "--json").stdout)
    expected = dkde.plan_shape((10**9, 3), 10**6, n_workers=[1, 64])
    assert set(found) == set(expected)
    assert [on["workers"] for on in found["workers"]] == [1, 64]
    for name in ("pairs", "bytes_read", "method", "shape", "n_query", "bandwidth_values"):
        assert found[name] == expected[name]


@pytest.mark.slow
def test_in_words(run):
    done = run(
        *SHAPE, "--workers", "1,64,4096", "--threads-per-worker", "2", "--tol", "1e-6",
        "--bandwidths", "0.1", "--model", "mixture", "--result-rate", "1TB",
    )  # fmt: skip
    above, below = done.stdout.split("\n\n")
    assert "rows                model mixture, in random order; bandwidth 0.1\n" in above
    assert "pairs               1 P, at 1 bandwidth" in above
    assert "  query" not in above
    assert "; 250 tasks/s, of one or more blocks\n" in above
    assert "a worker reads      190.7 MiB/s; all together 4.7 GiB/s" in above
    head, *rows = (line.split() for line in below.splitlines())
    assert head[:3] == ["workers", "time", "x"]
    assert [row[0] for row in rows] == ["1", "64", "4096"]
    assert rows[0][-1] == "computing"
    assert max(map(len, done.stdout.splitlines())) < 80
    # By default there is one worker.
    assert len(run(*SHAPE).stdout.split("\n\n")[1].splitlines()) == 2


def test_more_threads_than_there_is_work_for(run):
    text = run("plan", "--shape", "1000x2", "--queries", 10, "--workers", 64).stdout
    assert text.endswith("; work for 1 of 64 threads\n")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--shape", "1e9"), "--shape '1e9' cannot be read; write rows and features as 1000000x3"),
        (("--shape", "0x3"), "--shape '0x3' cannot be read"),
        (("--shape", "9x3x3"), "--shape '9x3x3' cannot be read"),
        (("--shape", "9x3"), "--shape needs --queries"),
        (("a.npz", *SHAPE[1:]), "Error: DATA is about rows that exist"),
        ((*SHAPE[1:], "--train", "x"), "--train is about rows that exist"),
        ((*SHAPE[1:], "--nan", "drop"), "--nan is about rows that exist"),
        ((*SHAPE[1:], "--workers", "1,x"), "--workers '1,x' cannot be read"),
        ((*SHAPE[1:], "--read-rate", "x"), "--read-rate is 'x'"),
        (("a.npz", "--queries", "9"), "--queries is of use with --shape only"),
        (("a.npz", "--workers", "1,2"), "several numbers of --workers"),
        ((), "Missing argument 'DATA', or --shape"),
    ],
)
def test_what_is_refused(refused, npz, arguments, words):
    assert words in refused("plan", *arguments)
