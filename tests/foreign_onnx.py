"""ONNX files that are not ours, for the tests of what is loaded and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def shuffle_network(
    *,
    scale: int = 2,
    channels: int = 1,
    shape: tuple[int | str, ...] = ("N", "C", "H", "W"),
    kind: int = TensorProto.FLOAT,
) -> onnx.ModelProto:
    """A 1×1 convolution and a pixel shuffle: the smallest honest upscaler."""
    dtype = helper.tensor_dtype_to_np_dtype(kind)
    kernel = np.ones((scale**2, channels, 1, 1), dtype)
    nodes = [
        helper.make_node("Conv", ["x", "kernel"], ["wide"]),
        helper.make_node("DepthToSpace", ["wide"], ["y"], blocksize=scale),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", kind, shape)],
        [helper.make_tensor_value_info("y", kind, None)],
        [numpy_helper.from_array(kernel, "kernel")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


def save(model: onnx.ModelProto, path: Path) -> Path:
    path.write_bytes(model.SerializeToString())
    return path


def external(tensor: TensorProto, location: str) -> None:
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)


def write_rgb_network(path: Path) -> None:
    """Repeats every pixel of an RGB picture."""
    graph = helper.make_graph(
        [helper.make_node("Resize", ["x", "", "twice"], ["y"], mode="nearest",
                          coordinate_transformation_mode="asymmetric", nearest_mode="floor")],
        "rgb",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, "h", "w"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 3, "h2", "w2"])],
        [helper.make_tensor("twice", TensorProto.FLOAT, [4], [1, 1, 2, 2])],
    )  # fmt: skip
    opset = [helper.make_opsetid("", 13)]
    path.write_bytes(helper.make_model(graph, ir_version=7, opset_imports=opset).SerializeToString())
