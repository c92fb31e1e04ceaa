"""What is missing in an input, or was patched: counted while it is read, and looked for afterwards.

FFmpeg bridges most damage silently. What tells of it are marks on frames and packets, the container's own
counts and durations, gaps in time, and the structure of the file (`matroska`, `mpegts`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from upscale.media.input.matroska import structure
from upscale.media.input.mpegts import find_losses
from upscale.media.input.open import media_error
from upscale.media.input.sidedata import kinds

if TYPE_CHECKING:
    import av

    from upscale.media.input.reader import Reader

#: Demuxers of MP4, Matroska and transport streams.
MP4, MATROSKA, TRANSPORT = "mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm", "mpegts"

#: Seconds of a track without sound that are no rounding.
_SILENT = Fraction(1, 10)

#: Decoders of sound that MP4 counts packet by packet.
_COUNTED = frozenset({"aac", "mp3", "mp3float", "ac3", "eac3", "opus", "libopus", "flac", "alac", "dca"})


@dataclass(slots=True)
class SourceStats:
    """Counts and times of a source, complete when it has been iterated to its end.

    Attributes:
        frames: delivered.
        decode_errors: packets that could not be decoded.
        corrupt_frames: frames that the decoder marked as damaged.
        adjusted_timestamps: duplicate or backward timestamps that were moved.
        expected_frames: what the container promised, where fewer came out; 0 where nothing is known to
            be missing, or only a part was read.
        estimated: `expected_frames` is no count of the container's, but follows from gaps in time.
        missing_seconds: how much earlier all packets ended than the container promised.
        lost_bytes: of the file, cut off or outside its structure (Matroska, transport streams).
        lost_packets: that lie in the file but did not come out of it, or for which time is left out.
        corrupt_packets: of other streams, which the demuxer marked as damaged.
        side_data: kind of frame side data (`sidedata.kinds`) → frames that carried it.
        broken: why reading stopped before the sender said that this is the end; "" if it did.
    """

    frames: int = 0
    decode_errors: int = 0
    corrupt_frames: int = 0
    adjusted_timestamps: int = 0
    expected_frames: int = 0
    estimated: bool = False
    missing_seconds: float = 0.0
    lost_bytes: int = 0
    lost_packets: int = 0
    corrupt_packets: int = 0
    side_data: dict[str, int] = field(default_factory=dict)
    broken: str = ""

    def damage(self) -> list[str]:
        """What was wrong with the input, human-readable; empty if nothing was."""
        found = []
        if self.frames < self.expected_frames:
            found.append(f"{self.frames} of {'~' * self.estimated}{self.expected_frames} frames")
        if self.missing_seconds:
            found.append(f"ends {self.missing_seconds:.1f} s early")
        if self.broken:
            found.append(self.broken)
        if self.lost_bytes:
            found.append(f"{_count(self.lost_bytes, 'byte')} lost")
        if self.decode_errors:
            found.append(_count(self.decode_errors, "decode error"))
        if self.corrupt_frames:
            found.append(_count(self.corrupt_frames, "damaged frame"))
        if self.lost_packets:
            found.append(f"{_count(self.lost_packets, 'packet')} lost")
        if self.corrupt_packets:
            found.append(f"{_count(self.corrupt_packets, 'damaged packet')} of other streams")
        return found


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"


class Gaps:
    """How many frames are missing in a stream of constant rate, by the times of those that came."""

    #: Different distances between frames after which the rate counts as variable.
    MOST = 64

    def __init__(self) -> None:
        self._last: int | None = None
        self._steps: Counter[int] = Counter()

    def add(self, pts: int) -> None:
        """Count one frame, in display order."""
        if self._last is not None and len(self._steps) <= self.MOST:
            self._steps[pts - self._last] += 1
        self._last = pts

    @property
    def step(self) -> int:
        """The usual distance in ticks; 0 if there is none, or only a few frames were seen."""
        if len(self._steps) > self.MOST or self._steps.total() < 3:
            return 0
        usual = self._steps.most_common(1)[0][0]
        near = sum(self._steps[usual + d] for d in (-1, 0, 1))
        return usual if usual > 0 and near >= 0.8 * self._steps.total() else 0

    def missing(self) -> int:
        """Frames for which gaps have room; 0 where the rate varies."""
        if not (step := self.step):
            return 0
        return sum(n * (round(s / step) - 1) for s, n in self._steps.items() if s > 1.5 * step)


class DamageDetector:
    """Sees every frame and packet that is delivered, and says at the end what is missing."""

    def __init__(self, stats: SourceStats) -> None:
        self._stats = stats
        self._frames = Gaps()
        self._packets: Counter[int] = Counter()
        self._covered: Counter[int] = Counter()
        self._ends: dict[int, int] = {}
        self._sound_gaps = 0

    def frame(self, frame: av.VideoFrame, pts: int) -> None:
        """A decoded frame, in display order."""
        self._stats.corrupt_frames += frame.is_corrupt
        for kind in kinds(frame):
            self._stats.side_data[kind] = self._stats.side_data.get(kind, 0) + 1
        self._frames.add(pts)

    def packet(self, packet: av.Packet[Any]) -> None:
        """A packet of another stream, in file order."""
        self._stats.corrupt_packets += packet.is_corrupt
        self._packets[packet.stream_index] += bool(packet.size)
        self._covered[packet.stream_index] += packet.duration or 0
        if packet.stream.type == "audio" and packet.dts is not None and packet.duration:
            gap = packet.dts - self._ends.get(packet.stream_index, packet.dts)
            self._sound_gaps += max(0, round(gap / packet.duration))
            self._ends[packet.stream_index] = packet.dts + packet.duration

    def finish(self, reader: Reader, selected: Collection[int]) -> None:
        """What is gone without a word from FFmpeg; and how many frames, where no container counts them.

        Args:
            reader: of the input, at its end.
            selected: indices of the streams whose packets came by.

        Raises:
            MediaError: the file cannot be read any more.
        """
        stats = self._stats
        name = reader.container.format.name
        if name == MP4:
            sound = reader.container.streams.audio
            stats.lost_packets = sum(self._lost_of(s) for s in sound if s.index in selected)
        if reader.address.protocols == "file":
            try:
                self._scan_file(reader.path, name, reader.stats.packets + reader.stats.others)
            except OSError as error:
                raise media_error(error, reader.path) from None
        lost = self._frames.missing()
        if stats.missing_seconds and self._frames.step:
            lost += round(stats.missing_seconds / float(self._frames.step * reader.time_base))
        if lost and not stats.expected_frames and stats.damage():
            stats.expected_frames, stats.estimated = stats.frames + lost, True

    def _lost_of(self, stream: av.AudioStream) -> int:
        """Packets of an MP4 track that did not come; not those that an edit list hides."""
        lost = stream.frames - self._packets[stream.index]
        context = stream.codec_context
        if context is None or context.name not in _COUNTED or lost <= 0 or not stream.duration:
            return 0
        silent = (stream.duration - self._covered[stream.index]) * Fraction(stream.time_base or 0)
        return lost if silent > _SILENT else 0

    def _scan_file(self, path: str, format: str, packets: int) -> None:
        """The file's structure, where the format has one that tells."""
        stats = self._stats
        if format == MATROSKA:
            found = structure(path)
            stats.lost_bytes = found.lost
            stats.lost_packets = max(0, found.blocks - packets)
        elif format == TRANSPORT:
            losses = find_losses(path)
            stats.lost_bytes = losses.bytes
            # Recordings that were joined have such breaks, but leave no time out.
            if losses.breaks and (self._frames.missing() or self._sound_gaps):
                stats.lost_bytes += 188 * losses.breaks
                stats.lost_packets = self._sound_gaps
