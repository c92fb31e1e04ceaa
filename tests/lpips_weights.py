"""LPIPS weights of the published layout, small and random."""

from __future__ import annotations

import numpy as np

CHANNELS = {"alex": (4, 6, 5, 4, 4), "vgg": (3, 3, 4, 4, 5, 5, 5, 6, 6, 6)}


SIDES = {"alex": (11, 5, 3, 3, 3), "vgg": (3,) * 10}


PREFIX = {"alex": "AlexNet_0", "vgg": "VGG16_0"}


def small_weights(network: str = "alex") -> dict[str, np.ndarray]:
    """Random arrays with the names and layout of the published files, but few channels."""
    rng = np.random.default_rng(3)
    arrays, before = {}, 3
    for i, (channels, side) in enumerate(zip(CHANNELS[network], SIDES[network], strict=True)):
        kernel = rng.normal(0, (2 / before) ** 0.5 / side, (side, side, before, channels))
        arrays[f"{PREFIX[network]}/Conv_{i}/kernel"] = kernel.astype(np.float32)
        arrays[f"{PREFIX[network]}/Conv_{i}/bias"] = rng.normal(0, 0.1, channels).astype(np.float32)
        before = channels
    taps = range(5) if network == "alex" else (1, 3, 6, 9)
    for head, tap in enumerate(taps):
        weight = rng.uniform(0, 1, (1, 1, CHANNELS[network][tap], 1))
        arrays[f"NetLinLayer_{head}/Conv_0/kernel"] = weight.astype(np.float32)
    return arrays
