"""Asks the program about a fault, and checks what every answer must keep.

At most one line on stderr, which is ``upscale: FILE: reason``; no traceback, no control bytes; the files that
were there unchanged, and none left but the outputs that are expected.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import re
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from upscale.cli.main import run

#: Seconds that any answer may take (a test of its own may say less).
LIMIT = 60
_UNSAFE = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f]")


@dataclass(frozen=True)
class Answer:
    """What came of it: exit code, stdout, and the line on stderr ("" for none)."""

    code: int
    out: str
    line: str


def ask(
    folder: Path,
    *args: str | Path,
    code: int,
    says: str = "",
    new: tuple[str, ...] = (),
    changes: str = "",
) -> Answer:
    """Run the command line in this process, in `folder`, and check it.

    Args:
        args: of the command line; lanczos is the model unless one is named, and -q is added.
        code: exit code that is expected.
        says: regular expression that the line must match.
        new: files that must be there afterwards, relative to `folder`; no other may be.
        changes: the one file that the test itself changes meanwhile.
    """
    before = snapshot(folder)
    before.pop(changes, None)
    new = (*new, changes) if changes else new
    out, err = io.StringIO(), io.StringIO()
    with (
        contextlib.chdir(folder),
        _signals_kept(),
        _native_stderr() as native,
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        got = run(_arguments(args))
    text = native.read_text(errors="replace") + err.getvalue()
    native.unlink()
    return check(folder, before, Answer(got, out.getvalue(), text), code=code, says=says, new=new)


def ask_in_subprocess(
    folder: Path, *args: str | Path, code: int, says: str = "", new: tuple[str, ...] = (), **more: Any
) -> Answer:
    """As `ask`, in a process of its own; `more` goes to `subprocess.run`."""
    before = snapshot(folder)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "upscale", *_arguments(args)],
        cwd=folder,
        timeout=LIMIT,
        check=False,
        stderr=subprocess.PIPE,
        **{"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, **more},
    )
    out = (done.stdout or b"").decode(errors="replace")
    answer = Answer(done.returncode, out, done.stderr.decode(errors="replace"))
    return check(folder, before, answer, code=code, says=says, new=new)


def check(
    folder: Path, before: dict[str, str], answer: Answer, *, code: int, says: str, new: tuple[str, ...]
) -> Answer:
    """The rules of the module."""
    text = answer.line
    assert answer.code == code, text
    assert "Traceback" not in text
    assert text.count("\n") <= 1, text
    assert not text or text.startswith("upscale: "), text
    assert not _UNSAFE.search(text), repr(text)
    assert bool(text) == bool(code), text
    assert re.search(says, text), text
    after = snapshot(folder)
    assert {name: after.get(name) for name in before} == before
    assert set(after) - set(before) == set(new)
    return Answer(answer.code, answer.out, text.strip())


def snapshot(folder: Path) -> dict[str, str]:
    """Every entry below a folder and what is in it; links are not followed."""
    found = {}
    for path in sorted(folder.rglob("*")):
        mode = path.lstat().st_mode
        name = str(path.relative_to(folder))
        if stat.S_ISLNK(mode):
            found[name] = f"link {os.readlink(path)}"
        elif stat.S_ISREG(mode):
            with path.open("rb") as file:
                found[name] = hashlib.file_digest(file, "sha256").hexdigest()
        else:
            found[name] = f"kind {stat.S_IFMT(mode)}"
    return found


def _arguments(args: tuple[str | Path, ...]) -> list[str]:
    words = [str(a) for a in args]
    if words[0] in ("info", "train", "bench"):
        return words
    return [*words, "-q", *([] if "--model" in words else ["--model", "lanczos"])]


@contextlib.contextmanager
def _signals_kept() -> Iterator[None]:
    """The command line installs handlers for the whole process."""
    before = {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _native_stderr() -> Iterator[Path]:
    """What libraries write to file descriptor 2 meanwhile, as a file outside the folder."""
    import tempfile

    handle, name = tempfile.mkstemp()
    saved = os.dup(2)
    os.dup2(handle, 2)
    os.close(handle)
    try:
        yield Path(name)
    finally:
        os.dup2(saved, 2)
        os.close(saved)
