"""`av.VideoFrame` planes as numpy arrays that share their memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import av
    from av.video.format import VideoFormat

Plane = npt.NDArray[np.uint8] | npt.NDArray[np.uint16]


def bit_depth(format: VideoFormat) -> int:
    """Bits per sample of the first component: 8 … 16."""
    return int(format.components[0].bits)


def max_value(frame: av.VideoFrame) -> int:
    """Largest code value of a frame's samples: 255 for 8 bit, 1023 for 10 bit, …."""
    return (1 << bit_depth(frame.format)) - 1


def plane_view(frame: av.VideoFrame, index: int = 0) -> Plane:
    """One plane of a planar frame, without copying.

    Args:
        frame: planar YUV or gray, 8 … 16 bit little endian.
        index: 0 is luma, 1 and 2 are chroma.

    Returns:
        (H, W) uint8, or uint16 for more than 8 bits; rows are strided by the plane's line size.
        Writing to it writes to the frame; the memory lives as long as the frame's.

    Raises:
        ValueError: the plane is not of that layout (packed, big endian, bottom-up).
    """
    plane = frame.planes[index]
    dtype: np.dtype[np.uint8] | np.dtype[np.uint16]
    dtype = np.dtype(np.uint8) if bit_depth(frame.format) == 8 else np.dtype(np.uint16).newbyteorder("<")
    line = plane.line_size
    if line < plane.width * dtype.itemsize or line % dtype.itemsize or frame.format.name.endswith("be"):
        raise ValueError(f"cannot view plane {index} of a {frame.format.name} frame as an array")
    samples: Plane = np.frombuffer(memoryview(plane), np.uint8).view(dtype)
    stride = line // dtype.itemsize
    return samples[: plane.height * stride].reshape(plane.height, stride)[:, : plane.width]


def write_plane(frame: av.VideoFrame, index: int, values: Plane) -> None:
    """Copy (H, W) code values into a plane, limited to the largest one that its depth can hold.

    An 8-bit or 16-bit array cannot hold more than its plane; for the depths between the limit is
    enforced, because some encoders abort the process on samples that are out of range.
    """
    target = plane_view(frame, index)
    limit = max_value(frame)
    if limit in (0xFF, 0xFFFF):
        target[...] = values
    else:
        np.minimum(values, np.uint16(limit), out=target)


def gray_frame(values: Plane, depth: int) -> av.VideoFrame:
    """New gray frame of `depth` bits with a copy of (H, W) code values."""
    import av

    height, width = values.shape
    frame = av.VideoFrame(width, height, "gray" if depth == 8 else f"gray{depth}le")
    write_plane(frame, 0, values)
    return frame
