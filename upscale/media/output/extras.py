"""What frames carry besides their picture, and which of it an encoder hands on."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from upscale.media.output.encoders import EncoderChoice

#: Kinds of side data (names of PyAV's `Type`) that no encoder here writes, as a warning calls them.
_NAMES = {
    "A53_CC": "the closed captions",
    "SPHERICAL": "the 360° projection",
    "DYNAMIC_HDR_PLUS": "the HDR10+ metadata",
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
