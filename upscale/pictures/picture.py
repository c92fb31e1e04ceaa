"""A decoded picture: planes as arrays, and everything else that its file says."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

Plane = npt.NDArray[np.uint8] | npt.NDArray[np.uint16]


@dataclass(frozen=True, slots=True, kw_only=True)
class Metadata:
    """What is kept beside the pixels.

    Attributes:
        icc: colour profile.
        exif: as it stands in the file, beginning with the byte order of TIFF.
        xmp: an XMP packet.
        dpi: pixels per inch, across and down.
        chunks: PNG's ancillary chunks that stay true in a larger picture: (type, data).
        segments: JPEG's segments that do, with their markers: XMP, IPTC, comments.
        tags: TIFF's XMP, IPTC and Photoshop packets, by tag.
    """

    icc: bytes | None = None
    exif: bytes | None = None
    xmp: bytes | None = None
    dpi: tuple[float, float] | None = None
    chunks: tuple[tuple[bytes, bytes], ...] = ()
    segments: bytes = b""
    tags: dict[int, bytes] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """One picture.

    Attributes:
        format: Pillow's name: "PNG", "JPEG", "WEBP", "AVIF", "TIFF" or "BMP".
        mode: "L" (grey), "RGB" or "CMYK", as Pillow calls them; 16-bit grey is "L", too.
        planes: one, three or four (H, W) planes of code values, uint8 or uint16.
        alpha: (H, W) uint8 opacity, or None.
        encoding: how the file was compressed, as arguments of Pillow's `save` for the same format.
        metadata: what is kept.
        notes: human-readable, of what cannot be kept.
    """

    format: str
    mode: str
    planes: tuple[Plane, ...]
    alpha: npt.NDArray[np.uint8] | None = None
    encoding: dict[str, Any] = field(default_factory=dict)
    metadata: Metadata = field(default_factory=Metadata)
    notes: tuple[str, ...] = ()

    @property
    def width(self) -> int:
        return int(self.planes[0].shape[1])

    @property
    def height(self) -> int:
        return int(self.planes[0].shape[0])

    @property
    def bits(self) -> int:
        """Per sample: 8 or 16."""
        return 8 * self.planes[0].dtype.itemsize

    @property
    def pix_fmt(self) -> str:
        """For messages: ``RGB``, ``RGBA``, ``L``, ``L16``, ``CMYK``."""
        return f"{self.mode}{'A' if self.alpha is not None else ''}{'16' if self.bits == 16 else ''}"

    #: Nothing forces sides to be even, as subsampled chroma does in videos.
    chroma_shift = (0, 0)
