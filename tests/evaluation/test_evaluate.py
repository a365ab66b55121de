"""What is read off finished runs, which runs are refused, and how the networks are compared."""

import math
import os
from pathlib import Path

import numpy as np
import pytest

from experiment import finding
from experiment.data import sources, synthetic
from experiment.data.cifar import CIFAR10
from experiment.data.dataset import Dataset
from experiment.errors import UserError
from experiment.evaluation import predict as predicting
from experiment.evaluation.metrics import accuracy_interval
from experiment.evaluation.predict import predict, views
from experiment.run_directory import RunDirectory
from experiment.sections import Data
from tests.conftest import make_run, predict_and_load

BN = "model.batch_norm=after_activation"
TEST_AS_VALIDATION = "data.protocol=test_as_validation"


def no_data(name: str) -> Dataset:
    raise AssertionError(f"the data set {name} was asked for")


def refusal(run: RunDirectory, dataset_for=no_data) -> str:
    with pytest.raises(UserError) as caught:
        predict_and_load(run, "name", dataset_for)
    return str(caught.value)


# ---- one run


def test_measures_are_those_of_the_kept_answers(evaluated):
    measures = evaluated(correct=80).measures()
    assert measures["test_images"] == 100
    assert measures["test_accuracy"] == 0.8
    assert measures["test_accuracy_wilson_95"] == accuracy_interval(80, 100)
    assert measures["test_loss"] == pytest.approx(math.log(math.exp(4) + 9) - 4 * 0.8)


def test_milestones_are_the_first_epochs_that_reach_them(evaluated):
    measures = evaluated().measures()  # validation accuracy 0.5, 0.7, 0.6 after 4.5, 9 and 13.5 seconds
    assert measures["milestones"] == {
        "0.60": {"epoch": 2, "seconds": 9.0},
        "0.70": {"epoch": 2, "seconds": 9.0},
        "0.75": None,
        "0.80": None,
    }
    assert measures["seconds_to_best_epoch"] == 9.0
    assert measures["best_epoch_because"] == "the first of the highest validation accuracy, 0.7000"


def test_a_best_epoch_that_is_not_in_the_history_is_refused(tmp_path):
    run = make_run(tmp_path / "run", best_epoch=4)
    assert "best_epoch is 4, but history.csv has 3 epochs" in refusal(run)


def test_classes_and_confusions_are_those_of_the_kept_answers(evaluated):
    measures = evaluated(correct=80).measures()
    assert list(measures["class_accuracy"]) == list(CIFAR10.class_names)
    assert list(measures["class_accuracy"].values()) == [0, 0] + [1] * 8
    confusions = 10 * np.eye(10, dtype=int)
    confusions[:2, :3] = [[0, 10, 0], [0, 0, 10]]
    assert measures["confusion_matrix"] == confusions.tolist()


def test_a_matrix_of_many_classes_is_not_reported(tmp_path):
    run = make_run(tmp_path / "run")
    facts = run.read_summary()
    names = [f"class {number}" for number in range(101)]
    run.write_summary(facts | {"data": facts["data"] | {"class_names": names}})
    run.write_predictions(np.eye(101), np.arange(101))
    assert predict_and_load(run, "run", no_data).measures()["confusion_matrix"] is None


def test_measures_carry_what_the_run_recorded(evaluated):
    measures = evaluated("some/seed3", BN, val_accuracy=0.71).measures()
    recorded = {key: measures[key] for key in ("run", "seed", "data", "val_accuracy", "parameters", "epochs")}
    assert recorded == {
        "run": "some/seed3",
        "seed": 3,
        "data": "cifar10",
        "val_accuracy": 0.71,
        "parameters": 294_810,
        "epochs": 3,
    }


@pytest.mark.parametrize(
    ("name", "overrides", "remarks"),
    [
        ("cifar10", [], []),
        ("generated", [], ["synthetic images"]),
        ("cifar10", [TEST_AS_VALIDATION], ["optimistic: weights chosen on the test set"]),
        ("generated", [TEST_AS_VALIDATION], ["synthetic images", "optimistic: weights chosen on the test set"]),
    ],
)
def test_what_a_reader_must_know_is_marked(evaluated, name, overrides, remarks):
    assert evaluated("plain/seed0", *overrides, data=name).measures()["remarks"] == remarks


