"""Random calls against extended precision: errors within bounds, and bounds within the contract.

``DKDE_NUMERIC_CASES=100000`` says how many the long test tries.
"""

import os
from dataclasses import replace

import numpy as np
import pytest
from numeric_cases import Case, draw, exact, judge, tried

import dkde

CASES = int(os.environ.get("DKDE_NUMERIC_CASES", "2000"))


@pytest.mark.slow
def test_some_random_calls() -> None:
    found = tried(0, range(30))
    assert not found.wrong, "\n".join(found.wrong)


@pytest.mark.slow
def test_many_random_calls() -> None:
    found = tried(6, range(CASES))
    assert not found.wrong, "\n".join(found.wrong)
    # Few are refused, and each method is tried.
    assert found.kinds["refused"] < CASES / 20
    assert min(found.kinds[m] for m in ("leaves", "expansions", "near pairs", "all pairs")) > 0


def test_what_is_wrong_is_seen() -> None:
    rng = np.random.default_rng(0)
    case = Case(0, rng.normal(size=(3, 2)), rng.normal(size=(40, 2)), np.ones(1), "gaussian", 1e-9)
    values, errors = case.answer()
    right = exact(case)
    assert judge(case, values, errors, right) == []
    for found, bounds, words in (
        (values + 1e-9, errors, "error above bound"),
        (values, errors + 1e-7, "bound above contract"),
        (values, -errors, "a bound is negative"),
        (values + np.nan, errors, "NaN"),
        (values + 1e-7, errors + 1e-7, "error above tolerance"),
    ):
        assert words in "".join(judge(case, found, bounds, right))
    absolute = replace(case, atol=1e-12)
    assert "density above atol" in "".join(judge(absolute, values - 1e-7, errors, right))


def test_a_case_follows_from_its_number() -> None:
    one, again = draw(3, 17), draw(3, 17)
    assert np.array_equal(one.train, again.train, equal_nan=True)
    assert repr(one) == repr(again)


@pytest.mark.parametrize("covariance", ["scales", "matrix"])
@pytest.mark.parametrize("kernel", ["gaussian", "exponential"])
def test_bounds_include_the_rounding_of_a_map(covariance: str, kernel: str) -> None:
    # Features vary over a million of their bandwidths: the map rounds by far more than sums do.
    rng = np.random.default_rng(1)
    rows = 1e6 * rng.integers(0, 3, (60, 3)) + rng.normal(size=(60, 3))
    given = np.array([0.3, 1.7, 0.01])
    if covariance == "matrix":
        given = np.diag(given**2) + 0.002
    case = Case(0, rows[:9] + 0.1, rows, np.array([1.0, 3.0]), kernel, 1e-9, covariance=given)
    values, errors = case.answer()
    right = exact(case)
    assert judge(case, values, errors, right) == []
    off = np.abs(values - right.values)
    assert off.max() > 1e-11
    near = dkde.log_density(rows[:9] + 0.1, rows, [1.0, 3.0], kernel=kernel, return_error=True)[1]
    assert errors.max() > 1.01 * near.max()
