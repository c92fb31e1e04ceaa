"""Faults 60 to 67: weights files that are wrong, damaged or hostile."""

from __future__ import annotations

import os
import pickle
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from conftest import write_clip
from faults import ask
from foreign_onnx import external, save, shuffle_network
from networks import TINY, random_weights
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import save_file

from upscale.backends.tflite_blend import FLOAT32, read_graph
from upscale.export.onnx import build_onnx
from upscale.export.tflite import build_tflite
from upscale.model.generator import Generator
from upscale.model.weights import weights_folder

pytestmark = pytest.mark.timeout(90)

BACKENDS = {".onnx": "onnx", ".safetensors": "torch", ".tflite": "tflite"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_clip(tmp_path / "in.mp4", frames=2)
    return tmp_path


def _refused(folder: Path, model: str, code: int, says: str) -> None:
    backend = BACKENDS.get(Path(model).suffix, "auto")
    says = f"^upscale: [^:]*{model}: .*({says})"
    ask(folder, "in.mp4", "o.mp4", "--model", model, "--backend", backend, code=code, says=says)


def _safetensors(path: Path, change: Callable[[dict[str, np.ndarray]], object] = lambda state: None) -> Path:
    state = {k: v.numpy().copy() for k, v in Generator(TINY).state_dict().items()}
    change(state)
    save_file(state, path, metadata={"config": TINY.to_json()})
    return path


def test_60_weights_that_are_no_numbers(folder: Path) -> None:
    model = build_onnx(TINY, random_weights(TINY), {})
    for tensor in model.graph.initializer:
        if len(tensor.dims) == 4:
            tensor.CopyFrom(numpy_helper.from_array(np.full(tensor.dims, np.nan, np.float32), tensor.name))
    save(model, folder / "nan.onnx")
    _refused(folder, "nan.onnx", 1, "not finite")
    _safetensors(folder / "nan.safetensors", lambda state: state["convs.0.weight"].fill(np.nan))
    _refused(folder, "nan.safetensors", 1, "not all finite")
    data = bytearray(build_tflite(TINY, random_weights(TINY), {}))
    for part in read_graph(data).tensors:
        if part.type == FLOAT32 and len(part.data):
            part.values("<f4")[...] = np.nan
    (folder / "nan.tflite").write_bytes(data)
    _refused(folder, "nan.tflite", 1, "not finite")


SHAPES = [
    ("61-rgb", shuffle_network(channels=3, shape=("N", 3, "H", "W")), "channels"),
    ("61-half", shuffle_network(kind=TensorProto.FLOAT16), "not float"),
    ("61-fixed-size", shuffle_network(shape=("N", 1, 64, 64)), "fixed"),
    ("62-factor-3", shuffle_network(scale=3), "not ×2"),
    ("62-factor-1", shuffle_network(scale=1), "not ×2"),
]


@pytest.mark.parametrize(("model", "says"), [s[1:] for s in SHAPES], ids=[s[0] for s in SHAPES])
def test_networks_of_another_shape(model: onnx.ModelProto, says: str, folder: Path) -> None:
    save(model, folder / "x.onnx")
    _refused(folder, "x.onnx", 1, says)


@pytest.mark.parametrize("suffix", [".onnx", ".safetensors", ".tflite"])
@pytest.mark.parametrize("damage", ["empty", "garbage", "cut", "text"])
def test_63_66_damaged_files(suffix: str, damage: str, folder: Path) -> None:
    whole = (weights_folder() / f"gan{suffix}").read_bytes()
    contents = {
        "empty": b"",
        "garbage": random.Random(0).randbytes(5000),
        "cut": whole[: len(whole) // 2],
        "text": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n",
    }
    (folder / f"x{suffix}").write_bytes(contents[damage])
    _refused(folder, f"x{suffix}", 1, ".")


def test_66_no_such_file(folder: Path) -> None:
    for suffix in BACKENDS:
        _refused(folder, f"none{suffix}", 2, "no such model")


def test_66_a_tflite_file_that_crashes_litert(folder: Path) -> None:
    """Seed 395 of 400: a segmentation fault while loading. It must not be ours."""
    rng, data = random.Random(395), bytearray((weights_folder() / "gan.tflite").read_bytes())
    assert rng.randrange(4) == 2
    for _ in range(rng.choice((1, 4, 30))):
        data[-1 - rng.randrange(6000)] = rng.randrange(256)
    (folder / "x.tflite").write_bytes(data)
    _refused(folder, "x.tflite", 1, ".")


@pytest.mark.parametrize(
    "name", ["x.pth", "x.pt", "x.ckpt", "x.pkl", "x.bin", "x.onnx", "x.safetensors", "x.tflite"]
)
def test_64_pickles_are_never_executed(name: str, folder: Path) -> None:
    """Also under the name of another format."""

    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.mkdir, (str(folder / "canary"),)

    (folder / name).write_bytes(pickle.dumps(Evil()))
    code = 1 if Path(name).suffix in BACKENDS else 2
    _refused(folder, name, code, "." if code == 1 else "never opened")


@pytest.mark.parametrize(
    "location", ["../secret", "{folder}/secret", "junk/../../secret", "symlink", "hardlink"]
)
def test_65_weights_outside_the_file(location: str, folder: Path) -> None:
    inner = folder / "model"
    inner.mkdir()
    (folder / "secret").write_bytes(bytes(4096))
    (inner / "symlink").symlink_to("../secret")
    os.link(folder / "secret", inner / "hardlink")
    model = shuffle_network()
    external(model.graph.initializer[0], location.format(folder=folder))
    save(model, inner / "x.onnx")
    _refused(folder, "model/x.onnx", 1, "weights outside itself")


def test_65_code_of_somebodys_own(folder: Path) -> None:
    node = helper.make_node("Run", ["x"], ["y"], domain="evil.example")
    graph = helper.make_graph(
        [node], "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 1, "H", "W"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
    )  # fmt: skip
    save(helper.make_model(graph, ir_version=8), folder / "x.onnx")
    _refused(folder, "x.onnx", 1, "not ONNX's own")


@pytest.mark.parametrize("suffix", BACKENDS)
def test_67_10_gb_are_not_read(suffix: str, folder: Path) -> None:
    path = folder / "huge"
    path.mkdir()
    with (path / f"x{suffix}").open("wb") as file:
        file.truncate(10 << 30)
    before = sorted(p.name for p in folder.rglob("*"))
    from upscale import UpscaleError, upscale_file
    from upscale.options import Options

    with pytest.raises(UpscaleError, match="larger than 64 MB"):
        upscale_file(str(folder / "in.mp4"), None, Options(model=str(path / f"x{suffix}")))
    assert sorted(p.name for p in folder.rglob("*")) == before
