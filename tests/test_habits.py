"""What stands around the code agrees with it: versions, bounds, actions' commits."""

import re
import runpy
import tomllib
from pathlib import Path

import pytest

import dkde

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def test_every_requirement_has_an_oldest_version():
    constraints = runpy.run_path(str(ROOT / ".ci" / "oldest"))["constraints"]
    lines = constraints(PROJECT)
    assert "dask==2025.1" in lines  # without the extra, which constraints cannot have
    assert len(lines) > len(PROJECT["dependencies"])
    with pytest.raises(SystemExit, match="numpy has no lower bound"):
        constraints(PROJECT | {"dependencies": ["numpy"]})


def test_the_citation_is_of_this_version():
    text = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\nversion: {dkde.__version__}\n" in text
    assert f"\nlicense: {PROJECT['license']}\n" in text
    assert PROJECT["urls"]["Source"] in text


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.name)
def test_actions_are_named_by_commit_and_may_read_alone(workflow):
    text = workflow.read_text(encoding="utf-8")
    used = re.findall(r"uses: (.*)", text)
    assert used
    for action in used:
        assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", action)
    assert re.findall(r"permissions:(.*)\n(.*)", text)[0][0] == " {}"
    assert "write" not in text


def test_the_workflows_test_every_python_that_the_docs_name():
    text = (ROOT / ".github" / "workflows" / "tests.yml").read_text(encoding="utf-8")
    first, last = re.search(
        r"Python 3\.(\d+) to 3\.(\d+)", (ROOT / "docs" / "platforms.md").read_text(encoding="utf-8")
    ).groups()  # type: ignore[union-attr]
    assert PROJECT["requires-python"] == f">=3.{first}"
    for minor in range(int(first), int(last) + 1):
        assert f'python: "3.{minor}", versions: newest' in text
    assert f'python: "3.{first}", versions: oldest' in text
