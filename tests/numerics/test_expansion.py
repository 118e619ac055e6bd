"""Expansions against sums in extended precision: the bound holds, and is of use."""

from itertools import pairwise, product
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import reference
from examples import few
from hypothesis import given, settings
from hypothesis import strategies as st

from dkde.numerics import expanded
from dkde.numerics.cells import Cells, between, grouped
from dkde.numerics.expansion import Cost, Expansion
from dkde.numerics.logsum import split
from dkde.numerics.translation import side_for, translation

Array = npt.NDArray[Any]
Number = np.longdouble


def true_log_sums(query: Array, train: Array, h: float, weights: Array | None = None) -> Array:
    """In extended precision, from the float64 values as they are given."""
    weights = np.ones(len(train)) if weights is None else weights
    train, weights = train[weights > 0].astype(Number), weights[weights > 0].astype(Number)
    difference = (query.astype(Number)[:, None] - train[None]) / Number(h)
    terms = np.log(weights) - (difference**2).sum(axis=2) / 2
    top = terms.max(axis=1, keepdims=True)
    result: Array = top[:, 0] + np.log(np.exp(terms - top).sum(axis=1))
    return result


def expand(
    query: Array,
    train: Array,
    bandwidths: Any,
    tol: float,
    weights: Array | None = None,
    cuts: Any = (),
    **options: Any,
) -> tuple[Array, Array]:
    bandwidths = np.atleast_1d(np.asarray(bandwidths, np.float64))
    sums = Expansion(query, bandwidths=bandwidths, tol=tol, n_train=len(train), **options)
    edges = [0, *cuts, len(train)]
    for start, stop in pairwise(edges):
        sums.add(train[start:stop], None if weights is None else weights[start:stop])
    return sums.log_sums()


def assert_bounded(result: Array, query: Array, train: Array, hs: Any, weights: Any = None) -> None:
    for k, h in enumerate(hs):
        bounds = result[len(hs) + 1 + k]
        known = np.isfinite(bounds)
        truth = true_log_sums(query[known], train, h, weights)
        assert (np.abs(result[k, known] - truth) <= bounds[known]).all()


def data(random: np.random.Generator, n: int, d: int, kind: str) -> Array:
    if kind == "normal":
        return random.standard_normal((n, d))
    if kind == "clusters":
        return random.standard_normal((n, d)) * 0.01 + random.integers(-3, 4, (n, d))
    if kind == "heavy":
        return random.standard_cauchy((n, d)).clip(-1e5, 1e5)
    if kind == "lattice":  # rows on the edges of cells, and duplicates
        return random.integers(-4, 5, (n, d)) * 0.5
    return np.repeat(random.standard_normal((1, d)), n, axis=0)


KINDS = ["normal", "clusters", "heavy", "lattice", "one point"]


