"""The documents' site is built without a warning, holds everything, and loads nothing."""

import doctest
import re
import runpy
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest
from dkde_cli.main import cli

import dkde

DOCS = Path(__file__).resolve().parents[1] / "docs"
EXTENSIONS = sorted((DOCS / "extensions").glob("*.py"))


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The folder of the built site."""
    for name in ("sphinx", "numpydoc", "myst_parser", "furo"):
        pytest.importorskip(name, reason=f'needs {name}: pip install "dkde[docs]"')
    folder = tmp_path_factory.mktemp("site")
    source, built = folder / "docs", folder / "site"
    shutil.copytree(
        DOCS, source, ignore=shutil.ignore_patterns("generated", "build", "__pycache__")
    )
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", source, built]
    done = subprocess.run(command, capture_output=True, text=True, cwd=DOCS.parent)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return built


class Page(HTMLParser):
    """The ids of a page, where its links lead, and what a browser would load for it."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.feed(path.read_text())

    def handle_starttag(self, tag, attributes):
        for name, value in attributes:
            if name == "id":
                self.ids.add(value)
            elif name == "href" and tag == "a":
                self.links.append(value)
            elif name in ("src", "srcset", "href", "data", "poster", "action"):
                self.loaded.append(value)


@pytest.fixture(scope="module")
def built(site):
    return {path: Page(path) for path in site.rglob("*.html")}


@pytest.mark.slow
def test_pages_load_nothing_from_elsewhere(site, built):
    for path, page in built.items():
        for place in page.loaded:
            assert place.startswith("#") or not re.match(r"[a-z]+:|//", place), f"{path}: {place}"
    for path in site.rglob("*.css"):
        text = path.read_text()
        places = re.findall(r"url\(\s*[\"']?([^\"')]*)", text)
        assert all(re.match(r"data:|(?!//)(?![a-z]+:)", place) for place in places), path
        assert "@import" not in text, path
    for path in site.rglob("*.js"):
        text = re.sub(
            r"/\*.*?\*/|^\s*(//|\*).*$", "", path.read_text(), flags=re.DOTALL | re.MULTILINE
        )
        # The name of SVG is no place.
        assert not re.search(r"[\"'`](https?:)?//(?!www\.w3\.org/2000/svg)\w", text), path


@pytest.mark.slow
def test_links_lead_on(site, built):
    for path, page in built.items():
        for link in page.links:
            if re.match(r"[a-z]+:", link):
                continue
            name, _, anchor = unquote(link).partition("#")
            there = (path.parent / name).resolve() if name else path
            assert there in built, f"{path}: {link}"
            assert not anchor or anchor in built[there].ids, f"{path}: {link}"


@pytest.mark.slow
def test_every_page_is_reached(site, built):
    reached, waiting = set(), [site / "index.html"]
    while waiting:
        path = waiting.pop()
        if path not in reached:
            reached.add(path)
            links = (unquote(link).partition("#")[0] for link in built[path].links)
            waiting += [
                (path.parent / link).resolve() for link in links if link and ":" not in link
            ]
    assert reached >= {path for path in built if path.name != "search.html"}


@pytest.mark.slow
@pytest.mark.parametrize("name", dkde.__all__)
def test_public_names_have_a_page(site, name):
    page = site / "generated" / f"dkde.{name}.html"
    text = re.sub(r"<[^>]*>", "", page.read_text())
    first = (getattr(dkde, name).__doc__ or "").strip().splitlines()[0]
    words = re.findall(r"\w+", re.sub(r":\w+:`|[`*]", "", first))[:4]
    assert re.search(r"\W+".join(words), text)


@pytest.mark.slow
@pytest.mark.parametrize("name", cli.commands)
def test_commands_have_a_section(site, built, name):
    path = site / "commands.html"
    assert f"dkde-{name}" in built[path].ids
    text = path.read_text()
    for parameter in cli.commands[name].params:
        for option in parameter.opts:
            assert option in text


@pytest.mark.parametrize("path", EXTENSIONS, ids=lambda path: path.stem)
def test_extensions(path):
    names = runpy.run_path(str(path))
    for test in doctest.DocTestFinder().find(
        type("module", (), {**names, "__doc__": None}), path.stem, globs=names
    ):
        assert doctest.DocTestRunner().run(test).failed == 0


def test_help_is_text_on_the_page():
    """What Markdown would take for markup stays as it is on a terminal."""
    text = runpy.run_path(str(DOCS / "extensions/command_reference.py"))["reference"]()
    assert re.findall(r"^## dkde (\S+)$", text, re.MULTILINE) == list(cli.commands)
    assert "\\[SOURCE::\\]SPLIT\\[a:b\\]" in text
    assert '  {"best_bandwidth": b,' in text
