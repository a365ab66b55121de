"""Own images: .npz files and folders of classes, how they are named, and what is wrong with those that are refused."""

import io
import os
import shutil
import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from experiment import config as configuration
from experiment import records
from experiment.data import arrays, cifar, dataset, folder, pictures, sources
from experiment.data.dataset import check_fits, split
from experiment.errors import UserError
from experiment.sections import Data
from tests.conftest import make_run


def contents(count=40, classes=4, shape=(8, 8), test=20, **changes) -> dict[str, np.ndarray]:
    """The arrays of a small data set; the first pixel of every image says which it is."""
    found = {}
    for part, many in (("train", count), ("test", test)):
        images = np.zeros((many, *shape), np.uint8)
        images.reshape(many, -1)[:, 0] = np.arange(many)
        found |= {f"x_{part}": images, f"y_{part}": np.arange(many) % classes}
    return found | changes


def saved(path: Path, **arguments) -> Path:
    np.savez(path, **contents(**arguments))
    return path


def refusal(path: Path, **arguments) -> str:
    with pytest.raises(UserError) as caught:
        sources.load(str(path), **arguments)
    message = str(caught.value)
    assert str(path) in message
    assert len(message) < 1000
    return message


# ---- .npz


@pytest.mark.parametrize("shape", [(28, 28), (8, 8), (8, 8, 1), (33, 40, 3)])
@pytest.mark.parametrize("column", [False, True])
def test_an_npz_of_kerass_keys_is_read(tmp_path, shape, column):
    arrays_ = contents(shape=shape)
    if column:
        arrays_ |= {key: arrays_[key][:, None] for key in ("y_train", "y_test")}
    np.savez(tmp_path / "own.npz", **arrays_)
    read = sources.load(str(tmp_path / "own.npz"))
    assert read.image_shape == (shape if len(shape) == 3 else (*shape, 1))
    assert read.train.images.dtype == np.uint8
    assert np.array_equal(read.train.images.reshape(40, -1)[:, 0], np.arange(40))  # in its own order
    assert np.array_equal(read.train.labels, np.arange(40) % 4)
    assert read.train.labels.dtype == np.int32
    assert (read.name, read.class_names) == ("own.npz", ("0", "1", "2", "3"))


def test_compressed_arrays_and_class_names_are_read(tmp_path):
    np.savez_compressed(tmp_path / "own.npz", **contents(class_names=np.array(["cat", "dog", "eel", "fox"])))
    assert sources.load(str(tmp_path / "own.npz")).class_names == ("cat", "dog", "eel", "fox")


def test_other_arrays_in_the_file_are_left_out(tmp_path):
    assert len(arrays.read(saved(tmp_path / "own.npz", more=np.zeros(3))).train.labels) == 40


