"""The NumPy layers against golden results, TensorFlow and PyTorch, at their edges, and in their refusals."""

import warnings

import numpy as np
import pytest

import numpy_layers
from layer_checks import golden, random_cases
from layer_checks.random_cases import Case
from layer_checks.references import tensorflow_results, torch_results, unusable
from numpy_layers import (
    avg_pool2d,
    batch_norm,
    conv2d,
    conv_transpose2d,
    cross_entropy,
    flatten,
    linear,
    max_pool2d,
    mse_loss,
    relu,
    roi_pool,
    sigmoid,
    softmax,
)

MADE_WITH, GOLDEN_CASES, GOLDEN_RESULTS = golden.load()
TOLERANCE = {"float32": 1e-5, "float64": 1e-10}  # relative to the largest number of an result, where that is over 1
MAPS = np.arange(32, dtype=np.float32).reshape(1, 2, 4, 4)
KERNEL = np.ones((3, 2, 3, 3), np.float32)


def our_results(case: Case, precision: str) -> list[np.ndarray]:
    """Ours, which change no argument but the running averages, as `results` checks, and keep the precision."""
    results = case.results(getattr(numpy_layers, case.layer), precision)
    assert all(result.dtype == precision for result in results)
    return results


def assert_agree(case: Case, precision: str, theirs: list[np.ndarray]) -> None:
    _, relative = random_cases.differences(our_results(case, precision), theirs)
    shapes = {name: array.shape for name, array in case.arrays.items()}
    assert relative <= TOLERANCE[precision], f"{case.layer} differs by {relative}: {case.options}, {shapes}"


# ---- random cases ----------------------------------------------------------------------------------------------------


def test_the_golden_cases_are_many_and_say_what_made_them():
    assert len(GOLDEN_CASES) >= 500
    assert {case.layer for case in GOLDEN_CASES} == set(random_cases.LAYERS) == set(numpy_layers.__all__)
    assert "torchvision" in MADE_WITH


@pytest.mark.parametrize("precision", random_cases.PRECISIONS)
@pytest.mark.parametrize("layer", random_cases.LAYERS)
def test_golden_results(layer, precision):
    for case, theirs in zip(GOLDEN_CASES, GOLDEN_RESULTS[precision], strict=True):
        if case.layer == layer:
            assert_agree(case, precision, theirs)


@pytest.mark.parametrize("precision", random_cases.PRECISIONS)
@pytest.mark.parametrize("layer", [layer for layer in random_cases.LAYERS if layer != "roi_pool"])
def test_tensorflow(layer, precision):
    compared = 0
    for case in random_cases.generate(layer, 120, seed=5):
        if (theirs := tensorflow_results(case, precision)) is not None:
            assert_agree(case, precision, theirs)
            compared += 1
    assert compared >= 18


@pytest.mark.filterwarnings("ignore::UserWarning")  # PyTorch's, that padding "same" can be slow
@pytest.mark.parametrize("precision", random_cases.PRECISIONS)
@pytest.mark.parametrize("layer", random_cases.LAYERS)
def test_pytorch(layer, precision):
    if reason := unusable("torchvision" if layer == "roi_pool" else "torch"):
        pytest.skip(reason)
    for case in random_cases.generate(layer, 100, seed=6):
        assert_agree(case, precision, torch_results(case, precision))


def test_the_cases_meet_every_option():
    values: dict[tuple[str, str], set[str]] = {}
    for case in GOLDEN_CASES:
        for name, value in case.options.items():
            kind = value if isinstance(value, str | bool) else type(value).__name__
            values.setdefault((case.layer, name), set()).add(str(kind))
    assert values["conv2d", "padding"] == {"same", "valid", "int", "tuple"}
    assert values["avg_pool2d", "count_include_pad"] == values["max_pool2d", "ceil_mode"] == {"True", "False"}
    assert values["cross_entropy", "reduction"] == {"none", "sum", "mean"}
    for layer, option in [("max_pool2d", "dilation"), ("conv2d", "dilation"), ("conv_transpose2d", "stride")]:
        assert values[layer, option] == {"int", "tuple"}
    for layer, option in [("conv2d", "groups"), ("conv_transpose2d", "groups"), ("cross_entropy", "ignore_index")]:
        assert values[layer, option] == {"int"}
    assert any(case.arrays["input"].shape[0] == 0 for case in GOLDEN_CASES if case.layer == "conv2d")


