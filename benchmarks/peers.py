"""dkde beside other packages: time and error, on works that each of them can do.

All sides of a work are timed in turn in one process, on all the cores that they use by
themselves: the median of as many repeats as are short enough, after one call that is not timed.
What takes long is timed on two samples of the queries, and scaled by what the larger takes more;
the tables say so. What is done once for all queries, such as building a tree, is added. "Cores"
is processor time over time. Errors are the largest
distance, over 16 queries, from the definition's sum in extended precision, in nats. On a machine
that has other work, ``--processor`` compares what the processor worked: the ratio to a way that
uses one of two cores is then half of that in seconds.

    python benchmarks/peers.py --data mnist.zarr             # takes an hour or more
    python benchmarks/peers.py --works 5,6 --markdown        # the rows for the README
    python benchmarks/peers.py --scale 0.01                  # do they all run?

Works: 1 all bandwidths in one pass, against the matrix product alone; 2 one bandwidth, likewise;
3 from a store to a kept result, against scikit-learn; 4 a grid of bandwidths, against NumPy; 5 a
million points in the plane, and 6 noisy digits in 15 dimensions, against trees, transforms and
dense sums; 7 how time grows with the training rows. The peers are `pip install "dkde[peers]"`.
"""

import argparse
from dataclasses import asdict
from typing import Any

from peers_growth import Growth, growth
from peers_measure import Measured, Work, measure
from peers_packages import PEERS
from peers_works import NUMBERS, WORKS, data_for
from record import add_json_option, in_words, keep, new_record

_GROWTH_HEAD = ("training rows", "seconds", "error, nats")
_HEAD = ("way", "seconds", "timed on", "cores", "error, nats", "dkde is")


def verdict(work: Work, rows: list[Measured], place: int) -> str:
    """How dkde compares with a way; with the target, for the way that it is for."""
    if place == 0 or rows[place].failure:
        return ""
    ratio = rows[place].seconds / rows[0].seconds
    if work.target is not None and work.target[0] == "<=":
        text = f"{1 / ratio:.2f} times as long"
    else:
        text = f"{ratio:.3g} times faster" if ratio >= 1 else f"{1 / ratio:.3g} times slower"
    if place == 1 and work.target is not None:
        sign, value = work.target
        text += f" (target {'at most' if sign == '<=' else 'at least'} {value:g})"
    return text


def cells(work: Work, rows: list[Measured]) -> list[tuple[str, ...]]:
    """The table of a work, as text."""
    table = []
    for place, row in enumerate(rows):
        if row.failure:
            table.append((row.name, "failed", "", "", "", row.failure))
            continue
        sample = "all" if row.timed == row.n_queries else f"{row.timed:,} queries, scaled"
        table.append((
            row.name + (f" ({row.note})" if row.note else ""),
            f"{row.seconds:.3g}" if row.seconds < 1000 else f"{row.seconds:,.0f}",
            f"{sample}, {row.repeats}×",
            f"{row.cores:.1f}",
            "" if row.error is None else f"{row.error:.1e}",
            verdict(work, rows, place),
        ))  # fmt: skip
    return table + [(name, "not installed", "", "", "", "") for name in work.missing]


def growth_cells(found: Growth) -> list[tuple[str, ...]]:
    rows = zip(found.sizes, found.seconds, found.errors, strict=True)
    return [(f"{n:,} rows", f"{s:.3g}", "" if e is None else f"{e:.1e}") for n, s, e in rows]


def growth_text(found: Growth) -> str:
    text = f"exponent {found.exponent:.2f}; {found.last_exponent:.2f} between the two largest"
    return text + ("" if found.target is None else f" (target at most {found.target:g})")


def print_title(title: str, markdown: bool) -> None:
    print(f"\n**{title}**\n" if markdown else f"\n{title}", flush=True)


def print_table(head: tuple[str, ...], table: list[tuple[str, ...]], markdown: bool) -> None:
    if markdown:
        print("| " + " | ".join(head) + " |")
        print("| --- |" + " ---: |" * (len(head) - 2) + (" --- |" if len(head) > 3 else " ---: |"))
        for row in table:
            print("| " + " | ".join(row) + " |")
        return
    widths = [max(map(len, column)) for column in zip(head, *table, strict=True)]
    for row in (head, *table):
        first = row[0].ljust(widths[0])
        rest = (c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))
        print("  ".join((first, *rest)).rstrip())


def works_of(text: str) -> list[int]:
    try:
        chosen = [int(part) for part in text.split(",")]
    except ValueError:
        chosen = [0]
    if not set(chosen) <= set(NUMBERS):
        raise argparse.ArgumentTypeError(f"{text}: works are numbers from 1 to 7, such as 1,5")
    return chosen


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--works", type=works_of, default=list(NUMBERS), help="such as 1,5")
    parser.add_argument("--scale", type=float, default=1.0, help="of the numbers of rows")
    parser.add_argument("--data", help="an imported MNIST with train, valid and test")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--patience", type=float, default=1.0, help="times as large samples")
    parser.add_argument(
        "--processor", action="store_true", help="seconds of the processor, of all threads"
    )
    parser.add_argument("--markdown", action="store_true", help="print tables for a README")
    add_json_option(parser)
    options = parser.parse_args(arguments)
    works: list[dict[str, Any]] = []
    report = new_record("peers", options, works, [peer.distribution for peer in PEERS])
    print(in_words(report))
    with data_for(options.scale, options.data) as data:
        for number in options.works:
            for build in WORKS.get(number, ()):
                work = build(data)
                print_title(f"{number}. {work.title}", options.markdown)
                rows = measure(work, options.repeats, options.patience, options.processor)
                print_table(_HEAD, cells(work, rows), options.markdown)
                works.append(_record(work, rows))
                _write_so_far(options.json, report)
            for d in (2, 64) if number == 7 else ():
                found = growth(data, d, options.repeats, options.patience, options.processor)
                print_title(f"7. {found.title}", options.markdown)
                print_table(_GROWTH_HEAD, growth_cells(found), options.markdown)
                print(("\n" if options.markdown else "") + growth_text(found))
                works.append({"number": 7, "exponent": found.exponent} | asdict(found))
                _write_so_far(options.json, report)
    if options.json == "-":
        keep(report, "-")
    return report


def _record(work: Work, rows: list[Measured]) -> dict[str, Any]:
    return {
        "number": work.number,
        "title": work.title,
        "target": work.target,
        "ratio": rows[1].seconds / rows[0].seconds if len(rows) > 1 else None,
        "missing": list(work.missing),
        "ways": [asdict(row) for row in rows],
    }


def _write_so_far(place: str | None, report: dict[str, Any]) -> None:
    """Write to a file what there is: the rest may take an hour."""
    if place != "-":
        keep(report, place)


if __name__ == "__main__":
    main()
