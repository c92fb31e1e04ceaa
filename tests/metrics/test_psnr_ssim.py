"""PSNR and SSIM against values that follow from their definitions."""

from __future__ import annotations

import numpy as np
import pytest

from upscale.metrics.psnr_ssim import psnr, ssim


def test_psnr_of_a_known_error() -> None:
    truth = np.full((20, 30), 100, np.uint8)
    assert psnr(truth, truth + np.uint8(5)) == pytest.approx(20 * np.log10(255 / 5))
    assert psnr(truth, truth) == float("inf")


def test_psnr_border_is_left_out() -> None:
    truth = np.full((20, 20), 100, np.uint8)
    other = truth.copy()
    other[:2] = 0
    other[5, 5] = 110
    assert psnr(truth, other, border=2) == pytest.approx(10 * np.log10(255**2 / (100 / 256)))


def test_psnr_of_ten_bit() -> None:
    truth = np.full((20, 20), 500, np.uint16)
    assert psnr(truth, truth + np.uint16(4), max_value=1023) == pytest.approx(20 * np.log10(1023 / 4))


def test_ssim_of_equal_and_of_constant_planes() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (40, 50), dtype=np.uint8)
    assert ssim(noise, noise) == pytest.approx(1)
    # Two flat planes: only the luminance term is left.
    a, b = np.full((20, 20), 50, np.uint8), np.full((20, 20), 150, np.uint8)
    c1 = (0.01 * 255) ** 2
    assert ssim(a, b) == pytest.approx((2 * 50 * 150 + c1) / (50**2 + 150**2 + c1))


def test_ssim_falls_with_noise() -> None:
    rng = np.random.default_rng(0)
    truth = rng.integers(60, 200, (64, 64)).astype(np.uint8)
    scores = [
        ssim(truth, np.clip(truth + rng.normal(0, s, truth.shape), 0, 255).astype(np.uint8))
        for s in (2, 8, 32)
    ]
    assert scores[0] > scores[1] > scores[2]


@pytest.mark.parametrize(
    ("sigma", "expected"), [(1.0, 0.9978211322), (8.0, 0.8848016360), (40.0, 0.2555339508)]
)
def test_ssim_is_scikit_images(sigma: float, expected: float) -> None:
    """Version 0.26: structural_similarity(gaussian_weights=True, sigma=1.5, use_sample_covariance=False)."""
    y, x = np.mgrid[0:64, 0:80]
    wave = 128 + 50 * np.sin(x / 5) + 40 * np.cos(y / 7) + np.random.default_rng(0).normal(0, 10, (64, 80))
    truth = np.clip(wave, 0, 255).astype(np.uint8)
    noise = np.random.default_rng(1).normal(0, sigma, truth.shape)
    other = np.clip(truth + noise, 0, 255).astype(np.uint8)
    assert ssim(truth, other) == pytest.approx(expected, abs=1e-8)


def test_ssim_of_ten_bit_is_scikit_images() -> None:
    y, x = np.mgrid[0:64, 0:80]
    wave = 128 + 50 * np.sin(x / 5) + 40 * np.cos(y / 7) + np.random.default_rng(0).normal(0, 10, (64, 80))
    truth = np.clip(wave, 0, 255).astype(np.uint8)
    noisy = np.clip(truth + np.random.default_rng(1).normal(0, 8.0, truth.shape), 0, 255).astype(np.uint16)
    truth16 = truth.astype(np.uint16) * 4 + 1
    assert ssim(truth16, noisy * 4, max_value=1023) == pytest.approx(0.8848712222, abs=1e-8)
