"""Options that say what density it is: they reach the library, and what cannot be is refused."""

import json

import numpy as np
import pytest
from dkde_cli.main import cli
from dkde_cli.options import KERNELS, METRICS, SINGULAR
from dkde_cli.values import COVARIANCES, RULES

import dkde
from dkde.estimation import bandwidth_matrix, covariance
from dkde.numerics import kernels, metrics

H = ("--bandwidths", "0.5,1,2")
COMMANDS = ("plan", "sweep", "cv", "score")


def rows(run, *arguments):
    """The rows of figures of ``dkde score``."""
    return json.loads(run("score", *arguments, "--query", "test", "--json").stdout)


class TestNames:
    def test_are_those_of_the_library(self):
        assert set(KERNELS) == {*kernels.KERNELS, *kernels.SPHERICAL}
        assert set(METRICS) == set(metrics.METRICS)
        assert COVARIANCES == covariance.COVARIANCES
        assert SINGULAR == covariance.SINGULAR
        assert RULES == bandwidth_matrix.RULES

    @pytest.mark.parametrize("name", COMMANDS)
    def test_are_options_of_all_that_score(self, name):
        options = {option for param in cli.commands[name].params for option in param.opts}
        assert options >= {"--kernel", "--metric", "--covariance", "--singular", "--precision"}


class TestOnTheSphere:
    @pytest.mark.filterwarnings("ignore:the best bandwidth")
    def test_bandwidths_come_back_in_kilometres(self, run):
        np.save("places.npy", 10 * np.random.default_rng(0).normal(size=(60, 2)))
        on = ("places.npy", "--train", "train[:40]", "--kernel", "vonmises_fisher")
        swept = run("sweep", *on, "--valid", "train[40:]", "--bandwidths", "500km,8000km")
        heads, *rows = [line.split() for line in swept.stdout.splitlines()[:3]]
        assert heads[:2] == ["bandwidth", "(km)"]
        assert [row[0] for row in rows] == ["500", "8000"]
        assert "best bandwidth 500 km" in swept.stdout
        assert "the best bandwidth, 500 km, is the least of the grid" in swept.stderr
        scored = run("score", *on, "--query", "train[40:]", "--bandwidth", "250km")
        assert scored.stdout.splitlines()[1].split()[0] == "250"
        assert "km" not in run("cv", "places.npy", *H).stdout

    @pytest.mark.filterwarnings("ignore:the best bandwidth")
    def test_radians_are_said_in_kilometres_too(self, run):
        np.save("places.npy", 10 * np.random.default_rng(0).normal(size=(60, 2)))
        on = ("places.npy", "--train", "train[:40]", "--kernel", "vonmises_fisher")
        swept = run("sweep", *on, "--valid", "train[40:]", "--bandwidths", "0.1,1")
        heads, *rows = [line.split() for line in swept.stdout.splitlines()[:3]]
        assert heads[:2] == ["bandwidth", "km"]
        assert [row[:2] for row in rows] == [["0.1", "637.101"], ["1", "6371.01"]]
        assert "best bandwidth 0.1 (637.101 km)" in swept.stdout
        assert "0.1 radians (637.101 km), is the least of the grid" in swept.stderr


class TestReachTheLibrary:
    @pytest.mark.filterwarnings("ignore:kernel 'univariate_gaussian' is no density")
    @pytest.mark.parametrize(
        "options",
        [
            {"kernel": "exponential"},
            {"kernel": "univariate_gaussian", "metric": "chebyshev"},
            {"covariance": "diag"},
            {"covariance": "full", "kernel": "cosine", "precision": "float32"},
        ],
    )
    def test_score(self, run, npz, options):
        said = [text for name, value in options.items() for text in (f"--{name}", value)]
        printed = rows(run, npz, "--bandwidth", "3", *said)
        expected = dkde.score("test", "train", 3.0, source=npz, **options)
        assert printed["mean_log_likelihood"] == expected.mean_log_likelihood.item()

    @pytest.mark.sampled(3)
    @pytest.mark.parametrize("rule", RULES)
    def test_rules(self, run, npz, rule):
        expected = dkde.score("test", "train", rule, source=npz, covariance="diag")
        printed = rows(run, npz, "--bandwidth", rule, "--covariance", "diag")
        assert printed["bandwidth"] == expected.bandwidth.item()
        for command in ("sweep", "cv"):
            arguments = ("--bandwidths", rule, "--covariance", "diag", "--json")
            printed = json.loads(run(command, npz, *arguments).stdout)
            assert printed["best_bandwidth"] == expected.bandwidth.item()

    def test_dropped_directions_are_a_warning(self, run):
        arguments = ["--bandwidths", "1,2,4", "--covariance", "diag", "--singular", "drop"]
        result = run("sweep", "digits", *arguments, "--no-plot")
        assert result.stderr.count("Warning: the density is one on the 61 of 64 features") == 1
        assert "best bandwidth 2" in result.stdout

    def test_plan(self, run, npz, monkeypatch):
        given = {}
        monkeypatch.setattr("dkde.plan", lambda **options: given.update(options) or {})
        run("plan", npz, *H, "--kernel", "linear", "--covariance", "diag", "--json")
        assert (given["kernel"], given["covariance"]) == ("linear", "diag")


