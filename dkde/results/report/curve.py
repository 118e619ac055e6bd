"""The curve of a sweep as part of a page, in the page's own colours."""

from __future__ import annotations

import re
from io import StringIO

import xarray as xr

from dkde.results.sweep_curve import draw_sweep

# Colours of the page, where matplotlib's are these.
_COLOURS = {
    "#0072b2": "var(--curve)",
    "#d55e00": "var(--test)",
    "#666666": "var(--muted)",
    "#e6e6e6": "var(--line)",
    "#000000": "var(--ink)",
    "#ffffff": "var(--paper)",
}
_COLOUR = re.compile(r"#[0-9a-fA-F]{6}\b")


def curve(result: xr.Dataset) -> str:
    """The mean log-likelihood with its standard errors over bandwidths, as inline SVG."""
    from matplotlib import rc_context  # slow to import

    figure = draw_sweep(result)
    file = StringIO()
    # Text stays text, in the page's font; names within it are the same each time.
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "dkde"}):
        figure.savefig(
            file,
            format="svg",
            transparent=True,
            metadata={"Date": None, "Creator": None, "Format": None, "Type": None},
        )
    drawn = file.getvalue()
    drawn = drawn[drawn.index("<svg") :]
    drawn = re.sub(r"<metadata>.*?</metadata>", "", drawn, flags=re.DOTALL)
    coloured = _COLOUR.sub(lambda found: _COLOURS.get(found[0].lower(), found[0]), drawn)
    # Text has no colour of its own in matplotlib's SVG where it is black.
    return coloured.replace("<svg ", '<svg role="img" fill="var(--ink)" ', 1)
