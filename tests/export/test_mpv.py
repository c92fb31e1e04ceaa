"""User shaders: their text everywhere; their pictures where ffmpeg has libplacebo and a Vulkan driver."""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from networks import random_network, real_luma

from upscale.backends import load
from upscale.errors import UsageError
from upscale.export.check import CannotRun, codes, difference, picture, run_in_libplacebo
from upscale.export.mpv import MAX_BINDS, mpv_shader
from upscale.export.tensors import Network, luma_network, read_network
from upscale.model.config import GeneratorConfig
from upscale.model.weights import find_model

Passes = list[tuple[dict[str, list[str]], str]]


def blocks(text: str) -> Passes:
    """(directives, body) of every block behind the comment at the top."""
    found: Passes = []
    for part in re.split(r"(?m)^(?=//!(?:DESC|BUFFER) )", text)[1:]:
        lines = part.splitlines()
        directives: dict[str, list[str]] = {}
        for line in lines:
            if line.startswith("//!"):
                name, _, value = line[3:].partition(" ")
                directives.setdefault(name, []).append(value)
        found.append((directives, "\n".join(line for line in lines if not line.startswith("//!"))))
    return found


@pytest.mark.parametrize("name", ["gan", "fast"])
@pytest.mark.parametrize("portable", [False, True], ids=["compute", "portable"])
def test_the_text_keeps_to_what_players_read(name: str, portable: bool) -> None:
    network = read_network(find_model(name))
    text = mpv_shader(network, portable=portable, licence="MIT")
    head = text[: text.index("//!")]
    for needed in (f"upscale {name}", network.sha256, "licence: MIT", "needs:", "mpv.conf", "fbo-format"):
        assert needed in head
    passes = [(d, body) for d, body in blocks(text) if "HOOK" in d]
    layers, planes = len(network.layers), network.config.channels // 4
    assert len(passes) == (layers if not portable else 1 + (layers - 1) * planes + 4 + 1)
    known = {"LUMA"} | {d["BUFFER"][0] for d, _ in blocks(text) if "BUFFER" in d}
    for directives, body in passes:
        assert directives["HOOK"] == ["LUMA"]
        assert len(directives["BIND"]) <= MAX_BINDS
        assert set(directives["BIND"]) <= known, "bound before it is there"
        known |= set(directives.get("SAVE", []))
        for size in (*directives["WIDTH"], *directives["HEIGHT"], *directives["WHEN"]):
            assert len(size.split()) <= 32
        assert "OFFSET" not in directives
        assert not re.search(r"\d[eE][+-]?\d", body), "no exponents"
        assert "texOff" not in body
        assert ("COMPUTE" in directives) is not portable
    last = passes[-1][0]
    assert "SAVE" not in last
    assert last["COMPONENTS"] == ["1"]
    assert "LUMA" in last["BIND"], "the anchor is LUMA itself, not a plane of half floats"


def test_buffers_hold_the_weights_in_the_order_of_the_loop() -> None:
    network = read_network(find_model("fast"))
    buffer = next(d for d, _ in blocks(mpv_shader(network)) if "BUFFER" in d)
    data = next(body for d, body in blocks(mpv_shader(network)) if d.get("BUFFER") == buffer["BUFFER"])
    values = np.frombuffer(bytes.fromhex(data.strip()), "<f4").reshape(-1, 4)
    kernel, bias = network.layers[0]
    assert buffer["VAR"] == [f"vec4 {buffer['BUFFER'][0].replace('_B', '_W')}[{len(values)}]"]
    # tap (2, 1), input 3, the second four outputs
    assert np.array_equal(values[(2 * 3 + 1) * 16 + 4 + 3], kernel[4:8, 3, 2, 1])
    assert np.array_equal(values[-4:].ravel(), bias)


def test_two_files_may_be_loaded_together() -> None:
    """Names of textures and buffers are global in players."""

    def names(network: Network) -> set[str]:
        return {n for d, _ in blocks(mpv_shader(network)) for n in d.get("SAVE", []) + d.get("BUFFER", [])}

    found = [names(read_network(find_model(*given))) for given in (("gan",), ("fast",), ("gan", 0.5))]
    assert len(set.union(*found)) == sum(map(len, found))


