"""Settings of the encoder, checked before any work: names, values, pixel format, a trial opening.

FFmpeg silently ignores options that it does not know, and some encoders print to stderr instead
of raising; so names are compared with the encoder's own descriptors, and the encoder is opened once
with the finished settings at the final size.
"""

from __future__ import annotations

import contextlib
import difflib
import os
import re
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import av
from av.codec.codec import find_best_pix_fmt_of_list
from av.codec.context import Flags
from av.video.format import VideoFormat

from upscale.errors import OutputError, UsageError
from upscale.media.input.log import ffmpeg_log
from upscale.media.input.open import ffmpeg_reasons, reason
from upscale.media.output.encoders import (
    ALIASES,
    COMMON,
    ENCODERS,
    EncoderChoice,
    EncoderDefaults,
    available_encoders,
    time_base_candidates,
)
from upscale.media.output.formats import Container, find_codec
from upscale.options import Options

if TYPE_CHECKING:
    from av.codec import Codec

# Options of every encoder that belong to us: changing them would break timing or the file.
_RESERVED = {"time_base", "pix_fmt", "flags", "threads", "thread_type", "frame_size"}
#: Ends of the names of encoders in hardware.
_HARDWARE = ("_nvenc", "_qsv", "_amf", "_v4l2m2m", "_vaapi", "_videotoolbox", "_mf")

_QP2LAMBDA = 118  # FFmpeg's FF_QP2LAMBDA


def find_encoder(name: str, container: Container) -> Codec:
    """The encoder called `name`, or the usual one for a codec of that name (`ALIASES`).

    Raises:
        UsageError: unknown, no video encoder, or its codec cannot live in the container.
    """
    codec = find_codec(ALIASES.get(name.lower(), name), "w")
    found = {e: find_codec(e, "w") for e in COMMON}
    usual = {e: c.canonical_name for e, c in found.items() if c is not None}  # not every FFmpeg has them all
    if codec is None or codec.type != "video":
        near = difflib.get_close_matches(name, available_encoders(), n=3, cutoff=0.6)
        hint = f"; did you mean {' or '.join(near)}?" if near else ""
        raise UsageError(
            f"unknown video encoder {name!r}{hint}; common ones: {', '.join(usual)}; all: upscale --list"
        )
    if codec.canonical_name not in container.video:
        fitting = [e for e, c in usual.items() if c in container.video] or [container.default_encoder]
        raise UsageError(f"{container.name} cannot hold {name} video; it can hold {', '.join(fitting)}")
    return codec


def choose_pix_fmt(codec: Codec, source: str, wanted: str | None) -> str:
    """The format of the encoder's input: `wanted`, else `source`, else the nearest it has.

    Raises:
        UsageError: `wanted` is no pixel format or the encoder has not got it.
    """
    supported = [f.name for f in codec.video_formats or []]
    software = [name for name in supported if VideoFormat(name).components]
    if wanted is not None:
        if supported and wanted not in supported:
            raise UsageError(f"{codec.name} has no pixel format {wanted!r}; it has {', '.join(software)}")
        if not supported and not _is_pix_fmt(wanted):
            raise UsageError(f"unknown pixel format {wanted!r}")
        return wanted
    if not supported or source in supported:
        return source
    # yuvj420p and its kin are yuv420p with the range in the name: the tag says that better
    candidates = [name for name in software if not name.startswith("yuvj")] or software
    best = find_best_pix_fmt_of_list(candidates, source)[0]
    return best.name if best is not None else candidates[0]


def _is_pix_fmt(name: str) -> bool:
    try:
        VideoFormat(name)
    except ValueError:
        return False
    return True


def encoder_settings(
    codec: Codec, options: Options, extra: dict[str, str] | None = None
) -> tuple[dict[str, str], float | None]:
    """Options for the encoder and its fixed quantiser: defaults, then `extra`, then the user's.

    Parameter lists ("x265-params" and the like) are joined instead of replaced.

    Raises:
        UsageError: the encoder does not know a name or a value.
    """
    defaults = ENCODERS.get(codec.name) or _guess_defaults(codec)
    settings = dict(defaults.options)
    qscale = None
    preset = options.preset if options.preset is not None else defaults.preset
    if options.preset is not None and defaults.preset_option is None:
        raise UsageError(f"{codec.name} has no presets")
    if preset is not None and defaults.preset_option is not None:
        _check_preset(codec, defaults, preset)
        settings[defaults.preset_option] = preset
    crf = options.crf if options.crf is not None else defaults.crf
    if options.crf is not None and defaults.crf_option is None:
        raise UsageError(f"{codec.name} has no constant quality (crf)")
    if crf is not None and defaults.crf_option is not None:
        low, high = defaults.crf_range
        if not low <= crf <= high:
            raise UsageError(f"crf {crf:g} is out of range: {codec.name} takes {low:g} to {high:g}")
        if defaults.crf_option == "qscale":
            qscale = crf
        elif not _sets_bit_rate(options.encoder_options) or options.crf is not None:
            settings[defaults.crf_option] = f"{crf:g}"
    if _sets_bit_rate(options.encoder_options):
        qscale = None if options.crf is None else qscale
    check_option_names(codec, options.encoder_options)
    for key, value in [*(extra or {}).items(), *options.encoder_options.items()]:
        before = settings.get(key) if key.endswith("-params") else None
        settings[key] = f"{before}:{value}" if before else value
    return settings, qscale


