"""The results of runs, printed as tables or JSON and written as CSV."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from dkde_cli.class_figures import FIGURES as CLASS_FIGURES
from dkde_cli.class_figures import is_classification, print_classes
from dkde_cli.grouped import grouped_by, groups
from dkde_cli.left_out import missing, missing_in_words
from dkde_cli.lines import echo
from dkde_cli.logs import say
from dkde_cli.map_figures import is_map, print_map
from dkde_cli.tables import duration, print_json, print_table, size

FIGURES = ("mean_log_likelihood", "standard_error", "bits_per_dimension", "n_zero_density")
CSV_COLUMNS = ("split", "bandwidth", "n", *FIGURES)
# Cross-validations alone have it: totals in nats, as scikit-learn's scores are.
FOLD_TOTAL = "mean_fold_log_likelihood"
# Those whose bandwidth is chosen by least squares have that criterion.
LEAST_SQUARES = "least_squares"
FEATURES = "feature_bandwidth"
# Scores with an absolute tolerance alone have it: the rows that are done by it.
AT_ATOL = "n_rows_at_atol"
# Scores with --flag alone have them: the threshold of unusual rows, and how many are below it.
UNUSUAL = ("unusual_below", "n_unusual")
_ADDED = (FOLD_TOTAL, LEAST_SQUARES, AT_ATOL, *UNUSUAL, *CLASS_FIGURES)
# The key of the unit of bandwidths: in JSON if they are angles, and in each row if it is km.
UNIT = "bandwidth_unit"
# The prefix of the variables that count what was evaluated and read, and the role in the
# provenance whose training rows are the whole of it.
_EFFORTS = (("", "score"), ("", "valid"), ("", "cross_validate"), ("test_", "test"))

Row = dict[str, Any]


def figures(result: Any) -> list[Row]:
    """Return a row of figures for each bandwidth of a result, and for each of its groups."""
    if (group := grouped_by(result)) is not None:
        return [{group: value, **row} for value, one in groups(result) for row in figures(one)]
    names = [*FIGURES, *(name for name in _ADDED if name in result)]
    columns = {name: result[name].values.tolist() for name in ("bandwidth", *names)}
    n_rows = _n_counting(result)
    said = _unit_of_row(result)
    return [
        {"bandwidth": bandwidth, **said, "n": n_rows, **{name: columns[name][i] for name in names}}
        for i, bandwidth in enumerate(columns["bandwidth"])
    ]


def test_figures(result: Any) -> Row | None:
    """Return the figures of a sweep's test rows; None if it had none."""
    if "test_log_density" not in result:
        return None
    return {
        "bandwidth": float(result["best_bandwidth"]),
        **_unit_of_row(result),
        "n": _n_counting(result, "test_"),
        **{name: result[f"test_{name}"].item() for name in FIGURES},
    }


def _unit_of_row(result: Any) -> Row:
    found = unit(result)
    return found if found.get(UNIT) == "km" else {}


def _n_counting(result: Any, prefix: str = "") -> int:
    """Return how many rows enter the means: no missing values, and positive weight."""
    if f"{prefix}row_weight" in result:
        return int((result[f"{prefix}row_weight"] > 0).sum())
    # It holds one value a row, whatever the number of bandwidths.
    n_rows = int(result[f"{prefix}pairs_evaluated"].size)
    counts = missing(result)
    return n_rows - counts.get(f"{prefix}n_missing", 0) - counts.get(f"{prefix}n_outside", 0)


def unusual(result: Any) -> str:
    """Return how many rows are unusual, and what that means, of a score that has found them."""
    if UNUSUAL[0] not in result:
        return ""
    counts, limits = (result[name].values.tolist() for name in reversed(UNUSUAL))
    share = _options(result).get("contamination", 0)
    found = ", ".join(
        f"{count} below {limit:.6g}" for count, limit in zip(counts, limits, strict=True)
    )
    return (
        f"Unusual rows: {found} (nats), where {100 * share:.6g} % of the training rows are, each "
        "under all others"
    )


def effort(result: Any) -> str:
    """Return the shares of pairs evaluated and of rows read, where they are less than all."""
    parts = [result] if grouped_by(result) is None else [one for _, one in groups(result)]
    shares = []
    for name, words in (("pairs_evaluated", "pairs evaluated"), ("rows_read", "rows read")):
        counts = [_effort_of(part, name) for part in parts]
        done, possible = (sum(each) for each in zip(*counts, strict=True))
        if done < possible:
            shares.append(f"{words} {_percent(done / possible)}")
    return ", ".join(shares)


