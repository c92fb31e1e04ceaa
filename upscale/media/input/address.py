"""What the text of an input means: a file, standard input, a URL or a capture device.

A URL or a device is one only where the user typed it as the input of a job. What a file, a directory or
a playlist contains is never taken for one, and each kind opens with its own list of protocols: a URL never
reaches a file, a file never reaches the network.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit

from upscale.errors import UsageError

#: Path that stands for standard input.
STDIN = "-"

_HTTP = "http,https,httpproxy,tcp,tls,crypto"
_RTMP = "rtmp,rtmpe,rtmps,rtmpt,rtmpte,rtmpts,ffrtmphttp,ffrtmpcrypt,http,https,tcp,tls"
_RTSP = "rtsp,rtsps,rtp,srtp,udp,tcp,tls,http,https,httpproxy"

#: Scheme of a URL → FFmpeg protocols that it may use.
_SCHEMES = {
    "http": _HTTP,
    "https": _HTTP,
    "rtmp": _RTMP,
    "rtmpe": _RTMP,
    "rtmps": _RTMP,
    "rtmpt": _RTMP,
    "rtmpte": _RTMP,
    "rtmpts": _RTMP,
    "rtp": "rtp,srtp,udp",
    "rtsp": _RTSP,
    "rtsps": _RTSP,
    "srt": "srt,udp",
    "srtp": "rtp,srtp,udp",
    "tcp": "tcp",
    "tls": "tls,tcp",
    "udp": "udp",
}

#: Schemes whose data comes when it comes: who does not read it in time loses it, and silence is the only
#: end that there is.
_UNWAITING = frozenset({"rtp", "rtsp", "rtsps", "srt", "srtp", "udp"})

#: Capture devices → FFmpeg's name of the format. Not "lavfi": its filters read files.
DEVICES = {
    "avfoundation": "avfoundation",
    "dshow": "dshow",
    "fbdev": "fbdev",
    "gdigrab": "gdigrab",
    "v4l2": "video4linux2,v4l2",
    "x11grab": "x11grab",
}

#: Formats that only a URL may have, besides those of files.
_STREAM_FORMATS = "hls,mpjpeg,rtsp,rtp"

#: Settings of protocols and devices that a user may give. None of them names a file or lifts a limit.
INPUT_OPTIONS = frozenset(
    "analyzeduration buffer_size channel cookies draw_mouse fifo_size framerate headers input_format "
    "listen localaddr max_delay pixel_format probesize referer reorder_queue_size rtsp_transport standard "
    "tls_verify user_agent video_size".split()
)

_URL = re.compile(f"({'|'.join(_SCHEMES)})://", re.IGNORECASE)
_DEVICE = re.compile(f"({'|'.join(DEVICES)}):(?=.)", re.IGNORECASE)

#: A URL in a message, also one whose password holds a space.
_IN_TEXT = re.compile(r"[a-z][a-z0-9+.-]*://(?:[^\s/?#@:]*:(?!\d+\b)[^\n@]*@)?\S*", re.IGNORECASE)
_NAMED = re.compile(r"(?<=[a-z]=)(?<!user=)[^/&;]*", re.IGNORECASE)
_VALUE = re.compile(r"([?#&;](?:[^=&;#]*=)?)[^&;#]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """How to open an input.

    Attributes:
        text: as the user gave it.
        url: what FFmpeg is told to open.
        protocols: that it may use for that, comma separated.
        formats: that only this kind of input may have, comma separated; "" for files.
        device: FFmpeg's name of the capture device's format, or None.
        live: a URL or a device.
        waits: the sender waits for its reader (a file, a pipe, TCP); where it does not, a job that is too
            slow must leave frames out, and silence is an ordinary end.
        reopens: opening it again gives the same data.
        options: for FFmpeg.
    """

    text: str
    url: str
    protocols: str
    formats: str = ""
    device: str | None = None
    live: bool = False
    waits: bool = True
    reopens: bool = False
    options: tuple[tuple[str, str], ...] = ()


#: What is read from a pipe of this process while a job runs: text of the input → the pipe's end.
_PIPES: dict[str, int] = {}


@contextmanager
def piped(text: str, descriptor: int) -> Iterator[None]:
    """While the block runs, the input `text` means what comes through a pipe, which stays open."""
    _PIPES[text] = descriptor
    try:
        yield
    finally:
        del _PIPES[text]


def parse(text: str) -> Address:
    """What `text` means. Looks at nothing but the text.

    A file that is called like a URL or a device is reached with a path: ``./v4l2:x.mkv``.
    """
    if text == STDIN or text in _PIPES:
        return Address(text=text, url=f"pipe:{_PIPES.get(text, 0)}", protocols="pipe")
    if found := _URL.match(text):
        scheme = found[1].lower()
        return Address(
            text=text,
            url=scheme + text[found.end(1) :],
            protocols=_SCHEMES[scheme],
            formats=_STREAM_FORMATS,
            live=True,
            waits=scheme not in _UNWAITING,
            reopens=scheme in ("http", "https"),
            # Datagrams that nobody fetched in time are lost either way; without this, all is.
            options=(("overrun_nonfatal", "1"),) if scheme == "udp" else (),
        )
    if found := _DEVICE.match(text):
        device = DEVICES[found[1].lower()]
        return Address(
            text=text, url=text[found.end() :], protocols="", device=device, live=True, waits=False
        )
    # "file:" keeps names such as "concat:x" or "http:x" from being taken for protocols.
    return Address(text=text, url="file:" + text, protocols="file", reopens=True)


def masked(text: str) -> str:
    """`text` with the secrets of every URL in it shown as ``***``: for messages, JSON and tags.

    Secrets are the password, or what stands alone before the ``@``; the values of query and fragment; and
    what a path calls a password, a key or a token, as cameras do. What may be one counts as one: an ``@``
    behind the host takes all before it along.
    """
    return _IN_TEXT.sub(lambda found: _masked_url(found[0]), text)


def _masked_url(url: str) -> str:
    scheme, _, rest = url.partition("://")
    # The parser ends the host at the first slash; a password that was not encoded may hold one.
    host = urlsplit("//" + rest.replace("[", "").replace("]", "")).netloc
    name, colon, port = host.partition(":")
    has_port = port.isdecimal() and ("." in name or name == "localhost")
    who = ""
    if "@" in host or (colon and not has_port and "@" in rest):
        secret, _, rest = rest.rpartition("@")
        user, colon, _ = secret.partition(":")
        who = f"{user}:***@" if colon and not set(user) & set("@/?#") else "***@"
    path = re.match("[^?#]*", rest)[0]  # type: ignore[index]
    values = _VALUE.sub(r"\1***", rest[len(path) :])
    return f"{scheme}://{who}{_NAMED.sub(r'***', path)}{values}"


def is_live(text: str) -> bool:
    """Whether an input is a URL or a capture device, which cannot be looked up in a file system."""
    return parse(text).live


def as_file(path: str) -> str:
    """`path` so written that it means a file whatever it is called: for paths that no user typed."""
    return "./" + path if is_live(path) else path


def check_options(options: dict[str, str]) -> None:
    """Refuse input options that are unknown, or could open files or lift limits.

    Raises:
        UsageError: naming those that there are.
    """
    unknown = sorted(set(options) - INPUT_OPTIONS)
    if unknown:
        known = ", ".join(sorted(INPUT_OPTIONS))
        raise UsageError(f"unknown input option {unknown[0]!r}; known: {known}")
