"""The notebook of the examples runs, shows what it should, and writes nothing."""

from pathlib import Path

import pytest

nbclient = pytest.importorskip("nbclient", reason="pip install nbclient ipykernel")
nbformat = pytest.importorskip("nbformat")

NOTEBOOK = Path(__file__).parents[1] / "docs" / "examples" / "notebook.ipynb"


def outputs(cell, kind):
    return [output for output in cell.outputs if output.output_type == kind]


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("notebook")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    client = nbclient.NotebookClient(
        notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
    )
    client.execute()
    assert list(folder.iterdir()) == []
    return {cell.source: cell for cell in notebook.cells if cell.cell_type == "code"}


@pytest.mark.slow
class TestTheNotebook:
    def of(self, executed, words):
        (found,) = [cell for source, cell in executed.items() if words in source]
        return found

    def test_it_is_committed_without_outputs(self):
        for cell in nbformat.read(NOTEBOOK, as_version=4).cells:
            assert not cell.get("outputs")

    def test_nothing_is_said_on_standard_error(self, executed):
        for cell in executed.values():
            assert [each.text for each in outputs(cell, "stream")] == []

    @pytest.mark.parametrize(
        "words", ["progress=True", "summary(models)", "dkde.compare", "KernelDensityCV"]
    )
    def test_summaries_are_html(self, executed, words):
        (shown,) = outputs(self.of(executed, words), "execute_result")
        assert 'class="dkde"' in shown.data["text/html"]
        assert "<script" not in shown.data["text/html"] or "KernelDensityCV" in words

    def test_the_bar_is_one_output_that_ends_complete(self, executed):
        (bar,) = outputs(self.of(executed, "progress=True"), "display_data")
        assert '<progress max="1" value="1.0000"' in bar.data["text/html"]

    @pytest.mark.parametrize("words", ["plot_sweep", "plot_map", "dkde.density", "plot_pictures"])
    def test_plots_show_themselves(self, executed, words):
        (shown,) = outputs(self.of(executed, words), "display_data")
        assert "image/png" in shown.data
