"""The example notebook runs, and its outputs are those that it is committed with; `make notebook` makes these."""

from pathlib import Path

import nbclient
import nbformat

NOTEBOOK = Path(__file__).parents[1] / "examples" / "results.ipynb"


def executed():
    """The notebook with its outputs of now, without times and versions."""
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    metadata = dict(notebook.metadata)
    place = {"metadata": {"path": NOTEBOOK.parent}}
    nbclient.NotebookClient(notebook, resources=place, timeout=120, record_timing=False).execute()
    notebook.metadata = metadata
    return notebook


def outputs(notebook):
    """What every cell of code shows as text, and whether it shows a picture."""
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    shown = [[output.get("data", output) for output in cell.outputs] for cell in cells]
    return [[(data.get("text/plain"), "image/png" in data) for data in each] for each in shown]


def test_the_example_is_committed_as_it_runs():
    committed = nbformat.read(NOTEBOOK, as_version=4)
    assert outputs(executed()) == outputs(committed)
    assert all(map(any, outputs(committed)))  # every cell shows something
    assert any(picture for cell in outputs(committed) for _, picture in cell)
    assert NOTEBOOK.stat().st_size < 100_000


if __name__ == "__main__":
    nbformat.write(executed(), NOTEBOOK)
