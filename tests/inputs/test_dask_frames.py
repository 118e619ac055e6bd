"""Data frames of Dask are rows that are read partition by partition, with pandas's meaning."""

import dask.array as da
import numpy as np
import pandas as pd
import pytest

import dkde
from dkde.inputs.selectors import Catalog
from dkde.inputs.sides import operand

dd = pytest.importorskip("dask.dataframe")

rng = np.random.default_rng(8)
N = 60
FRAME = pd.DataFrame(
    {
        "a": rng.normal(size=N),
        "n": rng.integers(0, 9, N),
        "flag": rng.random(N) < 0.5,
        "when": pd.Timestamp("2020-01-01") + pd.to_timedelta(rng.integers(0, 9, N), "D"),
        "kind": pd.Categorical(rng.integers(0, 3, N)),
        "whole": pd.array([None, *range(N - 1)], dtype="Int64"),
        "note": ["text"] * N,
        "w": rng.random(N),
    }
)
LAZY = dd.from_pandas(FRAME, npartitions=7)
QUERY = FRAME[:9].assign(whole=1.0)


def density(query, train, **said):
    return np.asarray(dkde.log_density(query, train, 0.8, **said))


@pytest.mark.sampled(5)
@pytest.mark.parametrize(
    "features",
    [["a", "n"], ["n", "a"], ["a"], ["flag", "a"], ["when", "a"]],
)
@pytest.mark.filterwarnings("ignore:.* is taken as")
def test_they_mean_what_pandas_means(features):
    said = {"features": features}
    expected = density(QUERY, FRAME, **said)
    np.testing.assert_allclose(density(QUERY, LAZY, **said), expected, rtol=1e-9)
    turned = density(FRAME, QUERY, **said)
    found = dkde.log_density(LAZY, QUERY, 0.8, **said)
    assert isinstance(found, da.Array)
    np.testing.assert_allclose(found, turned, rtol=1e-9)


def test_conversions_are_told_as_of_pandas():
    with pytest.warns(UserWarning, match="flag is taken as 0 and 1"):
        operand(LAZY, "train", Catalog(features=["flag"]))


def test_without_names_the_columns_of_numbers_are_features():
    said = r"the features are a, n, whole, w; left out: flag .*, note \(text"
    with pytest.warns(UserWarning, match=said):
        found = operand(LAZY, "train", Catalog())
    with pytest.warns(UserWarning, match=said):
        expected = operand(FRAME, "train", Catalog())
    assert found.features == expected.features == ("a", "n", "whole", "w")
    rows = [each.rows.read(0, N, decode=True) for each in (found, expected)]
    np.testing.assert_array_equal(*rows)


@pytest.mark.parametrize("named", [True, False])
def test_weights_by_name_are_no_feature(named):
    said = {"features": ["a", "n"]} if named else {}
    columns = ["w", "a", "n", "note"]
    train, query = FRAME[columns], QUERY[["a", "n"]]
    pandas, lazy = (dd.from_pandas(train, npartitions=4) if lazy else train for lazy in (0, 1))
    if named:
        found, expected = (density(query, t, weights="w", **said) for t in (lazy, pandas))
    else:
        with pytest.warns(UserWarning, match="left out: note"):
            found = density(query, lazy, weights="w")
        with pytest.warns(UserWarning, match="left out: note"):
            expected = density(query, pandas, weights="w")
    np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_an_estimator_reads_them_lazily():
    estimator = dkde.KernelDensity(bandwidth=0.8, features=["a", "n"]).fit(LAZY, sample_weight="w")
    expected = density(QUERY, FRAME, features=["a", "n"], weights="w")
    np.testing.assert_allclose(estimator.score_samples(QUERY), expected, rtol=1e-9)
    found = estimator.score_samples(LAZY)
    assert isinstance(found, da.Array)
    np.testing.assert_allclose(found[:9], expected, rtol=1e-9)


def test_columns_without_names_and_partitions_without_rows():
    values = rng.normal(size=(20, 2))
    lazy = dd.from_pandas(pd.DataFrame(values), npartitions=4)
    lazy = dd.concat([lazy[lazy[0] > 1e9], lazy])
    np.testing.assert_allclose(density(values, lazy), density(values, values), rtol=1e-9)
    with pytest.raises(dkde.InputError, match="all 8 partitions are empty: there are no rows"):
        density(values, lazy[lazy[0] > 1e9])


