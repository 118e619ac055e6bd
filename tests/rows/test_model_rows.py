"""Rows of a model: any range of them gives the same rows."""

import numpy as np
import pytest

from dkde.rows.model_rows import MODELS, ModelRows


@pytest.mark.parametrize("model", MODELS)
def test_any_range_gives_the_same_rows(model: str) -> None:
    rows = ModelRows(model, (20_000, 3), seed=1, n_in_chunk=5000)
    whole = rows.read(0, 20_000)
    assert whole.shape == rows.shape
    rng = np.random.default_rng(0)
    for start, stop in np.sort(rng.integers(0, 20_000, (20, 2)), axis=1):
        np.testing.assert_array_equal(rows.read(start, stop), whole[start:stop])
    other = ModelRows(model, (20_000, 3), seed=2, n_in_chunk=5000)
    assert not np.isin(other.read(0, 100), whole).any()


def test_rows_are_of_the_model() -> None:
    one = ModelRows("normal", (10**5, 2), seed=0, n_in_chunk=1000).read(0, 10**5)
    np.testing.assert_allclose(one.mean(axis=0), 0, atol=0.02)
    np.testing.assert_allclose(np.cov(one.T), np.eye(2), atol=0.03)
    many = ModelRows("mixture", (10**5, 2), seed=0, n_in_chunk=1000).read(0, 10**5)
    assert np.cov(many.T).trace() > 8
