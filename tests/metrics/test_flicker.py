"""Flicker against values that follow from its definition."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from upscale.metrics.flicker import flicker


def _texture(shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Structure at several scales, 60…200, in float."""
    noise = rng.normal(0, 1, shape)
    smooth = _soften(_soften(noise, 3), 3) * 6 + _soften(noise, 1)
    return np.clip(130 + 22 * smooth, 60, 200)


def _soften(picture: np.ndarray, radius: int) -> np.ndarray:
    for axis in (0, 1):
        picture = np.mean([np.roll(picture, k, axis) for k in range(-radius, radius + 1)], axis=0)
    return picture


def _video(
    rng: np.random.Generator, *, frames: int = 6, speed: float = 0.0, grain: float = 0.0
) -> list[np.ndarray]:
    """A texture that moves to the right by `speed` pixels a frame, and grain that is new in every frame."""
    fine = np.repeat(_texture((96, 128), rng), 8, axis=1)
    fine = np.mean([np.roll(fine, k, 1) for k in range(-6, 7)], axis=0)  # a lens before the pixels
    clean = [np.roll(fine, round(8 * speed * n), 1)[:, 4::8] for n in range(frames)]
    return [picture + rng.normal(0, grain, picture.shape) for picture in clean]


def _rounded(pictures: list[np.ndarray]) -> list[np.ndarray]:
    return [np.clip(np.rint(p), 0, 255).astype(np.uint8) for p in pictures]


def _sharpened(pictures: list[np.ndarray], strength: float) -> list[np.ndarray]:
    return [p + strength * (p - _soften(p, 1)) for p in pictures]


@pytest.mark.parametrize("speed", [0.0, 0.25, 0.5])
def test_flicker_of_the_truth_itself_is_one(speed: float) -> None:
    truth = _rounded(_video(np.random.default_rng(0), speed=speed, grain=1.0))
    assert flicker(truth, truth) == 1


def test_flicker_grows_with_noise_that_is_new_in_every_frame() -> None:
    rng = np.random.default_rng(0)
    truth = _video(rng, grain=1.0)
    none, little, more = (
        flicker(_rounded(truth), _rounded([p + rng.normal(0, s, p.shape) for p in truth])) for s in (0, 1, 3)
    )
    assert none == 1
    # Independent noise adds in squares: sqrt(1 + 1), a little less for the term that is added to both.
    assert little == pytest.approx(2**0.5, abs=0.1)
    assert more == pytest.approx(10**0.5, rel=0.15)


def test_flicker_of_a_calmer_video_is_less() -> None:
    truth = _video(np.random.default_rng(0), grain=2.0)
    smooth = [truth[0], *((a + b) / 2 for a, b in pairwise(truth))]
    assert flicker(_rounded(truth), _rounded(smooth)) < 0.8
    still = [np.mean(truth, axis=0)] * len(truth)
    assert flicker(_rounded(truth), _rounded(still)) < 0.2


def test_another_picture_that_keeps_still_does_not_flicker() -> None:
    rng = np.random.default_rng(0)
    truth = _video(rng, grain=1.0)
    wrong = rng.normal(0, 10, truth[0].shape)
    assert flicker(_rounded(truth), _rounded([p + wrong for p in truth])) == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize(("speed", "naive"), [(0.0, 1.0), (0.25, 1.15), (0.5, 1.2)])
def test_sharper_picture_that_moves_with_the_truth_does_not_flicker(speed: float, naive: float) -> None:
    """Its edges change more from frame to frame, as sharp edges must: that once counted as shimmer."""
    truth = _video(np.random.default_rng(0), speed=speed)
    grain = np.random.default_rng(1).normal(0, 1.0, (len(truth), *truth[0].shape))
    sharper = _sharpened(truth, 0.8)
    noisy, noisy_sharper = ([p + g for p, g in zip(v, grain, strict=True)] for v in (truth, sharper))
    change, of_truth = (np.mean(np.abs(np.diff(v, axis=0))) for v in (noisy_sharper, noisy))
    assert change >= naive * of_truth
    assert flicker(_rounded(noisy), _rounded(noisy_sharper)) < 1.03 + 0.5 * (naive - 1)


def test_detail_that_swims_flickers() -> None:
    """Invented texture that does not move with the picture."""
    rng = np.random.default_rng(0)
    truth = _video(rng, grain=0.7)
    swimming = [p + 4 * np.roll(_soften(rng.normal(0, 1, p.shape), 1), n, 1) for n, p in enumerate(truth)]
    assert flicker(_rounded(truth), _rounded(swimming)) > 1.3


def test_flicker_looks_where_the_truth_is_still() -> None:
    rng = np.random.default_rng(0)
    truth = np.stack(_video(rng, grain=1.0))
    fast = rng.uniform(0, 255, truth.shape)
    truth[:, :, 64:] = fast[:, :, 64:]
    picture = truth.copy()
    picture[:, :, 64:] = rng.uniform(0, 255, truth.shape)[:, :, 64:]
    assert flicker(_rounded(list(truth)), _rounded(list(picture))) == pytest.approx(1, abs=0.005)
    picture[:, :, :64] += rng.normal(0, 2, truth.shape)[:, :, :64]
    assert flicker(_rounded(list(truth)), _rounded(list(picture))) > 1.5


def test_flicker_of_a_still_drawing_is_finite_and_of_nothing_still_unknown() -> None:
    rng = np.random.default_rng(0)
    drawing = [np.full((32, 48), 90, np.uint8)] * 4
    shimmering = [p + rng.integers(0, 2, p.shape, dtype=np.uint8) for p in drawing]
    assert flicker(drawing, drawing) == 1
    assert flicker(drawing, shimmering) == pytest.approx((0.5 + 0.25) / 0.25, rel=0.05)
    storm = list(rng.integers(0, 256, (4, 32, 48), dtype=np.uint8))
    assert np.isnan(flicker(storm, storm))
    assert np.isnan(flicker(drawing[:1], drawing[:1]))
    with pytest.raises(ValueError, match=r"shorter|longer"):
        flicker(drawing, drawing[:-1])


def test_flicker_of_ten_bit() -> None:
    rng = np.random.default_rng(0)
    truth = _video(rng, grain=1.0)
    noisy = [p + rng.normal(0, 2, p.shape) for p in truth]
    eight = flicker(_rounded(truth), _rounded(noisy))
    a, b = ([(np.rint(p * 1023 / 255)).astype(np.uint16) for p in v] for v in (truth, noisy))
    assert flicker(a, b, max_value=1023) == pytest.approx(eight, rel=0.05)
