"""`auto`: measured once, remembered, and never the reason that a job fails."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from networks import TINY, write_model

from upscale import backends
from upscale.backends import auto, trial
from upscale.errors import BackendError
from upscale.model.weights import ModelFiles


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> ModelFiles:
    return write_model(tmp_path_factory.mktemp("net"), TINY)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("UPSCALE_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache" / "backends.json"


class Races:
    """Stands in for the measurement: gives set times and counts how often it is asked."""

    def __init__(self, **times: float) -> None:
        self.times = times
        self.count = 0

    def __call__(self, model: ModelFiles, candidates: list[str], *_: Any) -> dict[str, float]:
        self.count += 1
        return {name: self.times[name] for name in candidates if name in self.times}


@pytest.fixture
def races(monkeypatch: pytest.MonkeyPatch) -> Races:
    stand_in = Races(onnx=20.0, torch=10.0, tflite=15.0)
    monkeypatch.setattr(trial, "measure_apart", stand_in)
    return stand_in


def test_measures_every_backend_for_real(model: ModelFiles, cache: Path) -> None:
    name, reason = backends.choose(model, 48, 64)
    (times,) = json.loads(cache.read_text()).values()
    assert times.keys() == set(backends.NAMES)
    assert all(0 < ms < 10_000 for ms in times.values())
    assert name == auto._fastest(times)
    assert all(f"{ms:.1f} ms" in reason for ms in times.values())
    assert sorted(cache.parent.iterdir()) == [cache]


def test_second_call_measures_nothing(model: ModelFiles, races: Races) -> None:
    first, _ = backends.choose(model, 360, 640)
    second, reason = backends.choose(model, 360, 640)
    assert (first, second, races.count) == ("torch", "torch", 1)
    assert reason == "measured earlier on this machine: torch 10.0 ms, tflite 15.0 ms, onnx 20.0 ms per frame"


def test_onnx_wins_a_near_tie(model: ModelFiles, races: Races) -> None:
    """It starts a second sooner than torch, and two per cent are noise."""
    races.times = {"onnx": 20.0, "torch": 19.6, "tflite": 30.0}
    assert backends.choose(model, 360, 640)[0] == "onnx"


@pytest.mark.parametrize(
    "change",
    [
        {"model": "other"},
        {"size": (90, 160)},
        {"threads": 1},
        {"processor": "other"},
        {"version": "0.0.1"},
    ],
    ids=str,
)
def test_measures_again_when_something_changed(
    change: dict[str, Any], model: ModelFiles, races: Races, monkeypatch: pytest.MonkeyPatch
) -> None:
    backends.choose(model, 360, 640, threads=2)
    if "model" in change:
        model = replace(model, sha256={"onnx": "other"})
    if "processor" in change:
        monkeypatch.setattr(auto, "_processor", lambda: change["processor"])
    if "version" in change:
        monkeypatch.setattr("importlib.metadata.version", lambda _: change["version"])
    backends.choose(model, *change.get("size", (360, 640)), threads=change.get("threads", 2))
    assert races.count == 2
    backends.choose(model, *change.get("size", (360, 640)), threads=change.get("threads", 2))
    assert races.count == 2


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"\xff\xfe", b"null", b"[" * 100_000, b'{"KEY": {}}', b'{"KEY": {"onnx": "fast"}}',
     b'{"KEY": {"gone": 1.0}}', b'{"KEY": 3}'],
)  # fmt: skip
def test_damaged_cache_is_replaced(content: bytes, model: ModelFiles, races: Races, cache: Path) -> None:
    backends.choose(model, 360, 640)
    (key,) = json.loads(cache.read_text())
    cache.write_bytes(content.replace(b"KEY", key.encode()))
    assert backends.choose(model, 360, 640)[0] == "torch"
    assert races.count == 2
    assert json.loads(cache.read_text())[key] == races.times


def test_unwritable_cache_costs_only_the_next_measurement(
    model: ModelFiles, races: Races, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("UPSCALE_CACHE_DIR", str(tmp_path / "file" / "below"))
    assert backends.choose(model, 360, 640)[0] == "torch"
    assert backends.choose(model, 360, 640)[0] == "torch"
    assert races.count == 2


def test_failed_replacement_leaves_no_temporary_file(
    model: ModelFiles, races: Races, monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    def full(*_: Any) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(os, "replace", full)
    backends.choose(model, 360, 640)
    assert list(cache.parent.iterdir()) == []


def test_broken_runtime_is_left_out(model: ModelFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    """Installed, but its import fails: a wheel for another processor, say."""
    monkeypatch.setitem(sys.modules, "torch", None)
    assert trial.measure(model, backends.NAMES, (16, 16), None, 1).keys() == {"onnx", "tflite"}


def test_trial_leaves_no_runtime_in_the_job(model: ModelFiles) -> None:
    """PyTorch in the job's own process took it to 400 MB."""
    code = (
        "import sys; from pathlib import Path; from upscale import backends\n"
        "from upscale.model.config import GeneratorConfig; from upscale.model.weights import ModelFiles\n"
        "model = ModelFiles('n', GeneratorConfig(2, 4, 0), *map(Path, sys.argv[1:]))\n"
        "print(backends.choose(model, 16, 16)[1]); print({'torch', 'onnxruntime'} & sys.modules.keys())"
    )
    paths = [str(model.safetensors), str(model.onnx), str(model.tflite)]
    done = subprocess.run([sys.executable, "-c", code, *paths], capture_output=True, text=True, timeout=120)
    assert (done.stderr, done.returncode) == ("", 0)
    reason, loaded = done.stdout.splitlines()
    assert "torch" in reason
    assert loaded == "set()"


