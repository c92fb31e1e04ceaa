"""What is printed is harmless and human-readable; covers `timecode.py` too."""

from __future__ import annotations

import json

import pytest

from upscale import UsageError
from upscale.cli.text import bytes_text, clean, json_text, table
from upscale.cli.timecode import format_time, parse_time
from upscale.events import Warned


def test_text_is_made_harmless() -> None:
    assert clean("a\x1b]0;x\x07b\r\nc\x9bd\udcffe\u202ef") == "a?]0;x?b??c?d?e?f"
    assert clean("Ünïcode 漢字 🎬") == "Ünïcode 漢字 🎬"
    assert clean("rtsp://me:secret@camera/x: gone") == "rtsp://me:***@camera/x: gone"


def test_json_shows_no_passwords() -> None:
    """Guards: events and `info` gave the input's URL as it was typed."""
    event = Warned(input="rtsp://me:se@cret@camera/x", message="https://h/x?token=abc: gone")
    (shown,) = json.loads(json_text({"a": [event.as_json()]}))["a"]
    assert shown["input"] == "rtsp://me:***@camera/x"
    assert shown["message"] == "https://h/x?token=*** gone"


def test_sizes_and_tables_are_human_readable() -> None:
    assert [bytes_text(n) for n in (0, 999, 1000, 123_456, 999_960, 5_600_000_000)] == [
        "0 B",
        "999 B",
        "1.0 kB",
        "123 kB",
        "1.0 MB",
        "5.6 GB",
    ]
    lines = table([["a\x1b", "5"], ["bb", "12"]], ["name", "n"]).splitlines()
    assert lines == ["name   n", "----  --", "a?     5", "bb    12"]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("0", 0), ("90", 90), ("1.5", 1.5), ("1:30", 90), ("01:02:03.25", 3723.25), ("100:00:00", 360000)],
)
def test_times(text: str, seconds: float) -> None:
    assert parse_time(text) == seconds


@pytest.mark.parametrize("text", ["", "-1", "1:60", "1:2:3:4", "inf", "nan", "ten", "1:75:00", "1h"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="not a time"):
        parse_time(text)


def test_lengths_are_human_readable() -> None:
    assert [format_time(s) for s in (0.4, 59.6, 754, 3723)] == ["0:00", "1:00", "12:34", "1:02:03"]
