"""predict.py: pictures of any size and format, what it prints, and what it does with files that are no pictures."""

import contextlib
import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import EpsImagePlugin, Image

import predict
from experiment.data.cifar import CIFAR10
from experiment.errors import UserError
from experiment.evaluation.metrics import probabilities
from tests.conftest import build_vgg, make_run


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run directory whose network has its initial weights."""
    run = make_run(tmp_path_factory.mktemp("results") / "plain/seed0")
    build_vgg(seed=3).save(run.best_file)
    return run


@pytest.fixture
def photos(tmp_path) -> list[Path]:
    """A rotated JPEG, a greyscale PNG with 16 bits, and a small GIF with transparency."""
    noise = np.random.default_rng(0).integers(0, 256, (480, 640, 3), np.uint8)
    rotated = Image.Exif()
    rotated[0x0112] = 6
    Image.fromarray(noise).save(tmp_path / "holiday.jpg", exif=rotated)
    Image.fromarray(noise[:90, :50, 0].astype(np.uint16) * 257).save(tmp_path / "scan.png")
    Image.fromarray(noise[:20, :30]).convert("P").save(tmp_path / "icon.gif", transparency=0)
    return [tmp_path / name for name in ("holiday.jpg", "scan.png", "icon.gif")]


def main(*arguments) -> int:
    return predict.main(predict.parse_arguments([*map(str, arguments)]))


def test_a_run_that_does_not_say_what_it_was_trained_on_is_refused(tmp_path, photos):
    run = make_run(tmp_path / "run")
    run.best_file.write_bytes(b"weights")
    run.write_summary({"status": "running"})
    with pytest.raises(UserError, match=r"summary\.json: data\.class_names is missing"):
        main(*photos, "--run", run.path)


def test_a_line_for_each_picture_with_its_three_likeliest_classes(trained, photos, capsys):
    assert main(*photos, "--run", trained.path) == 0
    printed = capsys.readouterr()
    lines = printed.out.splitlines()
    assert [line.partition(": ")[0] for line in lines] == [str(photo) for photo in photos]
    for line in lines:
        guesses = [guess.rsplit(" ", 1) for guess in line.partition(": ")[2].split(", ")]
        shares = [float(share.rstrip("%")) for _, share in guesses]
        assert len(guesses) == 3 and {name for name, _ in guesses} <= set(CIFAR10.class_names)
        assert shares == sorted(shares, reverse=True)
    assert "10 classes" in printed.err and "32 x 32 pixels" in printed.err


def test_the_name_of_a_picture_does_not_reach_the_terminal_as_it_is(trained, photos, tmp_path, capsys):
    named = photos[0].rename(tmp_path / "a\n\x1b[31mb.jpg")
    assert main(named, "--run", trained.path) == 0
    printed = capsys.readouterr().out
    assert len(printed.splitlines()) == 1 and "\x1b" not in printed


def test_json_has_the_probabilities_of_all_classes_which_are_the_networks(trained, tmp_path, capsys):
    image = np.random.default_rng(1).integers(0, 256, (32, 32, 3), np.uint8)
    Image.fromarray(image).save(tmp_path / "exact.png")
    assert main(tmp_path / "exact.png", "--run", trained.path, "--json") == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert list(row["probabilities"]) == list(CIFAR10.class_names)
    expected = probabilities(build_vgg(seed=3).predict(image[None] / np.float32(127.5) - 1, verbose=0))[0]
    assert np.allclose(list(row["probabilities"].values()), expected, atol=1e-5)


def test_a_file_that_is_no_picture_is_named_and_the_others_are_classified(trained, photos, tmp_path, capsys):
    (tmp_path / "notes.png").write_text("no picture")
    assert main(photos[0], tmp_path / "notes.png", tmp_path / "absent.png", photos[2], "--run", trained.path) == 2
    printed = capsys.readouterr()
    assert len(printed.out.splitlines()) == 2
    errors = [line for line in printed.err.splitlines() if line.startswith("error: ")]
    assert errors[0] == f"error: {tmp_path / 'notes.png'} is not a picture in a format that can be read"
    assert "absent.png" in errors[1] and len(errors) == 2


def test_nothing_but_files_that_are_no_pictures(trained, tmp_path, capsys):
    assert main(tmp_path / "absent.png", "--run", trained.path) == 2
    assert capsys.readouterr().out == ""


def test_without_a_run_it_takes_the_committed_one_with_the_highest_validation_accuracy(
    trained, photos, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(predict, "ROOT", tmp_path)
    with pytest.raises(UserError, match="results contains no run"):
        main(photos[0])
    make_run(tmp_path / "results/higher-without-weights/seed0", val_accuracy=0.95)
    with pytest.raises(UserError, match="contains no trained network"):
        main(photos[0])
    for name, accuracy in (("worse", 0.6), ("better", 0.9)):
        make_run(tmp_path / "results" / name / "seed0", val_accuracy=accuracy).best_file.write_bytes(
            trained.best_file.read_bytes()
        )
    assert main(photos[0]) == 0
    assert str(tmp_path / "results/better/seed0") in capsys.readouterr().err
    assert main(photos[0], "--run", tmp_path / "results/worse") == 0
    assert str(tmp_path / "results/worse/seed0") in capsys.readouterr().err


def test_what_a_user_must_know_of_the_run_is_said(trained, photos, tmp_path, capsys):
    run = make_run(tmp_path / "bn/seed0", status="interrupted", epochs=2, cold_averages=True)
    run.best_file.write_bytes(trained.best_file.read_bytes())
    for json_too in ([], ["--json"]):
        assert main(photos[0], "--run", run.path, *json_too) == 0
        said = capsys.readouterr().err
        assert "not finished: interrupted after 2 epochs" in said and "too few training steps" in said
    assert main(photos[0], "--run", trained.path) == 0
    assert "note" not in capsys.readouterr().err


def test_the_best_of_runs_on_different_images_is_not_known(trained, photos, tmp_path):
    for name, data in (("bn", "cifar10"), ("synthetic", "synthetic")):
        run = make_run(tmp_path / name / "seed0", f"data.name={data}", data=data)
        run.best_file.write_bytes(trained.best_file.read_bytes())
    with pytest.raises(UserError, match="runs on different images; name a run"):
        main(photos[0], "--run", tmp_path)


def test_the_best_of_runs_on_different_images_of_one_name_is_not_known(trained, photos, tmp_path):
    for name, digest in (("cats", "1"), ("dogs", "2")):
        run = make_run(tmp_path / name / "seed0", data="images.npz")
        run.best_file.write_bytes(trained.best_file.read_bytes())
        facts = run.read_summary()
        run.write_summary(facts | {"data": facts["data"] | {"sha256": digest * 64}})
    with pytest.raises(UserError, match="runs on different images; name a run"):
        main(photos[0], "--run", tmp_path)


def test_a_damaged_run_does_not_prevent_the_choice_of_the_best(trained, photos, tmp_path, capsys):
    for name in ("bn", "damaged"):
        make_run(tmp_path / name / "seed0").best_file.write_bytes(trained.best_file.read_bytes())
    (tmp_path / "damaged/seed0/summary.json").write_text("{")
    assert main(photos[0], "--run", tmp_path) == 0
    assert f"left out: {tmp_path}/damaged/seed0/summary.json" in capsys.readouterr().err


def test_no_picture_is_given_to_another_program(trained, tmp_path, monkeypatch, capsys):
    program = tmp_path / "gs"  # Pillow reads EPS by Ghostscript, which runs what is in the file
    program.write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(EpsImagePlugin, "gs_binary", None)
    lines = ["%!PS-Adobe-3.0 EPSF-3.0", "%%BoundingBox: 0 0 20 20", "%%EndComments", "showpage", "%%EOF", ""]
    (tmp_path / "photo.jpg").write_text("\n".join(lines))
    with contextlib.suppress(OSError), Image.open(tmp_path / "photo.jpg") as picture:
        picture.load()
    (tmp_path / "ran").unlink()  # else this test proves nothing
    assert main(tmp_path / "photo.jpg", "--run", trained.path) == 2
    assert "photo.jpg is not a picture in a format that can be read" in capsys.readouterr().err
    assert not (tmp_path / "ran").exists()


def test_a_run_whose_images_have_two_channels_is_refused(trained, photos, tmp_path):
    run = make_run(tmp_path / "run")
    run.best_file.write_bytes(trained.best_file.read_bytes())
    facts = run.read_summary()
    run.write_summary(facts | {"data": facts["data"] | {"image_shape": [32, 32, 2]}})
    with pytest.raises(UserError, match=r"summary\.json.*image_shape"):
        main(photos[0], "--run", run.path)