def test_runtime_that_crashes_takes_only_the_trial_with_it(
    model: ModelFiles, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, cache: Path
) -> None:
    """An illegal instruction ends a process without any exception; and such a result is not kept."""
    package = tmp_path / "onnxruntime"
    package.mkdir()
    (package / "__init__.py").write_text("import os; os.abort()")
    monkeypatch.setattr(trial, "__file__", str(tmp_path / "a" / "b" / "c"))
    monkeypatch.setenv(
        "PYTHONPATH", os.pathsep.join([str(tmp_path), str(Path(backends.__file__).parents[2])])
    )
    assert backends.choose(model, 16, 16) == ("onnx", "the trial of the backends failed")
    assert not cache.exists()


def test_trial_imports_nothing_from_the_current_folder(
    model: ModelFiles, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A folder of somebody's videos may hold a numpy.py."""
    (tmp_path / "numpy.py").write_text("import os; os.abort()")
    monkeypatch.chdir(tmp_path)
    assert trial.measure_apart(model, ["onnx"], (16, 16), None, 1).keys() == {"onnx"}


def test_single_candidate_is_not_measured(model: ModelFiles, races: Races, cache: Path) -> None:
    name, reason = backends.choose(ModelFiles("own", None, onnx=model.onnx), 360, 640)
    assert (name, races.count, cache.exists()) == ("onnx", 0, False)
    assert "only backend" in reason


def test_when_nothing_works_the_first_backend_says_why(model: ModelFiles) -> None:
    assert trial.measure(model, backends.NAMES, (16, 16), "toaster", 1) == {}
    name, reason = backends.choose(model, 360, 640, device="toaster")
    assert (name, reason) == ("onnx", "the trial of the backends failed")
    with pytest.raises(BackendError, match="no device 'toaster'"):
        backends.load(name, model, device="toaster")


def test_nothing_installed_names_the_extra(model: ModelFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(BackendError, match=r"pip install 'upscale\[all\]'"):
        backends.choose(model, 360, 640)


@pytest.mark.parametrize(
    ("platform", "variables", "expected"),
    [
        ("linux", {"XDG_CACHE_HOME": "/x"}, "/x/upscale/backends.json"),
        ("linux", {}, "~/.cache/upscale/backends.json"),
        ("darwin", {}, "~/Library/Caches/upscale/backends.json"),
        ("win32", {"LOCALAPPDATA": "/l"}, "/l/upscale/backends.json"),
        ("linux", {"UPSCALE_CACHE_DIR": "/u", "XDG_CACHE_HOME": "/x"}, "/u/backends.json"),
    ],
)
def test_cache_folder(
    platform: str, variables: dict[str, str], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("UPSCALE_CACHE_DIR", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "platform", platform)
    assert auto.cache_path() == Path(expected).expanduser()


def test_trials_stay_small_and_keep_the_shape() -> None:
    for height, width in ((1, 1), (360, 640), (2160, 3840), (1, 1_000_000), (1_000_000, 1)):
        h, w = auto._trial_size(height, width)
        assert h >= 1
        assert w >= 1
        assert h * w <= auto._MAX_TRIAL_PIXELS
    assert auto._trial_size(2160, 3840) == (270, 480)


def test_race_takes_the_best_of_turns() -> None:
    """Other load on the machine must not hit one backend alone."""
    from concurrent.futures import ThreadPoolExecutor

    turns: list[str] = []

    def runner(name: str) -> Any:
        def call(_: np.ndarray) -> None:
            turns.append(name)

        return call

    with ThreadPoolExecutor(1) as pool:
        working: Any = {name: runner(name) for name in ("onnx", "tflite")}
        times = trial._race(working, np.zeros((2, 2), np.uint8), pool, 1)
    assert turns == ["onnx", "tflite"] * trial._MAX_ROUNDS
    assert times.keys() == {"onnx", "tflite"}
