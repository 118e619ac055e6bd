"""Log-densities asked for as a column come back with the index of the query's data frame."""

from functools import cache

import numpy as np
import pandas as pd
import pytest

import dkde

rng = np.random.default_rng(2)
TRAIN = rng.normal(size=(40, 2))
INDEX = pd.Index(list("qwertzu"), name="key")
QUERY = pd.DataFrame(rng.normal(size=(7, 2)), columns=["a", "b"], index=INDEX)
HOURS = pd.date_range("2020", periods=7, freq="h")


@cache
def truth():
    return dkde.log_density(QUERY.to_numpy(), TRAIN, [0.5, 2.0])


@pytest.mark.parametrize("index", [INDEX, HOURS, pd.MultiIndex.from_product([[1], range(7)])])
def test_of_pandas_it_is_a_series_with_its_index(index):
    query = QUERY.set_axis(index)
    found = dkde.log_density(query, TRAIN, 0.5, as_frame=True)
    pd.testing.assert_series_equal(found, pd.Series(truth()[0], index, name="log_density"))
    both = dkde.log_density(query, TRAIN, 0.5, as_frame=True, return_error=True)
    assert both[1].name == "log_density_error"
    assert both[1].index is query.index
    assert not isinstance(dkde.log_density(query, TRAIN, 0.5), pd.Series)


def test_several_bandwidths_are_columns():
    found = dkde.log_density(QUERY, TRAIN, [0.5, 2.0], as_frame=True)
    assert list(found.columns) == ["log_density_0.5", "log_density_2.0"]
    np.testing.assert_array_equal(found.T, truth())
    assert found.index is QUERY.index


def test_an_estimator_takes_the_same_word():
    estimator = dkde.KernelDensity(bandwidth=0.5).fit(pd.DataFrame(TRAIN, columns=["a", "b"]))
    found = estimator.score_samples(QUERY, as_frame=True)
    pd.testing.assert_series_equal(found, pd.Series(truth()[0], INDEX, name="log_density"))
    assert isinstance(estimator.score_samples(QUERY), np.ndarray)


def test_of_polars_and_of_arrow():
    pl, pa = pytest.importorskip("polars"), pytest.importorskip("pyarrow")
    polars = pl.from_pandas(QUERY)
    found = dkde.log_density(polars, TRAIN, 0.5, as_frame=True)
    assert isinstance(found, pl.Series)
    assert found.name == "log_density"
    np.testing.assert_array_equal(found.to_numpy(), truth()[0])
    wide = dkde.log_density(polars, TRAIN, [0.5, 2.0], as_frame=True)
    np.testing.assert_array_equal(wide.to_numpy().T, truth())
    table = dkde.log_density(
        pa.Table.from_pandas(QUERY, preserve_index=False), TRAIN, 0.5, as_frame=True
    )
    assert table.column_names == ["log_density"]
    np.testing.assert_array_equal(table["log_density"], truth()[0])


def test_of_dask_it_is_lazy_with_its_divisions():
    dd = pytest.importorskip("dask.dataframe")
    lazy = dd.from_pandas(QUERY.sort_index(), npartitions=3)
    found = dkde.log_density(lazy, TRAIN, 0.5, as_frame=True)
    assert isinstance(found, dd.Series)
    assert found.divisions == lazy.divisions
    expected = pd.Series(truth()[0], INDEX, name="log_density").sort_index()
    pd.testing.assert_series_equal(found.compute(), expected, check_index_type=False)
    # As a column of the frame that was scored.
    joined = lazy.assign(p=found).compute()
    np.testing.assert_allclose(joined.p, expected, rtol=1e-9)
    wide = dkde.log_density(lazy, TRAIN, [0.5, 2.0], as_frame=True).compute()
    np.testing.assert_allclose(wide.loc[INDEX].T, truth(), rtol=1e-9)


@pytest.mark.parametrize("query", [TRAIN, "digits", [[0.0, 1.0]], QUERY.a])
def test_rows_in_no_data_frame_are_refused(query):
    with pytest.raises(dkde.InputError, match="as_frame is for rows in a data frame or a table"):
        dkde.log_density(query, TRAIN, 0.5, as_frame=True)
