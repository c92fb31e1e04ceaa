"""The TFLite file: equal to torch, resizable, self-describing."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter
from networks import FULL, HALF, TINY, random_weights, torch_output

from upscale.errors import BackendError, ModelError
from upscale.export.tflite import build_tflite
from upscale.model.config import GeneratorConfig


def run(interpreter: Any, pictures: np.ndarray) -> np.ndarray:
    """(N, 1, H, W) → (N, 1, 2H, 2W) by an interpreter that is resized to the pictures."""
    index = interpreter.get_input_details()[0]["index"]
    values = np.ascontiguousarray(pictures.transpose(0, 2, 3, 1))
    interpreter.resize_tensor_input(index, values.shape)
    interpreter.allocate_tensors()
    interpreter.set_tensor(index, values)
    interpreter.invoke()
    output: np.ndarray = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
    return output.transpose(0, 3, 1, 2)


@pytest.mark.parametrize("config", [HALF, FULL, TINY], ids=["half", "full", "tiny"])
def test_equals_torch_at_several_sizes_of_one_interpreter(config: GeneratorConfig, tmp_path: Path) -> None:
    path = tmp_path / "net.tflite"
    path.write_bytes(build_tflite(config, random_weights(config), {}))
    interpreter = Interpreter(model_path=str(path), num_threads=1)
    for n, height, width in ((1, 64, 96), (2, 30, 18), (1, 2, 2), (1, 64, 96)):
        pictures = np.random.default_rng(n).random((n, 1, height, width), dtype=np.float32)
        output = run(interpreter, pictures)
        assert output.shape == (n, 1, 2 * height, 2 * width)
        np.testing.assert_allclose(output, torch_output(config, pictures), rtol=0, atol=1e-5)


def test_equals_torch_with_the_reference_kernels() -> None:
    """XNNPACK is only one implementation: the file must mean the same without it."""
    from ai_edge_litert.interpreter import OpResolverType

    interpreter = Interpreter(
        model_content=build_tflite(HALF, random_weights(HALF), {}),
        experimental_op_resolver_type=OpResolverType.BUILTIN_REF,
    )
    pictures = np.random.default_rng(5).random((1, 1, 12, 20), dtype=np.float32)
    np.testing.assert_allclose(run(interpreter, pictures), torch_output(HALF, pictures), rtol=0, atol=1e-5)


def test_runs_before_anybody_resizes_it() -> None:
    """Tools that only allocate, such as benchmark_model, need shapes that fit together."""
    interpreter = Interpreter(model_content=build_tflite(HALF, random_weights(HALF), {}))
    interpreter.allocate_tensors()
    interpreter.invoke()
    details = interpreter.get_input_details()[0]
    assert (list(details["shape"]), list(details["shape_signature"])) == ([1, 16, 16, 1], [-1, -1, -1, 1])
    assert list(interpreter.get_output_details()[0]["shape"]) == [1, 32, 32, 1]


def test_carries_its_configuration_and_metadata() -> None:
    content = build_tflite(HALF, random_weights(HALF), {"training": "none"})
    model = schema.ModelT.InitFromPackedBuf(content)
    found = {m.name.decode(): bytes(model.buffers[m.buffer].data).decode() for m in model.metadata}
    assert GeneratorConfig.from_json(found["config"]) == HALF
    assert found["training"] == "none"
    assert schema.Model.ModelBufferHasIdentifier(content, 0)


def test_uses_only_operators_that_delegates_have() -> None:
    """Each operator that a delegate lacks cuts the graph in two and copies every picture twice."""
    model = schema.ModelT.InitFromPackedBuf(build_tflite(HALF, random_weights(HALF), {}))
    names = {v: k for k, v in vars(schema.BuiltinOperator).items() if isinstance(v, int)}
    assert {names[code.builtinCode] for code in model.operatorCodes} == {
        "SPACE_TO_DEPTH",
        "CONV_2D",
        "ADD",
        "DEPTH_TO_SPACE",
    }
    assert all(code.version == 1 for code in model.operatorCodes)


def test_same_weights_same_file() -> None:
    """The hash of a released file can be checked by exporting it again."""
    files = [
        build_tflite(HALF, random_weights(HALF), meta)
        for meta in ({"a": "1", "b": "2"}, {"b": "2", "a": "1"})
    ]
    assert files[0] == files[1]


def test_refuses_weights_that_do_not_fit(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="has shape"):
        (tmp_path / "net.tflite").write_bytes(build_tflite(HALF, random_weights(FULL), {}))
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("module", ["ai_edge_litert", "flatbuffers"])
def test_missing_package_names_the_extra(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(BackendError, match=r"\[train\]"):
        build_tflite(TINY, random_weights(TINY), {})