LABELS = np.arange(40) % 4


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"x_train": np.zeros((40, 8, 8), np.float32)}, "multiply by 255"),
        ({"x_train": np.full((40, 8, 8), np.nan)}, "float64"),
        ({"x_test": np.zeros((20, 8, 8), bool)}, "x_test"),
        ({"x_train": np.zeros((40, 8, 8), np.int64)}, "astype('uint8')"),
        ({"x_train": np.zeros((40, 3, 8, 8), np.uint8)}, "np.moveaxis"),
        ({"x_train": np.zeros((40, 8, 8, 4), np.uint8)}, "x[..., :3]"),
        ({"x_train": np.zeros((40, 8, 8, 2), np.uint8)}, "x[..., :1]"),
        ({"x_train": np.zeros((40, 64), np.uint8)}, "height, width"),
        ({"x_train": np.zeros((40, 7, 8), np.uint8), "x_test": np.zeros((20, 7, 8), np.uint8)}, "7 x 8"),
        ({"x_test": np.zeros((20, 9, 8), np.uint8)}, "resize one of them"),
        ({"x_train": np.zeros((39, 8, 8), np.uint8)}, "39 training images, but 40 labels"),
        ({"x_test": np.zeros((0, 8, 8), np.uint8), "y_test": np.zeros(0, int)}, "no test images"),
        ({"x_train": np.zeros((0, 8, 8), np.uint8), "y_train": np.zeros(0, int)}, "no training images"),
        ({"y_train": LABELS + 1}, "class 0 (0) has no training images; every class needs some; labels count from 0"),
        ({"y_train": LABELS - 1}, "-1 to 2"),
        ({"y_train": LABELS * 2}, "class 1 (1) has no training images"),
        ({"y_train": LABELS * 10**9}, "np.unique"),
        ({"y_train": LABELS.astype(np.uint64) * 2**62}, "np.unique"),
        ({"y_train": np.arange(40) % 3}, "class 3 has test images, but there are 3 classes"),
        ({"y_test": np.arange(20) % 3}, "class 3 (3) has no test images"),
        ({"y_train": np.zeros(40, int), "y_test": np.zeros(20, int)}, "only one class"),
        ({"y_train": np.eye(4)[LABELS]}, "argmax"),
        ({"y_train": LABELS / 1}, "integers"),
        ({"y_train": np.array(list("abcd"))[LABELS]}, "integers"),
        ({"class_names": np.array(["a", "b", "c"])}, "4 strings"),
        ({"class_names": np.arange(4)}, "4 strings"),
        ({"class_names": np.array(["a", "b", "c", "a"])}, "same name"),
        ({"class_names": np.array(["a", "b", "c", "d\x1b[2J"])}, "not printable"),
        ({"class_names": np.array(["a", "b", "c", "d" * 10_000])}, "not printable"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_an_npz_that_does_not_fit_is_refused_with_what_to_do(tmp_path, changes, words):
    assert words in refusal(saved(tmp_path / "own.npz", **changes))


@pytest.mark.parametrize("key", ["x_train", "y_train", "x_test", "y_test"])
def test_a_missing_array_is_named(tmp_path, key):
    found = contents()
    del found[key]
    np.savez(tmp_path / "own.npz", **found)
    assert f"{key} is missing" in refusal(tmp_path / "own.npz")


class MakesFile:
    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("key", ["x_train", "y_train", "class_names", "another"])
def test_objects_in_an_npz_are_refused_and_not_run(tmp_path, key):
    marker = tmp_path / "was_run"
    np.savez(tmp_path / "own.npz", **contents(**{key: np.array([MakesFile(marker)], object)}))
    np.load(tmp_path / "own.npz", allow_pickle=True)[key]
    assert marker.exists(), "the attack does not work, so this test proves nothing"
    marker.unlink()
    message = refusal(tmp_path / "own.npz")
    assert f"{key}.npy: an array of object" in message and "astype" in message
    assert not marker.exists()


def test_an_npz_that_unpacks_to_more_than_its_share_of_the_memory_is_refused_unread(tmp_path, monkeypatch):
    monkeypatch.setattr(arrays, "memory_for_images", lambda: 2**19)
    path = saved(tmp_path / "own.npz", shape=(128, 128))
    assert "more than 524,288" in refusal(path)


def test_a_shape_that_its_bytes_do_not_have_is_refused(tmp_path):
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": (2**40, 32, 32)})
    with zipfile.ZipFile(saved(tmp_path / "own.npz"), "a") as archive:
        archive.writestr("z.npy", header.getvalue() + bytes(100))
    assert "shape" in refusal(tmp_path / "own.npz")


@pytest.mark.parametrize("content", [b"", b"PK", b"no archive" * 100])
def test_a_file_that_is_no_archive_is_refused(tmp_path, content):
    (tmp_path / "own.npz").write_bytes(content)
    refusal(tmp_path / "own.npz")


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: path.symlink_to("/dev/zero")])
def test_what_is_no_file_is_refused_without_waiting(tmp_path, make):
    make(tmp_path / "own.npz")
    refusal(tmp_path / "own.npz")


def test_a_link_to_a_file_is_followed(tmp_path):
    (tmp_path / "link.npz").symlink_to(saved(tmp_path / "own.npz"))
    assert sources.load(str(tmp_path / "link.npz")).name == "link.npz"


# ---- folders of classes


def picture(path: Path, size=(20, 10), colour=(200, 100, 50), **options) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    mode = "RGB" if isinstance(colour, tuple) else "L"
    Image.new(mode, size, colour).save(path, **options)


@pytest.fixture
def pets(tmp_path) -> Path:
    for part, count in (("train", 6), ("test", 2)):
        for number in range(count):
            picture(tmp_path / "pets" / part / "cats" / f"{number}.png", colour=(200, number, 0))
            picture(tmp_path / "pets" / part / "dogs" / f"{number}.JPG", colour=(0, 10, 200), format="JPEG")
    return tmp_path / "pets"


