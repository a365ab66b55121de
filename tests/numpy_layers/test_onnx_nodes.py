"""The node tests of the ONNX backend suite, a standard that no one here wrote, run by the NumPy layers.

The suite is part of the package onnx: its generated node tests, and the models converted from PyTorch's own tests.
Every test of one node, of the operators below, is run, but for those of which the table says why not.

| operator | is here | what does not apply |
| --- | --- | --- |
| Conv | conv2d | one and three dimensions; pads that the output's size decides (auto_pad) with a stride |
| ConvTranspose | conv_transpose2d | one and three dimensions; output_shape and auto_pad, which PyTorch does not have |
| MaxPool | max_pool2d | one and three dimensions; auto_pad; the second output, the indices; pads over half the kernel |
| AveragePool | avg_pool2d | the same, and dilations |
| GlobalMaxPool, GlobalAveragePool | the pooling of a window as large as the map | |
| BatchNormalization | batch_norm | the updated variance: biased in ONNX, unbiased in PyTorch |
| Flatten | flatten, twice: ONNX's result is always a matrix | |
| Gemm | linear | alpha, beta; a C that is no vector with one number for each output |
| Relu, Sigmoid | relu, sigmoid | |
| Softmax, LogSoftmax | softmax, and the log_softmax inside cross_entropy | |
| SoftmaxCrossEntropyLoss | cross_entropy | the second output, the log-probabilities |
| NegativeLogLikelihoodLoss | none | its inputs are no log-probabilities, so that no logits have them as log-softmax |
| MaxRoiPool | roi_pool | there is no test of it in the suite |
| RoiAlign | none | another operator: it interpolates |
"""

import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from numpy_layers import (
    avg_pool2d,
    batch_norm,
    conv2d,
    conv_transpose2d,
    cross_entropy,
    flatten,
    linear,
    max_pool2d,
    relu,
    sigmoid,
    softmax,
)
from numpy_layers.activation import log_softmax

onnx = pytest.importorskip("onnx")


class Node(NamedTuple):
    name: str
    operator: str
    attributes: dict
    inputs: list[np.ndarray | None]
    outputs: list[np.ndarray]
    tolerance: dict


@pytest.fixture(scope="module")
def nodes() -> list[Node]:
    """Every test of the suite that is one node of the operators in `ADAPTERS`."""
    from onnx.backend.test import loader

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # those of its own generators
        kinds = ("node", "pytorch-converted", "pytorch-operator")
        cases = [case for kind in kinds for case in loader.load_model_tests(kind=kind)]
    return [node for case in cases if (node := single_node(case)) is not None]


def single_node(case) -> Node | None:
    model = case.model or onnx.load(str(Path(case.model_dir) / "model.onnx"))
    if len(model.graph.node) != 1 or model.graph.node[0].op_type not in ADAPTERS:
        return None
    (node,) = model.graph.node
    values = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    inputs, outputs = case.data_sets[0] if case.data_sets else kept_data(Path(case.model_dir) / "test_data_set_0")
    values |= zip([value.name for value in model.graph.input if value.name not in values], inputs, strict=True)
    attributes = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}
    attributes["opset"] = model.opset_import[0].version
    tolerance = {"rtol": case.rtol, "atol": case.atol}
    return Node(case.name, node.op_type, attributes, [values.get(name) for name in node.input], outputs, tolerance)


def kept_data(folder: Path) -> tuple[list[np.ndarray], list[np.ndarray]]:
    def read(kind: str) -> list[np.ndarray]:
        files = sorted(folder.glob(f"{kind}_*.pb"), key=lambda file: int(file.stem.split("_")[1]))
        return [onnx.numpy_helper.to_array(onnx.load_tensor(str(file))) for file in files]

    return read("input"), read("output")


# ---- each operator as a call of ours ---------------------------------------------------------------------------------


class DoesNotApply(Exception):
    """ONNX asks for something that the PyTorch function of this name does not have."""


def require(condition: bool, reason: str) -> None:
    if not condition:
        raise DoesNotApply(reason)


def window(attributes: dict, input: np.ndarray) -> dict:
    """Stride and padding of a convolution or pooling, in PyTorch's names."""
    require(input.ndim == 4, "not two-dimensional")
    require(attributes.get("auto_pad", b"NOTSET") in (b"NOTSET", b"VALID"), "auto_pad")
    pads = attributes.get("pads", [0, 0, 0, 0])
    require(pads[:2] == pads[2:], "uneven pads")
    return {"stride": tuple(attributes.get("strides", (1, 1))), "padding": tuple(pads[:2])}


