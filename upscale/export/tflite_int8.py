"""Writes a network of integers as a TFLite file that can be resized.

Graph, channels last: ``luma`` int8 (N, H, W, 1) → ``upscaled`` int8 (N, 2H, 2W, 1), both code values minus
128, that is with scale 1/255 and zero point -128; H and W must be even (`GeneratorConfig.multiple`).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from upscale.export.cells import CELL, SUB_PIXELS, anchor_over_cells, layers_over_cells, stride_of
from upscale.export.quantize import CODE, IntegerLayer, IntegerNetwork
from upscale.export.tflite import Graph

#: int8 code that stands for 0 where there is nothing below it.
_LOWEST = -128


def build_tflite_int8(network: IntegerNetwork, metadata: dict[str, str]) -> bytes:
    """The network as the bytes of a TFLite file; metadata as of `upscale.export.onnx.build_onnx`.

    Raises:
        BackendError: ai-edge-litert or flatbuffers is not installed.
    """
    config = network.config
    graph = _IntegerGraph()
    luma = graph.as_codes(graph.luma())
    cells = graph.as_codes(graph.space_to_depth(luma, "unshuffled", CELL))
    value, scale = cells if config.unshuffle == CELL else luma, CODE
    layers = layers_over_cells(network)
    for i, layer in enumerate(layers):
        is_last = layer is layers[-1]
        value = graph.integer_convolution(f"convs.{i}", value, scale, layer, relu=not is_last)
        scale = layer.scale
        graph.quantize(value, [scale], [0 if is_last else _LOWEST])
    nearest = graph.integer_convolution("anchor", cells, CODE, anchor_over_cells(), relu=False)
    anchor = graph.as_codes(nearest)
    anchored = graph.as_codes(graph.add(value, anchor, "anchored"))
    upscaled = graph.as_codes(graph.depth_to_space(anchored, "upscaled", SUB_PIXELS))
    return graph.finish(luma, upscaled, {**metadata, "config": config.to_json()})


class _IntegerGraph(Graph):
    """A graph whose tensors are int8."""

    def as_codes(self, tensor: int) -> int:
        """Turn a tensor into one of code values minus 128."""
        self.quantize(tensor, [CODE], [_LOWEST])
        return tensor

    def quantize(self, tensor: int, scales: npt.ArrayLike, zeros: npt.ArrayLike, bits: int = 8) -> None:
        """Turn a tensor into int8 or int32 of value scale·(code - zero): one pair, or one per channel."""
        parameters = self.schema.QuantizationParametersT()
        parameters.scale = np.asarray(scales, np.float32)
        parameters.zeroPoint = np.asarray(zeros, np.int64)
        parameters.quantizedDimension = 0
        self.tensors[tensor].quantization = parameters
        kinds = self.schema.TensorType
        self.tensors[tensor].type = kinds.INT8 if bits == 8 else kinds.INT32

    def integer_convolution(
        self, name: str, value: int, input_scale: float, layer: IntegerLayer, *, relu: bool
    ) -> int:
        """Add CONV_2D; the caller quantises what comes out."""
        scales = layer.kernel_scales
        weights = self.constant(f"{name}.weight", layer.kernel.transpose(0, 2, 3, 1))
        self.quantize(weights, scales, np.zeros(len(scales)))
        biases = self.constant(f"{name}.bias", layer.bias)
        self.quantize(biases, scales * np.float32(input_scale), np.zeros(len(scales)), bits=32)
        operands = [value, weights, biases]
        return self.convolve(name, operands, len(scales), relu=relu, stride=stride_of(layer))
