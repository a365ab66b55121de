"""A study on a Ray cluster of two nodes, one of which dies: it finishes, and its table is the local executor's."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from experiment.studies import measures, table

ray = pytest.importorskip("ray", reason="Ray is not installed: pip install -e '.[cluster]'")
cluster_utils = pytest.importorskip("ray.cluster_utils")

ROOT = Path(__file__).resolve().parents[2]
STUDY = """
claim: Both networks learn
question: Do they?
base: plain.yaml
settings:
  epochs: 2
  batch_size: 50
  data.training_images: 500
  data.validation_images: 200
  schedule.warmup_epochs: 0
  precision: float32
grid: {model.batch_norm: [none, after_activation]}
seeds: [0]
x: model.batch_norm
measures: [test_accuracy]
score: mean
expected: higher
"""


@pytest.fixture
def study_file(tmp_path) -> Path:
    path = tmp_path / "little.yaml"
    path.write_text(STUDY)
    return path


def command(study_file: Path, folder: Path, *options: str) -> list[str]:
    places = ["--checkpoints", str(folder / "checkpoints"), "--results", str(folder / "results")]
    data = ["--data", "generated", "--cpus-per-run", "1"]
    return [sys.executable, "study.py", "--config", str(study_file), *data, *places, *options]


def rows_of(folder: Path) -> list[dict]:
    rows = table.read_table(folder / "results" / "studies" / "little" / "runs.csv")
    return [{key: value for key, value in row.items() if key not in measures.TIMES} for row in rows]


@pytest.mark.slow
def test_a_study_survives_the_death_of_a_node_with_the_same_table(study_file, tmp_path):
    local = subprocess.Popen(command(study_file, tmp_path / "local"), cwd=ROOT)
    cluster = cluster_utils.Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    try:
        other = cluster.add_node(num_cpus=1)
        cluster.wait_for_nodes()
        options = ["--executor", "ray", "--address", cluster.address]
        process = subprocess.Popen(command(study_file, tmp_path / "ray", *options), cwd=ROOT)
        kill_while_it_trains(other, cluster, tmp_path / "ray" / "checkpoints", process)
        assert process.wait(timeout=600) == 0
    finally:
        cluster.shutdown()
    assert local.wait(timeout=600) == 0
    assert len(rows_of(tmp_path / "ray")) == 2
    assert rows_of(tmp_path / "ray") == rows_of(tmp_path / "local")


def kill_while_it_trains(node, cluster, checkpoints: Path, process: subprocess.Popen) -> None:
    """Kills a node once two runs have begun, which is one on each."""
    deadline = time.monotonic() + 600  # other tests may hold both cores
    while len(list(checkpoints.rglob("summary.json"))) < 2:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.2)
    cluster.remove_node(node, allow_graceful=False)
