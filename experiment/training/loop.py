"""Training with checkpoints: from a configuration, images and a run directory to trained weights.

All randomness (initial weights, order of the images, augmentation) is a function of (seed, epoch, step), and a
checkpoint is written after every epoch. Therefore a resumed run gives the same bits as an uninterrupted one, on the
same machine with the same library versions and number of threads.
"""

import math
from collections.abc import Sequence

import keras
import tensorflow as tf

from experiment.config import Config
from experiment.data.dataset import Dataset, Images, last_batch, split, split_counts
from experiment.errors import Diverged, Interrupted, UserError
from experiment.evaluation import weights
from experiment.hardware import Cores, device_strategy, environment, resolve_precision
from experiment.options import FigureFormat
from experiment.printable import printable_name
from experiment.run_directory import LARGEST_WEIGHTS, RunDirectory
from experiment.training import distillation
from experiment.training.diagnostics import Diagnostics, check_batches, convolutions_of
from experiment.training.input_pipeline import batches_per_epoch, evaluation_batch, evaluation_dataset, training_dataset
from experiment.training.optimizers import build_loss, build_optimizer
from experiment.training.recorder import CurveDrawer, EpochLines, Recorder, SignalStopper
from experiment.training.tensorboard import TensorBoardLog
from models.network import build_model, check_exchangeable, ghost_batches

_IMAGES_PER_EXECUTION = 4096  # a second or two on two cores


def fit(
    config: Config,
    run: RunDirectory,
    dataset: Dataset,
    cores: Cores,
    resume: bool = False,
    progress: str = "lines",
    tensorboard: bool = False,
    figure_format: FigureFormat = "png",
    until: int | None = None,
    overwrite: bool = False,
    teachers: Sequence[RunDirectory] = (),
) -> dict:
    """Trains one run to its end and returns its summary. Call `start.train` instead, which checks the arguments.

    Args:
        run: a prepared directory, empty unless `resume`.
        cores: the result of `hardware.set_threads`.
        resume: continue after the last completed epoch.
        overwrite: remove the files of an earlier run, when nothing can prevent the training any more.
        teachers: the result of `distillation.teachers_of`.
        progress, tensorboard, figure_format, until: as in `start.train`.

    Raises:
        Diverged, Interrupted, UserError: as `start.train`.
    """
    make_deterministic(config.seed)
    training_images, validation_images = split(dataset, config.data)
    precision = resolve_precision(config.precision)
    steps = batches_per_epoch(training_images, config)
    with device_strategy(config.devices).scope():
        batch = evaluation_batch()
        shards = shards_of_a_batch(config, cores, (training_images, config.batch_size), (validation_images, batch))
        model = compiled_model(config, dataset, steps, precision, shards)
    stock_model = _stock_model(config, dataset)
    check_exchangeable(config.model, stock_model, model)
    facts = _facts(config, dataset, stock_model, precision, training_images, cores)
    if teachers:
        facts["teachers"] = [teacher.weights_digest() for teacher in teachers]
    updates = steps * config.epochs * ghost_batches(config.model)
    if momentum := _cold_momentum(model, updates):
        facts["cold_averages"] = True
        if progress != "quiet" and not resume:
            _warn_of_cold_averages(config, momentum, updates)
    recorder = Recorder(run, stock_model, facts)
    if resume:
        recorder.restore(model)
        if progress != "quiet":
            print(f"going on after epoch {len(recorder.history)} of {config.epochs}", flush=True)
    if teachers and progress != "quiet":
        names = ", ".join(printable_name(str(teacher.path)) for teacher in teachers)
        print(f"{names}: predicting {len(training_images.labels):,} training images", flush=True)
    training_images = distillation.with_targets(training_images, teachers, config.distillation)
    if overwrite:
        run.remove_files()
    recorder.begin(config)
    drawer = CurveDrawer(run, figure_format, recorder.history, config, _title(config, run, dataset))
    stopper = SignalStopper()
    callbacks = [
        *([keras.callbacks.ProgbarLogger()] if progress == "bar" else []),  # before the lines; Keras would append it
        *([Diagnostics(config, run, training_images)] if config.diagnostics != "none" else []),
        *([TensorBoardLog(config, run, training_images)] if tensorboard else []),
        recorder,
        *([EpochLines(recorder.history, config.epochs, progress == "bar")] if progress != "quiet" else []),
        drawer,
        stopper,
    ]
    try:
        with stopper.listening():
            model.fit(
                training_dataset(training_images, config, first_epoch=len(recorder.history)),
                validation_data=evaluation_dataset(validation_images, batch),
                initial_epoch=len(recorder.history),
                epochs=min(config.epochs, until or config.epochs),
                steps_per_epoch=steps,
                callbacks=callbacks,
                verbose=1 if progress == "bar" else 0,
                shuffle=False,  # the pipeline shuffles
            )
        drawer.draw()  # before the summary says that there is nothing left to do
        return recorder.write_summary("finished" if len(recorder.history) == config.epochs else "interrupted")
    except Interrupted:
        recorder.write_summary("interrupted")
        raise
    except Diverged as error:
        if progress == "bar":
            print(flush=True)  # the end of its line
        recorder.write_summary("diverged", reason=str(error))
        saved = f"the best weights so far are in {run.best_file}" if recorder.history else "no epoch was completed"
        advice = "Try a lower optimizer.learning_rate or a longer schedule.warmup_epochs"
        raise Diverged(f"{run.path}: {error}; {saved}. {advice}") from None
    finally:
        drawer.draw()  # of an interrupted or diverged run: last, so that the summary is written before


