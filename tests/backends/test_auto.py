"""`auto`: measured once, remembered, and never the reason that a job fails."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from networks import TINY, write_model

from upscale import backends
from upscale.backends import auto, trial
from upscale.backends.trial import Outcome
from upscale.backends.variants import Variant, candidates
from upscale.errors import BackendError, UsageError
from upscale.model.weights import ModelFiles
from upscale.system.cores import ThreadPlan


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> ModelFiles:
    """With files of every kind; what the int8 ones hold does not matter where nothing is measured."""
    made = write_model(tmp_path_factory.mktemp("net"), TINY)
    return replace(made, tflite_int8=made.tflite, onnx_int8=made.onnx)


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> ModelFiles:
    """With fp32 files only, all of the same network."""
    return write_model(tmp_path_factory.mktemp("real"), TINY)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("UPSCALE_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache" / "backends.json"


class Races:
    """Stands in for the measurement: gives set times and counts how often it is asked."""

    def __init__(self, times: dict[str, float], refused: dict[str, str] | None = None) -> None:
        self.times = times
        self.refused = refused or {}
        self.spread = 0.01
        self.busy = False
        self.count = 0

    def __call__(self, model: ModelFiles, found: list[Variant], *_: Any) -> Outcome:
        self.count += 1
        names = {str(variant) for variant in found}
        times, refused = (
            {k: v for k, v in kept.items() if k in names} for kept in (self.times, self.refused)
        )
        return Outcome(times, refused, dict.fromkeys(times, self.spread), self.busy)


@pytest.fixture
def races(monkeypatch: pytest.MonkeyPatch) -> Races:
    times = {"onnx fp32": 20.0, "torch fp32": 10.0, "tflite fp32": 15.0, "tflite int8": 5.0, "onnx int8": 6.0}
    stand_in = Races(times, {"torch bf16": "is far off"})
    monkeypatch.setattr(trial, "measure_in_subprocess", stand_in)
    return stand_in


FP32 = [Variant(name, "fp32") for name in ("onnx", "tflite", "torch")]


def test_measures_every_backend_for_real(real: ModelFiles, cache: Path) -> None:
    variant, reason = auto.choose(real, 48, 64, precision="fp32")
    (entry,) = json.loads(cache.read_text()).values()
    times = entry["times"]
    assert times.keys() == {str(v) for v in FP32}
    assert all(0 < ms < 10_000 for ms in times.values())
    assert variant == auto._fastest(Outcome.from_json(entry), FP32)
    assert entry["spread"].keys() == times.keys()
    assert (entry["question"], entry["races"], entry["slow"]) == ("net, 64x48, 8 bit", 1, False)
    assert all(f"{ms:.1f} ms" in reason for ms in times.values())
    assert sorted(cache.parent.iterdir()) == [cache]


def test_second_call_measures_nothing(model: ModelFiles, races: Races) -> None:
    first, _ = auto.choose(model, 360, 640)
    second, reason = auto.choose(model, 360, 640)
    assert (first, second, races.count) == (Variant("tflite", "int8"), first, 1)
    assert reason == (
        "measured earlier on this machine: tflite int8 5.0 ms, onnx int8 6.0 ms, torch fp32 10.0 ms, "
        "tflite fp32 15.0 ms, onnx fp32 20.0 ms per frame; torch bf16 is far off from fp32, too much"
    )


def test_exact_one_wins_a_near_tie_and_onnx_among_the_exact(model: ModelFiles, races: Races) -> None:
    """onnxruntime starts a second sooner than torch, and two per cent are noise."""
    races.times = {"onnx fp32": 20.0, "torch fp32": 19.6, "tflite fp32": 30.0, "tflite int8": 19.5}
    assert auto.choose(model, 360, 640)[0] == Variant("onnx", "fp32")


def test_what_was_asked_for_but_spoils_the_picture_is_refused(model: ModelFiles, races: Races) -> None:
    """A processor whose int8 kernels saturate, say: better an error than a worse picture."""
    races.times, races.refused = {}, {"onnx int8": "differs by 3.00 code values"}
    with pytest.raises(BackendError, match="not on this machine: onnx int8 differs"):
        auto.choose(model, 360, 640, backend="onnx", precision="int8")


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({"backend": "onnx"}, Variant("onnx", "int8")),
        ({"backend": "torch"}, Variant("torch", "fp32")),
        ({"precision": "fp32"}, Variant("torch", "fp32")),
        ({"backend": "tflite", "precision": "fp32"}, Variant("tflite", "fp32")),
        ({"bits": 10}, Variant("torch", "fp32")),
        ({"bits": 10, "backend": "tflite"}, Variant("tflite", "fp32")),
    ],
    ids=str,
)
def test_what_was_asked_for_is_all_that_races(
    asked: dict[str, Any], expected: Variant, model: ModelFiles, races: Races
) -> None:
    """More than 8 bits never run in int8, however fast it is."""
    assert auto.choose(model, 360, 640, **asked)[0] == expected


def test_precision_and_depth_are_measured_on_their_own(model: ModelFiles, races: Races) -> None:
    for asked in ({}, {"precision": "fp32"}, {"backend": "onnx"}, {"bits": 10}, {"bits": 12}):
        auto.choose(model, 360, 640, **asked)
    assert races.count == 5


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
    auto.choose(model, 360, 640, threads=2)
    if "model" in change:
        model = replace(model, sha256={"onnx": "other"})
    if "processor" in change:
        monkeypatch.setattr(auto, "processor", lambda: change["processor"])
    if "version" in change:
        monkeypatch.setattr("importlib.metadata.version", lambda _: change["version"])
    auto.choose(model, *change.get("size", (360, 640)), threads=change.get("threads", 2))
    assert races.count == 2
    auto.choose(model, *change.get("size", (360, 640)), threads=change.get("threads", 2))
    assert races.count == 2


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"\xff\xfe", b"null", b"[" * 100_000, b'{"KEY": {}}',
     b'{"KEY": {"times": {"onnx fp32": "fast"}, "refused": {}}}', b'{"KEY": {"times": {}, "refused": {}}}',
     b'{"KEY": {"times": {"gone fp32": 1.0}, "refused": {}}}', b'{"KEY": {"times": {"onnx fp32": 1.0}}}',
     b'{"KEY": {"onnx": 1.0}}', b'{"KEY": 3}', b'{"KEY": {"times": {"onnx fp32": 1.0}, "refused": {}, '
     b'"spread": {}, "busy": false, "question": "", "races": 1, "slow": false}}'],
)  # fmt: skip
def test_damaged_cache_is_replaced(content: bytes, model: ModelFiles, races: Races, cache: Path) -> None:
    auto.choose(model, 360, 640)
    (key,) = json.loads(cache.read_text())
    cache.write_bytes(content.replace(b"KEY", key.encode()))
    assert auto.choose(model, 360, 640)[0] == Variant("tflite", "int8")
    assert races.count == 2
    assert json.loads(cache.read_text())[key]["times"] == races.times


def test_unwritable_cache_costs_only_the_next_measurement(
    model: ModelFiles, races: Races, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("UPSCALE_CACHE_DIR", str(tmp_path / "file" / "below"))
    assert auto.choose(model, 360, 640)[0] == Variant("tflite", "int8")
    assert auto.choose(model, 360, 640)[0] == Variant("tflite", "int8")
    assert races.count == 2


def test_failed_replacement_leaves_no_temporary_file(
    model: ModelFiles, races: Races, monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    def full(*_: Any) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(os, "replace", full)
    auto.choose(model, 360, 640)
    assert list(cache.parent.iterdir()) == []


def test_broken_runtime_is_left_out(real: ModelFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    """Installed, but its import fails: a wheel for another processor, say."""
    monkeypatch.setitem(sys.modules, "torch", None)
    assert trial.measure(real, FP32, (16, 16), 8, 1).times.keys() == {"onnx fp32", "tflite fp32"}


@pytest.mark.parametrize("bits", [8, 10])
def test_variant_that_makes_another_picture_never_wins(bits: int, tmp_path: Path) -> None:
    """The files here called int8 are another network's, so fast or not, they are refused."""
    for name in ("net", "other"):
        (tmp_path / name).mkdir()
    model, other = write_model(tmp_path / "net", TINY), write_model(tmp_path / "other", TINY, seed=1)
    mixed = replace(model, tflite_int8=other.tflite, onnx_int8=model.onnx)
    found = [*FP32[:2], Variant("tflite", "int8"), Variant("onnx", "int8")]
    outcome = trial.measure(mixed, found, (32, 32), bits, 1)
    assert outcome.times.keys() == {"onnx fp32", "tflite fp32", "onnx int8"}
    assert "code values on average" in outcome.refused["tflite int8"]
    # Also where the exact file is no candidate itself.
    outcome = trial.measure(mixed, [Variant("tflite", "int8")], (32, 32), bits, 1)
    assert (outcome.times, [*outcome.refused]) == ({}, ["tflite int8"])


