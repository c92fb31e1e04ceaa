"""How large the output is, in stored pixels.

The short side of the *stored* picture becomes the target (720 by default); the other side follows,
rounded to an even number. Rotation is a tag that stays: a phone's 640x360 picture with a 90 degree
tag becomes 1280x720 with the same tag. Pixels that are not square stay so: the sample aspect ratio is
kept, and where rounding (or ``--width`` with ``--height``) changes the ratio of the sides, it is
adjusted by exactly that (`target_sar` in `upscale.media.output.picture`), so the picture is shown as
wide and as high as before.
"""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, Protocol

from upscale.errors import LargeEnough, UsageError
from upscale.options import DEFAULT_TARGET, TARGETS

if TYPE_CHECKING:
    from upscale.options import Options

#: Longest side of an output; x264's limit, and far beyond any device.
MAX_SIDE = 16384


class Sized(Protocol):
    """What a size follows from: a video's description, or a picture."""

    @property
    def width(self) -> int: ...

    @property
    def height(self) -> int: ...

    @property
    def pix_fmt(self) -> str: ...

    @property
    def chroma_shift(self) -> tuple[int, int]: ...


def target_size(info: Sized, options: Options) -> tuple[int, int]:
    """(width, height) of the output.

    Raises:
        UsageError: more than one way of naming the size, an unknown or impossible size, or an input
            that is as large already.
    """
    width, height = info.width, info.height
    _check_request(options)
    if options.width is not None and options.height is not None:
        size = options.width, options.height
    elif options.width is not None:
        size = options.width, even(Fraction(height * options.width, width))
    elif options.height is not None:
        size = even(Fraction(width * options.height, height)), options.height
    elif options.scale is not None:
        factor = Fraction(options.scale).limit_denominator(10000)
        size = even(width * factor), even(height * factor)
    else:
        size = _short_side(width, height, options.target or DEFAULT_TARGET)
    _check_size(info, size)
    return size


def even(length: Fraction | int) -> int:
    """Nearest even number, at least 2; halfway goes down (854x480 → 1280x720, not 1282)."""
    lower = int(length // 2) * 2
    return max(2, lower if length - lower <= 1 else lower + 2)


def _short_side(width: int, height: int, target: str) -> tuple[int, int]:
    side = TARGETS[target]
    short = min(width, height)
    if short >= side:
        raise LargeEnough(
            f"already {width}x{height}: name a larger size with --target, --scale, --width or --height"
        )
    if width < height:
        return side, even(Fraction(height * side, width))
    return even(Fraction(width * side, height)), side


def _check_request(options: Options) -> None:
    sized = options.width is not None or options.height is not None
    ways = [options.target is not None, options.scale is not None, sized]
    if sum(ways) > 1:
        raise UsageError("give only one of --target, --scale and --width/--height")
    if options.target is not None and options.target not in TARGETS:
        raise UsageError(f"unknown target {options.target!r}: choose from {', '.join(TARGETS)}")
    if options.scale is not None and not 1 < options.scale <= MAX_SIDE:
        raise UsageError(f"scale must be larger than 1, not {options.scale:g}")
    for name, side in (("width", options.width), ("height", options.height)):
        if side is not None and not 1 <= side <= MAX_SIDE:
            raise UsageError(f"{name} must be between 1 and {MAX_SIDE}, not {side}")


def _check_size(info: Sized, size: tuple[int, int]) -> None:
    width, height = size
    if width < info.width or height < info.height or size == (info.width, info.height):
        raise LargeEnough(
            f"already {info.width}x{info.height}, and {width}x{height} was asked for: "
            "name a larger size with --target, --scale, --width or --height"
        )
    if max(size) > MAX_SIDE:
        raise UsageError(f"{width}x{height} is too large: at most {MAX_SIDE} pixels a side")
    if width % 2 and info.chroma_shift[0]:
        raise UsageError(f"width must be even for {info.pix_fmt}, not {width}")
    if height % 2 and info.chroma_shift[1]:
        raise UsageError(f"height must be even for {info.pix_fmt}, not {height}")
