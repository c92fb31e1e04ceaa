"""Child processes and their honest figures."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

from upscale.errors import UpscaleError
from upscale.system.child import start_module


@dataclass(frozen=True, slots=True)
class Measured:
    """One finished child process.

    Attributes:
        output: the JSON of its last line.
        peak_memory: largest resident size in bytes, or None where the system does not say.
    """

    output: Any
    peak_memory: int | None


def measure(arguments: list[str]) -> Measured:
    """Run ``python -m ARGUMENTS`` and read the JSON of its last output line.

    Raises:
        UpscaleError: it failed; the message is its last line on stderr.
    """
    child = start_module(*arguments)
    assert child.stdout is not None and child.stderr is not None
    try:
        # Little goes to stderr, so reading one pipe after the other cannot block.
        text, complaint = child.stdout.read(), child.stderr.read()
        peak = _wait(child)
    except BaseException:
        child.kill()
        child.wait()
        raise
    finally:
        child.stdout.close()
        child.stderr.close()
    if child.returncode not in (0, 3):
        lines = complaint.strip().splitlines()
        reason = lines[-1] if lines else f"exit code {child.returncode}"
        raise UpscaleError(reason.removeprefix("upscale: "))
    return Measured(json.loads(text.strip().splitlines()[-1]), peak)


def _wait(child: subprocess.Popen[str]) -> int | None:
    if not hasattr(os, "wait4"):  # Windows
        child.wait()
        return None
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    unit = 1 if sys.platform == "darwin" else 1024
    return int(usage.ru_maxrss) * unit


def describe() -> dict[str, Any]:
    """What is measured on: processor, cores, versions."""
    import av

    from upscale.system.cores import cores, processor
    from upscale.version import __version__

    return {
        "processor": processor(),
        "cores": cores(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "upscale": __version__,
        "pyav": av.__version__,
        "ffmpeg": av.ffmpeg_version_info,
    }
