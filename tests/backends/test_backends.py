"""The three runtimes: the same pictures, any size, from any thread, and clear refusals.

Covers base, onnx, onnx_devices, pytorch, tflite, variants and `backends.load`.
"""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from networks import FULL, HALF, TINY, random_weights, real_luma, write_model

from upscale import backends
from upscale.backends.trial import RULES, Rule
from upscale.errors import BackendError, ModelError, UsageError
from upscale.model.config import GeneratorConfig
from upscale.model.generator import Generator
from upscale.model.weights import ModelFiles, bundled, find_model
from upscale.system.cores import MAX_WORKERS, cores, plan_threads

CONFIGS = {"half": HALF, "full": FULL}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ModelFiles]:
    return {name: write_model(tmp_path_factory.mktemp(name), config) for name, config in CONFIGS.items()}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> ModelFiles:
    return write_model(tmp_path_factory.mktemp("tiny"), TINY)


def reference(config: GeneratorConfig, luma: np.ndarray, max_value: int = 255) -> np.ndarray:
    """What the network makes of `luma`, by torch in float32, written out without any backend."""
    network = Generator(config)
    network.load_state_dict({k: torch.from_numpy(v) for k, v in random_weights(config).items()})
    height, width = luma.shape
    u = config.multiple
    padded = np.pad(luma, ((0, -height % u), (0, -width % u)), mode="edge")
    with torch.inference_mode():
        picture = torch.from_numpy(padded.astype(np.float32) / max_value)[None, None]
        output = network(picture)[0, 0].numpy()[: 2 * height, : 2 * width]
    return np.clip(np.rint(output * max_value), 0, max_value).astype(int)


def difference(a: np.ndarray, b: np.ndarray) -> int:
    return int(np.abs(a.astype(int) - b.astype(int)).max())


@pytest.mark.parametrize("shape", CONFIGS)
@pytest.mark.parametrize("name", backends.NAMES)
@pytest.mark.parametrize("bits", [8, 10])
def test_agrees_with_torch_on_every_pixel_of_a_real_frame(
    name: str, bits: int, shape: str, models: dict[str, ModelFiles], samples: Path
) -> None:
    """One code value at most, where a rounding falls the other way."""
    luma = real_luma(samples / "bee_360p.mp4")
    if bits == 10:
        luma = luma.astype(np.uint16) * 4 + np.arange(luma.shape[1], dtype=np.uint16) % 4
    max_value = 2**bits - 1
    expected = reference(CONFIGS[shape], luma, max_value)
    assert difference(expected, np.kron(luma, np.ones((2, 2), luma.dtype))) > 8  # it is no mere anchor
    with backends.load(name, models[shape], device="cpu") as backend:
        result = backend(luma, max_value)
    assert result.dtype == luma.dtype
    assert result.shape == (2 * luma.shape[0], 2 * luma.shape[1])
    assert result.flags.c_contiguous
    assert difference(result, expected) <= 1
    assert np.mean(result != expected) < 1e-3


@pytest.mark.parametrize("size", [(1, 1), (1, 2), (2, 1), (3, 2), (5, 7), (63, 65), (2, 300)])
@pytest.mark.parametrize("shape", CONFIGS)
@pytest.mark.parametrize("name", backends.NAMES)
def test_any_size(name: str, shape: str, size: tuple[int, int], models: dict[str, ModelFiles]) -> None:
    luma = np.random.default_rng(1).integers(0, 256, size, dtype=np.uint8)
    with backends.load(name, models[shape], device="cpu") as backend:
        result = backend(luma)
    assert result.shape == (2 * size[0], 2 * size[1])
    assert difference(result, reference(CONFIGS[shape], luma)) <= 1


@pytest.mark.parametrize("name", backends.NAMES)
def test_strided_rows(name: str, tiny: ModelFiles) -> None:
    """Decoders pad rows: the plane is a view into wider rows, and must not be written to."""
    rows = np.random.default_rng(2).integers(0, 256, (20, 64), dtype=np.uint8)
    rows.flags.writeable = False
    view = rows[1:, :33]
    with backends.load(name, tiny, device="cpu") as backend:
        np.testing.assert_array_equal(backend(view), backend(np.ascontiguousarray(view)))
        np.testing.assert_array_equal(backend(view[::-1]), backend(np.ascontiguousarray(view[::-1])))


