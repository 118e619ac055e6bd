"""What pyproject.toml cannot say: the README as a package index shows it."""

import re
from pathlib import Path

from setuptools import setup

_LINK = re.compile(r"(!?)\[([^\]]+)\]\((?!https?://)([^)\s]*)\)")

_WHERE = "Pages that stand in brackets, such as `docs/index.md`, are files of the source archive."


def described(readme: str) -> str:
    """Return the README without links to files, which an index does not have.

    Pages are named in words instead, and a sentence says where they are. Links within the page
    become plain text.
    """
    # Code, between fences, stays as it is.
    pieces = readme.split("```")
    pieces[::2] = [_LINK.sub(_in_words, piece) for piece in pieces[::2]]
    title, rest = "```".join(pieces).split("\n", 1)
    return f"{title}\n\n{_WHERE}\n{rest}"


def _in_words(link: re.Match[str]) -> str:
    picture, text, target = link.groups()
    page = target.partition("#")[0]
    if picture:
        return f"(The picture is `{page}`.)"
    return f"{text} (`{page}`)" if page else text


setup(
    long_description=described(Path(__file__).with_name("README.md").read_text("utf-8")),
    long_description_content_type="text/markdown",
)
