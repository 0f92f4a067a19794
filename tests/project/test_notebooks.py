"""Every notebook runs from top to bottom, and is kept without outputs."""

from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "notebooks"
NOTEBOOKS = sorted(
    path.relative_to(FOLDER) for path in FOLDER.rglob("*.ipynb") if ".ipynb_checkpoints" not in path.parts
)

LONGEST = 300  # [s] for one cell


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=str)
# the kernel's own event loop and sockets, outside our code
@pytest.mark.filterwarnings("default::DeprecationWarning", "default::ResourceWarning", "default::RuntimeWarning")
@pytest.mark.filterwarnings("default::pytest.PytestUnraisableExceptionWarning")
def test_notebook_runs(notebook: Path, tmp_path: Path):
    import nbformat
    from nbclient import NotebookClient

    content = nbformat.read(FOLDER / notebook, as_version=4)
    NotebookClient(
        content, timeout=LONGEST, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    ).execute()


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=str)
def test_notebook_is_kept_without_outputs(notebook: Path):
    import nbformat

    cells = nbformat.read(FOLDER / notebook, as_version=4).cells
    filled = [
        i for i, cell in enumerate(cells, 1) if cell.cell_type == "code" and (cell.outputs or cell.execution_count)
    ]
    assert not filled, f"{notebook}: cells {filled} have outputs; clear them before committing"
