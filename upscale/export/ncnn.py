"""Writes a generator as ncnn's two files, .param (text) and .bin (weights), in float32.

Written directly: pnnx silently turns our Gather, the anchor, into a one-channel Crop. The anchor here is
nearest-neighbour interpolation, which is the same picture. Blob ``luma`` is (1, H, W) float32 in 0…1,
``upscaled`` (1, 2H, 2W), not clipped; H and W must be multiples of two.
"""

from __future__ import annotations

import struct

from upscale.export.tensors import Network

_MAGIC = 7767517
#: Marks weights in float32.
_FLOAT32 = 0


def ncnn_files(network: Network) -> tuple[str, bytes]:
    """The .param text and the .bin bytes."""
    u, count = network.config.unshuffle, len(network.layers)
    lines = ["Input luma 0 1 luma", "Split split 1 2 luma luma_network luma_anchor"]
    value = "luma_network"
    if u > 1:
        lines.append(f"Reorg unshuffle 1 1 {value} unshuffled 0={u} 1=0")
        value = "unshuffled"
    for i, (kernel, bias) in enumerate(network.layers):
        # outputs, side, padding, with bias, number of weights, activation (ReLU)
        fields = f"0={len(bias)} 1=3 4=1 5=1 6={kernel.size}" + (" 9=1" if i < count - 1 else "")
        lines.append(f"Convolution conv{i} 1 1 {value} conv{i} {fields}")
        value = f"conv{i}"
    lines += [
        f"PixelShuffle shuffle 1 1 {value} detail 0={2 * u} 1=0",
        "Interp anchor 1 1 luma_anchor anchor 0=1 1=2.0 2=2.0",
        "BinaryOp add 2 1 detail anchor upscaled 0=0",
    ]
    blobs = sum(int(line.split()[3]) for line in lines)
    param = "\n".join([str(_MAGIC), f"{len(lines)} {blobs}", *lines]) + "\n"
    data = b"".join(
        struct.pack("<I", _FLOAT32) + kernel.astype("<f4").tobytes() + bias.astype("<f4").tobytes()
        for kernel, bias in network.layers
    )
    return param, data
