"""Options that several commands share, and how what was typed becomes `Options`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from upscale.cli.timecode import parse_time
from upscale.errors import UsageError
from upscale.options import DEFAULT_TARGET, RESAMPLERS, TARGETS, TIMEOUT, Options

F = TypeVar("F", bound=Callable[..., Any])

#: Words that are commands when they come first: how each is called, and what it does. The command stands in
#: the module of its name. A file of such a name is reached as ``./train``.
COMMANDS = {
    "bench": ("[FILE]", "measure this machine, or predict how long FILE takes"),
    "compare": ("IN", "a sheet and a video of IN through every model; figures with --reference"),
    "doctor": ("", "versions of everything here, and what is wrong"),
    "export": ("[MODEL]", "a model as a file for players (mpv, VLC), a web page, ncnn, ONNX, TFLite"),
    "info": ("MODEL|FILE", "what a model costs; what would become of a video's streams"),
    "score": ("...", "PSNR, SSIM, LPIPS, ... of models on pictures and clips with a known original"),
    "train": ("...", "train a network"),
}
#: For every command: -h as well as --help, and lines of up to 100 columns.
CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


class Time(click.ParamType):
    """Seconds or [HH:]MM:SS[.mmm] → seconds."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, float):
            return value
        try:
            return parse_time(value)
        except UsageError as error:
            self.fail(str(error), param, ctx)


class Target(click.Choice):
    """A name in `TARGETS`, also without its "p" or as 2k or 4k."""

    _NICKNAMES = {name.rstrip("p"): name for name in TARGETS} | {"2k": "1440p", "4k": "2160p"}

    def __init__(self) -> None:
        super().__init__(list(TARGETS))

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        given = str(value).lower()
        return super().convert(self._NICKNAMES.get(given, given), param, ctx)


def key_values(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    """``KEY=VALUE`` texts as a dict, for click's `callback`."""
    pairs = {}
    for value in values:
        key, equals, rest = value.partition("=")
        if not key or not equals:
            raise click.BadParameter(f"{value!r} is not KEY=VALUE", ctx, param)
        pairs[key] = rest
    return pairs


def options(*decorators: Callable[[F], F]) -> Callable[[F], F]:
    """Several decorators as one, in the order in which --help shows their options."""

    def apply(function: F) -> F:
        for decorator in reversed(decorators):
            function = decorator(function)
        return function

    return apply


def flag(*names: str, help: str) -> Callable[[F], F]:
    """An option without a value: True if typed, else None."""
    return click.option(*names, is_flag=True, default=None, help=help)


target_option = click.option("--target", type=Target(), help=f"Short side of the result [{DEFAULT_TARGET}].")
size_options = options(
    target_option,
    click.option("--scale", type=float, metavar="N", help="Factor on both sides."),
    click.option("--width", type=int, metavar="N", help="Width; alone it keeps the aspect."),
    click.option("--height", type=int, metavar="N", help="Height; alone it keeps the aspect."),
)
encoding_options = options(
    click.option("-c:v", "-vcodec", "--codec", "codec", metavar="NAME",
                 help="Encoder, e.g. libx264, libx265, ffv1."),
    click.option("-crf", "--crf", "crf", type=float, metavar="N", help="Constant quality of the encoder."),
    click.option("-preset", "--preset", "preset", metavar="NAME", help="Preset of the encoder."),
    click.option("-pix_fmt", "--pix-fmt", "pix_fmt", metavar="NAME", help="Pixel format [the input's]."),
    click.option("-e", "encoder_options", multiple=True, callback=key_values, metavar="KEY=VALUE",
                 help="Encoder option."),
    click.option("-f", "--container", "container", metavar="NAME", help="Output format [from its name]."),
    flag("--compatible", help="What every player plays: 8-bit 4:2:0 H.264 and AAC in MP4."),
)  # fmt: skip
network_options = options(
    click.option("--model", metavar="NAME|FILE", help=f"Model, weights file, {' or '.join(RESAMPLERS)}."),
    click.option("--backend", metavar="NAME", help="onnx, torch, tflite or auto (the fastest here)."),
    click.option("--precision", metavar="NAME", help="fp32, bf16, fp16, int8 or auto (fastest near fp32)."),
    click.option("--device", metavar="NAME", help="cpu, cuda, mps, ... [the runtime's choice]."),
    click.option("--threads", type=click.IntRange(1), metavar="N",
                 help="Threads of the network [all cores]."),
)  # fmt: skip
input_options = options(
    click.option("-ss", "start", type=Time(), help="Begin here: seconds or HH:MM:SS.mmm."),
    click.option("-t", "length", type=Time(), help="Keep this much."),
    click.option("-to", "stop", type=Time(), help="End here, on the input's clock."),
    click.option("--fps", type=float, metavar="N",
                 help="Numbered pictures (frames/%04d.png): frames per second [25]."),
    flag("-an", "no_audio", help="Leave out audio."),
    flag("-sn", "no_subtitles", help="Leave out subtitles."),
    flag("--keep-interlaced", help="Refuse interlaced video, do not deinterlace."),
    flag("--strict", help="Refuse damaged video, do not finish what can be read."),
    flag("--trust-input", help="Read unusual formats and codecs too; only for files you trust."),
    click.option("--realtime/--no-realtime", default=None,
                 help="Drop frames before the network if the machine cannot keep up "
                 "[cameras, RTSP, RTP, UDP]."),
    click.option("--timeout", type=float, metavar="S",
                 help=f"URLs, cameras: seconds of silence that end it [{TIMEOUT:g}]."),
    click.option("--input-option", "input_options", multiple=True, callback=key_values,
                 metavar="KEY=VALUE", help="URLs, cameras: e.g. rtsp_transport=tcp, video_size=640x360."),
)  # fmt: skip


def make_options(given: dict[str, Any]) -> Options:
    """What was typed as `Options`; what was not typed keeps the default of the dataclass.

    Args:
        given: click's values by name. Fields of `Options` under their own names, and what stands for one
            in another form: `length`, `no_audio`, `no_subtitles`, `no_resume`. Other names are ignored.
    """
    start, stop, length = given.get("start"), given.get("stop"), given.get("length")
    if length is not None:
        if stop is not None:
            raise click.UsageError("-t and -to exclude each other")
        stop = (start or 0.0) + length
    if stop is not None and stop <= (start or 0.0):
        raise click.UsageError("nothing is left between -ss and its end")
    values = {k: v for k, v in given.items() if k in Options.__dataclass_fields__ and v is not None}
    values["stop"] = stop
    for switch, field in (("no_audio", "audio"), ("no_subtitles", "subtitles"), ("no_resume", "resume")):
        if given.get(switch):
            values[field] = False
    return Options(**values)
