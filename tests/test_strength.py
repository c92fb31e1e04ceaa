"""`--strength`: a blend of two weights files is the network with interpolated weights, in every runtime."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from click.testing import CliRunner
from networks import FULL, HALF, TINY, random_weights, real_luma, write_model
from onnx import numpy_helper

from upscale import backends
from upscale.backends import auto, trial
from upscale.backends.onnx_blend import blend_onnx
from upscale.cli.info import info
from upscale.cli.listing import print_lists
from upscale.cli.main import run as run_command
from upscale.errors import ModelError, UpscaleError, UsageError
from upscale.events import Event, Start
from upscale.jobs.batch import upscale_directory
from upscale.model import weights as weights_module
from upscale.model.blend import interpolate
from upscale.model.config import GeneratorConfig
from upscale.model.generator import Generator
from upscale.model.quantize import quantize_int8
from upscale.model.weights import bundled, find_model
from upscale.options import Options
from upscale.pipeline import upscale_file

KINDS = {"onnx": ".onnx", "torch": ".safetensors", "tflite": ".tflite"}
CONFIGS = {"half": HALF, "full": FULL}
#: dB that a blend of int8 files must keep from the float blend.
INT8_PSNR = 40.0
PAIRS = [name for name, entry in bundled().items() if "fidelity" in entry]


def gan_weights(config: GeneratorConfig) -> dict[str, np.ndarray]:
    """Not far from `random_weights(config)`, as a GAN model that was trained from a fidelity model."""
    start, other = random_weights(config), random_weights(config, seed=1)
    return {k: (v + 0.3 * other[k]).astype(np.float32) for k, v in start.items()}


def write_pair(folder: Path, config: GeneratorConfig, gan: dict[str, np.ndarray] | None = None) -> Path:
    """my.* and my_fidelity.*, as `upscale train` leaves them; returns the path without suffix."""
    for name, values in (("my", gan or gan_weights(config)), ("my_fidelity", random_weights(config))):
        (folder / name).mkdir()
        model = write_model(folder / name, config, weights=values)
        for path in (model.safetensors, model.onnx, model.tflite):
            assert path is not None
            path.rename(folder / f"{name}{path.suffix}")
        (folder / name).rmdir()
    return folder / "my"


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {name: write_pair(tmp_path_factory.mktemp(name), config) for name, config in CONFIGS.items()}


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    return write_pair(tmp_path, TINY)


@pytest.fixture(scope="module")
def luma(samples: Path) -> np.ndarray:
    return real_luma(samples / "bee_360p.mp4")[100:196, 200:328]


def run(name: str, path: Path | str, strength: float | None, luma: np.ndarray) -> np.ndarray:
    with backends.load(name, find_model(str(path), strength), device="cpu", threads=1) as backend:
        return backend(luma)


def reference(config: GeneratorConfig, strength: float, luma: np.ndarray) -> np.ndarray:
    """The torch network whose weights are interpolated by torch."""
    network = Generator(config)
    ends = random_weights(config), gan_weights(config)
    f, g = ({k: torch.from_numpy(v) for k, v in end.items()} for end in ends)
    network.load_state_dict({k: torch.lerp(f[k], g[k], strength) for k in f})
    with torch.inference_mode():
        output = network(torch.from_numpy(luma.astype(np.float32) / 255)[None, None])[0, 0].numpy()
    return np.clip(np.rint(output * 255), 0, 255).astype(int)


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / np.mean((a.astype(float) - b.astype(float)) ** 2)))


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


# int8 ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def int8(tmp_path_factory: pytest.TempPathFactory, samples: Path) -> Path:
    """A pair with int8 files, each calibrated for itself; the path without suffix."""
    prefix = write_pair(tmp_path_factory.mktemp("int8"), FULL)
    pictures = [real_luma(samples / c)[:120, :160] for c in ("bee_360p.mp4", "face_360p.mp4")]
    for name in ("my", "my_fidelity"):
        source = prefix.with_name(f"{name}.tflite")
        assert quantize_int8(source, prefix.with_name(f"{name}_int8.tflite"), pictures).recipe == "static"
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
    picture = (small.astype(np.float32) / 255)[None, :, :, None]
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], picture)
    interpreter.invoke()
    output = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])[0, :, :, 0]
    codes = np.clip(np.rint(output * 255), 0, 255)
    assert psnr(codes, run("tflite", int8.with_suffix(".tflite"), 0.3, small)) >= INT8_PSNR


def test_files_quantised_in_different_ways_are_refused(int8: Path, tmp_path: Path) -> None:
    shutil.copy(int8.with_name("my_int8.tflite"), tmp_path / "my.tflite")
    shutil.copy(int8.with_name("my_fidelity.tflite"), tmp_path / "my_fidelity.tflite")
    with pytest.raises(UsageError, match=r"cannot be blended with my_fidelity\.tflite: they have other"):
        backends.load("tflite", find_model(str(tmp_path / "my.tflite"), 0.5))


# refusals --------------------------------------------------------------------------------------


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


@pytest.mark.parametrize("model", ["lanczos", "bicubic"])
def test_resamplers_have_no_strength(model: str, make_clip: Callable[..., Path], tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clip.mp4", frames=1)
    with pytest.raises(UsageError, match="no weights to blend"):
        upscale_file(str(clip), None, Options(model=model, strength=0.5))


# foreign ONNX files ----------------------------------------------------------------------------


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
        ("tflite", ["onnx", "torch", "safetensors", "onnxruntime", "ai_edge_litert.schema_py_generated"]),
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


# a folder of bundled models --------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Bundled models gan (the default), fidelity and fast, the last without a partner."""
    home = tmp_path / "weights"
    home.mkdir()
    index: dict[str, Any] = {}
    shapes = {"gan": (TINY, gan_weights(TINY)), "fidelity": (TINY, random_weights(TINY)),
              "fast": (FULL, random_weights(FULL))}  # fmt: skip
    for name, (config, values) in shapes.items():
        (tmp_path / name).mkdir()
        model = write_model(tmp_path / name, config, weights=values)
        files = {}
        for kind in ("safetensors", "onnx", "tflite"):
            path = model.path(kind)
            assert path is not None
            moved = path.rename(home / f"{name}{path.suffix}")
            files[kind] = {"name": moved.name, "sha256": hashlib.sha256(moved.read_bytes()).hexdigest()}
        index[name] = {"summary": f"model {name}", "config": asdict(config), "files": files}
    index["gan"]["fidelity"] = "fidelity"
    (home / "models.json").write_text(json.dumps(index))
    monkeypatch.setattr(weights_module, "weights_folder", lambda: home)
    return home


