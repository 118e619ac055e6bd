"""Pieces of a page. Text goes in as it is, and comes out escaped."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from io import BytesIO
from typing import Any

import numpy as np
import numpy.typing as npt


class Markup(str):
    """Text that is markup already, and is not escaped again."""


def text(value: Any) -> Markup:
    """Escaped text, unless it is markup."""
    return value if isinstance(value, Markup) else Markup(escape(str(value)))


def element(name: str, *content: Any, **attributes: str) -> Markup:
    """An element; attributes whose names are Python's words end in an underscore.

    Examples
    --------
    >>> element("p", "a < b", class_="note")
    '<p class="note">a &lt; b</p>'
    """
    given = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(value)}"'
        for key, value in attributes.items()
    )
    return Markup(f"<{name}{given}>{''.join(map(text, content))}</{name}>")


def section(title: str, *content: Any) -> Markup:
    """A part of a page under its title."""
    return element("section", element("h2", title), *content)


def table(heads: Sequence[str], rows: Iterable[Sequence[Any]], marked: int | None = None) -> Markup:
    """A table of numbers, with the row of that number marked; it scrolls where it is too wide."""
    head = element("tr", *(element("th", name, scope="col") for name in heads))
    body = [
        element("tr", *(element("td", cell) for cell in row), **_mark(number == marked))
        for number, row in enumerate(rows)
    ]
    inner = element("table", element("thead", head), element("tbody", *body))
    return element("div", inner, class_="wide")


def _mark(is_marked: bool) -> dict[str, str]:
    return {"class_": "best"} if is_marked else {}


def pairs(known: Mapping[str, Any]) -> Markup:
    """Names and what belongs to each."""
    entries = [(element("dt", name), element("dd", value)) for name, value in known.items()]
    return element("dl", *(part for entry in entries for part in entry))


def picture(pixels: npt.NDArray[np.uint8], words: str) -> Markup:
    """A picture (height, width, 3) that is part of the page itself.

    Parameters
    ----------
    words : str
        For those who do not see it.
    """
    from matplotlib.image import imsave  # slow to import

    file = BytesIO()
    imsave(file, pixels, format="png")
    data = f"data:image/png;base64,{b64encode(file.getvalue()).decode()}"
    return Markup(f'<img src="{data}" alt="{escape(words)}">')


def page(title: str, style: str, *content: Any) -> str:
    """A whole page, which may load nothing from anywhere."""
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    head = "".join(
        [
            '<meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            '<meta name="color-scheme" content="light dark">',
            '<link rel="icon" href="data:,">',  # or browsers ask the server for one
            element("title", title),
            f"<style>{style}</style>",
        ]
    )
    body = element("main", *content)
    return f'<!DOCTYPE html>\n<html lang="en"><head>{head}</head><body>{body}</body></html>\n'
