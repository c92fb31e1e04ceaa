"""Blends of two weights files: the network with interpolated weights, in every runtime.

Covers `model.blend`, tflite_blend and the blending of onnx_file.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from networks import FULL, HALF, TINY, random_weights, real_luma, write_model
from onnx import numpy_helper
from pairs import INT8_PSNR, KINDS, gan_weights, psnr, reference, run, write_pair

from upscale import backends
from upscale.backends.onnx_file import blend_onnx
from upscale.errors import BackendError, ModelError, UpscaleError, UsageError
from upscale.export.quantize import quantize
from upscale.export.tflite_int8 import build_tflite_int8
from upscale.model.blend import interpolate
from upscale.model.config import GeneratorConfig
from upscale.model.weights import find_model

CONFIGS = {"half": HALF, "full": FULL}


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {name: write_pair(tmp_path_factory.mktemp(name), config) for name, config in CONFIGS.items()}


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    return write_pair(tmp_path, TINY)


@pytest.fixture(scope="module")
def luma(samples: Path) -> np.ndarray:
    return real_luma(samples / "bee_360p.mp4")[100:196, 200:328]


@pytest.mark.parametrize("shape", CONFIGS)
@pytest.mark.parametrize("name", KINDS)
def test_blend_is_the_network_with_interpolated_weights(
    name: str, shape: str, pairs: dict[str, Path], luma: np.ndarray
) -> None:
    before = sorted(pairs[shape].parent.iterdir())
    path = pairs[shape].with_suffix(KINDS[name])
    result, expected = run(name, path, 0.3, luma), reference(CONFIGS[shape], 0.3, luma)
    assert np.abs(result - expected).max() <= 1
    assert np.mean(result != expected) < 1e-3
    for end in (0.0, 1.0):
        assert np.abs(reference(CONFIGS[shape], end, luma) - expected).max() > 2  # the test can fail
    assert sorted(pairs[shape].parent.iterdir()) == before  # nothing is written beside the user's files


@pytest.mark.parametrize("name", KINDS)
def test_ends_are_the_two_models_exactly(name: str, pairs: dict[str, Path], luma: np.ndarray) -> None:
    gan = pairs["half"].with_suffix(KINDS[name])
    fidelity = gan.with_name(f"my_fidelity{gan.suffix}")
    np.testing.assert_array_equal(run(name, gan, 0, luma), run(name, fidelity, None, luma))
    np.testing.assert_array_equal(run(name, gan, 1, luma), run(name, gan, None, luma))
    assert psnr(run(name, gan, 0, luma), run(name, gan, 1, luma)) < 40


@pytest.mark.parametrize("name", KINDS)
def test_more_strength_is_further_from_fidelity(name: str, pairs: dict[str, Path], luma: np.ndarray) -> None:
    path = pairs["half"].with_suffix(KINDS[name])
    pictures = [run(name, path, s, luma).astype(float) for s in (0, 0.25, 0.5, 0.75, 1)]
    from_fidelity = [float(np.abs(p - pictures[0]).mean()) for p in pictures]
    from_gan = [float(np.abs(p - pictures[-1]).mean()) for p in pictures]
    assert all(np.diff(from_fidelity) > 0)
    assert all(np.diff(from_gan) < 0)


def test_interpolation_is_exact_at_its_ends() -> None:
    a, b = (np.random.default_rng(seed).normal(size=1000).astype(np.float32) for seed in (0, 1))
    np.testing.assert_array_equal(interpolate(a, b, 0.0), a)
    np.testing.assert_array_equal(interpolate(a, b, 1.0), b)


@pytest.fixture(scope="module")
def int8(tmp_path_factory: pytest.TempPathFactory, samples: Path) -> Path:
    """A pair with int8 files, each calibrated for itself; the path without suffix."""
    prefix = write_pair(tmp_path_factory.mktemp("int8"), FULL)
    pictures = [real_luma(samples / c)[:120, :160] for c in ("bee_360p.mp4", "face_360p.mp4")]
    for name, weights in (("my", gan_weights(FULL)), ("my_fidelity", random_weights(FULL))):
        path = prefix.with_name(f"{name}_int8.tflite")
        path.write_bytes(build_tflite_int8(quantize(FULL, weights, pictures), {}))
    return prefix


@pytest.mark.parametrize("strength", [0.1, 0.3, 0.7])
def test_int8_blend_is_near_the_float_blend(strength: float, int8: Path, luma: np.ndarray) -> None:
    exact = run("tflite", int8.with_suffix(".tflite"), strength, luma)
    rounded = run("tflite", int8.with_name("my_int8.tflite"), strength, luma)
    assert psnr(rounded, exact) >= INT8_PSNR
    ends = [run("tflite", int8.with_suffix(".tflite"), end, luma) for end in (0.0, 1.0)]
    assert all(psnr(rounded, exact) > psnr(rounded, end) for end in ends)


def test_int8_ends_are_the_two_files_exactly(int8: Path, luma: np.ndarray) -> None:
    gan, fidelity = int8.with_name("my_int8.tflite"), int8.with_name("my_fidelity_int8.tflite")
    np.testing.assert_array_equal(run("tflite", gan, 0, luma), run("tflite", fidelity, None, luma))
    np.testing.assert_array_equal(run("tflite", gan, 1, luma), run("tflite", gan, None, luma))


def test_int8_blend_means_the_same_to_the_reference_kernels(int8: Path, luma: np.ndarray) -> None:
    """XNNPACK trusts the scales of a bias; TFLite's own kernels refuse those that do not fit."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    from upscale.backends.tflite_blend import blend_tflite

    files = [int8.with_name(f"{n}_int8.tflite").read_bytes() for n in ("my_fidelity", "my")]
    interpreter = Interpreter(
        model_content=blend_tflite(files[0], files[1], 0.3),
        experimental_op_resolver_type=OpResolverType.BUILTIN_REF,
    )
    small = luma[:40, :48]
    interpreter.resize_tensor_input(interpreter.get_input_details()[0]["index"], (1, 40, 48, 1))
    interpreter.allocate_tensors()
    picture = (small ^ 0x80).view(np.int8)[None, :, :, None]
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], picture)
    interpreter.invoke()
    output = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])[0, :, :, 0]
    codes = output.view(np.uint8) ^ 0x80
    assert psnr(codes, run("tflite", int8.with_suffix(".tflite"), 0.3, small)) >= INT8_PSNR