def test_too_many_channels_are_refused() -> None:
    mpv_shader(random_network(GeneratorConfig(2, 64, 1)), portable=True)
    with pytest.raises(UsageError, match=r"68 channels are 17 textures and players bind 16: too many"):
        mpv_shader(random_network(GeneratorConfig(2, 68, 1)), portable=True)
    with pytest.raises(UsageError, match="do not fit the memory"):
        mpv_shader(random_network(GeneratorConfig(2, 128, 1)))


def libplacebo(shader: Path, luma: np.ndarray) -> np.ndarray:
    try:
        return run_in_libplacebo(shader, luma)
    except CannotRun as e:
        pytest.skip(str(e))


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", ["gan", "fast"])
@pytest.mark.parametrize("portable", [False, True], ids=["compute", "portable"])
def test_libplacebo_makes_the_pictures_of_onnxruntime(
    name: str, portable: bool, tmp_path: Path, samples: Path
) -> None:
    """Real luma: a whole frame, a crop, odd sides; borders count like everything else."""
    model = find_model(name)
    shader = tmp_path / "a.glsl"
    shader.write_text(mpv_shader(read_network(model), portable=portable))
    frame = np.ascontiguousarray(real_luma(samples / "bee_360p.mp4"))
    pictures = [frame[90:180, 200:360], frame[:75, :131]] + ([] if portable else [frame])
    with load("onnx", model, precision="fp32") as backend:
        for luma in map(np.ascontiguousarray, pictures):
            found = difference("libplacebo", backend(luma), libplacebo(shader, luma))
            assert found.largest <= 1
            assert found.mean < 0.06


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_libplacebo_keeps_ten_bits(tmp_path: Path, samples: Path) -> None:
    model = find_model("gan")
    (tmp_path / "a.glsl").write_text(mpv_shader(read_network(model)))
    luma = real_luma(samples / "bee_360p.mp4")[90:180, 200:360].astype(np.uint16) * 4
    luma += np.arange(160, dtype=np.uint16) % 4
    libplacebo(tmp_path / "a.glsl", np.zeros((16, 16), np.uint8))  # skips where it cannot run
    lavapipe = sorted(Path("/usr/share/vulkan/icd.d").glob("lvp_icd*.json"))
    environment = {**os.environ, "VK_DRIVER_FILES": str(lavapipe[0])} if lavapipe else None
    gray = np.full(2 * 80 * 45, 512, "<u2").tobytes()
    filters = (
        "hwupload,libplacebo=w=320:h=180:upscaler=none:downscaler=none:dithering=none:peak_detect=0:"
        "custom_shader_path=a.glsl:format=yuv420p10,hwdownload,format=yuv420p10"
    )
    command = [
        "ffmpeg", "-v", "error", "-init_hw_device", "vulkan=vk:0", "-f", "rawvideo",
        "-pix_fmt", "yuv420p10le", "-s", "160x90", "-i", "-", "-vf", filters, "-frames:v", "1",
        "-f", "rawvideo", "-",
    ]  # fmt: skip
    given = luma.astype("<u2").tobytes() + gray
    done = subprocess.run(
        command, cwd=tmp_path, input=given, env=environment, capture_output=True, check=True
    )
    got = np.frombuffer(done.stdout, "<u2")[: 320 * 180].reshape(180, 320).astype(int)
    with load("onnx", model, precision="fp32") as backend:
        assert np.abs(backend(luma, 1023) - got).max() <= 2


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("channels", [6, 44])
@pytest.mark.parametrize("unshuffle", [1, 2])
def test_libplacebo_runs_other_shapes(channels: int, unshuffle: int, tmp_path: Path) -> None:
    """Channels that are no multiple of four; weights beyond a uniform buffer; full resolution."""
    network = random_network(GeneratorConfig(unshuffle, channels, 1))
    luma = picture(47, 33)
    ours = codes(luma_network(network, luma.astype(np.float32) / np.float32(255)))
    for portable in [False] + [True] * (channels < 8):
        shader = tmp_path / f"{portable}.glsl"
        shader.write_text(mpv_shader(replace(network, name="other"), portable=portable))
        found = difference("libplacebo", ours, libplacebo(shader, luma))
        assert found.largest <= 1, portable
