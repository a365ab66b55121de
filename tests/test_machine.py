"""The precision that "auto" takes on machines of different kinds."""

import pytest

from experiment import machine


@pytest.mark.parametrize(
    ("flags", "expected"),
    [({"avx512_bf16"}, "mixed_bfloat16"), ({"amx_bf16"}, "mixed_bfloat16"), ({"avx2"}, "float32")],
)
def test_auto_precision_is_what_the_processor_has_instructions_for(monkeypatch, flags, expected):
    monkeypatch.setattr(machine.tf.config, "list_physical_devices", lambda kind: [])
    monkeypatch.setattr(machine, "_cpu_flags", lambda: flags)
    assert machine.resolve_precision("auto") == expected
    assert machine.resolve_precision("float32") == "float32"


@pytest.mark.parametrize(("capability", "expected"), [((9, 0), "mixed_bfloat16"), ((7, 5), "mixed_float16")])
def test_auto_precision_is_what_the_gpu_has_units_for(monkeypatch, capability, expected):
    monkeypatch.setattr(machine.tf.config, "list_physical_devices", lambda kind: ["gpu"])
    details = {"compute_capability": capability}
    monkeypatch.setattr(machine.tf.config.experimental, "get_device_details", lambda gpu: details)
    assert machine.resolve_precision("auto") == expected
