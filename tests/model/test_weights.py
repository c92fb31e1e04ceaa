"""Weights files: the bundled index, hashes, refusal of unsafe and damaged files.

Covers weights, config and generator.
"""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from upscale.backends.pytorch import load_generator
from upscale.errors import ModelError, UsageError
from upscale.model import weights
from upscale.model.complexity import complexity
from upscale.model.config import MAX_PARAMETERS, GeneratorConfig
from upscale.model.generator import Generator
from upscale.model.weights import KINDS, bundled, find_model

BUNDLED = sorted(bundled())


@pytest.fixture
def copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the bundled weights that a test may spoil."""
    for path in weights.weights_folder().iterdir():
        if path.is_file():
            (tmp_path / path.name).write_bytes(path.read_bytes())
    monkeypatch.setattr(weights, "weights_folder", lambda: tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", BUNDLED)
def test_bundled_model_is_whole_and_tiny(name: str) -> None:
    model = find_model(name)
    assert model.config is not None
    assert all(model.path(kind) for kind in KINDS)
    assert complexity(model.config).parameters <= MAX_PARAMETERS
    network = load_generator(model)
    assert sum(p.numel() for p in network.parameters()) == complexity(model.config).parameters


def test_default_is_the_first() -> None:
    assert find_model(None).name == next(iter(bundled()))


@pytest.mark.parametrize("kind", KINDS)
def test_altered_file_is_refused(copy: Path, kind: str) -> None:
    model = find_model(None)
    path = model.path(kind)
    assert path is not None
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(ModelError, match="SHA-256"):
        find_model(None)


def test_missing_index(copy: Path) -> None:
    (copy / "models.json").unlink()
    with pytest.raises(ModelError, match="cannot be read"):
        find_model(None)


def test_pickle_is_never_opened(tmp_path: Path) -> None:
    """A pickle that would create a file when read does not get to do so."""
    canary = tmp_path / "canary"

    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (Path.touch, (canary,))  # type: ignore[return-value]

    path = tmp_path / "model.pth"
    path.write_bytes(pickle.dumps(Evil()))
    with pytest.raises(UsageError, match="never opened"):
        find_model(str(path))
    disguised = tmp_path / "model.safetensors"
    disguised.write_bytes(path.read_bytes())
    with pytest.raises(ModelError):
        find_model(str(disguised))
    assert not canary.exists()


def test_unknown_name_lists_the_bundled_models() -> None:
    with pytest.raises(UsageError, match=BUNDLED[0]):
        find_model("nonsense")


def test_oversize_file_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "huge.onnx"
    with path.open("wb") as f:
        f.truncate(weights.MAX_BYTES + 1)
    with pytest.raises(ModelError, match="larger than"):
        find_model(str(path))


@pytest.mark.parametrize(
    "content",
    [b"", b"garbage", b"\xff" * 64, b"\x02\0\0\0\0\0\0\0{}", b"\x02\0\0\0\0\0\0\0[]"],
    ids=["empty", "garbage", "long header", "no metadata", "a list"],
)
def test_damaged_safetensors(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    with pytest.raises(ModelError):
        find_model(str(path))


def _write(path: Path, config: GeneratorConfig, change: object = None) -> Path:
    state = {k: v.numpy().copy() for k, v in Generator(config).state_dict().items()}
    if callable(change):
        change(state)
    save_file(state, path, metadata={"config": config.to_json()})
    return path


def test_user_file_loads(tmp_path: Path) -> None:
    config = GeneratorConfig(1, 8, 1)
    network = load_generator(find_model(str(_write(tmp_path / "mine.safetensors", config))))
    assert network(torch.rand(1, 1, 5, 7)).shape == (1, 1, 10, 14)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda s: s.pop("convs.0.bias"), "do not fit"),
        (lambda s: s.update({"convs.0.bias": np.zeros(3, np.float32)}), "do not fit"),
        (lambda s: s["convs.0.weight"].fill(np.nan), "finite"),
    ],
    ids=["missing", "other shape", "NaN"],
)
def test_wrong_tensors(tmp_path: Path, change: object, reason: str) -> None:
    path = _write(tmp_path / "mine.safetensors", GeneratorConfig(1, 8, 1), change)
    with pytest.raises(ModelError, match=reason):
        load_generator(find_model(str(path)))


@pytest.mark.parametrize(
    "text", ["", "[]", '{"channels": 0}', '{"scale": 3}', '{"width": 3}', '{"body": "x"}']
)
def test_bad_configuration(text: str) -> None:
    with pytest.raises(ModelError):
        GeneratorConfig.from_json(text)


def test_configuration_round_trip() -> None:
    config = GeneratorConfig(1, 24, 5)
    assert GeneratorConfig.from_json(config.to_json()) == config


@pytest.mark.parametrize("config", [GeneratorConfig(2, 32, 3), GeneratorConfig(1, 16, 2)])
def test_receptive_field_by_experiment(config: GeneratorConfig) -> None:
    """Every input that an output depends on lies in the square that `complexity` counts, and it is full."""
    network = Generator(config)
    with torch.no_grad():
        for p in network.parameters():
            p.copy_(torch.rand_like(p) / 10)
    x = torch.rand(1, 1, 64, 64, requires_grad=True)
    network(x)[0, 0, 64, 64].backward()
    assert x.grad is not None
    rows = torch.nonzero(x.grad[0, 0].abs().sum(1))
    assert int(rows.max() - rows.min()) + 1 == complexity(config).receptive_field


def test_macs_of_the_design_table() -> None:
    """The counts of the literature's convention: 3x3 layers, MACs of one 1280x720 frame."""
    assert complexity(GeneratorConfig(2, 32, 3)).macs_per_frame(720, 1280) == pytest.approx(1.924e9, rel=1e-3)
    assert complexity(GeneratorConfig(1, 16, 3)).parameters == 7700


def test_index_lists_only_what_is_there() -> None:
    index = json.loads((weights.weights_folder() / "models.json").read_text())
    for entry in index.values():
        assert set(entry["files"]) == set(KINDS)
        assert entry["summary"]
