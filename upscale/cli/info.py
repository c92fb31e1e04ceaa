"""`upscale info MODEL|FILE`."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from upscale.cli.arguments import CONTEXT, flag
from upscale.cli.text import bytes_text, clean, json_text, table
from upscale.errors import UsageError
from upscale.media.input.stills import picture_format

if TYPE_CHECKING:
    from upscale.api import Preview
    from upscale.media.input.probe import MediaInfo
    from upscale.model.config import GeneratorConfig
    from upscale.model.weights import ModelFiles

_WEIGHTS = {".safetensors", ".onnx", ".tflite"}
#: Height and width of the input that costs are counted for.
_COUNTED = (360, 640)
#: Of a model's JSON: 2 has no "estimates" any more, which are a paragraph of the model card.
_MODEL_VERSION = 2


@click.command(context_settings=CONTEXT)
@click.argument("name", metavar="MODEL|FILE")
@click.option("-o", "--output", metavar="OUT", help="The output to plan for [the default name].")
@flag("--json", "as_json", help="One JSON object on stdout.")
def info(name: str, output: str | None, as_json: bool) -> None:
    """Say what a model costs, or what would become of a video's streams, or of a picture.

    MODEL is a bundled model's name or a weights file; everything else is a video or a picture.
    """
    if name == "-":
        raise UsageError("info reads its input twice, so it needs a file", path=name)
    if _is_model(name):
        fields, text = _model(name)
    else:
        fields, text = _video(name, output) if picture_format(name) is None else _picture(name, output)
    print(json_text(fields) if as_json else text)


def _is_model(name: str) -> bool:
    if Path(name).suffix.lower() in _WEIGHTS:
        return True
    if os.path.sep in name or os.path.exists(name):
        return False
    from upscale.model.weights import bundled

    models = bundled()
    if name in models or "." in name:
        return name in models
    raise UsageError(f"neither a file nor a bundled model ({', '.join(models)})", path=name)


def _model(name: str) -> tuple[dict[str, Any], str]:
    from upscale.model.complexity import complexity
    from upscale.model.weights import KINDS, find_model

    model = find_model(name)
    files = {kind: str(path) for kind in KINDS if (path := model.path(kind)) is not None}
    fields: dict[str, Any] = {"version": _MODEL_VERSION, "model": model.name, "fidelity": model.fidelity}
    lines = [f"{clean(model.name)}"]
    if model.config is not None:
        costs = complexity(model.config)
        frame = costs.macs_per_frame(720, 1280)
        fields |= {
            "scale": model.config.scale,
            "unshuffle": model.config.unshuffle,
            "channels": model.config.channels,
            "body": model.config.body,
            "parameters": costs.parameters,
            "macs_per_output_pixel": costs.macs_per_output_pixel,
            "macs_per_720p_frame": frame,
            "receptive_field": costs.receptive_field,
        }
        moved, moved_line = _moved(model.config)
        fields |= moved
        c = model.config
        lines += [
            f"  factor            x{c.scale} on luma",
            f"  shape             {c.channels} channels, {c.body + 2} layers, at 1/{c.unshuffle} resolution",
            f"  parameters        {costs.parameters:,}",
            f"  MACs              {costs.macs_per_output_pixel:,.0f} per output pixel, "
            f"{frame / 1e9:.2f} G per 1280x720 frame",
            f"  receptive field   {costs.receptive_field}x{costs.receptive_field} input pixels",
            moved_line,
        ]
    if model.fidelity is not None:
        lines.append(f"  strength          0 ({clean(model.fidelity)}) to 1 (this one, the default)")
    fields["files"] = {kind: {"path": path, "bytes": os.path.getsize(path)} for kind, path in files.items()}
    lines += _file_lines(model, files)
    return fields, "\n".join(lines)


def _moved(config: GeneratorConfig) -> tuple[dict[str, Any], str]:
    """What one frame moves between processor and memory: for JSON, and in one line."""
    from upscale.model.complexity import ELEMENT_BYTES, frame_bytes, layer_costs

    height, width = _COUNTED
    total = {p: frame_bytes(config, height, width, p) for p in ELEMENT_BYTES}
    fields = {
        "counted_size": [width, height],
        "bytes_per_frame": total,
        "layers": {p: [asdict(c) for c in layer_costs(config, height, width, p)] for p in ELEMENT_BYTES},
    }
    moved = ", ".join(f"{bytes_text(count)} in {p}" for p, count in total.items())
    return fields, f"  bytes moved       {moved} per frame of {config.scale * width}x{config.scale * height}"


def _file_lines(model: ModelFiles, files: dict[str, str]) -> list[str]:
    return [
        f"  {kind:17} {bytes_text(os.path.getsize(path))}, sha256 {model.sha256[kind][:16]}..., {clean(path)}"
        for kind, path in files.items()
    ]


def _picture(name: str, output: str | None) -> tuple[dict[str, Any], str]:
    from upscale.pictures.job import preview_picture
    from upscale.pictures.write import held_by

    found = preview_picture(name, output)
    picture, size, held = found.picture, os.path.getsize(name), held_by(found.picture)
    fields = {
        "file": name,
        "format": picture.format,
        "bytes": size,
        "size": [picture.width, picture.height],
        "pix_fmt": picture.pix_fmt,
        "holds": held,
        "output": found.output,
        "output_size": None if found.size is None else list(found.size),
        "refused": found.refused,
        "warnings": list(found.notes),
    }
    what = f"{picture.format}, {picture.width}x{picture.height} {picture.pix_fmt}, {bytes_text(size)}"
    lines = [f"{clean(name)}: {', '.join([what, *held])}", ""]
    if found.size is None:
        lines.append(f"would be refused: {found.refused}")
    else:
        lines.append(f"would become {clean(found.output)}: {found.size[0]}x{found.size[1]}")
    return fields, "\n".join(lines + [f"warning: {clean(note)}" for note in found.notes])


def _video(name: str, output: str | None) -> tuple[dict[str, Any], str]:
    from upscale.api import preview

    found = preview(name, output)
    return _video_fields(found), _video_text(found)


def _video_fields(found: Preview) -> dict[str, Any]:
    info, plan = found.info, found.plan
    video = info.video
    assert video is not None
    fields: dict[str, Any] = {
        "file": info.path,
        "format": info.format,
        "bytes": info.size,
        "duration": info.duration,
        "size": [video.width, video.height],
        "pix_fmt": video.pix_fmt,
        "frames": video.frames,
        "rate": float(video.rate) if video.rate else None,
        "sample_aspect_ratio": str(video.sar),
        "rotation": video.rotation,
        "interlaced": video.interlaced,
        "hdr10": video.hdr is not None,
        "chapters": len(info.chapters),
        "output": found.output,
        "refused": found.refused,
    }
    if plan is not None:
        fields |= {
            "container": plan.container,
            "output_size": list(plan.size),
            "encoder": plan.encoder.codec,
            "output_pix_fmt": plan.encoder.pix_fmt,
            "streams": [
                {
                    "index": s.index,
                    "kind": s.kind,
                    "codec": s.codec,
                    "action": s.action,
                    "to": s.to_codec,
                    "note": s.note,
                }
                for s in plan.streams
            ],
            "lost": plan.lost,
            "warnings": plan.warnings,
        }
    return fields


def _video_text(found: Preview) -> str:
    info, plan = found.info, found.plan
    lines = [*_source_lines(info), ""]
    if plan is None:
        return "\n".join([*lines, f"would be refused: {clean(found.refused)}"])
    (w, h), e = plan.size, plan.encoder
    lines.append(f"would become {clean(found.output)}: {plan.container}, {e.codec} {w}x{h} {e.pix_fmt}")
    lines.append("")
    by_index = {s.index: s for s in info.streams}
    rows = []
    for s in plan.streams:
        source = by_index.get(s.index)
        described = [(source.language or "").replace("und", ""), source.title or ""] if source else []
        name = " ".join(d for d in described if d)
        action = _ACTIONS.get(s.action, s.action) + (f" {_HOW[s.action]} {s.to_codec}" if s.to_codec else "")
        rows.append([f"#{s.index}", s.kind, s.codec or "unknown", name, action, s.note or ""])
    lines.append(table(rows, ["stream", "kind", "codec", "name", "what happens", "why"]))
    lines += [f"warning: {clean(w)}" for w in plan.warnings]
    return "\n".join(lines)


def _source_lines(info: MediaInfo) -> list[str]:
    v = info.video
    assert v is not None
    length = f", {info.duration:.2f} s" if info.duration else ""
    size = f", {bytes_text(info.size)}" if info.size else ""
    rate = f", {float(v.rate):.3f} fps" if v.rate else ""
    extra = [
        text
        for text, true in (
            (f"pixels {v.sar}", v.sar != 1),
            (f"shown rotated by {v.rotation} degrees", v.rotation),
            ("interlaced", v.interlaced),
            ("HDR10 metadata", v.hdr is not None),
            (f"{len(info.chapters)} chapters", info.chapters),
        )
        if true
    ]
    return [
        f"{clean(info.path)}: {info.format}{length}{size}",
        f"  {v.codec} {v.width}x{v.height} {v.pix_fmt}{rate}" + "".join(f", {e}" for e in extra),
    ]


#: `StreamPlan.action`, human-readable.
_ACTIONS = {
    "encode": "upscaled, encoded",
    "copy": "kept",
    "convert": "converted",
    "attach": "kept",
    "drop": "lost",
}
_HOW = {"encode": "with", "convert": "to"}
