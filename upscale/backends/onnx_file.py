"""Reads an ONNX file and checks it before any runtime parses it, without the onnx package."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from upscale.errors import ModelError

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


def read_onnx(path: Path) -> bytes:
    """The file's bytes, once they are known to be small and self-contained.

    Weights outside the file (external data) could name any file of this machine; onnxruntime follows
    even hard links, so such models are refused. So are loops and branches, which may never end, functions
    that hide them, and operators of other domains, which are code of somebody's own.

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
    """What a file is not accepted with, in words; None if nothing speaks against it."""
    if depth > _MAX_DEPTH:
        raise ValueError("nested too deeply")
    children = _MESSAGES[message]
    for field, value in fields(data):
        if message == "tensor" and field in (_TENSOR_EXTERNAL_DATA, _TENSOR_DATA_LOCATION) and value != 0:
            return "weights outside itself"
        if (message, field) in _REFUSED:
            return _REFUSED[message, field]
        if (message, field) == _NODE_DOMAIN and isinstance(value, memoryview) and value not in _DOMAINS:
            return "operators that are not ONNX's own"
        child = children.get(field)
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
