"""What TensorFlow is told before it is imported."""

import os

import pytest

from experiment import tensorflow_setup

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