def _effort_of(result: Any, name: str) -> tuple[int, int]:
    """Return how many pairs, or rows, were done for a result, and how many there are."""
    inputs = json.loads(result.attrs.get("provenance", "{}"))
    done = possible = 0
    for prefix, role in _EFFORTS:
        if role in inputs and f"{prefix}{name}" in result:
            found = result[f"{prefix}{name}"]
            done += int(found.sum())
            possible += found.size * inputs[role]["train"]["rows"]
    return done, possible


def reading(result: Any) -> str:
    """Return how many bytes were read of each side, and how often that is; empty from memory.

    The times are those of one piece of work: a sweep has its validation and its test rows.
    """
    noted = json.loads(result.attrs.get("bytes_read", "{}"))
    words = []
    for role in ("query", "train") if noted else ():
        read, once = (sum(each[role][i] for each in noted.values()) for i in range(2))
        if once:
            times = read / once
            often = "once" if round(times, 2) == 1 else f"{times:.3g} times their {size(once)}"
            words.append(f"{role} rows {size(read)}, {often}")
    return "Read: " + "; ".join(words) if words else ""


def _percent(share: float) -> str:
    """Return a share of less than all as text that does not round to 0 % or 100 %.

    Examples
    --------
    >>> _percent(0), _percent(1e-6), _percent(0.3149), _percent(0.99999)
    ('0 %', 'below 0.1 %', '31.5 %', '99.9 %')
    """
    if 0 < share < 0.001:
        return "below 0.1 %"
    return f"{min(100 * share, 99.9):.1f} %" if share else "0 %"


def kilometres(result: Any) -> float | None:
    """Return the kilometres of a radian, for bandwidths on the Earth in radians."""
    radius = _options(result).get("earth_radius_km")
    return None if radius is None or unit(result).get(UNIT) == "km" else float(radius)


def unit(result: Any) -> Row:
    """Return the unit of bandwidths, ready for JSON; nothing where they are not angles."""
    noted = result["bandwidth"].attrs.get("units")  # older stores have it in the options only
    found = noted if noted in ("km", "radian") else _options(result).get(UNIT)
    return {} if found is None else {UNIT: found}


def _options(result: Any) -> Row:
    options: Row = json.loads(result.attrs.get("provenance", "{}")).get("options", {})
    return options


def print_result(result: Any, *, as_json: bool) -> None:
    """Print a result as the command that made it prints it."""
    if is_map(result):
        print_map(result, as_json=as_json)
        return
    if is_classification(result):
        print_classes(result, as_json=as_json)
        return
    if (name := grouped_by(result)) is not None:
        _print_groups(result, name, as_json=as_json)
        return
    # A score has no best bandwidth; of the other two, a cross-validation has fold totals.
    rows, test_row = figures(result), test_figures(result)
    best = float(result["best_bandwidth"]) if "best_bandwidth" in result else None
    if as_json:
        found: dict[str, Any] = {"seconds": float(result.attrs["seconds"])}
        if best is None:
            found = {**rows[0], **found} if len(rows) == 1 else {**found, "rows": rows}
        elif FOLD_TOTAL in result:
            folds = result.attrs["folds"]
            found = {"best_bandwidth": best, **found, "folds": folds, "rows": rows}
            found |= _of_features(result)
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
    echo()
    echo(f"best bandwidth {best:.12g}{length}")
    if FEATURES in result:
        echo(
            f"best for each feature: {result[FEATURES].attrs['in_words']}; mean log-likelihood "
            f"{float(result['feature_mean_log_likelihood']):.4f} "
            f"± {float(result['feature_standard_error']):.4f} nats"
        )
    if test_row is not None:
        echo(
            f"test at {best:.6g}{' km' * is_in_km}: {test_row['mean_log_likelihood']:.4f} "
            f"± {test_row['standard_error']:.4f} nats, "
            f"{test_row['bits_per_dimension']:.4f} bits/dimension"
        )


def _print_groups(result: Any, name: str, *, as_json: bool) -> None:
    """Print the figures of a score of groups: a row for each, and for each of its bandwidths."""
    rows = figures(result)
    if as_json:
        found = {"by": name, "seconds": float(result.attrs["seconds"]), "rows": rows}
        print_json(found | unit(result) | missing(result))
        return
    first = next(one for _, one in groups(result))
    print_figures(rows, km=kilometres(first), group=name)


def _of_features(result: Any) -> Row:
    """Return the bandwidths of features, ready for JSON; nothing where none were looked for."""
    if FEATURES not in result:
        return {}
    names = result["feature"].values.tolist()
    values = result[FEATURES].values.tolist()
    mean = float(result["feature_mean_log_likelihood"])
    return {"features": dict(zip(names, values, strict=True)), "features_mean": mean}


