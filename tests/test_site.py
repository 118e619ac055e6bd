"""The documents' site is built without a warning, holds everything, and loads nothing."""

import doctest
import inspect
import json
import os
import re
import runpy
import shutil
import subprocess
import sys
from html import unescape
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
            if there.parent.parent == site / "_downloads":  # a notebook
                assert there.is_file(), f"{path}: {link}"
                continue
            assert there in built, f"{path}: {link}"
            assert not anchor or anchor in built[there].ids, f"{path}: {link}"


@pytest.mark.slow
def test_every_page_is_reached(site, built):
    reached, waiting = set(), [site / "index.html"]
    while waiting:
        path = waiting.pop()
        if path in built and path not in reached:
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


# Opens pages one after the other, as wide as a phone, and writes down what does not fit.
PHONE = """<!DOCTYPE html><title>phone</title><pre id="found"></pre><script>
const pages = PAGES, found = {};
const frame = document.createElement("iframe");
frame.style = "width: 390px; height: 800px; border: 0";
document.body.append(frame);
function next() {
  if (!pages.length) {
    document.getElementById("found").textContent = JSON.stringify(found);
    return;
  }
  const page = pages.pop();
  frame.onload = () => {
    const inside = frame.contentDocument, wide = inside.documentElement.scrollWidth;
    const broken = [...inside.images].filter(image => !image.naturalWidth).map(x => x.src);
    found[page] = { wide, broken, heading: inside.querySelector("h1")?.textContent ?? "" };
    next();
  };
  frame.src = page;
}
next();
</script>"""


@pytest.fixture(scope="module")
def browsed(site, built, tmp_path_factory):
    """What a browser finds of each page on a phone, and what it writes on its console."""
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
    if browser is None:
        pytest.skip("no chromium here")
    folder = tmp_path_factory.mktemp("browser")
    pages = json.dumps([path.as_uri() for path in sorted(built)])
    (folder / "phone.html").write_text(PHONE.replace("PAGES", pages))
    done = subprocess.run(
        [
            browser, "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run",
            "--disable-dev-shm-usage", "--disable-background-networking",
            f"--user-data-dir={folder / 'profile'}", "--allow-file-access-from-files",
            "--enable-logging=stderr", "--virtual-time-budget=120000", "--dump-dom",
            (folder / "phone.html").as_uri(),
        ],
        capture_output=True, text=True, timeout=300, env=os.environ | {"HOME": str(folder)},
    )  # fmt: skip
    found = re.search(r'<pre id="found">(.*?)</pre>', done.stdout, re.DOTALL)
    assert found, done.stderr[-2000:]
    console = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    return json.loads(unescape(found[1])), console


@pytest.mark.slow
def test_a_phone_shows_every_page(built, browsed):
    found, console = browsed
    assert len(found) == len(built)
    assert [place for place, page in found.items() if page["wide"] > 390] == []
    assert [page["broken"] for page in found.values() if page["broken"]] == []
    assert all(page["heading"] for place, page in found.items() if "search" not in place)
    assert console == []


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    ["score", "sweep", "cross_validate", "plan", "sample", "KernelDensity", "KernelDensityCV"],
)
def test_a_page_has_the_parameters_themselves(site, name):
    """Also those that the docstring leaves to another function."""
    text = (site / "generated" / f"dkde.{name}.html").read_text()
    heads = re.findall(r"<dt><strong>(.*?)</strong>", text)
    named = {name.strip() for head in heads for name in head.split(",")}
    assert set(inspect.signature(getattr(dkde, name)).parameters) <= named
    plain = re.sub(r"<[^>]*>", "", text)
    assert not re.search(r"As for (dkde\.)?(score|sweep|cross_validate)\(\)", plain)


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
