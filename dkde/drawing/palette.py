"""Colours of pictures, and inline SVG whose colours are those of the page around it."""

from __future__ import annotations

import re
from html import escape
from io import StringIO
from typing import Any

from dkde.errors import printable

# Okabe and Ito's palette, which colour-blind readers can tell apart.
BLUE, ORANGE = "#0072B2", "#D55E00"
PALETTE = (BLUE, ORANGE, "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C6D46")
GREY = "0.4"
# On a page matplotlib's colours become variables of the page, which has a light and a dark style.
_COLOURS = {
    "#0072b2": "var(--curve)",
    "#d55e00": "var(--test)",
    "#009e73": "var(--third)",
    "#666666": "var(--muted)",
    "#e6e6e6": "var(--line)",
    "#000000": "var(--ink)",
    "#ffffff": "var(--paper)",
}
_COLOUR = re.compile(r"#[0-9a-fA-F]{6}\b")


def new_figure(width: float = 6.4, height: float = 4.2) -> tuple[Any, Any]:
    """Return a figure with axes, made without pyplot: no display, no change of a session's state.

    Parameters
    ----------
    width, height : float
        In inches.
    """
    from matplotlib.figure import Figure  # slow to import

    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.add_subplot()


def name_in_picture(name: str) -> str:
    """Return a name as matplotlib's text: dollars make no formula, and controls are escaped."""
    return printable(name).replace("$", r"\$")


def inline_svg(figure: Any, label: str) -> str:
    """Return a figure as inline SVG in the colours of the page.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
    label : str
        What the picture shows, for readers who do not see it.
    """
    from matplotlib import rc_context  # slow to import

    file = StringIO()
    # Text stays text, in the page's font. With a fixed salt the ids within are the same each time.
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
    # matplotlib writes no colour for black text: it takes that of the whole picture.
    attributes = f'role="img" aria-label="{escape(printable(label))}" fill="var(--ink)"'
    return coloured.replace("<svg ", f"<svg {attributes} ", 1)