@pytest.mark.parametrize(("d", "kind"), list(product((1, 2, 3), KINDS)))
def test_bound_is_never_exceeded(d: int, kind: str) -> None:
    random = np.random.default_rng([d, KINDS.index(kind)])
    for _ in range(20):
        n, m = random.integers(1, 200, 2)
        offset = random.choice([0, 1e3]) * random.standard_normal(d)
        scale = 10.0 ** random.uniform(-4, 4)
        query = (data(random, m, d, kind) + offset) * scale
        train = (data(random, n, d, kind) + offset) * scale
        query[: m // 3] = train[random.integers(0, n, m // 3)]
        weights = random.choice([None, 1, 20])
        if weights is not None:
            weights = np.exp(weights * random.standard_normal(n)) * (random.random(n) < 0.8)
            weights[0] = 1
        hs = scale * 10.0 ** random.uniform(-2, 1, random.integers(1, 4))
        cuts = sorted(random.integers(0, n + 1, random.integers(0, 4)))
        tol = 10.0 ** random.uniform(-11, -2)
        order = random.choice([None, 8, 12, 16])
        result, doubtful = expand(query, train, hs, tol, weights, cuts, order=order)
        bounds = split(result).errors
        assert (doubtful == (bounds > tol).any(axis=0)).all()
        assert (split(result).pairs == 0).all()
        eligible = n if weights is None else weights.sum()
        assert result[len(hs)] == pytest.approx(np.full(m, np.log(eligible)), abs=1e-13)
        assert_bounded(result, query, train, hs, weights)


def test_cells_out_of_reach_are_in_the_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(expanded, "reach_for", lambda *sizes: 1)
    random = np.random.default_rng(0)
    for d in (1, 2, 3):
        query, train = random.standard_normal((100, d)), random.standard_normal((200, d))
        result, _ = expand(query, train, 0.7, 1e-6)
        assert_bounded(result, query, train, [0.7])
        error = np.abs(result[0] - true_log_sums(query, train, 0.7))
        assert error.max() > 1e-3  # that much was left out


@settings(max_examples=few(30))
@given(
    d=st.integers(1, 3), n=st.integers(1, 12), m=st.integers(1, 6), seed=st.integers(0, 2**32 - 1)
)  # fmt: skip
def test_log_densities_are_the_oracles(d: int, n: int, m: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    query, train = random.standard_normal((m, d)), random.standard_normal((n, d))
    weights = random.integers(0, 3, n) + (np.arange(n) == 0)
    hs = [0.3, 1.0, 7.0]
    log_norms = np.array([float(reference.log_norm("gaussian", d) + d * np.log(h)) for h in hs])
    result, doubtful = expand(
        query, train, hs, 1e-9, weights.astype(np.float64), [n // 2], log_norms=log_norms
    )
    log_p = result[:3] - result[3] - log_norms[:, None]
    exact = reference.log_density(query, train, hs, weights)
    error = np.abs(log_p - exact) / np.maximum(1, np.abs(exact))
    assert (error[:, ~doubtful] <= 1e-9 + 1e-14).all()
    assert (np.abs(log_p - exact)[:, ~doubtful] <= result[4:7, ~doubtful] + 1e-13).all()


@pytest.mark.parametrize(("d", "tol"), list(product((1, 2, 3), (1e-6, 1e-9))))
def test_ordinary_rows_are_not_doubtful(d: int, tol: float) -> None:
    random = np.random.default_rng(d)
    n = 20_000
    train, query = random.standard_normal((n, d)), random.standard_normal((2000, d))
    h = n ** (-1 / (d + 4))
    result, doubtful = expand(query, train, h, tol, cuts=[n // 3])
    assert doubtful.mean() < (0.01 if d < 3 else 0.06)
    some = slice(0, 50)
    assert_bounded(result[:, some], query[some], train, [h])


def test_duplicates_of_one_row_do_not_drown_in_roundings() -> None:
    train = np.full((300_000, 2), 0.3)
    result, doubtful = expand(train[:3], train, 0.1, 1e-9)
    assert not doubtful.any()
    assert np.abs(result[0] - np.log(300_000)).max() <= result[2].max() <= 1e-9


def test_clusters_a_million_bandwidths_apart() -> None:
    random = np.random.default_rng(0)
    for d in (1, 2, 3):
        places = random.integers(-1, 2, (400, d)) * 1e6
        train = places + random.standard_normal((400, d))
        result, doubtful = expand(train, train, 1.0, 1e-9)
        assert doubtful.mean() < 0.05
        assert_bounded(result, train, train, [1.0])


@pytest.mark.parametrize("far", [1e12, 1e200])
def test_rows_too_far_for_a_cell_are_left_to_direct_sums(far: float) -> None:
    random = np.random.default_rng(0)
    train = random.standard_normal((300, 2))
    train[:2] = far
    result, doubtful = expand(train, train, 0.5, 1e-6)
    assert doubtful[:2].all()
    assert np.isinf(result[2, :2]).all()
    assert not doubtful[2:].all()
    assert_bounded(result[:, 2:], train[2:], train, [0.5])


def test_lone_rows_far_from_all_are_doubtful() -> None:
    train = np.random.default_rng(0).standard_normal((500, 2))
    result, doubtful = expand(np.array([[0.0, 0.0], [60.0, 0.0]]), train, 0.5, 1e-6)
    assert doubtful.tolist() == [False, True]
    assert result[0, 1] == -np.inf


def test_weights_of_any_size() -> None:
    random = np.random.default_rng(0)
    train = random.standard_normal((400, 2))
    weights = np.exp(random.standard_normal(400))
    plain, plain_doubtful = expand(train, train, 0.5, 1e-9, weights)
    assert plain_doubtful.mean() < 0.02
    for shift in (-900, 900):
        result, doubtful = expand(train, train, 0.5, 1e-9, np.ldexp(weights, shift))
        assert (doubtful == plain_doubtful).all()
        assert result[0] - shift * np.log(2) == pytest.approx(plain[0], abs=1e-12)
    # The heavy half comes last, or first.
    mixed = np.where(np.arange(400) < 200, np.ldexp(weights, -900), np.ldexp(weights, 900))
    for order in (slice(None), slice(None, None, -1)):
        result, doubtful = expand(train, train[order], 0.5, 1e-9, mixed[order], cuts=[200])
        assert_bounded(result, train, train, [0.5], mixed)
        assert doubtful.mean() < 0.2


def test_rows_of_weight_zero_do_not_count() -> None:
    random = np.random.default_rng(0)
    train = random.standard_normal((100, 2))
    weights = np.where(np.arange(100) % 2, 2.0, 0.0)
    some, _ = expand(train, train, 0.5, 1e-9, weights)
    rest, _ = expand(train, train[1::2], 0.5, 1e-9, weights[1::2])
    assert some == pytest.approx(rest, abs=1e-12)
    none, doubtful = expand(train, train, 0.5, 1e-9, np.zeros(100))
    assert (none[:2] == -np.inf).all()
    assert (none[2:] == 0).all()
    assert not doubtful.any()


@pytest.mark.parametrize(("n", "m"), [(0, 5), (5, 0), (0, 0)])
def test_no_rows(n: int, m: int) -> None:
    result, doubtful = expand(np.zeros((m, 3)), np.zeros((n, 3)), [0.5, 1.0], 1e-9)
    assert result.shape == (8, m)
    assert doubtful.shape == (m,)
    assert not doubtful.any()
    assert (result[:3] == (-np.inf if n == 0 else 0)).all()


def test_same_rows_in_the_same_order_give_the_same_bits() -> None:
    random = np.random.default_rng(0)
    train, query = random.standard_normal((5000, 2)), random.standard_normal((700, 2))
    results = [expand(query, train, [0.1, 0.4], 1e-9, cuts=[700, 3000])[0] for _ in range(2)]
    assert results[0].tobytes() == results[1].tobytes()


def test_batches_of_query_cells_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(0)
    for d in (1, 2, 3):
        train, query = random.standard_normal((2000, d)), random.standard_normal((500, d))
        whole, _ = expand(query, train, 0.2, 1e-9)
        with monkeypatch.context() as patch:
            patch.setattr(expanded, "BATCH_BYTES", 8)
            cut, _ = expand(query, train, 0.2, 1e-9)
        assert cut == pytest.approx(whole, rel=1e-12, abs=1e-12)


@pytest.mark.parametrize(
    ("order", "tol"), [(8, 1e-3), (8, 1e-6), (12, 1e-6), (12, 1e-9), (16, 1e-9)]
)
def test_translations_err_by_what_they_say(order: int, tol: float) -> None:
    side = side_for(order, tol)
    table = translation(order, side, 5)
    places = np.cos(np.linspace(0, np.pi, 201)).astype(Number)
    polynomials = np.cos(np.arange(order)[:, None] * np.arccos(places))
    for cells in range(-5, 6):
        z = cells * Number(side) + Number(side) / 2 * (places[:, None] - places[None, :])
        sums = polynomials.T @ table.coefficients[cells + 5].astype(Number) @ polynomials
        error = np.abs(np.exp(-z * z / 2) - sums).max()
        assert error <= table.error[cells + 5]
        assert np.exp(-z * z / 2).max() <= table.kernel[cells + 5]
        assert np.abs(sums).max() <= table.magnitude[cells + 5]
        if abs(cells) <= 1:
            assert error >= 0.1 * table.error[cells + 5]  # or the bound says little


@pytest.mark.parametrize("d", [1, 2, 3])
def test_cells_that_a_sum_goes_through(d: int) -> None:
    random = np.random.default_rng(d)
    for reach in (1, 3):
        sides = []
        for _ in range(2):
            cells = Cells(d, 1.0, 256)
            numbers = cells.number(random.integers(-8, 9, (30, d)) + 0.5)
            assert (numbers >= 0).all()
            sides.append(np.sort(cells.keys))
        bits = cells.bits
        sets = between(*sides, bits, d, reach)
        source, target = ([_indices(key, bits, d) for key in side] for side in sides)
        for axes, keys in enumerate(sets):
            expected = {
                t[:axes] + s[axes:]
                for s in source
                for t in target
                if all(abs(a - b) <= reach for a, b in zip(s, t, strict=True))
            }
            found = [_indices(key, bits, d) for key in keys]
            assert found == sorted(found)
            assert expected <= set(found)
            if 0 < axes < d:
                near = {c for c in found if _is_near(c, axes, source, target, reach)}
                assert set(found) == near


def _indices(key: int, bits: int, d: int) -> tuple[int, ...]:
    return tuple((int(key) >> bits * (d - 1 - j)) & (2**bits - 1) for j in range(d))


def _is_near(cell: Any, axes: int, source: Any, target: Any, reach: int) -> bool:
    def near(a: Any, b: Any) -> bool:
        return all(abs(i - j) <= reach for i, j in zip(a, b, strict=True))

    return any(near(cell[:axes], s[:axes]) and cell[axes:] == s[axes:] for s in source) and any(
        cell[:axes] == t[:axes] and near(cell[axes:], t[axes:]) for t in target
    )


def test_rows_keep_their_order_in_a_cell() -> None:
    rows, starts = grouped(np.array([1, 0, -1, 1, 0]), 3)
    assert rows.tolist() == [1, 4, 0, 3]
    assert starts.tolist() == [0, 2, 4, 4]


def test_pays_where_rows_are_many_and_dimensions_few() -> None:
    h = np.array([0.1])
    for d in (1, 2, 3):
        for n, pays in ((10**6, True), (10, False)):
            cost = Cost.of(n, n, np.full(d, 10.0), h, 1e-9)
            assert (cost.of_pairs(n, n, 1) < 1) == pays
    assert Cost.of(10**6, 10**6, np.full(2, 10.0), h, 1e-9).nbytes < 2**28
