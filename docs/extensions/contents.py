"""The table of contents, made of the lists of links that the pages have for every reader."""

import re
from typing import Any

# Pages whose lists name others, and whether their headings are captions.
PAGES = {"index": True, "examples/README": False, "gallery/README": False}
_LINK = re.compile(r"\]\(([\w/-]+)\.md\)")


def with_contents(docname: str, text: str) -> str:
    r"""The text, and for each section a list of the pages that it names.

    Examples
    --------
    >>> print(with_contents("index", "## Use\n\n- [One](one.md).").partition("one.md).")[2].strip())
    ```{toctree}
    :hidden:
    :caption: Use
    <BLANKLINE>
    one
    ```
    """
    lists = []
    introduction, *sections = re.split(r"^## ", text, flags=re.MULTILINE)
    # The introduction has no caption; what it names stands in a section as well.
    for section in sections if PAGES[docname] else [introduction, *sections]:
        pages = list(dict.fromkeys(_LINK.findall(section)))
        if pages:
            caption = [f":caption: {section.splitlines()[0]}"] if PAGES[docname] else []
            lists.append("\n".join(["```{toctree}", ":hidden:", *caption, "", *pages, "```"]))
    return "\n\n".join([text, *lists]) + "\n"


def _add(_: Any, docname: str, source: list[str]) -> None:
    if docname in PAGES:
        source[0] = with_contents(docname, source[0])


def setup(app: Any) -> dict[str, bool]:
    app.connect("source-read", _add)
    return {"parallel_read_safe": True}
