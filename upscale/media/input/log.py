"""FFmpeg's log: on while it says something that we need, off at all other times.

While it is on, every thread of FFmpeg that logs waits for the GIL, which PyAV holds while it frees a decoder
and waits for the decoder's threads. Left on, it deadlocks the process (PyAV #751).
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Iterator

import av.logging

#: FFmpeg's AV_LOG_QUIET.
_QUIET = -8

_lock = threading.Lock()
_levels: list[int] = []  # of the blocks that run
_users: int | None = None  # what somebody else had set before the first of them
_left: int | None = None  # what PyAV still reports after we switched the log off


@contextlib.contextmanager
def ffmpeg_log(level: int) -> Iterator[None]:
    """Let PyAV hear FFmpeg's log up to `level` while the block runs: `av.logging.Capture`, ``e.log``."""
    global _users, _left
    # Without a handler, Python's last resort would print every line of FFmpeg's log to stderr.
    logger = logging.getLogger("libav")
    if not logger.handlers:
        logger.addHandler(logging.NullHandler())
    with _lock:
        if not _levels:
            current = av.logging.get_level()
            _users = None if current == _left else current
        _levels.append(level)
        av.logging.set_level(max(_levels))
    try:
        yield
    finally:
        with _lock:
            _levels.remove(level)
            if _levels or _users is not None:
                av.logging.set_level(max(_levels) if _levels else _users)
            else:
                _silence()
                _left = av.logging.get_level()


def _silence() -> None:
    """Switch FFmpeg's log off for messages that are under way in other threads, too.

    PyAV's own `set_level(None)` is not for them: it prints a traceback for each.
    """
    av.logging.set_libav_level(_QUIET)
    av.logging.restore_default_callback()
