"""A fidelity and a GAN model of one shape, for the tests of `--strength`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from networks import random_weights, write_model

from upscale import backends
from upscale.model.config import GeneratorConfig
from upscale.model.generator import Generator
from upscale.model.weights import find_model

#: Backend → the suffix of the file that it reads.
KINDS = {"onnx": ".onnx", "torch": ".safetensors", "tflite": ".tflite"}
#: dB that a blend of int8 files must keep from the float blend.
INT8_PSNR = 40.0


def gan_weights(config: GeneratorConfig) -> dict[str, np.ndarray]:
    """Not far from `random_weights(config)`, as a GAN model that was trained from a fidelity model."""
    start, other = random_weights(config), random_weights(config, seed=1)
    return {k: (v + 0.3 * other[k]).astype(np.float32) for k, v in start.items()}


def write_pair(folder: Path, config: GeneratorConfig) -> Path:
    """my.* and my_fidelity.*, as `upscale train` leaves them; returns the path without suffix."""
    for name, values in (("my", gan_weights(config)), ("my_fidelity", random_weights(config))):
        (folder / name).mkdir()
        model = write_model(folder / name, config, weights=values)
        for path in (model.safetensors, model.onnx, model.tflite):
            assert path is not None
            path.rename(folder / f"{name}{path.suffix}")
        (folder / name).rmdir()
    return folder / "my"


def run(name: str, path: Path | str, strength: float | None, luma: np.ndarray) -> np.ndarray:
    """What a backend makes of `luma` at a strength."""
    with backends.load(name, find_model(str(path), strength), device="cpu", threads=1) as backend:
        return backend(luma)


def reference(config: GeneratorConfig, strength: float, luma: np.ndarray) -> np.ndarray:
    """The torch network whose weights are interpolated by torch."""
    network = Generator(config)
    ends = random_weights(config), gan_weights(config)
    f, g = ({k: torch.from_numpy(v) for k, v in end.items()} for end in ends)
    network.load_state_dict({k: torch.lerp(f[k], g[k], strength) for k in f})
    with torch.inference_mode():
        output = network(torch.from_numpy(luma.astype(np.float32) / 255)[None, None])[0, 0].numpy()
    return np.clip(np.rint(output * 255), 0, 255).astype(int)


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / np.mean((a.astype(float) - b.astype(float)) ** 2)))
