"""Where data are looked for that were moved together with a run's store."""

import glob

import numpy as np
import pytest

import dkde
from dkde.inputs.moved import Whereabouts, paths_in, renamed
from dkde.results.rereading import read_back
from dkde.results.scored import scored_rows


def whereabouts(tmp_path, **keywords):
    return Whereabouts(store=str(tmp_path / "new" / "runs" / "r.zarr"), **keywords)


def file(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return str(path)


def test_the_same_place_relative_to_the_store(tmp_path):
    where = whereabouts(tmp_path, place="/home/a/old/runs/r.zarr", folder="/home/a")
    assert list(where.elsewhere("old/data/x.npy")) == []
    there = file(tmp_path / "new" / "data" / "x.npy")
    assert next(where.elsewhere("old/data/x.npy")) == there
    assert next(where.elsewhere("/home/a/old/data/x.npy")) == there


def test_only_the_root_in_common(tmp_path):
    # Relative to the store this would be a path through the root, to anywhere.
    where = whereabouts(tmp_path, place="/home/a/r.zarr", folder="/home/a")
    file(tmp_path / "x.npy")
    assert where._beside("/data/x.npy", "/home/a/r.zarr", str(tmp_path / "r.zarr")) is None


def test_the_end_of_a_path_of_a_run_that_did_not_note_its_place(tmp_path):
    where = whereabouts(tmp_path, folder="/old")
    short = file(tmp_path / "new" / "x.npy")
    assert list(where.elsewhere("data/x.npy")) == [short]
    longer = file(tmp_path / "new" / "data" / "x.npy")
    assert list(where.elsewhere("data/x.npy")) == [longer, short]


def test_a_pattern_in_a_folder_with_brackets(tmp_path):
    where = Whereabouts(store=str(tmp_path / "[new]" / "r.zarr"), folder="/old")
    file(tmp_path / "[new]" / "data" / "1.csv")
    found = next(where.elsewhere("data/*.csv"))
    assert found.endswith("[[]new]/data/*.csv")


@pytest.mark.parametrize("name", ["train", "s3://bucket/x.zarr"])
def test_splits_and_buckets_are_not_looked_for(tmp_path, name):
    file(tmp_path / "new" / name)
    assert list(whereabouts(tmp_path, folder="/old").elsewhere(name)) == []


def test_a_store_in_a_bucket_has_its_data_where_they_were():
    where = Whereabouts.of({"call": {"source": "/old/x.zarr"}}, "s3://bucket/r.zarr")
    assert list(where.elsewhere("/old/x.zarr")) == []
    assert where.renamings(["/new/x.zarr"]) == []


def test_paths_of_now_as_they_were(tmp_path):
    now = str(tmp_path / "new" / "data.nc")
    stamp = (f"{now}::group", 3, [("a", 1.5)])
    assert paths_in(stamp) == [f"{now}::group"]
    placed = whereabouts(tmp_path, place="/old/runs/r.zarr")
    (renaming,) = placed.renamings(paths_in(stamp))
    assert renamed(stamp, renaming) == ("/old/data.nc::group", 3, [("a", 1.5)])
    named = whereabouts(tmp_path, folder="/old", names=("data.nc", "data.nc::group"))
    (renaming,) = named.renamings(paths_in(stamp))
    assert renamed(stamp, renaming) == ("/old/data.nc::group", 3, [("a", 1.5)])


@pytest.mark.parametrize("plan", [None, {}, {"call": None}, {"call": {"arguments": 3}}])
def test_what_says_nothing(plan, tmp_path):
    where = Whereabouts.of(plan, tmp_path)
    assert (where.place, where.folder, where.names) == (None, None, ())
    assert not where.has_moved


@pytest.mark.parametrize("end", ["**/*.csv", "*/**/x.csv", "*/x.csv"])
def test_folders_above_the_store_are_not_searched_through(tmp_path, monkeypatch, end):
    where = whereabouts(tmp_path, folder="/old")
    searched = []
    searching = glob.iglob

    def noted(pattern, **options):
        searched.append(pattern)
        return searching(pattern, **options)

    monkeypatch.setattr(glob, "iglob", noted)
    there = file(tmp_path / "new" / "data" / "a" / "b" / "x.csv")
    found = list(where.elsewhere(f"data/{end}"))
    assert found == [there.removesuffix("a/b/x.csv") + end] * ("**" in end)
    assert all("/data/" in pattern or pattern.endswith("/x.csv") for pattern in searched)


def test_a_pattern_of_files_beside_the_store(tmp_path):
    file(tmp_path / "new" / "1.csv")
    assert next(whereabouts(tmp_path, folder="/old").elsewhere("./*.csv")) == str(
        tmp_path / "new" / "*.csv"
    )


def test_nothing_is_searched_for_where_rows_are_found_at_once(tmp_path, monkeypatch):
    np.save(tmp_path / "x.npy", np.arange(6.0).reshape(3, 2))
    path = str(tmp_path / "x.npy")
    np.save(tmp_path / "y.npy", np.ones((4, 2)))
    result = dkde.score(path, str(tmp_path / "y.npy"), 1.0, output=tmp_path / "r.zarr")

    def never(where, name):
        raise AssertionError(name)
        yield

    monkeypatch.setattr(Whereabouts, "elsewhere", never)
    rows, reason = read_back(scored_rows(result)[0])
    assert (rows.n_rows, reason) == (3, "")
