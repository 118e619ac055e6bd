"""Published protocols: what they set, what wins over them, and what is written down."""

import json
import warnings

import numpy as np
import pytest
from reference import log_density

import dkde
from dkde.estimation import protocols

GAN = np.logspace(-1, 0, 10)
SCRATCH = [0.05, 0.08, 0.1, 0.2, 0.5, 1, 1.5, 2]


@pytest.fixture
def small(monkeypatch):
    """The protocols with a hundredth of their rows."""
    for name, protocol in protocols.PROTOCOLS.items():
        takes = {
            role: protocols.Take(t.split, t.start // 100, None if t.stop is None else t.stop // 100)
            for role, t in protocol.takes.items()
        }
        changed = {**vars(protocol), "train_rows": protocol.train_rows // 100, "takes": takes}
        monkeypatch.setitem(protocols.PROTOCOLS, name, protocols.Protocol(**changed))


@pytest.fixture
def store(tmp_path):
    rng = np.random.default_rng(2)
    sizes = {"train": 300, "valid": 50, "test": 20}
    np.savez(tmp_path / "d.npz", **{s: rng.standard_normal((n, 3)) * 0.3 for s, n in sizes.items()})
    dkde.import_dataset(tmp_path / "d.npz", tmp_path / "d.zarr", shuffle_seed=1573368177)
    np.save(tmp_path / "generated.npy", rng.standard_normal((120, 3)) * 0.3)
    return str(tmp_path / "d.zarr")


def recorded(result):
    return json.loads(result.attrs["provenance"])


@pytest.mark.slow
def test_gan2014(small, store, tmp_path):
    generated = str(tmp_path / "generated.npy")
    result = dkde.sweep(protocol="gan2014", train=generated, source=store)
    parts = {role: recorded(result)[role]["query"]["parts"][0] for role in ("valid", "test")} | {
        "train": recorded(result)["valid"]["train"]["parts"][0]
    }
    assert {r: (p["start"], p["stop"]) for r, p in parts.items()} == {
        "train": (0, 100), "valid": (0, 10), "test": (0, 20),
    }  # fmt: skip
    assert np.array_equal(result.bandwidth, GAN)
    protocol = recorded(result)["options"]["protocol"]
    assert protocol["name"] == "gan2014"
    assert protocol["otherwise"] == []
    # By plain loops, as the script has it.
    train = np.load(generated)[:100]
    rows = dkde.open_dataset(store)
    valid, test = rows["valid"]["x"].values[:10], rows["test"]["x"].values
    means = [np.mean(log_density(valid, train, [h])) for h in GAN]
    best = GAN[int(np.argmax(means))]
    values = np.ravel(log_density(test, train, [best]))
    assert float(result.best_bandwidth) == best
    assert float(result.test_mean_log_likelihood) == pytest.approx(values.mean(), rel=1e-9)
    assert float(result.test_standard_error) == pytest.approx(
        values.std(ddof=1) / np.sqrt(20), rel=1e-9
    )


@pytest.mark.slow
def test_arrays_are_cut_too(small, store, tmp_path):
    generated = np.load(tmp_path / "generated.npy")
    a = dkde.sweep(protocol="gan2014", train=generated, source=store)
    b = dkde.sweep(protocol="gan2014", train=str(tmp_path / "generated.npy"), source=store)
    assert a.equals(b)


def test_scratch2019(small, store):
    result = dkde.sweep(protocol="scratch2019", source=store)
    plain = dkde.sweep(
        train="train[:100]", valid="train[100:200]", test="test", bandwidths=SCRATCH, source=store
    )
    assert plain.equals(result)
    assert recorded(result)["options"]["protocol"]["sets"] == {
        "train": "train[:100]", "valid": "train[100:200]", "test": "test",
        "bandwidths": "0.05,0.08,0.1,0.2,0.5,1,1.5,2",
    }  # fmt: skip


def test_what_is_given_wins_and_is_said(small, store):
    with pytest.warns(UserWarning, match="protocol") as caught:
        result = dkde.sweep(
            protocol="scratch2019", source=store, valid="valid", bandwidths=[0.1, 2.0, 50.0],
            kernel="epanechnikov",
        )  # fmt: skip
    said = next(str(w.message) for w in caught if "protocol" in str(w.message))
    assert said == (
        "these differ from protocol scratch2019: valid valid, not train[100:200]; bandwidths "
        "0.1,2,50, not 0.05,0.08,0.1,0.2,0.5,1,1.5,2; kernel epanechnikov, not gaussian"
    )
    assert result.sizes["sample"] == 50
    assert len(recorded(result)["options"]["protocol"]["otherwise"]) == 3


def test_a_range_of_generated_rows_is_taken_as_it_is(small, store, tmp_path):
    with pytest.warns(UserWarning, match="40 rows of train, not 100"):
        result = dkde.sweep(
            protocol="gan2014", train=f"{tmp_path / 'generated.npy'}[:40]", source=store
        )
    assert recorded(result)["valid"]["train"]["rows"] == 40


def test_what_equals_the_protocols_own_is_not_said(small, store):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        dkde.follow_protocol(
            "scratch2019", source=store, train="train[:100]", bandwidths=SCRATCH, kernel="gaussian"
        )


@pytest.mark.slow
def test_another_shuffle_is_said(small, store, tmp_path):
    dkde.import_dataset(tmp_path / "d.npz", tmp_path / "plain.zarr")
    with pytest.warns(
        UserWarning, match="train was not shuffled when it was imported, not by 1573"
    ):
        dkde.follow_protocol("scratch2019", source=str(tmp_path / "plain.zarr"))


@pytest.mark.sampled(4)
@pytest.mark.parametrize(
    ("name", "arguments", "words"),
    [
        ("gan2014", {}, "needs 10000 generated rows as train; name them"),
        ("gan2014", {"train": np.eye(3)}, "takes 10000 training rows, and train has 3"),
        ("scratch2019", {}, r"takes train\[:10000\] as train, and .*d.zarr has 300 rows in train"),
        ("gan2015", {}, "'gan2015' is not known; choose one of: gan2014, scratch2019"),
    ],
)
def test_refused(store, name, arguments, words):
    with pytest.raises(dkde.InputError, match=words):
        dkde.sweep(protocol=name, source=store, **arguments)


@pytest.mark.slow
def test_a_run_goes_on_by_its_protocol(small, store, tmp_path):
    output = tmp_path / "r.zarr"
    with dkde.init_only():
        dkde.sweep(protocol="scratch2019", source=store, output=output)
    dkde.run_part(output, part=0, parts=1)
    result = dkde.finish(output)
    assert recorded(result)["options"]["protocol"]["name"] == "scratch2019"
    assert dkde.sweep(protocol="scratch2019", source=store).equals(result)


@pytest.mark.slow
def test_scratch2019_gives_what_is_known(mnist_store, data_dir):
    """Ten thousand training pictures: values that were computed by plain NumPy."""
    reference = data_dir.parent / "reference" / "mnist_seed_protocol.json"
    if not reference.exists():
        pytest.skip("no reference values here")
    known = json.loads(reference.read_text())["exact_10k"]
    result = dkde.sweep(protocol="scratch2019", source=str(mnist_store))
    assert recorded(result)["options"]["protocol"]["otherwise"] == []
    means = [row["mean_log_likelihood"] for row in known["valid"]]
    assert result.mean_log_likelihood.values == pytest.approx(means, rel=1e-9)
    test = next(row for row in known["test"] if row["bandwidth"] == float(result.best_bandwidth))
    assert float(result.test_mean_log_likelihood) == pytest.approx(
        test["mean_log_likelihood"], rel=1e-9
    )
    assert float(result.test_standard_error) == pytest.approx(test["standard_error"], rel=1e-9)
