"""The notebooks run from top to bottom, on a few rows."""

from pathlib import Path

import pytest

nbclient = pytest.importorskip("nbclient")
nbformat = pytest.importorskip("nbformat")

NOTEBOOKS = Path(__file__).resolve().parents[1] / "docs" / "notebooks"
SMALL = "ROWS, EPOCHS, HEAD_EPOCHS = 120, 1, 2"


@pytest.mark.slow
def test_the_notebooks_run_one_after_the_other(tmp_path):
    for name in ("train_and_evaluate", "search_own_pictures", "compare_methods"):
        notebook = nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)
        [parameters] = [cell for cell in notebook.cells if cell.metadata.get("tags") == ["parameters"]]
        parameters.source += f"\n{SMALL}"
        nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
        outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
        assert sum("image/png" in output.get("data", {}) for output in outputs) >= 2, f"{name} draws nothing"
        if name == "search_own_pictures":
            sheets = [output.data["text/html"] for output in outputs if "text/html" in output.get("data", {})]
            assert [sheet.count("data:image/jpeg;base64,") for sheet in sheets] == [6] * len(sheets)
            assert len(sheets) >= 3


def test_the_notebooks_are_kept_without_outputs():
    for path in NOTEBOOKS.glob("*.ipynb"):
        for cell in nbformat.read(path, as_version=4).cells:
            assert not cell.get("outputs")
