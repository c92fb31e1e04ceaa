"""HDR10 metadata: read from a decoded frame, written as encoder parameters.

FFmpeg hands the two pieces of HDR10 (mastering display, SMPTE ST 2086; content light level,
CTA-861.3) from decoder to encoder only as frame side data, which no frame that was processed
still has. Encoders that take them as parameters write them into their bitstream.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    pass

#: Encoders that can carry HDR10, and the private option their parameters go into.
PARAMETER_OPTION = {"libx264": "x264-params", "libx265": "x265-params", "libsvtav1": "svtav1-params"}

_MASTERING = struct.Struct("<20i2i")  # R G B (x, y), white (x, y), min, max as num/den; two flags
_LIGHT = struct.Struct("<2I")

Point = tuple[Fraction, Fraction]


@dataclass(frozen=True, slots=True, kw_only=True)
class HdrMetadata:
    """HDR10 of one stream; every part may be missing.

    Attributes:
        red, green, blue, white: CIE 1931 x, y of the mastering display, or None.
        min_luminance, max_luminance: of the mastering display in cd/m², or None.
        max_cll, max_fall: content light level in cd/m², or None.
    """

    red: Point | None = None
    green: Point | None = None
    blue: Point | None = None
    white: Point | None = None
    min_luminance: Fraction | None = None
    max_luminance: Fraction | None = None
    max_cll: int | None = None
    max_fall: int | None = None

    @classmethod
    def from_side_data(cls, side_data: dict[str, bytes]) -> HdrMetadata | None:
        """Of what `upscale.media.input.sidedata.read` gave; None if there is none in it."""
        return cls.from_bytes(
            side_data.get("MASTERING_DISPLAY_METADATA"), side_data.get("CONTENT_LIGHT_LEVEL")
        )

    @classmethod
    def from_bytes(cls, mastering: bytes | None, light: bytes | None) -> HdrMetadata | None:
        """From the raw AVMasteringDisplayMetadata and AVContentLightMetadata structures."""
        found: dict[str, object] = {}
        if mastering is not None and len(mastering) >= _MASTERING.size:
            *numbers, has_primaries, has_luminance = _MASTERING.unpack_from(mastering)
            values = [
                Fraction(n, d) if d else Fraction(0)
                for n, d in zip(numbers[::2], numbers[1::2], strict=False)
            ]
            if has_primaries:
                points = list(zip(values[0:8:2], values[1:8:2], strict=False))
                found.update(zip(("red", "green", "blue", "white"), points, strict=False))
            if has_luminance:
                found.update(min_luminance=values[8], max_luminance=values[9])
        if light is not None and len(light) >= _LIGHT.size:
            found["max_cll"], found["max_fall"] = _LIGHT.unpack_from(light)
        return cls(**found) if found else None  # type: ignore[arg-type]

    @property
    def has_mastering(self) -> bool:
        """True if both the primaries and the luminance range are known."""
        return None not in (self.red, self.green, self.blue, self.white) and self.max_luminance is not None

    @property
    def has_part_of_mastering(self) -> bool:
        """True if only one of the two is known, which no encoder takes alone."""
        return not self.has_mastering and (self.red is not None or self.max_luminance is not None)

    def encoder_params(self, codec: str) -> str:
        """Parameters for `PARAMETER_OPTION[codec]`, joined with ":"; KeyError for other encoders."""
        writers = {"libx264": self.x264_params, "libx265": self.x265_params, "libsvtav1": self.svtav1_params}
        return writers[codec]()

    def x264_params(self) -> str:
        """Value for ``x264-params``."""
        parts = []
        if self.has_mastering:
            parts.append(f"mastering-display={self._integers()}")
        if self.max_cll is not None:
            parts.append(f"cll={self.max_cll},{self.max_fall or 0}")
        return ":".join(parts)

    def x265_params(self) -> str:
        """Value for ``x265-params``; headers are repeated so that every seek finds them."""
        parts = ["hdr10=1", "repeat-headers=1"]
        if self.has_mastering:
            parts.append(f"master-display={self._integers()}")
        if self.max_cll is not None:
            parts.append(f"max-cll={self.max_cll},{self.max_fall or 0}")
        return ":".join(parts)

    def svtav1_params(self) -> str:
        """Value for ``svtav1-params``."""
        parts = []
        if self.has_mastering:
            g, b, r, w = (f"({float(p[0]):.6g},{float(p[1]):.6g})" for p in self._points())
            low, high = float(self.min_luminance or 0), float(self.max_luminance or 0)
            parts.append(f"mastering-display=G{g}B{b}R{r}WP{w}L({high:.6g},{low:.6g})")
        if self.max_cll is not None:
            parts.append(f"content-light={self.max_cll},{self.max_fall or 0}")
        return ":".join(parts)

    def _points(self) -> list[Point]:
        """Green, blue, red, white: the order of all three encoders."""
        return [p for p in (self.green, self.blue, self.red, self.white) if p is not None]

    def _integers(self) -> str:
        """The notation of x264 and x265: chromaticity in 1/50000, luminance in 1/10000 cd/m²."""
        g, b, r, w = (f"({round(p[0] * 50000)},{round(p[1] * 50000)})" for p in self._points())
        low, high = round((self.min_luminance or 0) * 10000), round((self.max_luminance or 0) * 10000)
        return f"G{g}B{b}R{r}WP{w}L({high},{low})"
