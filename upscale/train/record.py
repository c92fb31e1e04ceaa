"""What a run writes down for its user: a log, curves, and the same crops after every validation."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt
from tensorboardX import SummaryWriter

from upscale.compare.sheet import grid, save_png
from upscale.system.safe_file import write_error, write_whole
from upscale.train.config import TrainConfig
from upscale.train.held_out import Clip, HeldOutClips
from upscale.train.loop import LAST, Hooks, Progress, check_resume
from upscale.train.reparam import TrainableGenerator
from upscale.train.validate import run_network

#: The event files lie in this folder of the run: ``tensorboard --logdir RUN/tensorboard``.
EVENTS = "tensorboard"
#: Seconds after which events reach the disk even if the process is killed.
_FLUSH_EVERY = 10
#: Rows of a `Sheet` that always stay: the input and the original.
FIXED = 2
#: Rows after which a `Sheet` drops every second one between its fixed and its last.
MOST_ROWS = 18
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


class Logbook:
    """`RUN/log.jsonl` and `RUN/tensorboard/`; in a distributed run only the leader opens one."""

    def __init__(self, run: Path, resume_step: int | None = None) -> None:
        """
        Args:
            run: folder of the run; made if it is not there.
            resume_step: step of the checkpoint that the run continues from. What was written for later
                steps, by a process that was killed after it, is taken back. None starts empty.

        Raises:
            OutputError: the folder cannot be written.
        """
        try:
            run.mkdir(parents=True, exist_ok=True)
            kept = _lines_until(run / "log.jsonl", resume_step)
            write_whole(run / "log.jsonl", "".join(kept))
            if resume_step is None:
                for old in (run / EVENTS).glob("events.out.tfevents.*"):
                    old.unlink()
            self._lines = (run / "log.jsonl").open("a", encoding="utf-8")
            # Readers of the older event files forget what they hold of this step and later ones.
            purge = None if resume_step is None else resume_step + 1
            self._events = SummaryWriter(str(run / EVENTS), purge_step=purge, flush_secs=_FLUSH_EVERY)
        except OSError as e:
            raise write_error(e, str(run)) from e

    def scalars(self, step: int, values: Mapping[str, Any]) -> None:
        """One line ``{"step": …, **values}``; every number of it, also nested ones, as a curve.

        Values that are no finite numbers are null in the line and left out of the curves.
        """
        entry = {"step": step, **_finite(values)}
        self._lines.write(json.dumps(entry) + "\n")
        self._lines.flush()
        for tag, value in _numbers(values):
            if math.isfinite(value):
                self._events.add_scalar(tag, value, step)

    def picture(self, step: int, tag: str, picture: npt.NDArray[np.uint8]) -> None:
        """Show a (H, W) or (H, W, 3) uint8 picture under `tag` in TensorBoard."""
        self._events.add_image(tag, picture, step, dataformats="HWC"[: picture.ndim])

    def close(self) -> None:
        """Write out what is buffered; the logbook is of no use afterwards."""
        self._lines.close()
        self._events.close()


def _lines_until(path: Path, step: int | None) -> list[str]:
    """The whole lines of earlier steps; a line that was torn by a crash is dropped."""
    if step is None or not path.exists():
        return []
    kept = []
    for line in path.read_text(encoding="utf-8").splitlines(keepends=True):
        try:
            if line.endswith("\n") and json.loads(line)["step"] <= step:
                kept.append(line)
        except (ValueError, KeyError, TypeError):
            continue
    return kept


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(k): _finite(v) for k, v in value.items()}
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _numbers(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, float]]:
    """(tag, number) of every number; a nested mapping is a group of curves, ``losses/pixel``."""
    found = []
    for key, value in values.items():
        if isinstance(value, Mapping):
            found += _numbers(value, f"{prefix}{key}/")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            found.append((f"{prefix}{key}", float(value)))
    return found


class Sheet:
    """The same crops over time: input, original, then one row per validation.

    The PNG is replaced, whole or not at all, with every row. Its pictures also lie beside it in
    ``NAME.npz``, from which a resumed run continues.
    """

    def __init__(self, path: Path, *, resume: bool = True) -> None:
        """
        Args:
            path: the PNG.
            resume: whether an existing sheet there is continued.
        """
        self.path = path
        self._rows = _read_rows(path.with_suffix(".npz")) if resume else []

    def add_row(self, label: str, pictures: Sequence[Planes]) -> None:
        """Append (H, W) or (H, W, 3) uint8 `pictures` and write the PNG.

        A resumed run repeats rows: one that is there with the same pictures is left as it is; one
        with other pictures replaces that row and everything after it.

        Raises:
            OutputError: the files cannot be written.
        """
        labels = [name for name, _ in self._rows]
        if label in labels:
            at = labels.index(label)
            if _equal(self._rows[at][1], pictures):
                return
            del self._rows[at:]
        self._rows.append((label, [np.ascontiguousarray(p) for p in pictures]))
        if len(self._rows) > MOST_ROWS:
            middle = self._rows[FIXED:-1]
            self._rows = self._rows[:FIXED] + middle[::2] + self._rows[-1:]
        _write_rows(self.path.with_suffix(".npz"), self._rows)
        save_png(str(self.path), self.picture())

    def picture(self) -> Planes:
        """The sheet as it is now, (H, W, 3) uint8."""
        return grid(self._rows)


def _equal(first: Sequence[Planes], second: Sequence[Planes]) -> bool:
    return len(first) == len(second) and all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


def _write_rows(path: Path, rows: Sequence[tuple[str, Sequence[Planes]]]) -> None:
    buffer = io.BytesIO()
    arrays = {f"{r}.{c}": p for r, (_, pictures) in enumerate(rows) for c, p in enumerate(pictures)}
    np.savez_compressed(buffer, allow_pickle=False, labels=np.array([label for label, _ in rows]), **arrays)
    write_whole(path, buffer.getvalue())


def _read_rows(path: Path) -> list[tuple[str, list[Planes]]]:
    """The rows that an earlier process left; none if the file is missing or damaged."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as saved:
            arrays = {key: saved[key] for key in saved.files}
    except (OSError, ValueError, BadZipFile, EOFError):
        return []
    rows: list[tuple[str, list[Planes]]] = [(str(label), []) for label in arrays.pop("labels", [])]
    keys = sorted(arrays, key=lambda key: tuple(int(n) for n in key.split(".")))
    for key in keys:
        rows[int(key.split(".")[0])][1].append(arrays[key])
    return rows
