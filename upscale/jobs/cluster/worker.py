"""What a worker of a cluster runs: one file, or one segment of a long one."""

from __future__ import annotations

import os
import pickle
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from upscale.errors import BackendError, Interrupted, OutputError, UpscaleError
from upscale.events import Event, Progress, Result, Warned
from upscale.jobs.resume.journal import Segment
from upscale.jobs.resume.segments import Piece
from upscale.options import Options

if TYPE_CHECKING:
    from distributed import Worker

    from upscale.backends.variants import Variant

#: Seconds between two messages about progress, which all pass through the scheduler.
_PROGRESS_EVERY = 0.5
#: Seconds until a folder that was just made elsewhere is seen here: network file systems cache for a
#: while that something does not exist.
_FOLDER_GRACE = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Requirements:
    """What must be the same on every machine. Paths are absolute.

    Attributes:
        versions: of upscale, PyAV and FFmpeg, human-readable.
        weights: `upscale.jobs.resume.fingerprint.weights_hash`.
        runtime: of `upscale.job.prepare.choose_runtime`.
        codecs: FFmpeg's names of the decoder and the encoder.
        input_bytes: size of the input.
        folder: that was made beside the output.
    """

    versions: str
    weights: str | None
    runtime: Variant | None
    codecs: tuple[str, str]
    input_bytes: int
    folder: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkItem:
    """One piece of work.

    Attributes:
        key: its name; also what the scheduler calls it.
        topic: under which the worker reports.
        input, output: absolute paths.
        options: for one file, with no cluster.
        piece: the segment to make; None: the whole file.
    """

    key: str
    topic: str
    requirements: Requirements
    input: str
    output: str
    options: Options
    piece: Piece | None = None


def versions() -> str:
    """What this process runs."""
    import av

    from upscale.version import __version__

    return f"upscale {__version__} with PyAV {av.__version__} and FFmpeg {av.ffmpeg_version_info}"


def run_work_item(item: WorkItem) -> Result | Segment | UpscaleError:
    """Do it, on a worker. An error that would occur on any machine is returned.

    Raises:
        OutputError, BackendError: which may not occur on another machine.
        distributed.Reschedule: this worker cannot do it, and has reported why.
    """
    from distributed import Reschedule, get_worker

    worker = get_worker()
    lacking = _lacking(item)
    if lacking is not None:
        worker.log_event(item.topic, {"key": item.key, "unfit": lacking})
        time.sleep(1)  # it may come back at once
        raise Reschedule
    reporter = WorkerReporter(worker, item)
    worker.log_event(item.topic, {"key": item.key, "state": "begun"})
    try:
        return _make(item, reporter)
    except (OutputError, BackendError):
        raise
    except UpscaleError as error:
        return error
    finally:
        worker.log_event(item.topic, {"key": item.key, "state": "ended"})


def _make(item: WorkItem, reporter: WorkerReporter) -> Result | Segment:
    if item.piece is None:
        from upscale.jobs.resume.local import upscale_here

        return upscale_here(item.input, item.output, item.options, reporter.event)
    from upscale.jobs.resume.segments import make_segment

    return make_segment(
        item.input,
        item.output,
        item.options,
        item.piece,
        item.requirements.folder,
        item.requirements.runtime,
        reporter.frames,
        lambda note: reporter.event(Warned(input=item.input, message=note)),
    )


class WorkerReporter:
    """Reports to the client that submitted the work."""

    def __init__(self, worker: Worker, item: WorkItem) -> None:
        self._worker = worker
        self._item = item
        self._sent = 0.0

    def event(self, event: Event) -> None:
        """Forward it; the result is returned instead."""
        if isinstance(event, Result) or (isinstance(event, Progress) and not self._due()):
            return
        self._worker.log_event(self._item.topic, {"key": self._item.key, "event": pickle.dumps(event)})

    def frames(self, frames: int, seconds: float) -> None:
        """Report the progress of a segment."""
        if self._due():
            message = {"key": self._item.key, "frames": frames, "seconds": seconds}
            self._worker.log_event(self._item.topic, message)

    def _due(self) -> bool:
        """Whether to report progress; also checks whether the work is still wanted.

        Raises:
            Interrupted: it was cancelled, or its client is gone.
        """
        now = time.monotonic()
        if now - self._sent < _PROGRESS_EVERY:
            return False
        self._sent = now
        # Dask does not interrupt what runs; it only notes here that nobody waits for the result.
        task: Any = self._worker.state.tasks.get(self._item.key)
        if task is None or task.state == "cancelled":
            raise Interrupted("no longer wanted")
        return True


def _lacking(item: WorkItem) -> str | None:
    """What this worker lacks for the work, human-readable."""
    requirements = item.requirements
    here = versions()
    if here != requirements.versions:
        return f"it runs {here}, not {requirements.versions}"
    return (
        _model_lacking(item.options, requirements.weights)
        or _runtime_lacking(requirements.runtime)
        or _codec_lacking(requirements.codecs)
        or _files_lacking(item)
    )


def _model_lacking(options: Options, weights: str | None) -> str | None:
    from upscale.job.prepare import find_model
    from upscale.jobs.resume.fingerprint import weights_hash

    try:
        found = weights_hash(find_model(options))
    except UpscaleError as error:
        return f"it lacks the model {options.model or ''}: {error}".replace(" :", ":")
    if found != weights:
        return f"its model {options.model or ''} has other weights".replace("  ", " ")
    return None


def _runtime_lacking(runtime: Variant | None) -> str | None:
    from upscale import backends

    install = None if runtime is None else backends.available()[runtime.backend]
    return (
        None if runtime is None or install is None else f"it lacks the backend {runtime.backend}: {install}"
    )


def _codec_lacking(codecs: tuple[str, str]) -> str | None:
    import av

    decoder, encoder = codecs
    try:
        av.Codec(decoder, "r")
        av.Codec(encoder, "w")
    except av.FFmpegError:
        return f"its FFmpeg lacks {decoder} or {encoder}"
    return None


def _files_lacking(item: WorkItem) -> str | None:
    requirements = item.requirements
    try:
        size = os.stat(item.input).st_size
    except OSError:
        return f"it does not see {item.input}: folders must be shared under the same path"
    if size != requirements.input_bytes:
        return f"its {item.input} is another file"
    deadline = time.monotonic() + _FOLDER_GRACE
    while not os.path.isdir(requirements.folder):
        if time.monotonic() > deadline:
            return f"it does not see {requirements.folder}: folders must be shared under the same path"
        time.sleep(0.5)
        with suppress(OSError):  # makes the client ask the server again
            os.listdir(os.path.dirname(requirements.folder))
    if not os.access(requirements.folder, os.W_OK | os.X_OK):
        return f"it may not write into {os.path.dirname(requirements.folder)}"
    return None
