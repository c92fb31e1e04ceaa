"""What the text of an input means, and what of it may be shown (`upscale.media.input.address`)."""

from __future__ import annotations

import pytest

from upscale.errors import UsageError
from upscale.media.input.address import as_file, check_options, is_live, masked, parse


@pytest.mark.parametrize(
    ("text", "url", "live", "waits"),
    [
        ("-", "pipe:0", False, True),
        ("x.mkv", "file:x.mkv", False, True),
        ("concat:a|b", "file:concat:a|b", False, True),
        ("HTTP://host/x", "http://host/x", True, True),
        ("rtsp://camera/1", "rtsp://camera/1", True, False),
        ("udp://239.0.0.1:1234", "udp://239.0.0.1:1234", True, False),
        ("v4l2:/dev/video0", "/dev/video0", True, False),
        ("./v4l2:x.mkv", "file:./v4l2:x.mkv", False, True),
        ("v4l2:", "file:v4l2:", False, True),
    ],
)
def test_kinds_of_inputs(text: str, url: str, live: bool, waits: bool) -> None:
    address = parse(text)
    assert (address.url, address.live, address.waits) == (url, live, waits)
    assert is_live(text) == live
    assert not is_live(as_file(text))


def test_a_file_reaches_no_network_and_a_url_no_file() -> None:
    assert parse("x").protocols == "file"
    for scheme in ("http", "https", "rtsp", "rtmp", "rtp", "srt", "udp", "tcp", "tls"):
        assert not {"file", "pipe", "concat", "subfile"} & set(parse(f"{scheme}://h/x").protocols.split(","))


def test_options_that_lift_limits_are_refused() -> None:
    check_options({"framerate": "30"})
    with pytest.raises(UsageError, match="unknown input option 'protocol_whitelist'"):
        check_options({"protocol_whitelist": "file"})


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("rtsp://user:pass@host:554/x", "rtsp://user:***@host:554/x"),
        ("rtsp://user:pa@ss@host/x", "rtsp://user:***@host/x"),
        ("rtsp://user:pa/ss@host/x", "rtsp://user:***@host/x"),
        ("rtsp://user:12/34@host/x", "rtsp://user:***@host/x"),
        ("rtsp://user:p?w@host/x", "rtsp://user:***@host/x"),
        ("rtsp://user:p#w@host/x", "rtsp://user:***@host/x"),
        ("rtsp://user:[p]@host/x", "rtsp://user:***@host/x"),
        ("rtsp://user:p:w@host/x", "rtsp://user:***@host/x"),
        ("rtsp://user:p w@host/x: gone", "rtsp://user:***@host/x: gone"),
        ("rtsp://user:1234@host", "rtsp://user:***@host"),
        ("rtsp://us%40er:p%2Fw@host/x", "rtsp://us%40er:***@host/x"),
        ("rtsp://user:@host/x", "rtsp://user:***@host/x"),
        ("rtsp://:pass@host/x", "rtsp://:***@host/x"),
        ("rtsp://user:pass@[::1]:554/x", "rtsp://user:***@[::1]:554/x"),
        ("HTTPS://USER:PASS@HOST", "HTTPS://USER:***@HOST"),
        ("http://TOKEN@host/x", "http://***@host/x"),
        ("http://TOKEN@host/a:b@c", "http://***@c"),
        ("http://user:pass@host/a@b", "http://user:***@b"),
        ("http://host/x?token=abc&b=1", "http://host/x?token=***&b=***"),
        ("http://host/x?abc", "http://host/x?***"),
        ("srt://host:1?passphrase=long", "srt://host:1?passphrase=***"),
        ("https://host/x#access_token=abc", "https://host/x#access_token=***"),
        ("rtsp://host/user=admin_password=abc_stream=0", "rtsp://host/user=admin_password=***"),
        ("rtsp://host/user=admin&password=abc", "rtsp://host/user=admin&password=***"),
        ("'rtsp://u:p@h/x': gone", "'rtsp://u:***@h/x': gone"),
        ("rtsp://u:p@h/x and http://a:b@c/", "rtsp://u:***@h/x and http://a:***@c/"),
    ],
)
def test_secrets_are_masked(text: str, shown: str) -> None:
    """Guards: passwords with @ or / in them were printed or half-printed, tokens always were."""
    assert masked(text) == shown
    assert masked(f"cannot open {text}") == f"cannot open {shown}"


@pytest.mark.parametrize(
    "text",
    [
        "x.mkv", "C:/a/b@c.mkv", "http://host/a@b.mp4", "http://host.lan:8080/a@b.mp4", "rtsp://[::1]:554/x",
        "udp://239.0.0.1:1234", "http://host.lan:80: refused, write to a@b", "a: b://", "v4l2:/dev/video0",
    ],
)  # fmt: skip
def test_what_is_no_secret_is_shown(text: str) -> None:
    assert masked(text) == text
