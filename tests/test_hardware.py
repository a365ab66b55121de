"""The precision that "auto" takes on machines of different kinds."""

import pytest

from experiment import config as configuration
from experiment import hardware


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
    ("config", "settings", "cores", "expected", "parts"),
    [
        ("plain", [], 2, {"intra": 1, "inter": 2}, 2),
        ("plain", [], 1, {"intra": 1, "inter": 1}, 1),
        ("plain", ["batch_size=32"], 2, {"intra": 2, "inter": 2}, 1),  # too few images to divide
        ("plain", ["devices=all"], 2, {"intra": 2, "inter": 2}, 1),
        ("bn", [], 2, {"intra": 2, "inter": 2}, 1),
    ],
)
def test_cores_take_parts_of_a_batch_where_that_is_quicker(threads, config, settings, cores, expected, parts):
    hardware.divide_cores(configuration.load(config, settings), cores)
    assert threads == expected
    assert hardware.batch_parts() == parts
    assert hardware.environment()["machine"]["threads"] == cores


def test_threads_that_the_user_chose_are_left_alone(threads, monkeypatch):
    monkeypatch.setenv("TF_NUM_INTRAOP_THREADS", "1")
    hardware.divide_cores(configuration.load("plain"), 2)
    assert threads == {"intra": 0, "inter": 0}
    assert hardware.batch_parts() == 1


@pytest.mark.parametrize(
    ("flags", "expected"),
    [({"avx512_bf16"}, "mixed_bfloat16"), ({"amx_bf16"}, "mixed_bfloat16"), ({"avx2"}, "float32")],
)
def test_auto_precision_is_what_the_processor_has_instructions_for(monkeypatch, flags, expected):
    monkeypatch.setattr(hardware.tf.config, "list_physical_devices", lambda kind: [])
    monkeypatch.setattr(hardware, "_cpu_flags", lambda: flags)
    assert hardware.resolve_precision("auto") == expected
    assert hardware.resolve_precision("float32") == "float32"


@pytest.mark.parametrize(("capability", "expected"), [((9, 0), "mixed_bfloat16"), ((7, 5), "mixed_float16")])
def test_auto_precision_is_what_the_gpu_has_units_for(monkeypatch, capability, expected):
    monkeypatch.setattr(hardware.tf.config, "list_physical_devices", lambda kind: ["gpu"])
    details = {"compute_capability": capability}
    monkeypatch.setattr(hardware.tf.config.experimental, "get_device_details", lambda gpu: details)
    assert hardware.resolve_precision("auto") == expected