def test_a_folder_of_classes_is_read(pets):
    read = sources.load(str(pets), settings=sources.with_data(configuration.Config(), str(pets)).data)
    assert (read.name, read.class_names, read.image_shape) == ("pets/", ("cats", "dogs"), (32, 32, 3))
    assert read.train.labels.tolist() == [0] * 6 + [1] * 6
    assert read.test.labels.tolist() == [0] * 2 + [1] * 2
    assert read.train.images[:6, 16, 16].tolist() == [[200, number, 0] for number in range(6)]


def test_a_webp_picture_is_read(pets):
    picture(pets / "train" / "cats" / "0.webp", colour=(1, 2, 250), format="WEBP", lossless=True)
    assert folder.read(pets, 8).train.images[1, 4, 4].tolist() == [1, 2, 250]  # after 0.png


def test_pictures_are_resized_to_what_the_configuration_says(pets):
    assert sources.load(settings=Data(name=f"{pets}/", image_size=24)).image_shape == (24, 24, 3)


def test_grey_pictures_have_one_channel_and_colour_anywhere_makes_three(pets):
    for file in pets.rglob("*.*"):
        picture(file, colour=77, format="PNG")
    assert folder.read(pets, 16).image_shape == (16, 16, 1)
    picture(pets / "test" / "dogs" / "0.JPG", format="PNG")
    assert folder.read(pets, 16).image_shape == (16, 16, 3)


def test_a_picture_is_turned_as_its_camera_says(pets):
    image = Image.new("RGB", (32, 32))
    image.paste((255, 255, 255), (0, 0, 32, 16))  # light above
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    image.save(pets / "train" / "cats" / "0.png", exif=exif)
    turned = folder.read(pets, 32).train.images[0]
    assert turned[0].max() == 0
    assert turned[-1].min() == 255


def test_hidden_files_do_not_count(pets):
    for name in (".DS_Store", "Thumbs.db"):
        (pets / "train" / "cats" / name).touch()
        (pets / "train" / name).touch()
    assert len(folder.read(pets, 8).train.labels) == 12


@pytest.mark.parametrize("members", [4, 2**40])
def test_an_archive_of_the_size_that_needs_64_bits_is_read_unless_it_says_that_it_has_too_many_members(
    tmp_path, monkeypatch, members
):
    monkeypatch.setattr(zipfile, "ZIP64_LIMIT", 100)  # instead of 2 GiB
    np.savez(tmp_path / "large.npz", **contents())
    monkeypatch.undo()
    content = bytearray((tmp_path / "large.npz").read_bytes())
    assert content[-42:-38] == b"PK\6\7"
    if members > 4:
        content[-58:-50] = members.to_bytes(8, "little")
        (tmp_path / "large.npz").write_bytes(content)
        with pytest.raises(UserError, match="too many members"):
            arrays.read(tmp_path / "large.npz")
    else:
        assert len(arrays.read(tmp_path / "large.npz").train.images) == 40


