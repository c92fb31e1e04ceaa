"""Everything of an output that a joined file must have in common with one that was written in one go."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import av
from av.stream import Disposition


def contents(path: Path | str) -> dict[str, Any]:
    """Tags, chapters, streams, every packet's times (and bytes, but of the video), and every picture."""
    found: dict[str, Any] = {}
    with av.open(str(path)) as container:
        found["tags"] = dict(container.metadata)
        found["chapters"] = [dict(c) for c in container.chapters()]
        found["streams"] = [_stream(s) for s in container.streams]
        pictures = {s.index for s in container.streams.video if not s.disposition & Disposition.attached_pic}
        found["video"], found["packets"] = [], []
        for packet in container.demux():
            if packet.size and packet.stream.index in pictures:
                found["video"].append((packet.pts, packet.duration))
            elif packet.size:
                content = hashlib.sha256(bytes(packet)).hexdigest()
                found["packets"].append((packet.stream.index, packet.pts, packet.duration, content))
        found["video"].sort()
        found["packets"].sort()
    found["pictures"] = pictures_of(path)
    return found


def pictures_of(path: Path | str) -> list[tuple[Any, ...]]:
    """(pts, content, side data but for the encoder's notes) of every frame."""
    with av.open(str(path)) as container:
        videos = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
        return [
            (
                frame.pts,
                hashlib.sha256(frame.to_ndarray().tobytes()).hexdigest(),
                sorted((d.type.name, bytes(d)) for d in frame.side_data if "SEI" not in d.type.name),
            )
            for frame in container.decode(videos[0])
        ]


def _stream(stream: Any) -> dict[str, Any]:
    facts = {
        "type": stream.type,
        "disposition": int(stream.disposition),
        "tags": dict(stream.metadata),
        "time base": stream.time_base,
        "start": stream.start_time,
        "duration": stream.duration,
    }
    context = stream.codec_context
    if stream.type == "video" and context is not None:
        facts |= {
            "codec": context.name,
            "tag": context.codec_tag,
            "header": (context.extradata or b"").rstrip(b"\0"),  # a transport stream has none: what was found
            "size": (context.width, context.height),
            "format": context.pix_fmt,
            "profile": stream.profile,
            "aspect": stream.sample_aspect_ratio,
            "rate": (stream.average_rate, stream.guessed_rate),
            "colour": [
                int(v)
                for v in (context.color_range, context.color_primaries, context.color_trc, context.colorspace)
            ],
        }
    return facts
