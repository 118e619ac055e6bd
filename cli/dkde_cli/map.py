"""``dkde map``: a density on a grid, with expected counts and levels."""

from dataclasses import dataclass
from functools import partial
from typing import Any, Self

import click

from dkde_cli.compute import attach
from dkde_cli.deliver import print_end
from dkde_cli.group import Command
from dkde_cli.logs import say
from dkde_cli.map_figures import print_map
from dkde_cli.map_values import parse_box, parse_cell, parse_cells, parse_levels
from dkde_cli.options import (
    SELECTOR_HELP,
    Where,
    density_options,
    gathered,
    groups_options,
    json_option,
    where_options,
)
from dkde_cli.plan import in_words, workers_of
from dkde_cli.runs import OUTPUT, Output, carry_out, check_apart
from dkde_cli.sides import Training, training_options
from dkde_cli.tables import duration, print_json, print_pairs, size
from dkde_cli.values import parse_bandwidth, parse_covariance

_CELLS = {
    "cell": click.option(
        "--cell",
        metavar="W",
        callback=lambda _, __, text: parse_cell(text),
        help="Width of a cell in units of the features, 0.25; or of each, lon=0.5,lat=0.25.",
    ),
    "cells": click.option(
        "--cells",
        metavar="NxM",
        callback=lambda _, __, text: parse_cells(text),
        help="Number of cells along each feature, in their order, 1280x960; by default 256 along "
        "each of two.",
    ),
    "like": click.option(
        "--like",
        metavar="FILE",
        help="Take the cells, and the reference system, of this NetCDF file, Zarr store or "
        "GeoTIFF, whose axes have the names of the features.",
    ),
    "box": click.option(
        "--box",
        metavar="A=LOW:HIGH,...",
        callback=lambda _, __, text: parse_box(text),
        help="Ends of the map along features, lon=-10:5,lat=40:60; by default those of the data, "
        "with a margin.",
    ),
    "margin": click.option(
        "--margin",
        type=click.FloatRange(min=0),
        metavar="K",
        help="Bandwidths beyond the outermost rows; by default 3, with --expected 6.",
    ),
    "expected": click.option(
        "--expected",
        is_flag=True,
        help="Make expected counts too: the weight of all rows times the mass of each cell. They "
        "add up to the weights for cells up to a bandwidth wide.",
    ),
    "levels": click.option(
        "--levels",
        metavar="P,Q,...",
        callback=lambda _, __, text: parse_levels(text),
        help="Find the smallest regions that hold so many percent of the mass: 50,95.",
    ),
    "levels_from": click.option(
        "--levels-from",
        type=click.Choice(["grid", "sample"]),
        default="grid",
        help="The thresholds of levels: cells of highest density that hold the share, or the "
        "quantile of the density at the training rows, which are scored for it.",
    ),
}


@dataclass(frozen=True)
class MapOutput(Output):
    """The places for a map: also a file for the regions of its levels.

    Parameters
    ----------
    contours : str or None
    """

    contours: str | None = None

    def checked(self, data: str, picture: str | None = None) -> Self:
        """Refuse options that do not go together, and places that cannot be written to."""
        found = super().checked(data)
        places = {"--contours": self.contours, "--output": self.store, "--plot": self.plot}
        check_apart(data, places)
        return found

    def deliver(
        self, result: Any, split: str, seconds: float, *, was_complete: bool = False
    ) -> None:
        """Write and print a map."""
        import dkde

        print_map(result, as_json=self.as_json)
        if self.contours is not None:
            say(f"The regions are in {self.contours}")
        if self.plot is not None:
            dkde.plot_map(result, path=self.plot)
            say(f"The map is drawn in {self.plot}")
        print_end(result, seconds, was_complete=was_complete)


_STORE = click.option(
    "-o",
    "--output",
    "store",
    metavar="STORE|FILE",
    help="Keep the map in this Zarr store, block by block. If the command is stopped, the same "
    "command again continues there. A name in .nc, or as GeoTIFF in .tif, becomes that file once "
    "the run is complete; until then the run is beside it, in OUTPUT.run.",
)
_CONTOURS = click.option(
    "--contours", metavar="FILE", help="Write the regions of --levels to this .geojson file."
)
_PLOT = click.option(
    "--plot",
    metavar="FILE",
    help="Draw the map, with its levels, into this .png, .svg or .pdf file.",
)
_OUTPUT = {name: option for name, option in OUTPUT.items() if name not in ("store", "csv")}


