"""docs/tour.ipynb: it runs from its first cell to its last, and is saved with what it shows.

`python -m tests.test_tour` runs it whole and saves it.
"""

import os
import re
import tempfile
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOK = ROOT / "docs" / "tour.ipynb"
SHORT = "epochs = 2\ntraining_images = 200"


def run(folder: Path, parameters: str | None = None):
    """The notebook, run in a folder of its own, on the synthetic images."""
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    if parameters:
        (cell,) = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
        cell.source = parameters
    environment = {name: value for name, value in os.environ.items() if name != "CIFAR10_DIR"}
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment |= {"KERAS_HOME": str(folder), "PYTHONPATH": path}
    client = NotebookClient(
        notebook, timeout=900, record_timing=False, coalesce_streams=True, resources={"metadata": {"path": str(folder)}}
    )
    return client.execute(env=environment)


def code_of(notebook) -> list:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def shown(cells) -> list[dict]:
    """What cells show besides what they print, by its type."""
    return [output.data for cell in cells for output in cell.outputs if "data" in output]


def printed(cells) -> str:
    """All that cells print, and their values as text."""
    streams = [output.text for cell in cells for output in cell.outputs if output.output_type == "stream"]
    return "\n".join([*streams, *(data["text/plain"] for data in shown(cells))])


def check_outputs(notebook) -> None:
    cells = code_of(notebook)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert {output.get("name", "stdout") for cell in cells for output in cell.outputs} == {"stdout"}
    drawing = [cell for cell in cells if re.search(r"show\(.*\)$|plt\.subplots\(1|Image\.open", cell.source)]
    assert sum("image/png" in data for data in shown(cells)) == len(drawing) == 8
    text = printed(cells)
    assert float(re.search(r"largest difference: (\S+),", text)[1]) < 1e-5
    accuracies = [float(share) for share in re.findall(r"^(?:plain|batch norm): (\S+)% of 1,000 test", text, re.M)]
    plain, batch_norm = accuracies
    assert 100 * float(re.search(r"'difference': (\S+),", text)[1]) == pytest.approx(batch_norm - plain)


def test_the_saved_notebook_holds_its_outputs_and_nothing_of_the_machine():
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    check_outputs(notebook)
    assert NOTEBOOK.stat().st_size < 2**20
    texts = [cell.source for cell in notebook.cells] + [
        str(value) for data in shown(code_of(notebook)) for kind, value in data.items() if not kind.startswith("image")
    ]
    texts += [printed(code_of(notebook)), str(notebook.metadata), *(str(cell.metadata) for cell in notebook.cells)]
    for text in texts:
        assert not re.search(r"(?<![\w.])(/(work|tmp|root|home|Users)\b|[A-Z]:\\)", text), text


def test_its_links_lead_somewhere():
    cells = nbformat.read(NOTEBOOK, as_version=4).cells
    links = re.findall(r"\]\(([^)\s]+)\)", "\n".join(cell.source for cell in cells if cell.cell_type == "markdown"))
    assert links
    for link in links:
        assert (NOTEBOOK.parent / link).is_file(), link


@pytest.mark.slow
def test_every_cell_runs(tmp_path):
    check_outputs(run(tmp_path, SHORT))


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as home:
        whole = run(Path(home))
    whole.metadata = {"kernelspec": whole.metadata.kernelspec, "language_info": {"name": "python"}}
    nbformat.write(whole, NOTEBOOK)