def large_png(width: int, height: int) -> bytes:
    """A PNG whose header promises this size, and that holds a row."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(width + 1))) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "damaged"),
        (b"no picture", "damaged"),
        (large_png(9000, 9000), "exceed the limit"),
        (large_png(60_000, 60_000), "damaged"),
    ],
)
def test_a_damaged_picture_is_named(pets, content, words):
    path = pets / "train" / "dogs" / "3.JPG"
    path.write_bytes(content)
    with pytest.raises(UserError, match=words) as caught:
        folder.read(pets, 32)
    assert str(path) in str(caught.value)


def test_a_truncated_picture_is_named(pets):
    path = pets / "test" / "cats" / "1.png"
    content = path.read_bytes()
    path.write_bytes(content[:-30])
    with pytest.raises(UserError, match=r"1\.png"):
        folder.read(pets, 32)


def test_other_kinds_of_pictures_are_refused(pets):
    picture(pets / "train" / "cats" / "0.png", format="BMP")
    with pytest.raises(UserError, match=r"0\.png"):
        folder.read(pets, 32)


def test_a_picture_is_read_as_predict_py_reads_it(pets):
    path = pets / "test" / "cats" / "0.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (50, 90, 3), np.uint8)).save(path)
    assert np.array_equal(folder.read(pets, 20).test.images[0], pictures.read_square(path, (20, 20, 3)))


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: path.symlink_to("/dev/zero")])
def test_a_picture_that_is_no_file_is_refused_without_waiting(pets, make):
    make(pets / "train" / "cats" / "new.png")
    with pytest.raises(UserError, match=r"new\.png"):
        folder.read(pets, 32)


def empty(path: Path) -> None:
    for file in path.iterdir():
        file.unlink()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda pets: empty(pets / "train" / "cats"),
            r"class 0 \(cats\) has no training images; every class needs some$",
        ),
        (lambda pets: (pets / "train" / "birds").symlink_to("unmounted"), "train/birds is a link that leads nowhere"),
        (lambda pets: (pets / "test" / "birds").symlink_to("birds"), "test/birds is a link that leads nowhere"),
        (
            lambda pets: shutil.rmtree(pets / "train") or (pets / "train").mkdir(),
            "contains no classes; pictures belong",
        ),
        (
            lambda pets: shutil.copy(next((pets / "train/cats").iterdir()), pets / "train/loose.png"),
            r"loose\.png is in no class; pictures belong into folders",
        ),
        (
            lambda pets: shutil.copy(next((pets / "test/cats").iterdir()), pets / "test/loose.png"),
            r"loose\.png is in no class; pictures belong into folders",
        ),
        (lambda pets: empty(pets / "test" / "dogs"), r"class 1 \(dogs\) has no test images"),
        (lambda pets: (pets / "test").rename(pets / "tests"), "there is no test, but train has the classes cats"),
        (lambda pets: shutil.rmtree(pets / "test" / "dogs"), r"there is no test/dogs, but train has the class"),
        (lambda pets: (pets / "test" / "eels").mkdir(), "eels"),
        (lambda pets: (pets / "train" / "eels").mkdir(), "eels"),
        (lambda pets: (pets / "train" / "cats" / "notes.txt").touch(), r"notes\.txt: only \.png"),
        (lambda pets: [(pets / "train" / f"{number:04}").mkdir() for number in range(1200)], "more than 1,000"),
        (
            lambda pets: [(pets / part / "cats").rename(pets / part / "\x1b[2J") for part in ("train", "test")],
            "not printable",
        ),
    ],
)
def test_a_folder_that_does_not_fit_is_refused(pets, change, words):
    change(pets)
    with pytest.raises(UserError, match=words) as caught:
        folder.read(pets, 8)
    assert str(pets) in str(caught.value)


def test_more_pictures_than_there_is_memory_for_are_refused_unread(pets, monkeypatch):
    monkeypatch.setattr(folder, "memory_for_images", lambda: 3 * 8 * 8 * 10)
    with pytest.raises(UserError, match="16 pictures of 8 x 8 exceed the limit"):
        folder.read(pets, 8)


# ---- what --data and data.name mean


def settled(where: str | None, *overrides: str) -> str:
    return sources.with_data(configuration.load("plain.yaml", list(overrides)), where).data.name


def test_data_names_a_data_set_or_a_place(pets, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    saved(tmp_path / "own.npz")
    assert settled(None) == settled("download") == settled(str(tmp_path)) == "cifar10"
    assert settled("synthetic") == settled("generated") == settled(None, "data.name=generated") == "synthetic"
    assert settled("own.npz") == settled(None, "data.name=own.npz") == str(tmp_path / "own.npz")
    assert settled("pets") == settled("pets/") == settled(None, "data.name=pets/") == str(pets)
    assert settled("own.npz", "data.name=cifar100") == str(tmp_path / "own.npz")
    assert settled(str(tmp_path), "data.name=cifar100") == "cifar100"


@pytest.mark.parametrize("name", ["cifra10", "mnist", "", "CIFAR10", "pets"])
def test_a_name_that_is_none_is_refused(name):
    with pytest.raises(UserError, match=r"data\.name: must be cifar10, cifar100, synthetic, a path"):
        configuration.load("plain.yaml", [f"data.name='{name}'"])


def test_a_folder_that_holds_a_cifar_and_classes_is_refused(pets):
    (pets / "cifar-10-batches-py").mkdir()
    (pets / "cifar-10-batches-py" / "data_batch_1").touch()
    with pytest.raises(UserError, match=r"contains both CIFAR-10 and a folder of classes.*--set data\.name=/"):
        settled(str(pets))


def test_a_folder_of_another_cifar_says_how_to_name_it(tmp_path):
    (tmp_path / cifar.CIFAR100.python).mkdir()
    (tmp_path / cifar.CIFAR100.python / "train").touch()
    with pytest.raises(UserError, match=r"it contains CIFAR-100: --set data\.name=cifar100"):
        sources.load(str(tmp_path))


def test_own_images_that_were_moved_are_found_by_data(tmp_path):
    settings = Data(name=str(tmp_path / "gone.npz"))
    with pytest.raises(UserError, match="say where it is: --data PATH"):
        sources.load(settings=settings)
    moved = sources.load(str(saved(tmp_path / "moved.npz")), settings=settings)
    assert moved.name == "moved.npz"
    assert sources.load("synthetic", settings=Data(name=str(tmp_path / "moved.npz"))).name == "moved.npz"


def test_where_a_file_lies_is_no_difference_between_experiments():
    one, other = (configuration.load("plain.yaml", [f"data.name=/{place}/own.npz"]) for place in ("here", "there"))
    assert configuration.differences(one, other) == {}
    assert "data.name" in configuration.differences(one, configuration.load("plain.yaml"))


def test_the_fingerprint_tells_shapes_apart(tmp_path):
    one, other = (arrays.read(saved(tmp_path / f"{h}.npz", shape=(h, 128 // h))) for h in (8, 16))
    assert one.train.images.tobytes() == other.train.images.tobytes()
    assert one.fingerprint() != other.fingerprint()


# ---- the split of any data set


@pytest.mark.parametrize("classes", [2, 3, 7, 100])
def test_the_split_takes_of_each_class_its_share(tmp_path, classes):
    sizes = np.arange(classes) % 5 * 10 + 10
    labels = np.repeat(np.arange(classes), sizes)
    own = arrays.read(
        saved(
            tmp_path / "own.npz",
            x_train=np.zeros((len(labels), 8, 8), np.uint8),
            y_train=labels,
            x_test=np.zeros((classes, 8, 8), np.uint8),
            y_test=np.arange(classes),
        )
    )
    count = len(labels) // 6
    training, validation = split(own, Data(validation_images=count))
    assert len(validation.labels) == count
    assert len(training.labels) == len(labels) - count
    taken = np.bincount(validation.labels, minlength=classes)
    assert np.abs(taken - sizes * count / len(labels)).max() < 1


def test_a_set_that_is_too_small_to_hold_images_out_is_refused(tmp_path):
    own = arrays.read(saved(tmp_path / "own.npz", count=4))
    with pytest.raises(UserError, match="4 training images are too few"):
        split(own, Data())


def test_more_training_images_than_there_are_is_refused(tmp_path):
    own = arrays.read(saved(tmp_path / "own.npz"))
    with pytest.raises(UserError, match=r"data\.training_images: 33 is more than the 32"):
        split(own, Data(training_images=33))


@pytest.mark.parametrize(("key", "most"), [("shift", 4), ("cutout", 8)])
def test_augmentation_that_small_images_do_not_allow_is_refused(tmp_path, key, most):
    own = arrays.read(saved(tmp_path / "own.npz"))
    check_fits(own, configuration.load("plain.yaml", [f"augmentation.{key}={most}"]))
    told = rf"augmentation\.{key}: {most + 1} is too much for images of 8 x 8 pixels; at most {most}"
    with pytest.raises(UserError, match=told):
        check_fits(own, configuration.load("plain.yaml", [f"augmentation.{key}={most + 1}"]))


def test_a_size_for_images_that_are_not_resized_is_refused(tmp_path, pets):
    config = configuration.load("plain.yaml", ["data.image_size=8", "data.training_images=4"])
    check_fits(folder.read(pets, 8), config)
    with pytest.raises(UserError, match=r"data\.image_size: 8 has no effect on own\.npz"):
        check_fits(arrays.read(saved(tmp_path / "own.npz")), config)


def test_more_predictions_than_can_be_read_again_are_refused_before_the_training(tmp_path, monkeypatch):
    own = arrays.read(saved(tmp_path / "own.npz", test=2_000))
    check_fits(own, configuration.load("plain.yaml"))
    monkeypatch.setattr(records, "LARGEST_PREDICTIONS", 10_000)
    with pytest.raises(UserError, match="2,000 test images of 4 classes are too many"):
        check_fits(own, configuration.load("plain.yaml"))


def test_images_may_take_an_eighth_of_the_memory(monkeypatch):
    monkeypatch.setattr(os, "sysconf", {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": 1000}.get)
    assert dataset.memory_for_images() == 512_000


def test_a_run_from_before_data_had_a_name_was_made_on_what_its_summary_says(tmp_path):
    assert make_run(tmp_path / "synthetic", data="generated").read_config().data.name == "synthetic"
    assert make_run(tmp_path / "real").read_config().data.name == "cifar10"
