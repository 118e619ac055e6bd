"""Arguments as people write them: by name, as lists of rules, and as scikit-learn calls them."""

import json
from functools import cache

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from dkde_cli.main import cli
from sklearn.base import clone

import dkde
from dkde.errors import InputError

RNG = np.random.default_rng(2)
TRAIN = pd.DataFrame(RNG.normal(size=(40, 2)) * [10, 2], columns=["depth", "time"])
QUERY = pd.DataFrame(RNG.normal(size=(6, 2)) * [10, 2], columns=["depth", "time"])
NAMED = {"time": 2, "depth": 10.0}


@cache
def expected():
    return dkde.log_density(QUERY, TRAIN, [1.0, 0.5], covariance=[10.0, 2.0])


def test_a_bandwidth_for_each_feature_is_h_1_with_these_scales():
    found = dkde.log_density(QUERY, TRAIN, NAMED)
    np.testing.assert_array_equal(found, expected()[0])
    found = dkde.log_density(QUERY, TRAIN, [1.0, 0.5], covariance=NAMED)
    np.testing.assert_array_equal(found, expected())
    # The features may be in any order.
    found = dkde.log_density(QUERY[["time", "depth"]], TRAIN, NAMED, features=["time", "depth"])
    np.testing.assert_allclose(found, expected()[0], rtol=1e-12)


