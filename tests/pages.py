"""The pages' blocks of code, and how they are run: Python, and the ``dkde`` lines of a shell.

And what is compared with what they show: output, and figures.
"""

import re
import shlex
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, field, replace
from io import StringIO
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from click.testing import CliRunner
from dkde_cli.main import cli
from matplotlib.image import imread

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted(
    str(path.relative_to(ROOT))
    for path in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md"))
    if "build" not in path.parts
)

_FENCE = re.compile(r"^```(\S*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# What differs from run to run: times, and sizes of memory and files.
_PASSING = {
    "TIME": re.compile(r"\b\d+(\.\d+)? (s|ms|min|h)\b"),
    "SIZE": re.compile(r"\b\d+(\.\d+)? ([KMG]i)?B\b"),
}


@dataclass(frozen=True)
class Block:
    """A block of code of a page, and the output that is shown right below it."""

    page: str
    line: int
    language: str
    text: str
    shown: str | None = None

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def commands(self) -> list[list[str]]:
        """The words of each command of a shell's block; none of others."""
        if self.language != "sh":
            return []
        commands: list[list[str]] = []
        for line in self.text.replace("\\\n", " ").splitlines():
            lexer = shlex.shlex(line, posix=True, punctuation_chars=";&")
            lexer.whitespace_split = True
            commands.append([])
            for word in lexer:
                if set(word) <= set(";&"):
                    commands.append([])
                else:
                    commands[-1].append(word)
        return [words for words in commands if words]


def blocks(page: str) -> list[Block]:
    """A page's blocks in order; of text, those alone that stand below no command."""
    source = (ROOT / page).read_text()
    made: list[Block] = []
    end = 0
    for match in _FENCE.finditer(source):
        between, end = source[end : match.start()], match.end()
        below = made and made[-1].language in ("sh", "python") and made[-1].shown is None
        if match[1] == "text" and below and not between.strip():
            made[-1] = replace(made[-1], shown=match[2])
        else:
            line = source.count("\n", 0, match.start()) + 1
            made.append(Block(page, line, match[1], match[2]))
    return made


@dataclass
class Session:
    """One namespace and the current folder, in which a page's blocks run one after the other."""

    names: dict[str, Any] = field(default_factory=dict)

    def run(self, block: Block, commands: Sequence[list[str]] = ()) -> None:
        """Run a block, of a shell's these commands; what is shown has to come out."""
        printed = self.python(block) if block.language == "python" else self.dkde(block, commands)
        if block.shown is not None:
            assert_shown(block, printed)

    def python(self, block: Block) -> str:
        printed = StringIO()
        # Tracebacks then name the page and its line.
        code = compile("\n" * block.line + block.text, str(ROOT / block.page), "exec")
        with redirect_stdout(printed):
            exec(code, self.names)
        return printed.getvalue()

    def dkde(self, block: Block, commands: Sequence[list[str]]) -> str:
        printed = ""
        for words in commands:
            result = CliRunner().invoke(cli, words[1:])
            assert result.exit_code == 0, f"{block}: {shlex.join(words)}\n{result.output}"
            printed += result.output
        return printed


def parse(words: list[str]) -> None:
    """Parse a ``dkde`` command up to its call; raises click's errors."""
    command = cli.commands[words[1]]
    # An ellipsis stands for what was said before: the data, at least.
    given = ["digits" if word == "…" else word for word in words[2:]]
    command.make_context(f"dkde {words[1]}", given).close()


def settled(text: str) -> list[str]:
    """Lines without what differs from run to run, and without ellipses for lines left out."""
    for name, pattern in _PASSING.items():
        text = pattern.sub(name, text)
    return [" ".join(line.split()) for line in text.splitlines() if line.strip() not in ("", "…")]


def assert_shown(block: Block, printed: str) -> None:
    """All lines that are shown were printed, in this order."""
    rest = iter(settled(printed))
    for line in settled(block.shown or ""):
        assert line in rest, f"{block}: {line!r} is not in (or not at this place of)\n{printed}"


def assert_alike(path: Path, shown: Path) -> None:
    """Other versions of matplotlib may draw letters otherwise, which are grey, and no more."""
    drawn, expected = imread(path)[..., :3], imread(shown)[..., :3]
    assert drawn.shape == expected.shape
    assert abs(drawn - expected).mean() < 0.01
    lost = unlike(expected, drawn) + unlike(drawn, expected)
    assert lost < 0.05, f"{lost:.0%} of what is coloured is elsewhere"


def unlike(picture: np.ndarray, other: np.ndarray) -> float:
    """The share of the coloured pixels to which no pixel of the other within two is alike."""
    coloured = np.ptp(picture, axis=-1) > 0.1
    around = np.pad(other, ((2, 2), (2, 2), (0, 0)), mode="edge")
    rows, columns = np.nonzero(coloured)
    alike = np.zeros(len(rows), bool)
    for down, right in product(range(5), repeat=2):
        away = abs(picture[rows, columns] - around[rows + down, columns + right])
        alike |= away.max(axis=-1) < 0.15
    return float(1 - alike.mean())
