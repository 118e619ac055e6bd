"""Rows that a result left out: their counts, and the line that says so."""

import json
from typing import Any


def missing(result: Any) -> dict[str, int]:
    """Return how many rows were left out, by side and reason; empty if none could be."""
    names = (f"{{}}n_{reason}{{}}" for reason in ("missing", "outside"))
    every = [
        name.format(*each) for name in names for each in (("", ""), ("test_", ""), ("", "_train"))
    ]
    return {name: int(result[name].sum()) for name in every if name in result}


def missing_in_words(result: Any) -> str:
    """Return these counts as a line; empty if no row was left out."""
    counts = missing(result)
    if not any(counts.values()):
        return ""
    # With both options the first counts are of rows that miss values and of those outside.
    options = json.loads(result.attrs.get("provenance", "{}")).get("options", {})
    word, reasons = "missing", ["for missing values"]
    if options.get("outside") == "drop":
        word = "missing" if "n_missing_train" in counts else "outside"
        reasons = [*(reasons if word == "missing" else []), "as outside of the support"]
    scored = counts.get(f"n_{word}", 0) + counts.get(f"test_n_{word}", 0)
    return (
        f"left out {' or '.join(reasons)}: {scored} of the rows to be scored, "
        f"{counts[f'n_{word}_train']} of the training rows"
    )