def print_end(result: Any, seconds: float, *, was_complete: bool = False) -> None:
    """Print on standard error what was left out and how long it took.

    Parameters
    ----------
    seconds : float
        The time that this call took.
    was_complete : bool
        Whether it found the result complete, so that it read nothing.
    """
    read = "" if was_complete else reading(result)
    lines = missing_in_words(result), unusual(result), effort(result), read
    for line in filter(None, lines):
        say(line)
    in_all = float(result.attrs["seconds"])
    if was_complete:
        return
    # Sessions before this one, or parts elsewhere, took the rest.
    if in_all > seconds + 1:
        say(f"Done in {duration(seconds)}; all sessions together took {duration(in_all)}")
    else:
        say(f"Done in {duration(in_all)}")


def write_csv(path: str, splits: Mapping[str, Iterable[Row]]) -> None:
    """Write rows of figures, by split, to a CSV file: whole or not at all.

    Raises
    ------
    DataSetError
        When the file cannot be written.
    """
    from dkde import csv_text, write_whole

    rows = [{"split": split, **row} for split, found in splits.items() for row in found]
    own = [name for name in rows[0] if name not in (*CSV_COLUMNS, *_ADDED, UNIT)]  # of groups
    columns = [*own, *CSV_COLUMNS, *(name for name in (*_ADDED, UNIT) if name in rows[0])]
    text = csv_text(columns, [[row.get(name, "") for name in columns] for row in rows])
    write_whole(path, text.encode())


def print_figures(
    rows: Sequence[Row],
    *,
    best: float | None = None,
    km: float | None = None,
    group: str | None = None,
) -> None:
    """Print rows of figures as a table, the best bandwidth marked.

    Parameters
    ----------
    km : float, optional
        Kilometres of one unit of the bandwidths; adds a column of bandwidths in kilometres.
    group : str, optional
        The name of the groups' variable, which has the first column.
    """
    heads = {
        "mean_log_likelihood": "mean log-likelihood",
        "standard_error": "standard error",
        "bits_per_dimension": "bits/dimension",
    }
    if rows[0].get(FOLD_TOTAL, rows[0]["mean_log_likelihood"]) != rows[0]["mean_log_likelihood"]:
        heads[FOLD_TOTAL] = "fold total"
    if LEAST_SQUARES in rows[0]:
        heads[LEAST_SQUARES] = "least squares"
    if any(row["n_zero_density"] for row in rows):
        heads["n_zero_density"] = "zero density"
    if AT_ATOL in rows[0]:
        heads[AT_ATOL] = "within atol"
    if UNUSUAL[0] in rows[0]:
        heads |= dict(zip(UNUSUAL, ("unusual below", "unusual"), strict=True))
    values = [row["bandwidth"] for row in rows]
    name = "bandwidth (km)" if rows[0].get(UNIT) == "km" else "bandwidth"
    sizes = {} if group is None else {group: [str(row[group]) for row in rows]}
    sizes[name] = _aligned(values)
    if km is not None:
        sizes["km"] = _aligned([value * km for value in values])
    # Least squares are in the unit of a density, and may be far from 1.
    shown = {name: "{:.6g}".format if name == LEAST_SQUARES else _figure for name in heads}
    body = [
        [
            *cells,
            *(show(row[name]) for name, show in shown.items()),
            "*" if row["bandwidth"] == best else "",
        ]
        for row, *cells in zip(rows, *sizes.values(), strict=True)
    ]
    print_table([*sizes, *heads.values(), ""], body)


def _figure(value: float) -> str:
    if isinstance(value, int):
        return str(value)
    return f"{value:.4f}" if not abs(value) >= 1e7 else f"{value:.6g}"


def _aligned(values: Sequence[float]) -> list[str]:
    """Return numbers as texts of up to six digits, with decimal points in one column.

    Examples
    --------
    >>> _aligned([0.05, 2, 10, 3.79269019])
    [' 0.05   ', ' 2      ', '10      ', ' 3.79269']
    """
    texts = [f"{x:.6g}" for x in values]
    heads, points, tails = zip(*(text.partition(".") for text in texts), strict=True)
    before, after = max(map(len, heads)), max(map(len, tails))
    gap = " " if any(points) else ""
    return [
        f"{head:>{before}}{point or gap}{tail:<{after}}"
        for head, point, tail in zip(heads, points, tails, strict=True)
    ]
