"""`--strength`: which models have a partner, what is refused, and what a job says of it (weights)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from networks import FULL, TINY, random_weights, real_luma, write_model
from pairs import INT8_PSNR, KINDS, gan_weights, psnr, reference, run

from upscale import backends, upscale_file
from upscale.backends import auto, trial
from upscale.backends.variants import Variant
from upscale.cli.info import info
from upscale.cli.listing import print_lists
from upscale.cli.main import run as run_command
from upscale.errors import ModelError, UsageError
from upscale.events import Event, Start
from upscale.jobs.batch import upscale_directory
from upscale.model import weights as weights_module
from upscale.model.weights import bundled, find_model
from upscale.options import Options

PAIRS = [name for name, entry in bundled().items() if "fidelity" in entry]


@pytest.fixture(scope="module")
def luma(samples: Path) -> np.ndarray:
    return real_luma(samples / "bee_360p.mp4")[100:196, 200:328]


@pytest.mark.parametrize("model", ["lanczos", "bicubic"])
def test_resamplers_have_no_strength(model: str, make_clip: Callable[..., Path], tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clip.mp4", frames=1)
    with pytest.raises(UsageError, match="no weights to blend"):
        upscale_file(str(clip), None, Options(model=model, strength=0.5))


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
    assert find_model(str(folder / "gan.tflite")).fidelity is None


def test_auto_measures_the_blends_of_a_pair_once(
    folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """All are equally fast, and take the same runtimes, which are not all those of the model itself."""
    asked: list[float | None] = []

    def race(model: Any, *_: Any) -> trial.Outcome:
        asked.append(model.strength)
        times = {"onnx fp32": 3.0, "torch fp32": 2.0, "tflite fp32": 1.0}
        return trial.Outcome(times, spread=dict.fromkeys(times, 0.0))

    monkeypatch.setenv("UPSCALE_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(trial, "measure_in_subprocess", race)
    chosen = {auto.choose(find_model("gan", s), 360, 640)[0] for s in (None, 0.3, 0.7, 1)}
    assert chosen == {Variant("tflite", "fp32")}
    assert asked == [None, 0.3]


def test_trial_of_a_blend_works(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = [Variant("onnx", "fp32"), Variant("tflite", "fp32")]
    outcome = trial.measure_in_subprocess(find_model("gan", 0.3), found, (16, 16), 8, 1)
    assert (outcome.times.keys(), outcome.refused) == ({"onnx fp32", "tflite fp32"}, {})


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


@pytest.mark.parametrize("pair", PAIRS)
def test_shipped_pair_agrees_in_every_runtime(pair: str, luma: np.ndarray) -> None:
    expected = run("torch", pair, 0.3, luma)
    for name in ("onnx", "tflite"):
        assert np.abs(run(name, pair, 0.3, luma).astype(int) - expected).max() <= 1
    int8 = find_model(pair).tflite_int8
    assert int8 is not None
    assert psnr(run("tflite", int8, 0.5, luma), run("tflite", pair, 0.5, luma)) >= INT8_PSNR
