"""What the manuals show is true: every command line runs, every option exists.

A line that begins with ``upscale``, in a code block without a language, is run by a shell, in a folder of
its own with the files of `material`. Before the block may stand ``<!-- not run: needs a camera -->``, with
the reason why it cannot run here. The first line of the front page is tried in every run, the others in
the slow tests.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from conftest import ROOT, write_clip
from foreign_onnx import write_rgb_network
from PIL import Image

from upscale.cli.arguments import COMMANDS

READMES = [ROOT / "README.md", *sorted((ROOT / "upscale").rglob("README.md"))]
#: Players that a test has no screen for.
_PLAYERS = re.compile(r"\| *(mpv|ffplay)\b.*")
_NOT_RUN = "<!-- not run: "


class Block(NamedTuple):
    """A code block: its README, its language, the line above it, its lines."""

    readme: str
    language: str
    above: str
    lines: list[str]


def blocks(readme: Path) -> Iterator[Block]:
    """The code blocks of a README, which lies in the checkout."""
    above, language, inside = "", "", None
    for line in readme.read_text(encoding="utf-8").splitlines():
        if line.startswith("```"):
            if inside is None:
                language, inside = line.removeprefix("```").strip(), []
            else:
                yield Block(str(readme.relative_to(ROOT)), language, above, inside)
                above, inside = "", None
        elif inside is not None:
            inside.append(line)
        elif line.strip():
            above = line.strip()
    assert inside is None, f"{readme}: a code block has no end"


def commands() -> list[Any]:
    """Each line that is run, once, as parameters of a test; all but the first of the front page are slow."""
    found: dict[str, Any] = {}
    for block in (block for readme in READMES for block in blocks(readme)):
        if block.language or block.above.startswith(_NOT_RUN):
            continue
        for line in "\n".join(block.lines).replace("\\\n", " ").splitlines():
            shown = line.partition(" # ")[0].strip()
            if re.match(r"(python3? -m )?upscale ", shown):
                marks = [pytest.mark.slow] if found else []
                found.setdefault(shown, pytest.param(shown, id=f"{block.readme}: {shown}", marks=marks))
    return list(found.values())


@pytest.fixture(scope="session")
def material(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the manuals name: small, short, made here or taken from the samples."""
    folder = tmp_path_factory.mktemp("material")
    clip = write_clip(folder / "in.mp4", size=(320, 180), frames=10, rate=5, audio=True)
    for name in ("holiday_360p.mp4", "a.mp4", "b.mp4"):
        shutil.copy(clip, folder / name)
    write_clip(folder / "in.mkv", size=(320, 180), frames=10, rate=5, audio=True)
    write_clip(folder / "in.webm", size=(320, 180), frames=10, rate=10, codec="libvpx")
    write_clip(folder / "long.mkv", size=(160, 90), frames=120, rate=1)
    write_clip(folder / "in_360p.mp4", size=(640, 360), frames=10, rate=5)
    write_clip(folder / "in_720p.mp4", size=(1280, 720), frames=10, rate=5)
    shutil.copy(folder / "in_720p.mp4", folder / "sharp.mp4")
    for name in ("clips/one.mp4", "clips/sub/two.mp4", "DEV/one.mp4", "DEV/dog.mp4"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(clip if name.startswith("clips") else folder / "in_720p.mp4", folder / name)
    (folder / "PEERS").mkdir()
    write_rgb_network(folder / "PEERS" / "rgb.onnx")
    _pictures(folder)
    for name in ("samples", "weights"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("wip"))
    return folder


def _pictures(folder: Path) -> None:
    y, x = np.mgrid[0:90, 0:160]
    picture = Image.fromarray(np.stack([x, 2 * y, x + y], axis=2).astype(np.uint8))
    picture.save(folder / "photo.jpg")
    for sub, names in (("photos", ("one.jpg", "two.png")), ("frames", ("0001.png", "0002.png", "0003.png"))):
        (folder / sub).mkdir()
        for name in names:
            picture.save(folder / sub / name)


@pytest.mark.parametrize("line", commands())
def test_every_command_line_of_the_manuals_runs(line: str, material: Path, tmp_path: Path) -> None:
    """In bash, so that a pipe fails where any part of it does."""
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "upscale"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -W error -m upscale "$@"\n')
    program.chmod(0o755)
    here = tmp_path / "here"
    shutil.copytree(material, here)
    script = f"set -o pipefail; {_PLAYERS.sub('| cat > /dev/null', line)}"
    paths = os.pathsep.join((str(program.parent), str(Path(sys.executable).parent), os.environ["PATH"]))
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=here,
        env={**os.environ, "PATH": paths, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()


def options() -> dict[str, set[str]]:
    """Command → its options, as they are typed; "" is the main command."""
    found = {}
    for name in ("run", *COMMANDS):
        command = getattr(import_module(f"upscale.cli.{name}"), name)
        typed = {o for p in command.params for o in (*p.opts, *p.secondary_opts) if o.startswith("-")}
        found["" if name == "run" else name] = typed | {"-h", "--help"}
    return found


def test_every_option_that_a_manual_names_exists() -> None:
    """In code blocks, and in backticks that begin with ``-`` or ``upscale``."""
    known = set().union(*options().values())
    unknown = set()
    for readme in READMES:
        text = readme.read_text(encoding="utf-8")
        lines = [line for block in blocks(readme) for line in block.lines if line.startswith("upscale ")]
        spans = re.findall(r"`((?:-|upscale )[^`]*)`", re.sub(r"(?ms)^```.*?^```", "", text))
        for shown in lines + spans:
            words = re.findall(r"(?<!\S)--?[a-zA-Z][\w:-]*", shown.split("|")[0].split(" # ")[0])
            unknown |= {f"{readme.relative_to(ROOT)}: {word}" for word in words if word not in known}
    assert unknown == set()


def test_every_option_of_the_main_command_is_in_its_manual() -> None:
    manual = (ROOT / "upscale" / "cli" / "README.md").read_text(encoding="utf-8")
    hidden = {"-i"}
    assert {o for o in options()[""] - hidden if f"`{o}" not in manual and f" {o}" not in manual} == set()


def test_the_front_page_is_short() -> None:
    """Two sentences, one picture, ten examples: the rest is in the rooms."""
    assert len((ROOT / "README.md").read_bytes()) <= 8192


def test_links_lead_somewhere() -> None:
    others = [*ROOT.glob("*.md"), *(ROOT / name / "README.md" for name in ("tests", "samples", "weights"))]
    missing = set()
    for readme in READMES + others:
        for link in re.findall(r"\]\(([^)#\s]+)[^)]*\)", readme.read_text(encoding="utf-8")):
            if "://" not in link and not (readme.parent / link).exists():
                missing.add(f"{readme.relative_to(ROOT)}: {link}")
    assert missing == set()
