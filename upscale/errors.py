"""Every error that `upscale` raises on purpose, in one tree.

::

    UpscaleError            exit code 1   the job failed
    ├── MediaError          1   the input cannot be read, decoded or understood
    │   └── NoVideo         1   it can, but holds no video
    ├── OutputError         1   the output cannot be written, or is not what it must be
    ├── ModelError          1   a weights file is missing, damaged, unsafe or of the wrong shape
    ├── BackendError        1   a runtime is missing or failed
    ├── ClusterError        1   the Dask cluster cannot be reached, or cannot do the work
    ├── TrainError          1   training cannot start or continue
    ├── UsageError          2   the request makes no sense, or was refused before any work
    │   └── LargeEnough     2   the input has the requested size already
    └── Interrupted         130 stopped by the user (143 by SIGTERM)

Foreign exceptions (PyAV, onnxruntime, OSError, …) are translated to these once, where they
enter: `upscale.media` for FFmpeg, each backend for its runtime. The message is one line, without
the file's name: the command line prints ``upscale: FILE: message``.
"""

from __future__ import annotations


def first_line(error: BaseException) -> str:
    """What a foreign exception says, one line of at most 200 characters; its type if that is nothing."""
    text = str(error).strip()
    return text.splitlines()[0][:200] if text else type(error).__name__


class UpscaleError(Exception):
    """Base of all expected errors.

    Attributes:
        exit_code: what the command line exits with.
        path: the file that the error is about, or None.
    """

    exit_code = 1

    def __init__(self, message: str, *, path: str | None = None) -> None:
        super().__init__(message)
        self.path = path


class MediaError(UpscaleError):
    """The input cannot be opened, decoded or understood."""


class NoVideo(MediaError):
    """The input can be read, but there is no video in it. In a directory, such a file is skipped."""


class OutputError(UpscaleError):
    """The output cannot be written, or does not hold what it must."""


class ModelError(UpscaleError):
    """A weights file is missing, damaged, unsafe or of the wrong shape."""


class BackendError(UpscaleError):
    """A runtime is not installed, or failed while running."""


class ClusterError(UpscaleError):
    """The Dask cluster cannot be reached, or its workers cannot do the work."""


class TrainError(UpscaleError):
    """Training cannot start or continue."""


class UsageError(UpscaleError):
    """The request is refused before any work: wrong option, name or size, or output exists."""

    exit_code = 2


class LargeEnough(UsageError):
    """The input is as large as the result would be. In a directory, such a file is skipped."""


class Interrupted(UpscaleError):
    """The user stopped the job (Ctrl-C, or a signal), and it ended cleanly."""

    exit_code = 130

    def __init__(self, message: str, *, path: str | None = None, signal: int = 2) -> None:
        super().__init__(message, path=path)
        self.exit_code = 128 + signal