# ---- edges -----------------------------------------------------------------------------------------------------------


def test_empty_batches():
    maps = np.zeros((0, 2, 4, 4), np.float32)
    assert max_pool2d(maps, 2).shape == avg_pool2d(maps, 2).shape == (0, 2, 2, 2)
    assert conv2d(maps, KERNEL).shape == (0, 3, 2, 2)
    assert conv2d(maps, np.ones((4, 1, 3, 3)), padding="same", groups=2).shape == (0, 4, 4, 4)
    assert conv_transpose2d(maps, np.ones((2, 3, 3, 3)), stride=2).shape == (0, 3, 9, 9)
    assert flatten(maps, 1).shape == (0, 32)
    assert roi_pool(maps, np.zeros((0, 5)), 3).shape == roi_pool(MAPS, np.zeros((0, 5)), 3).shape == (0, 2, 3, 3)
    assert sigmoid(maps).shape == relu(maps).shape == softmax(maps, 1).shape == maps.shape
    assert linear(maps, np.ones((5, 4))).shape == (0, 2, 4, 5)
    assert cross_entropy(np.zeros((0, 3)), np.zeros(0, int), reduction="sum") == 0
    assert np.isnan(cross_entropy(np.zeros((0, 3)), np.zeros(0, int)))
    assert np.isnan(mse_loss(np.zeros((0, 3)), np.zeros((0, 3))))
    mean, variance = np.zeros(2), np.ones(2)
    assert batch_norm(maps, mean, variance, training=True).shape == maps.shape
    assert mean.tolist() == [0, 0] and variance.tolist() == [1, 1]


def test_sigmoid_is_exact_at_infinity_and_warns_nowhere():
    with warnings.catch_warnings(), np.errstate(all="raise", under="ignore"):
        warnings.simplefilter("error")
        for precision in random_cases.PRECISIONS:
            values = sigmoid(np.array([-np.inf, -1e4, -800, 0, 800, 1e4, np.inf], precision))
            assert values.tolist() == [0, 0, 0, 0.5, 1, 1, 1]
            assert values.dtype == precision
        assert np.isnan(sigmoid(np.array([np.nan])))


@pytest.mark.parametrize("precision", random_cases.PRECISIONS)
def test_cross_entropy_of_huge_logits_is_finite(precision):
    logits = np.array([[1e4, -1e4, 0], [-1e4, 1e4, 1e4]], precision)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        losses = cross_entropy(logits, np.array([1, 1]), reduction="none")
        smoothed = cross_entropy(logits, np.array([0, 2]), label_smoothing=0.1)
    np.testing.assert_allclose(losses, [2e4, np.log(2)], rtol=1e-6)
    assert np.isfinite(smoothed) and smoothed.dtype == precision
    np.testing.assert_allclose(softmax(logits, 1), [[1, 0, 0], [0, 0.5, 0.5]])


def test_cross_entropy_ignores_and_weighs():
    logits, weight = np.log(np.array([[0.5, 0.5], [0.25, 0.75], [0.1, 0.9]])), np.array([1.0, 3.0])
    expected = [np.log(2), 0, -3 * np.log(0.9)]
    target = np.array([0, -7, 1])
    losses = cross_entropy(logits, target, weight, ignore_index=-7, reduction="none")
    np.testing.assert_allclose(losses, expected)
    np.testing.assert_allclose(cross_entropy(logits, target, weight, ignore_index=-7), np.sum(expected) / 4)
    assert np.isnan(cross_entropy(logits, np.full(3, -100)))
    one_hot = np.eye(2)[[0, 1, 1]]
    np.testing.assert_allclose(cross_entropy(logits, one_hot), cross_entropy(logits, np.array([0, 1, 1])))


