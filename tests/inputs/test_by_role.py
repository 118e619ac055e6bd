"""Options for rows: as keywords of every call, for all sides or for each by its role."""

from functools import cache

import numpy as np
import pandas as pd
import pytest

import dkde
from dkde.errors import InputError
from dkde.inputs.sides import catalog_of
from dkde.rows.side_choices import SideChoices

rng = np.random.default_rng(4)
FRAME = pd.DataFrame(rng.normal(size=(30, 3)), columns=["a", "b", "c"]).assign(note="text")
QUERY = pd.DataFrame(rng.normal(size=(7, 3)), columns=["x", "y", "z"]).assign(note="text")
NAMES = ["c", "a"]


@cache
def truth():
    return dkde.log_density(QUERY[["x", "y"]].to_numpy(), FRAME[NAMES].to_numpy(), 0.7)


def test_features_are_a_keyword_for_all_sides():
    renamed = QUERY.rename(columns={"x": "c", "y": "a"})
    found = dkde.log_density(renamed, FRAME, 0.7, features=NAMES)
    np.testing.assert_array_equal(found, truth())
    scored = dkde.score(renamed, FRAME, 0.7, features=NAMES)
    np.testing.assert_array_equal(scored.log_density[0], truth())


@pytest.mark.parametrize("source", ["call", "catalog"])
def test_features_by_role_go_together_by_their_place(source):
    features = {"train": NAMES, "query": ["x", "y"]}
    said = {"features": features} if source == "call" else {}
    catalog = dkde.Catalog(features=features) if source == "catalog" else None
    found = dkde.log_density(QUERY, FRAME, 0.7, source=catalog, **said)
    np.testing.assert_array_equal(found, truth())


def test_a_side_without_features_of_its_own_is_matched_by_name():
    renamed = QUERY.rename(columns={"x": "c", "y": "a"}).drop(columns="z")
    found = dkde.log_density(renamed, FRAME, 0.7, features={"train": NAMES})
    np.testing.assert_array_equal(found, truth())
    # The same names in another order are the same features.
    both = {"train": NAMES, "query": NAMES[::-1]}
    np.testing.assert_array_equal(dkde.log_density(renamed, FRAME, 0.7, features=both), truth())


def test_what_a_call_says_of_one_side_leaves_the_other_to_the_catalog():
    catalog = dkde.Catalog(features=NAMES)
    found = dkde.log_density(QUERY, FRAME, 0.7, source=catalog, features={"query": ["x", "y"]})
    np.testing.assert_array_equal(found, truth())
    assert catalog.features == ("c", "a")


def test_files_are_opened_with_the_features_of_their_side(tmp_path):
    path = tmp_path / "rows.csv"
    FRAME.assign(x=FRAME.c, y=FRAME.a).to_csv(path, index=False)
    features = {"train": NAMES, "query": ["x", "y"]}
    selector = str(path)
    with pytest.warns(UserWarning, match="share rows"):
        found = dkde.score(f"{selector}[:7]", selector, 0.7, features=features)
    plain = FRAME[NAMES].to_numpy()
    np.testing.assert_allclose(found.log_density[0], dkde.log_density(plain[:7], plain, 0.7))


def test_a_side_in_another_file_need_not_fit_the_default_source(tmp_path):
    FRAME.to_csv(tmp_path / "train.csv", index=False)
    QUERY.to_csv(tmp_path / "query.csv", index=False)
    features = {"train": NAMES, "query": ["x", "y"]}
    train, query = (str(tmp_path / name) for name in ("train.csv", "query.csv"))
    found = dkde.score(query, train, 0.7, source=train, features=features)
    np.testing.assert_allclose(found.log_density[0], truth(), rtol=1e-9)