def convolution(attributes, input, weight, bias=None):
    options = window(attributes, input) | {"dilation": tuple(attributes.get("dilations", (1, 1)))}
    return [conv2d(input, weight, bias, groups=attributes.get("group", 1), **options)]


def transposed(attributes, input, weight, bias=None):
    require("output_shape" not in attributes, "output_shape")
    options = window(attributes, input) | {"dilation": tuple(attributes.get("dilations", (1, 1)))}
    more = tuple(attributes.get("output_padding", (0, 0)))
    return [conv_transpose2d(input, weight, bias, output_padding=more, groups=attributes.get("group", 1), **options)]


def pooling_options(attributes, input) -> dict:
    kernel = tuple(attributes["kernel_shape"])
    options = window(attributes, input) | {"kernel_size": kernel, "ceil_mode": bool(attributes.get("ceil_mode"))}
    if any(2 * pad > size for pad, size in zip(options["padding"], kernel, strict=True)):
        with pytest.raises(ValueError, match="at most half of kernel_size"):
            max_pool2d(input, **options)
        raise DoesNotApply("pads over half the kernel")
    return options


def max_pooling(attributes, input):
    dilation = tuple(attributes.get("dilations", (1, 1)))
    return [max_pool2d(input, dilation=dilation, **pooling_options(attributes, input))]


def average_pooling(attributes, input):
    require(set(attributes.get("dilations", [1])) == {1}, "dilations")
    counted = bool(attributes.get("count_include_pad"))
    return [avg_pool2d(input, count_include_pad=counted, **pooling_options(attributes, input))]


def normalization(attributes, input, weight, bias, mean, variance):
    training = bool(attributes.get("training_mode"))
    mean, variance = mean.copy(), variance.copy()
    momentum = 1 - attributes.get("momentum", 0.9)  # ONNX's is the share that stays
    eps = attributes.get("epsilon", 1e-5)
    output = batch_norm(input, mean, variance, weight, bias, training, momentum, eps)
    return [output, mean] if training else [output]


def as_matrix(attributes, input):
    axis = attributes.get("axis", 1) % input.ndim
    return [flatten(flatten(input[None], axis + 1), 0, axis)]


def connected(attributes, a, b, c=None):
    require(attributes.get("alpha", 1) == attributes.get("beta", 1) == 1, "alpha, beta")
    a = a.T if attributes.get("transA") else a
    b = b if attributes.get("transB") else b.T
    require(c is None or (c.size == len(b) and c.shape[-1:] == (len(b),)), "C is no vector")
    return [linear(a, b, None if c is None else c.ravel())]


def along(function):
    def adapter(attributes, input):
        default = -1 if attributes["opset"] >= 13 else 1
        return [function(input, attributes.get("axis", default))]

    return adapter


def loss(attributes, input, target, weight=None):
    options = {"ignore_index": attributes.get("ignore_index", -100), "reduction": attributes["reduction"].decode()}
    return [cross_entropy(input, target, weight, **options)]


ADAPTERS = {  # and how many of the suite's tests apply, so that none is left out unseen
    "Conv": (convolution, 17),
    "ConvTranspose": (transposed, 9),
    "MaxPool": (max_pooling, 12),
    "AveragePool": (average_pooling, 9),
    "GlobalMaxPool": (lambda attributes, input: [max_pool2d(input, input.shape[2:])], 2),
    "GlobalAveragePool": (lambda attributes, input: [avg_pool2d(input, input.shape[2:])], 2),
    "BatchNormalization": (normalization, 9),
    "Flatten": (as_matrix, 11),
    "Gemm": (connected, 6),
    "Relu": (lambda attributes, input: [relu(input)], 2),
    "Sigmoid": (lambda attributes, input: [sigmoid(input)], 3),
    "Softmax": (along(softmax), 10),
    "LogSoftmax": (along(log_softmax), 10),
    "SoftmaxCrossEntropyLoss": (loss, 34),
}


@pytest.mark.parametrize("operator", ADAPTERS)
def test_nodes(operator, nodes):
    adapter, expected = ADAPTERS[operator]
    passed, left_out = [], {}
    for node in nodes:
        if node.operator != operator:
            continue
        try:
            answers = adapter(node.attributes, *node.inputs)
        except DoesNotApply as reason:
            left_out[node.name] = str(reason)
            continue
        for ours, theirs in zip(answers, node.outputs, strict=False):  # outputs that we do not have come last
            np.testing.assert_allclose(ours, theirs, **node.tolerance, err_msg=node.name)
            assert ours.dtype == theirs.dtype
        passed.append(node.name)
    assert len(passed) >= expected, left_out
