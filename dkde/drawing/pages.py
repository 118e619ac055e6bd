"""Pages and parts of pages, made of templates in which all text is escaped."""

from __future__ import annotations

from functools import cache
from typing import Any

from dkde.errors import printable


@cache
def _templates() -> Any:
    from jinja2 import Environment, PackageLoader  # slow to import

    # Names and values come from users' files: all that is not of the template is escaped.
    return Environment(
        loader=PackageLoader("dkde.drawing", "templates"),
        autoescape=True, finalize=_plain, trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip


def _plain(value: Any) -> Any:
    """Return text without what a browser would show in another order, or not at all."""
    # What is marked as HTML already is of a template, or a picture.
    if not isinstance(value, str) or hasattr(value, "__html__"):
        return value
    return "\n".join(map(printable, value.split("\n")))


def rendered(template: str, **parts: Any) -> str:
    """Return a template filled in.

    Parameters
    ----------
    template : str
        Its name, such as "page.html".
    **parts
        What it shows. Pictures are inline SVG of dkde; all else is escaped.
    """
    found: str = _templates().get_template(template).render(**parts)
    return found
