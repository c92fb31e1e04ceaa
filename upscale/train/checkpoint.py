"""Training state on disk: whole or not there, without pickles."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes
from torch import Tensor, nn
from torch.optim import Optimizer

from upscale.errors import OutputError, TrainError
from upscale.system.safe_file import write_whole

Tensors = dict[str, Tensor]


def save(
    path: Path,
    modules: Mapping[str, nn.Module],
    optimizers: Mapping[str, Optimizer],
    metadata: dict[str, Any],
) -> None:
    """Write everything that is needed to continue, bit for bit.

    Args:
        modules, optimizers: by name.
        metadata: JSON-serialisable: step, settings, best score ….

    Raises:
        TrainError: the file cannot be written.
    """
    tensors: Tensors = {}
    for prefix, module in modules.items():
        tensors |= {f"{prefix}/{k}": v.detach().contiguous().cpu() for k, v in module.state_dict().items()}
    for prefix, optimizer in optimizers.items():
        for index, state in optimizer.state_dict()["state"].items():
            tensors |= {f"{prefix}/{index}/{k}": v.detach().contiguous().cpu() for k, v in state.items()}
    try:
        write_whole(path, to_bytes(tensors, metadata={"facts": json.dumps(metadata)}))
    except (OutputError, SafetensorError) as e:
        raise TrainError(f"the checkpoint cannot be written: {e}", path=str(path)) from e


def load(
    path: Path, modules: Mapping[str, nn.Module], optimizers: Mapping[str, Optimizer] | None = None
) -> dict[str, Any]:
    """Put saved modules and optimisers back and return the metadata.

    Raises:
        TrainError: the file is damaged or belongs to another network.
    """
    with _opened(path) as (metadata, file):
        tensors = {k: file.get_tensor(k) for k in file.keys()}  # noqa: SIM118 (not a mapping)
    try:
        for name, module in modules.items():
            module.load_state_dict(_below(f"{name}/", tensors))
        for name, optimizer in (optimizers or {}).items():
            state: dict[int, Tensors] = {}
            for key, value in _below(f"{name}/", tensors).items():
                index, field = key.split("/")
                state.setdefault(int(index), {})[field] = value
            groups = optimizer.state_dict()["param_groups"]
            optimizer.load_state_dict({"state": state, "param_groups": groups})
    except (RuntimeError, ValueError) as e:
        raise TrainError("the checkpoint belongs to another network", path=str(path)) from e
    return metadata


def _below(prefix: str, tensors: Tensors) -> Tensors:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def read_metadata(path: Path) -> dict[str, Any]:
    """The metadata of a checkpoint; its tensors are not read.

    Raises:
        TrainError: the file is damaged.
    """
    with _opened(path) as (metadata, _):
        return metadata


@contextmanager
def _opened(path: Path) -> Iterator[tuple[dict[str, Any], Any]]:
    """The metadata, and the open file."""
    try:
        with safe_open(path, "pt") as file:
            yield dict(json.loads(file.metadata()["facts"])), file
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as e:
        raise TrainError(f"the checkpoint cannot be read: {e}", path=str(path)) from e
