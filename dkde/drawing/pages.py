"""Pages and parts of pages, made of templates in which all text is escaped."""

from __future__ import annotations

from functools import cache
from typing import Any


@cache
def _templates() -> Any:
    from jinja2 import Environment, PackageLoader  # slow to import

    # Names and values come from users' files: all that is not of the template is escaped.
    return Environment(
        loader=PackageLoader("dkde.drawing", "templates"),
        autoescape=True, trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip


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
