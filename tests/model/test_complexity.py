"""What is counted, against the exported files, operator by operator."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from upscale.model.complexity import ELEMENT_BYTES, complexity, frame_bytes, layer_costs
from upscale.model.config import GeneratorConfig
from upscale.model.weights import bundled, find_model

_BYTES = {schema.TensorType.FLOAT32: 4, schema.TensorType.INT32: 4, schema.TensorType.INT8: 1}


def operators_of(path: Path, height: int, width: int) -> list[tuple[int, int, int]]:
    """(weights, read, written) bytes of a TFLite file's operators, at another size than it was saved at."""
    model = schema.ModelT.InitFromPackedBuf(path.read_bytes())
    (graph,) = model.subgraphs
    saved = np.prod(graph.tensors[graph.inputs[0]].shape)

    def size(index: int) -> tuple[int, int]:
        """(weights, activations)"""
        tensor = graph.tensors[index]
        count = int(np.prod(tensor.shape)) * _BYTES[tensor.type]
        if model.buffers[tensor.buffer].data is not None:
            return count, 0
        return 0, count * height * width // int(saved)

    return [
        (
            sum(size(i)[0] for i in o.inputs),
            sum(size(i)[1] for i in o.inputs),
            sum(size(i)[1] for i in o.outputs),
        )
        for o in graph.operators
    ]


@pytest.mark.parametrize("name", sorted(bundled()))
@pytest.mark.parametrize(("kind", "precision"), [("tflite", "fp32"), ("tflite_int8", "int8")])
def test_bytes_are_those_of_the_exported_file(name: str, kind: str, precision: str) -> None:
    model = find_model(name)
    path = model.path(kind)
    assert model.config is not None
    assert path is not None
    costs = layer_costs(model.config, 360, 640, precision)
    # TFLite copies the anchor with a 1×1 convolution; ONNX needs no weights for it, and none are counted.
    u, outputs = model.config.unshuffle, model.config.layers[-1][1]
    anchor = ELEMENT_BYTES[precision] * u**2 * outputs + 4 * outputs
    counted = [(c.weights + anchor * (c.name == "anchor"), c.read, c.written) for c in costs]
    assert sorted(operators_of(path, 360, 640)) == sorted(counted)


@pytest.mark.parametrize("config", [GeneratorConfig(2, 32, 3), GeneratorConfig(1, 16, 2)])
def test_layers_add_up(config: GeneratorConfig) -> None:
    costs = layer_costs(config, 360, 640)
    assert sum(c.macs for c in costs) == complexity(config).macs_per_frame(720, 1280)
    assert sum(c.weights for c in costs) == 4 * complexity(config).parameters
    assert frame_bytes(config, 360, 640) == sum(c.weights + c.read + c.written for c in costs)
    # Every operator but the anchor's reads what the one before it wrote.
    chain = [c for c in costs if c.name != "anchor"]
    assert all(b.read >= a.written for a, b in pairwise(chain))
