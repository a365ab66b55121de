"""What `make demo` comes to over ten seeds: python -m benchmarks.demo

Both networks are trained as the demo trains them, one after the other in one process. Keeps results/demo/demo.json:
the test accuracy of each run, and its validation accuracy after every epoch.
"""

import argparse
import tempfile
from pathlib import Path

from benchmarks import ROOT, write
from experiment import config as configuration
from experiment import tensorflow_setup
from experiment.errors import reported

SETTINGS = ["data.name=synthetic", "epochs=5", "batch_size=32", "model.norm_momentum=0.9"]  # as in the Makefile


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", default="0,1,2,3,4,5,6,7,8,9", help="separated by commas (default: 0 to 9)")
    parser.add_argument("--output", type=Path, default=ROOT / "results" / "demo" / "demo.json")
    arguments = parser.parse_args()
    tensorflow_setup.start()
    from experiment import hardware
    from experiment.data import synthetic

    dataset = synthetic.generate()
    cores = hardware.set_threads(hardware.choose_cores(configuration.load("bn.yaml", SETTINGS), dataset))
    runs = []
    for seed in map(int, arguments.seeds.split(",")):
        for network in ("plain", "bn"):
            runs.append({"network": network, "seed": seed, **trained(network, seed, dataset, cores)})
            print(runs[-1], flush=True)
    command = f"python -m benchmarks.demo --seeds {arguments.seeds}"
    content = {"command": command, "settings": SETTINGS, "images": dataset.fingerprint(), "runs": runs}
    write(content, arguments.output.parent, arguments.output.stem)


def trained(network: str, seed: int, dataset, cores) -> dict:
    import keras

    from experiment.evaluation.predict import predict
    from experiment.run_directory import RunDirectory
    from experiment.training import loop

    keras.backend.clear_session()
    config = configuration.load(f"{network}.yaml", SETTINGS, seed)
    with tempfile.TemporaryDirectory() as folder:
        run = RunDirectory(Path(folder) / "run")
        run.prepare()
        summary = loop.fit(config, run, dataset, cores, progress="quiet")
        predictions = predict(run, dataset.test.images).argmax(1)
        return {
            "test_accuracy": round(float((predictions == dataset.test.labels).mean()), 4),
            "val_accuracy": [round(row["val_accuracy"], 4) for row in run.read_history()],
            "precision": summary["precision"],
        }


if __name__ == "__main__":
    with reported():
        main()
