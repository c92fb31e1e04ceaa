"""Blends two TFLite files in their bytes, float or int8: see `upscale.model.blend`.

Float weights are interpolated in place. int8 files have scales of their own, so their weights are first
turned into real values, interpolated and rounded again with the scale of the blend's own largest weight in
each output channel, as the quantiser does. What lies between the layers is computed with the calibrated range
of both files together: networks whose weights are near each other have ranges near each other, so this costs
next to nothing and clips nothing that either file would keep.

The files are read with the schema that ai-edge-litert brings; tflite_runtime has none.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from upscale.errors import BackendError
from upscale.model.blend import Mismatch, interpolate

FLOAT32, INT32, INT8 = 0, 2, 9
_LEAST, _MOST = -128, 127


@dataclass(slots=True)
class Tensor:
    """One tensor, its arrays being views into the file's bytes.

    Attributes:
        data: raw bytes of a constant; empty for what is computed.
        scales, zeros: quantisation, real = scale·(code - zero), one for the whole tensor or one per
            channel along `axis`; empty if it is not quantised.
    """

    name: str
    shape: tuple[int, ...]
    type: int
    data: npt.NDArray[np.uint8]
    scales: npt.NDArray[np.float32]
    zeros: npt.NDArray[np.int64]
    axis: int

    def values(self, kind: str) -> npt.NDArray:
        """The constant as an array of `kind` ("<f4", "i1", "<i4") and of the tensor's shape; a view."""
        return self.data.view(kind).reshape(self.shape)


@dataclass(slots=True)
class Graph:
    """The first subgraph.

    Attributes:
        operators: (code, version, inputs, outputs) of each, in the order in which they run; -1 stands for
            an input that is left out.
    """

    tensors: list[Tensor]
    operators: list[tuple[int, int, tuple[int, ...], tuple[int, ...]]]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


def blend_tflite(fidelity: bytes, gan: bytes, strength: float) -> bytes:
    """`upscale.model.blend.Merge` of two TFLite files, both float32 or both int8 of one recipe.

    Raises:
        Mismatch: another network, or another way of quantising it.
        ValueError, IndexError, struct.error: not TFLite.
    """
    result = bytearray(gan)
    ours, theirs = read_graph(result), read_graph(bytearray(fidelity))
    _compare(ours, theirs)
    _check_unshared(ours)
    # The scale of a bias is that of its layer's input times that of its weights: these come first.
    biases = {i[2]: (i[0], i[1]) for _, _, i, _ in ours.operators if len(i) == 3}
    real = {n: (_real(theirs.tensors[n]), _real(ours.tensors[n])) for n in biases if _is_int32(ours, n)}
    for tensor, other in zip(ours.tensors, theirs.tensors, strict=True):
        if tensor.type == FLOAT32 and tensor.data.size:
            values = tensor.values("<f4")
            values[...] = interpolate(other.values("<f4"), values, strength)
        elif tensor.type == INT8 and tensor.scales.size and tensor.data.size:
            _weights(tensor, interpolate(_real(other), _real(tensor), strength))
        elif tensor.type == INT8 and tensor.scales.size:
            _range(tensor, other)
    for number, (fidelity_bias, gan_bias) in real.items():
        value, weights = (ours.tensors[n] for n in biases[number])
        _bias(ours.tensors[number], interpolate(fidelity_bias, gan_bias, strength), value, weights)
    return bytes(result)


def read_graph(data: bytearray) -> Graph:
    """The network in the bytes of a .tflite file.

    Raises:
        BackendError: ai-edge-litert is not installed.
        ValueError, IndexError, TypeError, AttributeError, struct.error: not a TFLite file with one subgraph.
    """
    try:
        from ai_edge_litert.schema_py_generated import Model
    except ImportError as e:
        raise BackendError("blending TFLite files needs ai-edge-litert: pip install '.[tflite]'") from e
    model = Model.GetRootAs(data)
    if data[4:8] != b"TFL3" or model.SubgraphsLength() != 1:
        raise ValueError("not a TFLite file with one network")
    graph = model.Subgraphs(0)
    buffers = [_array(model.Buffers(n).DataAsNumpy(), np.uint8) for n in range(model.BuffersLength())]
    codes = [model.OperatorCodes(n) for n in range(model.OperatorCodesLength())]
    # Readers take the larger of both codes: old files have only the deprecated one.
    kinds = [(max(c.DeprecatedBuiltinCode(), c.BuiltinCode()), c.Version()) for c in codes]
    steps = [graph.Operators(n) for n in range(graph.OperatorsLength())]
    return Graph(
        [_tensor(graph.Tensors(n), buffers) for n in range(graph.TensorsLength())],
        [(*kinds[o.OpcodeIndex()], _numbers(o.InputsAsNumpy()), _numbers(o.OutputsAsNumpy())) for o in steps],
        _numbers(graph.InputsAsNumpy()),
        _numbers(graph.OutputsAsNumpy()),
    )