def test_the_classes_are_those_that_the_run_was_trained_on(tmp_path):
    run, names = make_run(tmp_path / "run", data="own.npz"), [f"class {number}" for number in range(10)]
    facts = run.read_summary()
    run.write_summary(facts | {"data": facts["data"] | {"class_names": names}})
    assert list(predict_and_load(run, "run", no_data).measures()["class_accuracy"]) == names


def test_generated_images_have_their_own_classes(evaluated):
    measures = evaluated(data="generated").measures()
    assert list(measures["class_accuracy"]) == list(synthetic.CLASS_NAMES)


# ---- runs that are refused


@pytest.mark.parametrize(
    ("summary", "words"),
    [
        (
            {"status": "diverged", "reason": "the loss became NaN in epoch 2"},
            "it diverged (the loss became NaN in epoch 2)",
        ),
        ({"status": "diverged"}, "it diverged"),
        ({"status": "running"}, "it is still running, or was killed"),
        ({"status": "interrupted"}, "it is interrupted (continue it with --resume)"),
        ({"status": "odd"}, "it is odd"),
    ],
)
def test_an_unfinished_run_is_refused(tmp_path, summary, words):
    run = make_run(tmp_path / "run", **summary)
    message = refusal(run)
    assert f"{run.path}: {words}" in message


@pytest.mark.parametrize("name", ["config", "summary", "history", "predictions"])
def test_a_damaged_file_is_named(tmp_path, name):
    run = make_run(tmp_path / "run")
    path = getattr(run, f"{name}_file")
    path.write_bytes(b"[" + path.read_bytes()[:40])
    assert str(path) in refusal(run)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("parameters", None),
        ("parameters", "many"),
        ("val_accuracy", "0.7"),
        ("val_accuracy", [0.7]),
        ("train_seconds", {}),
        ("best_epoch", None),
        ("images_per_second", "fast"),
        ("precision", 16),
        ("data", None),
        ("data", {}),
        ("data", {"name": "mnist"}),
        ("data", {"name": ["cifar10"]}),
        ("data", {"name": "cifar10", "class_names": "abcdefghij"}),
        ("data", {"name": "cifar10", "class_names": list(range(10))}),
    ],
)
def test_a_summary_with_an_odd_value_is_refused(tmp_path, key, value):
    run = make_run(tmp_path / "run", **({} if key == "data" else {key: value}))
    if key == "data":
        run.write_summary(run.read_summary() | {"data": value})
    message = refusal(run)
    assert str(run.summary_file) in message
    assert key in message


def test_a_run_without_weights_and_answers_is_refused(tmp_path):
    run = make_run(tmp_path / "run")
    run.predictions_file.unlink()
    assert "both best.keras and predictions.npz are missing" in refusal(run)


def test_weights_trained_on_other_images_are_refused(tmp_path):
    run = make_run(tmp_path / "run", data="generated")
    run.best_file.touch()
    assert "other images than this version of" in refusal(run, lambda name: synthetic.generate(20, 10))


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04" + bytes(100), bytes(1000)])
def test_damaged_weights_are_refused(tmp_path, content):
    images = synthetic.generate(20, 10)
    run = make_run(tmp_path / "run", data="generated")
    facts = run.read_summary()
    facts["data"]["sha256"] = images.fingerprint()
    run.write_summary(facts)
    run.best_file.write_bytes(content)
    assert str(run.best_file) in refusal(run, lambda name: images)


# ---- test-time augmentation


def test_the_views_of_an_image_are_itself_its_neighbours_and_their_mirror_images():
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8)
    (same,) = views(images, "none")
    assert np.array_equal(same, images)
    same, mirrored = views(images, "flip")
    assert np.array_equal(same, images) and np.array_equal(mirrored, images[:, :, ::-1])
    shifted = views(images, "flip_shift")
    assert len({view.tobytes() for view in shifted}) == len(shifted) == 10
    for view, (down, right) in zip(shifted[1:5], [(1, 0), (-1, 0), (0, 1), (0, -1)], strict=True):
        moved = np.roll(images, (down, right), (1, 2))
        assert np.array_equal(view[:, 1:-1, 1:-1], moved[:, 1:-1, 1:-1])