@pytest.mark.parametrize("name", KINDS)
def test_bundled_pair(name: str, folder: Path, luma: np.ndarray) -> None:
    blend = find_model(None, 0.3)
    assert (blend.name, blend.strength) == ("gan", 0.3)
    with backends.load(name, blend, device="cpu") as backend:
        assert np.abs(backend(luma) - reference(TINY, 0.3, luma)).max() <= 1
    np.testing.assert_array_equal(run(name, "gan", 0, luma), run(name, "fidelity", None, luma))
    np.testing.assert_array_equal(run(name, "gan", 1, luma), run(name, "gan", None, luma))


def test_file_of_the_bundled_pair_finds_its_partner(folder: Path) -> None:
    assert find_model(str(folder / "gan.onnx"), 0.3).fidelity == str(folder / "fidelity.onnx")
    assert find_model(str(folder / "fast.onnx")).fidelity is None


def test_bundled_model_without_a_partner(folder: Path) -> None:
    for name in ("fast", "fidelity"):
        with pytest.raises(UsageError, match="no fidelity model"):
            find_model(name, 0.5)


def test_bundled_partner_of_another_shape(folder: Path) -> None:
    index = json.loads((folder / "models.json").read_text())
    index["gan"]["fidelity"] = "fast"
    (folder / "models.json").write_text(json.dumps(index))
    with pytest.raises(UsageError, match="cannot be blended with fast: another shape"):
        find_model("gan", 0.5)


def test_altered_partner_is_refused(folder: Path) -> None:
    path = folder / "fidelity.onnx"
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(ModelError, match="SHA-256"):
        find_model("gan", 0.5)
    assert find_model("gan").strength is None


def test_kinds_that_only_one_of_them_has_are_left_out(folder: Path) -> None:
    index = json.loads((folder / "models.json").read_text())
    del index["fidelity"]["files"]["tflite"]
    (folder / "models.json").write_text(json.dumps(index))
    blend = find_model("gan", 0.5)
    assert (blend.onnx, blend.tflite) == (folder / "gan.onnx", None)
    assert blend.sha256.keys() == {"onnx", "safetensors"}


