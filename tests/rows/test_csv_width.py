"""How many columns a file of text may have, by what is stored of it."""

import pytest

from dkde.rows.csv_layout import layout_of
from dkde.stores.limits import UnpackError


@pytest.mark.parametrize("n", [20_000, 50_000])
def test_a_short_table_of_many_genes_is_read(n):
    text = ",".join(f"g{i}" for i in range(n)) + "\n" + ",".join("1" * n) + "\n"
    assert len(layout_of("x.csv", text.encode(), n_stored=len(text)).names) == n


def test_more_columns_need_more_rows():
    text = ",".join(f"g{i}" for i in range(60_000)) + "\n" + ",".join("1" * 60_000) + "\n"
    with pytest.raises(UnpackError, match="its 60000 columns would unpack to 293 MiB"):
        layout_of("x.csv", text.encode(), n_stored=len(text))
    assert layout_of("x.csv", text.encode(), n_stored=10 * len(text))
