"""Tables of other packages: only the needed columns are read, whatever the others hold."""

import warnings

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.dataset
import pytest
import reference

import dkde
from dkde.inputs.frames import frame_of, part_of_frame

RNG = np.random.default_rng(2)
ROWS = RNG.normal(size=(40, 2))
WEIGHTS = RNG.uniform(1, 2, 40)
TABLE = pa.table({"a": ROWS[:, 0], "name of b": ROWS[:, 1], "w": WEIGHTS, "id": ["x"] * 40})
NAMED = dkde.Catalog(features=["name of b", "a"])


def polars(lazy=False):
    package = pytest.importorskip("polars")
    # Arrow has no type for the last three columns.
    odd = {
        "o": package.Series([object()] * 40, dtype=package.Object),
        "i": package.Series([2**70] * 40, dtype=package.Int128),
        "s": package.Series([{"u": 1}] * 40),
    }
    table = package.from_arrow(TABLE).with_columns(**odd)
    return table.lazy() if lazy else table


def duckdb():
    relation = pytest.importorskip("duckdb").from_arrow(TABLE)
    return relation.project("*, ['u'] AS l, {\"u\": 1} AS s, INTERVAL 1 DAY AS i")


def hugging_face():
    datasets = pytest.importorskip("datasets")
    made = datasets.Dataset(TABLE)
    return made.add_column("picture", [{"bytes": b"1", "path": None}] * 40)


class Stream:
    """A table with Arrow's stream and nothing else, which can be read once."""

    def __init__(self, table):
        self.reader = table.to_reader(max_chunksize=7)

    def __arrow_c_stream__(self, requested_schema=None):
        return self.reader.__arrow_c_stream__(requested_schema)


FORMS = {
    "Polars": polars,
    "Polars, lazy": lambda: polars(lazy=True),
    "DuckDB": duckdb,
    "Hugging Face": hugging_face,
    "files": lambda: pyarrow.dataset.dataset(TABLE),
    "scanner": lambda: pyarrow.dataset.dataset(TABLE).scanner(),
    "reader": lambda: TABLE.to_reader(max_chunksize=7),
    "stream": lambda: Stream(TABLE),
    "narwhals": lambda: pytest.importorskip("narwhals").from_native(TABLE),
}


@pytest.mark.parametrize("form", FORMS)
class TestForms:
    @pytest.mark.sampled(5)
    def test_named_columns_are_all_that_counts(self, form):
        right = reference.log_density(ROWS, ROWS, [0.7])[0]
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            found = dkde.log_density(ROWS[:, ::-1], FORMS[form](), 0.7, source=NAMED)
        np.testing.assert_allclose(found, right, rtol=1e-9)

    def test_the_others_are_named_in_a_line(self, form):
        message = r"train: the features are a, name of b; left out: .*id \(text\).*; name the feat"
        with pytest.warns(UserWarning, match=message) as said:
            dkde.log_density(ROWS, FORMS[form](), 0.7, weights="w")
        assert len(said) == 1

    @pytest.mark.sampled(3)
    def test_weights_by_name(self, form):
        right = reference.log_density(ROWS, ROWS, [0.7], weights=WEIGHTS)[0]
        found = dkde.log_density(ROWS[:, ::-1], FORMS[form](), 0.7, weights="w", source=NAMED)
        np.testing.assert_allclose(found, right, rtol=1e-9)

    @pytest.mark.filterwarnings("ignore:.*(the features are|valid feature names)")
    def test_estimators(self, form):
        model = dkde.KernelDensity(bandwidth=0.7).fit(FORMS[form](), sample_weight="w")
        assert list(model.feature_names_in_) == ["a", "name of b"]
        right = reference.log_density(ROWS, ROWS, [0.7], weights=WEIGHTS)[0]
        np.testing.assert_allclose(model.score_samples(ROWS), right, rtol=1e-9)
        np.testing.assert_allclose(model.score_samples(FORMS[form]()), right, rtol=1e-9)

    def test_mistakes_are_a_line(self, form):
        source = dkde.Catalog(features=["a", "z"])
        with pytest.raises(dkde.InputError, match="train: has no feature 'z'; it has a, name of"):
            dkde.log_density(ROWS, FORMS[form](), 0.7, source=source)
        source = dkde.Catalog(features=["a", "id"])
        with pytest.raises(dkde.InputError, match="column 'id' holds text, and features are numb"):
            dkde.log_density(ROWS, FORMS[form](), 0.7, source=source)


def test_a_query_computes_nothing_but_the_needed_columns():
    package = pytest.importorskip("polars")
    seen = []
    lazy = package.from_arrow(TABLE).lazy()
    lazy = lazy.with_columns(
        package.col(name).map_batches(lambda s, name=name: seen.append(name) or s,
                                      return_dtype=lazy.collect_schema()[name])
        for name in TABLE.column_names
    )  # fmt: skip
    dkde.log_density(ROWS, lazy, 0.7, source=dkde.Catalog(features=["a", "w"]))
    assert set(seen) == {"a", "w"}


