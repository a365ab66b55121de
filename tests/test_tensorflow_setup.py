"""What TensorFlow and Keras are told before and after they are imported, and the cores that there are."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from experiment import tensorflow_setup
from experiment.errors import UserError

ROOT = Path(__file__).resolve().parent.parent
ONEDNN = "TF_ENABLE_ONEDNN_OPTS"


@pytest.mark.parametrize(
    ("processor", "users", "expected"),
    [("x86_64", None, "1"), ("AMD64", None, "1"), ("x86_64", "0", "0"), ("arm64", None, None)],
)
def test_onednn_is_on_where_it_is_quicker_and_the_user_has_not_said_otherwise(monkeypatch, processor, users, expected):
    monkeypatch.setattr(tensorflow_setup.platform, "machine", lambda: processor)
    monkeypatch.setattr(os, "environ", {} if users is None else {ONEDNN: users})
    tensorflow_setup.set_environment()
    assert os.environ.get(ONEDNN) == expected


@pytest.mark.parametrize("name", ["TF_XLA_FLAGS", "ONEDNN_DEFAULT_FPMATH_MODE", "TF_ENABLE_AUTO_MIXED_PRECISION"])
def test_a_variable_that_would_change_a_run_is_not_heard(monkeypatch, name):
    monkeypatch.setattr(os, "environ", {name: "1"})
    tensorflow_setup.set_environment()
    assert name not in os.environ


def test_settings_of_keras_and_numpy_are_this_projects_whatever_the_user_has(tmp_path):
    odd = {"floatx": "float16", "image_data_format": "channels_first", "epsilon": 0.1, "backend": "jax"}
    (tmp_path / "keras.json").write_text(json.dumps(odd | {"nnx_enabled": True}))
    code = """
import numpy
numpy.seterr(all="raise")
from experiment import tensorflow_setup
tensorflow_setup.start()
import keras
print(keras.config.backend(), keras.config.floatx(), keras.config.image_data_format(), keras.config.epsilon(),
      keras.config.dtype_policy().name, keras.config.max_epochs(), numpy.geterr()["under"])
"""
    users = {"KERAS_HOME": str(tmp_path), "KERAS_BACKEND": "torch", "KERAS_MAX_EPOCHS": "1"}
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, cwd=ROOT, env=os.environ | users, capture_output=True, text=True, timeout=300)
    assert result.stdout.split() == ["tensorflow", "float32", "channels_last", "1e-07", "float32", "None", "ignore"]
    assert result.stderr == ""


def test_a_process_in_which_keras_runs_on_something_else_is_told(monkeypatch):
    import keras

    monkeypatch.setattr(keras.config, "backend", lambda: "jax")
    with pytest.raises(UserError, match="jax"):
        tensorflow_setup.start()


# ---- cores


@pytest.fixture
def cores(tmp_path, monkeypatch):
    """Counts the cores of a machine of 64 by files like those of Linux."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(64)), raising=False)

    def count(mine: str, **files: str) -> int:
        (tmp_path / "mine").write_text(mine)
        for name, content in files.items():
            file = tmp_path / "groups" / name.replace("__", "/").replace("_DOT_", ".")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(content)
        return tensorflow_setup.available_cores(tmp_path / "groups", tmp_path / "mine")

    return count


@pytest.mark.parametrize(
    ("quota", "expected"),
    [("max 100000", 64), ("100000 100000", 1), ("150000 100000", 2), ("20000 100000", 1), ("9999999 100000", 64),
     ("-1 100000", 64), ("", 64), ("100000 0", 64), ("nonsense", 64)],
)  # fmt: skip
def test_a_quota_of_version_2_counts_as_cores(cores, quota, expected):
    assert cores("0::/\n", cpu_DOT_max=quota) == expected


def test_a_group_around_the_processs_counts_too(cores):
    quotas = {"a__b__cpu_DOT_max": "max 100000", "a__cpu_DOT_max": "300000 100000", "c__cpu_DOT_max": "100000 100000"}
    assert cores("0::/a/b\n", **quotas) == 3


@pytest.mark.parametrize("controllers", ["cpu", "cpu,cpuacct"])
@pytest.mark.parametrize("place", ["/docker/abc", "/"])  # in a container the files may stand at the root
def test_a_quota_of_version_1_counts_as_cores(cores, controllers, place):
    folder = "cpu" if place == "/" else controllers + "__docker__abc"
    files = {f"{folder}__cpu_DOT_cfs_quota_us": "250000\n", f"{folder}__cpu_DOT_cfs_period_us": "100000\n"}
    assert cores(f"5:cpuset:{place}\n4:{controllers}:{place}\n0::/\n", **files) == 3


@pytest.mark.parametrize("mine", ["", "nonsense\n", "0::/nowhere\n", "1:memory:/\n"])
def test_without_a_quota_all_cores_count(cores, mine):
    assert cores(mine) == 64


def test_without_control_groups_all_cores_count(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 1, 2}, raising=False)
    assert tensorflow_setup.available_cores(tmp_path, tmp_path / "none") == 3
