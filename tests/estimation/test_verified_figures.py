"""Figures of results that were changed, with right checksums, and blocks left to verify."""

import json
import os
import re
import shutil
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import zarr

import dkde
from dkde.estimation import verified_blocks

H = [0.1, 0.3, 0.6, 2.0]
CUT = {"block_rows": 30, "panel_rows": 40}
# Of preparing the calls, as they were of the calls.
pytestmark = pytest.mark.filterwarnings("ignore:.*share rows", "ignore:weights 'w' apply")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Rows in files, with classes, weights and missing values."""
    folder = tmp_path_factory.mktemp("rows")
    rng = np.random.default_rng(3)
    x = rng.normal(size=(60, 2))
    table = pd.DataFrame({"a": x[:, 0], "b": x[:, 1], "w": rng.uniform(0.1, 2, 60)})
    table["kind"] = np.where(x[:, 0] + rng.normal(size=60) > 0, "A", "B")
    table.to_csv(folder / "whole.csv", index=False)
    table.loc[3, "a"] = table.loc[40, "w"] = np.nan
    table.to_csv(folder / "missing.csv", index=False)
    parts = {"train": x, "valid": rng.normal(size=(20, 2)), "test": rng.normal(size=(25, 2))}
    np.savez(folder / "d.npz", **parts)
    dkde.import_dataset(folder / "d.npz", folder / "d.zarr")
    return folder


def score(folder, **options):
    options = {"source": str(folder / "d.zarr"), **CUT, **options}
    return dkde.score("test", "train", [0.3, 0.6], **options)


def weighted(folder, **options):
    path = str(folder / "missing.csv")
    options = {"features": ["a", "b"], "weights": "w", "nan": "drop", **CUT, **options}
    return dkde.score(path, path, [0.3, 0.6], **options)


def grouped(folder, **options):
    path = str(folder / "whole.csv")
    return dkde.score(path, path, "scott", features=["a", "b"], by="kind", **CUT, **options)


def sweep(folder, **options):
    return dkde.sweep(
        train="train", valid="valid", test="test", bandwidths=H, source=str(folder / "d.zarr"),
        **CUT, **options,
    )  # fmt: skip


def cv(folder, **options):
    return dkde.cross_validate("train", H, source=str(folder / "d.zarr"), **CUT, **options)


def classify(folder, **options):
    path = str(folder / "whole.csv")
    return dkde.classify(path, path, [0.3, 0.6], features=["a", "b"], by="kind", **CUT, **options)


def mapped(folder, **options):
    return dkde.density_map(
        "train", 0.5, source=str(folder / "d.zarr"), cells=12, levels=[50, 95], **CUT, **options
    )


CALLS = {
    "score": (score, {}),
    "flags": (score, {"contamination": 0.1}),
    "adaptive": (score, {"adaptive": 0.5}),
    "atol": (score, {"atol": 1e-3}),
    "weighted": (weighted, {}),
    "grouped": (grouped, {}),
    "sweep": (sweep, {}),
    "adaptive sweep": (sweep, {"adaptive": 0.5}),
    "cv": (cv, {}),
    "refined": (cv, {"refine": True}),
    "least squares": (cv, {"criterion": "least_squares"}),
    "refined squares": (cv, {"criterion": "least_squares", "refine": True}),
    "features": (cv, {"per_feature": True}),
    "components": (cv, {"pca": 1}),
    "classify": (classify, {}),
    "map": (mapped, {"expected": True}),
    "sample": (mapped, {"levels_from": "sample"}),
}


@pytest.fixture(scope="module")
def results(folder):
    """Results by the names of calls, each made once."""
    made = {}

    def of(name):
        if name not in made:
            function, options = CALLS[name]
            made[name] = folder / f"{name.replace(' ', '_')}.zarr"
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of rows that train and query share
                function(folder, output=made[name], **options)
        return made[name]

    return of


def alter(store, name):
    """Change one value of a variable by as little as there is; its checksum is right."""
    array = zarr.open_array(store / name, mode="r+")
    values = np.array(array[...])
    flat = values.reshape(-1)
    if flat.dtype.kind == "f":
        known = np.flatnonzero(np.isfinite(flat))
        flat[known[len(known) // 2]] = np.nextafter(flat[known[len(known) // 2]], np.inf)
    elif flat.dtype.kind == "b":
        flat[len(flat) // 2] ^= True
    elif flat.dtype.kind in "iu":
        flat[len(flat) // 2] += 1
    else:
        flat[len(flat) // 2] = "other"
    array[...] = values


@pytest.mark.slow
@pytest.mark.parametrize("name", CALLS)
def test_each_variable_that_was_changed_is_refused_and_named(results, tmp_path, name):
    store = results(name)
    names = sorted(path.parent.name for path in store.glob("*/zarr.json"))
    assert len(names) > 8
    for variable in names:
        copy = tmp_path / "copy.zarr"
        shutil.copytree(store, copy)
        alter(copy, variable)
        with pytest.raises(dkde.DataSetError, match="come out different") as said:
            dkde.verify(copy, blocks="all")
        # What log-densities are changed in shows in the figures that follow from them, too.
        assert re.search(rf"\b{variable}\b", str(said.value)), (variable, said.value)
        shutil.rmtree(copy)


@pytest.mark.sampled(5)
@pytest.mark.parametrize("name", ["flags", "sweep", "refined squares", "classify", "map"])
def test_a_result_as_it_should_be_is_verified_whole(results, name):
    found = dkde.verify(results(name), blocks="all")
    assert (found["exact"], found["unverified"], found["reason"]) == (True, (), None)
    assert found["verified"] == found["of"] == found["blocks"]
    assert found["figures"] >= 8


@pytest.mark.sampled(9)
@pytest.mark.parametrize(
    ("name", "variable"),
    [
        ("sweep", "best_bandwidth"), ("sweep", "test_mean_log_likelihood"),
        ("flags", "n_unusual"), ("classify", "calibration_error"), ("map", "level_area"),
        ("classify", "best_bandwidth"), ("grouped", "bits_per_dimension"),
        ("least squares", "least_squares"), ("refined", "fold_log_likelihood"),
    ],
)  # fmt: skip
def test_figures_are_derived_even_where_no_block_is_computed(results, tmp_path, name, variable):
    copy = tmp_path / "copy.zarr"
    shutil.copytree(results(name), copy)
    assert dkde.verify(copy, blocks=0)["blocks"] == 0
    alter(copy, variable)
    with pytest.raises(dkde.DataSetError, match=f"the values of {variable} come out different"):
        dkde.verify(copy, blocks=0)


@pytest.mark.slow
def test_a_bandwidth_of_a_search_that_is_no_better_is_refused(results, tmp_path):
    copy = tmp_path / "copy.zarr"
    shutil.copytree(results("refined"), copy)
    densities = zarr.open_array(copy / "log_density", mode="r+")
    densities[-1] = densities[-1] - 10
    with pytest.raises(dkde.DataSetError, match="no better"):
        dkde.verify(copy, blocks=0)


@pytest.mark.slow
def test_rounding_is_accepted_anywhere_and_no_more(results, tmp_path):
    copy = tmp_path / "copy.zarr"
    shutil.copytree(results("score"), copy)
    mean = zarr.open_array(copy / "mean_log_likelihood", mode="r+")
    then = mean[...]
    mean[...] = np.nextafter(then, 0)
    with pytest.raises(dkde.DataSetError, match=r"bounds of rounding.*allow it \(anywhere\)"):
        dkde.verify(copy, blocks=0)
    found = dkde.verify(copy, blocks=0, anywhere=True)
    assert not found["exact"]
    mean[...] = then * (1 + 1e-9)
    with pytest.raises(dkde.DataSetError, match="mean_log_likelihood come out different"):
        dkde.verify(copy, blocks=0, anywhere=True)


@pytest.mark.sampled(6)
@pytest.mark.parametrize(
    ("name", "derived"),
    [
        ("sweep", {"mean_log_likelihood", "standard_error", "best_bandwidth", "n_zero_density",
                   "test_mean_log_likelihood", "test_standard_error"}),
        ("flags", {"unusual", "n_unusual"}),
        ("least squares", {"least_squares", "log_mean_density", "best_bandwidth",
                           "fold_log_likelihood", "mean_fold_log_likelihood"}),
        ("classify", {"predicted", "accuracy", "brier", "log_loss_standard_error", "confusion",
                      "calibration_error", "best_bandwidth"}),
        ("grouped", {"mean_log_likelihood"}),
        ("weighted", {"mean_log_likelihood", "n_missing"}),
    ],
)  # fmt: skip
def test_of_arrays_what_follows_from_the_result_alone(results, tmp_path, name, derived):
    """As of a run that was begun with arrays in memory: the record has no call."""
    store = tmp_path / "r.zarr"
    shutil.copytree(results(name), store)
    root = json.loads((store / "zarr.json").read_text())
    run = json.loads(root["attributes"]["run"])
    root["attributes"]["run"] = json.dumps(run | {"call": None})
    (store / "zarr.json").write_text(json.dumps(root))
    found = dkde.verify(store)
    assert (found["blocks"], found["exact"]) == (0, True)
    assert "arrays in memory" in found["reason"]
    assert derived.isdisjoint(found["unverified"])
    for variable in derived:
        copy = tmp_path / "copy.zarr"
        shutil.copytree(store, copy)
        alter(copy, variable)
        with pytest.raises(dkde.DataSetError, match=f"the values of {variable} come out different"):
            dkde.verify(copy)
        shutil.rmtree(copy)


class TestBlocks:
    @pytest.mark.slow
    def test_repeated_calls_cover_all(self, results, tmp_path):
        copy = tmp_path / "copy.zarr"
        shutil.copytree(results("sweep"), copy)
        root = copy / "zarr.json"
        root.write_text(root.read_text() + "\n")  # another fingerprint
        seen = [dkde.verify(copy, blocks=1) for _ in range(2)]
        assert [each["verified"] for each in seen] == [1, 2]
        assert {each["of"] for each in seen} == {2}
        assert len({each["seed"] for each in seen}) == 2
        again = dkde.verify(copy, blocks=1)
        assert (again["blocks"], again["verified"]) == (1, 2)

    @pytest.mark.slow
    def test_passes_of_a_search_follow_one_from_the_other(self, folder, tmp_path):
        output = tmp_path / "r.zarr"
        cv(folder, output=output, refine=True)
        first = dkde.verify(output, blocks=1)
        assert first["unverified"] == ("best_bandwidth",)
        for _ in range(30):
            found = dkde.verify(output, blocks=2)
            assert found["blocks"] in (1, 2)
            if not found["unverified"]:
                break
        assert found["of"] > first["of"]
        assert found["unverified"] == ()
        array = zarr.open_array(output / "best_bandwidth", mode="r+")
        array[...] = array[...] * (1 + 1e-12)
        with pytest.raises(dkde.DataSetError, match="best_bandwidth come out different"):
            dkde.verify(output, blocks=0)

    @pytest.mark.slow
    def test_a_seed_draws_the_same_blocks(self, folder, tmp_path, monkeypatch):
        output = tmp_path / "r.zarr"
        score(folder, output=output, block_rows=2)
        drawn = []
        for number in range(2):
            monkeypatch.setattr(verified_blocks, "cache_folder", lambda n=number: tmp_path / str(n))
            found = dkde.verify(output, blocks=3, seed=7)
            assert (found["seed"], found["verified"], found["of"]) == (7, 3, 13)
            (path,) = (tmp_path / str(number)).rglob("*.npz")
            with np.load(path) as held:
                drawn.append(held["blocks"].tobytes())
        assert drawn[0] == drawn[1]

    @pytest.mark.slow
    def test_a_cache_that_is_of_no_use_is_left_out(self, folder, tmp_path, monkeypatch):
        output, cache = tmp_path / "r.zarr", tmp_path / "cache"
        score(folder, output=output, contamination=0.1)
        monkeypatch.setattr(verified_blocks, "cache_folder", lambda: cache)
        of = dkde.verify(output, blocks="all")["of"]
        paths = list(cache.rglob("*.npz"))
        contents = [path.read_bytes() for path in paths]
        for damage in (b"", b"PK\3\4", contents[0][: len(contents[0]) // 2]):
            for path in paths:
                path.write_bytes(damage)
            found = dkde.verify(output, blocks=0)
            assert (found["verified"], found["unverified"]) == (0, ("unusual_below",))
        for path, content in zip(paths, contents, strict=True):
            path.write_bytes(content)
        assert dkde.verify(output, blocks=0)["verified"] == of
        # Values that are not those of the blocks are refused, or computed again.
        shutil.rmtree(cache)
        cache.write_text("no folder")
        assert dkde.verify(output, blocks="all")["unverified"] == ()
        monkeypatch.setattr(verified_blocks, "cache_folder", lambda: None)
        assert dkde.verify(output, blocks=1)["verified"] == 1

    def test_a_changed_result_is_another(self, folder, tmp_path):
        output = tmp_path / "r.zarr"
        score(folder, output=output)
        assert dkde.verify(output, blocks="all")["verified"] == 1
        array = zarr.open_array(output / "log_density_error", mode="r+")
        array[0, 0] *= 2
        with pytest.raises(dkde.DataSetError, match="query rows 0 to 25"):
            dkde.verify(output, blocks=1)

    @pytest.mark.slow
    def test_in_a_bucket(self, folder, bucket):
        score(folder, output=f"{bucket}/r.zarr", block_rows=9)
        options = {"blocks": 2, "trust_sources": True}  # of a bucket, which names local files
        seen = [dkde.verify(f"{bucket}/r.zarr", **options)["verified"] for _ in range(2)]
        assert seen == [2, 3]

    def test_the_result_is_not_written_to(self, results):
        store = results("score")
        before = {p: (p.stat().st_mtime_ns, p.stat().st_size) for p in store.rglob("*")}
        dkde.verify(store, blocks="all")
        assert {p: (p.stat().st_mtime_ns, p.stat().st_size) for p in store.rglob("*")} == before

    @pytest.mark.parametrize("blocks", [-1, "some", 1.5, True])
    def test_no_number(self, results, blocks):
        with pytest.raises(dkde.InputError, match=r"blocks is .*give a number, or 'all'"):
            dkde.verify(results("score"), blocks=blocks)

    def test_no_seed(self, results):
        with pytest.raises(dkde.InputError, match="seed is -1"):
            dkde.verify(results("score"), seed=-1)


def test_the_cache_lies_where_the_user_has_it(monkeypatch, tmp_path):
    monkeypatch.undo()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert _cache_folder() == tmp_path / "dkde" / "verified"
    monkeypatch.setenv("XDG_CACHE_HOME", os.path.join("not", "absolute"))
    assert _cache_folder() == Path.home() / ".cache" / "dkde" / "verified"


# As the module has it, before tests keep theirs elsewhere.
_cache_folder = verified_blocks.cache_folder
