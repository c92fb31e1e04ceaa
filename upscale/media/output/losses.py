"""What an output loses, one noun phrase each, and advice about what was perhaps not meant."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from av.video.format import VideoFormat
from av.video.reformatter import ColorTrc

from upscale.media.output.encoders import EncoderChoice
from upscale.media.output.formats import Container
from upscale.media.output.metadata import (
    container_tags,
    language_for,
    lost_file_tags,
    lost_stream_tags,
    not_utf8,
)
from upscale.options import Options

if TYPE_CHECKING:
    from upscale.media.input.probe import MediaInfo, StreamInfo, VideoInfo

_HDR = (ColorTrc.SMPTE2084, ColorTrc.ARIB_STD_B67)
_STYLED = frozenset({"ass", "ssa"})  # subtitles
#: Tags that a warning lists.
_NAMED = 40
#: Times on a side beyond which the default size may not be what was meant: a banner of 468x60.
_MOST = 4

#: Kinds of side data (names of PyAV's `Type`) that no encoder here writes, as a warning calls them.
_NAMES = {
    "A53_CC": "the closed captions",
    "SPHERICAL": "the 360° projection",
    "DYNAMIC_HDR_PLUS": "the HDR10+ metadata (libx265 can keep it)",
    "DYNAMIC_HDR_VIVID": "the HDR Vivid metadata",
    "DOVI_METADATA": "the Dolby Vision metadata",
    "DOVI_RPU_BUFFER": "the Dolby Vision metadata",
    "AMBIENT_VIEWING_ENVIRONMENT": "the ambient viewing environment",
    "ICC_PROFILE": "the ICC profile",
    "S12M_TIMECODE": "the frames' time codes",
    "AFD": "the active format description",
    "PANSCAN": "the pan-and-scan window",
    "LCEVC": "the LCEVC enhancement layer",
    "UNKNOWN": "frame data of a kind that PyAV cannot name",
}

#: Kept (or named) by other parts of the plan; notes of the old encoder; applied by the decoder; counters that
#: every MPEG-2 file has; analyses that only filters make; what belongs to sound.
_NO_LOSS = frozenset(
    "DISPLAYMATRIX MASTERING_DISPLAY_METADATA CONTENT_LIGHT_LEVEL STEREO3D SEI_UNREGISTERED "
    "FILM_GRAIN_PARAMS GOP_TIMECODE MOTION_VECTORS VIDEO_ENC_PARAMS REGIONS_OF_INTEREST DETECTION_BBOXES "
    "VIDEO_HINT MATRIXENCODING DOWNMIX_INFO REPLAYGAIN SKIP_SAMPLES AUDIO_SERVICE_TYPE".split()
)

#: Encoders that write closed captions (CTA-708 in SEI or user data) unless their option `a53cc` is off.
_CAPTIONS = frozenset(
    "libx264 libx264rgb libx265 mpeg2video h264_nvenc hevc_nvenc h264_qsv h264_videotoolbox".split()
)


def lost_extras(kinds: Iterable[str], encoder: EncoderChoice) -> list[str]:
    """What of these kinds of side data the encoder does not write: one noun phrase each.

    Args:
        kinds: of `VideoInfo.side_data`, or counted while reading; a kind that is not known here is named too.
        encoder: of the plan.
    """
    lost = {k: _NAMES.get(k, f"frame data of the kind {k}") for k in sorted(set(kinds) - _NO_LOSS)}
    captions = encoder.codec in _CAPTIONS and encoder.options.get("a53cc", "1") in ("1", "true")
    if captions:
        lost.pop("A53_CC", None)
    elif "A53_CC" in lost:
        lost["A53_CC"] += f" ({encoder.codec} cannot write them; libx264 and libx265 can)"
    return list(dict.fromkeys(lost.values()))


def format_losses(source: str, target: str, encoder: str) -> Iterable[str]:
    """What a change of pixel format costs."""
    old, new = VideoFormat(source), VideoFormat(target)
    if not old.components or not new.components:
        return
    old_bits, new_bits = old.components[0].bits, new.components[0].bits
    if new_bits < 8:
        yield f"colours beyond 256 ({encoder})"
        return
    if new_bits < old_bits:
        yield f"{old_bits} bit depth ({encoder} writes {new_bits} bit)"
    if len(old.components) >= 3 > len(new.components):
        yield f"colour ({encoder} writes {target})"
    elif len(old.components) >= 3:
        before = (old.chroma_width(64), old.chroma_height(64))
        after = (new.chroma_width(64), new.chroma_height(64))
        if after[0] < before[0] or after[1] < before[1]:
            yield f"full chroma resolution ({encoder} writes {target})"


def conversion_loss(source: str | None, target: str) -> str | None:
    """What a conversion of subtitles costs, for a warning; None where it keeps the meaning."""
    if source in _STYLED and target not in _STYLED:
        return "styling and positions are lost"
    return None


def tag_losses(
    info: MediaInfo, streams: list[StreamInfo], container: Container
) -> tuple[list[str], list[str]]:
    """What is lost, and what is converted, of the tags of a file and of the streams that are written."""
    lost: list[str] = []
    changed: list[str] = []
    tags = container_tags(info.metadata)
    written = [(f"{s.kind} #{s.index}", s) for s in streams]
    gone = lost_file_tags(container, tags)
    titled = [name for name, s in written if s.title]
    if container.name == "ogg" and tags:  # it has tags of streams only
        changed.append("the file's tags → tags of each stream")
        own = {k.lower() for _, s in written for k in s.metadata}
        gone += [t for t in tags if t.lower() in own]
    if gone:
        lost.append(f"the tag{'s' * (len(gone) > 1)} {_listed(gone)}")
    if titled and not container.titles:
        lost.append(f"the title{'s' * (len(titled) > 1)} of {', '.join(titled)}")
    for name, s in written:
        language = s.language if s.language != "und" else None
        held = s.kind in container.languages
        if language and not (held and language_for(container.name, language)):
            lost.append(f"the language {language} of {name}")
        if more := lost_stream_tags(container, s.metadata):
            lost.append(f"the tag{'s' * (len(more) > 1)} {_listed(more)} of {name}")
    every = [info.metadata, *(s.metadata for _, s in written)]
    every += [chapter["metadata"] for chapter in info.chapters]
    wrong = list(dict.fromkeys(name for some in every for name in not_utf8(some)))
    if wrong:
        changed.append(f"the tags {_listed(wrong)}, which are not UTF-8, read as Windows-1252")
    return lost, changed


def _listed(names: list[str]) -> str:
    """The names, of very many the first ones."""
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more


def advice(video: VideoInfo, options: Options, encoder: EncoderChoice, size: tuple[int, int]) -> list[str]:
    """Sentences about what was perhaps not meant."""
    sentences = []
    kind = VideoFormat(encoder.pix_fmt)
    bits, shift = kind.components[0].bits, (kind.chroma_width(64), kind.chroma_height(64))
    chroma = {(32, 32): "4:2:0", (32, 64): "4:2:2", (64, 64): "4:4:4"}.get(shift)
    playable = bits == 8 and chroma == "4:2:0"
    if encoder.codec_id == "h264" and not playable and chroma and options.pix_fmt is None:
        sentences.append(
            f"{bits}-bit {chroma} H.264, which many phones, browsers and televisions do not play: "
            "--compatible writes 8-bit 4:2:0 in MP4"
        )
    if options.compatible and video.trc in _HDR:
        sentences.append("HDR in 8 bit: screens and players without HDR show it pale")
    by_default = not (options.scale or options.width or options.height or options.target)
    factor = max(size[0] / video.width, size[1] / video.height)
    if by_default and factor > _MOST:
        sentences.append(
            f"{video.width}x{video.height} becomes {size[0]}x{size[1]}, {factor:.1f} times as large: "
            "--scale 2 makes it smaller"
        )
    return sentences
