"""A summary of a result: HTML in a notebook, text elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from dkde.drawing.pages import rendered
from dkde.drawing.tables import Table, table_text
from dkde.errors import printable


@dataclass(frozen=True, eq=False, repr=False)
class Summary:
    """A summary that shows itself: as HTML in a notebook, as text in a terminal.

    Parameters
    ----------
    title, subtitle : str
    key : mapping of str to str
        The figures that readers look for first, by their names.
    pictures : mapping of str to str
        Curves and maps as inline SVG, by their headings.
    tables : mapping of str to Table
        By their headings. Those of more than a dozen rows are folded.
    origin : mapping of str to str
        The lines that say where the result comes from, folded.
    provenance : str
        All of it, as JSON; empty where there is none.
    """

    title: str
    subtitle: str
    key: Mapping[str, str]
    pictures: Mapping[str, str] = field(default_factory=dict)
    tables: Mapping[str, Table] = field(default_factory=dict)
    origin: Mapping[str, str] = field(default_factory=dict)
    provenance: str = ""

    def _repr_html_(self) -> str:
        return rendered("summary.html", shown=self)

    def __repr__(self) -> str:
        width = max(map(len, self.key), default=0)
        lines = [self.title, *filter(None, [self.subtitle]), *([""] if self.key else [])]
        lines += [f"{name.ljust(width)}  {value}" for name, value in self.key.items()]
        lines = list(map(printable, lines))
        for heading, table in self.tables.items():
            lines += ["", printable(heading), table_text(table)]
        return "\n".join(lines)
