"""examples/quickstart.ipynb: the notebook is the one of its script, and all of its cells run."""

import sys

import pytest
from conftest import ROOT

if sys.version_info < (3, 12):
    pytest.skip("the notebook is run on the newest stack only", allow_module_level=True)

import jupytext
import nbclient

NOTEBOOK = ROOT / "examples" / "quickstart.ipynb"


def read_cells(path):
    return [(cell.cell_type, cell.source) for cell in jupytext.read(path).cells]


def test_notebook_is_the_one_of_its_script():
    assert read_cells(NOTEBOOK) == read_cells(NOTEBOOK.with_suffix(".py")), "run make notebook"


def test_the_cells_of_the_notebook_run(tmp_path, monkeypatch):
    notebook = jupytext.read(NOTEBOOK)
    train = next(cell for cell in notebook.cells if "STEPS = 200" in cell.source)
    train.source = train.source.replace("STEPS = 200", "STEPS = 2")
    monkeypatch.delenv("TF_CPP_MIN_LOG_LEVEL")
    nbclient.NotebookClient(notebook, timeout=240, resources={"metadata": {"path": tmp_path}}).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 4
    text = "".join(output.get("text", "") for output in outputs)
    assert "resuming from runs/quickstart/checkpoints/step-00000002.npz" in text
    assert "a2b.keras: " in text and (tmp_path / "exports" / "a2b.keras").exists()
    # The output holds only the package's own lines.
    assert "Warning" not in text and "oneDNN" not in text