def _cold_momentum(model: keras.Model, updates: int) -> float | None:
    """The largest momentum of batch normalisation, if its moving averages do not converge in so many updates.

    Each update keeps the fraction `momentum` of them: after 3 / (1 - momentum), exp(-3) = 5 % of their initial values
    remain.
    """
    kind = keras.layers.BatchNormalization
    momenta = [layer.momentum for layer in model._flatten_layers() if isinstance(layer, kind)]
    return max(momenta) if momenta and updates * (1 - max(momenta)) < 3 else None


def _warn_of_cold_averages(config: Config, momentum: float, updates: int) -> None:
    remedy = f"Pass momentum=0.9 to the layer in models/{config.model.name}.py"
    remedy = "Set model.norm_momentum=0.9" if hasattr(config.model, "norm_momentum") else remedy
    lower = f"{remedy}, or take" if updates * (1 - 0.9) >= 3 else "Take"
    print(
        f"note: {updates} updates are too few for the moving averages of batch normalisation with a momentum of "
        f"{momentum}: they do not converge, and validation and test accuracy will be too low. "
        f"{lower} more epochs or a smaller batch_size",
        flush=True,
    )


def _facts(config: Config, dataset: Dataset, model, precision: str, training_images: Images, cores: Cores) -> dict:
    """The part of the summary that is known before training."""
    return {
        "network": config.model.name,
        "architecture": weights.architecture(model),
        "parameters": model.count_params(),
        "trainable_parameters": sum(math.prod(variable.shape) for variable in model.trainable_variables),
        "seed": config.seed,
        "precision": precision,
        "data": {
            "name": dataset.name,
            "sha256": dataset.fingerprint(),
            "protocol": config.data.protocol,
            "training_images": len(training_images.labels),
            "class_names": list(dataset.class_names),
            "image_shape": list(dataset.image_shape),
            "preprocessing": "pixels / 127.5 - 1, as float32",
        },
        **environment(cores.count),
    }


def _title(config: Config, run: RunDirectory, dataset: Dataset) -> str:
    title = f"{config.title or run.path.resolve().parent.name}, seed {config.seed}"
    return title + {"cifar10": "", "synthetic": " (synthetic images)"}.get(dataset.name, f" ({dataset.name})")