class TestNoDensity:
    def test_is_said(self, run):
        result = run("cv", "digits", "--kernel", "univariate_gaussian", "--bandwidths", "10,20")
        assert "Warning: kernel 'univariate_gaussian' is no density of 64 features" in result.stderr
        assert result.stdout.splitlines()[1].split()[3] == "nan"


class TestCovarianceFiles:
    @pytest.mark.parametrize(
        "values",
        [
            np.array([2.0, 3.0, 4.0]),
            np.array([2, 3, 4], np.uint8),
            np.array([2, 3, 4], ">i4"),
            np.array([2.0, 3.0, 4.0], "<f4"),
            np.diag([4.0, 9.0, 16.0]),
            np.asfortranarray(np.diag([4.0, 9.0, 16.0])),
        ],
    )
    def test_scales_and_matrices(self, run, npz, values):
        np.save("c.npy", values)
        printed = rows(run, npz, "--bandwidth", "0.5", "--covariance", "c.npy")
        expected = dkde.score("test", "train", 0.5, source=npz, covariance=[2.0, 3.0, 4.0])
        assert printed["mean_log_likelihood"] == pytest.approx(
            expected.mean_log_likelihood.item(), rel=1e-12
        )

    def test_refused(self, refused, npz, folder):
        def line(covariance):
            return refused("sweep", npz, *H, "--covariance", covariance)

        assert "--covariance none.npy: there is no such file" in line("none.npy")
        assert "or by name as depth=10,time=2, or one of identity, diag, full" in line("diagonal")
        assert ".: cannot be read as a .npy file" in line(".")
        np.save("wide.npy", np.ones(7))
        assert "for 3 features it must be (3,)" in line("wide.npy")
        np.save("cube.npy", np.ones((2, 2, 2)))
        assert "covariance has shape (2, 2, 2)" in line("cube.npy")
        np.save("objects.npy", np.array([1, "a"], object))
        assert "objects.npy: cannot be read" in line("objects.npy")
        np.save("whole.npy", np.ones((3, 3)))
        content = (folder / "whole.npy").read_bytes()
        for n_bytes in (0, 6, 9, 11, 20, 130):
            (folder / "cut.npy").write_bytes(content[:n_bytes])
            assert "cut.npy: cannot be read as a .npy file" in line("cut.npy")
        assert "cannot be read as a .npy file" in line(npz)


class TestRefused:
    @pytest.mark.parametrize("name", ["sweep", "cv"])
    def test_names(self, refused, npz, name):
        for option in ("--kernel", "--metric", "--singular"):
            assert f"'{option}'" in refused(name, npz, *H, option, "foo")

    @pytest.mark.parametrize("name", ["sweep", "cv"])
    def test_a_kernel_that_would_not_integrate_to_one(self, refused, npz, name):
        line = refused(name, npz, *H, "--metric", "manhattan")
        assert "kernel 'gaussian' with metric 'manhattan' would not integrate to one" in line

    def test_advice_is_for_the_command_line(self, refused):
        line = refused("cv", "digits", *H, "--covariance", "full")
        assert "use --singular drop to leave them out, or --covariance identity" in line

    def test_no_rule(self, refused, npz):
        line = refused("sweep", npz, "--bandwidths", "scot")
        assert line.startswith("Error: --bandwidths: ")


class TestBandwidthsOfRowsOwn:
    @pytest.fixture(autouse=True)
    def rows(self):
        rng = np.random.default_rng(0)
        columns = np.column_stack([rng.normal(size=(60, 2)), np.exp(rng.normal(size=60))])
        np.savetxt("rows.csv", columns, delimiter=",", header="x,y,s", comments="")

    @pytest.mark.slow
    @pytest.mark.filterwarnings("ignore:.*share rows")
    def test_are_those_of_the_library(self, run):
        for option, given in ((("--bandwidth-scale", "s"), {"bandwidth_scale": "s"}),
                              (("--adaptive", "0.5"), {"adaptive": 0.5})):  # fmt: skip
            on = ("rows.csv", "--features", "x,y", "--train", "rows.csv", "--query", "rows.csv")
            found = json.loads(run("score", *on, "--bandwidth", "0.5", *option, "--json").stdout)
            known = dkde.score("rows.csv", "rows.csv", 0.5, features=["x", "y"], **given)
            assert found["mean_log_likelihood"] == float(known.mean_log_likelihood[0])

    def test_both_are_refused(self, refused):
        on = ("rows.csv", "--features", "x,y", "--train", "rows.csv", "--query", "rows.csv")
        both = ("--bandwidth-scale", "s", "--adaptive", "0.5")
        line = refused("score", *on, "--bandwidth", "0.5", *both)
        assert "--bandwidth-scale and --adaptive both say" in line

    @pytest.mark.parametrize("name", ["score", "sweep", "map", "sample"])
    def test_are_options_of_all_that_adapt(self, name):
        options = {option for param in cli.commands[name].params for option in param.opts}
        assert options >= {"--bandwidth-scale", "--adaptive"}
