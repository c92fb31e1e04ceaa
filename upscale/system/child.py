"""Child processes that run this package: for what may crash, or must not stay in memory."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

_ROOT = str(Path(__file__).resolve().parents[2])


def python(*arguments: str) -> list[str]:
    """The command that runs this interpreter; ``-P`` keeps it from importing out of the current folder."""
    return [sys.executable, "-P", *arguments]


def environment() -> dict[str, str]:
    """This process's environment, in which ``import upscale`` finds the package that is running."""
    paths = filter(None, (_ROOT, os.environ.get("PYTHONPATH", "")))
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}


def run_module(
    module: str, *arguments: str, timeout: float, input: str | None = None
) -> subprocess.CompletedProcess[str]:
    """Run ``python -m MODULE ARGUMENTS`` to its end, its output captured as text.

    Args:
        module: of this package, or of one that is installed.
        timeout: in seconds; the child is killed then.
        input: written to its stdin, which is empty otherwise.

    Returns:
        The finished process; a crash is a negative `returncode`.

    Raises:
        subprocess.TimeoutExpired: it did not end in time.
        OSError: it could not be started.
    """
    return subprocess.run(
        python("-m", module, *arguments),
        input=input or "",
        capture_output=True,
        text=True,
        errors="replace",
        timeout=timeout,
        env=environment(),
        check=False,
    )


def start_module(module: str, *arguments: str) -> subprocess.Popen[str]:
    """Start ``python -m MODULE ARGUMENTS`` with its stdout and stderr as text pipes."""
    return subprocess.Popen(
        python("-m", module, *arguments),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
    )
