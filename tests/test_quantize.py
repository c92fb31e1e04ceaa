"""The int8 file: close to the float one, smaller, and run by the same backend."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from networks import FULL, HALF, random_weights, real_luma

from upscale.backends.tflite import TfliteBackend
from upscale.errors import BackendError, ModelError
from upscale.model.config import GeneratorConfig
from upscale.model.export_tflite import export_tflite
from upscale.model.quantize import MIN_PSNR, Quantized, quantize_int8


@pytest.fixture(scope="module")
def pictures(samples: Path) -> list[np.ndarray]:
    clips = ("bee_360p.mp4", "face_360p.mp4")
    return [real_luma(samples / clip, n)[:180, :240] for clip in clips for n in (0, 20)]


@pytest.fixture(scope="module", params=[HALF, FULL], ids=["half", "full"])
def int8(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, pictures: list[np.ndarray]
) -> tuple[GeneratorConfig, Path, Path, Quantized]:
    config: GeneratorConfig = request.param
    folder = tmp_path_factory.mktemp("int8")
    source, target = folder / "net.tflite", folder / "net_int8.tflite"
    export_tflite(config, random_weights(config), source, {"training": "none"})
    return config, source, target, quantize_int8(source, target, pictures)


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / np.mean((a.astype(float) - b.astype(float)) ** 2)))


def test_close_to_float_on_a_real_frame(
    int8: tuple[GeneratorConfig, Path, Path, Quantized], samples: Path
) -> None:
    """On a whole frame that calibration has not seen, at a size that it has not seen."""
    _, source, target, quantized = int8
    luma = real_luma(samples / "bee_360p.mp4", 40)
    with TfliteBackend(source) as exact, TfliteBackend(target) as rounded:
        assert psnr(rounded(luma), exact(luma)) >= MIN_PSNR
        assert rounded(luma[:33, :51]).shape == (66, 102)
    assert quantized.recipe == "static"
    assert quantized.psnr >= MIN_PSNR


def test_convolutions_are_int8_and_the_anchor_is_not(
    int8: tuple[GeneratorConfig, Path, Path, Quantized],
) -> None:
    """An anchor in int8 would round the picture itself: 2.4 to 3.3 dB worse."""
    config, source, target, _ = int8
    assert target.stat().st_size < 0.5 * source.stat().st_size
    model = schema.ModelT.InitFromPackedBuf(target.read_bytes())
    kinds = {tensor.name.decode(): tensor.type for tensor in model.subgraphs[0].tensors}
    for i in range(len(config.layers)):
        assert kinds[f"convs.{i}.weight"] == schema.TensorType.INT8
    for name in ("luma", "anchor", "anchored", "upscaled"):
        assert kinds[name] == schema.TensorType.FLOAT32


def test_keeps_the_metadata(int8: tuple[GeneratorConfig, Path, Path, Quantized]) -> None:
    config, _, target, _ = int8
    model = schema.ModelT.InitFromPackedBuf(target.read_bytes())
    found = {m.name.decode(): bytes(model.buffers[m.buffer].data).decode() for m in model.metadata}
    assert GeneratorConfig.from_json(found["config"]) == config


def test_prints_nothing_and_is_reproducible(
    int8: tuple[GeneratorConfig, Path, Path, Quantized],
    pictures: list[np.ndarray],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    _, source, target, quantized = int8
    assert quantize_int8(source, tmp_path / "again", pictures) == quantized
    assert (tmp_path / "again").read_bytes() == target.read_bytes()
    assert capsys.readouterr().out == ""


def test_refuses_a_network_that_int8_spoils(
    pictures: list[np.ndarray], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "net.tflite"
    export_tflite(FULL, random_weights(FULL), source, {})
    monkeypatch.setattr("upscale.model.quantize.MIN_PSNR", 500.0)
    with pytest.raises(ModelError, match=r"static \d+\.\d dB, dynamic \d+\.\d dB"):
        quantize_int8(source, tmp_path / "int8.tflite", pictures)
    assert not (tmp_path / "int8.tflite").exists()


def test_needs_pictures(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least one"):
        quantize_int8(tmp_path / "a", tmp_path / "b", [])


def test_missing_package_names_the_extra(
    pictures: list[np.ndarray], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "net.tflite"
    export_tflite(FULL, random_weights(FULL), source, {})
    monkeypatch.setitem(sys.modules, "ai_edge_quantizer", None)
    with pytest.raises(BackendError, match=r"upscale\[train\]"):
        quantize_int8(source, tmp_path / "int8.tflite", pictures)
