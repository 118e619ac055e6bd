"""What a stranger wrote into the metadata of a store is refused in one line, or does no harm."""

import os
import re
import subprocess
import sys
import warnings
from pathlib import Path

import hostile
import pytest

import dkde
from dkde.runs.plan_schema import ARGUMENTS, call_fault, check_plan

EDITS = 50


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    root = tmp_path_factory.mktemp("hostile")
    with warnings.catch_warnings(action="ignore"):
        hostile.make(root / "made")
    hostile.settled(root / "made", root / "work")
    watch = hostile.watch_of(root)
    yield root, watch
    watch.close()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_random_edits_do_no_harm(made):
    root, watch = made
    spared = [root / "work/d.zarr", root / "work/other.zarr", root / "made"]
    before = list(map(hostile.digest, spared))
    found = [
        whole
        for number in range(EDITS)
        for _, whole in hostile.faults_of(root / "made", f"suite-{number}", watch, root / "work")
    ]
    assert not found, "\n".join(found)
    assert list(map(hostile.digest, spared)) == before


@pytest.mark.slow
@pytest.mark.full
@pytest.mark.alone
def test_many_random_edits_do_no_harm():
    """10,000 edits, in a process of its own with little more memory than it needs."""
    edits = os.environ.get("DKDE_FUZZ_EDITS", "10000")
    done = subprocess.run(
        [sys.executable, hostile.__file__, "long", edits, "2"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr[-2000:]
    assert re.search(r" 0 faults", done.stdout)


@pytest.mark.slow
def test_the_search_sees_what_goes_wrong(made):
    root, watch = made
    watch.traps = str(root / "made" / "traps")

    def does(action):
        return hostile._fault_of(action, "score.zarr", watch)

    assert does(lambda _: None) is None
    assert does(lambda _: dkde.status("no such store")) is None
    assert does(lambda _: {}["x"])[0].startswith("KeyError")
    assert does(lambda _: (root / "x").write_text("x"))[0] == "outside"
    assert does(lambda _: (root / "made/traps/secret.npy").read_bytes())[0] == "outside"
    assert "a request" in does(lambda _: dkde.status("s3://trap/x.zarr"))[1]
    (root / "x").unlink()


SCORE = {"query": "a", "train": "b", "bandwidth": 1.0}
CALL = {"function": "score", "arguments": SCORE, "source": None, "folder": "/here"}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"function": "system"}, "of the function 'system'"),
        ({"function": 3}, "Expected `str`"),
        ({"shell": 1}, "unknown field `shell`"),
        ({"folder": None}, "Expected `str`, got `null`"),
        *(
            ({"arguments": SCORE | {name: True}}, f"unknown field `{name}`")
            for name in ("restart", "retry_failed", "output", "anywhere", "sources", "progress")
        ),
        ({"arguments": {"query": "a"}}, "missing required field `train`"),
        ({"arguments": {"query": "a", "train": "b"}}, "missing required field `bandwidth`"),
        ({"arguments": SCORE | {"train": ["b"]}}, "Expected `str`, got `array`"),
        ({"arguments": SCORE | {"block_rows": 0}}, "`int` >= 1"),
        ({"arguments": SCORE | {"block_rows": 10**30}}, "block_rows"),
        ({"arguments": SCORE | {"query": "a+" * 5000}}, "5000 terms"),
    ],
)
def test_a_call_that_is_none_of_ours_is_refused_in_one_line(change, words):
    assert call_fault(CALL) is None
    fault = call_fault(CALL | change)
    assert words in fault
    assert "\n" not in fault


def test_each_argument_of_a_call_has_a_type():
    given = {"query": "x", "train": "x", "bandwidth": 1.0, "by": "label", "result": "r.zarr"}
    for function, schema in ARGUMENTS.items():
        known = {name: given[name] for name in given if name in schema.__struct_fields__}
        assert call_fault(CALL | {"function": function, "arguments": known}) is None
        for name in schema.__struct_fields__:
            nested = {**known, name: {"x": {"y": [[[{}]]]}}}
            if name != "support":  # whose own reader refuses it
                assert call_fault(CALL | {"function": function, "arguments": nested})


@pytest.mark.parametrize("plan", [None, [], "x", {}, {"asked": {}, "machine": {}, "call": 3}])
def test_a_plan_of_another_form_is_damaged(plan):
    with pytest.raises(dkde.DataSetError, match=r"r.zarr: .* is damaged \(.*\); begin it anew$"):
        check_plan("r.zarr", plan, "begin it anew")


@pytest.mark.slow
def test_the_traps_are_traps(made):
    root, _ = made
    assert Path(root / "made/traps/fifo").is_fifo()
    assert Path(root / "work/fifo.npy").is_fifo()
