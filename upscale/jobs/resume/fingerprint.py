"""What the pictures of a job depend on: the same fingerprint, the same frames.

Neither the container nor the other streams are part of it: where a job cannot be joined, they may be changed
and the segments that are finished serve.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from typing import TYPE_CHECKING, Any

from upscale.errors import MediaError
from upscale.job.prepare import RESAMPLER_RUNTIME

if TYPE_CHECKING:
    from upscale.backends.variants import Variant
    from upscale.job.prepare import Prepared
    from upscale.model.weights import ModelFiles

#: How much of the input's beginning is compared.
_HEAD = 1 << 20


def fingerprint(job: Prepared, runtime: Variant | None) -> dict[str, Any]:
    """Human-readable names → plain JSON values.

    Args:
        runtime: of `choose_runtime`.

    Raises:
        MediaError: the input cannot be read.
    """
    import av

    from upscale.version import __version__

    o, plan, encoder = job.options, job.plan, job.plan.encoder
    return {
        **_input_fields(job.input),
        "model": job.model_name,
        "weights": weights_hash(job.model),
        "strength": o.strength,
        "runtime": str(runtime or RESAMPLER_RUNTIME),
        "start": o.start,
        "end": o.stop,
        "size": "{}x{}".format(*plan.size),
        "encoder": encoder.codec,
        "pixel format": encoder.pix_fmt,
        **_encoder_fields(encoder.options),
        "quantiser": encoder.qscale,
        "time base": str(encoder.time_base),
        "frame rate": str(encoder.rate),
        "limited range": encoder.limited,
        "upscale version": __version__,
        "PyAV version": f"{av.__version__} (FFmpeg {av.ffmpeg_version_info})",
    }


def _encoder_fields(options: dict[str, str]) -> dict[str, Any]:
    found = {}
    for name, value in sorted(options.items()):
        if not name.endswith("-params"):
            found[f"encoder option {name}"] = value
            continue
        for entry in value.split(":"):
            key, _, setting = entry.partition("=")
            found[f"encoder option {name} {key}"] = setting
    return found


def _input_fields(path: str) -> dict[str, Any]:
    try:
        status = os.stat(path)
        with open(path, "rb") as file:
            head = hashlib.sha256(file.read(_HEAD)).hexdigest()
    except OSError as error:
        raise MediaError(error.strerror or str(error), path=path) from error
    seconds, nanoseconds = divmod(status.st_mtime_ns, 10**9)
    changed = f"{time.strftime('%F %T', time.gmtime(seconds))}.{nanoseconds:09d}"
    return {"input's size": status.st_size, "input's time": changed, "input's beginning": head}


def weights_hash(model: ModelFiles | str) -> str | None:
    """One hash of all files that a network's output depends on; None for a resampler."""
    if isinstance(model, str):
        return None
    partner = model.partner.sha256 if model.partner is not None else {}
    files = json.dumps([model.sha256, partner], sort_keys=True)
    return hashlib.sha256(files.encode()).hexdigest()
