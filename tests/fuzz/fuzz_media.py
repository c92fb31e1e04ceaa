"""Coverage-guided fuzzing of the media path with atheris: opening, decoding, planning, muxing, checking.

::

    pip install -e '.[fuzz,test]'
    python tests/fuzz/fuzz_media.py CORPUS -max_total_time=600

CORPUS is a folder of your own that keeps what reached new code; the whole videos to begin with are put
there if it is empty. All further arguments are libFuzzer's. What it finds is written to ``crash-*`` (or
``timeout-*``, ``oom-*``) in the current folder; the same command with that file instead of CORPUS repeats it.

Coverage is that of our Python code; FFmpeg's own is not instrumented (its project fuzzes it, and all that is
asked here is that its answers are taken). Files, not byte strings, are what is opened, as in real use.
"""

from __future__ import annotations

import atexit
import shutil
import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["upscale"]):
    sys.path.insert(0, str(Path(__file__).resolve().parent))
    from media import COMMON, RARE, answer, write_seeds

_work = Path(tempfile.mkdtemp(prefix="fuzz-media-"))
_output = _work / "out"
_output.mkdir()
_input = _work / "in.bin"


def one_input(data: bytes) -> None:
    """One file, upscaled."""
    _input.write_bytes(data)
    answer(_input, _output)


def main() -> None:
    """Fill the corpus and hand over to libFuzzer."""
    atexit.register(shutil.rmtree, _work, ignore_errors=True)
    folders = [Path(a) for a in sys.argv[1:] if not a.startswith("-")]
    if folders and not folders[0].is_file() and not any(folders[0].glob("*")):
        write_seeds(folders[0], COMMON | RARE)
    given = {a.split("=")[0] for a in sys.argv[1:]}
    usual = {"-timeout": "30", "-rss_limit_mb": "3000", "-max_len": "65536"}
    atheris.Setup([*sys.argv, *[f"{k}={v}" for k, v in usual.items() if k not in given]], one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
