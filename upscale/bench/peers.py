"""Other networks as ONNX files, timed beside ours in one run."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from upscale.backends.onnx_file import read_onnx
from upscale.backends.threads import cores
from upscale.errors import BackendError, ModelError, UsageError
from upscale.model.weights import find_model

_WARM_UP = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerTime:
    """Median time of one network alone, in onnxruntime on the CPU, all cores on one frame.

    Attributes:
        milliseconds: per frame.
        times_ours: over the first network's, which is ours: the median of the rounds' ratios.
    """

    name: str
    milliseconds: float
    times_ours: float


def time_peers(
    folder: Path, *, model: str | None = None, size: tuple[int, int] = (640, 360), rounds: int = 15
) -> list[PeerTime]:
    """Time our network and every ``*.onnx`` in `folder`, one frame each in turn, round after round.

    Args:
        model: ours, as `find_model` takes it.
        size: (width, height) of the input; a network that takes three channels gets luma thrice.

    Raises:
        UsageError: no such files.
        ModelError: a file is damaged or takes no picture.
    """
    ours = find_model(model)
    if ours.onnx is None:
        raise UsageError("has no ONNX file to compare", path=ours.name)
    files = sorted(folder.glob("*.onnx"))
    if not files:
        raise UsageError("no *.onnx files", path=str(folder))
    networks = {ours.name: _runner(ours.onnx, size)} | {f.stem: _runner(f, size) for f in files}
    times: dict[str, list[float]] = {name: [] for name in networks}
    for _ in range(rounds + _WARM_UP):
        for name, run in networks.items():
            before = time.perf_counter()
            run()
            times[name].append(time.perf_counter() - before)
    first = times[ours.name][_WARM_UP:]
    rows = []
    for name, taken in times.items():
        counted = taken[_WARM_UP:]
        ratio = statistics.median(t / o for t, o in zip(counted, first, strict=True))
        rows.append(PeerTime(name=name, milliseconds=1000 * statistics.median(counted), times_ours=ratio))
    return rows


def _runner(path: Path, size: tuple[int, int]) -> Callable[[], Any]:
    import numpy as np

    session, entry, channels = open_network(path)
    # Noise, not zeros: constant input can be faster than any picture.
    rng = np.random.default_rng(0)
    picture = np.repeat(rng.random((1, 1, size[1], size[0]), np.float32), channels, axis=1)
    return lambda: session.run(None, {entry: picture})


def open_network(path: Path) -> tuple[Any, str, int]:
    """A public network: its onnxruntime session, the name of its input, and the input's channels.

    Raises:
        BackendError: onnxruntime is not installed.
        ModelError: not an ONNX network, or not safe to open.
    """
    try:
        import onnxruntime
    except ImportError as e:
        raise BackendError("onnxruntime is not installed") from e

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = cores()
    # A session's threads go on spinning after its turn, and would take the cores from the next one.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 4
    content = read_onnx(path)
    try:
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as e:  # onnxruntime's exceptions have no common class
        raise ModelError("not an ONNX network that onnxruntime can load", path=str(path)) from e
    (entry, *_) = session.get_inputs()
    channels = entry.shape[1] if len(entry.shape) == 4 and isinstance(entry.shape[1], int) else 1
    return session, entry.name, channels
