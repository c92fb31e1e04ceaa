"""Training state on disk: whole or not there, without pickles."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.optim import Optimizer

from upscale.errors import TrainError


def save(
    path: Path, *, model: nn.Module, ema: nn.Module, optimizer: Optimizer, facts: dict[str, Any]
) -> None:
    """Write everything that is needed to go on, bit for bit.

    Args:
        facts: JSON-serialisable: step, settings, best score ….
    """
    tensors: dict[str, Tensor] = {}
    for prefix, module in (("model", model), ("ema", ema)):
        tensors |= {f"{prefix}/{k}": v.detach().contiguous().cpu() for k, v in module.state_dict().items()}
    for index, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer/{index}/{k}": v.detach().contiguous().cpu() for k, v in state.items()}
    part = path.with_name(f".{path.name}.part")
    save_file(tensors, part, metadata={"facts": json.dumps(facts)})
    with part.open("rb") as f:
        os.fsync(f.fileno())
    os.replace(part, path)


def load(path: Path, *, model: nn.Module, ema: nn.Module, optimizer: Optimizer) -> dict[str, Any]:
    """Put a saved state back and return its facts.

    Raises:
        TrainError: the file is damaged or belongs to another network.
    """
    facts, tensors = _read(path)
    try:
        for prefix, module in (("model/", model), ("ema/", ema)):
            module.load_state_dict(
                {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
            )
    except RuntimeError as e:
        raise TrainError("the checkpoint belongs to another network", path=str(path)) from e
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        if key.startswith("optimizer/"):
            _, index, name = key.split("/")
            state.setdefault(int(index), {})[name] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    return facts


def read_facts(path: Path) -> dict[str, Any]:
    """The facts of a checkpoint, without its tensors' use.

    Raises:
        TrainError: the file is damaged.
    """
    return _read(path)[0]


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    try:
        with safe_open(path, "pt") as f:
            facts = json.loads(f.metadata()["facts"])
            return dict(facts), {k: f.get_tensor(k) for k in f.keys()}  # noqa: SIM118 (not a mapping)
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as e:
        raise TrainError(f"the checkpoint cannot be read: {e}", path=str(path)) from e
