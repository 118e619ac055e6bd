"""The README as a package index shows it has no links that lead nowhere."""

import re
import runpy
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.skipif(not (ROOT / "setup.py").exists(), reason="installed without it")


def test_links_to_files_are_named_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    setuptools = pytest.importorskip("setuptools")
    given: dict[str, Any] = {}
    monkeypatch.setattr(setuptools, "setup", lambda **options: given.update(options))
    runpy.run_path(str(ROOT / "setup.py"))
    readme, page = (ROOT / "README.md").read_text("utf-8"), given["long_description"]
    assert given["long_description_content_type"] == "text/markdown"
    targets = re.findall(r"\]\(([^)]*)\)", page)
    assert [each for each in targets if not each.startswith("https://")] == []
    # Those of the README that it had links to; it has commands in brackets, too.
    named = set(re.findall(r"\(`([^` ]+)`\)", page))
    assert len(named) > 10
    assert [each for each in named if not (ROOT / each).exists()] == []
    # Code is unchanged.
    assert page.split("```")[1::2] == readme.split("```")[1::2]
