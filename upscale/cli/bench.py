"""`upscale bench [FILE]`, and `upscale bench --peers DIR`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from upscale.cli.arguments import (
    CONTEXT,
    encoding_options,
    make_options,
    network_options,
    size_options,
)
from upscale.cli.text import bytes_text, json_text, say, table
from upscale.cli.timecode import format_time
from upscale.errors import UsageError

if TYPE_CHECKING:
    from upscale.bench.measure import Row
    from upscale.bench.predict import Prediction

#: Options that need a real job: what is measured without FILE has its own sizes and encoder.
_OF_FILE = ("target", "scale", "width", "height", "codec", "crf", "preset", "pix_fmt", "container", "device",
            "encoder_options", "compatible")  # fmt: skip
#: Fields of peers' rows with measures: (name, title, decimals).
_QUALITY = (("psnr", "PSNR-Y", 2), ("ssim", "SSIM", 4), ("lpips", "LPIPS", 4))


@click.command(context_settings=CONTEXT)
@click.argument("file", required=False)
@click.option("--frames", type=click.IntRange(30),
              help="Length of the clip that is measured on [120; --clip: 60].")  # fmt: skip
@click.option("--runs", type=click.IntRange(1),
              help="Counted repetitions, figures are medians [3; --peers: 15].")  # fmt: skip
@click.option("--peers", metavar="DIR", help="Compare the ONNX networks of DIR with ours instead.")
@click.option("--clip", metavar="FILE",
              help="With --peers: a sharp clip, to be halved, compressed (CRF 23) and upscaled.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="One JSON object as the last line.")
@size_options
@encoding_options
@network_options
@click.pass_context
def bench(
    context: click.Context,
    /,
    file: str | None,
    peers: str | None,
    clip: str | None,
    as_json: bool,
    **given: Any,
) -> None:
    """Measure this machine, or predict how long FILE will take.

    Without FILE every installed backend runs on the same synthetic clips, 640x360 to 1280x720 and
    480x360 to 960x720, with one thread and with all, against swscale in the same run. --backend,
    --precision, --model and --threads narrow that down. With FILE a few seconds of the real job are run.
    """
    if file is not None:
        report, text = _predict(file, given)
    elif unused := [p.opts[-1] for p in context.command.params if p.name in _OF_FILE and given[p.name]]:
        raise UsageError(f"{', '.join(unused)}: only with a FILE whose job is predicted")
    elif peers is not None:
        report, text = _compare_peers(peers, clip, given)
    elif clip is not None:
        raise UsageError("--clip goes with --peers")
    else:
        report, text = _measure(given)
    click.echo(text)
    if as_json:
        click.echo(json_text(report))


def _measure(given: dict[str, Any]) -> tuple[dict[str, Any], str]:
    from upscale.bench import measure

    chosen = {name: given[name] for name in ("frames", "runs", "precision")}
    for plural, one in (("backends", "backend"), ("models", "model"), ("threads", "threads")):
        if given[one] not in (None, "auto"):
            chosen[plural] = (given[one],)
    report = measure.bench(measure.BenchConfig(**_typed(chosen)), _progress)
    return report, f"{_machine_text(report)}\n{bench_table(report['rows'])}"


def _compare_peers(folder: str, clip: str | None, given: dict[str, Any]) -> tuple[dict[str, Any], str]:
    from upscale.bench.peers import PeerConfig, compare_peers
    from upscale.cli.score import usable_measures

    chosen = {name: given[name] for name in ("frames", "backend", "precision")} | {"rounds": given["runs"]}
    if given["model"] is not None:
        chosen["models"] = (given["model"],)
    config = PeerConfig(folder=Path(folder), clip=Path(clip) if clip else None, **_typed(chosen))
    measures = [name for name in usable_measures() if name in ("psnr", "ssim", "lpips")] if clip else []
    report = compare_peers(config, measures, say)
    return report, f"{_machine_text(report)}\n{peers_table(report['rows'])}"


def _predict(file: str, given: dict[str, Any]) -> tuple[dict[str, Any], str]:
    from upscale.bench.predict import predict

    found = predict(file, make_options(given | {"no_resume": True}))
    return {"event": "prediction"} | asdict(found), prediction_text(found)


def _typed(values: dict[str, Any]) -> dict[str, Any]:
    """Without what was not typed, which keeps the default of the dataclass."""
    return {name: value for name, value in values.items() if value is not None}


def _progress(row: Row) -> None:
    what = row.error or f"{row.pipeline_fps:.1f} fps"
    say(f"{row.source[0]}x{row.source[1]} {row.backend} {row.model} threads {row.threads or 'all'}: {what}")


def _machine_text(report: dict[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in report["machine"].items())


def bench_table(rows: list[dict[str, Any]]) -> str:
    """Frames per second of each stage alone and of the whole, memory, CPU time, ratio to the baseline."""

    def number(value: float | None, form: str = ".1f") -> str:
        return "" if value is None else format(value, form)

    lines = [
        [
            f"{r['source'][0]}x{r['source'][1]} to {r['size'][0]}x{r['size'][1]}",
            " ".join(filter(None, (r["backend"], r["precision"]))),
            r["model"],
            str(r["threads"] or "all"),
            number(r["decode_fps"], ".0f"),
            number(r["network_fps"]),
            number(r["network_ms"]),
            number(r["encode_fps"]),
            number(r["pipeline_fps"]) or f"failed: {r['error']}",
            number(r["cpu_seconds_per_frame"], ".3f"),
            bytes_text(r["peak_memory"]) if r["peak_memory"] else "",
            number(r["times_baseline"], ".2f"),
            number(r["times_floor"], ".2f"),
        ]
        for r in rows
    ]
    header = "size;backend;model;threads;decode fps;network fps;ms/frame;encode fps;whole fps;CPU s/frame"
    return table(lines, [*header.split(";"), "memory", "x lanczos time", "x floor"])


def peers_table(rows: list[dict[str, Any]]) -> str:
    """Times of every network; columns of quality only where it was measured."""
    used = [column for column in _QUALITY if any(r[column[0]] is not None for r in rows)]
    lines = [
        [
            r["name"],
            r["runtime"],
            f"{r['milliseconds']:.1f}",
            f"{r['cpu_seconds']:.4f}",
            f"{r['times_ours']:.2f}",
            *("" if r[name] is None else f"{r[name]:.{decimals}f}" for name, _, decimals in used),
        ]
        for r in rows
    ]
    header = ["network", "runtime", "ms/frame", "CPU s/frame", "x our time", *(title for _, title, _ in used)]
    return table(lines, header)


def prediction_text(found: Prediction) -> str:
    """The estimate in one sentence."""
    how = f"{found.fps:.1f} fps with {found.model} on {found.backend}, then {found.encoder}"
    if found.seconds is None:
        return f"the length is unknown; {how}"
    speed = f", {found.speed:.2f}x real time" if found.speed is not None else ""
    return f"{found.frames} frames would take about {format_time(found.seconds)}{speed}: {how}"
