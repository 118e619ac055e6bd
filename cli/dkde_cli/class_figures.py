"""The figures of a classification: accuracy, losses, the confusion of classes, calibration."""

from collections.abc import Sequence
from typing import Any

from dkde_cli.lines import echo
from dkde_cli.tables import print_json, print_table

FIGURES = {
    "accuracy": "accuracy",
    "log_loss": "log-loss",
    "brier": "Brier score",
    "calibration_error": "calibration error",
    "choice_log_loss": "log-loss of the choice",
}
# The table of classes is printed up to so many.
_MOST_CLASSES = 20


def is_classification(result: Any) -> bool:
    """Return whether a result is a classification."""
    return "log_posterior" in result


def class_figures(result: Any) -> list[dict[str, Any]]:
    """Return a row of figures for each bandwidth."""
    names = [name for name in FIGURES if name in result]
    found = {name: result[name].values.tolist() for name in ("bandwidth", *names)}
    n_rows = int(result["predicted"][0].size)
    n_known = {"n_known": int(result["confusion"][0].sum())} if "confusion" in result else {}
    return [
        {"bandwidth": h, "n": n_rows, **n_known, **{name: found[name][i] for name in names}}
        for i, h in enumerate(found["bandwidth"])
    ]


def print_classes(result: Any, *, as_json: bool) -> None:
    """Print the figures of a classification: as JSON, or as tables."""
    rows = class_figures(result)
    best = float(result["best_bandwidth"]) if "best_bandwidth" in result else None
    at = result.sel(bandwidth=rows[0]["bandwidth"] if best is None else best)
    if as_json:
        print_json(_as_json(result, rows, best, at))
        return
    counts = {"n": "rows", "n_known": "of known class"}
    heads = {name: words for name, words in (counts | FIGURES).items() if name in rows[0]}
    body = [
        [
            f"{row['bandwidth']:.6g}",
            *(str(row[name]) if name in counts else f"{row[name]:.4f}" for name in heads),
            "*" if row["bandwidth"] == best else "",
        ]
        for row in rows
    ]
    print_table(["bandwidth", *heads.values(), ""], body)
    if best is not None:
        echo()
        echo(f"best bandwidth {best:.12g}")
    if "confusion" in result:
        _print_confusion(at)
        _print_calibration(at)


def _as_json(result: Any, rows: Sequence[Any], best: float | None, at: Any) -> dict[str, Any]:
    found: dict[str, Any] = {"seconds": float(result.attrs["seconds"])}
    if best is not None:
        found = {"best_bandwidth": best, **found}
    found |= {"classes": _words(at["class"]), "rows": list(rows)}
    if "confusion" in result:
        found["confusion"] = at["confusion"].values.tolist()
        found["calibration"] = _calibration(at)
    return found


def _words(classes: Any) -> list[Any]:
    """Return classes ready for JSON: numbers, truths and text as they are, times as text."""
    values = classes.values
    return list(map(str, values)) if values.dtype.kind == "M" else list(values.tolist())


def _calibration(at: Any) -> list[dict[str, Any]]:
    """Return the bins that hold rows."""
    columns = {
        name: at[f"calibration_{name}"].values.tolist()
        for name in ("rows", "confidence", "accuracy")
    }
    bins = [dict(zip(columns, each, strict=True)) for each in zip(*columns.values(), strict=True)]
    return [each for each in bins if each["rows"]]


def _print_confusion(at: Any) -> None:
    names = [str(each) for each in at["class"].values]
    if len(names) > _MOST_CLASSES:
        echo()
        echo(f"{len(names)} classes; --plot draws their table, and --json has it")
        return
    counts = at["confusion"].values.tolist()
    echo()
    echo("true classes down, predicted classes across")
    echo()
    body = [
        [name, *(str(count) if count else "." for count in row)]
        for name, row in zip(names, counts, strict=True)
    ]
    print_table(["", *names], body, left=1)


def _print_calibration(at: Any) -> None:
    echo()
    echo("calibration: rows by the probability of their most probable class")
    echo()
    body = [
        [str(each["rows"]), f"{each['confidence']:.4f}", f"{each['accuracy']:.4f}"]
        for each in _calibration(at)
    ]
    print_table(["rows", "mean probability", "share that is right"], body)
