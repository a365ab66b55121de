"""Imports TensorFlow and Keras with this project's settings, and counts the available cores."""

import contextlib
import math
import os
import platform
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from experiment import files
from experiment.errors import UserError

# Variables of Keras, TensorFlow and oneDNN that would change the results of a run.
_CHANGES_RESULTS = (
    "KERAS_MAX_EPOCHS",
    "KERAS_MAX_STEPS_PER_EPOCH",
    "ONEDNN_DEFAULT_FPMATH_MODE",
    "DNNL_DEFAULT_FPMATH_MODE",
    "TF_SET_ONEDNN_FPMATH_MODE",
    "TF_ENABLE_AUTO_MIXED_PRECISION",
    "TF_USE_LEGACY_KERAS",
    "TF_XLA_FLAGS",
)


def set_environment() -> None:
    """Sets the environment variables that TensorFlow and Keras read on import.

    TensorFlow's log is silenced: real errors also raise exceptions. By default TensorFlow uses oneDNN's convolutions
    only with AVX-512 or better, but they make a training step twice as fast with AVX2, too. The user's own values of
    these two variables take precedence.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if platform.machine().lower() in ("x86_64", "amd64"):
        os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    os.environ |= {"KERAS_BACKEND": "tensorflow", "KERAS_NNX_ENABLED": "false"}
    for name in _CHANGES_RESULTS:
        os.environ.pop(name, None)


def start() -> None:
    """Imports TensorFlow and lists its devices. Standard error is captured, and printed only if that fails.

    Raises:
        UserError: TensorFlow cannot be imported, or this process has imported Keras with another backend.
    """
    set_environment()
    sys.stderr.flush()
    stderr = os.dup(2)
    with files.temporary(tempfile.TemporaryFile) as captured:
        os.dup2(captured.fileno(), 2)  # C++ code writes to the descriptor, not to sys.stderr
        try:
            import keras
            import tensorflow

            tensorflow.config.list_physical_devices()
        except Exception as error:
            captured.seek(0)
            os.write(stderr, captured.read())
            raise UserError(f"TensorFlow and Keras cannot be imported: {error}") from error
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
    if keras.config.backend() != "tensorflow":
        raise UserError(f"Keras already uses {keras.config.backend()} here: restart, and import this project first")
    _set_globals(keras, tensorflow)


def _set_globals(keras, tensorflow) -> None:
    """Resets what keras.json, the environment or a notebook may have changed, and respects a container's CPU quota."""
    import numpy

    keras.config.set_floatx("float32")
    keras.config.set_dtype_policy("float32")
    keras.config.set_image_data_format("channels_last")
    keras.config.set_epsilon(1e-7)
    numpy.seterr(divide="warn", over="warn", under="ignore", invalid="warn")
    tensorflow.config.experimental.enable_tensor_float_32_execution(False)  # float32 means float32, on a GPU, too
    with contextlib.suppress(RuntimeError):  # TensorFlow already uses the GPUs
        for gpu in tensorflow.config.list_physical_devices("GPU"):  # else one process reserves all of their memory
            tensorflow.config.experimental.set_memory_growth(gpu, True)
    if "TF_NUM_INTRAOP_THREADS" not in os.environ and available_cores() < _cores():
        with contextlib.suppress(RuntimeError):  # TensorFlow is already running, with other numbers of threads
            tensorflow.config.threading.set_intra_op_parallelism_threads(available_cores())
            tensorflow.config.threading.set_inter_op_parallelism_threads(available_cores())


def available_cores(groups: Path = Path("/sys/fs/cgroup"), mine: Path = Path("/proc/self/cgroup")) -> int:
    """The number of cores available to this process, which `taskset` or a container's CPU quota can limit.

    Args:
        groups: the mount point of Linux's control groups.
        mine: the file that lists the control groups of this process.
    """
    return max(1, min([_cores(), *(math.ceil(quota) for quota in _quotas(groups, mine))]))


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _quotas(groups: Path, mine: Path) -> Iterator[float]:
    """The CPU quotas, in cores, of this process's control groups and of their parents."""
    try:
        lines = [line.split(":", 2) for line in mine.read_text(encoding="utf-8", errors="replace").splitlines()]
    except OSError:
        return
    for _, controllers, place in filter(lambda line: len(line) == 3, lines):
        first = [groups / controllers, groups / "cpu"] if "cpu" in controllers.split(",") else []
        for root in first if controllers else [groups]:
            group = root / place.lstrip("/")
            for folder in (group, *(parent for parent in group.parents if parent.is_relative_to(root))):
                for names in (["cpu.max"], ["cpu.cfs_quota_us", "cpu.cfs_period_us"]):  # of version 2 and 1
                    with contextlib.suppress(OSError, ValueError):  # no such group, or no quota ("max")
                        quota, period = (int(n) for f in names for n in (folder / f).read_text("utf-8").split())
                        yield from [quota / period] if quota > 0 < period else []
