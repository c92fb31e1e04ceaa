"""Tries a user's TFLite file in a process of its own first.

LiteRT trusts what a file says of itself: a damaged or hostile one can end the process that loads it, and no
check of ours replaces its own reading. There, only the trial dies.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from upscale.errors import ModelError, UpscaleError
from upscale.model.weights import weights_folder

#: Seconds for loading and one run on 16×16 pixels, with a slow disk's time to import the runtime.
_TIMEOUT = 60.0
_vetted: set[tuple[str, int, int]] = set()


def vet_tflite(path: Path) -> None:
    """Load and run a file apart; bundled files, whose hashes are known, and those tried before are let pass.

    Raises:
        ModelError: it is no ×2 luma network, or the process that loaded it crashed or did not end.
    """
    path = path.resolve()
    if path.parent == weights_folder().resolve():
        return
    try:
        found = path.stat()
    except OSError as error:
        raise ModelError(error.strerror or str(error), path=str(path)) from error
    mark = str(path), found.st_size, found.st_mtime_ns
    if mark in _vetted:
        return
    # -P and this path make the child import this very package, and nothing from the current folder.
    paths = [str(Path(__file__).resolve().parents[2]), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    command = [sys.executable, "-P", "-m", "upscale.backends.vet", str(path)]
    try:
        done = subprocess.run(command, capture_output=True, timeout=_TIMEOUT, env=environment, check=False)
    except subprocess.TimeoutExpired:
        raise ModelError("the network does not come to an end", path=str(path)) from None
    except OSError as error:
        raise ModelError(f"cannot be tried: {error.strerror}", path=str(path)) from error
    if done.returncode:
        words = done.stdout.decode(errors="replace").strip()
        raise ModelError(words or "damaged: LiteRT crashes when it loads this model", path=str(path))
    _vetted.add(mark)


def _main(path: str) -> int:
    from upscale.backends.tflite import TfliteBackend

    try:
        TfliteBackend(Path(path), threads=1).close()
    except UpscaleError as error:
        sys.stdout.write(str(error))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(_main(sys.argv[1]))