def test_results_name_the_scales_and_are_done_again_by_them(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    TRAIN.to_csv("t.csv", index=False)
    QUERY.to_csv("q.csv", index=False)
    found = dkde.score(query="q.csv", train="t.csv", bandwidth=NAMED, output="r.zarr")
    np.testing.assert_array_equal(found["log_density"][0], expected()[0])
    assert found["bandwidth"].values.tolist() == [1.0]
    options = json.loads(found.attrs["provenance"])["options"]
    assert options["covariance"] == "time=2, depth=10"
    run = CliRunner().invoke(
        cli, ["score", "t.csv", "--train", "t.csv", "--query", "q.csv", "--json",
              "--bandwidth", "depth=10,time=2"],
    )  # fmt: skip
    assert run.exit_code == 0, run.output
    printed = json.loads(run.stdout)
    assert printed["mean_log_likelihood"] == pytest.approx(expected()[0].mean())
    run = CliRunner().invoke(
        cli, ["score", "t.csv", "--train", "t.csv", "--query", "q.csv", "--json",
              "--bandwidth", "1,0.5", "--covariance", "depth=10,time=2"],
    )  # fmt: skip
    assert len(json.loads(run.stdout)["rows"]) == 2
    again = dkde.score(query="q.csv", train="t.csv", bandwidth=NAMED, output="r.zarr")
    assert again.attrs["complete"] == 1
    with pytest.raises(dkde.DkdeError, match=r"r\.zarr"):
        dkde.score(query="q.csv", train="t.csv", bandwidth={**NAMED, "time": 3}, output="r.zarr")


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"bandwidth": {"depth": 10}}, "'time' has no scale: scales by name are one for each"),
        ({"bandwidth": {**NAMED, "dept": 1}}, "there is no feature 'dept'.*depth, time$"),
        ({"bandwidth": {**NAMED, "time": 0}}, "the scale of time is 0; it must be a positive"),
        ({"bandwidth": {**NAMED, "time": "2"}}, "the scale of time is '2'"),
        ({"bandwidth": NAMED, "covariance": "diag"}, "makes C from these; leave out covariance"),
        ({"bandwidth": NAMED, "kernel": "vonmises_fisher"}, "is one angle or length"),
        ({"bandwidth": [1.0, 1.0]}, r"given twice; .* of the 2 features, write bandwidth=1 and "
         r"covariance=\[1, 1\], or give them by name"),
        ({"bandwidth": ["scott", "scot"]}, "'scot' is neither a number nor a rule"),
        ({"bandwidth": ["scott", "silverman"]}, "'scott' is that of another one in 2 dimensions"),
        ({"bandwidth": 1, "metric": "haversine"}, 'write kernel="vonmises_fisher", which takes'),
        ({"bandwidth": 1, "metric": "l1"}, 'write metric="manhattan"$'),
        ({"bandwidth": 1, "metric": "mahalanobis"}, 'write covariance="full"'),
        ({"bandwidth": 1, "algorithm": "ball_tree"}, "leave it out: how sums are made is chosen"),
        ({"bandwidth": 1, "rtol": 1e-4}, "rtol is an argument of scikit-learn.*; write tol"),
        ({"bandwidth": 1, "metric_params": {}}, "write covariance"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_answered_in_one_line(said, words):
    query, train = (
        frame.rename(columns={"depth": "lat", "time": "lon"}) if "kernel" in said else frame
        for frame in (QUERY, TRAIN)
    )
    with pytest.raises(InputError, match=words) as refused:
        dkde.log_density(query, train, **said)
    assert len(str(refused.value).splitlines()) == 1


def test_names_need_features_with_names_that_are_not_components():
    with pytest.raises(InputError, match="its 2 features have no names; name them"):
        dkde.log_density(QUERY.to_numpy(), TRAIN.to_numpy(), NAMED)
    with pytest.raises(InputError, match="these rows are principal components"):
        dkde.cross_validate(TRAIN, [0.5], covariance=NAMED, pca=1)
    with pytest.raises(InputError, match="one is chosen; give a scale for each feature by name"):
        dkde.cross_validate(TRAIN, NAMED)
    with pytest.raises(InputError, match="one is chosen; give a scale for each feature by name"):
        dkde.sweep(train=TRAIN, valid=QUERY, bandwidths=NAMED)
    with pytest.raises(InputError, match="one is chosen"):
        dkde.KernelDensityCV(bandwidths=NAMED).fit(TRAIN)


def test_rules_may_be_in_a_list_beside_numbers(tmp_path):
    line = TRAIN[["depth"]]
    found = dkde.log_density(line, line, ["scott", "silverman", 3.0])
    for row, rule in zip(found, ("scott", "silverman", 3.0), strict=True):
        np.testing.assert_allclose(row, dkde.log_density(line, line, rule), rtol=1e-9)
    result = dkde.score(query=QUERY[["depth"]], train=line, bandwidth=["scott", "silverman"])
    assert json.loads(result.attrs["provenance"])["options"]["bandwidth_rule"] == [
        "scott", "silverman"
    ]  # fmt: skip
    line.to_csv(tmp_path / "t.csv", index=False)
    run = CliRunner().invoke(
        cli, ["cv", str(tmp_path / "t.csv"), "--bandwidths", "scott,silverman,3", "--json"]
    )
    assert run.exit_code == 0, run.output
    assert len(json.loads(run.stdout)["rows"]) == 3


@pytest.mark.parametrize("text", ["depth=10,time", "depth=x,time=2", "depth=-1", "=3", "a=1,a=2"])
@pytest.mark.parametrize("option", ["--bandwidth", "--covariance"])
def test_names_that_cannot_be_read_are_refused_by_their_option(text, option):
    other = [] if option == "--bandwidth" else ["--bandwidth", "1"]
    run = CliRunner().invoke(cli, ["score", "digits", "--query", "valid", *other, option, text])
    assert run.exit_code != 0
    assert run.stderr.startswith(f"Error: {option} '{text}': ")
    assert len(run.stderr.splitlines()) == 1


def test_estimators_take_names_and_answer_arguments_of_scikit_learn():
    model = dkde.KernelDensity(bandwidth=NAMED)
    found = clone(model).fit(TRAIN).score_samples(QUERY)
    np.testing.assert_allclose(found, expected()[0], rtol=1e-12)
    assert model.fit(TRAIN).bandwidth_ == 1.0
    plain = dkde.KernelDensity(algorithm="auto", rtol=0, leaf_size=40, breadth_first=True)
    assert "algorithm" not in plain.get_params()
    for estimator in (dkde.KernelDensity, dkde.KernelDensityCV):
        with pytest.raises(InputError, match="leaf_size is an argument of scikit-learn"):
            estimator(leaf_size=20)
        with pytest.raises(TypeError, match="unexpected keyword argument 'colour'"):
            estimator(colour=3)
    with pytest.raises(InputError, match='leave such rows out \\(nan="drop"\\) or fill them'):
        dkde.KernelDensity().fit([[1.0], [np.nan]])
    with pytest.raises(TypeError, match="unexpected keyword argument 'colour'"):
        dkde.log_density(QUERY, TRAIN, 1.0, colour=3)