@pytest.mark.parametrize("max_value", [255, 1023])
@pytest.mark.parametrize("name", backends.NAMES)
def test_writes_into_a_frames_own_plane(name: str, max_value: int, tiny: ModelFiles) -> None:
    """Its rows are padded, and what lies beyond the picture is not touched."""
    kind = np.uint8 if max_value == 255 else np.uint16
    luma = np.random.default_rng(4).integers(0, max_value + 1, (21, 33)).astype(kind)
    rows = np.full((42, 96), 77, kind)
    out = rows[:, :66]
    with backends.load(name, tiny, device="cpu") as backend:
        assert backend(luma, max_value, out) is out
        np.testing.assert_array_equal(out, backend(luma, max_value))
    assert (rows[:, 66:] == 77).all()


@pytest.mark.parametrize("name", backends.NAMES)
def test_refuses_to_write_into_what_does_not_fit(name: str, tiny: ModelFiles) -> None:
    read_only = np.zeros((8, 8), np.uint8)
    read_only.flags.writeable = False
    with backends.load(name, tiny, device="cpu") as backend:
        for out in (np.zeros((8, 6), np.uint8), np.zeros((8, 8), np.uint16), read_only):
            with pytest.raises(ValueError, match="out must be a writeable"):
                backend(np.zeros((4, 4), np.uint8), 255, out)
        assert backend(np.zeros((4, 4), np.uint8)).shape == (8, 8)  # it goes on after a refusal


def has_bf16() -> bool:
    """Whether this processor multiplies bf16."""
    from upscale.backends.pytorch import cpu_has_bf16

    return cpu_has_bf16(torch)


def test_bf16_is_near_fp32_on_a_real_frame(models: dict[str, ModelFiles], samples: Path) -> None:
    """Or refused where the processor would only emulate it."""
    if not has_bf16():
        with pytest.raises(BackendError, match="no bf16 on this cpu"):
            backends.load("torch", models["half"], precision="bf16", device="cpu")
        return
    luma = real_luma(samples / "bee_360p.mp4")
    with backends.load("torch", models["half"], precision="bf16", device="cpu") as backend:
        assert backend.precision == "bf16"
        assert "cpu bf16, " in backend.description
        result = backend(luma)
    with backends.load("torch", models["half"], device="cpu") as backend:
        exact = backend(luma)
    assert 0 < np.abs(result.astype(int) - exact).mean() <= 1
    assert difference(result, exact) <= 3


