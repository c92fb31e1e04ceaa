"""VMAF through the optional ffmpeg; without it, one clear line."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from conftest import ROOT
from networks import real_luma

from upscale.errors import BackendError
from upscale.metrics.vmaf import VmafMeter, ffmpeg_with_vmaf


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    with pytest.raises(BackendError, match=r"\[vmaf\]"):
        ffmpeg_with_vmaf()


def test_order_of_pictures() -> None:
    """Equal is near the top, blur is lower, and sharpening raises VMAF more than NEG."""
    pytest.importorskip("imageio_ffmpeg")
    truth = [real_luma(ROOT / "samples" / "bee_360p.mp4", n)[:240, :320].copy() for n in (20, 21, 22)]
    soft = [_blur(t) for t in truth]
    sharp = [np.clip(1.6 * t - 0.6 * s, 0, 255).astype(np.uint8) for t, s in zip(truth, soft, strict=True)]
    with VmafMeter(truth) as meter:
        same, blurred, sharpened = meter(truth), meter(soft), meter(sharp)
        with pytest.raises(ValueError, match="pictures"):
            meter(truth[:2])
    assert same.vmaf > 90
    assert same.neg > 90
    assert blurred.vmaf < same.vmaf - 5
    assert sharpened.vmaf - same.vmaf > sharpened.neg - same.neg


def test_too_small() -> None:
    """What libvmaf refuses becomes one line, not an endless wait or a broken pipe."""
    pytest.importorskip("imageio_ffmpeg")
    small = [np.zeros((8, 8), np.uint8)] * 2
    with VmafMeter(small) as meter, pytest.raises(BackendError, match="VMAF failed"):
        meter(small)


def _blur(luma: np.ndarray) -> np.ndarray:
    wide = luma.astype(int)
    return ((wide + np.roll(wide, 1, 0) + np.roll(wide, 1, 1) + np.roll(wide, (1, 1), (0, 1))) // 4).astype(
        np.uint8
    )