def check_network(config: Config, dataset: Dataset) -> None:
    """Raises a UserError if the network cannot be built, saved as best.keras, or diagnosed as configured."""
    model = _stock_model(config, dataset)
    count, most = model.count_params(), LARGEST_WEIGHTS // 5  # four bytes each, and what describes them
    if count > most:
        raise UserError(f"models/{config.model.name}.py: {count:,} parameters; at most {most:,} can be kept")
    weights.check_archive(model, config.model.name)
    if config.diagnostics == "batch_statistics":
        convolutions_of(model)
        check_batches(split_counts(dataset, config.data)[0], config.batch_size // ghost_batches(config.model))


def _stock_model(config: Config, dataset: Dataset) -> keras.Model:
    """The network in float32, with stock Keras layers, for best.keras."""
    return build_model(config.model, dataset.image_shape, len(dataset.class_names), seed=config.seed)


def make_deterministic(seed: int) -> None:
    """Makes this process deterministic: it computes the same bits each time on the same machine. Seeds Keras, too."""
    keras.utils.set_random_seed(seed)
    tf.config.experimental.enable_op_determinism()


def compiled_model(
    config: Config, dataset: Dataset, steps_per_epoch: int, precision: str, shards: int = 1
) -> keras.Model:
    """The compiled network, for batches of at least `shards` images."""
    synchronized = tf.distribute.get_strategy().num_replicas_in_sync > 1
    fast = not tf.config.list_physical_devices("GPU")  # the fast layers are for CPUs
    of_the_data = dataset.image_shape, len(dataset.class_names)
    model = build_model(config.model, *of_the_data, precision, config.seed, fast, synchronized, shards)
    model.compile(
        optimizer=build_optimizer(config, steps_per_epoch, precision),
        loss=build_loss(config),
        metrics=[distillation.accuracy if config.distillation.teachers else "accuracy"],
        steps_per_execution=steps_per_execution(steps_per_epoch, config.batch_size),
        jit_compile=False,  # on a CPU, XLA's convolutions take twice the time of oneDNN's
    )
    # Create all variables now: a step that creates variables is traced twice.
    model.optimizer.build(model.trainable_variables)
    model.compute_metrics(None, tf.zeros(1, "int32"), tf.zeros((1, *model.output_shape[1:])))
    model.reset_metrics()
    return model


def shards_of_a_batch(config: Config, cores: Cores, *batched: tuple[Images, int]) -> int:
    """The number of shards: the network's ghost batches, or as `cores` says if all batches are large enough.

    Args:
        batched: pairs of images and the size of their batches; those of training first.

    Raises:
        UserError: a batch has too few images for the ghost batches or for the devices.
    """
    devices = tf.distribute.get_strategy().num_replicas_in_sync
    lasts = [last_batch(len(images.labels), size) for images, size in batched]
    if devices > 1:
        _check_devices(devices, [min(size, len(images.labels)) for images, size in batched], lasts)
    smallest = min(lasts)
    ghosts = ghost_batches(config.model)
    if ghosts > 1 and smallest < ghosts * devices:
        raise UserError(
            f"model.ghost_batches: {ghosts} is more than the {smallest} images of a last batch; take fewer, or change "
            f"{'batch_size' if lasts[0] == smallest else 'the number of validation images'}"
        )
    if ghosts > 1:
        return ghosts
    return 1 if devices > 1 or smallest < cores.shards else cores.shards


def _check_devices(devices: int, firsts: list[int], lasts: list[int]) -> None:
    """Raises a UserError if the first or last batches, of training first, cannot be divided among the devices.

    Parts of a last batch that differ in size would have unequal weights in its gradient; in validation, only an empty
    part is a problem.
    """
    for number, (first, last) in enumerate(zip(firsts, lasts, strict=True)):
        part = -(-last // devices)
        if first % devices or (last % devices if number == 0 else part * (devices - 1) >= last):
            raise UserError(
                f"devices: all: batches of {first} images, and a last one of {last}, cannot be divided among "
                f"{devices} devices. Choose a batch_size and a number of images that are multiples of {devices}"
            )


def steps_per_execution(steps_per_epoch: int, batch_size: int) -> int:
    """Keras's `steps_per_execution`: many, to reduce the overhead of Python, but few enough to react to Ctrl-C soon.

    It must be a divisor of the steps of an epoch.
    """
    if tf.distribute.get_strategy().num_replicas_in_sync > 1:
        return 1  # Keras does not support more with several devices
    most = max(1, _IMAGES_PER_EXECUTION // batch_size)
    return next(steps for steps in range(most, 0, -1) if steps_per_epoch % steps == 0)