def many(number: int) -> pd.DataFrame:
    return pd.DataFrame(np.zeros((10**5, 8), np.uint8), columns=list("abcdefgh"))


def one(number: int, unlike: object) -> pd.DataFrame:
    values = unlike if number == 2 else [0, 1]
    return pd.DataFrame({"x": [1.0, 2.0], "y": values})


META = pd.DataFrame({"x": [1.0], "y": [1.0]})[:0]


@pytest.mark.parametrize(
    ("unlike", "meta", "words"),
    [
        (["p", "q"], META, r"^partition 2 of train: column 'y' holds text, and features are num"),
        ([0.5, 1.0], META.astype({"y": "int64"}), "partition 2 has 1 features of float64, and the "
         "data frame says 1 of int64"),
        (["p", "q"], META.astype({"y": object}), "partition 2 of train: column 'y' holds text"),
    ],
)  # fmt: skip
def test_unlike_partitions_are_told_in_one_line(unlike, meta, words):
    lazy = dd.from_map(one, range(4), unlike=unlike, meta=meta, enforce_metadata=False)
    if meta.dtypes["y"] == np.int64:
        lazy = lazy[["y"]]
    with pytest.raises(dkde.InputError, match=words) as error:
        density(np.zeros((1, lazy.shape[1])), lazy)
    assert "\n" not in str(error.value)


def test_rows_on_both_sides_are_told():
    with pytest.warns(UserWarning, match="share rows; each of these counts itself"):
        dkde.score(LAZY, LAZY, 0.8, features=["a", "n"])
    with pytest.raises(dkde.InputError, match="share rows, which makes small bandwidths look"):
        dkde.sweep(train=LAZY, valid=LAZY, bandwidths=[0.5, 1.0], features=["a", "n"])


def test_only_the_columns_that_are_needed_are_read(tmp_path, monkeypatch):
    FRAME[["a", "n", "note", "w"]].to_parquet(tmp_path / "rows.parquet")
    lazy = dd.read_parquet(tmp_path)
    rows = operand(lazy, "train", Catalog(features=["a", "n"])).rows
    source = rows.parts[0].source
    # Nothing but the features is in a partition that is read, so that no more copies are planned.
    assert source.copies == 4
    assert source.cuts(0, N) == [0, N]
    np.testing.assert_allclose(rows.read(0, N, decode=True), FRAME[["a", "n"]])
    held = operand(LAZY.map_partitions(lambda f: f), "train", Catalog(features=["a", "n"]))
    assert held.rows.parts[0].source.copies > 4


def test_panels_leave_room_in_small_workers():
    query = many(0)[:5]
    said = {"query": query, "train": dd.from_map(many, range(40), meta=query[:0])}
    cost = dkde.plan(**said, bandwidths=[1.0], baseline=False)
    # Of 8 features in float64, in whole partitions, and their number is a power of two.
    assert (cost["panels"], cost["panel_rows"]) == (4, 10**6)
    given = dkde.plan(**said, bandwidths=[1.0], baseline=False, panel_rows=2 * 10**6)
    assert given["panel_rows"] == 2 * 10**6


def test_a_graph_is_built_of_lengths_and_a_sample_alone():
    read = []

    def load(number: int) -> pd.DataFrame:
        read.append(number)
        return FRAME[["a", "n", "note"]]

    lazy = dd.from_map(load, range(5), meta=FRAME[["a", "n", "note"]][:0])
    found = dkde.log_density(lazy, QUERY, 0.8, features=["a", "n"])
    assert sorted(read) == [0, *range(5)]
    found.compute()
    assert sorted(read) == sorted([0, *range(5), *range(5)])


@pytest.mark.parametrize("where", ["whole < 20", "whole is None", "not whole in [1, 2.0]"])
def test_missing_numbers_of_nullable_columns_are_missing_in_a_filter(where):
    choice = {"features": ["a", "n"], "where": {"train": where}}
    np.testing.assert_array_equal(density(QUERY, LAZY, **choice), density(QUERY, FRAME, **choice))
