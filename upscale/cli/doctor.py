"""`upscale doctor`: what this installation consists of, and what is wrong with it."""

from __future__ import annotations

import json
import platform
import re
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

import click

from upscale.cli.arguments import CONTEXT
from upscale.cli.text import clean, table
from upscale.errors import ModelError, UpscaleError
from upscale.system.child import python
from upscale.system.cores import cores

#: Distribution → what to import to see whether it works here, None where that needs no trial; first those of
#: a base installation.
_BASE = {"av": None, "click": None, "numpy": None, "pillow": None, "rich": None, "onnxruntime": "onnxruntime"}
_EXTRA = {
    "torch": "torch",
    "safetensors": None,
    "ai-edge-litert": "ai_edge_litert.interpreter",
    "tflite-runtime": "tflite_runtime.interpreter",
    "distributed": None,
}
#: First releases of FFmpeg with the fixes of 2026 (CVE-2026-8461 and those after it), by major and minor.
_FIXED = {(8, 0): 3, (8, 1): 2}
_FIXED_SINCE = (9, 0)
#: Without these nothing, or only little, can be written.
_NEEDED = ("libx264", "aac")
#: The latest races that are shown.
_RACES = 6
#: Seconds for one import, with a slow disk.
_TIMEOUT = 60.0


@click.command(context_settings=CONTEXT)
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
def doctor(as_json: bool) -> int:
    """Say what this installation consists of, and what is wrong with it.

    Exit code 0 if all is well, 1 if there are problems.
    """
    found = diagnose()
    exit_code = 1 if found.problems else 0
    if as_json:
        click.echo(json.dumps(asdict(found)))
        return exit_code
    for name, value in found.facts.items():
        click.echo(f"{name:<10} {clean(_text(value))}")
    click.echo()
    if found.races:
        click.echo(_races_table(found.races) + "\n")
    for problem in found.problems:
        click.echo(f"problem: {clean(problem)}")
    if not found.problems:
        click.echo("no problems found")
    return exit_code


def _races_table(races: list[dict[str, Any]]) -> str:
    """Milliseconds of the processor per frame, and how far the rounds' median lies above them."""
    rows = []
    for race in races:
        doubt = "machine was busy" if race["busy"] else ""
        first = [clean(race["question"]), "a job was slower" if race["slow"] else doubt]
        for name, ms in sorted(race["times"].items(), key=lambda item: item[1]):
            rows.append([first[0], name, f"{ms:.1f}", f"+{100 * race['spread'][name]:.0f} %", first[1]])
            first = ["", ""]
        for name, why in race["refused"].items():
            rows.append(["", clean(name), "", "", f"{clean(why)} from fp32"])
    return table(rows, ["race", "variant", "ms/frame", "median", ""])


def _text(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_text(of)}" for key, of in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What was found.

    Attributes:
        facts: JSON values by name: versions, libraries, packages, machine, encoders, models, cache.
        problems: what is wrong, a sentence each; empty if all is well.
        races: of runtimes and precisions, as they are remembered here.
    """

    facts: dict[str, Any] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    races: list[dict[str, Any]] = field(default_factory=list)


def diagnose() -> Diagnosis:
    """Check everything. Heavy runtimes are imported in child processes."""
    from upscale.version import __version__

    found = Diagnosis()
    found.facts.update(
        upscale=__version__,
        python=f"{platform.python_implementation()} {platform.python_version()}",
        platform=f"{platform.platform()}, {platform.machine()}",
        cores=cores(),
    )
    _packages(found)
    _ffmpeg(found)
    _models(found)
    _cache(found)
    return found


def _packages(found: Diagnosis) -> None:
    """Versions of what is installed, and whether runtimes can be imported."""
    versions: dict[str, str] = {}
    for name in _BASE | _EXTRA:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            if name in _BASE:
                found.problems.append(f"{name} is not installed: pip install {name}")
    found.facts["packages"] = versions
    trials = {name: module for name, module in (_BASE | _EXTRA).items() if module and name in versions}
    with ThreadPoolExecutor() as pool:
        for name, error in zip(trials, pool.map(_import_error, trials.values()), strict=True):
            if error:
                found.problems.append(f"{name} {versions[name]} is installed but does not work: {error}")


def _import_error(module: str) -> str | None:
    """Why a module cannot be imported, tried in a child process; None if it can."""
    command = python("-c", f"import {module}")
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT, check=False)
    except subprocess.TimeoutExpired:
        return "importing it does not end"
    if done.returncode < 0:
        return f"importing it ends the process with signal {-done.returncode}"
    lines = done.stderr.strip().splitlines()
    return (lines[-1] if lines else "importing it fails") if done.returncode else None


def _ffmpeg(found: Diagnosis) -> None:
    try:
        import av

        from upscale.media.output.encoders import COMMON, available_encoders
    except (ImportError, OSError) as error:
        found.problems.append(f"PyAV does not work: {error}")
        return
    version = str(av.ffmpeg_version_info)
    libraries = {name: ".".join(map(str, numbers)) for name, numbers in av.library_versions.items()}
    encoders = set(available_encoders())
    found.facts["ffmpeg"] = {"version": version, "libraries": libraries}
    found.facts["encoders"] = [name for name in COMMON if name in encoders]
    if problem := outdated(version):
        found.problems.append(problem)
    for name in _NEEDED:
        if not _has_encoder(name):
            found.problems.append(f"FFmpeg was built without the encoder {name}")


def _has_encoder(name: str) -> bool:
    from av.codec import Codec

    try:
        return bool(Codec(name, "w").is_encoder)
    except Exception:  # unknown codec: PyAV has several classes for this by version
        return False


def outdated(version: str) -> str | None:
    """What is wrong with a release of FFmpeg; None for fixed ones, and for builds that name no release."""
    match = re.match(r"n?(\d+)\.(\d+)(?:\.(\d+))?", version)
    if not match:
        return None
    major, minor, patch = (int(part or 0) for part in match.groups())
    if (major, minor) >= _FIXED_SINCE or patch >= _FIXED.get((major, minor), sys.maxsize):
        return None
    return (
        f"FFmpeg {version} lacks security fixes of 2026 (CVE-2026-8461 and others): "
        "pip install --upgrade av, which brings its own"
    )


def _models(found: Diagnosis) -> None:
    """The bundled weights, each file compared with its SHA-256."""
    from upscale.model.weights import bundled, find_model, weights_folder

    found.facts["weights"] = str(weights_folder())
    found.facts["models"] = []
    try:
        names = list(bundled())
    except ModelError as error:
        found.problems.append(str(error))
        return
    for name in names:
        try:
            find_model(name)
            found.facts["models"].append(name)
        except (UpscaleError, OSError, KeyError) as error:
            path = getattr(error, "path", None)
            found.problems.append(f"model {name}: {f'{path}: ' if path else ''}{error}")


def _cache(found: Diagnosis) -> None:
    """The folder in which the fastest runtime is remembered, and the races in it."""
    from upscale.backends.auto import cache_path, races

    found.races.extend(race.to_json() for race in races()[-_RACES:])

    folder = Path(cache_path()).parent
    found.facts["cache"] = str(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        why = error.strerror or str(error)
        found.problems.append(f"{folder}: {why}: the fastest runtime cannot be remembered")
