"""Rounds a convolution's kernel to integers so that its output changes least on real input.

Rounding each weight to the nearest integer minds the weights, not what comes of them: where all input
samples are alike, as in most of a picture, the errors of a kernel's weights add up. Here each weight
takes up the errors of those that were rounded before it, as far as the input makes them alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import torch

Floats = npt.NDArray[np.float32]
Moments = npt.NDArray[np.float64]

#: Largest code of a weight, in both directions.
TOP = 127
#: Share of the mean square of the input that is added to that of each sample, so that directions
#: in which the input hardly varies do not get arbitrary errors.
_DAMPING = 1e-3


def kernel_scales(kernel: Floats) -> Floats:
    """(O, I, 3, 3) → (O,): real value of one step of each output channel's weights."""
    largest = np.abs(kernel).reshape(len(kernel), -1).max(1)
    return (np.where(largest > 0, largest, 1) / TOP).astype(np.float32)


def second_moments(inputs: Sequence[torch.Tensor]) -> Moments:
    """Mean product of each two of the I·9 samples that a 3×3 kernel sees, over places and pictures.

    Args:
        inputs: (1, I, h, w) each, what the convolution gets of several pictures.

    Returns:
        (I·9, I·9), in the order of a kernel's weights.
    """
    import torch.nn.functional as F

    means = []
    for one in inputs:
        seen = F.unfold(one, 3, padding=1)[0].double().numpy()
        means.append(seen @ seen.T / seen.shape[1])
    return np.asarray(np.mean(means, 0))


def round_kernel(kernel: Floats, scales: Floats, moments: Moments) -> npt.NDArray[np.int8]:
    """Round weight after weight, those of the largest inputs first, and correct the rest for the error.

    This is GPTQ (Frantar et al. 2023, after the optimal brain surgeon of Hassibi and Stork 1993) for
    a convolution: it minimises the mean square error of the sums, channel by channel.

    Args:
        kernel: (O, I, 3, 3).
        scales: of `kernel_scales`.
        moments: of `second_moments`.

    Returns:
        (O, I, 3, 3), -127 … 127.
    """
    count = moments.shape[0]
    damped = moments + np.eye(count) * max(_DAMPING * float(np.trace(moments)) / count, 1e-12)
    order = np.argsort(-np.diag(damped), kind="stable")
    # Row j of the factor says how the weights after j make up best for an error of weight j.
    factor = np.linalg.cholesky(np.linalg.inv(damped[np.ix_(order, order)])).T
    wanted = (kernel.reshape(len(kernel), count) / scales[:, None]).astype(np.float64)[:, order]
    codes = np.zeros_like(wanted)
    for j in range(count):
        codes[:, j] = np.clip(np.rint(wanted[:, j]), -TOP, TOP)
        error = (wanted[:, j] - codes[:, j]) / factor[j, j]
        wanted[:, j:] -= error[:, None] * factor[j, j:]
    result = np.empty_like(codes)
    result[:, order] = codes
    return result.reshape(kernel.shape).astype(np.int8)
