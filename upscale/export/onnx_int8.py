"""Writes a network of integers as an ONNX file with free height and width.

Graph: ``luma`` uint8 (N, 1, H, W) → ``upscaled`` uint8 (N, 1, 2H, 2W), code values on both sides; H and W
must be even (`GeneratorConfig.multiple`). Convolutions stand between DequantizeLinear and
QuantizeLinear, the form that runtimes fuse into integer kernels; onnxruntime turns them into QLinearConv.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from upscale.errors import BackendError
from upscale.export.cells import CELL, SUB_PIXELS, anchor_over_cells, layers_over_cells, stride_of
from upscale.export.onnx import finish_model
from upscale.export.quantize import CODE, IntegerLayer, IntegerNetwork

if TYPE_CHECKING:
    import onnx

#: uint8 code that stands for a residual of 0.
_MIDDLE = 128


def build_onnx_int8(network: IntegerNetwork, metadata: dict[str, str]) -> onnx.ModelProto:
    """The network as a checked ONNX model; metadata as of `upscale.export.onnx.build_onnx`.

    Raises:
        BackendError: the `onnx` package is not installed.
    """
    try:
        from onnx import TensorProto
    except ImportError as e:
        raise BackendError("ONNX export needs the onnx package: pip install '.[train]'") from e

    config = network.config
    graph = _Graph()
    cells = graph.unshuffle("luma")
    value, scale = cells if config.unshuffle == CELL else "luma", "luma.step"
    layers = layers_over_cells(network)
    for i, layer in enumerate(layers):
        value = graph.convolution(f"convs.{i}", value, scale, layer, is_last=layer is layers[-1])
        scale = f"convs.{i}.step"
    graph.shuffle(graph.add(value, scale, graph.anchor(cells)))
    return finish_model(graph.nodes, graph.constants, TensorProto.UINT8, config, metadata)


class _Graph:
    """Nodes and constants as they are added; methods return the name of what comes out."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.constant("luma.step", np.float32(CODE))
        self.constant("zero", np.uint8(0))
        self.constant("middle", np.uint8(_MIDDLE))

    def constant(self, name: str, value: Any) -> str:
        from onnx import numpy_helper

        self.constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def node(self, kind: str, inputs: list[str], output: str, **attributes: Any) -> str:
        from onnx import helper

        self.nodes.append(helper.make_node(kind, inputs, [output], **attributes))
        return output

    def convolution(self, name: str, value: str, scale: str, layer: IntegerLayer, is_last: bool) -> str:
        """Codes of the constant `scale` → codes of the layer's own scale, with ReLU but for the last."""
        input_scale = self._number(scale)
        real = self._real_kernel(name, layer.kernel, layer.kernel_scales)
        self.constant(f"{name}.bias", layer.bias)
        self.constant(f"{name}.bias.scales", layer.kernel_scales * np.float32(input_scale))
        self.constant(f"{name}.bias.zeros", np.zeros(len(layer.bias), np.int32))
        bias = self.node(
            "DequantizeLinear",
            [f"{name}.bias", f"{name}.bias.scales", f"{name}.bias.zeros"],
            f"{name}.bias.real",
            axis=0,
        )
        entry = self.node("DequantizeLinear", [value, scale, "zero"], f"{name}.in")
        sides, strides = list(layer.kernel.shape[2:]), [stride_of(layer)] * 2
        shape = {"kernel_shape": sides, "pads": [1, 1, 1, 1], "strides": strides}
        out = self.node("Conv", [entry, real, bias], f"{name}.sum", **shape)
        if not is_last:
            out = self.node("Relu", [out], f"{name}.relu")
        self.constant(f"{name}.step", np.float32(layer.scale))
        return self.node("QuantizeLinear", [out, f"{name}.step", "middle" if is_last else "zero"], name)

    def anchor(self, cells: str) -> str:
        """Each sub-pixel's nearest pixel, as real values."""
        layer = anchor_over_cells()
        real = self._real_kernel("anchor", layer.kernel, layer.kernel_scales)
        entry = self.node("DequantizeLinear", [cells, "luma.step", "zero"], "anchor.in")
        out = self.node("Conv", [entry, real], "anchor.sum", kernel_shape=[1, 1])
        codes = self.node("QuantizeLinear", [out, "luma.step", "zero"], "anchor")
        return self.node("DequantizeLinear", [codes, "luma.step", "zero"], "anchor.real")

    def add(self, residual: str, scale: str, anchor: str) -> str:
        """Residual + anchor in code values, rounded and clipped."""
        real = self.node("DequantizeLinear", [residual, scale, "middle"], "residual.real")
        total = self.node("Add", [real, anchor], "sum")
        return self.node("QuantizeLinear", [total, "luma.step", "zero"], "anchored")

    def unshuffle(self, luma: str) -> str:
        """(N, 1, H, W) → (N, 4, H/2, W/2), as SpaceToDepth, which old runtimes lack for uint8.

        Channels last until the final transposition, which runtimes that convolve so leave out.
        """
        self.node("Shape", [luma], "shape")
        self.constant("block", np.array([1, 1, CELL, CELL], np.int64))
        self.constant("split.order", np.array([0, 2, 1, 3, 1], np.int64))
        self.constant("split.factors", np.array([1, 1, CELL, 1, CELL], np.int64))
        self.constant("unshuffled.shape", np.array([0, 0, 0, CELL**2], np.int64))
        self.node("Div", ["shape", "block"], "shape.small")
        self.node("Gather", ["shape.small", "split.order"], "split.ordered")
        self.node("Mul", ["split.ordered", "split.factors"], "split.shape")
        self.node("Reshape", [luma, "split.shape"], "split")
        self.node("Transpose", ["split"], "split.near", perm=[0, 1, 3, 2, 4])
        self.node("Reshape", ["split.near", "unshuffled.shape"], "unshuffled.last")
        return self.node("Transpose", ["unshuffled.last"], "unshuffled", perm=[0, 3, 1, 2])

    def shuffle(self, value: str) -> str:
        """(N, 16, h, w) → ``upscaled`` (N, 1, 4h, 4w), as DepthToSpace."""
        self.constant("pixels.shape", np.array([0, 0, 0, SUB_PIXELS, SUB_PIXELS], np.int64))
        self.constant("doubled", np.array([1, 1, 2, 2], np.int64))
        self.node("Transpose", [value], "pixels.last", perm=[0, 2, 3, 1])
        self.node("Reshape", ["pixels.last", "pixels.shape"], "pixels")
        self.node("Transpose", ["pixels"], "pixels.rows", perm=[0, 1, 3, 2, 4])
        self.node("Mul", ["shape", "doubled"], "upscaled.shape")
        return self.node("Reshape", ["pixels.rows", "upscaled.shape"], "upscaled")

    def _real_kernel(self, name: str, kernel: np.ndarray, scales: np.ndarray) -> str:
        self.constant(f"{name}.weight", kernel)
        self.constant(f"{name}.weight.scales", scales)
        self.constant(f"{name}.weight.zeros", np.zeros(len(kernel), np.int8))
        inputs = [f"{name}.weight", f"{name}.weight.scales", f"{name}.weight.zeros"]
        return self.node("DequantizeLinear", inputs, f"{name}.weight.real", axis=0)

    def _number(self, name: str) -> np.ndarray:
        from onnx import numpy_helper

        return next(numpy_helper.to_array(c) for c in self.constants if c.name == name)
