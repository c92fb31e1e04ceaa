"""ncnn's two files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from networks import random_network, real_luma

from upscale.backends import load
from upscale.export.check import CannotRun, codes, difference, picture, run_in_ncnn
from upscale.export.formats import ExportOptions, export
from upscale.export.ncnn import ncnn_files
from upscale.export.tensors import luma_network, read_network
from upscale.model.config import GeneratorConfig
from upscale.model.weights import find_model


def test_the_param_file_counts_its_layers_and_blobs() -> None:
    network = read_network(find_model("gan"))
    param, data = ncnn_files(network)
    magic, counts, *lines = param.splitlines()
    assert magic == "7767517"
    made = [line.split() for line in lines]
    assert list(map(int, counts.split())) == [len(lines), sum(int(words[3]) for words in made)]
    assert len(data) == 4 * len(network.layers) + sum(k.nbytes + b.nbytes for k, b in network.layers)


def run(param: Path, luma: np.ndarray) -> np.ndarray:
    try:
        return run_in_ncnn(param, luma)
    except CannotRun as e:
        pytest.skip(str(e))


@pytest.mark.parametrize("name", ["gan", "fast"])
def test_ncnn_makes_the_pictures_of_onnxruntime(name: str, tmp_path: Path, samples: Path) -> None:
    model = find_model(name)
    files = export(name, tmp_path, ExportOptions("ncnn")).files
    frame = real_luma(samples / "bee_360p.mp4")
    with load("onnx", model, precision="fp32") as backend:
        for luma in (frame[90:180, 200:360], frame[:75, :131]):
            found = difference("ncnn", backend(luma), run(files[0], luma))
            assert found.largest <= 1
            assert found.exact > 0.999


def test_ncnn_runs_full_resolution_too(tmp_path: Path) -> None:
    network = random_network(GeneratorConfig(1, 6, 1))
    param, data = ncnn_files(network)
    (tmp_path / "a.param").write_text(param)
    (tmp_path / "a.bin").write_bytes(data)
    luma = picture(47, 33)
    ours = codes(luma_network(network, luma.astype(np.float32) / np.float32(255)))
    assert difference("ncnn", ours, run(tmp_path / "a.param", luma)).largest <= 1
