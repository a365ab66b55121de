"""What `make demo` shows: the recorded runs are those of its settings and images, and batch norm is ahead in them."""

import json
from pathlib import Path

from benchmarks import demo
from experiment.data import synthetic

ROOT = Path(__file__).resolve().parents[1]
RECORDED = json.loads((ROOT / "results" / "demo" / "demo.json").read_text())


def test_the_recorded_runs_are_those_of_make_demo():
    assert RECORDED["settings"] == demo.SETTINGS
    (line,) = [line for line in (ROOT / "Makefile").read_text().splitlines() if line.startswith("DEMO :=")]
    asked_for = line.replace("--data ", "--set data.name=").split("--set ")[1:]
    assert sorted(text.split()[0] for text in asked_for) == sorted(demo.SETTINGS)
    assert RECORDED["images"] == synthetic.generate().fingerprint()


def test_both_networks_learn_and_batch_norm_is_ahead_and_ahead_early():
    runs = {(run["network"], run["seed"]): run for run in RECORDED["runs"]}
    seeds = sorted({seed for _, seed in runs})
    assert len(seeds) == 10
    assert all(0.60 <= run["test_accuracy"] <= 0.95 for run in runs.values())
    pairs = [(runs["plain", seed], runs["bn", seed]) for seed in seeds]
    ahead = [
        bn["test_accuracy"] > plain["test_accuracy"] and bn["val_accuracy"][0] > plain["val_accuracy"][0]
        for plain, bn in pairs
    ]
    assert sum(ahead) >= 0.9 * len(seeds)
