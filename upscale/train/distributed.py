"""Data-parallel training: every process takes its share of a batch, gradients are averaged.

Start it with torch's own launcher, on one machine or on several that share the run's folder::

    torchrun --nproc-per-node 2 -m upscale train CLIPS -o weights/my

Each process draws `Stage.batch` crops of its own, so N processes train as one does with N times the
batch. Process 0, the leader, is the only one that validates and writes.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from upscale.errors import TrainError, first_line

if TYPE_CHECKING:
    from torch import nn

#: After this the others are taken for lost. Longer than the leader takes to validate.
_TIMEOUT = timedelta(minutes=30)
#: Waiting for the leader to decode a large folder; a peer that dies is noticed long before.
_PATIENCE = timedelta(days=2)


@dataclass(frozen=True, slots=True)
class Group:
    """The processes of one run; ``Group()`` is a run of one process, where nothing is exchanged.

    Attributes:
        rank: number of this process; 0 leads.
        world: how many there are.
    """

    rank: int = 0
    world: int = 1
    _slow: Any = None

    @property
    def writes(self) -> bool:
        """Whether this process is the one that writes."""
        return self.rank == 0

    def average_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace each gradient by its mean over all processes, in one exchange.

        Parameters without a gradient are left out; they must be the same ones everywhere.

        Raises:
            TrainError: another process was lost.
        """
        if self.world == 1:
            return
        import torch
        import torch.distributed as dist

        gradients = [p.grad for p in parameters if p.grad is not None]
        if not gradients:
            return
        flat = torch.cat([g.reshape(-1) for g in gradients])
        with _peers():
            dist.all_reduce(flat)
        flat /= self.world
        parts = torch.split(flat, [g.numel() for g in gradients])
        torch._foreach_copy_(gradients, [f.view_as(g) for f, g in zip(parts, gradients, strict=True)])

    def mean(self, values: Mapping[str, float]) -> dict[str, float]:
        """The mean over all processes of each of `values`, which have the same keys everywhere.

        Raises:
            TrainError: another process was lost.
        """
        if self.world == 1:
            return dict(values)
        import torch
        import torch.distributed as dist

        means = torch.tensor(list(values.values()), dtype=torch.float64)
        with _peers():
            dist.all_reduce(means, group=self._slow)
        return dict(zip(values, (means / self.world).tolist(), strict=True))

    def any(self, flag: bool) -> bool:
        """Whether `flag` is set in any process; all of them get the same answer at the same step.

        Raises:
            TrainError: another process was lost.
        """
        return flag if self.world == 1 else self.mean({"flag": float(flag)})["flag"] > 0

    def wait(self) -> None:
        """Wait until every process has come here; the leader may take hours.

        Raises:
            TrainError: another process was lost.
        """
        if self.world > 1:
            import torch.distributed as dist

            with _peers():
                dist.barrier(group=self._slow)

    def check_same(self, value: object, what: str) -> None:
        """Make sure that all processes hold the same `value`, such as the step that they resume at.

        Raises:
            TrainError: they do not; `what` names it.
        """
        if self.world == 1:
            return
        import torch.distributed as dist

        found: list[object] = [None] * self.world
        with _peers():
            dist.all_gather_object(found, value, group=self._slow)
        if any(other != value for other in found):
            raise TrainError(f"the processes have different {what}: all must see the same run folder")


def launched() -> tuple[int, int, int]:
    """(rank, world, local rank) as a launcher set them; (0, 1, 0) without one. Needs no torch.

    Raises:
        TrainError: the launcher's variables make no sense.
    """
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
    if "WORLD_SIZE" not in os.environ or "RANK" not in os.environ:
        return 0, 1, 0
    try:
        rank, world, local = (int(os.environ.get(name, "0")) for name in names)
    except ValueError as e:
        raise TrainError(f"{', '.join(names)} in the environment must be numbers") from e
    if not 0 <= rank < world:
        raise TrainError(f"RANK {rank} in the environment is not below WORLD_SIZE {world}")
    return rank, world, local


@contextlib.contextmanager
def joined() -> Iterator[Group]:
    """Join the other processes if a launcher such as torchrun started this one, and leave at the end.

    Raises:
        TrainError: the others cannot be reached.
    """
    rank, world, local = launched()
    if world == 1:
        yield Group()
        return
    import torch
    import torch.distributed as dist

    on_gpu = torch.cuda.is_available() and dist.is_nccl_available()
    if on_gpu:
        torch.cuda.set_device(local % torch.cuda.device_count())
    try:
        dist.init_process_group("nccl" if on_gpu else "gloo", timeout=_TIMEOUT)
        # Numbers of the CPU travel over gloo also where gradients travel over NCCL.
        slow = dist.new_group(backend="gloo", timeout=_PATIENCE)
    except (RuntimeError, ValueError) as e:
        raise TrainError(f"the other processes cannot be reached: {_first_line(e)}") from e
    try:
        yield Group(rank, world, slow)
    finally:
        with contextlib.suppress(RuntimeError):
            dist.destroy_process_group()


@contextlib.contextmanager
def _peers() -> Iterator[None]:
    """Say in one line that a peer is gone."""
    try:
        yield
    except RuntimeError as e:
        raise TrainError(
            f"another process of this run was lost ({_first_line(e)}); start all of them again with --resume"
        ) from e


def _first_line(error: Exception) -> str:
    # torch puts its source file in brackets before the message.
    return first_line(error).rpartition("] ")[2].strip().rstrip(".")
