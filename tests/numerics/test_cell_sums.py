"""Sums by moments of cells against sums in extended precision: the bound holds, and is of use."""

import pickle
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise, product
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import reference
from examples import few
from hypothesis import given, settings
from hypothesis import strategies as st

from dkde.numerics import cell_coefficients, cell_moments, cell_sums
from dkde.numerics.cell_coefficients import Coefficients
from dkde.numerics.cell_moments import CellMoments
from dkde.numerics.cell_sums import Own
from dkde.numerics.logsum import split
from dkde.numerics.moment_set import ACCEPTED, MomentSet
from dkde.numerics.translation import translate

Array = npt.NDArray[Any]
Number = np.longdouble


def log_sums(query: Array, sets: list[MomentSet], **options: Any) -> tuple[Array, Array]:
    return cell_sums.log_sums(query, [Coefficients(each) for each in sets], **options)


def true_log_sums(
    query: Array, train: Array, h: float, weights: Array | None = None, own: Array | None = None
) -> Array:
    """In extended precision, from the float64 values as they are given; -inf without a pair.

    ``own`` (query rows, training rows) says which pairs do not count.
    """
    weights = np.ones(len(train)) if weights is None else weights
    counts = weights > 0
    difference = (query.astype(Number)[:, None] - train[counts].astype(Number)[None]) / Number(h)
    terms = np.log(weights[counts].astype(Number)) - (difference**2).sum(axis=2) / 2
    if own is not None:
        terms[own[:, counts]] = -np.inf
    top = terms.max(axis=1, keepdims=True, initial=Number(-1e4000))
    result: Array = top[:, 0] + np.log(np.exp(terms - top).sum(axis=1))
    return result


def summed(
    query: Array,
    train: Array,
    bandwidths: Any,
    tol: float,
    weights: Array | None = None,
    cuts: Any = (),
    *,
    order: int | None = None,
    merged: bool = False,
    **options: Any,
) -> tuple[Array, Array]:
    """By ranges that are added one after the other, or ``merged`` from moments of their own."""
    bandwidths = np.atleast_1d(np.asarray(bandwidths, np.float64))
    whole = CellMoments(train.shape[1], bandwidths, tol, order=order)
    for number, (start, stop) in enumerate(pairwise([0, *cuts, len(train)])):
        codes = np.full(stop - start, number, np.int32) if merged else None
        whole.add(train[start:stop], None if weights is None else weights[start:stop], codes)
    sets = whole.others()
    assert whole.kept == sorted(range(len(bandwidths)), key=lambda k: -bandwidths[k])
    result, failed = log_sums(query, [sets[i] for i in np.argsort(whole.kept)], tol=tol, **options)
    return result, failed


def assert_bounded(
    result: Array, query: Array, train: Array, hs: Any, weights: Any = None, own: Any = None
) -> None:
    for k, h in enumerate(hs):
        bounds = result[len(hs) + 1 + k]
        known = np.isfinite(bounds)
        apart = None if own is None else own[known]
        truth = true_log_sums(query[known], train, h, weights, apart)
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
    if kind == "collinear":
        return random.standard_normal((n, 1)) * np.arange(1.0, d + 1)
    return np.repeat(random.standard_normal((1, d)), n, axis=0)


KINDS = ["normal", "clusters", "heavy", "lattice", "collinear", "one point"]


def problem(random: np.random.Generator, d: int, kind: str) -> tuple[Any, ...]:
    """Return query, train, weights, bandwidths and a tolerance, of any scale and place."""
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
    return query, train, weights, hs, 10.0 ** random.uniform(-11, -2)


