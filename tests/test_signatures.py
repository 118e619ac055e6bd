"""The words that functions share: what says which rows are meant is the same everywhere."""

import inspect
import re
from collections.abc import Callable
from dataclasses import fields
from typing import Any

import pytest

import dkde
from dkde.errors import InputError
from dkde.estimation.options import RECORDED, Options
from dkde.rows.feature_choice import FeatureChoice
from dkde.runs.plan_schema import ARGUMENTS

TAKE_ROWS: dict[str, Callable[..., Any]] = {
    "log_density": dkde.log_density,
    "score": dkde.score,
    "sweep": dkde.sweep,
    "cross_validate": dkde.cross_validate,
    "classify": dkde.classify,
    "sample": dkde.sample,
    "density_map": dkde.density_map,
    "plan": dkde.plan,
    "plan_map": dkde.plan_map,
    "describe": dkde.describe,
    "follow_protocol": dkde.follow_protocol,
    "Catalog": dkde.Catalog,
    "KernelDensity": dkde.KernelDensity,
    "KernelDensityCV": dkde.KernelDensityCV,
    "KernelDensityClassifier": dkde.KernelDensityClassifier,
    "KernelDensityOutlier": dkde.KernelDensityOutlier,
}


@pytest.mark.parametrize("name", TAKE_ROWS)
def test_all_that_take_rows_say_alike_which_are_meant(name):
    parameters = inspect.signature(TAKE_ROWS[name]).parameters
    for word in ("where", "row_dim", "lat", "lon"):
        assert parameters[word].kind is inspect.Parameter.KEYWORD_ONLY
        assert parameters[word].default is None
    assert parameters["features"].default is None


# In this order, with these defaults, wherever they are taken.
OPTIONS = {
    "kernel": "gaussian", "metric": "euclidean", "covariance": "identity", "singular": "raise",
    "precision": "float64", "tol": None, "atol": 0.0, "nan": "raise",
    "support": None, "outside": "raise", "adaptive": None, "weights": None,
    "bandwidth_scale": None, "source": None,
    "features": None, "where": None, "row_dim": None, "lat": None, "lon": None,
    "output": None, "restart": False, "retry_failed": False, "anywhere": False,
    "progress": None, "block_rows": None, "panel_rows": None,
}  # fmt: skip
TAKE_OPTIONS = ("log_density", "score", "sweep", "cross_validate", "classify", "sample", "plan",
                "KernelDensity", "KernelDensityCV", "KernelDensityClassifier",
                "KernelDensityOutlier")  # fmt: skip


@pytest.mark.parametrize("name", TAKE_OPTIONS)
def test_options_are_the_same_words_in_the_same_order(name):
    parameters = inspect.signature(TAKE_ROWS[name]).parameters
    taken = {word: parameters[word] for word in parameters if word in OPTIONS}
    assert list(taken) == [word for word in OPTIONS if word in taken]
    for word, parameter in taken.items():
        assert parameter.kind is inspect.Parameter.KEYWORD_ONLY
        assert parameter.default == OPTIONS[word]


def test_options_of_a_call_are_those_of_its_record():
    assert [word for word in OPTIONS if word in RECORDED] == list(RECORDED)
    assert {field.name for field in fields(Options)} == {*RECORDED, "method"}


# What the record of a call holds apart from its arguments, or not at all.
BESIDE = {
    "source", "features", "where", "row_dim", "lat", "lon", "output", "restart", "retry_failed",
    "anywhere", "progress", "contours",
}  # fmt: skip


@pytest.mark.parametrize("name", ["score", "sweep", "cross_validate", "classify", "density_map"])
def test_calls_whose_results_are_kept_are_known_from_their_records(name):
    parameters = inspect.signature(TAKE_ROWS[name]).parameters.keys() - {*RECORDED}
    assert parameters - BESIDE == {*ARGUMENTS[name].__struct_fields__} - {*RECORDED}


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"lat": "y"}, "lon is missing"),
        ({"lat": "y", "lon": "y"}, "more than once"),
        ({"features": ["a", "x"], "lat": "y", "lon": "x"}, "'y' is not among the features a, x"),
        ({"row_dim": []}, "row_dim is"),
        ({"row_dim": ["cell", "cell"]}, "row_dim name 'cell' more than once"),
        ({"row_dim": [3]}, "names of dims"),
        ({"features": [""]}, "names of variables"),
    ],
)
def test_a_choice_that_cannot_be_is_refused(said, words):
    with pytest.raises(InputError, match=words):
        FeatureChoice.of(**said)


def test_what_a_call_says_takes_the_place_of_what_its_catalog_says():
    catalog = dkde.Catalog("digits", ["a", "b"], row_dim="cell")
    assert catalog.choosing() is catalog
    chosen = catalog.choosing(row_dim=["time", "station"])
    assert chosen.choice == FeatureChoice(("a", "b"), ("time", "station"))
    assert catalog.choice == FeatureChoice(("a", "b"), ("cell",))


@pytest.mark.parametrize("name", TAKE_ROWS)
def test_signatures_read_well_in_a_tooltip(name):
    """Types are written as names: no union of NumPy's protocols, and no bare Any for rows."""
    text = str(inspect.signature(TAKE_ROWS[name]))
    assert "_array_like" not in text
    for side in ("query", "train", "valid", "test"):
        assert not re.search(rf"\b{side}: '?(typing\.)?Any\b", text)
