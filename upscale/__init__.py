"""Upscale videos with a tiny network and keep everything else in the file.

>>> import upscale
>>> upscale.upscale_file("in.mp4", "out.mp4")  # doctest: +SKIP

The names below are loaded when they are first used, so that importing the package is cheap.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from upscale.version import __version__

if TYPE_CHECKING:
    from upscale.api import Preview, preview, upscale_directory, upscale_file, upscale_files
    from upscale.backends import available
    from upscale.errors import (
        BackendError,
        Interrupted,
        LargeEnough,
        MediaError,
        ModelError,
        NoVideo,
        OutputError,
        TrainError,
        UpscaleError,
        UsageError,
    )
    from upscale.events import BatchResult, Event, Result
    from upscale.export.formats import Exported, ExportOptions
    from upscale.job.memory import TimedFrame, Upscaler, frames, load
    from upscale.media.input.probe import MediaInfo, VideoInfo, probe
    from upscale.model.weights import ModelFiles, find_model
    from upscale.options import Options

#: Public name → the module that defines it.
_HOMES = {
    "BackendError": "upscale.errors",
    "BatchResult": "upscale.events",
    "Event": "upscale.events",
    "ExportOptions": "upscale.export.formats",
    "Exported": "upscale.export.formats",
    "Interrupted": "upscale.errors",
    "LargeEnough": "upscale.errors",
    "MediaError": "upscale.errors",
    "MediaInfo": "upscale.media.input.probe",
    "ModelError": "upscale.errors",
    "ModelFiles": "upscale.model.weights",
    "NoVideo": "upscale.errors",
    "Options": "upscale.options",
    "OutputError": "upscale.errors",
    "Preview": "upscale.api",
    "Result": "upscale.events",
    "TimedFrame": "upscale.job.memory",
    "TrainError": "upscale.errors",
    "UpscaleError": "upscale.errors",
    "Upscaler": "upscale.job.memory",
    "UsageError": "upscale.errors",
    "VideoInfo": "upscale.media.input.probe",
    "available": "upscale.backends",
    "find_model": "upscale.model.weights",
    "frames": "upscale.job.memory",
    "load": "upscale.job.memory",
    "preview": "upscale.api",
    "probe": "upscale.media.input.probe",
    "upscale_directory": "upscale.api",
    "upscale_file": "upscale.api",
    "upscale_files": "upscale.api",
}

__all__ = [
    "BackendError",
    "BatchResult",
    "Event",
    "ExportOptions",
    "Exported",
    "Interrupted",
    "LargeEnough",
    "MediaError",
    "MediaInfo",
    "ModelError",
    "ModelFiles",
    "NoVideo",
    "Options",
    "OutputError",
    "Preview",
    "Result",
    "TimedFrame",
    "TrainError",
    "UpscaleError",
    "Upscaler",
    "UsageError",
    "VideoInfo",
    "__version__",
    "available",
    "find_model",
    "frames",
    "load",
    "preview",
    "probe",
    "upscale_directory",
    "upscale_file",
    "upscale_files",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