def test_averaged_logits_are_those_of_the_views(tmp_path):
    keras = pytest.importorskip("keras")
    from models.network import preprocess
    from tests.conftest import build_vgg

    run = make_run(tmp_path / "run")
    model = build_vgg(seed=0)
    model.save(run.best_file)
    images = synthetic.generate(20, 10).test.images
    by_hand = [np.asarray(model(preprocess(view))) for view in (images, images[:, :, ::-1])]
    averaged = predict(run, images, tta="flip")
    assert np.allclose(averaged, np.mean(by_hand, axis=0), atol=1e-5)
    assert not np.allclose(averaged, by_hand[0], atol=1e-3)
    keras.backend.clear_session()


def test_parts_that_are_predicted_side_by_side_come_in_their_order(tmp_path, monkeypatch):
    tf = pytest.importorskip("tensorflow")
    from tests.conftest import build_vgg

    run = make_run(tmp_path / "run")
    build_vgg(seed=0).save(run.best_file)
    images = synthetic.generate(2_100, 10).train.images
    one_after_the_other = predict(run, images)
    monkeypatch.setattr(tf.config.threading, "get_intra_op_parallelism_threads", lambda: 1)
    monkeypatch.setattr(tf.config.threading, "get_inter_op_parallelism_threads", lambda: 4)
    assert np.allclose(predict(run, images), one_after_the_other, atol=1e-5)


def test_averaged_answers_stand_beside_the_others(tmp_path):
    run = make_run(tmp_path / "run", correct=80)
    labels = np.repeat(np.arange(10), 10)
    run.write_predictions(4.0 * np.eye(10)[np.where(np.arange(100) < 10, 9, labels)], labels, "flip")
    measures = predict_and_load(run, "run", no_data, tta="flip").measures()
    assert (measures["test_accuracy"], measures["tta"], measures["tta_test_accuracy"]) == (0.8, "flip", 0.9)
    without = predict_and_load(run, "run", no_data).measures()
    assert (without["test_accuracy"], without["tta"], without["tta_test_accuracy"]) == (0.8, "none", None)


def test_averaged_answers_that_are_not_there_or_do_not_fit_are_told(tmp_path):
    run = make_run(tmp_path / "run")
    with pytest.raises(UserError, match=r"both best\.keras and predictions-flip\.npz are missing"):
        predict_and_load(run, "run", no_data, tta="flip")
    run.write_predictions(np.zeros((10, 10)), np.arange(10), "flip")
    with pytest.raises(UserError, match="do not fit"):
        predict_and_load(run, "run", no_data, tta="flip")


def test_a_run_in_a_directory_that_cannot_be_written_is_evaluated_as_any_other(tmp_path, monkeypatch):
    dataset = synthetic.generate(20, 10)
    run = make_run(tmp_path / "run", data="generated")
    run.best_file.write_bytes(b"weights")
    run.predictions_file.unlink()
    facts = run.read_summary()
    run.write_summary(facts | {"data": facts["data"] | {"sha256": dataset.fingerprint()}})
    logits = np.random.default_rng(0).normal(0, 5, (10, 10))
    monkeypatch.setattr(predicting, "predict", lambda *arguments: logits)
    written = predict_and_load(run, "run", lambda settings: dataset).measures()
    run.predictions_file.unlink()
    monkeypatch.setattr(predicting.os, "access", lambda path, mode: path != run.path)  # a read-only mount
    assert predict_and_load(run, "run", lambda settings: dataset).measures() == written
    assert predict_and_load(run, "run", lambda settings: dataset, tta="flip").measures()["tta"] == "flip"
    assert not run.predictions_file.exists()


