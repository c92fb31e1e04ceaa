"""Kernels in integers, rounded for the input that they get."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from upscale.export.gptq import kernel_scales, round_kernel, second_moments  # noqa: E402


def smooth_inputs(channels: int, seed: int) -> list[torch.Tensor]:
    """Bright and nearly flat, as luma is, with a little of everything else."""
    rng = np.random.default_rng(seed)
    level = rng.uniform(0.2, 0.9, (1, 1, 24, 1))
    return [torch.from_numpy(level + rng.normal(0, 0.02, (1, channels, 24, 30))).float() for _ in range(3)]


def errors(kernel: np.ndarray, codes: np.ndarray, scales: np.ndarray, inputs: list[torch.Tensor]) -> float:
    """Mean square difference of the two kernels' outputs."""
    change = torch.from_numpy(codes * scales[:, None, None, None] - kernel).float()
    return float(np.mean([torch.nn.functional.conv2d(one, change).square().mean() for one in inputs]))


@pytest.mark.parametrize("channels", [1, 4, 16])
def test_outputs_are_nearer_than_with_nearest_integers(channels: int) -> None:
    """Also on input that the rounding has not seen. Regression: flat parts of a picture were off by the
    sum of all errors of the first layer's weights, half of the error of the int8 files."""
    kernel = np.random.default_rng(channels).normal(0, 0.2, (8, channels, 3, 3)).astype(np.float32)
    scales = kernel_scales(kernel)
    codes = round_kernel(kernel, scales, second_moments(smooth_inputs(channels, 1)))
    nearest = np.rint(kernel / scales[:, None, None, None])
    unseen = smooth_inputs(channels, 2)
    assert errors(kernel, codes, scales, unseen) < 0.2 * errors(kernel, nearest, scales, unseen)


def test_codes_are_within_their_range_and_near_the_weights() -> None:
    kernel = np.random.default_rng(3).normal(0, 0.2, (8, 4, 3, 3)).astype(np.float32)
    kernel[2] = 0
    scales = kernel_scales(kernel)
    codes = round_kernel(kernel, scales, second_moments(smooth_inputs(4, 1)))
    assert codes.dtype == np.int8
    assert codes.min() >= -127
    assert not codes[2].any()
    assert np.abs(codes - kernel / scales[:, None, None, None]).max() < 20


def test_uncorrelated_input_leaves_nothing_to_correct() -> None:
    kernel = np.random.default_rng(4).normal(0, 0.2, (5, 2, 3, 3)).astype(np.float32)
    scales = kernel_scales(kernel)
    codes = round_kernel(kernel, scales, np.eye(18))
    assert np.array_equal(codes, np.rint(kernel / scales[:, None, None, None]))


def test_a_layer_that_gets_nothing_is_rounded_all_the_same() -> None:
    """Channels that never fire on the calibration pictures."""
    kernel = np.random.default_rng(5).normal(0, 0.2, (5, 2, 3, 3)).astype(np.float32)
    scales = kernel_scales(kernel)
    moments = second_moments([torch.zeros(1, 2, 8, 8)])
    assert np.array_equal(
        round_kernel(kernel, scales, moments), np.rint(kernel / scales[:, None, None, None])
    )


def test_second_moments_are_in_the_order_of_the_weights() -> None:
    one = torch.zeros(1, 2, 5, 5)
    one[0, 1, 2, 2] = 3  # seen once by each weight of the second channel
    moments = second_moments([one])
    assert np.array_equal(np.diag(moments), np.repeat([0, 9 / 25], 9))
    assert np.count_nonzero(moments) == 9
