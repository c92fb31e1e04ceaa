"""The log of a run: JSON lines for scripts, an event file for TensorBoard."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tensorboardX import SummaryWriter

from upscale.system.safe_file import write_error, write_whole

#: The event files lie in this folder of the run: ``tensorboard --logdir RUN/tensorboard``.
EVENTS = "tensorboard"
#: Seconds after which events reach the disk even if the process is killed.
_FLUSH_EVERY = 10


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
