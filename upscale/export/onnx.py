"""Writes a generator as an ONNX file with free height and width.

Graph: ``luma`` float32 (N, 1, H, W) in 0…1 → ``upscaled`` (N, 1, 2H, 2W), not clipped; H and W must
be multiples of the generator's `unshuffle`. One output channel makes both orders of
DepthToSpace the same; CRD is torch's pixel shuffle.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from upscale.errors import BackendError, ModelError
from upscale.model.config import GeneratorConfig

if TYPE_CHECKING:
    import onnx

#: Old enough for every onnxruntime since 1.8, new enough for all operators used.
OPSET = 13
IR_VERSION = 7

Weights = dict[str, npt.NDArray[np.float32]]


def conv_weights(
    config: GeneratorConfig, weights: Weights
) -> list[tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]]:
    """Kernel (O, I, 3, 3) and bias (O,) of every layer, first to last, float32.

    Raises:
        ModelError: an array is missing, superfluous, not finite or of another shape than `config` says.
    """
    layers = []
    for i, (inputs, outputs) in enumerate(config.layers):
        pair = []
        for part, shape in (("weight", (outputs, inputs, 3, 3)), ("bias", (outputs,))):
            name = f"convs.{i}.{part}"
            if name not in weights:
                raise ModelError(f"the weights lack {name}")
            array = np.ascontiguousarray(weights[name], dtype=np.float32)
            if array.shape != shape:
                raise ModelError(f"{name} has shape {array.shape}, not {shape}")
            if not np.isfinite(array).all():
                raise ModelError(f"{name} is not finite")
            pair.append(array)
        layers.append((pair[0], pair[1]))
    if len(weights) != 2 * len(layers):
        raise ModelError(f"the weights hold {len(weights)} arrays, not {2 * len(layers)}")
    return layers


def build_onnx(config: GeneratorConfig, weights: Weights, metadata: dict[str, str]) -> onnx.ModelProto:
    """The folded generator as a checked ONNX model.

    Args:
        config: the generator's shape; stored as JSON under the metadata key ``config``.
        weights: ``convs.{i}.weight`` (O, I, 3, 3) and ``convs.{i}.bias`` (O,), float32.
        metadata: further entries for the file's metadata.

    Raises:
        BackendError: the `onnx` package is not installed.
        ModelError: the weights do not fit `config`.
    """
    try:
        from onnx import TensorProto, helper
    except ImportError as e:
        raise BackendError("ONNX export needs the onnx package: pip install '.[train]'") from e

    u = config.unshuffle
    block = config.scale * u
    nodes, constants = _nodes(config, conv_weights(config, weights))
    nodes.append(helper.make_node("DepthToSpace", ["anchored"], ["upscaled"], blocksize=block, mode="CRD"))
    return finish_model(nodes, constants, TensorProto.FLOAT, config, metadata)


def finish_model(
    nodes: list[onnx.NodeProto],
    constants: list[onnx.TensorProto],
    samples: int,
    config: GeneratorConfig,
    metadata: dict[str, str],
) -> onnx.ModelProto:
    """The checked model of a graph from ``luma`` to ``upscaled``.

    Args:
        samples: ONNX' number of the type on both sides.
    """
    import onnx
    from onnx import helper

    luma = helper.make_tensor_value_info("luma", samples, ["N", 1, "H", "W"])
    upscaled = helper.make_tensor_value_info("upscaled", samples, ["N", 1, "2H", "2W"])
    model = helper.make_model(
        helper.make_graph(nodes, "generator", [luma], [upscaled], constants),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="upscale",
    )
    helper.set_model_props(model, {**metadata, "config": config.to_json()})
    onnx.checker.check_model(model)
    return model


def _nodes(
    config: GeneratorConfig, layers: list[tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]]
) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    """Nodes from ``luma`` to ``anchored``, and their constants."""
    from onnx import helper, numpy_helper

    nodes, constants = [], []
    start = "luma"
    if config.unshuffle > 1:
        start = "unshuffled"
        nodes.append(helper.make_node("SpaceToDepth", ["luma"], [start], blocksize=config.unshuffle))
    value = start
    for i, (kernel, bias) in enumerate(layers):
        names = [f"convs.{i}.weight", f"convs.{i}.bias"]
        constants += [numpy_helper.from_array(a, n) for a, n in zip((kernel, bias), names, strict=True)]
        nodes.append(
            helper.make_node(
                "Conv", [value, *names], [f"conv{i}"], kernel_shape=[3, 3], pads=[1, 1, 1, 1], strides=[1, 1]
            )
        )
        value = f"conv{i}"
        if i < len(layers) - 1:
            nodes.append(helper.make_node("Relu", [value], [f"relu{i}"]))
            value = f"relu{i}"
    # At full resolution every output channel has the same anchor, which Add's broadcasting gives.
    # Otherwise Gather copies it: 3 % of the whole network faster in onnxruntime than a 1×1
    # convolution, and exact even where a device convolves in reduced precision.
    if config.unshuffle > 1:
        constants.append(
            numpy_helper.from_array(np.array(config.anchor_channels, np.int64), "anchor_channels")
        )
        nodes.append(helper.make_node("Gather", [start, "anchor_channels"], ["anchor"], axis=1))
        start = "anchor"
    nodes.append(helper.make_node("Add", [value, start], ["anchored"]))
    return nodes, constants
