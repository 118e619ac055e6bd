"""The figures of a map: its cells, and the areas of its levels."""

import json
from typing import Any

from dkde_cli.grouped import grouped_by, groups
from dkde_cli.left_out import missing
from dkde_cli.lines import echo
from dkde_cli.tables import print_json, print_pairs, print_table


def is_map(result: Any) -> bool:
    """Return whether a result is a map."""
    return "density" in result and "mass" in result


def print_map(result: Any, *, as_json: bool) -> None:
    """Print the figures of a map: as JSON, or as text."""
    if (name := grouped_by(result)) is not None:
        _print_maps(result, name, as_json=as_json)
        return
    if as_json:
        print_json(_figures(result) | missing(result))
        return
    _print_one(result)


def _print_maps(result: Any, name: str, *, as_json: bool) -> None:
    """Print the figures of the maps of groups."""
    if as_json:
        rows = [{name: value, **_figures(one)} for value, one in groups(result)]
        seconds = float(result.attrs["seconds"])
        print_json({"by": name, "seconds": seconds, "groups": rows} | missing(result))
        return
    for number, (value, one) in enumerate(groups(result)):
        if number:
            echo()
        echo(f"{name} {value}")
        _print_one(one)


def _print_one(result: Any) -> None:
    found = _figures(result)
    unit = found.get("bandwidth_unit")
    scale = {"km": " km", "radian": " radians"}.get(str(unit), "")
    sizes = found["cells"]
    pairs = {
        "bandwidth": f"{found['bandwidth']:.6g}{scale}{_of(result)}",
        "cells": " × ".join(f"{n} along {name}" for name, n in sizes.items()),
        "mass within": f"{100 * found['mass']:.6g} %",
    }
    if found["expected_count"] is not None:
        pairs["expected counts"] = f"{found['expected_count']:.10g} in all"
    print_pairs(pairs)
    if not found["levels"]:
        return
    name = next(str(v) for v in result if str(v) in _AREAS)
    size = name.removeprefix("level_")
    units = f" ({found['area_units']})" if found["area_units"] not in (None, "1") else ""
    echo()
    echo(f"levels from the {found['levels_from']}")
    echo()
    body = [
        [f"{at['level']:g} %", *(f"{at[each]:.6g}" for each in ("density", "area"))]
        for at in found["levels"]
    ]
    print_table(["level", "density at its edge", f"{size}{units}"], body)


def _of(result: Any) -> str:
    """Return the C of the bandwidth matrix, in words, where it is not the identity."""
    options = json.loads(result.attrs.get("provenance", "{}")).get("options", {})
    covariance = options.get("covariance", "identity")
    return "" if covariance == "identity" else f" (h of h² C, C: {covariance})"


_AREAS = ("level_length", "level_area", "level_volume")


def _figures(result: Any) -> dict[str, Any]:
    """Return the figures of a map, ready for JSON."""
    expected = float(result["expected_count"].sum()) if "expected_count" in result else None
    unit = result["bandwidth"].attrs.get("units")
    found: dict[str, Any] = {
        "bandwidth": float(result["bandwidth"][0]),
        **({"bandwidth_unit": unit} if unit else {}),
        "cells": {str(dim): int(n) for dim, n in result["density"].sizes.items()},
        "mass": float(result["mass"]),
        "expected_count": expected,
        "area_units": None,
        "levels_from": None,
        "levels": [],
        "seconds": float(result.attrs["seconds"]),
    }
    area = next((str(v) for v in result if str(v) in _AREAS), None)
    if area is not None:
        columns = (result[name].values.tolist() for name in ("level_density", area, "level_mass"))
        found["area_units"] = result[area].attrs.get("units")
        found["levels_from"] = result["level_density"].attrs.get("levels_from")
        found["levels"] = [
            {"level": level, "density": density, "area": size, "mass": mass}
            for level, density, size, mass in zip(
                result["level"].values.tolist(), *columns, strict=True
            )
        ]
    return found
