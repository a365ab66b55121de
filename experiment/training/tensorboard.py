"""TensorBoard logs: Keras's scalars, the configuration, and the gradient norm of each layer."""

import keras
import tensorflow as tf

from experiment import config as configuration
from experiment.config import Config
from experiment.data.dataset import Images
from experiment.run_directory import RunDirectory
from experiment.training import diagnostics


class TensorBoardLog(keras.callbacks.TensorBoard):
    """Writes to the run's `tensorboard/`. Measuring the gradients does not change the run."""

    def __init__(self, config: Config, run: RunDirectory, images: Images):
        super().__init__(run.tensorboard_folder, write_graph=False)
        self.config, self.images = config, images

    def on_train_begin(self, logs=None):
        super().on_train_begin(logs)
        with self._train_writer.as_default():
            text = "".join(f"    {line}\n" for line in configuration.to_yaml(self.config).splitlines())
            tf.summary.text("configuration", text, step=0)  # indented: a code block in Markdown

    def on_epoch_end(self, epoch, logs=None):
        super().on_epoch_end(epoch, logs)
        norms = diagnostics.gradient_norms(self.model, self.images, self.config.batch_size)["gradient_mean"]
        with self._train_writer.as_default():
            for layer, norm in enumerate(norms, start=1):
                tf.summary.scalar(f"gradient_norm/layer_{layer}", norm, step=epoch)
