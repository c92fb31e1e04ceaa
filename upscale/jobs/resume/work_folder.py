"""The folder beside its output in which a long job keeps its segments, and the space on its disk."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import stat
from typing import TYPE_CHECKING

from upscale.errors import OutputError, UpscaleError, UsageError
from upscale.system.locks import is_still, open_plain, try_lock
from upscale.system.safe_file import write_error

if TYPE_CHECKING:
    from upscale.media.output.plan import Plan

JOURNAL, LOCK = "journal.jsonl", "lock"
_SEGMENT = re.compile(r"segment-(\d{9,})\.mkv")
_OURS = re.compile(
    rf"{re.escape(JOURNAL)}|\.{re.escape(JOURNAL)}\.[0-9a-f]+\.part|{LOCK}|{_SEGMENT.pattern}(\.[0-9a-z-]+\.part)?"
)

#: Bits per pixel that an encoder hardly ever stays below; unlisted ones are lossy and count as `_LOSSY`,
#: a thirtieth of what libx264's default takes for ordinary film.
_BITS = {
    "ffv1": 0.5,
    "huffyuv": 2.0,
    "utvideo": 2.0,
    "prores": 1.0,
    "dnxhd": 1.0,
    "mjpeg": 0.1,
    "rawvideo": 8.0,
}
_LOSSY = 0.003
#: Bytes that are left free: for the end of a segment, and for other programs.
_RESERVE = 16 << 20
#: Frames between two checks.
_EVERY = 25


def folder_of(output: str) -> str:
    """``.out.mp4.upscale`` beside ``out.mp4``."""
    parent, name = os.path.split(output)
    encoded = os.fsencode(name)
    if len(encoded) > 200:  # names are limited to 255 bytes, and this one must stay the output's own
        name = f"{os.fsdecode(encoded[:180])}.{hashlib.sha256(encoded).hexdigest()[:16]}"
    return os.path.join(parent, f".{name}.upscale")


def is_work_folder(name: str) -> bool:
    """Whether a folder of this name holds pieces of videos that are not finished."""
    return name.startswith(".") and name.endswith(".upscale")


def siblings_of(output: str) -> list[str]:
    """Outputs beside this one that differ in the extension only, and have a work folder."""
    parent, name = os.path.split(output)
    start = f".{os.path.splitext(name)[0]}."
    try:
        names = sorted(os.listdir(parent or os.curdir))
    except OSError:
        return []
    found = [n[1 : -len(".upscale")] for n in names if n.startswith(start) and is_work_folder(n)]
    return [os.path.join(parent, n) for n in found if os.path.splitext(n)[0] == start[1:-1] and n != name]


class WorkFolder:
    """One work folder, locked for this process; a context manager that unlocks it.

    Leaving the context removes the folder if it is of no more use. Symbolic links are not followed
    to it, nor inside it.

    Attributes:
        output: what it belongs to.
        path: of the folder.
        finished: set it when the output is there.
    """

    def __init__(self, output: str) -> None:
        """Make the folder, or take the one that is there.

        Raises:
            UsageError: it is no folder, or another process works in it.
            OutputError: it cannot be made or written.
        """
        self.output = output
        self.path = folder_of(output)
        self.finished = False
        try:
            with contextlib.suppress(FileExistsError):
                os.mkdir(self.path)
            if not stat.S_ISDIR(os.lstat(self.path).st_mode):
                raise UsageError("exists and is not a folder: remove it", path=self.path)
            self._lock = self._locked()
        except OSError as error:
            raise write_error(error, self.path) from error

    def _locked(self) -> int:
        path = os.path.join(self.path, LOCK)
        while True:
            handle = open_plain(path, os.O_CREAT | os.O_RDWR)
            if not try_lock(handle):
                os.close(handle)
                raise UsageError("another process is working on this output", path=self.output)
            if is_still(handle, path):
                return handle
            os.close(handle)  # removed by the process that has just finished
            with contextlib.suppress(FileExistsError):
                os.mkdir(self.path)

    @property
    def journal(self) -> str:
        """Path of the journal."""
        return os.path.join(self.path, JOURNAL)

    def segment(self, first: int) -> str:
        """Path of the finished segment that begins with a frame."""
        return segment_path(self.path, first)

    def segments(self) -> list[str]:
        """Paths of all finished segment files."""
        return [os.path.join(self.path, n) for n in sorted(os.listdir(self.path)) if _SEGMENT.fullmatch(n)]

    def move_to(self, output: str) -> None:
        """Become the folder of another output, which has none.

        Raises:
            OutputError: it cannot be renamed.
        """
        path = folder_of(output)
        try:
            os.rename(self.path, path)
        except OSError as error:
            raise write_error(error, path) from error
        self.output, self.path = output, path

    def remove_unfinished(self) -> None:
        """Remove what a killed run had begun; no other process may be writing segments."""
        for name in os.listdir(self.path):
            if name.endswith(".part") and _OURS.fullmatch(name):
                with contextlib.suppress(OSError):
                    os.unlink(os.path.join(self.path, name))

    def close(self) -> None:
        """Unlock the folder; it is removed if the job is finished or has no journal."""
        if os.name == "nt":  # where open files cannot be removed
            os.close(self._lock)
        if self.finished or not os.path.lexists(self.journal):
            _remove(self.path)
        if os.name != "nt":
            os.close(self._lock)

    def __enter__(self) -> WorkFolder:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def _remove(folder: str) -> None:
    """Remove all that is ours, the journal last, and then the folder unless somebody put more there."""
    with contextlib.suppress(OSError):
        names = [n for n in os.listdir(folder) if _OURS.fullmatch(n)]
        for name in sorted(names, key=lambda n: (n == LOCK, n == JOURNAL)):
            os.unlink(os.path.join(folder, name))
        os.rmdir(folder)


def remove_joined(output: str) -> None:
    """Remove the work folder of an output that is there: its process was killed while removing it."""
    if not os.path.isfile(os.path.join(folder_of(output), JOURNAL)):
        return
    try:
        with WorkFolder(output) as folder, open(open_plain(folder.journal, os.O_RDONLY), "rb") as file:
            folder.finished = file.read().endswith(b'{"joined": true}\n')
    except (OSError, UpscaleError):
        return  # in use, or no folder of ours: whoever opens it for work says so


def segment_path(folder: str, first: int) -> str:
    """Path of a finished segment in a work folder."""
    return os.path.join(folder, f"segment-{first:09d}.mkv")


def free_bytes(folder: str) -> int:
    """Bytes that may still be written to a folder's disk."""
    return shutil.disk_usage(folder or os.curdir).free


