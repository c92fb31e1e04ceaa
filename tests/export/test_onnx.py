"""The ONNX file: equal to torch, free in size, self-describing."""

from __future__ import annotations

import builtins
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from networks import FULL, HALF, TINY, random_weights, torch_output

from upscale.errors import BackendError, ModelError
from upscale.export.onnx import build_onnx
from upscale.model.config import GeneratorConfig


@pytest.mark.parametrize("config", [HALF, FULL, TINY], ids=["half", "full", "tiny"])
def test_equals_torch_at_several_sizes_of_one_session(config: GeneratorConfig, tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(build_onnx(config, random_weights(config), {}).SerializeToString())
    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    for n, height, width in ((1, 64, 96), (2, 30, 18), (1, 2, 2)):
        pictures = np.random.default_rng(n).random((n, 1, height, width), dtype=np.float32)
        (output,) = session.run(["upscaled"], {"luma": pictures})
        expected = torch_output(config, pictures)
        assert output.shape == (n, 1, 2 * height, 2 * width)
        np.testing.assert_allclose(output, expected, rtol=0, atol=1e-5)


def test_carries_its_configuration_and_metadata(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(build_onnx(HALF, random_weights(HALF), {"training": "none"}).SerializeToString())
    model = onnx.load(path)
    properties = {p.key: p.value for p in model.metadata_props}
    assert GeneratorConfig.from_json(properties["config"]) == HALF
    assert properties["training"] == "none"


def test_uses_only_operators_that_phones_and_old_runtimes_have(tmp_path: Path) -> None:
    """Resize, Concat and Reshape make the same network up to 2.5 times slower on phones."""
    path = tmp_path / "net.onnx"
    path.write_bytes(build_onnx(HALF, random_weights(HALF), {}).SerializeToString())
    model = onnx.load(path)
    operators = {node.op_type for node in model.graph.node}
    assert operators == {"SpaceToDepth", "Conv", "Relu", "Gather", "Add", "DepthToSpace"}
    assert model.opset_import[0].version <= 17


def test_same_weights_same_file(tmp_path: Path) -> None:
    """The hash of a released file can be checked by exporting it again."""
    for name in ("a", "b"):
        (tmp_path / name).write_bytes(
            build_onnx(HALF, random_weights(HALF), {"x": "1", "b": "2"}).SerializeToString()
        )
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def _without(weights: dict[str, np.ndarray]) -> None:
    del weights["convs.1.bias"]


def _reshaped(weights: dict[str, np.ndarray]) -> None:
    weights["convs.0.weight"] = weights["convs.0.weight"][:, :, :1]


def _infinite(weights: dict[str, np.ndarray]) -> None:
    weights["convs.0.bias"][0] = np.inf


def _superfluous(weights: dict[str, np.ndarray]) -> None:
    weights["discriminator.weight"] = np.zeros(1, np.float32)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (_without, "lack convs.1.bias"),
        (_reshaped, "has shape"),
        (_infinite, "not finite"),
        (_superfluous, "hold 5 arrays, not 4"),
    ],
)
def test_refuses_weights_that_do_not_fit(spoil: Any, words: str, tmp_path: Path) -> None:
    weights = random_weights(TINY)
    spoil(weights)
    with pytest.raises(ModelError, match=words):
        (tmp_path / "net.onnx").write_bytes(build_onnx(TINY, weights, {}).SerializeToString())
    assert not any(tmp_path.iterdir())


def test_missing_package_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without_onnx(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "onnx":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_onnx)
    with pytest.raises(BackendError, match=r"\[train\]"):
        (tmp_path / "net.onnx").write_bytes(build_onnx(TINY, random_weights(TINY), {}).SerializeToString())
