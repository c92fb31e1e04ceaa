"""What an output is called when the user does not say it."""

from __future__ import annotations

import os

from upscale.errors import UsageError
from upscale.media.input.address import is_live
from upscale.media.input.stills import PICTURE_EXTENSIONS, picture_format
from upscale.options import DEFAULT_TARGET, Options

#: Extensions of the files that are upscaled in a directory.
EXTENSIONS = PICTURE_EXTENSIONS | frozenset(
    "3g2 3gp asf avi divx dv f4v flv gif h264 hevc ivf m1v m2t m2ts m2v m4v mj2 mkv mov mp4 mpe mpeg mpg "
    "mpv mts mxf nut obu ogm ogv qt rm rmvb ts vob webm wmv y4m 264 265".split()
)

#: Extensions that the output keeps: formats that can hold what upscaling produces.
_KEPT = frozenset("m2t m2ts m4v mkv mov mp4 mts nut ts webm".split())
#: Of the others, those whose streams usually fit MP4; the rest becomes Matroska, which holds nearly all.
_TO_MP4 = frozenset("264 265 3g2 3gp f4v flv gif h264 hevc ivf mj2 obu avif png webp".split())

#: Extension that belongs to an output format named with --container.
_BY_CONTAINER = {
    "asf": "wmv",
    "fmp4": "mp4",
    "matroska": "mkv",
    "mpeg": "mpg",
    "mpegts": "ts",
    "ogg": "ogv",
    "yuv4mpegpipe": "y4m",
}


def suffix(options: Options) -> str:
    """What is added to the name: ``_720p``, ``_2x``, ``_1280x720``, ``_w1280``, ``_h720``."""
    if options.scale is not None:
        return f"_{options.scale:g}x"
    if options.width is not None and options.height is not None:
        return f"_{options.width}x{options.height}"
    if options.width is not None:
        return f"_w{options.width}"
    if options.height is not None:
        return f"_h{options.height}"
    return f"_{options.target or DEFAULT_TARGET}"


def extension(source: str, options: Options) -> tuple[str, str | None]:
    """The output's extension without the dot, and a note if it is not the input's.

    Args:
        source: path of the input: still pictures, which keep theirs, are told by their first bytes.
    """
    ending = os.path.splitext(source)[1][1:]
    if picture_format(source) is not None:
        return ending, None
    if options.container is not None:
        return _BY_CONTAINER.get(options.container, options.container), None
    if options.compatible:
        return ending if ending.lower() == "mp4" else "mp4", None
    if ending.lower() in _KEPT:
        return ending, None
    chosen = "mov" if ending.lower() == "qt" else "mp4" if ending.lower() in _TO_MP4 else "mkv"
    return chosen, f"written as .{chosen}: .{ending} cannot hold the result" if ending else None


def default_output(source: str, options: Options, folder: str | None = None) -> tuple[str, str | None]:
    """Path beside the input (or in `folder`), and a note if the format had to change.

    Raises:
        UsageError: the input is stdin, a URL or a device, which have no name.
    """
    if source == "-":
        raise UsageError("name an output when reading from stdin, - for stdout")
    if is_live(source):
        raise UsageError("name an output file when reading from a URL or a device, - for stdout")
    directory, name = os.path.split(source)
    stem = os.path.splitext(name)[0]
    ending, note = extension(source, options)
    path = os.path.join(directory if folder is None else folder, f"{stem}{suffix(options)}.{ending}")
    return path, note


def resolve_output(source: str, output: str | None, options: Options) -> tuple[str, str | None]:
    """The output's path: as named, inside it if it is a directory, or the default.

    Raises:
        UsageError: the input has no name and no file is named.
    """
    if output is None:
        return default_output(source, options)
    if output != "-" and os.path.isdir(output):
        return default_output(source, options, output)
    return output, None
