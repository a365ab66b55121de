"""What the commands need, imported once by the server that `tests.processes` forks."""

from experiment import tensorflow_setup

tensorflow_setup.set_environment()

import keras  # noqa: E402, F401
import matplotlib.backends.backend_agg  # noqa: E402
import matplotlib.figure  # noqa: E402, F401
import scipy.stats  # noqa: E402, F401
import tensorflow  # noqa: E402, F401

import experiment.reporting.write  # noqa: E402
import experiment.studies.conduct  # noqa: E402
import experiment.training.loop  # noqa: E402, F401
