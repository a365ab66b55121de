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
            "cores": os.cpu_count(),
            "threads": _threads(),
            "gpus": len(tf.config.list_physical_devices("GPU")),
        },
        "git_commit": _git_commit(),
        "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": " ".join(sys.argv),
    }


def _threads() -> int:
    """How many threads one operation is divided among. Sums are added in another order with another number of them."""
    asked_for = os.environ.get("TF_NUM_INTRAOP_THREADS", "")
    asked_for = tf.config.threading.get_intra_op_parallelism_threads() or (asked_for.isdigit() and int(asked_for))
    return asked_for or (len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)


def _git_commit() -> str | None:
    try:
        command = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
        folder = Path(__file__).parent
        return subprocess.run(
            command, cwd=folder, capture_output=True, text=True, timeout=10, check=True
        ).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
