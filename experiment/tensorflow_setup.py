"""Imports TensorFlow and Keras with the settings that this project relies on, and counts the cores."""

import contextlib
import math
import os
import platform
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from experiment.errors import UserError

# Variables of Keras, TensorFlow and oneDNN under which a run of the same configuration would be another run.
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
    """What TensorFlow and Keras read as they are imported.

    What TensorFlow logs as an error (that oneDNN has no float16 on this processor, say) is a remark: what goes wrong
    comes as an exception, too. By itself it takes oneDNN's convolutions only where there is AVX-512 or the like; with
    AVX2 alone, as in many laptops, they make a training step twice as quick, too. In both the user's word stays.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if platform.machine().lower() in ("x86_64", "amd64"):
        os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    os.environ |= {"KERAS_BACKEND": "tensorflow", "KERAS_NNX_ENABLED": "false"}
    for name in _CHANGES_RESULTS:
        os.environ.pop(name, None)


def start() -> None:
    """Imports TensorFlow and looks for devices, with standard error held back; a failure prints what was held.

    Raises:
        UserError: it cannot be imported, or this process uses Keras with something else already.
    """
    set_environment()
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)  # the remarks come from C++, past sys.stderr
        try:
            import keras
            import tensorflow

            tensorflow.config.list_physical_devices()
        except Exception as error:
            held.seek(0)
            os.write(kept, held.read())
            raise UserError(f"TensorFlow and Keras cannot be imported: {error}") from error
        finally:
            os.dup2(kept, 2)
            os.close(kept)
    if keras.config.backend() != "tensorflow":
        raise UserError(f"Keras uses {keras.config.backend()} here already; import this project first, or start anew")
    _set_globals(keras, tensorflow)


def _set_globals(keras, tensorflow) -> None:
    """What keras.json, the environment or a notebook may have set otherwise, and what a container allows."""
    import numpy

    keras.config.set_floatx("float32")
    keras.config.set_dtype_policy("float32")
    keras.config.set_image_data_format("channels_last")
    keras.config.set_epsilon(1e-7)
    numpy.seterr(divide="warn", over="warn", under="ignore", invalid="warn")
    if "TF_NUM_INTRAOP_THREADS" not in os.environ and available_cores() < _cores():
        with contextlib.suppress(RuntimeError):  # TensorFlow runs already, with the threads that it has
            tensorflow.config.threading.set_intra_op_parallelism_threads(available_cores())
            tensorflow.config.threading.set_inter_op_parallelism_threads(available_cores())


def available_cores(groups: Path = Path("/sys/fs/cgroup"), mine: Path = Path("/proc/self/cgroup")) -> int:
    """The cores that this process may use, which `taskset` or a container's quota can make fewer than the machine's.

    Args:
        groups: where Linux keeps its control groups; mine: the file that names those of this process.
    """
    return max(1, min([_cores(), *(math.ceil(quota) for quota in _quotas(groups, mine))]))


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _quotas(groups: Path, mine: Path) -> Iterator[float]:
    """The processor time that each group of this process may use, and each group around it, in cores."""
    try:
        lines = [line.split(":", 2) for line in mine.read_text(encoding="utf-8", errors="replace").splitlines()]
    except OSError:
        return
    for _, controllers, place in filter(lambda line: len(line) == 3, lines):
        first = [groups / controllers, groups / "cpu"] if "cpu" in controllers.split(",") else []
        for root in first if controllers else [groups]:
            group = root / place.lstrip("/")
            for folder in (group, *(parent for parent in group.parents if parent.is_relative_to(root))):
                for files in (["cpu.max"], ["cpu.cfs_quota_us", "cpu.cfs_period_us"]):  # of version 2 and 1
                    with contextlib.suppress(OSError, ValueError):  # no such group; no quota ("max")
                        quota, period = (int(n) for f in files for n in (folder / f).read_text("utf-8").split())
                        yield from [quota / period] if quota > 0 < period else []
