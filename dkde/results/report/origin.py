"""The origin of a result: what was computed, from which data, by which versions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

from dkde.results.report.words import counted, grouped
from dkde.results.scored import ScoredRows
from dkde.runs.origin import provenance_of


def origin(result: xr.Dataset, main: ScoredRows) -> dict[str, Any]:
    """Return the section of the page that describes the result's origin."""
    provenance = provenance_of(result)
    if not main.described:
        return {}
    options, described = provenance.get("options", {}), main.described
    known: dict[str, Any] = {
        "kernel": described["kernel"],
        "metric": described["metric"],
        "bandwidth matrix": f"h² C, C: {options.get('covariance', 'identity')}",
    }
    if protocol := options.get("protocol"):
        known["protocol"] = f"{protocol['name']}: {protocol['reference']}"
        known["otherwise than in it"] = "; ".join(protocol["otherwise"]) or "nothing"
    if options.get("pca"):
        known["principal components"] = options["pca"]
    if "folds" in result.attrs:
        known["folds"] = result.attrs["folds"]
    known |= {
        "precision": f"{described['precision']}, errors below {described['tol']:g} max(1, |log p|)",
        "training rows": _side(described["train"]),
    }
    for role in ("score", "valid", "test"):
        if role in provenance:
            name = "query" if role == "score" else role
            known[f"{name} rows"] = _side(provenance[role]["query"])
    plan = described["plan"]
    known |= {
        "method": described.get("method", "unknown"),
        "plan": f"{counted(plan['n_blocks'], 'block')} of {grouped(plan['query_rows'])} × "
        f"{grouped(plan['panel_rows'])} rows; {grouped(plan['pairs'])} pairs of "
        f"{counted(plan['n_features'], 'feature')} at {counted(plan['n_bandwidths'], 'bandwidth')}",
        "time": f"{float(result.attrs.get('seconds', np.nan)):.3g} s",
        "versions": ", ".join(f"{n} {v}" for n, v in provenance.get("versions", {}).items()),
    }
    return known


def _side(side: Mapping[str, Any]) -> str:
    parts = [
        f"{part['name']}[{part['start']}:{part['stop']}]"
        + (f" ({part['checksum'][:19]}…)" if part["checksum"] else "")
        for part in side["parts"]
    ]
    more = f" and {len(parts) - 4} more" if len(parts) > 4 else ""
    weighted = ", weighted" if side["weighted"] else ""
    return f"{grouped(side['rows'])}{weighted}: {' + '.join(parts[:4])}{more}"
