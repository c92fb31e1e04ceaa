"""AVI files: how many of the chunks that the header counts are empty: "show the last frame again"."""

from __future__ import annotations

import os
import struct

import numpy as np

_CHUNK = struct.Struct("<4sI")
#: One entry of the index: name (two digits of the stream, two letters of the kind), flags, place, size.
_ENTRY = np.dtype([("stream", "S2"), ("kind", "S2"), ("flags", "<u4"), ("place", "<u4"), ("size", "<u4")])


def empty_chunks(path: str, stream: int) -> int | None:
    """How many chunks of a stream hold nothing, by the file's old-style index (idx1).

    Args:
        path: of the file.
        stream: its number in the file.

    Returns:
        None where the index is missing or cut off.

    Raises:
        OSError: the file cannot be read.
    """
    size = os.path.getsize(path)
    with open(path, "rb") as file:
        if file.read(4) != b"RIFF":
            return None
        at = 12
        while at + _CHUNK.size <= size:
            file.seek(at)
            name, length = _CHUNK.unpack(file.read(_CHUNK.size))
            if name == b"idx1":
                if at + _CHUNK.size + length > size:
                    return None
                index = np.frombuffer(file.read(length // _ENTRY.itemsize * _ENTRY.itemsize), _ENTRY)
                pictures = (index["kind"] == b"dc") | (index["kind"] == b"db")
                return int(((index["stream"] == b"%02d" % stream) & pictures & (index["size"] == 0)).sum())
            at += _CHUNK.size + length + length % 2
    return None
