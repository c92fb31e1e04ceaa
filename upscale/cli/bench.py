"""`upscale bench [FILE]`."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from upscale.cli.run import encoding_options, make_options, network_options, size_options
from upscale.cli.text import bytes_text, say, table
from upscale.cli.timecode import format_time
from upscale.errors import UsageError

if TYPE_CHECKING:
    from upscale.bench.measure import Row
    from upscale.bench.predict import Prediction


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
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
def bench(
    file: str | None,
    frames: int | None,
    runs: int | None,
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
        _predict(file, given, as_json)
        return
    if peers is not None:
        from upscale.cli.peers import peers_report

        peers_report(peers, clip, frames, runs, given, as_json)
        return
    if clip is not None:
        raise UsageError("--clip goes with --peers")
    from upscale.bench.measure import BenchConfig
    from upscale.bench.measure import bench as measure

    chosen: dict[str, Any] = {"frames": frames, "runs": runs, "precision": given["precision"]}
    for plural, one in (("backends", "backend"), ("models", "model"), ("threads", "threads")):
        if given[one] not in (None, "auto"):
            chosen[plural] = (given[one],)
    report = measure(BenchConfig(**{k: v for k, v in chosen.items() if v is not None}), _progress)
    machine = report["machine"]
    print(", ".join(f"{key} {value}" for key, value in machine.items()))
    print(bench_table(report["rows"]))
    if as_json:
        print(json.dumps(report))


def _progress(row: Row) -> None:
    what = row.error or f"{row.pipeline_fps:.1f} fps"
    say(f"{row.source[0]}x{row.source[1]} {row.backend} {row.model} threads {row.threads or 'all'}: {what}")


def bench_table(rows: list[dict[str, Any]]) -> str:
    """For people: fps of each stage alone and of the whole, memory, CPU time, ratio to the baseline."""

    def number(value: float | None, form: str = ".1f") -> str:
        return "" if value is None else format(value, form)

    lines = []
    for r in rows:
        sizes = f"{r['source'][0]}x{r['source'][1]} to {r['size'][0]}x{r['size'][1]}"
        lines.append(
            [
                sizes,
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
            ]
        )
    header = "size;backend;model;threads;decode fps;network fps;ms/frame;encode fps;whole fps;CPU s/frame"
    return table(lines, [*header.split(";"), "memory", "x lanczos time"])


def _predict(file: str, given: dict[str, Any], as_json: bool) -> None:
    from upscale.bench.predict import predict

    options = make_options(
        length=None,
        no_audio=False,
        no_subtitles=False,
        yes=False,
        no=False,
        skip_existing=False,
        no_resume=True,
        start=None,
        stop=None,
        **given,
    )
    found = predict(file, options)
    print(prediction_text(found))
    if as_json:
        print(json.dumps({"event": "prediction"} | asdict(found)))


def prediction_text(found: Prediction) -> str:
    """The estimate in one sentence."""
    how = f"{found.fps:.1f} fps with {found.model} on {found.backend}, then {found.encoder}"
    if found.seconds is None:
        return f"the length is unknown; {how}"
    speed = f", {found.speed:.2f}x real time" if found.speed is not None else ""
    return f"{found.frames} frames would take about {format_time(found.seconds)}{speed}: {how}"
