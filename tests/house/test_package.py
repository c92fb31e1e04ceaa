"""The package as it is installed, its public names and its documents; covers `version.py`, `__main__.py`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
import venv
import zipfile
from importlib.metadata import distribution
from pathlib import Path

import pytest
from conftest import ROOT

import upscale


def test_public_names_are_sorted_and_all_there() -> None:
    assert upscale.__all__ == sorted(upscale.__all__)
    assert set(upscale.__all__) == {*upscale._HOMES, "__version__"}
    for name in upscale.__all__:
        assert getattr(upscale, name) is not None
        assert name in dir(upscale)


def test_unknown_names_are_attribute_errors() -> None:
    with pytest.raises(AttributeError, match="nonsense"):
        _ = upscale.nonsense


def test_importing_the_package_loads_nothing_heavy() -> None:
    code = "import upscale, sys; print({'av', 'numpy', 'click', 'onnxruntime', 'torch'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "set()"


def test_the_console_script_is_the_command_line() -> None:
    scripts = [e for e in distribution("upscale").entry_points if e.group == "console_scripts"]
    assert [(e.name, e.value) for e in scripts] == [("upscale", "upscale.cli.main:main")]


def test_readme_has_the_two_commands_that_ci_runs() -> None:
    """`.ci/run` reads both set-up commands out of the README; a third or a missing one would go unrun."""
    first, second = (
        line for line in (ROOT / "README.md").read_text().splitlines() if line.startswith("python3 -m venv")
    )
    assert first.endswith("upscale samples/bee_360p.mp4 bee_720p.mp4")
    assert second.endswith("pytest -n auto")


def test_every_sample_has_its_licence_line() -> None:
    text = (ROOT / "samples" / "README.md").read_text()
    clips = [p.name for p in (ROOT / "samples").glob("*.mp4") if "720p" not in p.name]
    assert len(clips) >= 2
    for name in clips:
        assert f"`{name}`" in text


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from the checkout as pip would, with what is installed."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True, timeout=120)
    (path,) = folder.glob("*.whl")
    return path


def test_the_wheel_holds_the_licence_and_no_checkpoints(wheel: Path) -> None:
    """Checkpoints of training were 1.8 MB of a 3.2 MB wheel."""
    names = zipfile.ZipFile(wheel).namelist()
    assert f"upscale-{upscale.__version__}.dist-info/licenses/LICENSE" in names
    assert {"upscale/_weights/models.json", "upscale/_weights/gan.onnx", "upscale/py.typed"} <= set(names)
    assert not [n for n in names if "/wip/" in n or n.startswith(("tests/", "samples/", "weights/"))]
    assert wheel.stat().st_size < 2_000_000


def test_the_version_is_written_once_and_has_its_changes() -> None:
    assert f"\n## [{upscale.__version__}] - 20" in (ROOT / "CHANGELOG.md").read_text()
    assert upscale.__version__ not in (ROOT / "pyproject.toml").read_text()


def test_what_the_project_says_of_itself_is_true() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert "Operating System :: POSIX :: Linux" in project["classifiers"]  # no other was tried
    assert not [c for c in project["classifiers"] if c.startswith("License ::")]  # `license` says it
    assert (ROOT / "LICENSE").read_text().startswith("MIT License")


def test_the_lowest_versions_are_those_that_pyproject_allows() -> None:
    """`.ci/run lowest` installs `constraints-lowest.txt`, which would go stale in silence."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = (ROOT / "tests" / "constraints-lowest.txt").read_text().splitlines()
    pinned = dict(line.split("==") for line in lines if "==" in line and not line.startswith("#"))
    for requirement in project["dependencies"] + project["optional-dependencies"]["tflite"]:
        name, lowest = requirement.split(">=")
        assert (pinned[name] + ".").startswith(lowest + "."), name


@pytest.mark.slow
def test_a_wheel_in_an_empty_environment_does_the_main_job(
    tmp_path: Path, samples: Path, wheel: Path
) -> None:
    """Outside the checkout, with nothing but the wheel and its declared dependencies."""
    venv.create(tmp_path / "venv", with_pip=True)
    folder = tmp_path / "venv" / ("Scripts" if os.name == "nt" else "bin")
    pip = [
        str(folder / "python"),
        "-m",
        "pip",
        "install",
        "--quiet",
        "-c",
        str(ROOT / "tests/constraints.txt"),
    ]
    subprocess.run([*pip, str(wheel)], check=True, timeout=280)
    command = [str(folder / "upscale"), str(samples / "bee_360p.mp4"), "out.mp4", "-t", "0.5", "--json"]
    clean = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    done = subprocess.run(command, cwd=tmp_path, env=clean, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["size"] == [1280, 720]
    assert "onnx" in result["backend"]
    assert (tmp_path / "out.mp4").stat().st_size == result["bytes"]
