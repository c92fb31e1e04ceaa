"""`export` of every format, and the weights that it reads. Covers formats, tensors and check."""

from __future__ import annotations

import hashlib
import json
import struct
from pathlib import Path

import numpy as np
import pytest
from networks import real_luma

from upscale.backends import load
from upscale.errors import ModelError, OutputError, UsageError
from upscale.export.check import CannotRun, check, codes, difference
from upscale.export.formats import FORMATS, ExportOptions, default_name, export
from upscale.export.tensors import luma_network, read_network
from upscale.model.config import GeneratorConfig
from upscale.model.weights import bundled, find_model, weights_folder


def write_safetensors(path: Path, config: GeneratorConfig, *, skip: str = "", dtype: str = "F32") -> Path:
    """A generator of zeros."""
    header: dict[str, object] = {"__metadata__": {"config": config.to_json()}}
    end = 0
    for i, (inputs, outputs) in enumerate(config.layers):
        for part, shape in (("weight", [outputs, inputs, 3, 3]), ("bias", [outputs])):
            if f"convs.{i}.{part}" != skip:
                size = 4 * int(np.prod(shape))
                entry = {"dtype": dtype, "shape": shape, "data_offsets": [end, end + size]}
                header[f"convs.{i}.{part}"] = entry
                end += size
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(end))
    return path


@pytest.mark.parametrize("name", ["gan", "fast"])
def test_numpy_runs_the_network_as_onnxruntime_does(name: str, samples: Path) -> None:
    model = find_model(name)
    luma = real_luma(samples / "bee_360p.mp4")[30:105, 40:171]
    ours = codes(luma_network(read_network(model), luma.astype(np.float32) / np.float32(255)))
    with load("onnx", model, precision="fp32") as backend:
        found = difference("numpy", ours, backend(luma))
    assert found.largest <= 1
    assert found.exact > 0.999


@pytest.mark.parametrize("name", list(FORMATS))
def test_every_format_is_written_under_its_default_name(name: str, tmp_path: Path) -> None:
    exported = export("fast", tmp_path, ExportOptions(name))
    assert exported.format == name
    assert {p.name for p in exported.files} == {p.name for p in tmp_path.iterdir()}
    assert exported.files[0].name == f"fast{FORMATS[name].suffixes[0]}"
    assert exported.files[0] == export("fast", exported.files[0], ExportOptions(overwrite=True)).files[0]


def test_names_tell_what_is_inside() -> None:
    gan, blend = find_model("gan"), find_model("gan", 0.25)
    assert default_name(blend, ExportOptions("mpv", 0.25, portable=True)) == "gan_strength0.25_portable.glsl"
    assert default_name(blend, ExportOptions("web", 0.25)) == "gan.html"
    assert default_name(gan, ExportOptions("tflite", precision="int8")) == "gan_int8.tflite"


def test_files_of_the_runtimes_are_copies(tmp_path: Path) -> None:
    for name, precision in (("onnx", "fp32"), ("onnx", "int8"), ("tflite", "fp32"), ("tflite", "int8")):
        exported = export("gan", tmp_path, ExportOptions(name, precision=precision))
        entry = bundled()["gan"]["files"][name + "_int8" * (precision == "int8")]
        assert hashlib.sha256(exported.files[0].read_bytes()).hexdigest() == entry["sha256"]


@pytest.mark.parametrize("name", ["onnx", "tflite"])
def test_blends_and_a_users_own_weights_run_in_the_runtimes(name: str, tmp_path: Path) -> None:
    own = tmp_path / "mine.safetensors"
    own.write_bytes((weights_folder() / "fast.safetensors").read_bytes())
    for exported in (
        export("gan", tmp_path, ExportOptions(name, strength=0.5)),
        export(own, tmp_path, ExportOptions(name)),
    ):
        try:
            assert all(found.passed for found in check(exported))
        except CannotRun as e:
            pytest.skip(str(e))


def test_a_blend_is_between_its_ends() -> None:
    ends = [read_network(find_model("gan", s)).layers[1][0] for s in (0, 0.5, 1)]
    assert np.allclose(ends[1], (ends[0] + ends[2]) / 2, atol=1e-6)
    assert read_network(find_model("gan", 0.5)).name == "gan, strength 0.5"