def least_bytes(plan: Plan, frames: int) -> int:
    """How large that many frames become at least, by a careful guess."""
    width, height = plan.size
    return int(frames * width * height * _BITS.get(plan.encoder.codec_id, _LOSSY) / 8)


def check_space(plan: Plan, folder: str, frames: int, done: int) -> None:
    """Refuse a job for which the disk is clearly too small.

    Args:
        folder: on the disk in question.
        frames: that are still to be encoded; 0 if unknown.
        done: bytes of the segments that are finished.

    Raises:
        OutputError: with both numbers.
    """
    # At the join, segments and output exist at the same time.
    rest = least_bytes(plan, frames)
    _require(2 * rest + done + _RESERVE, folder, "the disk is too small")


def check_space_to_join(folder: str, segments: int) -> None:
    """Refuse to join what would not fit beside its segments.

    Args:
        folder: on the disk in question.
        segments: bytes of all segments.

    Raises:
        OutputError: with both numbers.
    """
    _require(segments + segments // 100, folder, "no space to join the segments")


def _require(need: int, folder: str, what: str) -> None:
    free = free_bytes(folder)
    if free < need:
        raise OutputError(f"{what}: at least {_text(need)} needed in {folder}, {_text(free)} free")


class SpaceWatch:
    """Checks every few frames that the disk is not nearly full."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._calls = 0
        self._reserve = _RESERVE

    def segment(self, size: int) -> None:
        """A segment of this many bytes was finished: the next one may be as large."""
        self._reserve = max(self._reserve, 2 * size)

    def low(self) -> OutputError | None:
        """What to stop with, if little space is left for the end of a segment; call it for each frame."""
        self._calls += 1
        if self._calls % _EVERY:
            return None
        free = free_bytes(self._folder)
        if free >= self._reserve:
            return None
        return OutputError(f"the disk is nearly full: {_text(free)} free in {self._folder}")


def _text(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"
