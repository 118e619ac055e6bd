"""Metrics as values: their distances, what they refuse, and which kernels they go with."""

import pickle
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import reference

from dkde.errors import InputError
from dkde.numerics.frame import Frame, Points, reference_row
from dkde.numerics.kernels import KERNELS
from dkde.numerics.metrics import EUCLIDEAN, METRICS, Metric, check_pair, get_metric

Array = npt.NDArray[Any]
DIRECT = ["chebyshev", "manhattan"]


def distances(name: str, query: Array, train: Array, precision: Any = "float64") -> Array:
    integer = query.dtype.kind in "iu"
    frame = Frame(reference_row(train, integer), 1.0, integer, precision)
    out = np.full((len(query), len(train)), np.nan, precision)
    METRICS[name].squared_distances(Points.of(query, frame), Points.of(train, frame), out)
    return out


@pytest.mark.parametrize("name", sorted(METRICS))
class TestDistances:
    @pytest.mark.sampled(27)
    @pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "int16", "float32", "float64"])
    @pytest.mark.parametrize("shape", [(5, 7, 1), (3, 40, 13), (33, 17, 100)])
    def test_as_the_formula_says(self, name: str, dtype: str, shape: tuple[int, ...]) -> None:
        rng = np.random.default_rng(0)
        query, train = (rng.normal(size=(n, shape[2])) * 40 + 60 for n in shape[:2])
        if np.dtype(dtype).kind in "iu":
            limits = np.iinfo(dtype)
            query, train = (np.clip(np.rint(x), limits.min, limits.max) for x in (query, train))
        query, train = query.astype(dtype), train.astype(dtype)
        expected = [[reference.squared_distance(x, y, name) for y in train] for x in query]
        expected = np.array(expected, np.float64)
        tolerance = 0 if np.dtype(dtype).kind in "iu" else 1e-9 if name == "euclidean" else 1e-14
        np.testing.assert_allclose(distances(name, query, train), expected, rtol=tolerance)
        if dtype != "float64":
            single = distances(name, query, train, "float32")
            np.testing.assert_allclose(single, expected, rtol=1e-4 if name == "euclidean" else 3e-7)

    def test_rows_of_infinite_norm_are_infinitely_far(self, name: str) -> None:
        rows = np.ones((3, 2))
        frame = Frame(np.zeros(2), 1.0, False, "float64")
        points = Points.of(rows, frame)
        train = Points(rows, points.coordinates, np.array([2.0, np.inf, 2.0]))
        out = np.empty((3, 3))
        METRICS[name].squared_distances(points, train, out)
        np.testing.assert_array_equal(out, np.tile([0, np.inf, 0], (3, 1)))

    @pytest.mark.parametrize("layout", ["read-only", "strided", "F", "other order"])
    def test_any_memory_layout(self, name: str, layout: str) -> None:
        rows = np.random.default_rng(0).normal(size=(6, 8))
        other = rows.copy()
        if layout == "read-only":
            other.flags.writeable = False
        elif layout == "strided":
            other = np.repeat(rows, 2, axis=1)[:, ::2]
        elif layout == "F":
            other = np.asfortranarray(rows)
        else:
            other = rows.astype(">f8")
        np.testing.assert_array_equal(distances(name, other, rows), distances(name, rows, rows))


def test_float32_takes_whole_numbers_as_exactly_as_it_can() -> None:
    # Products of such rows are whole numbers below 2**24, but sums of norms are not.
    rows = np.random.default_rng(0).choice(np.array([0, 255], np.uint8), size=(40, 784))
    frame = Frame(reference_row(rows, True), 1.0, True, "float32")
    points = Points.of(rows, frame)
    assert 2**23 < points.norms.max() < 2**24 < 2 * points.norms.max()
    assert EUCLIDEAN.rounding(frame, points.norms.max()) == 0
    actual = np.empty((40, 40), np.float32)
    EUCLIDEAN.squared_distances(points, points, actual)
    exact = ((rows.astype(np.int64)[:, None] - rows) ** 2).sum(axis=2)
    np.testing.assert_array_equal(actual, exact.astype(np.float32))


@pytest.mark.parametrize("name", DIRECT)
def test_an_offset_costs_no_digit(name: str) -> None:
    rng = np.random.default_rng(0)
    query, train = 1e6 + rng.normal(size=(4, 9)), 1e6 + rng.normal(size=(5, 9))
    expected = [[float(reference.squared_distance(x, y, name)) for y in train] for x in query]
    np.testing.assert_allclose(distances(name, query, train), expected, rtol=1e-14)


@pytest.mark.parametrize("precision", ["float64", "float32"])
def test_an_overflow_of_what_norms_let_pass_is_refused(precision: Any) -> None:
    limit = float(np.sqrt(np.finfo(precision).max / 4 / 100)) * 0.99
    train = np.full((2, 100), limit)
    query = np.full((1, 100), -limit)
    frame = Frame(np.zeros(100), 1.0, False, precision)
    q, t = Points.of(query, frame), Points.of(train, frame)
    assert np.isfinite(q.norms).all()
    assert np.isfinite(t.norms).all()
    out = np.empty((1, 2), precision)
    METRICS["chebyshev"].squared_distances(q, t, out)
    assert np.isfinite(out).all()
    with pytest.raises(InputError, match=f"overflow {precision}; "):
        METRICS["manhattan"].squared_distances(q, t, out)


class TestNames:
    @pytest.mark.parametrize("name", sorted(METRICS))
    def test_by_name_or_as_itself(self, name: str) -> None:
        metric = get_metric(name)
        assert get_metric(metric) is metric
        assert pickle.loads(pickle.dumps(metric)) is metric

    @pytest.mark.parametrize("wanted", ["cosine", None, ["euclidean"]])
    def test_an_unknown_one_is_told_the_others(self, wanted: Any) -> None:
        with pytest.raises(InputError, match="choose one of: chebyshev, euclidean, manhattan"):
            get_metric(wanted)

    def test_another_of_a_known_name(self) -> None:
        mine = Metric("euclidean", METRICS["manhattan"].squared_distances, lambda *_: 0.0)
        with pytest.raises(InputError, match="only dkde's own"):
            get_metric(mine)


@pytest.mark.parametrize("metric", sorted(METRICS))
@pytest.mark.parametrize("kernel", sorted(KERNELS))
def test_which_kernels_go_with_which_metrics(kernel: str, metric: str) -> None:
    pair = KERNELS[kernel], METRICS[metric]
    if metric == "euclidean" or kernel == "univariate_gaussian":
        check_pair(*pair)
        return
    with pytest.raises(InputError) as error:
        check_pair(*pair)
    message = str(error.value)
    for word in (repr(kernel), repr(metric), "Euclidean balls", "'univariate_gaussian'"):
        assert word in message
    assert "\n" not in message