def _output(**values: Any) -> MapOutput:
    return MapOutput(csv=None, **values)


@click.command("map", cls=Command, epilog=SELECTOR_HELP)
@training_options
@click.option(
    "--bandwidth",
    metavar="H",
    help="One bandwidth, or a rule, as for dkde score; by default Silverman's rule, with the "
    "standard deviations of the features as scales.",
)
@groups_options
@gathered("cells", dict, _CELLS)
@density_options(
    "kernel", "singular", "precision", "tol", "atol", "nan", "support", "outside", "adaptive"
)
@click.option(
    "--covariance",
    metavar="C",
    help="C of the bandwidth matrix h² C, as for dkde score; by default diag for a rule, and "
    "identity for a number.",
)
@gathered(
    "output",
    _output,
    {"store": _STORE, **_OUTPUT, "contours": _CONTOURS, "plot": _PLOT, "as_json": json_option},
)
@click.option(
    "--plan",
    "is_plan",
    is_flag=True,
    help="Only show the cells, time and memory; nothing is summed or written, whatever outputs are "
    "named.",
)
@where_options
def map_(
    training: Training,
    bandwidth: str | None,
    groups: dict[str, Any],
    cells: dict[str, Any],
    density: dict[str, Any],
    covariance: str | None,
    output: MapOutput,
    is_plan: bool,
    where: Where,
) -> None:
    """Map a density on a grid of one to three features.

    The map goes to --output: log-densities, densities (on the sphere per km²), the areas of
    cells, and with --expected and --levels counts and regions. The regions' areas are printed.

    \b
    The JSON is
      {"bandwidth", "cells": {FEATURE: n, ...}, "mass", "seconds",
       "expected_count": sum or null, "area_units": UNIT or null, "levels_from",
       "levels": [{"level", "density", "area", "mass"}, ...]}
    with null for numbers that are not finite, on the sphere "bandwidth_unit", and with
    --nan drop or --outside drop "n_missing_train" or "n_outside_train". With --by it is
      {"by": NAME, "seconds", "groups": [{NAME: value, ...}, ...]}
    with the figures of each map.
    With --plan it is what dkde.plan_map returns.
    """
    import dkde

    chosen = {} if covariance is None else {"covariance": parse_covariance(covariance)}
    asked: dict[str, Any] = {
        "bandwidth": None if bandwidth is None else parse_bandwidth(bandwidth),
        "source": training.catalog, **training.choice, "weights": training.weights,
        "bandwidth_scale": training.bandwidth_scale, **cells, **density, **chosen,
    }  # fmt: skip
    if is_plan:
        if groups["by"] is not None:
            raise click.UsageError("--plan is of one map; leave out --by")
        if asked.pop("adaptive") is not None:
            raise click.UsageError("--plan does not count a pilot density; leave out --adaptive")
        with attach(where):
            cost = dkde.plan_map(training.selector, **asked, **workers_of(where))
        _print_plan(cost, as_json=output.as_json)
        return
    output = output.checked(training.data)
    if output.store is None and output.plot is None and output.contours is None:
        say("The map goes nowhere but to these figures; say --output FILE, or --plot FILE")
    call = partial(dkde.density_map, training.selector, contours=output.contours, **groups, **asked)
    carry_out(call, output, where, "map", "score")


def _print_plan(cost: dict[str, Any], *, as_json: bool) -> None:
    """Print the cells and the cost of a map."""
    if as_json:
        print_json(cost)
        return
    along = (f"{n} along {name}" for name, n in cost["cells"].items())
    wide = (
        f"{width:.4g} along {name} ({width / cost['bandwidth_along'][name]:.2g} bandwidths)"
        for name, width in cost["cell_widths"].items()
    )
    words = in_words(cost)
    if cost["seconds_of_sample"]:
        words["time"] += (
            f", {duration(cost['seconds_of_sample'])} of these for --levels-from sample"
        )
    print_pairs(
        {
            "cells": f"{' × '.join(along)}, {cost['n_cells']:,} in all",
            "width of a cell": ", ".join(wide),
            **words,
            "memory of the map": f"{size(cost['map_bytes'])} in this process",
        }
    )
