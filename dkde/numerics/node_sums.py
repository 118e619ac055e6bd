"""Sums over all rows of a node, from its moments: see :mod:`dkde.numerics.node_moments`."""

from dkde.numerics.compiling import compiled_within
from dkde.numerics.scalars import larger

_compile = compiled_within("contract", counts_references=False, inlined=True)


@_compile
def farthest(low, high, i, box_low, box_high, k):  # type: ignore[no-untyped-def]
    """Return a squared distance that no pair of rows of two boxes is farther than."""
    total = 0.0
    for j in range(low.shape[1]):
        apart = larger(box_high[k, j] - low[i, j], high[i, j] - box_low[k, j])
        total += apart * apart
    return total * (1 + 2.0**-42)


@_compile
def add_node(  # type: ignore[no-untyped-def]
    power, higher, rows, start, stop, inverse, k_from, k_to, node, summary, away, sums, doubt,
    n_added,
):  # fmt: skip
    """Add all rows of a node to the sums of query rows from start up to stop.

    For bandwidths from k_from up to k_to, at which all of the node is inside the support of all
    of these rows: ``farthest * inverse < 1``.

    Parameters
    ----------
    power : int
    higher : tuple, or None
        Of :func:`dkde.numerics.node_moments.higher`.
    rows : array (n, width)
    inverse : array (n_bandwidths,)
        Squared inverse bandwidths.
    summary : tuple
        Centres, units, moments and doubts, as in ``NodeMoments``.
    away : array (n_features,)
        Room.
    sums, doubt : array (n_bandwidths, n)
        Both are added to.
    n_added : array (n,)
        Counts the additions to a row's sums.
    """
    centres, units, moments, doubts = summary
    centre, found, unit, may_be_off = centres[node], moments[node], units[node], doubts[node]
    n_features = len(centre)
    # Of degree 1; there is none where the rows' weight alone is asked for.
    linear = found[1 : n_features + 1] if power > 0 else centre
    for i in range(start, stop):
        n_added[i] += 1
        squared = along = 0.0
        for j in range(n_features):
            away[j] = rows[i, j] - centre[j]
            squared += away[j] * away[j]
            along += away[j] * linear[j]
        for k in range(k_from, k_to):
            value = found[0]
            if power > 0:
                scale, g = 2.0 * unit * inverse[k], unit * (unit * inverse[k])
                alpha, first = 1.0 - squared * inverse[k], scale * along - g * found[n_features + 1]
                value = alpha * found[0] + first
                # numba leaves out what is below a test for None that stands alone.
                if higher is not None:  # noqa: SIM102
                    if power > 1:
                        value = _power_sum(power, alpha, first, away, scale, g, found)
            # What is below 0 is so by rounding.
            sums[k, i] += larger(value, 0.0)
            doubt[k, i] += may_be_off


@_compile
def _power_sum(power, alpha, first, away, scale, g, found):  # type: ignore[no-untyped-def]
    """Return the sum of w (alpha + q)**power, of which first is that of w q; b is scale * away."""
    d = len(away)
    at = d + 2
    # Of q**2.
    pairs = singles = 0.0
    for i in range(d):
        for j in range(i, d):
            pairs += away[i] * scale * (away[j] * scale) * found[at]
            at += 1
    for i in range(d):
        singles += away[i] * scale * found[at]
        at += 1
    second = pairs - 2.0 * g * singles + g * g * found[at]
    at += 1
    if power == 2:
        return alpha * alpha * found[0] + 2.0 * alpha * first + second
    triples = pairs = singles = 0.0
    for i in range(d):
        for j in range(i, d):
            for k in range(j, d):
                product = away[i] * scale * (away[j] * scale) * (away[k] * scale)
                triples += product * found[at]
                at += 1
    for i in range(d):
        for j in range(i, d):
            pairs += away[i] * scale * (away[j] * scale) * found[at]
            at += 1
    for i in range(d):
        singles += away[i] * scale * found[at]
        at += 1
    third = triples - 3.0 * g * pairs + 3.0 * (g * g) * singles - g * g * g * found[at]
    return alpha * (alpha * alpha) * found[0] + 3.0 * alpha * (alpha * first + second) + third