def _guess_defaults(codec: Codec) -> EncoderDefaults:
    """Which options `--crf` and `--preset` mean for an encoder that we have no entry for."""
    private = {o.name for o in _option_set(codec)[0]}
    return EncoderDefaults(
        crf_option=next((n for n in ("crf", "cq", "qp") if n in private), None),
        crf_range=(0, 63),
        preset_option=next((n for n in ("preset", "quality", "cpu-used") if n in private), None),
    )


def _sets_bit_rate(given: dict[str, str]) -> bool:
    """True if the user controls the rate by hand, so that our constant quality must not fight it."""
    return bool({"b", "qp", "crf", "cq", "global_quality", "rc", "lossless"} & given.keys())


def _option_set(codec: Codec) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """Descriptors of the encoder's private and generic options."""
    options: Any = av.CodecContext.create(codec.name, "w").supported_options
    return options.private, options.generic


def _check_preset(codec: Codec, defaults: EncoderDefaults, preset: str) -> None:
    valid = defaults.presets
    if not valid:
        private = _option_set(codec)[0]
        valid = next(
            (tuple(c.name for c in o.choices) for o in private if o.name == defaults.preset_option), ()
        )
    if valid and preset not in valid:
        raise UsageError(f"{codec.name} has no preset {preset!r}; it has {', '.join(valid)}")


def check_option_names(codec: Codec, given: dict[str, str]) -> None:
    """Refuse `-e` keys that the encoder does not have.

    Raises:
        UsageError: with the near names and, for short lists, all private options.
    """
    private, generic = _option_set(codec)
    own = sorted({o.name for o in private})
    known = {*own, *(o.name for o in generic)}
    for key in given:
        if key in _RESERVED:
            raise UsageError(f"encoder option {key!r} is set by upscale itself")
        if key not in known:
            near = difflib.get_close_matches(key, known, n=3)
            hint = f"; did you mean {' or '.join(near)}?" if near else "."
            raise UsageError(f"{codec.name} has no option {key!r}{hint} Its own options: {', '.join(own)}")


def open_encoder_trial(
    choice: EncoderChoice, size: tuple[int, int], source: Fraction, *, constant: bool = False
) -> EncoderChoice:
    """Open the encoder once as it will be used and return the choice with a time base that works.

    `source` is the source's time base; `constant` prefers the frame rate's.

    Raises:
        UsageError: it refuses its settings (the reason is the encoder's).
        OutputError: a hardware encoder that this machine cannot run.
    """
    quiet_encoders()
    why = ""
    with ffmpeg_reasons():
        for time_base in dict.fromkeys(time_base_candidates(source, choice.rate, constant=constant)):
            candidate = replace(choice, time_base=time_base)
            context = av.CodecContext.create(choice.codec, "w")
            try:
                configure(context, candidate, size)
                with _complaints() as complaints:
                    context.open()
            except (av.FFmpegError, ValueError, OverflowError) as error:
                why = why or reason(error)
                continue
            if complaints:
                raise UsageError(f"{choice.codec}: {complaints[0]}")
            unused = set(context.options) - {"log-level"}
            if unused:
                raise UsageError(f"{choice.codec} did not take the option {sorted(unused)[0]!r}")
            return candidate
    if choice.codec.endswith(_HARDWARE):
        raise OutputError(f"{choice.codec} does not run on this machine: {why}")
    raise UsageError(f"{choice.codec} refuses these settings at {size[0]}x{size[1]}, {choice.pix_fmt}: {why}")


@contextlib.contextmanager
def _complaints() -> Iterator[list[str]]:
    """What the encoder says about unknown names inside parameter lists, after the block.

    Lists such as "x264-params" are parsed by the encoder's library: a wrong entry is only a warning
    in FFmpeg's log. Reading the log is safe here: no other thread is at work yet.
    """
    found: list[str] = []
    with ffmpeg_log(av.logging.WARNING):
        with av.logging.Capture() as lines:
            yield found
        found.extend(" ".join(text.split()).rstrip(".") for _, _, text in lines if _BAD_ENTRY.match(text))


_BAD_ENTRY = re.compile(r"Error parsing option|Unknown option|Invalid value for")


def configure(context: Any, choice: EncoderChoice, size: tuple[int, int], flags: int = 0) -> None:
    """Put a choice onto a video codec context that is not open yet; `flags` are kept."""
    context.width, context.height = size
    context.pix_fmt = choice.pix_fmt
    context.time_base = choice.time_base
    context.framerate = choice.rate
    context.options = dict(choice.options)
    # PyAV presets SLICE, which makes x264 cut each picture for its threads: slower and worse
    context.thread_type = "AUTO"
    # without the flag the duration of the last frame is lost
    context.flags |= flags | int(Flags.frame_duration)
    if choice.qscale is not None:
        context.qscale = True
        context.global_quality = round(choice.qscale * _QP2LAMBDA)
    if choice.codec_tag is not None:
        context.codec_tag = choice.codec_tag


def quiet_encoders() -> None:
    """Keep SVT-AV1 from printing its banner on stderr; it only listens to the environment."""
    os.environ.setdefault("SVT_LOG", "1")
