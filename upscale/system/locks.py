"""Locks that end with their process, however it ends."""

from __future__ import annotations

import os
import sys


def try_lock(handle: int) -> bool:
    """Lock an open file for this process, without waiting; closing it, or dying, unlocks it.

    False if another process has it. On file systems without locks everybody gets it.
    """
    if sys.platform == "win32":
        import msvcrt

        # Locks are for ranges there, and others may not write to them: far behind any data.
        os.lseek(handle, 1 << 62, os.SEEK_SET)
        try:
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True
    import errno
    import fcntl

    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno not in (errno.EWOULDBLOCK, errno.EACCES)
    return True


def open_plain(path: str, flags: int, mode: int = 0o666) -> int:
    """`os.open` that follows no symbolic link in the last part of the path, and never translates line ends.

    Windows opens files as text unless it is told otherwise: journal lines would grow by a byte each.
    """
    for name in ("O_NOFOLLOW", "O_CLOEXEC", "O_BINARY"):
        flags |= getattr(os, name, 0)
    return os.open(path, flags, mode)


def is_still(handle: int, path: str) -> bool:
    """Whether an open file still has its name: somebody may have removed it before it was locked."""
    try:
        return os.path.samestat(os.fstat(handle), os.lstat(path))
    except OSError:
        return False