def test_files_quantised_in_different_ways_are_refused(int8: Path, tmp_path: Path) -> None:
    shutil.copy(int8.with_name("my_int8.tflite"), tmp_path / "my.tflite")
    shutil.copy(int8.with_name("my_fidelity.tflite"), tmp_path / "my_fidelity.tflite")
    with pytest.raises(UsageError, match=r"cannot be blended with my_fidelity\.tflite: "):
        backends.load("tflite", find_model(str(tmp_path / "my.tflite"), 0.5))


@pytest.mark.parametrize("strength", [-0.1, 1.01, float("nan"), float("inf")])
def test_strength_outside_its_range(strength: float, tiny: Path) -> None:
    with pytest.raises(UsageError, match="must be from 0 to 1"):
        find_model(f"{tiny}.onnx", strength)


@pytest.mark.parametrize("suffix", KINDS.values())
@pytest.mark.parametrize("strength", [0, 0.5, 1])
def test_model_without_a_partner(strength: float, suffix: str, tiny: Path) -> None:
    tiny.with_name(f"my_fidelity{suffix}").unlink()
    with pytest.raises(UsageError, match="no fidelity model"):
        find_model(f"{tiny}{suffix}", strength)
    assert find_model(f"{tiny}{suffix}").fidelity is None


@pytest.mark.parametrize("name", KINDS)
def test_partner_of_another_shape(name: str, tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = write_model(tmp_path / "other", GeneratorConfig(2, 8, 0))
    source = {"onnx": other.onnx, "torch": other.safetensors, "tflite": other.tflite}[name]
    assert source is not None
    shutil.copy(source, tiny.with_name(f"my_fidelity{KINDS[name]}"))
    with pytest.raises(UsageError, match="cannot be blended with") as caught:
        backends.load(name, find_model(f"{tiny}{KINDS[name]}", 0.5))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"garbage" * 100, None], ids=["empty", "garbage", "cut"])
