"""Integers in place of floats: near the float network, and reproducible."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from networks import FULL, HALF, TINY, random_weights, real_luma, write_model

from upscale import backends
from upscale.errors import ModelError
from upscale.export import quantize as module
from upscale.export.quantize import CODE, MIN_PSNR, IntegerNetwork, quantize, run_integers
from upscale.model.config import GeneratorConfig


@pytest.fixture(scope="module")
def pictures(samples: Path) -> list[np.ndarray]:
    clips = ("bee_360p.mp4", "face_360p.mp4")
    return [real_luma(samples / clip, n)[:90, :120] for clip in clips for n in (0, 20)]


@pytest.fixture(scope="module", params=[HALF, FULL], ids=["half", "full"])
def network(request: pytest.FixtureRequest, pictures: list[np.ndarray]) -> IntegerNetwork:
    config: GeneratorConfig = request.param
    return quantize(config, random_weights(config), pictures)


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / np.mean((a.astype(float) - b.astype(float)) ** 2)))


def test_close_to_float_on_a_real_frame(network: IntegerNetwork, samples: Path, tmp_path: Path) -> None:
    """On a whole frame that calibration has not seen, against another runtime's float network."""
    luma = real_luma(samples / "bee_360p.mp4", 40)[:, :320]
    with backends.load("onnx", write_model(tmp_path, network.config)) as exact:
        expected = exact(luma)
    rounded = run_integers(network.config, network.layers, luma)
    assert (rounded.shape, rounded.dtype) == (expected.shape, np.uint8)
    assert psnr(rounded, expected) >= MIN_PSNR
    assert psnr(np.kron(luma, np.ones((2, 2), np.uint8)), expected) < MIN_PSNR  # it is no mere anchor
    assert network.psnr >= MIN_PSNR


def test_layers_are_what_integer_kernels_take(network: IntegerNetwork) -> None:
    for layer, (inputs, outputs) in zip(network.layers, network.config.layers, strict=True):
        assert (layer.kernel.dtype, layer.kernel.shape) == (np.int8, (outputs, inputs, 3, 3))
        assert layer.kernel.min() >= -127
        assert (layer.bias.dtype, layer.bias.shape) == (np.int32, (outputs,))
        assert (layer.kernel_scales.dtype, layer.kernel_scales.shape) == (np.float32, (outputs,))
        assert layer.scale > 0


def test_ranges_and_biases_are_better_than_plain_rounding(pictures: list[np.ndarray]) -> None:
    with module._one_thread():
        compare_roundings([picture[:48, :64] for picture in pictures])


def compare_roundings(pictures: list[np.ndarray]) -> None:
    config, weights = HALF, random_weights(HALF)
    seen = module.CalibrationSet(config, module.conv_weights(config, weights), pictures)
    tops = [max(float(v[i].abs().max()) for v in seen._values) for i in range(len(config.layers))]
    plain = seen.rounded([top / (127 if i == len(tops) - 1 else 255) for i, top in enumerate(tops)])
    scales = seen.find_scales()
    assert seen.psnr(seen.rounded(scales)) >= seen.psnr(plain)
    assert seen.psnr(seen.correct_biases(scales)) > seen.psnr(plain)
    assert scales[-1] == CODE


def test_flat_areas_round_as_the_float_network_does(samples: Path, tmp_path: Path) -> None:
    """With any other step of the residual they are rounded twice: a third of these pixels flipped."""
    weights = {name: np.zeros_like(values) for name, values in random_weights(TINY).items()}
    weights["convs.1.bias"] += np.float32(0.45 / 255)
    weights["convs.0.bias"] += np.float32(0.3)
    luma = real_luma(samples / "bee_360p.mp4")[:64, :96]
    network = quantize(TINY, weights, [luma])
    doubled = np.kron(luma, np.ones((2, 2), np.uint8))
    np.testing.assert_array_equal(run_integers(TINY, network.layers, luma), doubled)


def test_same_pictures_same_integers(pictures: list[np.ndarray]) -> None:
    first, second = (quantize(TINY, random_weights(TINY), pictures) for _ in range(2))
    assert first.psnr == second.psnr
    for a, b in zip(first.layers, second.layers, strict=True):
        np.testing.assert_array_equal(a.kernel, b.kernel)
        np.testing.assert_array_equal(a.bias, b.bias)
        assert a.scale == b.scale


def test_layer_of_zeros_is_kept(pictures: list[np.ndarray]) -> None:
    """Nothing is divided by a range of 0: what is left is the anchor, exactly."""
    weights = {name: np.zeros_like(values) for name, values in random_weights(HALF).items()}
    network = quantize(HALF, weights, pictures[:1])
    assert network.psnr == float("inf")
    luma = pictures[0]
    doubled = np.kron(luma, np.ones((2, 2), np.uint8))
    np.testing.assert_array_equal(run_integers(HALF, network.layers, luma), doubled)


def test_one_step_of_luma_is_one_code_value() -> None:
    assert pytest.approx(1) == 255 * CODE


def test_refuses_a_network_that_int8_spoils(
    pictures: list[np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MIN_PSNR", 500.0)
    with pytest.raises(ModelError, match=r"int8 loses too much: \d+\.\d dB, under 500 dB"):
        quantize(TINY, random_weights(TINY), pictures)


def test_refuses_weights_that_do_not_fit(pictures: list[np.ndarray]) -> None:
    with pytest.raises(ModelError, match="has shape"):
        quantize(HALF, random_weights(FULL), pictures)


def test_needs_pictures() -> None:
    with pytest.raises(ValueError, match="at least one"):
        quantize(TINY, random_weights(TINY), [])
