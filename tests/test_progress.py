"""The bar: where it shows, what it says, and that a user's function or False replaces it."""

import sys
import types

import numpy as np
import pytest

import dkde
from dkde import progress

ROWS = np.random.default_rng(0).normal(size=(30, 2))


class Kept:
    def __init__(self):
        self.lines, self.is_closed = [], False

    def show(self, share, text):
        self.lines.append((share, text))

    def close(self):
        self.is_closed = True


@pytest.fixture
def clock():
    return types.SimpleNamespace(now=0.0)


def bar(clock, delay=1.0):
    kept = Kept()
    return kept, progress._Bar(kept, "pairs", delay=delay, clock=lambda: clock.now)


def test_short_work_shows_nothing(clock):
    kept, report = bar(clock)
    report(50, 100)
    clock.now = 0.9
    report(100, 100)
    report.close()
    assert kept.lines == []
    assert not kept.is_closed


def test_speed_time_left_and_the_end(clock):
    kept, report = bar(clock)
    report(100, 1000)  # blocks from before, which count for no speed
    clock.now = 2.0
    report(300, 1000)
    clock.now = 2.1  # too soon after the last
    report(310, 1000)
    clock.now = 9.0
    report(1000, 1000)
    report.close()
    assert kept.lines[0] == (0.3, "30%, 100 pairs/s, 7.0 s left")
    assert [share for share, _ in kept.lines] == [0.3, 1.0, 1.0]
    assert kept.lines[-1][1] == "100%, 100 pairs/s, 9.0 s"
    assert kept.is_closed


def test_a_count_that_begins_anew(clock):
    kept, report = bar(clock, delay=0.0)
    report(100, 100)
    clock.now = 1.0
    report(0, 50)
    clock.now = 2.0
    report(10, 50)
    assert kept.lines[-1] == (0.2, "20%, 10 pairs/s, 4.0 s left")


def test_scripts_show_none_unless_they_ask(capsys, monkeypatch):
    monkeypatch.delenv("DKDE_PROGRESS", raising=False)
    dkde.score(ROWS[:4] + 0.1, ROWS, 1.0)
    dkde.score(ROWS[:4] + 0.1, ROWS, 1.0, progress=False)
    assert capsys.readouterr().err == ""
    dkde.score(ROWS[:4] + 0.1, ROWS, 1.0, progress=True)
    shown = capsys.readouterr().err
    assert "100%" in shown
    assert shown.endswith("\n")


def test_the_environment_turns_bars_on_and_off(monkeypatch):
    monkeypatch.setenv("DKDE_PROGRESS", "1")
    assert isinstance(progress._display(None), progress._Line)
    monkeypatch.setenv("DKDE_PROGRESS", "0")
    assert progress._display(None) is None
    assert progress._display(True) is not None
    monkeypatch.setenv("DKDE_PROGRESS", "1")
    assert progress._display(False) is None


def test_a_prompt_on_a_terminal_shows_it_by_itself(monkeypatch):
    monkeypatch.delenv("DKDE_PROGRESS", raising=False)
    monkeypatch.setattr(sys, "ps1", ">>> ", raising=False)
    assert progress._display(None) is None  # pytest's standard error is no terminal
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    assert isinstance(progress._display(None), progress._Line)


def test_a_notebook_shows_it_by_itself(monkeypatch):
    monkeypatch.delenv("DKDE_PROGRESS", raising=False)
    updates = []

    class Handle:
        def update(self, bar):
            updates.append(bar.html)

    def display(bar, display_id):
        updates.append(bar.html)
        return Handle()

    ipython = types.ModuleType("IPython")
    ipython.get_ipython = lambda: types.SimpleNamespace(kernel=object())
    shown = types.ModuleType("IPython.display")
    shown.HTML = lambda html: types.SimpleNamespace(html=html)
    shown.display = display
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setitem(sys.modules, "IPython.display", shown)
    found = progress._display(None)
    found.show(0.5, "50%, <fast>")
    found.show(1.0, "100%")
    assert 'value="0.5000"' in updates[0]
    assert "&lt;fast&gt;" in updates[0]
    assert 'value="1.0000"' in updates[1]


def test_a_function_is_called_and_anything_else_refused(tmp_path):
    got = []
    dkde.score(ROWS[:4] + 0.1, ROWS, 1.0, progress=lambda done, total: got.append((done, total)))
    assert got[-1] == (120, 120)
    with pytest.raises(dkde.InputError, match="progress is 3"):
        dkde.score(ROWS[:4] + 0.1, ROWS, 1.0, progress=3)


def test_imports_show_it_too(tmp_path, capsys):
    np.save(tmp_path / "x.npy", ROWS)
    dkde.import_dataset(tmp_path / "x.npy", tmp_path / "x.zarr", progress=True)
    assert "100%" in capsys.readouterr().err
    dkde.index_dataset(tmp_path / "x.zarr", progress=False)
    got = []
    dkde.describe(str(tmp_path / "x.npy"), progress=lambda *state: got.append(state))
    assert capsys.readouterr().err == ""
