"""AMR speech: packets cut into single frames, which the mov muxer insists on.

Phones put many 20 ms frames into one packet; every frame says its length in its first byte.
"""

from __future__ import annotations

from collections.abc import Iterator

# Bytes of a frame with its first byte, by frame type (3GPP TS 26.101 and 26.201).
_NARROW = (13, 14, 16, 18, 20, 21, 27, 32, 6, 7, 6, 6, 1, 1, 1, 1)
_WIDE = (18, 24, 33, 37, 41, 47, 51, 59, 61, 6, 1, 1, 1, 1, 1, 1)

#: FFmpeg's codec name → (frame lengths, samples a second).
CODECS = {"amr_nb": (_NARROW, 8000), "amr_wb": (_WIDE, 16000)}

#: Length of a frame in seconds is 1/50.
FRAMES_PER_SECOND = 50


def split(data: bytes, codec: str) -> Iterator[bytes]:
    """The frames in a packet; a broken rest comes as one piece."""
    lengths = CODECS[codec][0]
    start = 0
    while start < len(data):
        end = start + lengths[(data[start] >> 3) & 15]
        yield data[start:end]
        start = end
