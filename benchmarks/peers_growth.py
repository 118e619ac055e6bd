"""How dkde's time grows with the training rows, all else being the same."""

import sys
from dataclasses import dataclass

from growth import slope
from peers_measure import Way, Work, exact_log_density, measure
from peers_works import Data, ours, scott

_SIZES = (10_000, 31_623, 100_000, 316_228, 1_000_000)


@dataclass(frozen=True)
class Growth:
    """Seconds for each number of training rows, and the exponent of a power law through them."""

    title: str
    sizes: list[int]
    seconds: list[float]
    errors: list[float | None]
    timed: list[int]
    target: float | None

    @property
    def exponent(self) -> float:
        return slope(self.sizes, self.seconds)

    @property
    def last_exponent(self) -> float:
        """That of the two largest sizes, where what does not grow weighs least."""
        return slope(self.sizes[-2:], self.seconds[-2:])


def growth(data: Data, d: int, repeats: int, patience: float, by_processor: bool = False) -> Growth:
    """10,000 queries in two dimensions, 2,000 in 64, on up to a million rows."""
    sizes = sorted({data.size(n) for n in _SIZES})
    if d == 2:
        title, target = "standard normal, 2-D, Scott's h", 0.8
        every, query = data.normal(sizes[-1], d, 0), data.normal(data.size(10_000), d, 1)
    else:
        title, target = "noisy digits, 64-D, h = 2", None
        every, query = data.digits(sizes[-1], d, 2.0, 0), data.digits(data.size(2_000), d, 2.0, 1)
    rows = []
    for n in sizes:
        train = every[:n]
        h = scott(train) if d == 2 else 2.0
        print(f"  {n:,} rows", file=sys.stderr)
        ways: tuple[Way, ...] = (ours(train, h),)
        work = Work(7, title, query, exact_log_density(train, h), ways, None)
        rows += measure(work, repeats, patience, by_processor)
    return Growth(
        f"{title}, {len(query):,} queries", sizes, [row.seconds for row in rows],
        [row.error for row in rows], [row.timed for row in rows], target,
    )  # fmt: skip
