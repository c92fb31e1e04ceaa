"""A model's weights as numpy arrays, read from its safetensors file without any library."""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from upscale.errors import ModelError, UsageError
from upscale.export.onnx import conv_weights
from upscale.model.blend import Mismatch, blend_safetensors, blended, read_tensors
from upscale.model.config import GeneratorConfig

if TYPE_CHECKING:
    from upscale.model.weights import ModelFiles

Floats = npt.NDArray[np.float32]
#: Kernel (O, I, 3, 3) and bias (O,) of one convolution.
Layer = tuple[Floats, Floats]


@dataclass(frozen=True, slots=True)
class Network:
    """One generator with its weights, as every writer takes it.

    Attributes:
        name: the model's, with its strength where that was asked for: "gan", "gan, strength 0.5".
        layers: kernel (O, I, 3, 3) and bias (O,) of every convolution, first to last, float32.
        sha256: of the safetensors file, or of the two that were blended, in hexadecimal digits.
    """

    name: str
    config: GeneratorConfig
    layers: list[Layer]
    sha256: str


def read_network(model: ModelFiles) -> Network:
    """The weights of `model`, blended if it is to be (`ModelFiles.partner`).

    Raises:
        UsageError: the model is an ONNX or TFLite file, or its partner holds another network.
        ModelError: the file is damaged, or does not hold this project's generator.
    """
    if model.safetensors is None or model.config is None:
        path = next(filter(None, (model.onnx, model.tflite, model.onnx_int8, model.tflite_int8)), model.name)
        raise UsageError("only .safetensors files of this project can be exported so", path=str(path))
    name, sha256 = re.sub(r"[^\w .,+-]", "?", model.name, flags=re.ASCII), model.sha256["safetensors"]
    if model.strength is not None:
        name += f", strength {model.strength:g}"
    if model.partner is not None:
        sha256 += f" and {model.partner.sha256['safetensors']}"
    try:
        data = blended(model, "safetensors", blend_safetensors) or model.safetensors.read_bytes()
        layers = conv_weights(model.config, read_tensors(data))
    except (ModelError, Mismatch) as e:
        raise ModelError(str(e), path=str(model.safetensors)) from e
    except OSError as e:
        raise ModelError(e.strerror or str(e), path=str(model.safetensors)) from e
    except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, struct.error) as e:
        raise ModelError("damaged: its tensors cannot be read", path=str(model.safetensors)) from e
    return Network(name, model.config, layers, sha256)


def padded(layer: Layer) -> Layer:
    """The same layer with channels of zeros added, so that both sides are multiples of four."""
    kernel, bias = layer
    outputs, inputs = (-(-n // 4) * 4 for n in kernel.shape[:2])
    wide = np.zeros((outputs, inputs, 3, 3), np.float32)
    wide[: kernel.shape[0], : kernel.shape[1]] = kernel
    return wide, np.pad(bias, (0, outputs - len(bias)))


def packed(layer: Layer) -> Floats:
    """A padded layer's weights in the order in which shaders read them, and its biases behind them.

    Returns:
        (N, 4) float32: for each of the nine taps (rows first), each group of four inputs, each group of
        four outputs, four vectors: what each of the four inputs adds to the four outputs; then one vector
        for each group of four outputs, their biases.
    """
    kernel, bias = padded(layer)
    outputs, inputs = kernel.shape[:2]
    groups = kernel.reshape(outputs // 4, 4, inputs // 4, 4, 9).transpose(4, 2, 0, 3, 1)
    return np.concatenate([groups.reshape(-1, 4), bias.reshape(-1, 4)])


def luma_network(network: Network, luma: Floats) -> Floats:
    """Run the network in numpy: slow, exact, and the same everywhere; what exports are compared with.

    Args:
        luma: (H, W) float32 in 0…1, H, W ≥ 1.

    Returns:
        (2H, 2W) float32, not clipped.
    """
    height, width = luma.shape
    u = network.config.unshuffle
    side = u * network.config.scale
    even = np.pad(luma, ((0, height % 2), (0, width % 2)), mode="edge")
    rows, columns = even.shape[0] // u, even.shape[1] // u
    value = even.reshape(rows, u, columns, u).transpose(1, 3, 0, 2).reshape(u * u, rows, columns)
    for i, (kernel, bias) in enumerate(network.layers):
        around = np.pad(value, ((0, 0), (1, 1), (1, 1)))
        total = np.broadcast_to(bias[:, None, None], (len(bias), rows, columns)).copy()
        for tap in range(9):
            y, x = divmod(tap, 3)
            shifted = around[:, y : y + rows, x : x + columns]
            total += np.tensordot(kernel[:, :, y, x], shifted, 1)
        value = total if i == len(network.layers) - 1 else np.maximum(total, 0)
    blocks = value.reshape(side, side, rows, columns).transpose(2, 0, 3, 1)
    picture = blocks.reshape(rows * side, columns * side) + even.repeat(2, 0).repeat(2, 1)
    return np.asarray(picture[: 2 * height, : 2 * width])
