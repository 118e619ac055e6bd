"""The package as it is installed: its version, what it imports, and what it needs."""

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

import dkde

ROOT = Path(__file__).resolve().parents[1]
# In the order of Keep a Changelog.
KINDS = ["Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"]
# Entries that begin with the same characters, so many, say the same.
_BEGINNING = 30
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def output(*arguments: str) -> str:
    return subprocess.check_output([sys.executable, *arguments], text=True)


def test_the_version_is_said_in_one_place():
    assert "version" not in PROJECT["project"]
    place = PROJECT["tool"]["setuptools"]["dynamic"]["version"]["attr"]
    module, _, name = place.rpartition(".")
    assert getattr(sys.modules[module], name) == dkde.__version__
    released = re.search(
        r"^## \[([\d.]+)\] - (\d{4}-\d\d-\d\d)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE
    )
    assert released
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert released[1] == dkde.__version__ == cited["version"]
    assert released[2] == str(cited["date-released"])


def test_each_release_lists_its_changes_in_order():
    """Each kind of change once, each entry once, in one or two lines."""
    text = (ROOT / "CHANGELOG.md").read_text()
    first, *releases = re.split(r"^## ", text, flags=re.MULTILINE)[1:]
    assert first.startswith("[Unreleased]\n")
    assert releases
    for release in [first, *releases]:
        kinds = re.findall(r"^### (.*)$", release, re.MULTILINE)
        assert kinds == [kind for kind in KINDS if kind in kinds]
    entries = re.findall(r"^- (?:.+\n)(?:  .+\n)*", "".join(releases), re.MULTILINE)
    assert len(set(entries)) == len(entries)
    assert [entry for entry in entries if entry.count("\n") > 2] == []
    assert max(map(len, text.splitlines())) <= 110
    # Two branches that say the same in other words are merged into two entries.
    begins = [entry[:_BEGINNING] for entry in re.findall(r"^- (.+)$", first, re.MULTILINE)]
    assert [start for start in set(begins) if begins.count(start) > 1] == []


def test_python_m_dkde_is_the_command():
    assert output("-m", "dkde", "--version") == f"dkde {dkde.__version__}\n"
    assert output("-m", "dkde").startswith("Usage: dkde [OPTIONS]")


def loaded(code: str) -> set[str]:
    """Names of the modules that code imports, without the standard library's."""
    program = (
        "import json, sys\nbefore = set(sys.modules)\n"
        f"{code}\n"
        "print(json.dumps(sorted(set(sys.modules) - before)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    names = json.loads(done.stderr)
    return {name for name in names if name.partition(".")[0] not in sys.stdlib_module_names}


def test_import_dkde_imports_next_to_nothing():
    """All that is slow to import waits until a public name is used."""
    assert loaded("import dkde") == {"dkde", "dkde.version", "lazy_loader"}
    assert loaded("import dkde; dkde.InputError") == {
        "dkde", "dkde.version", "lazy_loader", "dkde.errors",
    }  # fmt: skip


@pytest.mark.parametrize("arguments", [["--help"], ["sweep", "--help"], ["--version"]])
def test_help_imports_no_more_than_the_command_line(arguments):
    names = loaded(
        f"from dkde_cli.main import cli; cli({arguments}, 'dkde', standalone_mode=False)"
    )
    others = {name for name in names if name.partition(".")[0] not in ("click", "dkde_cli")}
    assert others <= {"dkde", "dkde.version", "dkde.errors", "dkde.progress", "lazy_loader"}