def test_names_of_files_cannot_break_out_of_what_is_written(tmp_path: Path) -> None:
    path = write_safetensors(tmp_path / "a\n--><script>.safetensors", GeneratorConfig(2, 4, 0))
    for name in ("mpv", "web"):
        text = (
            export(path, tmp_path / f"x{FORMATS[name].suffixes[0]}", ExportOptions(name)).files[0].read_text()
        )
        assert "a\n" not in text
        assert "<script>." not in text


@pytest.mark.parametrize(
    ("options", "output", "message"),
    [
        (ExportOptions("exe"), None, "no format 'exe'; there are mpv, web, ncnn, onnx, tflite"),
        (ExportOptions(), None, "which format"),
        (ExportOptions(), "a.bin", "which format"),
        (ExportOptions("mpv"), "a.html", r"a file of format mpv ends in .glsl or .hook"),
        (ExportOptions("mpv", precision="int8"), None, "no precision 'int8' in format mpv; there is fp32"),
        (ExportOptions("web", portable=True), None, "only format mpv has a portable form"),
        (ExportOptions("web", strength=2), None, "strength must be from 0 to 1"),
        (ExportOptions("onnx", strength=0.5, precision="int8"), None, "cannot be blended"),
    ],
)
def test_what_does_not_fit_is_one_clear_error(
    options: ExportOptions, output: str | None, message: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=message):
        export("gan", tmp_path / (output or ""), options)
    assert list(tmp_path.iterdir()) == []


def test_models_that_are_no_generators_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"only \.safetensors files"):
        export(weights_folder() / "gan.onnx", tmp_path, ExportOptions("mpv"))
    config = GeneratorConfig(2, 8, 1)
    for given, message in (
        ({"skip": "convs.1.bias"}, "lack convs.1.bias"),
        ({"dtype": "F16"}, "convs.0.weight is F16, not float32"),
    ):
        path = write_safetensors(tmp_path / "bad.safetensors", config, **given)
        with pytest.raises(ModelError, match=message):
            export(path, tmp_path, ExportOptions("mpv"))
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ModelError):
        export(path, tmp_path, ExportOptions("mpv"))
    text = json.dumps(
        {
            "__metadata__": {"config": config.to_json()},
            "convs.0.weight": {"dtype": "F32", "shape": [1], "data_offsets": [10**30, 10**30 + 4]},
        }
    ).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text)
    with pytest.raises(ModelError, match="damaged"):
        export(path, tmp_path, ExportOptions("mpv"))
    wide = write_safetensors(tmp_path / "wide.safetensors", GeneratorConfig(2, 128, 0))
    with pytest.raises(UsageError, match="128 channels"):
        export(wide, tmp_path, ExportOptions("mpv"))
    with pytest.raises(UsageError, match="there is no int8 file"):
        export(wide, tmp_path, ExportOptions("tflite", precision="int8"))


def test_files_that_exist_stay_unless_they_may_go(tmp_path: Path) -> None:
    path = tmp_path / "a.param"
    (tmp_path / "a.bin").write_text("mine")
    with pytest.raises(UsageError, match=r"the output exists; -y overwrites it"):
        export("fast", path)
    assert (tmp_path / "a.bin").read_text() == "mine"
    assert not path.exists()
    with pytest.raises(OutputError, match="folder of the output does not exist"):
        export("fast", tmp_path / "none" / "a.glsl")


def test_weights_are_never_overwritten(tmp_path: Path) -> None:
    own = tmp_path / "a.onnx"
    own.write_bytes((weights_folder() / "gan.onnx").read_bytes())
    with pytest.raises(UsageError, match="the output is the input itself"):
        export(own, own, ExportOptions("onnx", overwrite=True))


@pytest.mark.parametrize("name", ["gan", "fast"])
def test_prebuilt_files_are_what_the_command_writes_today(name: str, tmp_path: Path) -> None:
    """Those in weights/ are for people without Python: `upscale export gan -o weights/gan.glsl -y`, …"""
    for kind, entry in bundled()[name]["exports"].items():
        prebuilt = weights_folder() / entry["name"]
        made = export(name, tmp_path / entry["name"], ExportOptions(kind)).files[0].read_bytes()
        assert prebuilt.read_bytes() == made, entry["name"]
        assert hashlib.sha256(made).hexdigest() == entry["sha256"]
