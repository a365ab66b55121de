"""What every command needs, imported once by the server that `tests.processes` forks."""

from experiment import tensorflow_setup

tensorflow_setup.set_environment()

import keras  # noqa: E402, F401
import matplotlib.figure  # noqa: E402, F401
import tensorflow  # noqa: E402, F401