def test_rows_in_another_order_than_their_weights_are_refused():
    package = pytest.importorskip("polars")
    rng = np.random.default_rng()
    order = package.col("a").map_batches(
        lambda s: package.Series(rng.permutation(len(s))), return_dtype=package.Int64
    )
    shuffled = package.from_arrow(TABLE).lazy().sort(order)
    dkde.log_density(ROWS[:, ::-1], shuffled, 0.7, source=NAMED)
    with pytest.raises(dkde.InputError, match=r"rows came in another order, .*; sort it, or"):
        dkde.log_density(ROWS[:, ::-1], shuffled, 0.7, weights="w", source=NAMED)


def test_a_reader_that_was_read_is_refused():
    reader = TABLE.to_reader()
    dkde.log_density(ROWS[:, ::-1], reader, 0.7, source=NAMED)
    with pytest.raises(dkde.InputError, match=r"reader without rows, .*; pass its table \(read_al"):
        dkde.log_density(ROWS[:, ::-1], reader, 0.7, source=NAMED)


def test_of_a_reader_columns_without_numbers_are_let_go():
    texts = pa.table({"a": ROWS[:, 0], "id": ["x" * 100] * 40})
    frame = frame_of(pa.concat_tables([texts] * 100).to_reader(), "train")
    before = pa.total_allocated_bytes()
    part = part_of_frame(frame, "train", None)
    assert part.source.shape == (4000, 1)
    assert part.left_out == {"id": "text"}
    assert pa.total_allocated_bytes() <= before + 4000 * 8


class TestHuggingFace:
    def test_splits_are_named(self):
        datasets = pytest.importorskip("datasets")
        splits = datasets.DatasetDict(train=hugging_face(), test=hugging_face())
        message = (
            r"is a DatasetDict with the splits train, test; pass one of them, as data\['train'"
        )
        with pytest.raises(dkde.InputError, match=f"train {message}"):
            dkde.log_density(ROWS, splits, 0.7)
        with pytest.raises(dkde.InputError, match=f"X {message}"):
            dkde.KernelDensity().fit(splits)

    def test_what_has_no_table_is_refused(self):
        stream = hugging_face().to_iterable_dataset()
        with pytest.raises(dkde.InputError, match=r"is an IterableDataset, .* without streaming=T"):
            dkde.log_density(ROWS, stream, 0.7)

    def test_classes_are_no_features(self):
        datasets = pytest.importorskip("datasets")
        kinds = {"a": datasets.Value("float32"), "label": datasets.ClassLabel(names=["u", "v"])}
        columns = {"a": ROWS[:, 0].tolist(), "label": [0, 1] * 20}
        data = datasets.Dataset.from_dict(columns, features=datasets.Features(kinds))
        with pytest.warns(UserWarning, match=r"are a; left out: label \(categories\)"):
            dkde.log_density(ROWS[:, :1], data, 0.7)

    def test_chosen_rows_are_these_rows(self):
        data = hugging_face().select(range(30, 10, -1)).with_format("numpy")
        found = dkde.log_density(ROWS[:, ::-1], data, 0.7, source=NAMED)
        right = reference.log_density(ROWS, ROWS[11:31], [0.7])[0]
        np.testing.assert_allclose(found, right, rtol=1e-9)

    def test_embeddings_are_features(self):
        datasets = pytest.importorskip("datasets")
        data = datasets.Dataset.from_dict({"emb": ROWS.tolist()})
        right = reference.log_density(ROWS, ROWS, [0.7])[0]
        np.testing.assert_allclose(dkde.log_density(data, data, 0.7), right, rtol=1e-9)


@pytest.mark.parametrize("container", [pd.DataFrame, pa.table], ids=["pandas", "Arrow"])
def test_categories_are_never_features(container):
    values = pd.Categorical([1, 2, 1])
    columns = {"a": [0.5, 1.5, 2.5], "c": values}
    if container is pa.table:
        columns["c"] = pa.array([1, 2, 1]).dictionary_encode()
    data = container(columns)
    with pytest.warns(UserWarning, match=r"the features are a; left out: c \(categories\)"):
        dkde.log_density(data, data, 0.7)
    with pytest.raises(dkde.InputError, match="'c' holds categories, and features are numbers"):
        dkde.log_density(data, data, 0.7, source=dkde.Catalog(features=["c"]))


def test_text_beside_named_columns_is_not_looked_at(monkeypatch):
    from dkde.inputs import frame_columns

    seen = []
    looked = frame_columns._kind_of_objects
    monkeypatch.setattr(
        frame_columns, "_kind_of_objects", lambda values: seen.append(values.name) or looked(values)
    )
    data = pd.DataFrame({"a": ROWS[:, 0], "id": pd.Series(["x"] * 40, dtype=object)})
    dkde.log_density(data, data, 0.7, source=dkde.Catalog(features=["a"]))
    assert not seen
