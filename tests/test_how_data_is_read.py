"""Any form of the same rows: the density that is right, or a refusal of one line."""

import os
import secrets
from pathlib import Path

import numpy as np
import pytest
import reference
from reading.cases import draw
from reading.container import CONTAINERS
from reading.outcomes import Outcome, faults_of, run
from reading.truth import gaussian

# Cases of each form as the training side; the other side's is drawn.
FEW, MANY = 6, 100


def check(name: str, seeds: range, folder: Path) -> None:
    """Run cases; what is wrong says how to run it again."""
    reports = (run(name, seed, folder / str(seed)) for seed in seeds)
    wrong = [str(report) for report in reports if report.faults]
    assert not wrong, f"{len(wrong)} of {len(seeds)}\n\n" + "\n\n".join(wrong)


@pytest.mark.parametrize("name", CONTAINERS)
def test_any_form_is_read_right_or_refused(name, tmp_path):
    check(name, range(FEW), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", CONTAINERS)
def test_many_cases_of_a_form(name, tmp_path):
    """Other cases each time, unless ``DKDE_TEST_SEED`` says which."""
    seed = int(os.environ.get("DKDE_TEST_SEED") or secrets.randbelow(10**9))
    check(name, range(seed, seed + MANY), tmp_path)


def test_what_is_right_agrees_with_the_oracle():
    rng = np.random.default_rng(0)
    query, train = rng.normal(size=(5, 2)), rng.normal(size=(7, 2))
    weights = np.array([1, 0, 2, 0.5, np.nan, 1, 3])
    query[1, 0] = train[2, 1] = np.nan
    right = gaussian(query, train, 0.7, weights, np.array([1, 1, 2, 0, np.nan]))
    there = [0, 3, 5, 6]
    expected = reference.log_density(query, train[there], [0.7], weights[there])[0]
    others = [0, 2, 3, 4]
    np.testing.assert_allclose(right.log_density[others], expected[others], rtol=1e-12)
    assert np.isnan(right.log_density[1])
    mean = (expected[0] + 2 * expected[2]) / 3
    spread = ((expected[0] - mean) ** 2 + 2 * (expected[2] - mean) ** 2) / 3
    assert right.n == 2
    assert right.mean == pytest.approx(mean, rel=1e-12)
    assert right.standard_error == pytest.approx((spread / (9 / 5 - 1)) ** 0.5, rel=1e-12)


def test_what_is_wrong_is_seen():
    case = draw("NumPy", np.random.default_rng(0))
    right = case.right()
    good = Outcome(right.mean, right.standard_error, log_density=right.log_density)
    assert not faults_of(case, good)
    values = right.log_density
    for bad in (
        Outcome(-np.inf, right.standard_error, log_density=values),
        Outcome(right.mean + 1e-8 * abs(right.mean), right.standard_error, log_density=values),
        Outcome(right.mean, right.standard_error, log_density=values[::-1]),
        Outcome(right.mean, right.standard_error, log_density=values[1:]),
        Outcome(refusal="no"),
        Outcome(refusal="two\nlines"),
        Outcome(faults=("TypeError: no",)),
    ):
        assert faults_of(case, bad), bad
