"""Times as people write them."""

from __future__ import annotations

import math
import re

from upscale.errors import UsageError

_CLOCK = re.compile(r"(?:(\d+):)?(\d{1,2}):(\d{1,2}(?:\.\d*)?)")


def parse_time(text: str) -> float:
    """Seconds from ``SECONDS`` or ``[HH:]MM:SS[.mmm]``.

    Raises:
        UsageError: neither of these, negative, or not finite.
    """
    if match := _CLOCK.fullmatch(text):
        hours, minutes, seconds = match.groups()
        if (int(minutes) > 59 and hours is not None) or float(seconds) >= 60:
            raise UsageError(f"{text!r} is not a time: minutes and seconds go up to 59")
        return int(hours or 0) * 3600 + int(minutes) * 60 + float(seconds)
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or value < 0:
        raise UsageError(f"{text!r} is not a time: give seconds or HH:MM:SS.mmm")
    return value


def format_time(seconds: float) -> str:
    """``M:SS`` or ``H:MM:SS``, rounded to whole seconds."""
    whole = round(seconds)
    hours, rest = divmod(whole, 3600)
    minutes, rest = divmod(rest, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
