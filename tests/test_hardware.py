"""The precision that "auto" takes on machines of different kinds."""

import os
import subprocess

import pytest

from experiment import config as configuration
from experiment import hardware
from experiment.data import synthetic


@pytest.fixture
def threads(monkeypatch):
    """What was asked of TensorFlow, which takes no other number once it has begun."""
    asked = {"intra": 0, "inter": 0}
    for kind in asked:
        name = f"{kind}_op_parallelism_threads"
        monkeypatch.setattr(hardware.tf.config.threading, f"set_{name}", lambda n, kind=kind: asked.update({kind: n}))
        monkeypatch.setattr(hardware.tf.config.threading, f"get_{name}", lambda kind=kind: asked[kind])
    monkeypatch.setattr(hardware.tf.config, "list_physical_devices", lambda kind: [])
    monkeypatch.delenv("TF_NUM_INTRAOP_THREADS", raising=False)
    return asked


@pytest.mark.parametrize(
    ("config", "settings", "count", "expected", "shards"),
    [
        ("plain", [], 2, {"intra": 1, "inter": 2}, 2),
        ("plain", [], 1, {"intra": 1, "inter": 1}, 1),
        ("plain", ["batch_size=32"], 2, {"intra": 2, "inter": 2}, 1),  # too few images to divide
        ("plain", ["batch_size=64", "data.training_images=129"], 2, {"intra": 2, "inter": 2}, 1),  # the last has one
        ("plain", ["data.validation_images=1"], 2, {"intra": 2, "inter": 2}, 1),  # and that of validation
        ("plain", ["devices=all"], 2, {"intra": 2, "inter": 2}, 1),
        ("bn", [], 2, {"intra": 2, "inter": 2}, 1),
    ],
)
def test_cores_take_shards_of_a_batch_where_that_is_quicker(threads, config, settings, count, expected, shards):
    cores = hardware.set_threads(
        hardware.choose_cores(configuration.load(config, settings), synthetic.generate(250, 10), count)
    )
    assert threads == expected
    assert cores == hardware.Cores(count, shards)


def test_threads_that_the_user_chose_are_left_alone(threads, monkeypatch):
    monkeypatch.setenv("TF_NUM_INTRAOP_THREADS", "1")
    assert hardware.set_threads(hardware.Cores(2, 2)) == hardware.Cores(1)
    assert threads == {"intra": 0, "inter": 0}


def test_a_tensorflow_that_runs_already_keeps_its_threads(threads, monkeypatch):
    def begun(number):
        raise RuntimeError("cannot be modified after initialization")

    monkeypatch.setattr(hardware.tf.config.threading, "set_intra_op_parallelism_threads", begun)
    for within, across, expected in ((1, 4, hardware.Cores(4, 4)), (3, 3, hardware.Cores(3))):
        threads.update(intra=within, inter=across)
        assert hardware.set_threads(hardware.Cores(2, 2)) == expected


@pytest.mark.parametrize(
    ("flags", "expected"),
    [({"avx512_bf16"}, "mixed_bfloat16"), ({"amx_bf16"}, "mixed_bfloat16"), ({"avx2"}, "float32")],
)
def test_auto_precision_is_what_the_processor_has_instructions_for(monkeypatch, flags, expected):
    monkeypatch.setattr(hardware.tf.config, "list_physical_devices", lambda kind: [])
    monkeypatch.setattr(hardware, "_cpuinfo", lambda key: " ".join(flags))
    assert hardware.resolve_precision("auto") == expected
    assert hardware.resolve_precision("float32") == "float32"


@pytest.mark.parametrize(("capability", "expected"), [((9, 0), "mixed_bfloat16"), ((7, 5), "mixed_float16")])
def test_auto_precision_is_what_the_gpu_has_units_for(monkeypatch, capability, expected):
    monkeypatch.setattr(hardware.tf.config, "list_physical_devices", lambda kind: ["gpu"])
    details = {"compute_capability": capability, "device_name": "NVIDIA L4"}
    monkeypatch.setattr(hardware.tf.config.experimental, "get_device_details", lambda gpu: details)
    assert hardware.resolve_precision("auto") == expected
    assert hardware.environment()["machine"]["gpus"] == "NVIDIA L4"


# ---- the commit


@pytest.fixture
def repository(tmp_path):
    """Makes a repository of one commit, and returns its root."""
    nobody = {f"GIT_{who}_{what}": "n@o" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    nobody |= {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "GIT_CONFIG_NOSYSTEM": "1"}  # no settings of a user

    def make(name: str):
        root = tmp_path / name
        (root / "project").mkdir(parents=True)
        for command in (["init", "-q"], ["commit", "-q", "--allow-empty", "-m", "first"]):
            subprocess.run(["git", *command], cwd=root, env=nobody, check=True)
        return root

    return make


def test_the_commit_is_the_projects_own(repository, monkeypatch):
    root, other = repository("one"), repository("other")
    commit = hardware.git_commit(root)
    assert len(commit) >= 7 and int(commit, 16)
    monkeypatch.setenv("GIT_DIR", str(other / ".git"))
    assert hardware.git_commit(root) == commit
    monkeypatch.setenv("GIT_WORK_TREE", str(other))
    assert hardware.git_commit(root) == commit


def test_a_project_that_is_no_repository_has_no_commit_though_it_lies_in_one(repository, monkeypatch):
    root = repository("somebody")
    assert hardware.git_commit(root / "project") is None
    (root / "project" / ".git").mkdir()  # as an archive may hold it
    assert hardware.git_commit(root / "project") is None
    monkeypatch.setenv("GIT_DIR", str(root / ".git"))
    assert hardware.git_commit(root / "project") is None


def test_without_git_there_is_no_commit(monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert hardware.git_commit() is None


def test_a_gpu_that_tensorflow_does_not_find_is_told(tmp_path, monkeypatch):
    device = tmp_path / "nvidia0"
    assert not hardware.has_unused_gpu(str(device))
    device.touch()
    monkeypatch.setattr(hardware.tf.config, "list_physical_devices", lambda kind: [])
    assert hardware.has_unused_gpu(str(device))
    monkeypatch.setattr(hardware.tf.config, "list_physical_devices", lambda kind: ["a GPU"])
    assert not hardware.has_unused_gpu(str(device))
