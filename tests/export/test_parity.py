"""The check that an export must pass does fail when a file is another network's."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from networks import HALF, TINY, random_weights, real_luma, write_model

from upscale.errors import ModelError
from upscale.export.onnx_int8 import build_onnx_int8
from upscale.export.parity import check_exports
from upscale.export.quantize import quantize
from upscale.export.tflite_int8 import build_tflite_int8


def test_passes_and_reports(samples: Path, tmp_path: Path) -> None:
    pictures = [real_luma(samples / "bee_360p.mp4", n)[:120, :160] for n in (0, 9)]
    model = write_model(tmp_path, HALF)
    integers = quantize(HALF, random_weights(HALF), pictures)
    (tmp_path / "int8.tflite").write_bytes(build_tflite_int8(integers, {}))
    (tmp_path / "int8.onnx").write_bytes(build_onnx_int8(integers, {}).SerializeToString())
    int8 = {"tflite_int8": tmp_path / "int8.tflite", "onnx_int8": tmp_path / "int8.onnx"}
    parity = check_exports(replace(model, **int8), pictures)
    assert parity.onnx in (0, 1)
    assert parity.tflite in (0, 1)
    assert parity.int8_psnr is not None
    assert 45 <= parity.int8_psnr < 100
    assert check_exports(replace(model, tflite=None), pictures).tflite is None


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("onnx", "onnx differs"),
        ("tflite", "tflite differs"),
        ("tflite_int8", "int8 tflite is"),
        ("onnx_int8", "int8 onnx is"),
    ],
)
def test_another_networks_file_fails(kind: str, words: str, samples: Path, tmp_path: Path) -> None:
    pictures = [real_luma(samples / "bee_360p.mp4", 0)[:120, :160]]
    (tmp_path / "other").mkdir()
    model, other = write_model(tmp_path, TINY), write_model(tmp_path / "other", TINY, seed=1)
    wrong = other.path(kind.removesuffix("_int8"))
    with pytest.raises(ModelError, match=words):
        check_exports(replace(model, **{kind: wrong}), pictures)