@pytest.mark.sampled(18)
@pytest.mark.parametrize(("d", "kind"), list(product((1, 2, 3), KINDS)))
def test_bound_is_never_exceeded(d: int, kind: str) -> None:
    random = np.random.default_rng([d, KINDS.index(kind)])
    for _ in range(12):
        query, train, weights, hs, tol = problem(random, d, kind)
        cuts = sorted(random.integers(0, len(train) + 1, random.integers(0, 4)))
        order, merged = random.choice([None, 8, 12, 16]), bool(random.integers(2))
        result, failed = summed(query, train, hs, tol, weights, cuts, order=order, merged=merged)
        bounds = split(result).errors
        assert (failed == (bounds > ACCEPTED * tol)).all()
        assert (split(result).pairs == 0).all()
        eligible = len(train) if weights is None else weights.sum()
        assert result[len(hs)] == pytest.approx(np.full(len(query), np.log(eligible)), abs=1e-13)
        assert_bounded(result, query, train, hs, weights)


def test_cells_out_of_reach_are_in_the_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cell_coefficients, "reach_for", lambda *sizes: 1)
    random = np.random.default_rng(0)
    for d in (1, 2, 3):
        query, train = random.standard_normal((100, d)), random.standard_normal((200, d))
        result, _ = summed(query, train, 0.7, 1e-6)
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
    result, failed = summed(
        query, train, hs, 1e-9, weights.astype(np.float64), [n // 2], log_norms=log_norms
    )
    log_p = result[:3] - result[3] - log_norms[:, None]
    exact = reference.log_density(query, train, hs, weights)
    error = np.abs(log_p - exact)
    assert (error[~failed] <= 1e-9 * np.maximum(1, np.abs(exact))[~failed] + 1e-14).all()
    assert (error[~failed] <= result[4:7][~failed] + 1e-13).all()


@pytest.mark.sampled(3)
@pytest.mark.parametrize(("d", "tol"), list(product((1, 2, 3), (1e-6, 1e-9))))
def test_ordinary_rows_are_accurate_enough(d: int, tol: float) -> None:
    random = np.random.default_rng(d)
    n = 20_000
    train, query = random.standard_normal((n, d)), random.standard_normal((2000, d))
    h = n ** (-1 / (d + 4))
    result, failed = summed(query, train, h, tol, cuts=[n // 3])
    assert failed.mean() < (0.01 if d < 3 else 0.06)
    some = slice(0, 50)
    assert_bounded(result[:, some], query[some], train, [h])


@pytest.mark.parametrize("merged", [False, True])
def test_duplicates_of_one_row_do_not_drown_in_roundings(merged: bool) -> None:
    train = np.full((300_000, 2), 0.3)
    cuts = range(3000, 300_000, 3000)
    result, failed = summed(train[:3], train, 0.1, 1e-9, cuts=cuts, merged=merged)
    assert not failed.any()
    assert np.abs(result[0] - np.log(300_000)).max() <= result[2].max() <= 1e-9


def test_clusters_a_million_bandwidths_apart() -> None:
    random = np.random.default_rng(0)
    for d in (1, 2, 3):
        places = random.integers(-1, 2, (400, d)) * 1e6
        train = places + random.standard_normal((400, d))
        result, failed = summed(train, train, 1.0, 1e-9)
        assert failed.mean() < 0.05
        assert_bounded(result, train, train, [1.0])


@pytest.mark.parametrize("far", [1e12, 1e200])
def test_rows_too_far_for_a_cell_are_left_to_pairs(far: float) -> None:
    random = np.random.default_rng(0)
    train = random.standard_normal((300, 2))
    train[:2] = far
    result, failed = summed(train, train, 0.5, 1e-6)
    assert failed[0, :2].all()
    assert np.isinf(result[2, :2]).all()
    assert not failed[0, 2:].all()
    assert_bounded(result[:, 2:], train[2:], train, [0.5])


@pytest.mark.parametrize("d", [1, 2, 3])
def test_coordinates_that_were_rounded_are_in_the_bound(d: int) -> None:
    """Bounds are of the values as given, from which a row has been taken away."""
    random = np.random.default_rng(d)
    for far in (1.0, 1e6, 1e9, 1e13):
        train, query = random.standard_normal((500, d)), random.standard_normal((60, d))
        train, query = train + far, query + far
        row = np.full(d, far / 3)
        exact, failed = summed(query - row, train - row, 0.3, 1e-6)
        result, rounded_failed = summed(query - row, train - row, 0.3, 1e-6, rounded=True)
        assert_bounded(result, query, train, [0.3])
        assert (split(result).errors >= split(exact).errors).all()
        assert (rounded_failed >= failed).all()
        if far == 1.0:
            assert rounded_failed.mean() < 0.2
        elif far == 1e13:
            assert rounded_failed.all()
        own = own_of(np.eye(60, 500, dtype=np.bool_), train - row)
        result, _ = summed(query - row, train - row, 0.3, 1e-6, rounded=True, own=own)
        assert_bounded(result, query, train, [0.3], own=np.eye(60, 500, dtype=np.bool_))


def test_lone_rows_far_from_all_are_left_to_pairs() -> None:
    train = np.random.default_rng(0).standard_normal((500, 2))
    result, failed = summed(np.array([[0.0, 0.0], [60.0, 0.0]]), train, 0.5, 1e-6)
    assert failed.tolist() == [[False, True]]
    assert result[0, 1] == -np.inf


def test_each_bandwidth_is_accurate_enough_or_not_by_itself() -> None:
    train = np.random.default_rng(0).standard_normal((500, 2))
    query = np.array([[0.0, 0.0], [3.2, 0.0]])
    hs = [0.05, 1.0, 0.3]
    result, failed = summed(query, train, hs, 1e-6)
    assert not failed[1].any()
    assert failed[0, 1]
    assert_bounded(result, query, train, hs)


def test_weights_of_any_size() -> None:
    random = np.random.default_rng(0)
    train = random.standard_normal((400, 2))
    weights = np.exp(random.standard_normal(400))
    plain, plain_failed = summed(train, train, 0.5, 1e-9, weights)
    assert plain_failed.mean() < 0.02
    for shift in (-900, 900):
        result, failed = summed(train, train, 0.5, 1e-9, np.ldexp(weights, shift))
        assert (failed == plain_failed).all()
        assert result[0] - shift * np.log(2) == pytest.approx(plain[0], abs=1e-12)
    # The heavy half comes last, or first; in one object, or in two with units of their own.
    mixed = np.where(np.arange(400) < 200, np.ldexp(weights, -900), np.ldexp(weights, 900))
    for order, merged in product((slice(None), slice(None, None, -1)), (False, True)):
        result, failed = summed(
            train, train[order], 0.5, 1e-9, mixed[order], cuts=[200], merged=merged
        )
        assert_bounded(result, train, train, [0.5], mixed)
        assert failed.mean() < 0.2


def test_rows_of_weight_zero_do_not_count() -> None:
    random = np.random.default_rng(0)
    train = random.standard_normal((100, 2))
    weights = np.where(np.arange(100) % 2, 2.0, 0.0)
    some, _ = summed(train, train, 0.5, 1e-9, weights)
    rest, _ = summed(train, train[1::2], 0.5, 1e-9, weights[1::2])
    assert some == pytest.approx(rest, abs=1e-12)
    none, failed = summed(train, train, 0.5, 1e-9, np.zeros(100))
    assert (none[:2] == -np.inf).all()
    assert (none[2:] == 0).all()
    assert not failed.any()


@pytest.mark.parametrize(("n", "m"), [(0, 5), (5, 0), (0, 0)])
def test_no_rows(n: int, m: int) -> None:
    result, failed = summed(np.zeros((m, 3)), np.zeros((n, 3)), [0.5, 1.0], 1e-9)
    assert result.shape == (8, m)
    assert failed.shape == (2, m)
    assert not failed.any()
    assert (result[:3] == (-np.inf if n == 0 else 0)).all()


def test_no_bit_depends_on_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cell_moments, "_PART", 1000)
    random = np.random.default_rng(0)
    train, query = random.standard_normal((5000, 2)), random.standard_normal((700, 2))
    results = []
    for n_threads in (0, 0, 1, 3):
        moments = CellMoments(2, [0.4, 0.1], 1e-9)
        if n_threads:
            with ThreadPoolExecutor(n_threads) as pool:
                moments.add(train, pool=pool)
        else:
            moments.add(train)
        results.append(log_sums(query, moments.others(), tol=1e-9)[0].tobytes())
    assert len(set(results)) == 1


@pytest.mark.slow
def test_sums_of_a_row_do_not_depend_on_the_other_query_rows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    random = np.random.default_rng(0)
    for d in (1, 2, 3):
        train, query = random.standard_normal((2000, d)), random.standard_normal((500, d))
        whole, _ = summed(query, train, 0.2, 1e-9)
        some, _ = summed(query[:20], train, 0.2, 1e-9)
        assert some.tobytes() == whole[:, :20].tobytes()
        with monkeypatch.context() as patch:
            patch.setattr(cell_coefficients, "BATCH_BYTES", 8)
            cut, _ = summed(query, train, 0.2, 1e-9)
        assert cut.tobytes() == whole.tobytes()


@pytest.mark.sampled(3)
@pytest.mark.parametrize("kept", [True, False])
@pytest.mark.parametrize("d", [1, 2, 3])
def test_coefficients_are_made_once_for_all_blocks_and_threads(
    d: int, kept: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cell_coefficients, "BATCH_BYTES", 2**12)
    if not kept:
        monkeypatch.setattr(cell_coefficients, "_KEPT_BYTES", -(2**40))
    random = np.random.default_rng(d)
    train, query = random.standard_normal((2000, d)), random.standard_normal((600, d))
    moments = CellMoments(d, [0.4], 1e-9)
    moments.add(train)
    apart = [log_sums(query[i : i + 200], moments.others(), tol=1e-9) for i in (0, 200, 400)]
    coefficients = Coefficients(moments.others()[0])
    translated = []
    monkeypatch.setattr(
        cell_coefficients, "translate",
        lambda *given: (translated.append(len(given[4])), translate(*given)),
    )  # fmt: skip

    def block(i: int) -> tuple[Array, Array]:
        return cell_sums.log_sums(query[i : i + 200], [coefficients], tol=1e-9)

    with ThreadPoolExecutor(3) as pool:
        together = list(pool.map(block, (0, 200, 400)))
    for (one, _), (other, _) in zip(apart, together, strict=True):
        assert one.tobytes() == other.tobytes()
    before = len(translated)
    block(0)
    assert (len(translated) == before) == kept
    assert (coefficients.nbytes > 24 * len(moments.others()[0].cells)) == kept


@pytest.mark.parametrize("d", [1, 2, 3])
def test_cells_beyond_reach_are_not_translated(d: int, monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(d)
    near = random.standard_normal((300, d))
    far = random.standard_normal((2000, d)) * 3
    far[:, -1] += 1000  # as near as can be on the first axes
    counts = []
    monkeypatch.setattr(
        cell_coefficients, "translate",
        lambda *given: (counts.append((len(given[0]), len(given[4]))), translate(*given)),
    )  # fmt: skip
    results, expected = [], []
    for with_far in (False, True):
        moments = CellMoments(d, [0.2], 1e-6)
        moments.add(near)
        if with_far:
            moments.add(far)
        else:
            moments.count(len(far))
        results.append(log_sums(near, moments.others(), tol=1e-6)[0])
        expected.append(counts.copy())
        counts.clear()
    assert expected[0] == expected[1]
    assert len(expected[0]) >= d
    assert results[0].tobytes() == results[1].tobytes()


@pytest.mark.sampled(3)
@pytest.mark.parametrize("d", [1, 2, 3])
def test_merged_chunks_equal_one_whole(d: int) -> None:
    random = np.random.default_rng(d)
    train, query = random.standard_normal((3000, d)), random.standard_normal((300, d))
    weights = np.ldexp(random.random(3000), random.integers(-40, 40, 3000))
    hs = [0.6, 0.3]
    whole, _ = summed(query, train, hs, 1e-8, weights)
    merged, _ = summed(query, train, hs, 1e-8, weights, [100, 100, 1000, 2900], merged=True)
    known = np.isfinite(split(whole).errors) & np.isfinite(split(merged).errors)
    assert known.mean() > 0.5
    apart = np.abs(whole[:2] - merged[:2])
    assert (apart <= split(whole).errors + split(merged).errors)[known].all()
    assert apart[known].max() < 1e-9
    assert_bounded(merged, query, train, hs, weights)


def test_moments_can_be_sent() -> None:
    random = np.random.default_rng(0)
    train = random.standard_normal((500, 2))
    moments = CellMoments(2, [0.4], 1e-9)
    moments.add(train[:300])
    sent = pickle.loads(pickle.dumps(moments))
    for each in (moments, sent):
        each.add(train[300:])
    results = [log_sums(train, each.others(), tol=1e-9)[0] for each in (moments, sent)]
    assert results[0].tobytes() == results[1].tobytes()


def test_narrow_bandwidths_are_given_up_before_they_take_room() -> None:
    random = np.random.default_rng(0)
    train = random.standard_normal((20_000, 2))
    hs = [1e-4, 0.5, 1e-3, 0.1]
    moments = CellMoments(2, hs, 1e-6, most_bytes=2**23)
    moments.add(train)
    assert moments.kept == [1, 3]
    assert moments.nbytes <= 2**23
    result, failed = log_sums(train[:40], moments.others(), tol=1e-6)
    assert failed.mean() < 0.1
    assert_bounded(result, train[:40], train, [0.5, 0.1])
    none = CellMoments(2, hs, 1e-6, most_bytes=0)
    none.add(train)
    assert none.kept == none.others() == []


@pytest.mark.sampled(3)
@pytest.mark.parametrize("d", [1, 2, 3])
def test_bandwidths_over_many_decades_in_one_call(d: int) -> None:
    random = np.random.default_rng(d)
    train = random.standard_normal((3000, d))
    query = np.concatenate([train[:30], [np.full(d, 1e6), np.full(d, -300.0)]])
    hs = 10.0 ** np.arange(-6, 7)
    moments = CellMoments(d, hs, 1e-6, most_bytes=2**23)
    moments.add(train)
    assert moments.kept == list(range(12, 12 - len(moments.kept), -1))
    assert len(moments.kept) >= 7
    result, failed = log_sums(query, moments.others(), tol=1e-6)
    assert not failed[0].any()  # the widest reaches everything
    assert not failed[:6, :30].any()
    assert failed[hs[moments.kept] <= 1, -2:].all()
    assert_bounded(result, query, train, hs[moments.kept])


def own_of(own: Array, train: Array, weights: Array | None = None) -> Own:
    """Pairs (query rows, training rows) that do not count, as lists."""
    rows, places = np.nonzero(own)
    starts = np.searchsorted(rows, np.arange(len(own) + 1))
    return Own(starts, train[places], None if weights is None else weights[places])


@pytest.mark.sampled(12)
@pytest.mark.parametrize(("d", "kind"), list(product((1, 2, 3), KINDS)))
def test_own_rows_are_subtracted_within_the_bound(d: int, kind: str) -> None:
    random = np.random.default_rng([d, KINDS.index(kind), 1])
    for _ in range(8):
        query, train, weights, hs, tol = problem(random, d, kind)
        m, n = len(query), len(train)
        own = random.random((m, n)) < min(1.0, 3 / n)
        own[: m // 3] |= (query[: m // 3, None] == train[None]).all(axis=2)
        result, failed = summed(query, train, hs, tol, weights, own=own_of(own, train, weights))
        partial = split(result)
        assert (failed >= (partial.errors > ACCEPTED * tol)).all()
        assert (partial.pairs == own.sum(axis=1)).all()
        assert_bounded(result, query, train, hs, weights, own)
        counted = np.isfinite(partial.errors).any(axis=0)
        eligible = (~own * (1.0 if weights is None else weights)).sum(axis=1)[counted]
        assert partial.log_weight[counted] == pytest.approx(np.log(eligible), abs=1e-12)


@pytest.mark.slow
def test_leaving_one_out_is_as_accurate_unless_the_row_dominates() -> None:
    random = np.random.default_rng(0)
    train = random.standard_normal((1500, 2))
    train[-20:] *= 1e3  # lone rows: their own term is all that there is
    weights = np.ones(1500)
    weights[7] = 1e9  # in the midst of others, which are nothing beside it
    own = np.eye(1500, dtype=np.bool_)
    result, failed = summed(train, train, 0.3, 1e-6, weights, own=own_of(own, train, weights))
    assert failed[0, -20:].all()
    assert failed[0, 7]
    assert_bounded(result, train, train, [0.3], weights, own)
    near = np.hypot(*train.T) < 1.5
    near[7] = False
    plain, plain_failed = summed(train, train, 0.3, 1e-6, weights)
    assert (failed[0, near] == plain_failed[0, near]).mean() > 0.99
    assert not failed[0, near].all()
    assert np.isfinite(plain[0, near]).all()


def test_what_cancels_is_in_the_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sums that are rounded once, of which 1e-9 is left without the own rows."""
    random = np.random.default_rng(0)
    others, train = random.standard_normal((2, 50, 2)) * 0.2
    weights = random.uniform(1, 2, 50)
    query = random.standard_normal((200, 2)) * 0.5
    own = own_of(np.ones((200, 50), np.bool_), train, weights)
    rest = np.exp(true_log_sums(query, others, 0.3, np.full(50, 1e-9)))
    whole = np.exp(true_log_sums(query, train, 0.3, weights)) + rest
    sums = whole.astype(np.float64)
    found, bounds = cell_sums._without(query, sums, 2.0**-53 * sums, own, 0.3)
    error = np.abs(found - rest)
    assert (error <= bounds).all()
    assert (error > 0.001 * bounds).any()  # or the bound says little
    monkeypatch.setattr(cell_sums, "UNIT", 0.0)
    _, bounds = cell_sums._without(query, sums, 2.0**-53 * sums, own, 0.3)
    assert (error > bounds).any()


@pytest.mark.sampled(6)
@pytest.mark.parametrize("d", [1, 2, 3])
@pytest.mark.parametrize("apart", [False, True])
def test_folds_are_complements(d: int, apart: bool) -> None:
    """Also folds that are clusters of their own, of which nothing counts for their own rows."""
    random = np.random.default_rng(d)
    n, n_folds = 1500, 5
    codes = random.integers(0, n_folds, n).astype(np.int32)
    train = random.standard_normal((n, d))
    if apart:
        train[:, 0] += np.array([0.0, 3.0, 6.0, 9.0, 1000.0])[codes]
    weights = np.exp(random.standard_normal(n))
    hs = [1.0, 0.4]
    parts = [slice(0, 700), slice(700, None)]
    moments = CellMoments(d, hs, 1e-8)
    for part in parts:
        moments.add(train[part], weights[part], codes[part])
    assert moments.codes == list(range(n_folds))
    for code in range(n_folds):
        query = train[codes == code][:60]
        result, failed = log_sums(query, moments.others(code), tol=1e-8)
        own = np.broadcast_to(codes == code, (len(query), n))
        assert_bounded(result, query, train, hs, weights, own)
        assert split(result).log_weight == pytest.approx(
            np.full(len(query), np.log(weights[codes != code].sum()))
        )
        if apart and code == 4:
            assert failed.all()
        elif not apart:
            assert failed[0].mean() < 0.2
    whole, _ = log_sums(train[:60], moments.others(), tol=1e-8)
    assert_bounded(whole, train[:60], train, hs, weights)


def test_one_group_has_no_others() -> None:
    train = np.random.default_rng(0).standard_normal((100, 2))
    moments = CellMoments(2, [0.5], 1e-6)
    moments.add(train, codes=np.full(100, 3, np.int32))
    result, failed = log_sums(train, moments.others(3), tol=1e-6)
    assert (result[:2] == -np.inf).all()
    assert not failed.any()
    assert not log_sums(train, moments.others(1), tol=1e-6)[1].all()


def test_bandwidths_are_given_up_whose_other_groups_would_take_too_much_room() -> None:
    random = np.random.default_rng(0)
    train, codes = random.standard_normal((2000, 2)), random.integers(0, 4, 2000)
    moments = CellMoments(2, [0.5, 0.05, 0.2], 1e-6)
    moments.add(train, codes=codes.astype(np.int32))
    own, times = moments.nbytes, 2.5
    others = sum(each.nbytes for each in moments.others())
    moments.keep_within(own + 5 * times * others, times)
    assert moments.kept == [0, 2, 1]
    moments.keep_within(0.5 * (own + 5 * times * others), times)
    assert moments.kept == [0, 2]
    result, failed = log_sums(train[:40], moments.others(), tol=1e-6)
    assert failed.mean() < 0.1
    assert_bounded(result, train[:40], train, [0.5, 0.2])
    moments.keep_within(0, times)
    assert moments.kept == moments.others() == []
    none = CellMoments(2, [0.5], 1e-6)
    none.keep_within(0, times)
    assert none.kept == [0]


@pytest.mark.slow
def test_a_million_rows_in_the_plane() -> None:
    random = np.random.default_rng(0)
    train = random.standard_normal((1_000_000, 2))
    query = random.standard_normal((16, 2))
    for h, tol in ((0.1, 1e-6), (0.1, 1e-9), (0.02, 1e-6)):
        moments = CellMoments(2, [h], tol)
        moments.add(train)
        result, failed = log_sums(query, moments.others(), tol=tol)
        assert failed.mean() < 0.1
        assert_bounded(result, query, train, [h])


@pytest.mark.parametrize("d", [2, 3])
def test_coefficients_that_are_expected_are_made_once(
    d: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cell_coefficients, "BATCH_BYTES", 2**12)
    random = np.random.default_rng(d)
    train, query = random.standard_normal((2000, d)), random.standard_normal((600, d))
    # Shares are rows that are together, and each has some cells of most planes.
    query = query[np.argsort(query[:, -1])]
    moments = CellMoments(d, [0.4], 1e-9)
    moments.add(train)
    apart = [log_sums(query[i : i + 100], moments.others(), tol=1e-9) for i in range(0, 600, 100)]
    coefficients = Coefficients(moments.others()[0])
    made: list[int] = []
    translated = coefficients._translated

    def counting(batch: Array) -> Any:
        made.extend(batch.tolist())
        return translated(batch)

    monkeypatch.setattr(coefficients, "_translated", counting)
    expected = cell_sums.cells_of(query, coefficients)
    coefficients.expect(expected)
    with ThreadPoolExecutor(3) as pool:
        together = list(pool.map(
            lambda i: cell_sums.log_sums(query[i : i + 100], [coefficients], tol=1e-9),
            range(0, 600, 100),
        ))  # fmt: skip
    for (one, _), (other, _) in zip(apart, together, strict=True):
        assert one.tobytes() == other.tobytes()
    assert set(expected) <= set(made)
    assert len(made) == len(set(made))
