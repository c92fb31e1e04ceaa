"""Before the work: the first packet of every stream that is not the video is muxed into memory.

Some muxers refuse a stream only at its first packet, or when the file is closed: after all the work.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import av

from upscale.errors import OutputError
from upscale.media.input.open import ffmpeg_reasons, open_input, reason
from upscale.media.output.conversion import add_conversion
from upscale.media.output.streams import add_copy
from upscale.options import Options

if TYPE_CHECKING:
    from upscale.media.input.probe import MediaInfo
    from upscale.media.output.plan import Plan, StreamPlan

#: Muxers that hold sound only beside a picture.
_NEED_VIDEO = frozenset({"mxf"})
#: Packets after which streams that have given none (subtitles) are tried with their header alone.
_PACKETS = 400


def rehearse(info: MediaInfo, plan: Plan, options: Options) -> None:
    """Mux each stream that is copied or converted alone, with header, first packet and end.

    Inputs that cannot be opened a second time are left out.

    Raises:
        OutputError: the muxer refuses one, with the name of the stream and what can be done.
    """
    entries = {e.index: e for e in plan.by_action("copy", "convert") if e.note != "cover"}
    if not entries or not info.reopens or plan.container in _NEED_VIDEO:
        return
    with open_input(info.path, options) as again:
        streams = {s.index: s for s in again.streams if s.index in entries}
        first: dict[int, Any] = {}
        for count, packet in enumerate(again.demux(list(streams.values()))):
            if packet.size:
                first.setdefault(packet.stream.index, packet)
            if len(first) == len(streams) or count >= _PACKETS:
                break
        for index, stream in streams.items():
            _try(plan, entries[index], stream, first.get(index))


def _try(plan: Plan, entry: StreamPlan, stream: Any, packet: Any) -> None:
    # In memory there is no second opening of the file, which moving the index to its front needs.
    options = {k: v for k, v in plan.muxer_options.items() if v != "+faststart"}
    add = add_copy if entry.action == "copy" else add_conversion
    try:
        with (
            ffmpeg_reasons(),
            av.open(io.BytesIO(), "w", format=plan.container, container_options=options) as container,
        ):
            output = add(container, plan, entry, stream)
            container.start_encoding()
            for ready in [*(output.accept(packet) if packet is not None else ()), *output.flush()]:
                container.mux(ready)
    except (av.FFmpegError, OSError, ValueError, OutputError) as error:
        raise OutputError(
            f"{plan.container} does not take {entry.kind} #{entry.index} ({entry.codec}): {reason(error)}; "
            "leave it out (-an for sound, -sn for subtitles) or choose another container"
        ) from error
