"""The machine: precision, cores, devices, and the facts about it in a run's summary."""

import contextlib
import datetime
import os
import platform
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from experiment.config import Config
from experiment.data.dataset import EVALUATION_BATCH, Dataset, last_batch, split_counts
from experiment.tensorflow_setup import available_cores
from models.network import can_be_sharded, ghost_batches

_ROOT = Path(__file__).resolve().parents[1]
_FEWEST_IMAGES_A_CORE = 32  # in a shard of a batch
_VECTOR_INSTRUCTIONS = ("amx_bf16", "avx512_bf16", "avx512f", "avx2")  # fastest first


def resolve_precision(precision: str) -> str:
    """The dtype policy of a run; "auto" selects the fastest one that this machine supports in hardware."""
    if precision != "auto":
        return precision
    capabilities = [gpu.get("compute_capability", (0, 0)) for gpu in _gpus()]
    if capabilities:
        weakest = min(capabilities)
        return "mixed_bfloat16" if weakest >= (8, 0) else "mixed_float16" if weakest >= (7, 0) else "float32"
    return "mixed_bfloat16" if {"avx512_bf16", "amx_bf16"} & set(_cpuinfo("flags").split()) else "float32"


@dataclass(frozen=True)
class Cores:
    """How training uses the CPU cores.

    Either each core computes one of `shards` shards of a batch, or all cores share each operation, as TensorFlow does
    by default (one shard).
    """

    count: int
    shards: int = 1


def choose_cores(config: Config, dataset: Dataset, count: int | None = None) -> Cores:
    """Selects the faster use of `count` cores (default: all that are available to this process).

    Shards are faster if they are large enough, and if no layer needs the whole batch, as batch normalisation does. An
    epoch's last batch may be smaller, but each shard needs an image.
    """
    count = count or available_cores()
    processor_alone = config.devices == "one" and not tf.config.list_physical_devices("GPU")
    last_batches = map(last_batch, split_counts(dataset, config.data), (config.batch_size, EVALUATION_BATCH))
    enough = config.batch_size >= count * _FEWEST_IMAGES_A_CORE and min(last_batches) >= count
    if not (processor_alone and enough):
        return Cores(count)
    ghosts = ghost_batches(config.model)
    images = dataset.image_shape, len(dataset.class_names)
    sharded = ghosts >= count if ghosts > 1 else can_be_sharded(config.model, *images)
    return Cores(count, count if sharded else 1)


def set_threads(cores: Cores) -> Cores:
    """Sets TensorFlow's numbers of threads, and returns the resulting use of the cores.

    The variable TF_NUM_INTRAOP_THREADS takes precedence, and so do the settings of a TensorFlow that is already
    running: it accepts other numbers only before its first operation. The number of threads affects the order of
    summation, and so the bits of a result.
    """
    threading = tf.config.threading
    if os.environ.get("TF_NUM_INTRAOP_THREADS", "").isdigit():
        return Cores(int(os.environ["TF_NUM_INTRAOP_THREADS"]) or available_cores())
    try:
        threading.set_intra_op_parallelism_threads(1 if cores.shards > 1 else cores.count)
        threading.set_inter_op_parallelism_threads(cores.count)
    except RuntimeError:
        within, across = threading.get_intra_op_parallelism_threads(), threading.get_inter_op_parallelism_threads()
        return Cores(across, across) if within == 1 < across else Cores(within or available_cores())
    return cores


def device_strategy(devices: str) -> tf.distribute.Strategy:
    """The default strategy for "one" device; for "all", data parallelism over the GPUs (in tests: logical CPUs)."""
    present = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    if devices == "one" or len(present) == 1:
        return tf.distribute.get_strategy()
    return tf.distribute.MirroredStrategy([device.name for device in present])


def has_unused_gpu(device: str = "/dev/nvidia0") -> bool:
    """Whether there is an NVIDIA GPU that TensorFlow does not see, for want of CUDA's libraries."""
    return os.path.exists(device) and not tf.config.list_physical_devices("GPU")  # noqa: PTH110 (never raises)


def _gpus() -> list[dict]:
    """TensorFlow's description of each GPU, such as {"device_name": "NVIDIA L4", "compute_capability": (8, 9)}."""
    return [tf.config.experimental.get_device_details(gpu) for gpu in tf.config.list_physical_devices("GPU")]


def _cpuinfo(key: str) -> str:
    """An entry of Linux's /proc/cpuinfo for the first core; empty on other systems."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(key)), "")


def environment(threads: int | None = None) -> dict:
    """Versions, machine, commit and time, for a run's summary."""
    return {
        "versions": {
            "python": platform.python_version(),
            "tensorflow": tf.__version__,
            "keras": keras.__version__,
            "numpy": np.__version__,
        },
        "machine": {
            "cpu": _cpuinfo("model name") or platform.processor() or platform.machine(),
            "vector_instructions": next((n for n in _VECTOR_INSTRUCTIONS if n in _cpuinfo("flags").split()), None),
            "cores": os.cpu_count(),
            "threads": threads or available_cores(),
            "gpus": ", ".join(str(gpu.get("device_name", "unknown")) for gpu in _gpus()) or 0,
        },
        "git_commit": git_commit(),
        "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": " ".join([sys.argv[0].removeprefix(f"{_ROOT}{os.sep}"), *sys.argv[1:]]),
    }


def git_commit(root: Path = _ROOT) -> str | None:
    """The commit of the Git repository with this root; None if it is not the root of one."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    environment["GIT_CEILING_DIRECTORIES"] = str(root.parent)  # no repository of a parent directory
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        return subprocess.check_output(
            command, cwd=root, env=environment, stderr=subprocess.DEVNULL, text=True, timeout=10
        ).strip()
    return None
