"""The sections of a configuration: their keys, types and defaults. A network's own keys are defined in `models/`."""

import os
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from experiment.options import TestTimeAugmentation
from experiment.schema import Fraction, Positive, Section

Protocol = Literal["held_out", "test_as_validation"]
DATA_NAMES = ("cifar10", "cifar100", "synthetic")


class Data(Section):
    """The data set, and its split into training and validation images.

    `name` is cifar10, cifar100, synthetic, or the path of your own images: an .npz file, or a folder of classes (with a
    / in its path), whose pictures are resized to `image_size` x `image_size` pixels. See docs/your-own-images.md.

    `held_out` splits `validation_images` off the training set, stratified by class and seeded by `split_seed`.
    `test_as_validation` trains on all training images and selects the weights on the test set: its numbers are marked
    as optimistic. `training_images` limits training to a stratified subset of that size; null trains on all.
    """

    name: str = "cifar10"
    image_size: Annotated[int, Field(ge=8, le=512)] = 32
    protocol: Protocol = "held_out"
    validation_images: Annotated[int, Field(ge=1, le=10_000_000)] = 5_000
    split_seed: Annotated[int, Field(ge=0)] = 0
    training_images: Annotated[int, Field(ge=1, le=10_000_000)] | None = None

    @field_validator("name")
    @classmethod
    def _known(cls, name: str) -> str:
        if name == "generated":  # the former name
            return "synthetic"
        if name not in DATA_NAMES and "/" not in name and os.sep not in name and not name.lower().endswith(".npz"):
            raise ValueError(f"must be {', '.join(DATA_NAMES)}, a path ending in .npz or a folder with a / in its path")
        return name

    @property
    def images(self) -> tuple[str, int]:
        """What determines the images, apart from the value of `--data`."""
        return self.name, self.image_size

    @property
    def own_images(self) -> bool:
        """Whether `name` is a path."""
        return self.name not in DATA_NAMES

    @property
    def optimistic(self) -> bool:
        """Whether the weights are chosen on the test set."""
        return self.protocol == "test_as_validation"


class Augmentation(Section):
    """Random augmentation of each training image: a horizontal flip, a shift by up to `shift` pixels, a grey square."""

    flip: bool = False
    shift: Annotated[int, Field(ge=0, le=256)] = 0  # at most half an image's side
    cutout: Annotated[int, Field(ge=0, le=512)] = 0  # the square's side in pixels; at most an image's


class Optimizer(Section):
    """`momentum` and `nesterov` belong to sgd and muon; `weight_decay` is decoupled (AdamW, SGDW), of all weights.

    muon orthogonalises the updates of convolution kernels, and decays them alone; Adam updates all other weights, at
    the same learning rate.
    """

    name: Literal["adam", "adamw", "sgd", "muon"] = "adam"
    learning_rate: Positive = 1e-3
    momentum: Fraction = 0.0
    nesterov: bool = False
    weight_decay: Annotated[float, Field(ge=0, lt=1)] = 0.0

    @model_validator(mode="after")
    def _keys_fit_the_optimizer(self):
        if self.name not in ("sgd", "muon") and (self.momentum or self.nesterov):
            raise ValueError(f"momentum and nesterov belong to sgd and muon, not to {self.name}")
        if self.nesterov and not self.momentum:
            raise ValueError("nesterov needs a momentum above 0")
        if self.name == "adam" and self.weight_decay:
            raise ValueError("weight_decay belongs to adamw, sgd and muon, not to adam")
        return self


class Schedule(Section):
    """The learning rate schedule: a linear warm-up over `warmup_epochs`, then a constant rate or a decay to zero.

    `cosine` decays along half a cosine, `one_cycle` linearly.
    """

    name: Literal["constant", "cosine", "one_cycle"] = "constant"
    warmup_epochs: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0


class Distillation(Section):
    """Trained networks as teachers: `teachers` is a run directory, or a folder of them.

    `weight` is that of the teachers' probabilities in the loss, `temperature` divides the logits of both sides, and
    with `tta` the teachers average over the views of evaluate.py --tta. See experiment/training/distillation.py.
    """

    teachers: Annotated[str, Field(pattern=r"^[^\x00]+$")] | None = None
    weight: Annotated[float, Field(ge=0, le=1)] = 0.9
    temperature: Annotated[float, Field(gt=0, le=1_000)] = 1.0
    tta: TestTimeAugmentation = "none"

    @model_validator(mode="after")
    def _keys_need_teachers(self):
        if not self.teachers and self != Distillation.model_construct():
            raise ValueError("weight, temperature and tta belong to distillation.teachers, which is not set")
        return self


class Reported(Section):
    """The test accuracy (0..1) that `source` reported for this arm; tables say "reported by" and the source."""

    test_accuracy: Annotated[float, Field(ge=0, le=1)]
    source: Annotated[str, Field(min_length=1)]