def test_auto_measures_a_pair_once(folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """All blends of a pair are equally fast, and take the same runtimes."""
    asked: list[float | None] = []

    def race(model: Any, *_: Any) -> dict[str, float]:
        asked.append(model.strength)
        return {"onnx": 3.0, "torch": 2.0, "tflite": 1.0}

    monkeypatch.setenv("UPSCALE_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(trial, "measure_apart", race)
    assert {auto.choose(find_model("gan", s), 360, 640)[0] for s in (None, 0.3, 0.7, 1)} == {"tflite"}
    assert asked == [None]


def test_trial_of_a_blend_works(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    times = trial.measure_apart(find_model("gan", 0.3), ["onnx", "tflite"], (16, 16), None, 1)
    assert times.keys() == {"onnx", "tflite"}


def test_start_event_says_model_and_strength(
    folder: Path, make_clip: Callable[..., Path], tmp_path: Path
) -> None:
    clip = make_clip(tmp_path / "clip.mp4", frames=2)
    events: list[Event] = []
    pictures = []
    for strength in (None, 0.5, 0.0):
        output = tmp_path / f"{strength}.mkv"
        options = Options(strength=strength, scale=2, codec="ffv1", backend="onnx")
        result = upscale_file(str(clip), str(output), options, events.append)
        assert (result.model, result.strength) == ("gan", strength)
        pictures.append(real_luma(output, 1))
    starts = [e.as_json() for e in events if isinstance(e, Start)]
    assert [(s["model"], s["strength"]) for s in starts] == [("gan", None), ("gan", 0.5), ("gan", 0.0)]
    upscale_file(
        str(clip), str(tmp_path / "f.mkv"), Options(model="fidelity", scale=2, codec="ffv1", backend="onnx")
    )
    np.testing.assert_array_equal(pictures[2], real_luma(tmp_path / "f.mkv", 1))
    assert (pictures[1] != pictures[0]).any()
    assert (pictures[1] != pictures[2]).any()


def test_directory_says_it_once(folder: Path, make_clip: Callable[..., Path], tmp_path: Path) -> None:
    """What is wrong with the model or the strength is wrong for every file."""
    (tmp_path / "clips").mkdir()
    for n in range(2):
        make_clip(tmp_path / "clips" / f"{n}.mp4", frames=1)
    with pytest.raises(UsageError, match="must be from 0 to 1"):
        upscale_directory(str(tmp_path / "clips"), None, Options(strength=2))


def test_command_line(
    folder: Path, make_clip: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clip = str(make_clip(tmp_path / "clip.mp4", frames=2))
    line = [clip, str(tmp_path / "o.mkv"), "--backend", "onnx", "--scale", "2", "--json"]
    assert run_command([*line, "--strength", "0.25"]) == 0
    start = json.loads(capsys.readouterr().out.splitlines()[0])
    assert (start["event"], start["model"], start["strength"]) == ("start", "gan", 0.25)
    assert run_command([clip, "--strength", "1.5"]) == 2
    assert capsys.readouterr().err == f"upscale: {clip}: the strength must be from 0 to 1, not 1.5\n"


def test_list_and_info_name_the_partner(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    print_lists()
    models = capsys.readouterr().out.split("\n\n")[0].splitlines()
    assert "  gan       model gan; --strength blends it with fidelity (default)" in models
    assert "  fast      model fast" in models
    text = CliRunner().invoke(info, ["gan"]).output
    assert "strength          0 (fidelity) to 1 (this one, the default)" in text
    assert json.loads(CliRunner().invoke(info, ["gan", "--json"]).output)["fidelity"] == "fidelity"
    assert "strength" not in CliRunner().invoke(info, ["fast"]).output


# what is shipped -------------------------------------------------------------------------------


@pytest.mark.parametrize("pair", PAIRS)
def test_shipped_pair_agrees_in_every_runtime(pair: str, luma: np.ndarray) -> None:
    expected = run("torch", pair, 0.3, luma)
    for name in ("onnx", "tflite"):
        assert np.abs(run(name, pair, 0.3, luma).astype(int) - expected).max() <= 1
    int8 = find_model(pair).tflite_int8
    assert int8 is not None
    assert psnr(run("tflite", int8, 0.5, luma), run("tflite", pair, 0.5, luma)) >= INT8_PSNR
