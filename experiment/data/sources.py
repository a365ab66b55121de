"""Finds the data set that `data.name` and `--data` ask for: on disk, in Keras's cache, made here, or downloaded.

`data.name` says what: cifar10, cifar100, synthetic, an .npz file, or a folder of classes. `--data` says where. For an
own file or folder, and for the synthetic images, the two are one: `--data` then replaces `data.name`.
"""

import functools
import os
from collections.abc import Callable
from pathlib import Path

from experiment.config import Config, Data
from experiment.data import arrays, cifar, folder, synthetic
from experiment.data.cifar import Version
from experiment.data.dataset import Dataset
from experiment.errors import UserError

CIFAR = {version.name: version for version in (cifar.CIFAR10, cifar.CIFAR100)}


class NotFound(UserError):
    """The data set is nowhere where it was looked for."""


def settle(config: Config, where: str | None) -> Config:
    """The configuration with the data set that `--data` names, where that names one and is not just its place.

    A path becomes absolute, so that the run's own configuration says where its images are.

    Raises:
        UserError: `--data` is a folder that holds both a CIFAR and a folder of classes, or it is the place of a CIFAR,
            and `data.name` is none.
    """
    name = _name_of(where)
    if name is None and where is not None and config.data.name not in CIFAR:
        raise UserError(
            f"--data {where} is no .npz file and no folder of classes (train/, test/), so it can only say where a "
            f"CIFAR is; but data.name is {config.data.name}. Leave out one of the two"
        )
    if name is None and config.data.own_images:
        name = str(Path(config.data.name).expanduser().absolute())
    return config if name is None else config.on_data(name)


def _name_of(where: str | None) -> str | None:
    if where in ("synthetic", "generated"):
        return "synthetic"
    if where is None or where == "download":
        return None
    path = Path(where)
    if path.suffix.lower() == ".npz":
        return str(path.absolute())
    if not folder.is_one(path):
        return None
    held = [version.title for version in CIFAR.values() if cifar.find(path, version)]
    if held:
        raise UserError(
            f"--data {where}: it holds {held[0]} and a folder of classes (train/). Name the first by its own folder, "
            f"or the second by --set data.name={where}"
        )
    return str(path.absolute())


def load(where: str | None = None, download: bool = True, settings: Data | None = None) -> Dataset:
    """The data set that a configuration names.

    Args:
        where: of a CIFAR, "download", a directory, or None to look in CIFAR10_DIR (CIFAR100_DIR), then in Keras's
            cache, and at last to download. Of an own file or folder, another place than `data.name`.
        download: whether it may come to that last step.
        settings: say which (default: CIFAR-10, or what `where` names).

    Raises:
        UserError: nothing was found (with what was tried), or a file is not what it should be.
    """
    settings = settings or settle(Config(), where).data
    if settings.name == "synthetic":
        return synthetic.generate()
    if settings.own_images:
        named = _name_of(where)
        path = _expanded(settings.name if named in (None, "synthetic") else named)
        if not path.exists():
            raise UserError(f"{path} (data.name) is not there. If it was moved, say where it is: --data PATH")
        return arrays.read(path) if path.suffix.lower() == ".npz" else folder.read(path, settings.image_size)
    version = CIFAR[settings.name]
    if where == "download":
        return _download(version, [])
    if where is not None and _name_of(where) is None:
        return read(Path(where), version)
    variable = f"{version.name.upper()}_DIR"
    if os.environ.get(variable):
        return read(_expanded(os.environ[variable]), version, f"the environment variable {variable}")
    tried = [f"the environment variable {variable}: not set"]
    for place in _keras_cache(version):
        if cifar.find(place, version):
            return read(place, version)
    tried.append(f"Keras's cache {' and '.join(map(str, _keras_folders()))}: no {version.title} there")
    if not download:
        raise NotFound(f"no {version.title} on this machine. Tried:\n  " + "\n  ".join(tried))
    return _download(version, tried)


def loader(where: str | None, download: bool = True) -> Callable[[Data], Dataset]:
    """`load` for who asks for the same images again and again: each data set is read once."""

    @functools.cache
    def loaded(name: str, image_size: int) -> Dataset:
        return load(where, download, Data(name=name, image_size=image_size))

    return lambda settings: loaded(settings.name, settings.image_size)


def read(directory: Path, version: Version | None = None, named_by: str = "--data") -> Dataset:
    """Reads a CIFAR (default: CIFAR-10) from a directory that is or holds an official folder, or holds its archive.

    Raises:
        UserError: the directory holds none, or a file in it is damaged or holds something else.
    """
    version = version or CIFAR["cifar10"]
    source = cifar.find(directory, version)
    if source is None:
        known = ", ".join([*(f"{name}/" for name in version.folders), *version.archives])
        readable = os.access(directory, os.R_OK | os.X_OK) and directory.is_dir()
        what = f"holds no {version.title}" if readable else "is not a directory that can be read"
        others = [other for other in CIFAR.values() if cifar.find(directory, other)]
        hint = f" (it holds {others[0].title}: --set data.name={others[0].name})" if others else ""
        raise NotFound(f"{directory} ({named_by}) {what}{hint}. Name a directory that is or holds one of: {known}")
    return cifar.read(source, version)


def _expanded(text: str) -> Path:
    """The path that a user wrote; `~` is the home directory, where there is one (a container's user may have none)."""
    try:
        return Path(text).expanduser()
    except RuntimeError:
        return Path(text)


def _keras_folders() -> list[Path]:
    """The folders of all of Keras's data sets: the second is used where the first cannot be written."""
    home = _expanded(os.environ.get("KERAS_HOME", "~/.keras"))
    homes = [home] if os.access(home, os.W_OK) else [home, Path("/tmp/.keras")]
    return [home / "datasets" for home in homes]


def _keras_cache(version: Version) -> list[Path]:
    """The folders in which `keras.datasets` of Keras 3 and 2 keeps its files."""
    return [part for place in _keras_folders() for part in (place / f"{version.python}-target", place)]


def _download(version: Version, tried: list[str]) -> Dataset:
    from keras import datasets

    try:
        getattr(datasets, version.name).load_data()  # verifies the archive's SHA-256, shows its progress
    except Exception as error:  # Keras raises a plain Exception for every kind of network failure
        tried = [*tried, f"the official download: {error}"]
        raise NotFound(
            f"{version.title} was not found. Tried:\n"
            + "".join(f"  - {attempt}\n" for attempt in tried)
            + "Remedies:\n"
            "  --data DIR           a directory with the official files or archive\n"
            f"  {version.name.upper()}_DIR=DIR      the same, for every command\n"
            "  --data synthetic     small images that are made here instead, to see that everything works (train.py)\n"
            "  --data FILE.npz      your own images: docs/your-own-images.md"
        ) from None
    kept = _keras_cache(version)
    found = next((place for place in kept if cifar.find(place, version)), kept[0])
    return read(found, version, named_by="the download")
