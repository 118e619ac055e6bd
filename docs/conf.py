"""The site of these pages: ``python -m sphinx -W --keep-going docs build/site``."""

import sys
from pathlib import Path
from typing import Any

import dkde

sys.path.insert(0, str(Path(__file__).parent / "extensions"))

project = "dkde"
author = "The dkde developers"
version = release = dkde.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "numpydoc",
    "command_reference",
    "contents",
    "shared_parameters",
]
exclude_patterns = ["build"]
templates_path = ["templates"]
nitpicky = True
# -- and " are parts of commands and of code.
smartquotes = False

myst_enable_extensions = ["deflist"]
# Anchors as the web pages of repositories have them, so that links work in both.
myst_heading_anchors = 4

autosummary_generate = True
autodoc_typehints = "none"
autodoc_preserve_defaults = True
numpydoc_show_class_members = False

html_theme = "furo"
html_title = "dkde"
html_copy_source = False
html_use_index = False
html_show_copyright = False
html_show_sphinx = False


def _skip(_: Any, __: str, name: str, member: Any, *rest: Any) -> bool | None:
    """Leave out what scikit-learn has written, which is for its own site."""
    is_request = name.startswith("set_") and name.endswith("_request")
    of_sklearn = str(getattr(member, "__module__", "")).startswith("sklearn")
    return True if is_request or of_sklearn else None


def setup(app: Any) -> None:
    app.connect("autodoc-skip-member", _skip)
