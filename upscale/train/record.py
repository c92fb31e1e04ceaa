"""What a run writes down for its user while it runs: curves, and the same crops after every validation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from upscale.train.config import TrainConfig
from upscale.train.held_out import Clip, HeldOutClips
from upscale.train.logbook import Logbook
from upscale.train.loop import LAST, Hooks, Progress, check_resume
from upscale.train.reparam import TrainableGenerator
from upscale.train.sheet import Sheet
from upscale.train.validate import run_network

#: Crops on the sheet, each of another held-out clip, and their side before they are doubled.
CROPS, SIDE = 6, 80
SHEET = "crops.png"

Planes = npt.NDArray[np.uint8]


def run_step(config: TrainConfig, number: int, step: int) -> int:
    """Steps of the whole run after `step` of stage `number` (from 1)."""
    return sum(stage.iterations for stage in config.stages[: number - 1]) + step


class Recorder:
    """`RUN/log.jsonl`, `RUN/tensorboard/` and `RUN/crops.png` of one run."""

    def __init__(self, run: Path, config: TrainConfig, clips: HeldOutClips, *, resume: bool) -> None:
        """
        Args:
            run: folder of the run, with its checkpoint if `resume`.
            clips: held-out material that the crops are taken from.

        Raises:
            OutputError: the folder cannot be written.
            TrainError: the checkpoint cannot be resumed.
        """
        self._config = config
        resume = resume and (run / LAST).exists()
        at = None
        if resume:
            metadata = check_resume(run, config)
            at = run_step(config, int(metadata["stage"]), int(metadata["step"]))
        for litter in run.glob(".*.part"):  # of a process that was killed while it wrote
            litter.unlink(missing_ok=True)
        self._log, self._is_new = Logbook(run, at), at is None
        self._sheet = Sheet(run / SHEET, resume=resume)
        self._low_res, references = zip(*(_crop(clip) for clip in clips.clips[:CROPS]), strict=True)
        self._sheet.add_row(
            f"input, {clips.qualities[-1]}", [p.repeat(2, 0).repeat(2, 1) for p in self._low_res]
        )
        self._sheet.add_row("original", references)

    def material(self, totals: Mapping[str, Any]) -> None:
        """Write down what the run learns from, once: `upscale.train.dataset.totals`."""
        if self._is_new:
            self._log.scalars(0, {"material": dict(totals)})

    def hooks(self, also: Hooks) -> Hooks:
        """Hooks that record, then call those of `also`."""
        return replace(
            also,
            progress=_both(self._progress, also.progress),
            validated=_both(self._validated, also.validated),
        )

    def close(self) -> None:
        """Write out what is buffered."""
        self._log.close()

    def _progress(self, report: Progress) -> None:
        entry = {
            "stage": report.stage,
            "stage_step": report.step,
            "losses": report.losses,
            "steps_per_second": round(report.steps_per_second, 3),
        }
        if report.scores is not None:
            entry["scores"] = {k: v for k, v in asdict(report.scores).items() if v is not None}
        self._log.scalars(run_step(self._config, report.number, report.step), entry)

    def _validated(self, report: Progress, network: TrainableGenerator) -> None:
        device = next(network.parameters()).device
        pictures = [run_network(network, low[None], device)[0] for low in self._low_res]
        self._sheet.add_row(f"{report.stage} {report.step}", pictures)
        self._log.picture(
            run_step(self._config, report.number, report.step), "crops", np.concatenate(pictures, 1)
        )


def _both(first: Callable[..., None], second: Callable[..., None]) -> Callable[..., None]:
    def call(*args: object) -> None:
        first(*args)
        second(*args)

    return call


def _crop(clip: Clip) -> tuple[Planes, Planes]:
    """The most detailed window of the last frame: compressed (SIDE, SIDE), and true at twice the size."""
    reference, low = clip.luma[-1], clip.low_luma[-1, -1]
    side = min(SIDE, *low.shape)
    best, corner = -1.0, (0, 0)
    for top in range(0, low.shape[0] - side + 1, side // 2):
        for left in range(0, low.shape[1] - side + 1, side // 2):
            part = reference[2 * top : 2 * (top + side), 2 * left : 2 * (left + side)].astype(np.float32)
            detail = float(np.abs(np.diff(part, axis=0)).mean() + np.abs(np.diff(part, axis=1)).mean())
            if detail > best:
                best, corner = detail, (top, left)
    top, left = corner
    return (
        low[top : top + side, left : left + side],
        reference[2 * top : 2 * (top + side), 2 * left : 2 * (left + side)],
    )
