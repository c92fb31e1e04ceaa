"""One call from a folder of material to exported weights."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from upscale.errors import TrainError, UsageError
from upscale.system.safe_file import write_whole
from upscale.train.config import TrainJob
from upscale.train.recipe import to_toml

if TYPE_CHECKING:
    from upscale.train.distributed import Group
    from upscale.train.export import Exported
    from upscale.train.loop import Hooks

OnSource = Callable[[int, int, str, str | None], None]

#: Name of the model that comes near the original, beside the one with an adversary.
PARTNER = "_fidelity"


def train(
    job: TrainJob,
    on_source: OnSource = lambda done, total, name, error: None,
    hooks: Hooks | None = None,
) -> list[Exported]:
    """Make crops, train all stages, export.

    Args:
        on_source: (done, total, name, why it was skipped or None) while crops are made.

    Returns:
        The exported models, the last stage's first. Where that stage has an adversary, the last one
        without is exported too, as OUTPUT_fidelity: `--strength` blends the two.

    Raises:
        UsageError: no such folder, or a run is there already and `resume` is False.
        TrainError: too little material, a missing package, or the training failed.
        Interrupted: the user stopped it.
    """
    run = job.run_folder
    _check_places(job)
    try:
        from upscale.train import distributed, loop, record  # noqa: F401 (needs tensorboardX)
    except ImportError as e:
        raise TrainError(f"training needs {e.name}: pip install 'upscale[train]'") from e
    loop.check(job.config, job.teacher is not None)
    crops = job.crops or run / "crops"
    with distributed.joined() as group:
        best = _train(job, crops, group, on_source, hooks or loop.Hooks())
        return _export(job, crops, best) if group.writes else []


def _train(job: TrainJob, crops: Path, group: Group, on_source: OnSource, hooks: Hooks) -> list[Path]:
    """Crops and all stages; in a run of several processes the first one makes the crops and writes."""
    from upscale.train import dataset, loop
    from upscale.train.record import Recorder

    if group.writes:
        if job.resume and (job.run_folder / loop.LAST).exists():
            loop.check_resume(job.run_folder, job.config)
        write_whole(job.kept_recipe, to_toml(job.config))
        dataset.build(job.folder, crops, job.config, on_source)
    group.wait()
    with ExitStack() as stack:
        if group.writes:
            clips = dataset.load(crops).clips
            recorder = Recorder(job.run_folder, job.config, clips, resume=job.resume)
            stack.callback(recorder.close)
            recorder.material(dataset.totals(crops))
            hooks = recorder.hooks(hooks)
        return loop.train_stages(
            crops,
            job.run_folder,
            job.config,
            resume=job.resume,
            start_from=job.start_from,
            teacher=job.teacher,
            hooks=hooks,
            group=group,
        )


def _export(job: TrainJob, crops: Path, best: list[Path]) -> list[Exported]:
    """The last stage's best checkpoint, and the last without an adversary if that is another one."""
    from upscale.train.card import write_card
    from upscale.train.export import export

    chosen = [(best[-1], job.output)]
    plain = [b for b, s in zip(best, job.config.stages, strict=True) if not s.has_adversary]
    if plain and job.config.stages[-1].has_adversary:
        chosen.append((plain[-1], job.output.with_name(job.output.name + PARTNER)))
    exported = []
    for checkpoint, prefix in chosen:
        exported.append(export(checkpoint, prefix, crops))
        write_card(prefix.with_name(prefix.name + ".md"), exported[-1], job, crops)
    return exported


def _check_places(job: TrainJob) -> None:
    if not job.folder.is_dir():
        raise UsageError("not a folder", path=str(job.folder))
    run = job.run_folder
    there = (run / "last.safetensors").exists()
    if there and not job.resume:
        raise UsageError(
            "already holds a run: --resume continues it, another -o or --run starts a new one", path=str(run)
        )
    if job.resume and not there and not (run / "crops").exists():
        raise UsageError("no run to resume", path=str(run))
    for folder in (job.output.parent, run):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if not os.access(folder, os.W_OK):
                raise PermissionError("Permission denied")
        except OSError as e:
            raise UsageError(f"cannot write there: {e.strerror or e}", path=str(folder)) from e
