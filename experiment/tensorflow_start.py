"""Imports TensorFlow without its remarks on start-up, which say nothing of the user's run, and counts the cores."""

import os
import sys
import tempfile


def start() -> None:
    """Imports TensorFlow and looks for devices, with standard error held back; a failure prints what was held."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
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