def test_trial_leaves_no_runtime_in_the_job(model: ModelFiles) -> None:
    """PyTorch in the job's own process took it to 400 MB."""
    code = (
        "import sys; from pathlib import Path; from upscale.backends import auto\n"
        "from upscale.model.config import GeneratorConfig; from upscale.model.weights import ModelFiles\n"
        "model = ModelFiles('n', GeneratorConfig(2, 4, 0), *map(Path, sys.argv[1:]))\n"
        "print(auto.choose(model, 16, 16)[1]); print({'torch', 'onnxruntime'} & sys.modules.keys())"
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
    assert auto.choose(model, 16, 16) == (FP32[0], "the trial of the backends failed")
    assert not cache.exists()


def test_trial_imports_nothing_from_the_current_folder(
    real: ModelFiles, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A folder of somebody's videos may hold a numpy.py."""
    (tmp_path / "numpy.py").write_text("import os; os.abort()")
    monkeypatch.chdir(tmp_path)
    assert trial.measure_in_subprocess(real, FP32[:1], (16, 16), 8, 1).times.keys() == {"onnx fp32"}


def test_single_candidate_is_not_measured(model: ModelFiles, races: Races, cache: Path) -> None:
    variant, reason = auto.choose(ModelFiles("own", None, onnx=model.onnx), 360, 640)
    assert (variant, races.count, cache.exists()) == (FP32[0], 0, False)
    assert "only one" in reason


def test_when_nothing_works_the_first_one_says_why(real: ModelFiles) -> None:
    toasters = [replace(variant, device="toaster") for variant in FP32]
    assert trial.measure(real, toasters, (16, 16), 8, 1) == Outcome()
    variant, reason = auto.choose(real, 360, 640, device="toaster")
    assert (variant, reason) == (toasters[0], "the trial of the backends failed")
    with pytest.raises(BackendError, match="no device 'toaster'"):
        backends.load(variant.backend, real, device=variant.device)


def test_nothing_installed_names_the_extra(model: ModelFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(BackendError, match=r"pip install '\.\[all\]'"):
        auto.choose(model, 360, 640)
    with pytest.raises(BackendError, match=r"pip install '\.\[tflite\]'"):
        auto.choose(model, 360, 640, backend="tflite")


def test_blend_has_no_int8_of_onnx(model: ModelFiles) -> None:
    """Its integers cannot be interpolated between two files."""
    blend = replace(model, strength=0.5, partner=model)
    found = candidates(blend, backends.available(), precision="int8")
    assert found == [Variant("tflite", "int8")]


def test_onnx_is_tried_on_what_else_onnxruntime_has(
    real: ModelFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a list of providers that stands for another build; what cannot start is left out."""
    import onnxruntime

    there = ["OpenVINOExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: there)
    tried: list[str] = []
    load = backends.load

    def watched(name: str, model: ModelFiles, **given: Any) -> Any:
        tried.append(str(Variant(name, given["precision"], given["device"])))
        return load(name, model, **given)

    monkeypatch.setattr(backends, "load", watched)
    monkeypatch.setattr(auto, "_version", lambda package: "1.0")
    monkeypatch.setattr(trial, "measure_in_subprocess", trial.measure)
    alone = ModelFiles("own", None, onnx=real.onnx)
    assert auto.choose(alone, 16, 16)[0] == Variant("onnx", "fp32")
    assert tried[:2] == ["onnx cpu fp32", "onnx fp32"]  # what the others are compared with comes first
    assert set(tried[2:]) == {"onnx bf16", "onnx cuda fp32", "onnx openvino fp32", "onnx openvino bf16"}
    tried.clear()
    auto.choose(alone, 16, 16, precision="fp32")
    assert not [name for name in tried if "bf16" in name]


def test_device_that_won_is_used_again(real: ModelFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in = Races({"onnx fp32": 20.0})
    monkeypatch.setattr(auto, "_version", lambda package: "1.0")
    alone = ModelFiles("own", None, onnx=real.onnx)

    def with_device(*given: Any) -> Outcome:
        found = stand_in(*given)
        return replace(
            found,
            times={**found.times, "onnx openvino bf16": 9.0},
            spread={**found.spread, "onnx openvino bf16": 0.0},
        )

    monkeypatch.setattr(trial, "measure_in_subprocess", with_device)
    for _ in range(2):
        assert auto.choose(alone, 360, 640)[0] == Variant("onnx", "bf16", "openvino")
    assert stand_in.count == 1


@pytest.mark.parametrize(
    ("asked", "error", "words"),
    [
        ({"precision": "int4"}, UsageError, "no precision 'int4'; there are fp32, bf16, fp16, int8, auto"),
        ({"backend": "cuda"}, UsageError, "no backend 'cuda'; there are onnx, tflite, torch, auto"),
        ({"precision": "int8", "bits": 10}, UsageError, "int8 holds 8 bits per sample and this video has 10"),
        (
            {"backend": "torch", "precision": "int8"},
            UsageError,
            "torch backend cannot run this model in int8",
        ),
    ],
    ids=str,
)
def test_refuses_what_cannot_be(
    asked: dict[str, Any], error: type[Exception], words: str, model: ModelFiles
) -> None:
    with pytest.raises(error) as caught:
        auto.choose(model, 360, 640, **asked)
    assert words in str(caught.value)


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


class Clock:
    """Wall-clock and processor time that only move when a runner computes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.wall = self.cpu = 0.0
        monkeypatch.setattr(trial.time, "perf_counter", lambda: self.wall)
        monkeypatch.setattr(trial.time, "process_time", lambda: self.cpu)

    def runner(self, name: str, seconds: list[float], share: float = 1.0, device: str = "cpu") -> Any:
        """A backend that takes these processor seconds in turn, and has `share` of the processor."""
        turns = iter(seconds * 100)

        def call(_: np.ndarray, most: int) -> None:
            spent = next(turns)
            self.cpu += spent if device == "cpu" else 0.0
            self.wall += spent / share

        call.description = f"{name} 1.0 {device} fp32"  # type: ignore[attr-defined]
        return call


def run_race(working: Any) -> Outcome:
    with ThreadPoolExecutor(1) as pool:
        return trial._race(working, np.zeros((2, 2), np.uint8), 255, pool, ThreadPlan(1, 1))


def test_race_counts_processor_time_in_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wall-clock times of a busy machine once chose the slower runtime, for ever."""
    clock = Clock(monkeypatch)
    quiet, loaded = (
        run_race({"onnx fp32": clock.runner("onnxruntime", [0.02, 0.024], share), "tflite fp32":
                  clock.runner("ai-edge-litert", [0.01], share)})
        for share in (0.95, 0.4)
    )  # fmt: skip
    for outcome in (quiet, loaded):
        assert outcome.times == pytest.approx({"onnx fp32": 20, "tflite fp32": 10})
    assert quiet.spread["onnx fp32"] == pytest.approx(0.1, abs=0.11)
    assert (quiet.busy, loaded.busy) == (False, True)


def test_race_counts_the_time_of_what_computes_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """A GPU takes no processor time; and that its process has little is no sign of a busy machine."""
    clock = Clock(monkeypatch)
    outcome = run_race({"torch fp32": clock.runner("PyTorch", [0.03], device="cuda")})
    assert outcome.times == pytest.approx({"torch fp32": 30})
    assert not outcome.busy


def test_a_short_race_still_has_several_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    outcome = run_race({"onnx fp32": clock.runner("onnxruntime", [9.0, 1.0, 2.0])})
    assert outcome.times == pytest.approx({"onnx fp32": 1000})
    assert outcome.spread == pytest.approx({"onnx fp32": 1.0})


def test_a_race_under_load_is_repeated_and_keeps_the_best(
    model: ModelFiles, races: Races, cache: Path
) -> None:
    races.busy = True
    races.times = {"onnx int8": 6.0, "tflite int8": 9.0}
    variant, reason = auto.choose(model, 360, 640)
    assert variant == Variant("onnx", "int8")
    assert reason.endswith("the machine was busy: raced again next time")
    races.times = {"onnx int8": 8.0, "tflite int8": 5.0}
    variant, reason = auto.choose(model, 360, 640)
    assert variant == Variant("tflite", "int8")
    assert "onnx int8 6.0 ms" in reason
    for _ in range(4):  # always busy: not raced for ever
        auto.choose(model, 360, 640)
    assert races.count == auto._MAX_RACES
    assert "next time" not in auto.choose(model, 360, 640)[1]
    (race,) = auto.races()
    assert (race.races, race.outcome.busy) == (auto._MAX_RACES, True)


def test_a_quiet_repetition_settles_it(model: ModelFiles, races: Races) -> None:
    races.busy = True
    auto.choose(model, 360, 640)
    races.busy = False
    for _ in range(3):
        auto.choose(model, 360, 640)
    assert races.count == 2


def test_what_overlaps_in_its_rounds_is_a_tie(model: ModelFiles, races: Races) -> None:
    races.times = {"tflite int8": 10.8, "onnx int8": 10.0}
    assert auto.choose(model, 360, 640)[0] == Variant("onnx", "int8")
    races.spread = 0.3  # no more than a tenth is a tie, however wild the rounds are
    assert auto.choose(model, 90, 160)[0] == Variant("onnx", "int8")
    races.times = {"onnx fp32": 10.9, "onnx int8": 10.0}
    assert auto.choose(model, 45, 80)[0] == Variant("onnx", "fp32")


@pytest.mark.parametrize("slowness", [1.0, 3.0])
def test_a_job_that_is_slower_than_predicted_races_again(
    slowness: float, real: ModelFiles, races: Races, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The prediction is of processor time per pixel, so that a busy machine alone changes nothing."""
    variant, _ = auto.choose(real, 270, 480, precision="fp32", threads=1)
    milliseconds = races.times[str(variant)]
    now = {"time": 0.0}
    monkeypatch.setattr(auto.time, "thread_time", lambda: now["time"])

    class Slow:
        name, description, precision, scale = "onnx", "", "fp32", 2

        def __call__(self, luma: np.ndarray, max_value: int = 255, out: Any = None) -> np.ndarray:
            now["time"] += slowness * milliseconds / 1000 * luma.size / (270 * 480)
            return luma

        def close(self) -> None:
            pass

    with auto.watched(Slow(), real, variant) as backend:
        for _ in range(auto._JUDGED):
            backend(np.zeros((540, 960), np.uint8))
            backend(np.zeros((8, 8), np.uint8))
    auto.choose(real, 270, 480, precision="fp32", threads=1)
    assert races.count == (2 if slowness > auto._SLOW else 1)


def test_the_watched_backend_is_the_backend(real: ModelFiles, races: Races) -> None:
    variant, _ = auto.choose(real, 48, 64, precision="fp32", threads=1)
    with backends.load(variant.backend, real, precision="fp32", threads=1) as plain:
        watched = auto.watched(plain, real, variant)
        assert watched is not plain
        assert (watched.name, watched.description) == (plain.name, plain.description)
        assert (watched.precision, watched.scale) == (plain.precision, plain.scale)
        luma = np.random.default_rng(0).integers(0, 256, (20, 24), np.uint8)
        np.testing.assert_array_equal(watched(luma), plain(luma))
        assert auto.watched(plain, real, Variant("onnx", "bf16", "openvino")) is plain


def test_reasons_are_told_once(model: ModelFiles, races: Races) -> None:
    auto.pop_reasons()
    auto.choose(model, 360, 640)
    (reason,) = auto.pop_reasons()
    assert reason.startswith("net, 480x270, 8 bit: tflite int8, measured just now: tflite int8 5.0 ms")
    assert auto.pop_reasons() == []
