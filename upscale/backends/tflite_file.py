"""Reads a TFLite file's flatbuffers in place, without any package but numpy.

Only what blending needs, as views into the file's bytes. The layout: a table begins with the distance back
to its vtable, whose 16-bit entries say how far behind the table's begin each field lies (0: absent); tables
and vectors are referred to by their distance forward. Field numbers are those of TFLite's schema.fbs.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FLOAT32, INT32, INT8 = 0, 2, 9
_MODEL_CODES, _MODEL_SUBGRAPHS, _MODEL_BUFFERS = 1, 2, 4
_GRAPH_TENSORS, _GRAPH_INPUTS, _GRAPH_OUTPUTS, _GRAPH_OPERATORS = 0, 1, 2, 3
_TENSOR_SHAPE, _TENSOR_TYPE, _TENSOR_BUFFER, _TENSOR_NAME, _TENSOR_QUANTIZATION = 0, 1, 2, 3, 4
_QUANTIZATION_SCALE, _QUANTIZATION_ZERO, _QUANTIZATION_AXIS = 2, 3, 6
_CODE_OLD, _CODE_VERSION, _CODE = 0, 2, 3


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


def read_graph(data: bytearray) -> Graph:
    """The network in the bytes of a .tflite file.

    Raises:
        ValueError, IndexError, struct.error: not a TFLite file with one subgraph.
    """
    model = _Table(data, struct.unpack_from("<I", data)[0])
    graphs = model.tables(_MODEL_SUBGRAPHS)
    if data[4:8] != b"TFL3" or len(graphs) != 1:
        raise ValueError("not a TFLite file with one network")
    graph = graphs[0]
    buffers = [buffer.vector(0, "u1") for buffer in model.tables(_MODEL_BUFFERS)]
    codes = [
        (max(c.number(_CODE_OLD, "b"), c.number(_CODE, "i")), c.number(_CODE_VERSION, "i", 1))
        for c in model.tables(_MODEL_CODES)
    ]
    operators = [
        (*codes[o.number(0, "I")], o.integers(1), o.integers(2)) for o in graph.tables(_GRAPH_OPERATORS)
    ]
    tensors = [_tensor(table, buffers) for table in graph.tables(_GRAPH_TENSORS)]
    return Graph(tensors, operators, graph.integers(_GRAPH_INPUTS), graph.integers(_GRAPH_OUTPUTS))


def _tensor(table: _Table, buffers: list[npt.NDArray[np.uint8]]) -> Tensor:
    quantization = table.table(_TENSOR_QUANTIZATION)
    no_scales, no_zeros = np.empty(0, np.float32), np.empty(0, np.int64)
    return Tensor(
        name=table.vector(_TENSOR_NAME, "u1").tobytes().decode(errors="replace"),
        shape=table.integers(_TENSOR_SHAPE),
        type=table.number(_TENSOR_TYPE, "b"),
        data=buffers[table.number(_TENSOR_BUFFER, "I")],
        scales=quantization.vector(_QUANTIZATION_SCALE, "<f4") if quantization else no_scales,
        zeros=quantization.vector(_QUANTIZATION_ZERO, "<i8") if quantization else no_zeros,
        axis=quantization.number(_QUANTIZATION_AXIS, "i") if quantization else 0,
    )


class _Table:
    """One flatbuffer table in `data`, which begins at `at`."""

    def __init__(self, data: bytearray, at: int) -> None:
        self._data = data
        self._at = at
        self._vtable = at - self._unpack("i", at)
        if self._vtable < 0:
            raise ValueError("a vtable outside the file")
        self._size = self._unpack("H", self._vtable)

    def number(self, field: int, form: str, default: int = 0) -> int:
        """A scalar of the `struct` format `form`."""
        at = self._find(field)
        return self._unpack(form, at) if at else default

    def table(self, field: int) -> _Table | None:
        at = self._find(field)
        return _Table(self._data, at + self._unpack("I", at)) if at else None

    def tables(self, field: int) -> list[_Table]:
        """A vector of tables."""
        begin, offsets = self._locate(field, "<u4")
        return [_Table(self._data, begin + 4 * i + int(offset)) for i, offset in enumerate(offsets)]

    def vector(self, field: int, kind: str) -> npt.NDArray:
        """A vector of numbers: a view that writes to the file's bytes."""
        return self._locate(field, kind)[1]

    def integers(self, field: int) -> tuple[int, ...]:
        """A vector of 32-bit integers."""
        return tuple(int(value) for value in self.vector(field, "<i4"))

    def _locate(self, field: int, kind: str) -> tuple[int, npt.NDArray]:
        """Where a vector's first element lies, and the vector."""
        at = self._find(field)
        if not at:
            return 0, np.empty(0, kind)
        at += self._unpack("I", at)
        return at + 4, np.frombuffer(self._data, kind, self._unpack("I", at), at + 4)

    def _find(self, field: int) -> int:
        """Where a field lies, 0 if it is absent."""
        entry = 4 + 2 * field
        distance = self._unpack("H", self._vtable + entry) if entry < self._size else 0
        return self._at + distance if distance else 0

    def _unpack(self, form: str, at: int) -> int:
        return int(struct.unpack_from("<" + form, self._data, at)[0])
