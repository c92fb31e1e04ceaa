"""Both int8 files: the same integers, the same pictures, free sizes, fused kernels.

Covers onnx_int8, tflite_int8 and cells.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from ai_edge_litert import schema_py_generated as schema
from networks import FULL, HALF, TINY, random_weights, real_luma

from upscale.backends.onnx import OnnxBackend
from upscale.backends.tflite import TfliteBackend
from upscale.errors import BackendError
from upscale.export.onnx_int8 import build_onnx_int8
from upscale.export.quantize import IntegerNetwork, quantize, run_integers
from upscale.export.tflite_int8 import build_tflite_int8
from upscale.model.config import GeneratorConfig

BACKENDS = {"onnx": OnnxBackend, "tflite": TfliteBackend}


@pytest.fixture(scope="module")
def luma(samples: Path) -> np.ndarray:
    return real_luma(samples / "bee_360p.mp4", 40)


@pytest.fixture(scope="module", params=[HALF, FULL, TINY], ids=["half", "full", "tiny"])
def network(request: pytest.FixtureRequest, luma: np.ndarray) -> IntegerNetwork:
    config: GeneratorConfig = request.param
    return quantize(config, random_weights(config), [luma[:64, :96]])


@pytest.fixture(scope="module")
def files(network: IntegerNetwork, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("int8")
    paths = {"onnx": folder / "net_int8.onnx", "tflite": folder / "net_int8.tflite"}
    paths["onnx"].write_bytes(build_onnx_int8(network, {"training": "none"}).SerializeToString())
    paths["tflite"].write_bytes(build_tflite_int8(network, {"training": "none"}))
    return paths


def opened(name: str, files: dict[str, Path], **more: Any) -> Any:
    return BACKENDS[name](files[name], precision="int8", **more)


@pytest.mark.parametrize("name", BACKENDS)
def test_computes_these_integers(
    name: str, network: IntegerNetwork, files: dict[str, Path], luma: np.ndarray
) -> None:
    """To one code value where a half rounds the other way."""
    expected = run_integers(network.config, network.layers, luma)
    with opened(name, files) as backend:
        error = np.abs(backend(luma).astype(int) - expected)
    assert error.max() <= 1
    assert error.mean() < 1e-3


def test_both_files_make_the_same_picture(files: dict[str, Path], luma: np.ndarray) -> None:
    with opened("onnx", files) as a, opened("tflite", files) as b:
        error = np.abs(a(luma).astype(int) - b(luma))
    assert error.max() <= 1
    assert error.mean() < 1e-3


@pytest.mark.parametrize("size", [(1, 1), (1, 2), (3, 2), (5, 7), (33, 51), (2, 300)])
@pytest.mark.parametrize("name", BACKENDS)
def test_any_size_and_strided_rows(
    name: str, size: tuple[int, int], network: IntegerNetwork, files: dict[str, Path], luma: np.ndarray
) -> None:
    view = luma[: size[0], : size[1]]
    u = network.config.multiple
    padded = np.pad(view, ((0, -size[0] % u), (0, -size[1] % u)), mode="edge")
    expected = run_integers(network.config, network.layers, padded)[: 2 * size[0], : 2 * size[1]]
    with opened(name, files) as backend:
        result = backend(view)
    assert result.flags.c_contiguous
    assert np.abs(result.astype(int) - expected).max(initial=0) <= 1


@pytest.mark.parametrize("name", BACKENDS)
def test_refuses_more_than_8_bits(name: str, files: dict[str, Path]) -> None:
    with opened(name, files) as backend, pytest.raises(BackendError, match="8 bits per sample"):
        backend(np.zeros((4, 4), np.uint16), 1023)


def test_onnxruntime_fuses_every_convolution(
    network: IntegerNetwork, files: dict[str, Path], tmp_path: Path
) -> None:
    """A convolution that is left between two conversions computes in float, slower than without them."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    options.log_severity_level = 4
    onnxruntime.InferenceSession(str(files["onnx"]), options, providers=["CPUExecutionProvider"])
    kinds = [node.op_type for node in onnx.load(tmp_path / "optimised.onnx").graph.node]
    assert kinds.count("QLinearConv") == len(network.layers) + 1
    assert kinds.count("QLinearAdd") == 1
    assert not {"Conv", "Relu", "Add", "QuantizeLinear", "DequantizeLinear"} & set(kinds)


def test_tflite_is_int8_throughout(network: IntegerNetwork, files: dict[str, Path]) -> None:
    model = schema.ModelT.InitFromPackedBuf(files["tflite"].read_bytes())
    kinds = {tensor.name.decode(): tensor.type for tensor in model.subgraphs[0].tensors}
    assert {kind for name, kind in kinds.items() if not name.endswith(".bias")} == {schema.TensorType.INT8}
    for i in range(len(network.layers)):
        assert kinds[f"convs.{i}.bias"] == schema.TensorType.INT32
    names = {v: k for k, v in vars(schema.BuiltinOperator).items() if isinstance(v, int)}
    used = {names[code.builtinCode] for code in model.operatorCodes}
    assert used <= {"SPACE_TO_DEPTH", "CONV_2D", "ADD", "DEPTH_TO_SPACE"}


def test_tflite_means_the_same_to_the_reference_kernels(
    network: IntegerNetwork, files: dict[str, Path], luma: np.ndarray
) -> None:
    """XNNPACK is only one implementation, and trusts scales that TFLite's own kernels check."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    interpreter = Interpreter(
        model_path=str(files["tflite"]), experimental_op_resolver_type=OpResolverType.BUILTIN_REF
    )
    small = luma[:32, :48]
    index = interpreter.get_input_details()[0]["index"]
    interpreter.resize_tensor_input(index, (1, 32, 48, 1))
    interpreter.allocate_tensors()
    interpreter.set_tensor(index, (small ^ 0x80).view(np.int8)[None, :, :, None])
    interpreter.invoke()
    output = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])[0, :, :, 0]
    expected = run_integers(network.config, network.layers, small)
    assert np.abs((output.view(np.uint8) ^ 0x80).astype(int) - expected).max() <= 1


def test_carry_their_configuration(network: IntegerNetwork, files: dict[str, Path]) -> None:
    model = schema.ModelT.InitFromPackedBuf(files["tflite"].read_bytes())
    found = {m.name.decode(): bytes(model.buffers[m.buffer].data).decode() for m in model.metadata}
    properties = {entry.key: entry.value for entry in onnx.load(files["onnx"]).metadata_props}
    for entries in (found, properties):
        assert GeneratorConfig.from_json(entries["config"]) == network.config
        assert entries["training"] == "none"


def test_same_network_same_files(network: IntegerNetwork, files: dict[str, Path]) -> None:
    """The hash of a released file can be checked by exporting it again."""
    meta = {"training": "none"}
    assert build_tflite_int8(network, meta) == files["tflite"].read_bytes()
    assert build_onnx_int8(network, meta).SerializeToString() == files["onnx"].read_bytes()


def test_missing_package_names_the_extra(network: IntegerNetwork, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(BackendError, match=r"\[train\]"):
        build_onnx_int8(network, {})
    monkeypatch.setitem(sys.modules, "flatbuffers", None)
    with pytest.raises(BackendError, match=r"\[train\]"):
        build_tflite_int8(network, {})
