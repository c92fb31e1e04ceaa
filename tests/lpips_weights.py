"""LPIPS weights of the published layout, small and random."""

from __future__ import annotations

import numpy as np

CHANNELS = (4, 6, 5, 4, 4)
SIDES = (11, 5, 3, 3, 3)


def small_weights() -> dict[str, np.ndarray]:
    """Random arrays with the names and layout of the published AlexNet files, but few channels."""
    rng = np.random.default_rng(3)
    arrays, before = {}, 3
    for i, (channels, side) in enumerate(zip(CHANNELS, SIDES, strict=True)):
        kernel = rng.normal(0, (2 / before) ** 0.5 / side, (side, side, before, channels))
        arrays[f"AlexNet_0/Conv_{i}/kernel"] = kernel.astype(np.float32)
        arrays[f"AlexNet_0/Conv_{i}/bias"] = rng.normal(0, 0.1, channels).astype(np.float32)
        before = channels
    for i, channels in enumerate(CHANNELS):
        weight = rng.uniform(0, 1, (1, 1, channels, 1))
        arrays[f"NetLinLayer_{i}/Conv_0/kernel"] = weight.astype(np.float32)
    return arrays
