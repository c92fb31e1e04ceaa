"""Writes a generator as a TFLite file that can be resized.

The file is built from the flatbuffer schema, because converters turn the pixel shuffle into
reshapes and transposes of one fixed size, which neither resize nor run on GPU delegates.

Graph, channels last: ``luma`` float32 (N, H, W, 1) in 0…1 → ``upscaled`` (N, 2H, 2W, 1), not
clipped; H and W must be multiples of the generator's `unshuffle`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from upscale.errors import BackendError
from upscale.export.onnx import Weights, conv_weights
from upscale.model.config import GeneratorConfig

_SAME = 0
_NO_ACTIVATION, _RELU = 0, 1
_FLOAT32 = 0
_SCHEMA_VERSION = 3
_SIDE = 16  # of the input, until the caller resizes it


def build_tflite(config: GeneratorConfig, weights: Weights, metadata: dict[str, str]) -> bytes:
    """The folded generator as the bytes of a TFLite file; arguments as of `upscale.export.onnx.build_onnx`.

    Raises:
        BackendError: ai-edge-litert or flatbuffers is not installed.
        ModelError: the weights do not fit `config`.
    """
    layers = conv_weights(config, weights)
    graph = Graph()
    u, anchors = config.unshuffle, config.anchor_channels
    luma = start = graph.luma()
    if u > 1:
        start = graph.space_to_depth(luma, "unshuffled", u)
    value = start
    for i, (kernel, bias) in enumerate(layers):
        value = graph.convolution(f"convs.{i}", value, kernel, bias, relu=i < len(layers) - 1)
    # The anchor is a 1×1 convolution with ones and zeros: every delegate has it, none has GATHER.
    pick = np.zeros((len(anchors), u * u, 1, 1), np.float32)
    pick[np.arange(len(anchors)), anchors] = 1
    zero = np.zeros(len(anchors), np.float32)
    anchor = graph.convolution("anchor", start, pick, zero, relu=False)
    anchored = graph.add(value, anchor, "anchored")
    upscaled = graph.depth_to_space(anchored, "upscaled", config.scale * u)
    return graph.finish(luma, upscaled, {**metadata, "config": config.to_json()})


def _schema() -> Any:
    try:
        import flatbuffers  # noqa: F401  the schema's classes need it to pack
        from ai_edge_litert import schema_py_generated
    except ImportError as e:
        raise BackendError(
            "TFLite export needs ai-edge-litert and flatbuffers: pip install '.[train]'"
        ) from e
    return schema_py_generated


class Graph:
    """One subgraph of tensors with free batch, height and width; float32 unless made something else."""

    def __init__(self) -> None:
        self.schema = _schema()
        self.tensors: list[Any] = []
        self.operators: list[Any] = []
        self.codes: list[int] = []
        self.buffers: list[Any] = [self.schema.BufferT()]  # buffer 0 is "no data", by convention

    def activation(self, name: str, side: int, channels: int) -> int:
        index = self._tensor(name, [1, side, side, channels], buffer=0)
        # -1 marks what ResizeInputTensor may change.
        self.tensors[index].shapeSignature = np.array([-1, -1, -1, channels], np.int32)
        return index

    def luma(self) -> int:
        return self.activation("luma", _SIDE, 1)

    def convolution(
        self,
        name: str,
        value: int,
        kernel: npt.NDArray[np.float32],
        bias: npt.NDArray[np.float32],
        *,
        relu: bool,
    ) -> int:
        """Add CONV_2D with float weights. kernel: (O, I, k, k), as in torch."""
        weights = self.constant(f"{name}.weight", kernel.transpose(0, 2, 3, 1))
        biases = self.constant(f"{name}.bias", bias)
        return self.convolve(name, [value, weights, biases], len(bias), relu=relu)

    def convolve(self, name: str, operands: list[int], channels: int, *, relu: bool, stride: int = 1) -> int:
        """Add CONV_2D of value, weights (O, k, k, I) and bias, with zero padding."""
        options = self.schema.Conv2DOptionsT()
        options.padding = _SAME
        options.strideH = options.strideW = stride
        options.dilationHFactor = options.dilationWFactor = 1
        options.fusedActivationFunction = _RELU if relu else _NO_ACTIVATION
        side = self._shape(operands[0])[0] // stride
        return self._operator("CONV_2D", "Conv2D", options, operands, name, side, channels)

    def constant(self, name: str, array: npt.NDArray) -> int:
        """Add the values of an array, in little-endian order; the tensor's type is the caller's business."""
        data = array.astype(array.dtype.newbyteorder("<")).tobytes()
        return self._tensor(name, list(array.shape), self._buffer(data))

    def add(self, a: int, b: int, name: str) -> int:
        options = self.schema.AddOptionsT()
        options.fusedActivationFunction = _NO_ACTIVATION
        return self._operator("ADD", "Add", options, [a, b], name, *self._shape(a))

    def space_to_depth(self, value: int, name: str, block: int) -> int:
        options = self.schema.SpaceToDepthOptionsT()
        options.blockSize = block
        side, channels = self._shape(value)
        shape = side // block, channels * block**2
        return self._operator("SPACE_TO_DEPTH", "SpaceToDepth", options, [value], name, *shape)

    def depth_to_space(self, value: int, name: str, block: int) -> int:
        options = self.schema.DepthToSpaceOptionsT()
        options.blockSize = block
        side, channels = self._shape(value)
        shape = side * block, channels // block**2
        return self._operator("DEPTH_TO_SPACE", "DepthToSpace", options, [value], name, *shape)

    def finish(self, luma: int, upscaled: int, metadata: dict[str, str]) -> bytes:
        """The whole file, with one signature "serving_default"."""
        import flatbuffers

        s = self.schema
        subgraph = s.SubGraphT()
        subgraph.name = b"generator"
        subgraph.tensors, subgraph.operators = self.tensors, self.operators
        subgraph.inputs, subgraph.outputs = np.array([luma], np.int32), np.array([upscaled], np.int32)
        model = s.ModelT()
        model.version = _SCHEMA_VERSION
        model.description = b"upscale"
        model.subgraphs, model.buffers = [subgraph], self.buffers
        model.operatorCodes = [self._operator_code(code) for code in self.codes]
        model.metadata = [self._metadata(name, text) for name, text in sorted(metadata.items())]
        model.signatureDefs = [self._signature(luma, upscaled)]
        builder = flatbuffers.Builder(1024)
        builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
        return bytes(builder.Output())

    def _shape(self, tensor: int) -> tuple[int, int]:
        """(side, channels)"""
        _, side, _, channels = self.tensors[tensor].shape
        return int(side), int(channels)

    def _tensor(self, name: str, shape: list[int], buffer: int) -> int:
        tensor = self.schema.TensorT()
        tensor.name = name.encode()
        tensor.shape = np.array(shape, np.int32)
        tensor.type = _FLOAT32
        tensor.buffer = buffer
        self.tensors.append(tensor)
        return len(self.tensors) - 1

    def _buffer(self, data: bytes) -> int:
        buffer = self.schema.BufferT()
        buffer.data = np.frombuffer(data, np.uint8)
        self.buffers.append(buffer)
        return len(self.buffers) - 1

    def _operator(
        self, code: str, kind: str, options: Any, inputs: list[int], name: str, side: int, channels: int
    ) -> int:
        number = getattr(self.schema.BuiltinOperator, code)
        if number not in self.codes:
            self.codes.append(number)
        output = self.activation(name, side, channels)
        operator = self.schema.OperatorT()
        operator.opcodeIndex = self.codes.index(number)
        operator.inputs, operator.outputs = np.array(inputs, np.int32), np.array([output], np.int32)
        operator.builtinOptionsType = getattr(self.schema.BuiltinOptions, f"{kind}Options")
        operator.builtinOptions = options
        self.operators.append(operator)
        return output

    def _operator_code(self, number: int) -> Any:
        code = self.schema.OperatorCodeT()
        # Readers take the larger of both fields: old ones know only the deprecated one.
        code.builtinCode = code.deprecatedBuiltinCode = number
        code.version = 1
        return code

    def _metadata(self, name: str, text: str) -> Any:
        entry = self.schema.MetadataT()
        entry.name = name.encode()
        entry.buffer = self._buffer(text.encode())
        return entry

    def _signature(self, luma: int, upscaled: int) -> Any:
        def named(name: bytes, tensor: int) -> Any:
            entry = self.schema.TensorMapT()
            entry.name, entry.tensorIndex = name, tensor
            return entry

        signature = self.schema.SignatureDefT()
        signature.signatureKey = b"serving_default"
        signature.inputs, signature.outputs = [named(b"luma", luma)], [named(b"upscaled", upscaled)]
        signature.subgraphIndex = 0
        return signature
