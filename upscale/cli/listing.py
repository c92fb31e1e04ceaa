"""`upscale --list`: what can be named on the command line."""

from __future__ import annotations

import sys
from typing import Any

from upscale.cli.text import clean
from upscale.options import RESAMPLERS


def print_lists() -> None:
    """Models, backends, devices and encoders, on stdout."""
    for title, lines in (
        ("Models (--model)", _models()),
        ("Backends (--backend)", _backends()),
        ("Devices (--device)", _devices()),
        ("Encoders (-c:v)", _encoders()),
    ):
        print(title)
        for line in lines:
            print(f"  {clean(line)}")
        print()


def _models() -> list[str]:
    from upscale.errors import ModelError
    from upscale.model.weights import bundled

    try:
        models = {name: _model(entry) for name, entry in bundled().items()}
    except ModelError as error:
        return [str(error), *RESAMPLERS]
    width = max(map(len, [*models, *RESAMPLERS]))
    lines = [
        f"{name:{width}}  {summary}{' (default)' * (n == 0)}"
        for n, (name, summary) in enumerate(models.items())
    ]
    return lines + [f"{name:{width}}  swscale, no network: the baseline" for name in RESAMPLERS]


def _model(entry: dict[str, Any]) -> str:
    summary, partner = entry.get("summary", ""), entry.get("fidelity")
    return f"{summary}; --strength blends it with {partner}" if partner else str(summary)


def _backends() -> list[str]:
    from upscale.backends import available

    found = {
        name: "available" if reason is None else f"missing: {reason}" for name, reason in available().items()
    }
    return [f"{name:6}  {state}" for name, state in found.items()] + ["auto    the fastest of them (default)"]


def _devices() -> list[str]:
    devices = ["cpu"]
    if "torch" in sys.modules or _installed("torch"):
        import torch

        devices += [f"cuda:{n}  {torch.cuda.get_device_name(n)}" for n in range(torch.cuda.device_count())]
        if torch.backends.mps.is_available():
            devices.append("mps")
    if _installed("onnxruntime"):
        import onnxruntime

        providers = [p.removesuffix("ExecutionProvider") for p in onnxruntime.get_available_providers()]
        devices.append(f"onnxruntime providers: {', '.join(providers)}")
    return devices


def _installed(package: str) -> bool:
    import importlib.util

    return importlib.util.find_spec(package) is not None


def _encoders() -> list[str]:
    from upscale.media.output.encoders import ALIASES, COMMON, ENCODERS, available_encoders

    found = available_encoders()
    lines = []
    for name in COMMON:
        if name in found:
            nicknames = ", ".join(alias for alias, encoder in ALIASES.items() if encoder == name)
            lines.append(f"{name:11} {ENCODERS[name].summary}{f' (also {nicknames})' * bool(nicknames)}")
    return [*lines, f"others: {', '.join(name for name in found if name not in COMMON)}"]
