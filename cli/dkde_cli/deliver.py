"""Results of runs on standard output, as the command that made them prints them."""

from typing import Any

import click

from dkde_cli.progress import duration
from dkde_cli.tables import (
    FOLD_TOTAL,
    UNIT,
    effort,
    figures,
    kilometres,
    missing,
    missing_in_words,
    print_figures,
    print_json,
    test_figures,
    unit,
)


def print_result(result: Any, *, as_json: bool) -> None:
    """Print a result; what it holds says which command's it is."""
    if "best_bandwidth" not in result:
        _print_score(result, as_json)
    elif FOLD_TOTAL in result:
        _print_cv(result, as_json)
    else:
        _print_sweep(result, as_json)


def print_end(result: Any) -> None:
    """Say what was left out and how long it took, on standard error."""
    if line := missing_in_words(result):
        click.echo(line, err=True)
    if line := effort(result):
        click.echo(line, err=True)
    click.echo(f"Done in {duration(_seconds(result))}", err=True)


def _seconds(result: Any) -> float:
    return float(result.attrs["seconds"])


def _print_score(result: Any, as_json: bool) -> None:
    rows, seconds = figures(result), _seconds(result)
    if as_json:
        single = {**rows[0], "seconds": seconds}
        found = single if len(rows) == 1 else {"seconds": seconds, "rows": rows}
        print_json(found | unit(result) | missing(result))
    else:
        print_figures(rows, km=kilometres(result))


def _print_sweep(result: Any, as_json: bool) -> None:
    rows, test_row, best = figures(result), test_figures(result), float(result["best_bandwidth"])
    if as_json:
        seconds = _seconds(result)
        found = {"best_bandwidth": best, "seconds": seconds, "valid": rows, "test": test_row}
        print_json(found | unit(result) | missing(result))
        return
    _print_best(rows, best, kilometres(result))
    if test_row is not None:
        km = " km" * (UNIT in test_row)
        click.echo(
            f"test at {best:.6g}{km}: {test_row['mean_log_likelihood']:.4f} "
            f"± {test_row['standard_error']:.4f} nats, "
            f"{test_row['bits_per_dimension']:.4f} bits/dimension"
        )


def _print_cv(result: Any, as_json: bool) -> None:
    rows, best, folds = figures(result), float(result["best_bandwidth"]), result.attrs["folds"]
    if as_json:
        seconds = _seconds(result)
        found = {"best_bandwidth": best, "seconds": seconds, "folds": folds, "rows": rows}
        print_json(found | unit(result) | missing(result))
    else:
        _print_best(rows, best, kilometres(result))


def _print_best(rows: list[dict[str, Any]], best: float, km: float | None) -> None:
    print_figures(rows, best=best, km=km)
    length = " km" if UNIT in rows[0] else "" if km is None else f" ({best * km:.6g} km)"
    click.echo()
    click.echo(f"best bandwidth {best:.12g}{length}")
