"""Audio that the output container cannot hold, re-encoded with its time stamps kept."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from upscale.errors import OutputError

if TYPE_CHECKING:
    import av

    from upscale.media.output.formats import Container

#: Seconds between the time stamps and the count of samples that make a gap.
_JUMP = 0.05
_LOSSLESS_SOURCES = ("pcm_", "flac", "alac", "truehd", "mlp", "tta", "wavpack")
_LOSSLESS_ENCODERS = frozenset({"flac", "alac"})
#: Per channel. Generous, because the sound was compressed once already.
_BIT_RATE = {"aac": 128_000, "libopus": 80_000, "mp2": 160_000, "ac3": 128_000}
#: Encoders that only take some sample rates; others take any.
_RATES = {
    "libopus": (48000,),
    "mp2": (48000, 44100, 32000, 24000, 22050, 16000),
    "ac3": (48000, 44100, 32000),
    "aac": (96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000, 7350),
}


def convertible(decoder: str) -> bool:
    """True if this PyAV can decode the audio codec."""
    from av.codec import Codec

    try:
        return bool(Codec(decoder, "r").type == "audio")
    except Exception:  # unknown codec: PyAV has several classes for this by version
        return False


def target_encoder(codec: str | None, container: Container) -> str | None:
    """The encoder for audio of this codec: lossless only where the source is; None if there is none."""
    lossless = codec is not None and codec.startswith(_LOSSLESS_SOURCES)
    for encoder in container.audio_encoders:
        if encoder not in _LOSSLESS_ENCODERS or lossless:
            return encoder
    return None


def _layout(encoder: str, layout: Any, rate: int) -> str:
    """The source's channel layout, or the encoder's usual one for that many channels.

    Some sources have channels without places, and Opus knows 5.1 only with back speakers.
    """
    import av

    channels = layout.nb_channels
    candidates = (layout.name, *_USUAL.get(channels, ()), "stereo" if channels > 1 else "mono")
    for name in candidates:
        trial: Any = av.CodecContext.create(encoder, "w")
        try:
            trial.layout, trial.sample_rate = name, rate
            trial.format = trial.codec.audio_formats[0]
            trial.open()
        except (av.FFmpegError, ValueError, TypeError):
            continue
        return name
    return "stereo"


_USUAL = {
    1: ("mono",),
    2: ("stereo",),
    3: ("3.0",),
    4: ("4.0",),
    5: ("5.0",),
    6: ("5.1",),
    7: ("6.1", "6.1(back)"),
    8: ("7.1", "7.1(wide)"),
}


class AudioConverter:
    """Decodes packets of one audio stream and encodes them into another.

    Time is counted in samples, so that coarse time stamps (milliseconds) do not become jitter; where
    they leave the count by more than `_JUMP` seconds there is a gap, and it stays one.
    """

    def __init__(self, source: Any, encoder: str, container: Any) -> None:
        """Adds the output stream to `container` (header not yet written); see `stream`."""
        context = source.codec_context
        rates = _RATES.get(encoder)
        rate = context.sample_rate
        if rates and rate not in rates:
            rate = min(rates, key=lambda r: (r < rate, abs(r - rate)))
        if container.format.name == "mxf":
            rate = 48000  # the only one that it has
        self.stream = container.add_stream(encoder, rate=rate)
        target = self.stream.codec_context
        target.layout = _layout(encoder, context.layout, rate)
        if encoder in _BIT_RATE:
            target.bit_rate = _BIT_RATE[encoder] * max(1, context.layout.nb_channels)
        if encoder in _LOSSLESS_ENCODERS:
            target.format = self._lossless_format(encoder, context)
        self._decoder = context
        self._next: int | None = None
        self._finished = False

    @staticmethod
    def _lossless_format(encoder: str, context: Any) -> str:
        """The sample format that keeps every bit: 16 bit sources stay 16 bit."""
        planar = "p" if encoder == "alac" else ""
        name = context.format.name if context.format else "s16"
        return ("s16" if name.startswith(("s16", "u8")) else "s32") + planar

    def convert(self, packet: av.Packet) -> Iterator[av.Packet]:
        """Encoded packets that became ready; damaged input packets are skipped."""
        import av

        if packet.size == 0:
            return
        try:
            frames = packet.decode()
        except (av.FFmpegError, ValueError):
            return
        for frame in frames:
            yield from self._encode(self._timed(frame))

    def flush(self) -> Iterator[av.Packet]:
        """The remaining packets; to be called once."""
        import av

        if self._finished:
            return
        self._finished = True
        try:
            frames = self._decoder.decode(None)
        except (av.FFmpegError, ValueError):
            frames = []
        for frame in frames:
            yield from self._encode(self._timed(frame))
        yield from self._encode(None)

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
        import av

        try:
            yield from self.stream.encode(frame)
        except av.FFmpegError as error:
            if frame is None and isinstance(error, EOFError):
                return
            raise OutputError(f"audio cannot be converted: {error.strerror}") from error