def test_a_window_that_would_start_in_the_padding_is_left_out():
    maps = MAPS[:, :1, :3, :3]
    # Rounded up, three windows: they start at -1, 2 and 5, the last beyond the input.
    assert max_pool2d(maps, 2, stride=3, padding=1, ceil_mode=True).shape == (1, 1, 2, 2)
    assert max_pool2d(maps, 2, ceil_mode=True).shape == (1, 1, 2, 2)
    # The last window holds one pixel and what lies beyond the input, which is not counted.
    assert avg_pool2d(maps, 2, ceil_mode=True)[0, 0, 1, 1] == maps[0, 0, 2, 2]


def test_what_is_padded_never_wins_a_maximum():
    assert max_pool2d(-1 - MAPS, 3, 1, padding=1).max() == -1
    assert max_pool2d(np.full((1, 1, 2, 2), -200, np.int16), 2, padding=1).max() == -200


def test_same_padding_puts_the_odd_row_last():
    image = np.arange(4.0).reshape(1, 1, 1, 4)
    result = conv2d(image, np.array([[[[1.0, 10.0]]]]), padding="same")
    assert result.ravel().tolist() == [10, 21, 32, 3]


def test_a_transposed_convolution_is_the_adjoint_of_the_convolution():
    rng = np.random.default_rng(0)
    options = {"stride": (2, 3), "padding": (1, 2), "dilation": (2, 1), "groups": 2}
    maps, kernel = rng.normal(size=(2, 4, 9, 11)), rng.normal(size=(6, 2, 3, 4))
    forward = conv2d(maps, kernel, **options)
    other = rng.normal(size=forward.shape)
    back = conv_transpose2d(other, kernel, output_padding=(0, 2), **options)
    assert back.shape == maps.shape
    np.testing.assert_allclose(np.vdot(forward, other), np.vdot(maps, back))


def test_roi_pool_rounds_halves_away_from_zero_and_fills_empty_bins_with_zero():
    maps = np.arange(1.0, 17).reshape(1, 1, 4, 4)

    def pooled(*box, size=1):
        return roi_pool(maps, np.array([[0, *box]]), size)[0, 0].tolist()

    assert pooled(0.5, 0, 2.5, 0) == [[4]]  # columns 1 to 3
    assert pooled(0, 0, 0.49, 0.49) == [[1]]
    assert pooled(-0.5, 0, -0.5, 0) == [[0]]  # column -1, outside
    assert pooled(9, 9, 12, 12, size=2) == [[0, 0], [0, 0]]
    assert pooled(2, 2, 1, 1) == [[11]]  # malformed: one pixel
    assert pooled(0, 0, 2, 2, size=2) == [[6, 7], [10, 11]]  # three pixels in two bins: they share the middle one


def test_batch_norm_updates_by_the_unbiased_variance():
    values = np.array([[1.0], [2.0], [6.0]])
    mean, variance = np.array([0.0]), np.array([1.0])
    batch_norm(values, mean, variance, training=True, momentum=0.5)
    assert (mean[0], variance[0]) == (1.5, 0.5 + 0.5 * values.var(ddof=1))
    before = mean.copy(), variance.copy()
    batch_norm(values, mean, variance)
    assert (mean, variance) == before


def test_lists_are_taken_as_float64_and_weights_in_the_inputs_precision():
    assert conv2d(MAPS, KERNEL.astype(np.float64), [1.0, 2.0, 3.0]).dtype == np.float32
    assert mse_loss([1.0, 2.0], [1.0, 4.0]) == 2
    assert relu([-1.0, 2.0]).tolist() == [0, 2]


def test_a_result_shares_no_memory_with_the_input():
    for result in (max_pool2d(MAPS, 1), avg_pool2d(MAPS, 1), relu(MAPS), conv2d(MAPS, np.ones((2, 2, 1, 1)))):
        assert not np.shares_memory(result, MAPS)


# ---- refusals --------------------------------------------------------------------------------------------------------

