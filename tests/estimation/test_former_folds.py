"""Cross-validations of older versions, which shared folds out over rows that do not count, too."""

import numpy as np
import pytest
import xarray as xr

import dkde
from dkde.estimation import cross_validation
from dkde.runs.same_call import OtherCallError

OLDER = "by an older version of dkde, which divided all rows into folds"
CALLS = {
    "missing": {"nan": "drop"},
    "shuffled": {"nan": "drop", "shuffle": True, "random_state": 3},
    "weightless": {"weights": "w"},
}


class Stopped(BaseException):
    """As Ctrl-C: no kind of Exception."""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    rng = np.random.default_rng(5)
    x, w = rng.normal(size=(40, 2)), np.ones(40)
    w[[4, 21]] = 0
    then = tmp_path / "then"
    then.mkdir()
    columns = {"a": ("row", x[:, 0].copy()), "b": ("row", x[:, 1].copy()), "w": ("row", w)}
    xr.Dataset(columns).to_zarr(then / "whole.zarr", zarr_format=2)
    x[[4, 21], [1, 0]] = np.nan
    np.save(then / "x.npy", x)
    monkeypatch.chdir(then)
    return then


def called(name, **keywords):
    if name == "weightless":
        keywords["source"] = dkde.Catalog("whole.zarr", ["a", "b"])
    return dkde.cross_validate(
        "whole.zarr" if name == "weightless" else "x.npy", [0.1, 0.5, 5], output="r.zarr",
        **CALLS[name], **keywords,
    )  # fmt: skip


def of_older_version(name, **keywords):
    with pytest.MonkeyPatch.context() as then:
        then.setattr(cross_validation, "counting_rows", lambda side, pool_for: None)
        return called(name, **keywords)


@pytest.mark.sampled(3)
@pytest.mark.parametrize("name", CALLS)
def test_a_result_is_not_called_damaged(folder, name):
    of_older_version(name)
    found = dkde.verify("r.zarr")
    assert (found["chunks"] > 0, found["blocks"]) == (True, 0)
    assert OLDER in found["reason"]
    assert "\n" not in found["reason"]


def test_a_result_that_was_moved(folder, monkeypatch):
    of_older_version("missing")
    now = folder.rename(folder.parent / "now")
    monkeypatch.chdir(folder.parent)
    assert OLDER in dkde.verify(now / "r.zarr")["reason"]


@pytest.mark.sampled(3)
@pytest.mark.parametrize("name", CALLS)
def test_the_same_call_is_refused_with_the_reason(folder, name):
    of_older_version(name)
    with pytest.raises(OtherCallError, match=f"r.zarr: was made {OLDER}.*anew .restart.$") as said:
        called(name)
    assert "weights given by name" not in str(said.value)
    called(name, restart=True)
    assert dkde.verify("r.zarr")["blocks"] > 0


def test_an_unfinished_run_is_refused_with_the_reason(folder):
    def stop(done, total):
        raise Stopped

    with pytest.raises(Stopped):
        of_older_version("weightless", block_rows=10, progress=stop)
    with pytest.raises(OtherCallError, match=OLDER):
        called("weightless", block_rows=10)
    with pytest.raises(OtherCallError, match=OLDER):
        dkde.run_part("r.zarr", 0, 2)


def test_other_folds_are_no_older_version(folder):
    called("weightless")
    with pytest.raises(OtherCallError, match="begun otherwise: grid content") as said:
        called("weightless", folds=4)
    assert "older version" not in str(said.value)


@pytest.mark.sampled(3)
@pytest.mark.parametrize("name", CALLS)
def test_folds_of_now_are_computed_again(folder, name):
    called(name)
    found = dkde.verify("r.zarr")
    assert (found["blocks"], found["reason"]) == (1, None)


def test_damage_is_found_all_the_same(folder):
    of_older_version("missing")
    x = np.load("x.npy")
    x[7] += 1
    np.save("x.npy", x)
    with pytest.raises(dkde.DataSetError, match="come out different"):
        dkde.verify("r.zarr")
    path = next(p for p in (folder / "r.zarr" / "log_density" / "c").rglob("*") if p.is_file())
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(dkde.DataSetError, match="log_density"):
        dkde.verify("r.zarr")


def test_folds_that_no_seed_repeats(folder):
    dkde.cross_validate("x.npy", [0.1, 0.5, 5], shuffle=True, nan="drop", output="r.zarr")
    found = dkde.verify("r.zarr")
    assert found["blocks"] == 0
    assert "without a random_state" in found["reason"]
