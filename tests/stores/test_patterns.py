"""Patterns of paths in buckets mean what they mean on a disk."""

import glob
import os

import pytest

from dkde.stores.patterns import matches_pattern

FILES = (
    "a.csv", "ab.csv", "b.csv", ".h.csv", "[x].csv", "a/b.csv", "a/bc.csv", "a/.h.csv", "a/c/d.csv",
    "a/.git/d.csv", "ab/c/d.csv", "b/a/c/e.csv", "b/_n.csv", "!b/f.csv", ".hid/g.csv", "c+d/h.csv",
)  # fmt: skip
PATTERNS = (
    "*", "*.csv", "?.csv", "a?b.csv", "a??.csv", "[!a].csv", "a[!x]b.csv", "[!x]*", "[ab]*.csv",
    "a/*", "?/*.csv", "*/*/*.csv", "a*/c/d.csv", "**", "**/*.csv", "a/**", "**/c/*.csv",
    "a/**/d.csv",
    "*/**/?.csv", "**/**/e.csv", ".*", ".h*/*", "a/.*", "**/.h.csv", "[[]x].csv", "[", "a**",
    "a//b.csv", "**/a/**/*.csv", "*+*/*", "a[/]b.csv", "[!]/*", "b/a**/c/*", "nothing*", "?/**",
)  # fmt: skip


@pytest.mark.parametrize("pattern", PATTERNS)
def test_patterns_match_as_they_do_on_a_disk(pattern, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in FILES:
        os.makedirs(os.path.dirname(name) or ".", exist_ok=True)
        open(name, "w").close()
    right = {os.path.normpath(p) for p in glob.glob(pattern, recursive=True) if os.path.isfile(p)}
    assert {name for name in FILES if matches_pattern(name, pattern)} == right
