"""Outputs that appear under their name only when they are whole."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import stat
from collections.abc import Iterator
from types import TracebackType

from upscale.errors import OutputError, UsageError
from upscale.system.locks import is_still, open_plain, try_lock

STDIO = "-"

#: Endings of temporary files.
_PART, _RECORDING = "part", "recording"


def check_output(input_path: str, output: str, overwrite: bool = False) -> None:
    """Refuse an output that must not be written. Nothing is created.

    Raises:
        UsageError: it is the input (also through links), a directory, no regular file, or exists
            and `overwrite` is False.
        OutputError: its folder does not exist or cannot be written.
    """
    if output == STDIO:
        return
    if input_path != STDIO and _same_file(input_path, output):
        raise UsageError("the output is the input itself", path=output)
    try:
        mode = os.stat(output).st_mode
    except FileNotFoundError:
        mode = None
    except OSError as error:
        raise write_error(error, output) from error
    if mode is not None:
        if stat.S_ISDIR(mode):
            raise UsageError("the output is a directory", path=output)
        if not stat.S_ISREG(mode):
            raise UsageError("the output is not a regular file", path=output)
        if not overwrite:
            raise UsageError("the output exists; -y overwrites it", path=output)
    elif os.path.islink(output) and not overwrite:
        raise UsageError("the output is a dangling link; -y replaces it", path=output)
    folder = os.path.dirname(output) or os.curdir
    if not os.path.isdir(folder):
        raise OutputError("the folder of the output does not exist", path=output)
    if not os.access(folder, os.W_OK | os.X_OK):
        raise OutputError("the folder of the output is not writable", path=output)


def _same_file(first: str, second: str) -> bool:
    try:
        return os.path.samefile(first, second)
    except OSError:
        return os.path.realpath(first) == os.path.realpath(second)


def write_error(error: OSError, path: str | None = None) -> OutputError:
    """Translate an error of the operating system that came while writing."""
    if error.errno == errno.ENOSPC:
        return OutputError("no space left on the disk", path=path)
    if isinstance(error, BrokenPipeError):
        return OutputError("the reader of the pipe went away", path=path)
    return OutputError(error.strerror or str(error), path=path)


class SafeFile:
    """A temporary file beside its target; leaving the context without `commit` removes it.

    Attributes:
        path: the temporary file, ``.{name}.{random}.part`` (``….recording``), created empty.
        recovered: recordings of killed jobs that got a name.
    """

    def __init__(self, target: str, *, overwrite: bool = False, recording: bool = False) -> None:
        """Create the temporary file.

        Args:
            target: the file's name in the end.
            overwrite: replace what has that name.
            recording: what cannot be made again: a killed job's is not removed by the next one.

        Raises:
            OutputError: it cannot be created.
        """
        self.target = target
        self._overwrite = overwrite
        self._done = False
        self._handle: int | None = None
        folder, name = os.path.split(target)
        # names are limited to 255 bytes, and ours is 16 longer
        start = f".{os.fsdecode(os.fsencode(name)[:200])}."
        remove_stale(folder, start)
        self.recovered = recover(target, start) if recording else []
        try:
            self.path, self._handle = _create(os.path.join(folder, start), _RECORDING if recording else _PART)
        except OSError as error:
            raise write_error(error, target) from error

    def commit(self) -> None:
        """Write the file to the disk and give it its name.

        Raises:
            OutputError: the disk is full, or the target appeared meanwhile and must be kept.
        """
        try:
            _sync(self.path)
            if os.name == "nt":  # where open files cannot be renamed
                self._unlock()
            if self._overwrite:
                self._keep_mode()
                os.replace(self.path, self.target)
            else:
                self._link()
        except OSError as error:
            raise write_error(error, self.target) from error
        self._done = True
        self._unlock()
        sync_folder(os.path.dirname(self.target))

    def _keep_mode(self) -> None:
        """A replaced file keeps its permissions."""
        with contextlib.suppress(OSError):
            os.chmod(self.path, stat.S_IMODE(os.stat(self.target).st_mode))

    def _link(self) -> None:
        """Give the file its name only if nothing has that name: a link, unlike a rename, fails then."""
        try:
            os.link(self.path, self.target)
        except FileExistsError:
            raise OutputError("the output appeared meanwhile; -y overwrites it", path=self.target) from None
        except OSError:  # no hard links here (FAT, some network file systems)
            if os.path.lexists(self.target):
                raise OutputError(
                    "the output appeared meanwhile; -y overwrites it", path=self.target
                ) from None
            os.rename(self.path, self.target)
        else:
            os.unlink(self.path)

    def keep(self) -> str:
        """Name the file ``NAME.incomplete.EXT``, as far as it was written; returns where it is."""
        self._done = True
        return _keep(self.path, self.target)

    def discard(self) -> None:
        """Remove the temporary file unless it was committed; may be called again."""
        self._unlock()
        if not self._done:
            with contextlib.suppress(OSError):
                os.unlink(self.path)

    def _unlock(self) -> None:
        handle, self._handle = self._handle, None
        if handle is not None:
            os.close(handle)

    def __enter__(self) -> SafeFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.discard()


def write_whole(path: str | os.PathLike[str], data: bytes | str, *, overwrite: bool = True) -> None:
    """Write a small file, which appears under its name only when all of it is on the disk.

    Args:
        path: the file's name.
        data: its contents; text is written as UTF-8.
        overwrite: replace what has that name.

    Raises:
        OutputError: the disk is full, the folder cannot be written, or the name is taken and must stay.
    """
    with SafeFile(os.fspath(path), overwrite=overwrite) as file:
        try:
            with open(file.path, "wb") as out:
                out.write(data.encode() if isinstance(data, str) else data)
        except OSError as error:
            raise write_error(error, file.target) from error
        file.commit()


def _keep(path: str, target: str) -> str:
    """Rename an unfinished file to ``NAME.incomplete.EXT``; returns where it is."""
    stem, ending = os.path.splitext(target)
    for number in range(1, 1000):
        kept = f"{stem}.incomplete{number if number > 1 else ''}{ending}"
        with contextlib.suppress(OSError):
            if not os.path.lexists(kept):
                os.rename(path, kept)
                return kept
    return path


def _create(start: str, ending: str) -> tuple[str, int]:
    """A new file ``{start}{random}.{ending}``, and its handle, which holds a lock as long as we live."""
    while True:
        path = f"{start}{secrets.token_hex(4)}.{ending}"
        handle = open_plain(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
        if try_lock(handle) and is_still(handle, path):  # nobody took it for a dead one meanwhile
            return path, handle
        os.close(handle)


def remove_stale(folder: str, start: str) -> None:
    """Remove the temporary files that killed jobs with the same output have left.

    Args:
        folder: where they lie.
        start: what their names begin with, ``.{name}.``.
    """
    for path in _stale(folder, start, _PART):
        with contextlib.suppress(OSError):
            os.unlink(path)


def recover(target: str, start: str) -> list[str]:
    """Name the recordings that killed jobs with the same output have left; returns their names."""
    folder = os.path.dirname(target)
    found = []
    for path in _stale(folder, start, _RECORDING):
        with contextlib.suppress(OSError):
            if os.path.getsize(path):
                found.append(_keep(path, target))
            else:
                os.unlink(path)
    return found


def _stale(folder: str, start: str, ending: str) -> Iterator[str]:
    """Temporary files of dead processes; each is locked while the caller has it."""
    try:
        names = os.listdir(folder or os.curdir)
    except OSError:
        return
    for name in names:
        if not (name.startswith(start) and re.fullmatch(rf"[0-9a-f]{{8}}\.{ending}", name[len(start) :])):
            continue
        path = os.path.join(folder, name)
        with contextlib.suppress(OSError):
            handle = open_plain(path, os.O_RDWR)
            try:
                if stat.S_ISREG(os.fstat(handle).st_mode) and try_lock(handle):  # its process is dead
                    yield path
            finally:
                os.close(handle)


def sync_folder(path: str) -> None:
    """Bring the names in a folder to the disk, where the file system can do that; "" is the current one."""
    with contextlib.suppress(OSError):
        _sync(path or os.curdir)


def _sync(path: str) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