@pytest.mark.parametrize("name", KINDS)
def test_damaged_partner(name: str, content: bytes | None, tiny: Path) -> None:
    partner = tiny.with_name(f"my_fidelity{KINDS[name]}")
    data = partner.read_bytes()
    partner.write_bytes(data[: len(data) * 2 // 3] if content is None else content)
    with pytest.raises(ModelError) as caught:
        backends.load(name, find_model(f"{tiny}{KINDS[name]}", 0.5))
    assert "\n" not in str(caught.value)


def test_flipped_bytes_never_escape_as_foreign_errors(tiny: Path) -> None:
    """Both formats are parsed by hand here: any damage gives a network or one of our errors."""
    rng = np.random.default_rng(0)
    for name in ("onnx", "tflite", "torch"):
        partner = tiny.with_name(f"my_fidelity{KINDS[name]}")
        whole = partner.read_bytes()
        for _ in range(60):
            spoilt = bytearray(whole)
            for at in rng.integers(0, len(whole), 3):
                spoilt[at] = rng.integers(256)
            partner.write_bytes(spoilt)
            try:
                backends.load(name, find_model(f"{tiny}{KINDS[name]}", 0.5), threads=1).close()
            except UpscaleError as error:
                assert "\n" not in str(error)  # noqa: PT017


def test_partner_with_weights_outside_itself_is_refused(tiny: Path) -> None:
    """The partner gets the same checks as the model: it could name any file of this machine."""
    path = tiny.with_name("my_fidelity.onnx")
    model = onnx.load(path)
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/passwd")
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ModelError, match="outside itself"):
        backends.load("onnx", find_model(f"{tiny}.onnx", 0.5))


def test_tflite_runtime_alone_cannot_blend(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The schema that reads the files comes with ai-edge-litert; old devices run one model or the other."""
    monkeypatch.setitem(sys.modules, "ai_edge_litert.schema_py_generated", None)
    with pytest.raises(BackendError, match="needs ai-edge-litert"):
        backends.load("tflite", find_model(f"{tiny}.tflite", 0.5))


def changed(path: Path, change: Callable[[onnx.ModelProto], None]) -> bytes:
    model = onnx.load(path)
    change(model)
    data: bytes = model.SerializeToString()
    return data


def test_onnx_weights_in_either_field(tiny: Path) -> None:
    """Exporters put floats into raw_data or into float_data."""
    path = tiny.with_name("my.onnx")
    fidelity = tiny.with_name("my_fidelity.onnx").read_bytes()

    def unpack(model: onnx.ModelProto) -> None:
        for tensor in model.graph.initializer:
            if tensor.data_type == onnx.TensorProto.FLOAT:
                values = numpy_helper.to_array(tensor).ravel()
                tensor.ClearField("raw_data")
                tensor.float_data.extend(values)

    plain = onnx.load_model_from_string(blend_onnx(fidelity, path.read_bytes(), 0.3))
    other = onnx.load_model_from_string(blend_onnx(fidelity, changed(path, unpack), 0.3))
    onnx.checker.check_model(plain)
    for a, b in zip(plain.graph.initializer, other.graph.initializer, strict=True):
        np.testing.assert_array_equal(numpy_helper.to_array(a), numpy_helper.to_array(b))


def test_other_graphs_are_refused(tiny: Path) -> None:
    """The same weights in other layers are no partner."""

    def stride(model: onnx.ModelProto) -> None:
        conv = next(n for n in model.graph.node if n.op_type == "Conv")
        next(a for a in conv.attribute if a.name == "strides").ints[:] = [2, 2]

    def anchors(model: onnx.ModelProto) -> None:
        tensor = next(t for t in model.graph.initializer if t.name == "anchor_channels")
        tensor.raw_data = bytes(len(tensor.raw_data))

    for change, words in ((stride, "graphs differ"), (anchors, "anchor_channels differs")):
        partner = tiny.with_name("my_fidelity.onnx")
        whole = partner.read_bytes()
        partner.write_bytes(changed(partner, change))
        with pytest.raises(UsageError, match=words):
            backends.load("onnx", find_model(f"{tiny}.onnx", 0.5))
        partner.write_bytes(whole)


@pytest.mark.parametrize(
    ("name", "absent"),
    [
        ("onnx", ["onnx", "torch", "safetensors", "flatbuffers", "ai_edge_litert"]),
        ("tflite", ["onnx", "torch", "safetensors", "onnxruntime"]),
    ],
)
def test_needs_only_the_runtime_itself(name: str, absent: list[str], tiny: Path) -> None:
    """The base install has onnxruntime but not the onnx package."""
    code = (
        f"import sys, numpy; sys.modules.update(dict.fromkeys({absent!r}))\n"
        "from upscale import backends; from upscale.model.weights import find_model\n"
        f"backends.load({name!r}, find_model(sys.argv[1], 0.5))(numpy.zeros((4, 4), 'u1'))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, f"{tiny}{KINDS[name]}"], capture_output=True, text=True, timeout=120
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