def test_numpys_predictions_replace_no_stored_ones(tmp_path, monkeypatch):
    dataset = synthetic.generate(20, 10)
    run = make_run(tmp_path / "run", data="generated")
    run.best_file.write_bytes(b"weights")
    facts = run.read_summary()
    run.write_summary(facts | {"data": facts["data"] | {"sha256": dataset.fingerprint()}})
    before = run.predictions_file.read_bytes()
    monkeypatch.setattr(predicting, "predict", lambda *arguments: np.eye(10)[dataset.test.labels])
    assert predict_and_load(run, "run", lambda settings: dataset, "numpy").accuracy == 1
    assert run.predictions_file.read_bytes() == before


def test_images_that_are_named_are_those_of_the_run_even_if_it_is_predicted(tmp_path):
    run, others = make_run(tmp_path / "run"), synthetic.generate(20, 10)
    predicting.predict_missing(run, lambda settings: others)
    with pytest.raises(UserError, match="was trained on other images than"):
        predicting.predict_missing(run, lambda settings: others, where=str(tmp_path))
    facts = run.read_summary()
    run.write_summary(facts | {"data": facts["data"] | {"sha256": others.fingerprint()}})
    assert predicting.predict_missing(run, lambda settings: others, where=str(tmp_path)) == {}


def test_a_directory_of_one_cifar_does_not_name_the_images_of_the_other(tmp_path):
    for name, first, other in (
        ("cifar10", "cifar-10-batches-py/data_batch_1", "cifar100"),
        ("cifar100", "cifar-100-python/train", "cifar10"),
    ):
        (tmp_path / name / first).parent.mkdir(parents=True)
        (tmp_path / name / first).touch()
        assert sources.are_named(str(tmp_path / name), Data(name=name))
        assert not sources.are_named(str(tmp_path / name), Data(name=other))
    assert sources.are_named(str(tmp_path), Data(name="cifar10"))  # which is then not found there
    assert not sources.are_named(str(tmp_path), Data(name="synthetic"))


def test_a_directory_that_may_not_be_entered_has_no_weights(tmp_path, monkeypatch):
    run = make_run(tmp_path / "run")

    def denied(*arguments, **options):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "stat", denied)  # which `Path.exists` raises, and `os.path.exists` does not
    monkeypatch.setattr(os, "stat", denied)
    assert not run.has_weights()


# ---- which runs


def test_without_names_every_run_below_is_chosen(tmp_path):
    for name in ("bn/seed0", "plain/seed0"):
        make_run(tmp_path / name)
    assert [run.path for run in finding.select([], tmp_path)] == [tmp_path / "bn/seed0", tmp_path / "plain/seed0"]


def test_without_any_run_the_message_says_how_to_make_one(tmp_path):
    with pytest.raises(UserError) as caught:
        finding.select([], tmp_path)
    assert "python train.py --config plain.yaml" in str(caught.value)
    assert "make demo" in str(caught.value)


def test_named_runs_and_directories_of_runs_are_chosen(tmp_path):
    for name in ("a/seed0", "a/seed1", "b/seed0"):
        make_run(tmp_path / name)
    chosen = finding.select([tmp_path / "b/seed0", tmp_path / "a"], tmp_path)
    assert [run.path.relative_to(tmp_path).as_posix() for run in chosen] == ["b/seed0", "a/seed0", "a/seed1"]


@pytest.mark.parametrize("place", ["absent", "empty", "a" * 300])
def test_a_directory_without_a_run_is_named(tmp_path, place):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError) as caught:
        finding.select([tmp_path / place], tmp_path)
    assert str(tmp_path / place) in str(caught.value)


def test_without_paths_the_runs_of_studies_and_of_the_demo_are_left_out(tmp_path):
    places = ["bn/seed0", "studies/rates/rate=1/seed0", "demo/bn/seed0"]
    runs = [make_run(tmp_path / place) for place in places]
    assert [run.path for run in finding.select([], tmp_path)] == [runs[0].path]
    assert [finding.is_selected(run, tmp_path) for run in runs] == [True, False, False]
    assert not finding.is_selected(runs[0], tmp_path / "elsewhere")


def test_a_run_that_is_named_twice_counts_once(tmp_path, monkeypatch):
    run = make_run(tmp_path / "a/seed0")
    monkeypatch.chdir(tmp_path)
    assert len(finding.select([tmp_path, run.path, run.path.relative_to(tmp_path)], tmp_path)) == 1
