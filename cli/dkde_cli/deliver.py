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
    rows, test_row = figures(result), test_figures(result)
    best = float(result["best_bandwidth"]) if "best_bandwidth" in result else None
    if as_json:
        found: dict[str, Any] = {"seconds": float(result.attrs["seconds"])}
        if best is None:
            found = {**rows[0], **found} if len(rows) == 1 else {**found, "rows": rows}
        elif FOLD_TOTAL in result:
            folds = result.attrs["folds"]
            found = {"best_bandwidth": best, **found, "folds": folds, "rows": rows}
        else:
            found = {"best_bandwidth": best, **found, "valid": rows, "test": test_row}
        print_json(found | unit(result) | missing(result))
        return
    km = kilometres(result)
    print_figures(rows, best=best, km=km)
    if best is None:
        return
    is_in_km = UNIT in rows[0]
    length = " km" if is_in_km else "" if km is None else f" ({best * km:.6g} km)"
    click.echo(f"\nbest bandwidth {best:.12g}{length}")
    if test_row is not None:
        click.echo(
            f"test at {best:.6g}{' km' * is_in_km}: {test_row['mean_log_likelihood']:.4f} "
            f"± {test_row['standard_error']:.4f} nats, "
            f"{test_row['bits_per_dimension']:.4f} bits/dimension"
        )


def print_end(result: Any) -> None:
    """Say what was left out and how long it took, on standard error."""
    for line in filter(None, (missing_in_words(result), effort(result))):
        click.echo(line, err=True)
    click.echo(f"Done in {duration(float(result.attrs['seconds']))}", err=True)
