"""ONNX files in their bytes, without the onnx package: checked before any runtime parses them, and blended.

Field numbers are those of onnx.proto.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from upscale.errors import ModelError
from upscale.model.blend import Floats, Mismatch, interpolate

MAX_BYTES = 64 * 2**20

# Fields of onnx.proto, by message, that lead to a TensorProto: {field: message}.
_MESSAGES = {
    "model": {7: "graph"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 10: "tensor", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {},
}
_TENSOR_EXTERNAL_DATA, _TENSOR_DATA_LOCATION = 13, 14
_MAX_DEPTH = 32
_REFUSED = {
    ("model", 20): "training information",
    ("model", 25): "functions of its own",
    ("attribute", 6): "branches or loops",
    ("attribute", 11): "branches or loops",
}
_NODE_DOMAIN = ("node", 7)
#: ONNX's own, and the one that onnxruntime itself brings (quantised layers).
_DOMAINS: tuple[object, ...] = (b"", b"ai.onnx", b"com.microsoft")

# What blending reads.
_MODEL_GRAPH, _MODEL_OPSETS, _MODEL_FUNCTIONS = 7, 8, 25
_GRAPH_NAME, _GRAPH_INITIALIZER, _GRAPH_DOC = 2, 5, 10
_TENSOR_TYPE, _TENSOR_FLOATS, _TENSOR_NAME, _TENSOR_RAW, _TENSOR_DOC = 2, 4, 8, 9, 12
_FLOAT = 1


def read_onnx(path: Path) -> bytes:
    """The file's bytes, once they are known to be small and self-contained.

    Weights outside the file (external data) could name any file of this machine; onnxruntime follows
    even hard links, so such models are refused. So are loops and branches, which may never end, functions
    that hide them, and operators of other domains, which are native code.

    Raises:
        ModelError: unreadable, larger than 64 MB, not ONNX, or with one of these.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as e:
        raise ModelError(e.strerror or str(e), path=str(path)) from e
    if len(data) > MAX_BYTES:
        raise ModelError(f"larger than {MAX_BYTES >> 20} MB: not a model of this family", path=str(path))
    try:
        refusal = _refusal(memoryview(data))
    except (IndexError, ValueError) as e:
        raise ModelError("not an ONNX file", path=str(path)) from e
    if refusal:
        raise ModelError(f"an ONNX file with {refusal} is not accepted", path=str(path))
    return data


def _refusal(data: memoryview, message: str = "model", depth: int = 0) -> str | None:
    """What the file contains that is not accepted; None if nothing."""
    if depth > _MAX_DEPTH:
        raise ValueError("nested too deeply")
    children = _MESSAGES[message]
    for number, value in fields(data):
        if message == "tensor" and number in (_TENSOR_EXTERNAL_DATA, _TENSOR_DATA_LOCATION) and value != 0:
            return "weights outside itself"
        if (message, number) in _REFUSED:
            return _REFUSED[message, number]
        if (message, number) == _NODE_DOMAIN and isinstance(value, memoryview) and value not in _DOMAINS:
            return "operators that are not ONNX's own"
        child = children.get(number)
        if child and isinstance(value, memoryview) and (found := _refusal(value, child, depth + 1)):
            return found
    return None


def fields(data: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """(field number, integer or bytes) of each field of one protobuf message.

    Bytes are views into `data`, so what is written to them is written to the file. Fields of fixed width
    (float, double) give 0.

    Raises:
        ValueError, IndexError: not protobuf, or cut short.
    """
    at, end = 0, len(data)
    while at < end:
        key, at = _varint(data, at)
        kind = key & 7
        value: int | memoryview = 0
        if kind == 0:
            value, at = _varint(data, at)
        elif kind == 2:
            size, at = _varint(data, at)
            value = data[at : at + size]
            at += size
        elif kind in (1, 5):
            at += 8 if kind == 1 else 4
        else:
            raise ValueError("not protobuf")
        if at > end:
            raise ValueError("cut short")
        yield key >> 3, value


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while shift < 70:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    raise ValueError("not protobuf")


@dataclass(slots=True)
class _Tensor:
    """One initialiser: the fields that must be equal in both files, and a view of its values' bytes."""

    name: str = ""
    fields: list[tuple[int, int | bytes]] = field(default_factory=list)
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
        if tensor.fields != other.fields or len(tensor.data) != len(other.data):
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
            tensor.fields.append((number, _plain(value)))
    tensor.is_float = (_TENSOR_TYPE, _FLOAT) in tensor.fields
    return tensor


def _plain(value: int | memoryview) -> int | bytes:
    return bytes(value) if isinstance(value, memoryview) else value