def _tensor(tensor: Any, buffers: list[npt.NDArray[np.uint8]]) -> Tensor:
    quantization = tensor.Quantization()
    return Tensor(
        name=(tensor.Name() or b"").decode(errors="replace"),
        shape=_numbers(tensor.ShapeAsNumpy()),
        type=tensor.Type(),
        data=buffers[tensor.Buffer()],
        scales=_array(quantization.ScaleAsNumpy() if quantization else 0, np.float32),
        zeros=_array(quantization.ZeroPointAsNumpy() if quantization else 0, np.int64),
        axis=quantization.QuantizedDimension() if quantization else 0,
    )


def _array(found: Any, kind: type) -> npt.NDArray:
    """What the schema's classes return for a vector: a view of the file's bytes, or 0 where there is none."""
    return np.empty(0, kind) if isinstance(found, int) else np.asarray(found)


def _numbers(found: Any) -> tuple[int, ...]:
    return tuple(_array(found, np.int32).tolist())


def _compare(ours: Graph, theirs: Graph) -> None:
    """See that both are one network, and that what this module does not blend is equal."""
    if [t.name for t in ours.tensors] != [t.name for t in theirs.tensors]:
        raise Mismatch("they have other tensors")
    if (ours.operators, ours.inputs, ours.outputs) != (theirs.operators, theirs.inputs, theirs.outputs):
        raise Mismatch("their graphs differ")
    for number, (a, b) in enumerate(zip(ours.tensors, theirs.tensors, strict=True)):
        sizes = [(t.shape, t.type, t.data.size, t.scales.size, t.zeros.size, t.axis) for t in (a, b)]
        if sizes[0] != sizes[1]:
            raise Mismatch(f"{a.name} has another shape or type there")
        blends = a.type == FLOAT32 or (a.scales.size and (a.type == INT8 or _is_int32(ours, number)))
        if not blends and not (np.array_equal(a.data, b.data) and np.array_equal(a.scales, b.scales)):
            raise Mismatch(f"{a.name} differs and cannot be blended")


def _check_unshared(graph: Graph) -> None:
    """Two tensors in the same bytes could not take different values."""
    places = [t.data.ctypes.data for t in graph.tensors if t.data.size]
    places += [t.scales.ctypes.data for t in graph.tensors if t.scales.size]
    if len(set(places)) != len(places):
        raise Mismatch("tensors that share their bytes cannot be blended")


def _is_int32(graph: Graph, number: int) -> bool:
    """A quantised bias."""
    return number >= 0 and graph.tensors[number].type == INT32 and graph.tensors[number].scales.size > 0


def _along(tensor: Tensor, values: npt.NDArray) -> npt.NDArray:
    """One value, or one per channel, shaped so that it broadcasts over the tensor."""
    if values.size == 1:
        return values.reshape(())
    shape = [1] * len(tensor.shape)
    shape[tensor.axis] = -1
    return values.reshape(shape)


def _real(tensor: Tensor) -> npt.NDArray[np.float64]:
    """What the codes of a quantised constant stand for."""
    codes = tensor.values("i1" if tensor.type == INT8 else "<i4").astype(np.float64)
    return (codes - _along(tensor, tensor.zeros)) * _along(tensor, tensor.scales.astype(np.float64))


def _weights(tensor: Tensor, real: npt.NDArray) -> None:
    """Round to symmetric int8 with scales of its own, and write both."""
    others = tuple(n for n in range(real.ndim) if n != tensor.axis or tensor.scales.size == 1)
    largest = np.abs(real).max(axis=others).reshape(-1)
    # A channel of zeros keeps its scale: none fits better, and 0 is not one.
    tensor.scales[...] = np.where(largest > 0, largest / _MOST, tensor.scales)
    tensor.zeros[...] = 0
    codes = np.rint(real / _along(tensor, tensor.scales))
    tensor.values("i1")[...] = np.clip(codes, -_MOST, _MOST).astype(np.int8)


def _range(tensor: Tensor, other: Tensor) -> None:
    """The smallest scale and zero that reach all that either file's reach."""
    if tensor.scales.size != 1 or tensor.zeros.size != 1:
        raise Mismatch(f"{tensor.name} is quantised in a way that cannot be blended")
    both = tensor, other
    least = min(float(t.scales[0]) * (_LEAST - int(t.zeros[0])) for t in both)
    most = max(float(t.scales[0]) * (_MOST - int(t.zeros[0])) for t in both)
    scale = (most - least) / (_MOST - _LEAST)
    tensor.scales[0] = scale
    tensor.zeros[0] = min(max(round(_LEAST - least / scale), _LEAST), _MOST)


def _bias(tensor: Tensor, real: npt.NDArray, value: Tensor, weights: Tensor) -> None:
    """Round to int32 with the scale that the layer's sums have, and write both."""
    if value.scales.size != 1:
        raise Mismatch(f"{tensor.name} is quantised in a way that cannot be blended")
    tensor.scales[...] = value.scales[0] * weights.scales
    codes = np.rint(real / _along(tensor, tensor.scales.astype(np.float64)))
    limits = np.iinfo(np.int32)
    tensor.values("<i4")[...] = np.clip(codes, limits.min, limits.max).astype(np.int32)
