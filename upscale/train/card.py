"""The model card that lies beside exported weights: OUTPUT.md."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from upscale.model.complexity import complexity
from upscale.system.safe_file import write_whole
from upscale.train.dataset import totals
from upscale.train.recipe import from_mapping, to_toml
from upscale.version import __version__

if TYPE_CHECKING:
    from upscale.train.config import TrainJob
    from upscale.train.export import Exported


def write_card(path: Path, exported: Exported, job: TrainJob, crops: Path) -> None:
    """Write down what the model is, how it was made and how it scores.

    Args:
        crops: the cache that it was trained on; its ``index.json`` says how much there was.

    Raises:
        OutputError: the file cannot be written.
    """
    metadata = exported.metadata
    seconds, seed = metadata["seconds"], metadata["config"]["seed"]
    parts = [
        f"# {exported.files.name}",
        "Doubles the luma of a video; colour is scaled beside it. Written by `upscale train`.",
        _shape(exported),
        "## Held-out scores",
        _scores(metadata.get("history", [])),
        "Whole frames of clips that were not trained on, halved and compressed with libx264; PSNR and SSIM "
        "of luma, LPIPS (AlexNet) of the picture in colour, flicker relative to the original's.",
        "## Training",
        f"{seconds / 3600:.2f} hours of steps, seed {seed}, {_material(crops)}.",
        f"```\n{_command(job)}\n```",
        f"with this recipe in `{job.output.name}.toml`:",
        f"```toml\n{to_toml(from_mapping(metadata['config']))}```",
        "## Check of the exported files",
        _parity(exported),
    ]
    write_whole(path, "\n\n".join(parts) + "\n")


def _shape(exported: Exported) -> str:
    files, config = exported.files, exported.files.config
    assert config is not None
    cost = complexity(config)
    inside = "half" if config.unshuffle == 2 else "full"
    rows = [
        ("shape", f"{config.channels} channels, {config.body} body layers, {inside} resolution inside"),
        ("parameters", f"{cost.parameters:,}"),
        ("operations", f"{cost.macs_per_frame(720, 1280) / 1e9:.2f} G MACs per 1280x720 frame"),
        ("receptive field", f"{cost.receptive_field}x{cost.receptive_field} input pixels"),
    ]
    for kind, digest in files.sha256.items():
        found = files.path(kind)
        if found is not None:
            rows.append((f"`{found.name}`", f"{found.stat().st_size:,} bytes, SHA-256 `{digest}`"))
    return "\n".join(["| | |", "|---|---|", *(f"| {key} | {value} |" for key, value in rows)])


def _scores(history: list[dict[str, Any]]) -> str:
    """A row for the best validation of each stage, and one for lanczos on the same frames."""
    best: dict[str, dict[str, Any]] = {}
    for entry in history:
        if entry["stage"] not in best or entry["selection_score"] > best[entry["stage"]]["selection_score"]:
            best[entry["stage"]] = entry
    lines = ["| | step | PSNR, dB | SSIM | LPIPS | flicker |", "|---|---|---|---|---|---|"]
    if history and history[-1].get("lanczos"):
        lines.append(_score_row("lanczos", "", history[-1]["lanczos"]))
    lines += [_score_row(stage, f"{entry['step']:,}", entry) for stage, entry in best.items()]
    return "\n".join(lines)


def _score_row(name: str, step: str, scores: Mapping[str, Any]) -> str:
    digits = {"psnr": 2, "ssim": 4, "lpips": 4, "flicker": 2}
    cells = ["–" if scores.get(k) is None else f"{scores[k]:.{n}f}" for k, n in digits.items()]
    return f"| {name} | {step} | " + " | ".join(cells) + " |"


def _material(crops: Path) -> str:
    found = totals(crops)
    counts, skipped = found["crops"], len(found["skipped"])
    left_out = f" ({skipped:,} more could not be used)" if skipped else ""
    return (
        f"{counts['train']:,} crops of {found['read']:,} files{left_out} for training "
        f"and {counts['held_out']:,} held out"
    )


def _command(job: TrainJob) -> str:
    words = [
        "upscale",
        "train",
        str(job.folder),
        "-o",
        str(job.output),
        "--recipe",
        f"{job.output.name}.toml",
    ]
    for option, value in (("--start-from", job.start_from), ("--teacher", job.teacher)):
        if value is not None:
            words += [option, str(value)]
    return shlex.join(words)


def _parity(exported: Exported) -> str:
    parity = exported.parity
    parts = [
        f"{name} differs from PyTorch by at most {value} code value{'' if value == 1 else 's'}"
        for name, value in (("ONNX", parity.onnx), ("TFLite", parity.tflite))
        if value is not None
    ]
    if parity.int8_psnr is not None:
        parts.append(f"int8 is {parity.int8_psnr:.1f} dB from it")
    return "; ".join(parts) + f", on held-out crops at 8 and 10 bit. upscale {__version__}."
