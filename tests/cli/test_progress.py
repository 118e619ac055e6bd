"""Progress on standard error."""

from dkde_cli.progress import Lines, progress, stages


class TestLines:
    def test_one_a_minute(self, capsys):
        now = [0.0]
        lines = Lines("pairs", clock=lambda: now[0])
        for second in range(0, 200, 10):
            now[0] = float(second)
            lines("valid", second * 1_000_000, 400_000_000)
        out, err = capsys.readouterr()
        assert out == ""
        assert err.splitlines() == [
            "valid: 15%, 1 M pairs/s, 6 min left",
            "valid: 30%, 1 M pairs/s, 5 min left",
            "valid: 45%, 1 M pairs/s, 4 min left",
        ]

    def test_a_stage_that_begins_anew_has_its_own_time(self, capsys):
        now = [0.0]
        lines = Lines("pairs", clock=lambda: now[0])
        for second, done in ((0, 50), (100, 100), (200, 10), (300, 20)):
            now[0] = float(second)
            lines("refining", done, 100)
        assert capsys.readouterr().err.splitlines()[-1] == "refining: 20%, 0.1 pairs/s, 13 min left"

    def test_what_was_done_before_makes_it_no_faster(self, capsys):
        now = [0.0]
        lines = Lines("pairs", clock=lambda: now[0])
        for second, done in ((100, 800), (200, 810)):
            now[0] = float(second)
            lines("valid", done, 1000)
        assert capsys.readouterr().err.splitlines() == [
            "valid: 80%", "valid: 81%, 0.1 pairs/s, 32 min left",
        ]  # fmt: skip

    def test_nothing_for_short_work(self, capsys):
        with progress("pairs") as update:
            for done in range(10):
                update("valid", done, 10)
        assert capsys.readouterr().err == ""


def test_a_count_that_starts_again_is_a_new_stage():
    seen = []
    report = stages(lambda *update: seen.append(update), "valid", "test")
    for done in (50, 100):
        report(done, 100)
    for done in (10, 20):
        report(done, 20)
    assert seen == [
        ("valid", 50, 100), ("valid", 100, 100), ("test", 10, 20), ("test", 20, 20),
    ]  # fmt: skip


def test_a_stage_that_is_over_is_followed_by_another():
    seen = []
    report = stages(lambda *update: seen.append(update), "valid", "test")
    report(100, 100)
    report(120, 120)
    assert [stage for stage, *_ in seen] == ["valid", "test"]


def test_a_bar_on_a_terminal(monkeypatch):
    import io
    import sys

    class Terminal(io.StringIO):
        def isatty(self):
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    with progress("pairs") as update:
        update("valid", 5_000_000, 10_000_000)
        update("valid", 10_000_000, 10_000_000)
    assert "valid" in terminal.getvalue()
    assert "100%" in terminal.getvalue()


def test_the_last_stage_may_begin_anew():
    seen = []
    report = stages(lambda *update: seen.append(update), "grid", "refining")
    for done in (20, 20, 20, 10, 20):
        report(done, 20)
    assert [stage for stage, *_ in seen] == ["grid"] + ["refining"] * 4
