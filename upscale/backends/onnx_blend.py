"""Blends two ONNX files in their bytes, without the onnx package: see `upscale.model.blend`."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from upscale.backends.onnx_file import fields
from upscale.model.blend import Floats, Mismatch, interpolate

# Field numbers of onnx.proto.
_MODEL_GRAPH, _MODEL_OPSETS, _MODEL_FUNCTIONS = 7, 8, 25
_GRAPH_NAME, _GRAPH_INITIALIZER, _GRAPH_DOC = 2, 5, 10
_TENSOR_TYPE, _TENSOR_FLOATS, _TENSOR_NAME, _TENSOR_RAW, _TENSOR_DOC = 2, 4, 8, 9, 12
_FLOAT = 1


@dataclass(slots=True)
class _Tensor:
    """One initialiser: what must be equal in both files, and a view of its bytes."""

    name: str = ""
    facts: list[tuple[int, int | bytes]] = field(default_factory=list)
    data: memoryview = field(default_factory=lambda: memoryview(b""))
    is_float: bool = False

    def floats(self) -> Floats:
        """Writable where the file's bytes are."""
        return np.frombuffer(self.data, "<f4")


def blend_onnx(fidelity: bytes, gan: bytes, strength: float) -> bytes:
    """`upscale.model.blend.Merge` of two ONNX files whose weights are float32 initialisers.

    Raises:
        Mismatch: another graph, or initialisers of other names, shapes or types.
        ValueError, IndexError: not ONNX.
    """
    result = bytearray(gan)
    ours, rest = _read(memoryview(result))
    theirs, other_rest = _read(memoryview(fidelity))
    if [t.name for t in ours] != [t.name for t in theirs]:
        raise Mismatch("they have other weights")
    for tensor, other in zip(ours, theirs, strict=True):
        if tensor.facts != other.facts or len(tensor.data) != len(other.data):
            raise Mismatch(f"{tensor.name} has another shape or type there")
        if tensor.is_float:
            if not tensor.data:
                raise Mismatch(f"{tensor.name} is stored in a way that cannot be blended")
            values = tensor.floats()
            values[...] = interpolate(other.floats(), values, strength)
        elif tensor.data != other.data:
            raise Mismatch(f"{tensor.name} differs and cannot be blended")
    if rest != other_rest:
        raise Mismatch("their graphs differ")
    return bytes(result)


def _read(model: memoryview) -> tuple[list[_Tensor], list[tuple[int, int, int | bytes]]]:
    """The graph's initialisers, and everything else that decides what the network computes."""
    tensors, rest = [], []
    for number, value in fields(model):
        if number in (_MODEL_OPSETS, _MODEL_FUNCTIONS):
            rest.append((number, 0, _plain(value)))
        if number != _MODEL_GRAPH or not isinstance(value, memoryview):
            continue
        for inner, part in fields(value):
            if inner == _GRAPH_INITIALIZER and isinstance(part, memoryview):
                tensors.append(_read_tensor(part))
            elif inner not in (_GRAPH_NAME, _GRAPH_DOC):
                rest.append((number, inner, _plain(part)))
    if not rest:
        raise ValueError("no graph")
    return tensors, rest


def _read_tensor(message: memoryview) -> _Tensor:
    tensor = _Tensor()
    for number, value in fields(message):
        if number in (_TENSOR_RAW, _TENSOR_FLOATS) and isinstance(value, memoryview) and not tensor.data:
            tensor.data = value
        elif number == _TENSOR_NAME:
            tensor.name = bytes(value).decode(errors="replace") if isinstance(value, memoryview) else ""
        elif number != _TENSOR_DOC:
            tensor.facts.append((number, _plain(value)))
    tensor.is_float = (_TENSOR_TYPE, _FLOAT) in tensor.facts
    return tensor


def _plain(value: int | memoryview) -> int | bytes:
    return bytes(value) if isinstance(value, memoryview) else value
