"""Audio and text subtitles that the container cannot hold, in a codec that it can, with their time stamps."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import av

from upscale.errors import OutputError
from upscale.media.output.formats import LOSSLESS_ENCODERS
from upscale.media.output.metadata import stream_tags
from upscale.media.output.streams import LAYOUTS, OutputStream

if TYPE_CHECKING:
    from upscale.media.output.plan import Plan, StreamPlan

#: Seconds between the time stamps and the count of samples that make a gap.
_JUMP = 0.05
#: Per channel. Generous, because the sound was compressed once already.
_BIT_RATE = {"aac": 128_000, "libopus": 80_000, "mp2": 160_000, "ac3": 128_000}
_LOW_RATE = 32000
#: Encoders that only take some sample rates; others take any.
_RATES = {
    "libopus": (48000,),
    "mp2": (48000, 44100, 32000, 24000, 22050, 16000),
    "ac3": (48000, 44100, 32000),
    "aac": (96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000, 7350),
}


def add_conversion(container: Any, plan: Plan, entry: StreamPlan, source: Any) -> OutputStream:
    """A stream that is decoded and encoded in the planned codec; the header is not written yet."""
    assert entry.to_codec is not None
    converter = AudioConverter if entry.kind == "audio" else SubtitleConverter
    result: OutputStream = converter(source, entry.to_codec, container)
    result.stream.metadata.update(stream_tags(source.metadata, plan.container, encoded=True))
    result.stream.disposition = source.disposition
    return result


class AudioConverter(OutputStream):
    """Decodes packets of one audio stream and encodes them into another.

    Time is counted in samples, so that coarse time stamps (milliseconds) do not become jitter; where
    they leave the count by more than `_JUMP` seconds there is a gap, and it stays one.
    """

    def __init__(self, source: Any, encoder: str, container: Any) -> None:
        context = source.codec_context
        rates = _RATES.get(encoder)
        rate = context.sample_rate
        if rates and rate not in rates:
            rate = min(rates, key=lambda r: (r < rate, abs(r - rate)))
        if container.format.name == "mxf":
            rate = 48000  # the only one that it has
        super().__init__(container.add_stream(encoder, rate=rate), "audio")
        target = self.stream.codec_context
        target.layout = _layout(encoder, context.layout, rate)
        if encoder in _BIT_RATE:
            target.bit_rate = _BIT_RATE[encoder] * max(1, target.layout.nb_channels)
        if encoder == "mp2" and rate < _LOW_RATE:
            target.bit_rate = 160_000  # all that layer II has at low sample rates
        if encoder in LOSSLESS_ENCODERS:
            target.format = _lossless_format(encoder, context)
        self._decoder = context
        self._next: int | None = None
        self._finished = False

    def accept(self, packet: av.Packet) -> Iterator[av.Packet]:
        """Encoded packets that became ready; damaged input packets are skipped."""
        return self._convert(packet) if packet.size else iter(())

    def flush(self) -> Iterator[av.Packet]:
        """The remaining packets."""
        if not self._finished:
            self._finished = True
            yield from self._convert(None)
            yield from self._encode(None)

    def _convert(self, packet: av.Packet | None) -> Iterator[av.Packet]:
        try:
            frames = self._decoder.decode(packet)
        except (av.FFmpegError, ValueError):
            return
        for frame in frames:
            yield from self._encode(self._timed(frame))

    def _timed(self, frame: Any) -> Any:
        """The frame with its place on the sample clock."""
        rate = frame.sample_rate
        place = None
        if frame.pts is not None and frame.time_base:
            place = round(frame.pts * Fraction(frame.time_base) * rate)
        if self._next is None:
            self._next = place or 0
        elif place is not None and place - self._next > _JUMP * rate:
            self._next = place
        frame.pts, frame.time_base = self._next, Fraction(1, rate)
        self._next += frame.samples
        return frame

    def _encode(self, frame: Any) -> Iterator[av.Packet]:
        try:
            for packet in self.stream.encode(frame):
                yield self._counted(packet)
        except av.FFmpegError as error:
            if frame is None and isinstance(error, EOFError):
                return
            raise OutputError(f"audio cannot be converted: {error.strerror}") from error


def _layout(encoder: str, layout: Any, rate: int) -> str:
    """The source's channel layout, or the encoder's usual one for that many channels.

    Some sources have channels without places, and Opus knows 5.1 only with back speakers.
    """
    channels = layout.nb_channels
    for name in (layout.name, *LAYOUTS.get(channels, ()), "stereo" if channels > 1 else "mono"):
        trial: Any = av.CodecContext.create(encoder, "w")
        try:
            trial.layout, trial.sample_rate = name, rate
            trial.format = trial.codec.audio_formats[0]
            trial.open()
        except (av.FFmpegError, ValueError, TypeError):
            continue
        return name
    return "stereo"


def _lossless_format(encoder: str, context: Any) -> str:
    """The sample format that keeps every bit: 16 bit sources stay 16 bit."""
    name = context.format.name if context.format else "s16"
    return ("s16" if name.startswith(("s16", "u8")) else "s32") + ("p" if encoder == "alac" else "")


class SubtitleConverter(OutputStream):
    """Turns packets of one text subtitle stream into packets of another codec.

    FFmpeg's decoders give ASS events, which every text encoder takes.
    """

    def __init__(self, source: Any, encoder: str, container: Any) -> None:
        super().__init__(container.add_stream(encoder), "subtitle")
        self._decoder = source.codec_context
        self._decoder.open(strict=False)
        # before the header is written: the encoder needs the decoder's ASS header
        self.stream.codec_context.subtitle_header = self._decoder.subtitle_header or ASS_HEADER

    def accept(self, packet: av.Packet) -> Iterable[av.Packet]:
        """The same cue in the other codec; nothing for a packet that shows nothing."""
        if packet.size == 0:
            return ()
        try:
            cue = self._decoder.decode2(packet)
        except (av.FFmpegError, ValueError):
            return ()
        if cue is None or not len(cue):
            return ()
        try:
            result = self.stream.codec_context.encode_subtitle(cue)
        except av.FFmpegError as error:
            raise OutputError(f"a subtitle cannot be converted: {error.strerror}") from error
        result.pts = result.dts = packet.pts
        result.duration = packet.duration
        result.time_base = packet.time_base
        result.stream = self.stream
        return (self._counted(result),)


#: What FFmpeg itself writes for subtitles that come without styles.
ASS_HEADER = (
    b"[Script Info]\r\nScriptType: v4.00+\r\nPlayResX: 384\r\nPlayResY: 288\r\nScaledBorderAndShadow: yes\r\n"
    b"\r\n[V4+ Styles]\r\nFormat: Name, Fontname, Fontsize, PrimaryColour, SecondaryColour, OutlineColour, "
    b"BackColour, Bold, Italic, Underline, StrikeOut, ScaleX, ScaleY, Spacing, Angle, BorderStyle, Outline, "
    b"Shadow, Alignment, MarginL, MarginR, MarginV, Encoding\r\n"
    b"Style: Default,Arial,16,&Hffffff,&Hffffff,&H0,&H0,0,0,0,0,100,100,0,0,1,1,0,2,10,10,10,1\r\n"
    b"\r\n[Events]\r\nFormat: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text\r\n"
)
