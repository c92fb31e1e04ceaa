"""Text subtitles from one container's codec to another's, keeping every time stamp."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from upscale.errors import OutputError

if TYPE_CHECKING:
    import av

_TEXT = frozenset({"subrip", "ass", "ssa", "webvtt", "mov_text", "text"})
_STYLED = frozenset({"ass", "ssa"})


def is_text(codec: str | None) -> bool:
    """True for subtitles made of text (False: pictures, or unknown)."""
    return codec in _TEXT


def conversion_loss(source: str | None, target: str) -> str | None:
    """What a conversion costs, for a warning; None where it keeps the meaning."""
    if source in _STYLED and target not in _STYLED:
        return "styling and positions are lost"
    return None


class SubtitleConverter:
    """Turns packets of one subtitle stream into packets of another codec.

    FFmpeg's decoders give ASS events, which every text encoder takes.
    """

    def __init__(self, source: Any, target: Any) -> None:
        """`source` is the input stream, `target` the output stream, made by ``add_stream``.

        Must be called before the header is written: the encoder needs the decoder's ASS header.
        """
        self._decoder = source.codec_context
        self._target = target
        self._decoder.open(strict=False)
        target.codec_context.subtitle_header = self._decoder.subtitle_header or ASS_HEADER

    def convert(self, packet: av.Packet) -> av.Packet | None:
        """The same cue in the other codec; None for a packet that shows nothing."""
        import av

        if packet.size == 0:
            return None
        try:
            cue = self._decoder.decode2(packet)
        except (av.FFmpegError, ValueError):
            return None
        if cue is None or not len(cue):
            return None
        try:
            result = self._target.codec_context.encode_subtitle(cue)
        except av.FFmpegError as error:
            raise OutputError(f"a subtitle cannot be converted: {error.strerror}") from error
        result.pts = result.dts = packet.pts
        result.duration = packet.duration
        result.time_base = packet.time_base
        result.stream = self._target
        return result


#: What FFmpeg itself writes for subtitles that come without styles.
ASS_HEADER = (
    b"[Script Info]\r\nScriptType: v4.00+\r\nPlayResX: 384\r\nPlayResY: 288\r\nScaledBorderAndShadow: yes\r\n"
    b"\r\n[V4+ Styles]\r\nFormat: Name, Fontname, Fontsize, PrimaryColour, SecondaryColour, OutlineColour, "
    b"BackColour, Bold, Italic, Underline, StrikeOut, ScaleX, ScaleY, Spacing, Angle, BorderStyle, Outline, "
    b"Shadow, Alignment, MarginL, MarginR, MarginV, Encoding\r\n"
    b"Style: Default,Arial,16,&Hffffff,&Hffffff,&H0,&H0,0,0,0,0,100,100,0,0,1,1,0,2,10,10,10,1\r\n"
    b"\r\n[Events]\r\nFormat: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text\r\n"
)