def test_bf16_that_changes_the_picture_is_refused(tiny: ModelFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    """The check at load, with a rule that nothing can keep."""
    monkeypatch.setattr("upscale.backends.pytorch.cpu_has_bf16", lambda torch: True)
    monkeypatch.setitem(RULES, "bf16", Rule(mean=-1))
    threads = torch.get_num_threads()
    with pytest.raises(BackendError, match=r"bf16 on cpu differs by .* from fp32, too much"):
        backends.load("torch", tiny, precision="bf16", device="cpu")
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize(
    ("name", "precision"),
    [("onnx", "fp16"), ("onnx", "bf16"), ("torch", "int8"), ("torch", "fp16"), ("tflite", "bf16")],
)
def test_precision_that_a_backend_does_not_have(name: str, precision: str, tiny: ModelFiles) -> None:
    with pytest.raises(BackendError, match=f"the {name} backend has no {precision}"):
        backends.load(name, tiny, precision=precision, device="cpu")


@pytest.mark.parametrize("name", ["onnx", "tflite"])
def test_int8_is_what_is_loaded_where_there_is_nothing_else(name: str) -> None:
    bundled = find_model("fast")
    alone = ModelFiles("own", **{f"{name}_int8": bundled.path(f"{name}_int8")})
    with backends.load(name, alone) as backend:
        assert (backend.precision, "int8" in backend.description) == ("int8", True)
    with backends.load(name, bundled) as backend:
        assert backend.precision == "fp32"
    with pytest.raises(ModelError, match=rf"needs an? _int8\.{name} file"):
        backends.load(name, ModelFiles("own"), precision="int8")


@pytest.mark.parametrize("model", bundled())
@pytest.mark.parametrize("name", ["onnx", "tflite"])
def test_bundled_int8_keeps_the_rule_on_real_frames(name: str, model: str, samples: Path) -> None:
    """The probe is only a picture of three; these are others."""
    files = find_model(model)
    with (
        backends.load(name, files, precision="int8", device="cpu") as rounded,
        backends.load(name, files, device="cpu") as exact,
    ):
        for clip, number in (("bee_360p.mp4", 50), ("bbb_anamorphic_800x640_sar64x45.mp4", 30)):
            luma = real_luma(samples / clip, number)[:320, :480]
            assert RULES["int8"].broken(exact(luma), rounded(luma), 255) is None


@pytest.mark.parametrize("name", backends.NAMES)
def test_several_threads_and_sizes_at_once(name: str, tiny: ModelFiles) -> None:
    """Interpreters with state must not be shared by two calls, nor keep another call's size."""
    rng = np.random.default_rng(3)
    planes = [rng.integers(0, 1024, (40 + 2 * (i % 3), 30 + i % 5), dtype=np.uint16) for i in range(64)]
    with backends.load(name, tiny, device="cpu") as backend:
        alone = [backend(plane, 1023) for plane in planes]
        with ThreadPoolExecutor(8) as pool:
            together = list(pool.map(lambda plane: backend(plane, 1023), planes))
    for a, b in zip(alone, together, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("name", backends.NAMES)
def test_output_is_clipped_to_the_code_values(name: str, tmp_path: Path) -> None:
    """A network that answers far outside 0…1 gives 0 and max_value, not wrapped integers."""
    config = TINY
    weights = random_weights(config)
    last = len(config.layers) - 1
    weights[f"convs.{last}.bias"][:] = np.where(np.arange(16) % 2, 1e6, -1e6)
    model = write_model(tmp_path, config, weights=weights)
    with backends.load(name, model, device="cpu") as backend:
        result = backend(np.full((4, 4), 500, np.uint16), 1023)
    assert set(np.unique(result)) == {0, 1023}


@pytest.mark.parametrize(
    "plane", [np.zeros((4, 4)), np.zeros((4, 4, 1), np.uint8), np.zeros((0, 4), np.uint8)]
)
@pytest.mark.parametrize("name", backends.NAMES)
def test_refuses_what_is_no_luma_plane(name: str, plane: np.ndarray, tiny: ModelFiles) -> None:
    with backends.load(name, tiny, device="cpu") as backend, pytest.raises(ValueError, match="luma plane"):
        backend(plane)


@pytest.mark.parametrize("name", backends.NAMES)
def test_closed_backend_says_so(name: str, tiny: ModelFiles) -> None:
    backend = backends.load(name, tiny, device="cpu")
    backend.close()
    backend.close()
    with pytest.raises(BackendError, match="closed"):
        backend(np.zeros((4, 4), np.uint8))


@pytest.mark.parametrize("name", backends.NAMES)
def test_describes_itself(name: str, tiny: ModelFiles) -> None:
    with backends.load(name, tiny, device="cpu", threads=3) as backend:
        assert (backend.name, backend.scale) == (name, 2)
        assert "cpu" in backend.description
        assert "3 frames at a time, 1 thread each" in backend.description


@pytest.mark.parametrize(
    ("name", "modules", "words"),
    [
        ("onnx", ["onnxruntime"], "pip install onnxruntime"),
        ("torch", ["torch"], "pip install '.[torch]'"),
        ("torch", ["safetensors"], "pip install '.[torch]'"),
        (
            "tflite",
            ["ai_edge_litert.interpreter", "tflite_runtime.interpreter"],
            "pip install '.[tflite]'",
        ),
    ],
)
def test_missing_runtime_names_the_extra(
    name: str, modules: list[str], words: str, tiny: ModelFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in modules:
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(BackendError) as caught:
        backends.load(name, tiny)
    assert words in str(caught.value)


def test_available_names_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    assert backends.available() == {"onnx": None, "torch": None, "tflite": None}
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert backends.available()["torch"] == "pip install '.[torch]'"


def test_unknown_backend_lists_the_known() -> None:
    with pytest.raises(UsageError, match="onnx, torch, tflite"):
        backends.load("openvino", ModelFiles("x"))


@pytest.mark.parametrize("name", backends.NAMES)
def test_unknown_device(name: str, tiny: ModelFiles) -> None:
    with pytest.raises(BackendError, match="no device 'toaster'"):
        backends.load(name, tiny, device="toaster")


@pytest.mark.parametrize("name", backends.NAMES)
def test_model_without_a_file_for_this_runtime(name: str, tiny: ModelFiles) -> None:
    kind = {"onnx": "onnx", "torch": "safetensors", "tflite": "tflite"}[name]
    with pytest.raises(ModelError, match=rf"needs an? \.{kind} file"):
        backends.load(name, replace(tiny, **{kind: None}))


@pytest.mark.parametrize("content", [b"", b"garbage" * 100, None], ids=["empty", "garbage", "cut"])
@pytest.mark.parametrize("name", backends.NAMES)
def test_damaged_file(name: str, content: bytes | None, tiny: ModelFiles, tmp_path: Path) -> None:
    kind = {"onnx": "onnx", "torch": "safetensors", "tflite": "tflite"}[name]
    whole = tiny.path(kind)
    assert whole is not None
    data = whole.read_bytes()
    damaged = tmp_path / f"damaged.{kind}"
    damaged.write_bytes(data[: len(data) // 2] if content is None else content)
    with pytest.raises(ModelError) as caught:
        backends.load(name, replace(tiny, **{kind: damaged}))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", backends.NAMES)
def test_weights_that_are_not_finite(name: str, tmp_path: Path) -> None:
    """Exporters refuse such weights, so NaN is patched into the finished files."""
    weights = random_weights(TINY)
    weights["convs.0.bias"][:] = marker = np.float32(1234.5)
    model = write_model(tmp_path, TINY, weights=weights)
    kind = {"onnx": "onnx", "torch": "safetensors", "tflite": "tflite"}[name]
    path = model.path(kind)
    assert path is not None
    data = path.read_bytes()
    assert data.count(marker.tobytes()) >= 4
    path.write_bytes(data.replace(marker.tobytes(), np.float32("nan").tobytes()))
    with pytest.raises(ModelError, match="finite"):
        backends.load(name, model)


def test_torch_gives_the_process_its_settings_back(tiny: ModelFiles) -> None:
    before = torch.get_num_threads(), torch.backends.cudnn.allow_tf32
    torch.set_num_threads(2)
    try:
        with backends.load("torch", tiny, device="cpu", threads=1) as backend:
            backend(np.zeros((4, 4), np.uint8))
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before[0])
    assert torch.backends.cudnn.allow_tf32 == before[1]


@pytest.mark.parametrize("name", backends.NAMES)
def test_runtimes_write_nothing_to_the_terminal(name: str, tiny: ModelFiles) -> None:
    """LiteRT announces its delegate on file descriptor 2, past Python's sys.stderr."""
    kind = {"onnx": "onnx", "torch": "safetensors", "tflite": "tflite"}[name]
    code = (
        "import sys, numpy; from pathlib import Path; from upscale import backends\n"
        "from upscale.model.config import GeneratorConfig; from upscale.model.weights import ModelFiles\n"
        f"model = ModelFiles('n', GeneratorConfig({TINY.unshuffle}, {TINY.channels}, {TINY.body}),"
        f" {kind}=Path(sys.argv[1]))\n"
        f"with backends.load({name!r}, model) as backend:\n"
        "    for side in (20, 6): backend(numpy.zeros((side, side), 'u1'))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tiny.path(kind))], capture_output=True, text=True, timeout=120
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_importing_the_package_loads_no_runtime() -> None:
    code = (
        "import sys, upscale.backends as b; b.available(); print(*sorted({'torch', 'onnxruntime', 'numpy',"
        " 'ai_edge_litert'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.stdout.strip(), done.returncode) == ("", 0)


@pytest.mark.parametrize(
    ("threads", "workers", "per_call"),
    [(1, 1, 1), (2, 2, 1), (MAX_WORKERS, MAX_WORKERS, 1), (32, 8, 4), (0, 1, 1)],
)
def test_thread_plan(threads: int, workers: int, per_call: int) -> None:
    plan = plan_threads(threads)
    assert (plan.workers, plan.per_call) == (workers, per_call)


def test_thread_plan_uses_every_core() -> None:
    assert plan_threads(None) == plan_threads(cores())