ONES = np.ones(2, np.float32)
REFUSALS = [  # the call, and what its message must hold: the argument, its value, what was expected
    (lambda: max_pool2d(MAPS[0, 0], 2), "the shape of input is (4, 4); expected (n, c, h, w)"),
    (lambda: max_pool2d(MAPS, 0), "kernel_size is 0; expected a whole number, 1 or more"),
    (lambda: max_pool2d(MAPS, 2.5), "kernel_size is 2.5; expected a whole number, 1 or more"),
    (lambda: max_pool2d(MAPS, (2, 2, 2)), "kernel_size is (2, 2, 2); expected an int or a pair of ints"),
    (lambda: max_pool2d(MAPS, 3, padding=2), "padding is (2, 2); expected at most half of kernel_size (3, 3)"),
    (lambda: max_pool2d(MAPS, 2, padding=-1), "padding is -1; expected a whole number, 0 or more"),
    (lambda: max_pool2d(MAPS, 2, stride=0), "stride is 0"),
    (lambda: max_pool2d(MAPS, 2, dilation=(1, 0)), "dilation is 0"),
    (lambda: max_pool2d(MAPS, 5), "input's height and width is (4, 4); expected at least the kernel's extent (5, 5)"),
    (lambda: avg_pool2d(MAPS.astype(int), 2), "the dtype of input is 'int64'; expected floating point"),
    (lambda: avg_pool2d(MAPS, 2, padding=(0, 2)), "padding is (0, 2)"),
    (lambda: avg_pool2d(MAPS, 2, divisor_override=0), "divisor_override is 0"),
    (lambda: conv2d(MAPS, KERNEL[:, :1]), "the shape of weight is (3, 1, 3, 3); expected (o, 2, kernel_h, kernel_w)"),
    (lambda: conv2d(MAPS, KERNEL[0]), "the shape of weight is (2, 3, 3)"),
    (lambda: conv2d(MAPS, KERNEL, ONES), "the shape of bias is (2,); expected (3)"),
    (lambda: conv2d(MAPS, KERNEL, groups=3), "groups is 3; expected a divisor of the 2 channels of input"),
    (lambda: conv2d(MAPS, KERNEL[:, :1], groups=2), "groups is 2; expected a divisor of the 3 outputs of weight"),
    (lambda: conv2d(MAPS, KERNEL, groups=0), "groups is 0"),
    (lambda: conv2d(MAPS, KERNEL, padding="full"), "padding is 'full'; expected"),
    (lambda: conv2d(MAPS, KERNEL, padding="same", stride=2), "stride is (2, 2); expected 1"),
    (lambda: conv2d(MAPS, KERNEL, dilation=2), "is (4, 4); expected at least the kernel's extent (5, 5)"),
    (lambda: conv_transpose2d(MAPS, KERNEL), "the shape of weight is (3, 2, 3, 3); expected (2, "),
    (lambda: conv_transpose2d(MAPS, KERNEL[:2], output_padding=1), "output_padding is (1, 1); expected less than"),
    (lambda: conv_transpose2d(MAPS, KERNEL[:2], padding=3), "padding is (3, 3); expected less than half"),
    (lambda: conv_transpose2d(MAPS, KERNEL[:2], groups=4), "groups is 4"),
    (lambda: flatten(MAPS, 4), "start_dim is 4; expected -4 to 3"),
    (lambda: flatten(MAPS, 0, -5), "end_dim is -5"),
    (lambda: flatten(MAPS, 2, 1), "start_dim is 2; expected not after end_dim 1"),
    (lambda: roi_pool(MAPS, np.zeros((3, 4)), 2), "the shape of boxes is (3, 4); expected (k, 5)"),
    (
        lambda: roi_pool(MAPS, np.array([[1.0, 0, 0, 1, 1]]), 2),
        "index of boxes is [1.0]; expected whole numbers from 0",
    ),
    (lambda: roi_pool(MAPS, np.array([[-1.0, 0, 0, 1, 1]]), 2), "the image index of boxes is [-1.0]"),
    (lambda: roi_pool(MAPS, np.array([[0.5, 0, 0, 1, 1]]), 2), "the image index of boxes is [0.5]"),
    (lambda: roi_pool(MAPS, np.array([[0, np.nan, 0, 1, 1]]), 2), "expected finite numbers"),
    (lambda: roi_pool(MAPS, np.zeros((1, 5)), 0), "output_size is 0"),
    (lambda: sigmoid(np.array([1])), "the dtype of input is 'int64'"),
    (lambda: softmax(MAPS, 4), "dim is 4"),
    (lambda: batch_norm(ONES, ONES, ONES), "the shape of input is (2,)"),
    (lambda: batch_norm(MAPS, ONES[:1], ONES), "the shape of running_mean is (1,); expected (2)"),
    (lambda: batch_norm(MAPS, None, ONES), "running_mean is None; expected an array, outside training"),
    (lambda: batch_norm(MAPS, ONES, ONES, weight=MAPS), "the shape of weight is (1, 2, 4, 4)"),
    (lambda: batch_norm(ONES[None], ONES, ONES, training=True), "(1, 2); expected more than one value a channel"),
    (lambda: batch_norm(MAPS, [0.0, 0.0], ONES, training=True), "running_mean is [0.0, 0.0]; expected an array"),
    (lambda: cross_entropy(ONES[0], np.array(0)), "the shape of input is ()"),
    (lambda: cross_entropy(MAPS[0, 0], np.array([0, 1, 2, 4])), "target is [4]; expected 0 to 3, or ignore_index -100"),
    (lambda: cross_entropy(MAPS[0, 0], np.array([0, 1, 2, -1])), "target is [-1]"),
    (lambda: cross_entropy(MAPS[0, 0], np.array([0, 1])), "the shape of target is (2,); expected (4)"),
    (lambda: cross_entropy(MAPS[0, 0], MAPS[0]), "the shape of target is (2, 4, 4); expected (4, 4)"),
    (lambda: cross_entropy(MAPS[0, 0], np.ones(4, bool)), "the dtype of target is 'bool'"),
    (lambda: cross_entropy(MAPS[0, 0], MAPS[0, 0], ignore_index=1), "ignore_index is 1"),
    (lambda: cross_entropy(MAPS[0, 0], np.zeros(4, int), ONES), "the shape of weight is (2,); expected (4)"),
    (lambda: cross_entropy(MAPS[0, 0], np.zeros(4, int), reduction="all"), "reduction is 'all'; expected"),
    (lambda: cross_entropy(MAPS[0, 0], np.zeros(4, int), label_smoothing=1.5), "label_smoothing is 1.5; expected 0 to"),
    (lambda: mse_loss(MAPS, MAPS[0]), "the shape of target is (2, 4, 4); expected the input's, (1, 2, 4, 4)"),
    (lambda: mse_loss(MAPS, MAPS, reduction="average"), 'reduction is \'average\'; expected "none", "mean" or "sum"'),
    (lambda: linear(MAPS, np.ones((3, 5))), "the shape of weight is (3, 5); expected (outputs, 4)"),
    (lambda: linear(MAPS, np.ones((3, 4)), ONES), "the shape of bias is (2,); expected (3)"),
    (lambda: batch_norm(MAPS, ONES, ONES, eps=None), "eps is None; expected a number"),
    (lambda: batch_norm(MAPS, ONES, ONES, momentum="0.1"), "momentum is '0.1'; expected a number"),
    (lambda: numpy_layers.layer_norm(MAPS, 4, eps=[1e-5]), "eps is [1e-05]; expected a number"),
    (lambda: numpy_layers.group_norm(MAPS, 1, eps=None), "eps is None; expected a number"),
    (lambda: cross_entropy(MAPS[0, 0], np.zeros(4, int), label_smoothing=None), "label_smoothing is None"),
    (lambda: cross_entropy(MAPS[0, 0], np.zeros(4, int), ignore_index="a"), "ignore_index is 'a'; expected a whole"),
    (lambda: avg_pool2d(MAPS, 2, divisor_override="2"), "divisor_override is '2'; expected a number other than 0"),
    (lambda: roi_pool(MAPS, np.zeros((1, 5)), 2, spatial_scale=None), "spatial_scale is None; expected a number"),
    (  # 3 input and 5 output channels, for a layer of 3
        lambda: conv_transpose2d(np.ones((1, 3, 4, 4)), np.ones((5, 3, 3, 3))),
        "(it fits in Keras's layout: weight.transpose(3, 2, 0, 1), or it fits the other way round: np.swapaxes",
    ),
]


@pytest.mark.parametrize(("call", "message"), REFUSALS, ids=[message for _, message in REFUSALS])
def test_wrong_arguments_are_named_with_their_value_and_what_was_expected(call, message):
    with pytest.raises(ValueError) as raised:
        call()
    assert message in str(raised.value)
