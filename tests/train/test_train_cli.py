"""`upscale train` as a person meets it: settings, stops, resumes and what is refused.

Covers upscale/train/{job,preview}.py and upscale/cli/train.py.
"""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import av
import pytest
from conftest import write_clip
from safetensors.torch import load_file

from upscale.cli import train as train_command
from upscale.cli.main import run
from upscale.train import loop
from upscale.train.config import SIX
from upscale.train.losses import LOSSES
from upscale.train.recipe import read_recipe

RECIPE = """
channels = 8
body = 1
expand = 2
threads = 1
bf16 = false
validate_every = 10
checkpoint_every = 5
[[stage]]
name = "near"
iterations = 20
batch = 4
patch = 32
warm_up = 5
[[stage]]
name = "look"
iterations = 20
batch = 2
patch = 32
warm_up = 5
losses = { pixel = 1, adversarial = 0.01, tangent = 0.01, transport = 0.1 }
"""


@pytest.fixture(autouse=True)
def _own_signals() -> Iterator[None]:
    """The command line installs handlers for the whole process."""
    before = {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.toml"
    path.write_text(RECIPE)
    return path


@pytest.fixture(scope="module")
def uninterrupted(crops: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of `RECIPE` that nothing happened to."""
    folder = tmp_path_factory.mktemp("whole")
    (folder / "tiny.toml").write_text(RECIPE)
    loop.train_stages(crops, folder / "run", read_recipe(folder / "tiny.toml"))
    return folder / "run"


def _same_weights(first: Path, second: Path) -> bool:
    """Whether every tensor of two checkpoints, optimisers included, has the same bits."""
    a, b = load_file(first), load_file(second)
    return a.keys() == b.keys() and all(a[k].numpy().tobytes() == b[k].numpy().tobytes() for k in a)


def _train(crops: Path, output: Path, *options: str | Path) -> list[str]:
    command = ["train", crops.parent / "clips", "-o", output, "--crops", crops, *options]
    return [str(word) for word in command]


def test_ctrl_c_saves_and_resume_ends_as_if_nothing_had_happened(
    crops: Path, uninterrupted: Path, recipe: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """Stopped inside the stage with an adversary; `--resume` needs no recipe; everything is written."""
    shown = train_command.PlainDisplay.progress

    def stop_in_second_stage(self: train_command.PlainDisplay, report: loop.Progress) -> None:
        shown(self, report)
        if (report.stage, report.step) == ("look", 10):
            os.kill(os.getpid(), signal.SIGINT)

    command = _train(crops, tmp_path / "my")
    with monkeypatch.context() as patch:
        patch.setattr(train_command.PlainDisplay, "progress", stop_in_second_stage)
        assert run([*command, "--recipe", str(recipe)]) == 130
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.splitlines()[-1].endswith(
        "stopped at step 10 of look; the same command with --resume continues"
    )
    recipe.unlink()
    assert run([*command, "--resume"]) == 0
    last = tmp_path / "my.run" / "last.safetensors"
    assert _same_weights(last, uninterrupted / "last.safetensors")
    assert {p.name for p in tmp_path.iterdir() if p.is_file()} == {
        f"{name}{suffix}"
        for name in ("my", "my_fidelity")
        for suffix in (".safetensors", ".onnx", ".tflite", "_int8.tflite", "_int8.onnx", ".md")
    }
    result = json.loads(capsys.readouterr().out)
    assert Path(result["files"]["onnx"]) == tmp_path / "my.onnx"
    assert (result["stage"], result["fidelity"]["stage"]) == ("look", "near")
    assert result["scores"]["psnr"] == result["psnr"] > 25
    card = (tmp_path / "my.md").read_text()
    assert f"| look | {result['step']} | {result['psnr']:.2f} |" in card
    assert 'name = "look"' in card
    entries = [json.loads(line) for line in (tmp_path / "my.run" / "log.jsonl").read_text().splitlines()]
    assert entries[0]["material"]["read"] == 2
    steps = [entry["step"] for entry in entries]
    assert (tmp_path / "my.run" / "crops.png").exists()
    assert steps == [0, 10, 20, 30, 40], "a resumed log must neither repeat nor lose lines"


def test_kill_9_and_resume_are_bit_for_bit(
    crops: Path, uninterrupted: Path, recipe: Path, tmp_path: Path
) -> None:
    """The process gets no chance to save; the last checkpoint and what it repeats must be enough."""
    last = tmp_path / "my.run" / "last.safetensors"
    command = [sys.executable, "-m", "upscale", *_train(crops, tmp_path / "my", "--recipe", recipe, "-q")]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as child:
        until = time.monotonic() + 120
        while not last.exists() and child.poll() is None and time.monotonic() < until:
            time.sleep(0.002)
        child.kill()
    assert child.returncode == -signal.SIGKILL
    metadata = loop.check_resume(last.parent, read_recipe(recipe))
    assert (metadata["stage"], metadata["step"]) < (2, 20)
    loop.train_stages(crops, last.parent, read_recipe(recipe), resume=True)
    assert _same_weights(last, uninterrupted / "last.safetensors")
    assert _same_weights(last.with_name("2-look.safetensors"), uninterrupted / "2-look.safetensors")


def test_list_losses_needs_no_clips_and_no_torch() -> None:
    code = (
        "import sys; from upscale.cli.main import run; run(['train', '--list-losses']); "
        "print({'torch', 'numpy', 'av', 'onnxruntime'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines[2:-1]] == list(LOSSES)
    assert lines[-1] == "set()"
    assert all(info.source in done.stdout for info in LOSSES.values())


def test_preview_shows_every_degradation(
    crops: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clips = crops.parent / "clips"
    assert run(["train", str(clips), "--preview-data", str(tmp_path / "pairs.png")]) == 0
    told = json.loads(capsys.readouterr().out)
    assert sorted(told["sources"]) == sorted(p.name for p in clips.iterdir())
    with av.open(str(tmp_path / "pairs.png")) as container:
        sheet = next(container.decode(video=0))
    assert sheet.width > 192 * (1 + len(SIX))
    assert sheet.height > 192 * len(told["sources"])


def _material(folder: Path, kind: str) -> Path:
    folder.mkdir()
    if kind == "corrupt":
        (folder / "torn.mp4").write_bytes(b"\0\0\0\x18ftypmp42" + b"\0" * 100)
        (folder / "text.png").write_text("no picture")
    elif kind == "small":
        write_clip(folder / "small.mp4", size=(160, 120), frames=20)
    return folder


@pytest.mark.parametrize(
    ("kind", "code", "line"),
    [
        ("missing", 2, "not a folder"),
        ("empty", 1, "no videos or pictures in this folder"),
        ("corrupt", 1, "too little material: 0 detailed crops of 192x192"),
        ("small", 1, "too little material: 0 detailed crops of 192x192"),
    ],
)
def test_bad_material_is_one_clear_line(
    kind: str, code: int, line: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "none" if kind == "missing" else _material(tmp_path / "clips", kind)
    options = ["-q", "--loss", "perceptual=0"]
    assert run(["train", str(folder), "-o", str(tmp_path / "my"), *options]) == code
    told = capsys.readouterr()
    *skipped, last = told.err.splitlines()
    assert line in last
    assert told.out == ""
    names = {text.split(": ")[1] for text in skipped}
    assert names == ({"torn.mp4", "text.png"} if kind == "corrupt" else set())
    assert all(": skipped: " in text for text in skipped)


@pytest.mark.parametrize("kind", ["empty", "small"])
def test_preview_of_bad_material_is_one_line(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = _material(tmp_path / "clips", kind)
    assert run(["train", str(folder), "--preview-data", str(tmp_path / "pairs.png")]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "no detailed 192x192 crop" in line


def test_a_damaged_file_among_good_ones_is_named_and_skipped(
    crops: Path, recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    folder = tmp_path / "clips"
    shutil.copytree(crops.parent / "clips", folder)
    (folder / "torn.mkv").write_bytes(b"\x1aE\xdf\xa3 torn")
    monkeypatch.setattr(loop, "train_stages", lambda *args, **more: [])
    monkeypatch.setattr("upscale.train.job._export", lambda *args: [])
    assert run(["train", str(folder), "-o", str(tmp_path / "my"), "--recipe", str(recipe)]) == 0
    lines = capsys.readouterr().err.splitlines()
    assert sum("torn.mkv: skipped: " in line for line in lines) == 1
    assert sum("skipped" in line for line in lines) == 1


@pytest.mark.parametrize(
    ("options", "code", "line"),
    [
        (["-o", "{tmp}/file/my"], 2, "cannot write there"),
        (["-o", "/proc/self/no/my"], 2, "cannot write there"),
        ([], 2, "Missing option '-o'"),
        (["-o", "{tmp}/my", "--resume"], 2, "no run to resume"),
        (["-o", "{tmp}/my", "--recipe", "{tmp}/none.toml"], 2, "none.toml: the recipe cannot be read"),
        (["-o", "{tmp}/my", "--recipe", "{tmp}/file"], 2, "file: the recipe is not TOML"),
        (["-o", "{tmp}/my", "--channels", "many"], 2, "'many' is not a valid integer"),
        (["-o", "{tmp}/my", "--channels", "0"], 2, "channels: must be a whole number >= 1, not 0"),
        (["-o", "{tmp}/my", "--loss", "style=1"], 2, "unknown loss 'style'"),
        (["-o", "{tmp}/my", "--loss", "tangent"], 2, "'tangent' is not NAME=VALUE"),
        (["-o", "{tmp}/my", "--set", "gan.iteration=5"], 2, "stage gan: iteration: no such setting"),
        (["-o", "{tmp}/my", "--set", "gan.mix=[1, 1, 0, 0, 0, 0]"], 2, "mix: must be shares"),
        (["-o", "{tmp}/my", "--loss", "gan.distill=1"], 1, "--teacher"),
        (["-o", "{tmp}/my", "--start-from", "{tmp}/file"], 1, "file: the checkpoint cannot be read"),
        (["-o", "{tmp}/my", "--start-from", "{tmp}/none"], 2, "does not exist"),
        (["-o", "{tmp}/my", "--loss", "gan.perceptual=1"], 1, "--loss perceptual=0 trains without"),
    ],
)
def test_what_cannot_be_meant_is_one_line(
    options: list[str], code: int, line: str, crops: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setenv("UPSCALE_LPIPS", str(tmp_path / "none"))
    (tmp_path / "file").write_text("neither a folder nor TOML nor a checkpoint")
    given = [word.replace("{tmp}", str(tmp_path)) for word in options]
    more = ["--crops", str(crops), "-q", "--loss", "perceptual=0"]
    assert run(["train", str(crops.parent / "clips"), *more, *given]) == code
    told = capsys.readouterr()
    (said,) = told.err.splitlines()
    assert line in said
    assert told.out == ""


def test_a_wrong_resume_is_refused_and_changes_nothing(
    crops: Path, uninterrupted: Path, recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(uninterrupted, tmp_path / "my.run")
    command = _train(crops, tmp_path / "my", "--recipe", recipe, "-q")
    before = {p.name: p.read_bytes() for p in (tmp_path / "my.run").iterdir()}
    assert run(command) == 2
    assert "--resume continues it" in capsys.readouterr().err
    assert run([*command, "--resume", "--channels", "16"]) == 1
    assert "cannot resume: the checkpoint was made with another channels" in capsys.readouterr().err
    assert {p.name: p.read_bytes() for p in (tmp_path / "my.run").iterdir()} == before
    last = tmp_path / "my.run" / "last.safetensors"
    last.write_bytes(last.read_bytes()[:500])
    assert run([*command, "--resume"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "last.safetensors: the checkpoint cannot be read" in line


def test_live_display_shows_stage_losses_and_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    from upscale.train.validate import Scores

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setenv("TERM", "xterm")
    scores = Scores(33.5, 0.9, 0.08, 1.02, {"psnr": 32.0, "lpips": 0.12})
    with train_command.display(quiet=False) as shown:
        shown.source(1, 2, "a.mp4", "damaged")
        shown.source(2, 2, "b.mp4", None)
        shown.progress(loop.Progress("gan", 2, 2, 50, 200, {"pixel": 0.0123}, 10.0, scores))
        time.sleep(0.3)
    text = screen.getvalue()
    for part in (
        "a.mp4: skipped: damaged", "crops: 1 of 2 files read",
        "gan (2/2), step 50/200, 10.0 it/s, 0:15 left", "pixel 0.0123",
        "PSNR 33.50 dB (lanczos 32.00)", "LPIPS 0.0800 (lanczos 0.1200)", "flicker 1.02",
    ):  # fmt: skip
        assert part in text
    # The bar has its own line: once it swallowed the one after it.
    assert any(line.startswith("gan (2/2), step 50/200") for line in re.split(r"[\r\n]+", text))


def test_help_needs_no_extra() -> None:
    """A base installation shows what training takes; only training itself asks for the extra."""
    code = (
        "import sys; sys.modules['msgspec'] = None\n"
        "from upscale.cli.main import run; sys.exit(run(sys.argv[1:]))"
    )

    def ask(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, "-c", code, "train", *words], capture_output=True, text=True)

    assert ask("--help").returncode == 0
    refused = ask(".", "-o", "x")
    assert (refused.returncode, refused.stderr.count("\n")) == (1, 1)
    assert "training needs msgspec: pip install '.[train]'" in refused.stderr
