"""Draw ``wings.svg``: the wings of the package, each on those that it may import.

Run it where a wing comes or goes: ``python docs/figures/wings.py``.
"""

from html import escape
from pathlib import Path

# From the roof to the ground; wings of one floor do not know each other.
FLOORS = (
    (("cli/dkde_cli", "the command: thin, one module a family"),),
    (("results", "results read again: compare, export, plot, report"),),
    (("estimation", "what users call: score, sweep, select, sample, estimators"),),
    (("drawing", "what is shown: curves, maps, tables, summaries"),),
    (
        ("workers", "clients, clusters, batch queues"),
        ("runs", "calls with an output, taken up again"),
    ),
    (("engine", "task, plan, survey, blocks, window, lazy graph"),),
    (("inputs", "what users pass, made into one side of the work"),),
    (("datasets", "the package's own data sets; formats, one module each"),),
    (("rows", "what a task reads: arrays, variables, columns, places"),),
    (("stores", "bytes: folders, buckets, chunks, whole files"),),
    (("numerics", "kernels, metrics, tiles, bounds, expansions, moments"),),
    (("errors, typing, progress, version", "the tree of errors, names of types, bars"),),
)
WIDTH, HEIGHT, GAP = 760, 40, 6


def drawn() -> str:
    """Return the figure as SVG."""
    boxes = []
    for floor, wings in enumerate(FLOORS):
        width = (WIDTH - GAP * (len(wings) + 1)) / len(wings)
        for at, (name, words) in enumerate(wings):
            x, y = GAP + at * (width + GAP), GAP + floor * (HEIGHT + GAP)
            boxes.append(
                f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{HEIGHT}" rx="5" '
                'fill="#4c72b0" fill-opacity="0.12" stroke="#4c72b0"/>\n'
                f'<text x="{x + 12:g}" y="{y + 25:g}"><tspan font-weight="bold">{escape(name)}'
                f'</tspan><tspan dx="10" font-size="12.5">{escape(words)}</tspan></text>'
            )
    height = GAP + len(FLOORS) * (HEIGHT + GAP)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
        f'width="{WIDTH}" height="{height}" font-family="sans-serif" font-size="14" '
        'fill="#7a7a7a" role="img">\n<title>The wings of dkde</title>\n'
        + "\n".join(boxes)
        + "\n</svg>\n"
    )


if __name__ == "__main__":
    Path(__file__).with_suffix(".svg").write_text(drawn(), encoding="utf-8")
