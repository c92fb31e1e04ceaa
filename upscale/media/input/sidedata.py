"""Side data of frames (captions, rotation, HDR metadata), read without keeping pictures in memory."""

from __future__ import annotations

import struct
import threading
from typing import TYPE_CHECKING, Any

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


def kinds(frame: av.VideoFrame) -> frozenset[str]:
    """What side data a frame has: names of PyAV's `Type`, "UNKNOWN" for a kind that PyAV has no name for."""
    try:
        found: Any = carrier(frame).side_data
        return frozenset(getattr(getattr(d, "type", d), "name", "UNKNOWN") for d in found.keys())  # noqa: SIM118
    except ValueError:  # one unknown kind (multi-view HEVC) makes the others unreadable
        return frozenset({"UNKNOWN"})


def read(frame: av.VideoFrame) -> dict[str, bytes]:
    """A frame's side data by the names of PyAV's `Type`; empty where PyAV has no name for one kind of it."""
    try:
        found: Any = carrier(frame).side_data
        names = [getattr(getattr(d, "type", d), "name", "") for d in found.keys()]  # noqa: SIM118
        return {name: bytes(found[name]) for name in names if name}
    except ValueError:
        return {}


def display_matrix(side_data: dict[str, bytes]) -> tuple[int, ...] | None:
    """The nine fixed-point numbers of a frame's rotation tag, of what `read` gave."""
    data = side_data.get("DISPLAYMATRIX")
    return struct.unpack("<9i", data[:36]) if data is not None else None


def dolby_vision_profile(side_data: dict[str, bytes]) -> int | None:
    """5 or 8, as FFmpeg guesses it from the metadata of the picture; None without, or for other profiles.

    Source: `ff_dovi_guess_profile_hevc` and `AVDOVIMetadata` of FFmpeg.
    """
    raw = side_data.get("DOVI_METADATA")
    if raw is None:
        return None
    (header,) = struct.unpack_from("<Q", raw)  # size_t header_offset
    profile, full_range = raw[header + 4], raw[header + 10]  # vdr_rpu_profile, bl_video_full_range_flag
    if profile == 0:
        return 5 if full_range else None
    return 8 if profile == 1 else None


def stereo_mode(side_data: dict[str, bytes]) -> str | None:
    """How two views share the picture, in Matroska's words ("left_right"); None for an ordinary picture.

    Source: `AVStereo3D` of FFmpeg; of its flags the first one says that the right view comes first.
    """
    data = side_data.get("STEREO3D")
    if data is None:
        return None
    kind, flags = struct.unpack_from("<2i", data)
    modes = _STEREO_MODES.get(kind)
    return None if modes is None else modes[flags & 1]


#: AVStereo3DType → Matroska's StereoMode with the left and with the right view first.
_STEREO_MODES = {
    1: ("left_right", "right_left"),
    2: ("top_bottom", "bottom_top"),
    3: ("block_lr", "block_rl"),
    4: ("checkerboard_lr", "checkerboard_rl"),
    6: ("row_interleaved_lr", "row_interleaved_rl"),
    7: ("col_interleaved_lr", "col_interleaved_rl"),
}
