"""Loads the data set that `data.name` and `--data` name: from disk or Keras's cache, generated, or downloaded.

`data.name` says which: cifar10, cifar100, synthetic, an .npz file, or a folder of classes. `--data` says where. If it
names a file, a folder of classes or synthetic, it replaces `data.name`.
"""

import os
from collections.abc import Callable
from pathlib import Path

from experiment.config import Config
from experiment.data import arrays, cifar, folder, synthetic
from experiment.data.cifar import Version
from experiment.data.dataset import Dataset
from experiment.errors import UserError
from experiment.sections import Data

CIFAR = {version.name: version for version in (cifar.CIFAR10, cifar.CIFAR100)}
KEYWORDS = ("download", "synthetic", "generated")  # values of `--data` that are no paths


class NotFound(UserError):
    """The data set was not found."""


def with_data(config: Config, where: str | None) -> Config:
    """Replaces `data.name` if `--data` names a data set, not just the location of CIFAR.

    Paths become absolute, so that the run's configuration records the location of its images.

    Raises:
        UserError: `--data` is ambiguous, since the folder contains both CIFAR and classes, or it names the location of
            CIFAR while `data.name` is another data set.
    """
    name = _name_of(where)
    if name is None and where is not None and config.data.name not in CIFAR:
        raise UserError(
            f"--data {where} is neither an .npz file nor a folder of classes (train/, test/), so it can only be the "
            f"location of CIFAR; but data.name is {config.data.name}. Leave out one of the two"
        )
    if name is None and config.data.own_images:
        name = str(expanded(config.data.name).absolute())
    return config if name is None else config.on_data(name)


def are_named(where: str | None, settings: Data) -> bool:
    """Whether `where` names these images: for CIFAR, a folder of this CIFAR, otherwise one's own or the synthetic ones.

    A folder without any CIFAR counts, too, so that its user is told that the images are not there.
    """
    if where in (None, "download"):
        return False
    if (name := _name_of(where)) is not None:
        return settings.name == name if name == "synthetic" else settings.own_images
    return settings.name in ([version.name for version in _held(expanded(where))] or CIFAR)


def _name_of(where: str | None) -> str | None:
    if where is None or where in KEYWORDS:
        return "synthetic" if where in KEYWORDS[1:] else None
    path = expanded(where)
    if path.suffix.lower() == ".npz":
        return str(path.absolute())
    if not folder.is_one(path):
        return None
    if held := _held(path):
        raise UserError(
            f"--data {where} contains both {held[0].title} and a folder of classes (train/). For the first, name its "
            f"own folder; for the second, use --set data.name={path.absolute()}"
        )
    return str(path.absolute())


def _held(path: Path) -> list[Version]:
    """The versions of CIFAR whose official files a directory is or contains."""
    return [version for version in CIFAR.values() if cifar.find(path, version)]


def load(where: str | None = None, download: bool = True, settings: Data | None = None) -> Dataset:
    """Loads the data set that a configuration names.

    Args:
        where: the location of CIFAR: "download", a directory, or None to try CIFAR10_DIR (CIFAR100_DIR), Keras's cache
            and the official download, in this order. Or a file or folder of classes that replaces `data.name`.
        download: whether to try the download.
        settings: the configuration's section (default: CIFAR-10, or the data set that `where` names).

    Raises:
        UserError: the data set was not found (the message lists what was tried), or a file is invalid.
    """
    settings = settings or with_data(Config(), where).data
    if settings.name == "synthetic":
        return synthetic.generate()
    if settings.own_images:
        named = _name_of(where)
        path = expanded(settings.name if named in (None, "synthetic") else named)
        if not os.path.exists(path):  # noqa: PTH110 (never raises)
            raise UserError(f"there is no {path} (data.name). If it was moved, say where it is: --data PATH")
        return arrays.read(path) if path.suffix.lower() == ".npz" else folder.read(path, settings.image_size)
    version = CIFAR[settings.name]
    if where == "download":
        return _download(version, [])
    if where is not None and _name_of(where) is None:
        return read(expanded(where), version)
    variable = f"{version.name.upper()}_DIR"
    if os.environ.get(variable):
        return read(expanded(os.environ[variable]), version, f"the environment variable {variable}")
    tried = [f"the environment variable {variable}: not set"]
    for place in _keras_cache(version):
        if cifar.find(place, version):
            return read(place, version)
    tried.append(f"Keras's cache {' and '.join(map(str, _keras_cache(version)[1::2]))}: no {version.title} there")
    if not download:
        raise NotFound(f"no {version.title} on this machine. Tried:\n  " + "\n  ".join(tried))
    return _download(version, tried)


def loader(where: str | None) -> Callable[..., Dataset]:
    """A cached `load` of (settings, download): each data set is read once."""
    loaded: dict[tuple, Dataset] = {}

    def load_once(settings: Data, download: bool = True) -> Dataset:
        if settings.images not in loaded:
            loaded[settings.images] = load(where, download, settings)
        return loaded[settings.images]

    return load_once


def read(directory: Path, version: Version | None = None, named_by: str = "--data") -> Dataset:
    """Reads CIFAR (default: CIFAR-10) from a directory that is or contains an official folder, or contains an archive.

    Raises:
        UserError: the directory contains none of these, or a file is invalid.
    """
    version = version or CIFAR["cifar10"]
    source = cifar.find(directory, version)
    if source is None:
        known = ", ".join([*(f"{name}/" for name in version.folders), *version.archives])
        readable = os.access(directory, os.R_OK | os.X_OK) and directory.is_dir()
        what = f"does not contain {version.title}" if readable else "is not a readable directory"
        others = _held(directory)
        hint = f" (it contains {others[0].title}: --set data.name={others[0].name})" if others else ""
        raise NotFound(
            f"{directory} ({named_by}) {what}{hint}. Name a directory that is or contains one of: {known}"
            "; for images of your own, an .npz file, or a folder with train/<class>/ and test/<class>/"
        )
    return cifar.read(source, version)


def expanded(text: str) -> Path:
    """Expands `~`, if the user has a home directory (in a container there may be none)."""
    try:
        return Path(text).expanduser()
    except RuntimeError:
        return Path(text)


def _keras_cache(version: Version) -> list[Path]:
    """The folders in which Keras 3 and Keras 2 store this data set; Keras falls back to /tmp if it cannot write."""
    home = expanded(os.environ.get("KERAS_HOME", "~/.keras"))
    homes = [home] if os.access(home, os.W_OK) else [home, Path("/tmp/.keras")]
    return [part for each in homes for part in (each / "datasets" / f"{version.python}-target", each / "datasets")]


def _download(version: Version, tried: list[str]) -> Dataset:
    from keras import datasets

    try:
        getattr(datasets, version.name).load_data()  # verifies the archive's SHA-256, and shows a progress bar
    except Exception as error:  # Keras raises a plain Exception for all network errors
        tried = [*tried, f"the official download: {error}"]
        raise NotFound(
            f"{version.title} was not found. Tried:\n"
            + "".join(f"  - {attempt}\n" for attempt in tried)
            + "Remedies:\n"
            "  --data DIR           a directory with the official files or archive\n"
            f"  {version.name.upper()}_DIR=DIR      the same, for every command\n"
            "  --data synthetic     small generated images instead, to try everything out (train.py)\n"
            "  --data FILE.npz      your own images: docs/your-own-images.md"
        ) from None
    caches = _keras_cache(version)
    found = next((cache for cache in caches if cifar.find(cache, version)), caches[0])
    return read(found, version, named_by="the download")
