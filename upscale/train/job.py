"""One call from a folder of material to exported weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from upscale.errors import TrainError, UsageError
from upscale.train.config import TrainConfig

if TYPE_CHECKING:
    from upscale.train.export import Exported
    from upscale.train.loop import Progress


@dataclass(frozen=True, slots=True)
class Callbacks:
    """How a job tells what it does.

    Attributes:
        source: (done, total, name, why it was skipped or None) while crops are made.
        progress: every hundred steps of the training.
    """

    source: Callable[[int, int, str, str | None], None]
    progress: Callable[[Progress], None]


def train(
    folder: Path,
    output: Path,
    config: TrainConfig,
    callbacks: Callbacks,
    *,
    run: Path | None = None,
    resume: bool = False,
    start_from: Path | None = None,
) -> Exported:
    """Make crops of `folder`, train, export.

    Args:
        output: path without suffix of the files to write, e.g. ``weights/my``.
        run: working folder for crops, checkpoints and the log; None is ``OUTPUT.run``.
        resume: go on where an interrupted run stopped.
        start_from: checkpoint of an earlier run to start from.

    Raises:
        UsageError: no such folder, or a run is there already and `resume` is False.
        TrainError: too little material, a missing package, or the training failed.
    """
    if not folder.is_dir():
        raise UsageError("not a folder", path=str(folder))
    run = run or output.with_name(output.name + ".run")
    if (run / "last.safetensors").exists() and not resume:
        raise UsageError(
            "holds a run already: --resume goes on with it, another -o or --run starts anew", path=str(run)
        )
    try:
        from upscale.train import dataset, loop
        from upscale.train.export import export
    except ImportError as e:
        raise TrainError(f"training needs {e.name}: pip install 'upscale[train]'") from e
    crops = run / "crops"
    dataset.build(folder, crops, config.seed, callbacks.source)
    best = loop.fidelity(
        crops, run, config, resume=resume, start_from=start_from, on_progress=callbacks.progress
    )
    return export(best, output, crops)
