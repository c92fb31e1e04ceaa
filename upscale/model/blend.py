"""Network interpolation: one file between a fidelity model's and its GAN model's.

θ = (1 - s)·θ_fidelity + s·θ_gan (Wang et al. 2018, ESRGAN, section 3.4, "Network Interpolation"): s, the
strength, trades ringing and invented detail against blur, without another network and at no cost per
frame. It works because the GAN model's training starts from the fidelity model's weights.

Each file format is blended in the bytes of its own file and handed to the runtime in memory, so that it
takes no package that the runtime itself does not need, and nothing is written.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from upscale.errors import ModelError, UsageError

if TYPE_CHECKING:
    from upscale.model.weights import ModelFiles

Floats = npt.NDArray[np.float32]
#: (the fidelity file's bytes, the GAN file's, strength) → the blended file's bytes.
Merge = Callable[[bytes, bytes, float], bytes]


class Mismatch(Exception):
    """Two files that do not hold the same network with other weights; the message says where they differ."""


def interpolate(fidelity: npt.NDArray, gan: npt.NDArray, strength: float) -> Floats:
    """(1 - strength)·fidelity + strength·gan, element by element, rounded to float32 once.

    Args:
        strength: 0…1.
    """
    return ((1 - strength) * fidelity.astype(np.float64) + strength * gan.astype(np.float64)).astype(
        np.float32
    )


def blended(
    model: ModelFiles, kind: str, merge: Merge, read: Callable[[Path], bytes] = Path.read_bytes
) -> bytes | None:
    """The bytes of `model`'s file of one kind, blended with its partner's; None where there is no partner.

    Args:
        kind: one of `upscale.model.weights.KINDS`.
        merge: what blends two files of this kind.
        read: what reads and checks one file.

    Raises:
        UsageError: the two files hold different networks.
        ModelError: one of them is damaged.
    """
    partner, strength = model.partner, model.strength
    if partner is None or strength is None:
        return None
    own, other = model.path(kind), partner.path(kind)
    if own is None or other is None:
        raise ModelError(f"no {kind} file of both {model.name} and {partner.name}", path=model.name)
    try:
        with np.errstate(all="ignore"):  # each backend looks for results that are not finite itself
            return merge(read(other), read(own), strength)
    except Mismatch as e:
        raise UsageError(f"cannot be blended with {other.name}: {e}", path=str(own)) from e
    except OSError as e:
        raise ModelError(e.strerror or str(e), path=str(e.filename or own)) from e
    except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, struct.error) as e:
        raise ModelError(f"damaged, or {other.name} is: they cannot be blended", path=str(own)) from e


def blend_safetensors(fidelity: bytes, gan: bytes, strength: float) -> bytes:
    """`Merge` of two safetensors files with float32 tensors; the header is the GAN file's.

    Raises:
        Mismatch: other tensors, shapes or types.
        ValueError, KeyError, TypeError, struct.error: not safetensors.
    """
    result = bytearray(gan)
    ours, theirs = read_tensors(result), read_tensors(fidelity)
    if ours.keys() != theirs.keys():
        odd = min(ours.keys() ^ theirs.keys())
        raise Mismatch(f"only one of them has {odd}")
    for name, values in ours.items():
        if values.shape != theirs[name].shape:
            raise Mismatch(f"{name} has the shape {values.shape}, there {theirs[name].shape}")
        values[...] = interpolate(theirs[name], values, strength)
    return bytes(result)


def read_tensors(data: bytes | bytearray) -> dict[str, Floats]:
    """The tensors of a safetensors file, all float32, as views of its bytes.

    Raises:
        Mismatch: a tensor of another type.
        ValueError, KeyError, TypeError, struct.error: not safetensors.
    """
    (length,) = struct.unpack_from("<Q", data)
    header: dict[str, Any] = json.loads(data[8 : 8 + length])
    found = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        if entry["dtype"] != "F32":
            raise Mismatch(f"{name} is {entry['dtype']}, not float32")
        begin, end = entry["data_offsets"]
        values = np.frombuffer(data, "<f4", (end - begin) // 4, 8 + length + begin)
        found[name] = values.reshape(entry["shape"])
    return found
