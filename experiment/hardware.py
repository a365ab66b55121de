"""What the machine offers, and what a run's summary says of it."""

import datetime
import os
import platform
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from experiment.config import Config
from experiment.tensorflow_setup import available_cores

_FEWEST_IMAGES_A_CORE = 32  # of a batch that is divided
_VECTOR_INSTRUCTIONS = ("amx_bf16", "avx512_bf16", "avx512f", "avx2")  # the quickest first


def resolve_precision(precision: str) -> str:
    """The dtype policy of a run: "auto" becomes the fastest that this machine has hardware for."""
    if precision != "auto":
        return precision
    capabilities = [
        tf.config.experimental.get_device_details(gpu).get("compute_capability", (0, 0))
        for gpu in tf.config.list_physical_devices("GPU")
    ]
    if capabilities:
        weakest = min(capabilities)
        return "mixed_bfloat16" if weakest >= (8, 0) else "mixed_float16" if weakest >= (7, 0) else "float32"
    return "mixed_bfloat16" if _cpu_flags() & {"avx512_bf16", "amx_bf16"} else "float32"


def divide_cores(config: Config, cores: int | None = None) -> None:
    """Settles, before TensorFlow's first operation, how a training uses so many cores (default: all there are).

    Either every core takes a part of the batch through the network (`batch_parts`), or all cores share each operation,
    which is TensorFlow's way. The first is quicker where there is enough for each to do, and no batch normalisation,
    for which the parts would have to wait in every layer. What the user's environment says is left alone.
    """
    if "TF_NUM_INTRAOP_THREADS" in os.environ:
        return
    cores = cores or available_cores()
    processor_alone = config.devices == "one" and not tf.config.list_physical_devices("GPU")
    enough = config.model.batch_norm == "none" and config.batch_size >= cores * _FEWEST_IMAGES_A_CORE
    side_by_side = processor_alone and enough
    tf.config.threading.set_intra_op_parallelism_threads(1 if side_by_side else cores)
    tf.config.threading.set_inter_op_parallelism_threads(cores)


def batch_parts() -> int:
    """Into how many parts a batch is divided: one for each core where operations keep to one core, else one."""
    together = tf.config.threading.get_intra_op_parallelism_threads() != 1
    several_devices = tf.distribute.get_strategy().num_replicas_in_sync > 1
    return 1 if together or several_devices else max(1, tf.config.threading.get_inter_op_parallelism_threads())


def device_strategy(devices: str) -> tf.distribute.Strategy:
    """How a batch is divided: not at all, or among all GPUs (or logical CPU devices, where a test made several)."""
    present = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    if devices == "one" or len(present) == 1:
        return tf.distribute.get_strategy()
    return tf.distribute.MirroredStrategy([device.name for device in present])


def _cpu_flags() -> set[str]:
    return set(_cpuinfo("flags").split())


def _cpuinfo(key: str) -> str:
    """What Linux says of the first processor; nothing on other systems."""
    try:
        lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(key)), "")


def environment() -> dict:
    """Versions, machine, commit and time, for a run's summary."""
    cpu = _cpuinfo("model name") or platform.processor() or platform.machine()
    return {
        "versions": {
            "python": platform.python_version(),
            "tensorflow": tf.__version__,
            "keras": keras.__version__,
            "numpy": np.__version__,
        },
        "machine": {
            "cpu": cpu,
            "vector_instructions": next((name for name in _VECTOR_INSTRUCTIONS if name in _cpu_flags()), None),
            "cores": os.cpu_count(),
            "threads": _threads(),
            "gpus": len(tf.config.list_physical_devices("GPU")),
        },
        "git_commit": _git_commit(),
        "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": " ".join(sys.argv),
    }


def _threads() -> int:
    """How many cores the work is divided among. Sums are added in another order with another number of them."""
    asked_for = os.environ.get("TF_NUM_INTRAOP_THREADS", "")
    asked_for = tf.config.threading.get_intra_op_parallelism_threads() or (asked_for.isdigit() and int(asked_for))
    return max(asked_for or available_cores(), batch_parts())


def _git_commit() -> str | None:
    try:
        command = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
        folder = Path(__file__).parent
        return subprocess.run(
            command, cwd=folder, capture_output=True, text=True, timeout=10, check=True
        ).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
