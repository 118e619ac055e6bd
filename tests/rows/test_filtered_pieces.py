"""Pieces that several filters read of one source: each is read once, up to a bound."""

import pickle

import numpy as np

from dkde.rows.filtered import Filtered, Pieces
from dkde.rows.kept import Kept
from dkde.rows.sources import Numbers


class Counted(Numbers):
    """Row numbers, in pieces of ten, which count how often they are read."""

    chunk_rows = 10

    def __init__(self, n):
        super().__init__(n)
        self.reads = []

    def cuts(self, start, stop):
        return [*range(start, stop, 10), stop]

    def read(self, start, stop):
        self.reads.append((start, stop))
        return super().read(start, stop)


def halves(source, pieces):
    even = np.arange(source.shape[0]) % 2 == 0
    return [
        Filtered(source, Kept.of("", 0, source.shape[0], [mask]), pieces) for mask in (even, ~even)
    ]


def test_each_piece_is_read_once():
    source = Counted(40)
    for first, found in enumerate(halves(source, Pieces())):
        np.testing.assert_array_equal(found.read(3, 17), np.arange(first, 40, 2)[3:17])
    assert source.reads == [(0, 10), (10, 20), (20, 30), (30, 40)]


def test_several_sources_share_one_bound(monkeypatch):
    monkeypatch.setattr(Pieces, "_MOST", 3 * 10 * 8)
    pieces, sources = Pieces(), [Counted(20), Counted(20)]
    sides = [halves(source, pieces) for source in sources]
    for k in range(2):
        for side in sides:
            np.testing.assert_array_equal(side[k].read(0, 10), np.arange(k, 20, 2))
    assert [len(source.reads) for source in sources] == [2, 3]  # the last piece has no room


def test_a_worker_gets_none_of_them():
    found = halves(Numbers(40), Pieces())[0]
    found.read(0, 20)
    assert len(pickle.dumps(found)) < 1000
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(found)).read(0, 20), found.read(0, 20))
