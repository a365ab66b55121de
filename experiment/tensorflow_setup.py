"""Imports TensorFlow, with oneDNN and without remarks that say nothing of the user's run, and counts the cores."""

import os
import platform
import sys
import tempfile


def set_environment() -> None:
    """What TensorFlow reads as it is imported; what the user has set stays.

    What goes wrong comes as an exception. What TensorFlow logs besides, as an error too (that oneDNN has no float16 on
    this processor, say), is a remark.

    TensorFlow by itself takes oneDNN's convolutions only where there is AVX-512 or the like. With AVX2 alone, as in
    many laptops, they make a training step twice as quick, too.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if platform.machine().lower() in ("x86_64", "amd64"):
        os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")


def start() -> None:
    """Imports TensorFlow and looks for devices, with standard error held back; a failure prints what was held."""
    set_environment()
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)  # the remarks come from C++, past sys.stderr
        try:
            import tensorflow

            tensorflow.config.list_physical_devices()
        except BaseException:
            held.seek(0)
            os.write(kept, held.read())
            raise
        finally:
            os.dup2(kept, 2)
            os.close(kept)


def available_cores() -> int:
    """The cores that this process may use, which a container or `taskset` can make fewer than the machine's."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