def test_a_latitude_and_longitude_by_role():
    train, query = 20 * FRAME[["a", "b", "c"]], 20 * QUERY[["z", "x", "y"]]
    places = {"lat": {"train": "c", "query": "x"}, "lon": {"train": "a", "query": "y"}}
    found = dkde.log_density(query, train, 0.1, kernel="vonmises_fisher", **places)
    plain = query[["x", "y"]].to_numpy(), train[NAMES].to_numpy()
    np.testing.assert_array_equal(found, dkde.log_density(*plain, 0.1, kernel="vonmises_fisher"))


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"features": {"qery": ["x"]}}, "features is given for the side 'qery', and the sides are: "
         "train, query$"),
        ({"where": {"valid": "x > 0"}}, "where is given for the side 'valid'"),
        ({"features": {"train": ["a", "b"], "query": ["b", "z"]}}, "'b' is feature 1 of b, z"),
        ({"lat": {"train": "a"}}, "lon is missing"),
        ({"where": 3}, "where is 3; it is text"),
        ({"where": " "}, "where is empty; a filter compares"),
        ({"lat": {"train": "no"}, "lon": {"train": "b"}}, "train: has no feature 'no'"),
    ],
)  # fmt: skip
def test_options_that_cannot_be_are_refused_in_one_line(said, words):
    query = QUERY.assign(b=1.0) if "features" in said else FRAME
    with pytest.raises(InputError, match=words) as error:
        dkde.log_density(query, FRAME, 0.7, **said)
    assert "\n" not in str(error.value)


def test_each_call_has_its_own_roles():
    with pytest.raises(InputError, match="and the only side is: train"):
        dkde.cross_validate(FRAME, [0.5], features={"query": NAMES})
    with pytest.raises(InputError, match="the sides are: train, valid, test"):
        dkde.sweep(train=FRAME, valid=QUERY, bandwidths=[0.5], features={"query": NAMES})
    with pytest.raises(InputError, match="the sides are: train, query, valid, test"):
        dkde.Catalog(features={"other": NAMES})
    with pytest.raises(InputError, match="'query', and the only side is: train"):
        dkde.KernelDensity(where={"query": "a > 0"}).fit(FRAME)


def test_an_estimator_takes_features():
    estimator = dkde.KernelDensity(bandwidth=0.7, features=NAMES).fit(FRAME)
    renamed = QUERY.rename(columns={"x": "c", "y": "a"})
    np.testing.assert_array_equal(estimator.score_samples(renamed), truth())
    assert list(estimator.feature_names_in_) == NAMES
    by_role = {"train": NAMES, "query": ["x", "y"]}
    estimator = dkde.KernelDensity(bandwidth=0.7, features=by_role).fit(FRAME)
    np.testing.assert_array_equal(estimator.score_samples(QUERY), truth())


def test_options_by_role_are_recorded_and_plain_ones_as_ever():
    assert SideChoices.of(features=["a"], row_dim="cell").given == {
        "features": ["a"], "row_dim": ["cell"],
    }  # fmt: skip
    assert SideChoices.of(lat="y", lon="x").given == {
        "features": ["y", "x"], "lat": "y", "lon": "x",
    }  # fmt: skip
    said = {"features": {"query": ["a", "b"]}, "row_dim": "cell", "where": {"train": "a > 0"}}
    given = SideChoices.of(**said).given
    assert given == said | {"row_dim": ["cell"]}
    assert SideChoices.of(**given).given == given


def test_a_catalog_narrowed_to_a_side_stays_narrow():
    catalog = catalog_of(None, ("train", "query"), features={"query": ["x"]}).for_role("query")
    assert catalog.for_role("X").features == catalog.for_role("train").features == ("x",)


@pytest.mark.filterwarnings("ignore:.* is taken as")
@pytest.mark.parametrize("features", [["flag", "a"], ["when", "a"], ["a", "two"]])
def test_an_estimator_takes_named_features_that_are_no_numbers_yet(features):
    days = pd.to_timedelta(rng.integers(0, 5, len(FRAME)), "D")
    frame = FRAME.assign(
        flag=FRAME.b > 0,
        when=pd.Timestamp("2020-01-01") + days,
        two=list(FRAME[["b", "c"]].to_numpy()),
    )
    expected = dkde.log_density(frame[:7], frame, 0.7, features=features)
    estimator = dkde.KernelDensity(bandwidth=0.7, features=features).fit(frame)
    np.testing.assert_allclose(estimator.score_samples(frame[:7]), expected, rtol=1e-9)
