"""Side data of frames (captions, rotation, HDR metadata), read without keeping pictures in memory."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import av

_local = threading.local()


def carrier(frame: av.VideoFrame) -> av.VideoFrame:
    """A tiny frame with the same side data; costs some microseconds.

    PyAV's frame and its `side_data` refer to each other: reading it keeps the picture, and with it the
    decoder's buffers, until the garbage collector runs.
    """
    import av
    from av.video.reformatter import VideoReformatter

    if not hasattr(_local, "reformatter"):
        _local.reformatter = VideoReformatter()
    try:
        tiny: av.VideoFrame = _local.reformatter.reformat(frame, 16, 16, interpolation="POINT", threads=1)
    except (av.FFmpegError, ValueError):  # a format that swscale cannot read
        return frame
    return tiny


def has_side_data(frame: av.VideoFrame) -> bool:
    """Whether a frame carries any."""
    return bool(carrier(frame).side_data)
