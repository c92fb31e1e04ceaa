"""The integer files' last step: cells of two by two pixels become four by four sub-pixels.

Networks at half resolution compute in cells anyway. Of those at full resolution the last layer does, because
four output channels leave most of a vector unit idle: in onnxruntime a layer of 16 → 4 channels took as long
as two of 16 → 16. Over cells the same sums have four times the channels at a quarter of the places: nothing
changes but the time, which is a third.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import numpy.typing as npt

from upscale.export.quantize import CODE, IntegerLayer, IntegerNetwork
from upscale.model.config import GeneratorConfig

#: Pixels on a cell's side, and sub-pixels.
CELL, SUB_PIXELS = 2, 4
#: At full resolution, which output channel of a pixel each of the cell's sub-pixels is.
_CHANNELS = [2 * (row % 2) + column % 2 for row, column in product(range(SUB_PIXELS), repeat=2)]


def layers_over_cells(network: IntegerNetwork) -> list[IntegerLayer]:
    """The layers, the last with sixteen outputs a cell.

    That of a full-resolution network has a kernel of 4×4 then, a stride of two (`stride_of`), and, as all
    have, one pixel of padding on each side.
    """
    *first, last = network.layers
    if network.config.unshuffle == 1:
        scales, bias = last.kernel_scales[_CHANNELS], last.bias[_CHANNELS]
        last = replace(last, kernel=kernel_over_cells(last.kernel), kernel_scales=scales, bias=bias)
    return [*first, last]


def anchor_over_cells() -> IntegerLayer:
    """The nearest pixel of each sub-pixel, exact, as a 1×1 convolution, which all delegates have."""
    nearest = GeneratorConfig(unshuffle=CELL).anchor_channels
    kernel = np.zeros((SUB_PIXELS**2, CELL**2, 1, 1), np.int8)
    kernel[np.arange(len(nearest)), nearest] = 127
    scales = np.full(len(nearest), 1 / 127, np.float32)
    return IntegerLayer(kernel, scales, np.zeros(len(nearest), np.int32), CODE)


def stride_of(layer: IntegerLayer) -> int:
    """2 for a last layer that was made for cells of pixels."""
    return CELL if layer.kernel.shape[-1] == SUB_PIXELS else 1


def kernel_over_cells(kernel: npt.NDArray[np.int8]) -> npt.NDArray[np.int8]:
    """(4, I, 3, 3) for the sub-pixels of a pixel → (16, I, 4, 4) for those of a cell, in reading order."""
    wide = np.zeros((SUB_PIXELS**2, kernel.shape[1], 4, 4), kernel.dtype)
    for place, (row, column) in enumerate(product(range(SUB_PIXELS), repeat=2)):
        y, x = row // 2, column // 2
        wide[place, :, y : y + 3, x : x + 3] = kernel[_CHANNELS[place]]
    return wide
