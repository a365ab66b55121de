"""One way to start, resume or finish a run, with the same guards and bits for the command and for Python."""

import contextlib
import shutil
from contextlib import nullcontext

import pytest

from experiment import config as configuration
from experiment.data import synthetic
from experiment.errors import UserError
from experiment.run_directory import RunDirectory
from experiment.training import loop, start
from tests.conftest import make_run

SMALL = ["epochs=3"]  # those of `make_run`


def test_where_there_is_no_run_one_is_started(tmp_path):
    config, run = configuration.load("plain.yaml"), RunDirectory(tmp_path / "run")
    assert [start.plan(config, run, existing) for existing in ("refuse", "overwrite", "finish")] == ["start"] * 3
    with pytest.raises(UserError, match="contains no run to resume"):
        start.plan(config, run, "resume")
    with pytest.raises(UserError, match="existing: 'overwrit' is none of refuse, resume, overwrite, finish"):
        start.plan(config, run, "overwrit")
    assert not run.path.exists()


def test_a_finished_run_is_refused_kept_or_replaced(tmp_path):
    config, run = configuration.load("plain.yaml", SMALL), make_run(tmp_path / "run")
    before = {file: file.read_bytes() for file in run.path.iterdir()}
    with pytest.raises(UserError, match=r"already contains a run.*--resume.*--overwrite"):
        start.plan(config, run)
    with pytest.raises(UserError, match="is finished"):
        start.plan(config, run, "resume")
    assert start.plan(config, run, "finish") == "finished"
    assert start.plan(config, run, "overwrite") == "start"
    assert {file: file.read_bytes() for file in run.path.iterdir()} == before


def test_a_run_that_was_stopped_is_resumed_by_the_same_configuration_alone(tmp_path):
    run = make_run(tmp_path / "run", status="interrupted")
    for existing in ("resume", "finish"):
        assert start.plan(configuration.load("plain.yaml", SMALL), run, existing) == "resume"
        with pytest.raises(UserError, match="batch_size: 128 in the run, 64 now"):
            start.plan(configuration.load("plain.yaml", [*SMALL, "batch_size=64"]), run, existing)


def test_a_run_on_other_images_is_neither_resumed_nor_taken_for_finished(tmp_path):
    for status in ("interrupted", "finished"):
        run = make_run(tmp_path / status, "data.name=synthetic", status=status)
        config = configuration.load("plain.yaml", [*SMALL, "data.name=synthetic"])
        with pytest.raises(UserError, match="was trained on other images"):
            start.train(config, run, synthetic.generate(500, 100), "finish")


def test_a_run_is_not_replaced_by_one_that_cannot_begin(tmp_path):
    """That the last batch is smaller than the ghost batches is noticed late, when the model is built."""
    run = make_run(tmp_path / "run")
    before = {file: file.read_bytes() for file in run.path.iterdir()}
    config = configuration.load(
        "bn.yaml", ["model.ghost_batches=16", "batch_size=16", "epochs=1", "schedule.warmup_epochs=0"]
    )
    with pytest.raises(UserError, match="ghost_batches: 16 is more than the 12 images of a last batch"):
        start.train(config, run, synthetic.generate(60, 10), "overwrite", "quiet")
    assert {file: file.read_bytes() for file in run.path.iterdir()} == before


def test_a_run_that_lost_its_checkpoint_is_not_begun_anew(tmp_path):
    run = make_run(tmp_path / "run", status="interrupted", epochs=2)
    config = run.read_config()
    assert start.plan(config, run, "resume") == "resume"  # a copy without weights: there is nothing to lose
    run.best_file.write_bytes(b"weights")
    with pytest.raises(UserError, match=r"state\.npz is missing.*--overwrite"):
        start.plan(config, run, "resume")


def test_a_second_training_in_one_directory_is_refused(tmp_path, images):
    run = RunDirectory(tmp_path / "run")
    run.prepare()
    with run.locked(), pytest.raises(UserError, match="another training is running"):
        start.train(configuration.load("plain.yaml", ["epochs=1"]), run, images)
    assert not run.exists()


@pytest.mark.parametrize("existing", ["finish", "refuse"])
def test_a_run_that_another_process_ends_meanwhile_is_not_trained_again(tmp_path, monkeypatch, existing):
    images, run = synthetic.generate(60, 10), RunDirectory(tmp_path / "run")
    config, its = configuration.load("plain.yaml", SMALL).on_data("synthetic"), images

    @contextlib.contextmanager
    def locked(self, wait):
        assert wait == (existing == "finish")
        theirs = make_run(run.path, "data.name=synthetic", data="synthetic")
        theirs.write_config(config)
        facts = theirs.read_summary()
        theirs.write_summary(facts | {"data": facts["data"] | {"sha256": its.fingerprint()}})
        yield

    monkeypatch.setattr(RunDirectory, "locked", locked)
    monkeypatch.setattr(loop, "fit", pytest.fail)
    expected = pytest.raises(UserError, match="already contains a run") if existing == "refuse" else nullcontext()
    with expected:
        assert start.train(config, run, images, existing, "quiet")["status"] == "finished"
    if existing == "finish":
        shutil.rmtree(run.path)
        its = synthetic.generate(50, 10)
        with pytest.raises(UserError, match="was trained on other images"):
            start.train(config, run, images, existing, "quiet")
