"""The contract between the pipeline and a runtime."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt

Luma = npt.NDArray[np.uint8] | npt.NDArray[np.uint16]


class Backend(Protocol):
    """One loaded network: a callable and a context manager.

    Safe to call from several threads at once. Attributes:
        name: "onnx", "torch" or "tflite".
        description: for people, e.g. "onnxruntime 1.31.1 cpu int8, 2 frames at a time, 1 thread each".
        precision: what it computes in, one of `upscale.backends.variants.PRECISIONS`.
        scale: the network's factor (2).
    """

    name: str
    description: str
    precision: str
    scale: int

    def __call__(self, luma: Luma, max_value: int = 255, out: Luma | None = None) -> Luma:
        """Upscale one luma plane.

        Args:
            luma: (H, W) uint8 or uint16 code values in 0…max_value; rows may be strided.
            max_value: the largest code value: 255 for 8 bit, 1023 for 10 bit, ….
            out: where to write the result, (scale·H, scale·W) of luma's dtype, rows may be strided:
                a frame's own plane saves a copy. None makes a new array.

        Returns:
            `out`, or a new C-contiguous array of that shape, in 0…max_value: the network's output
            times max_value, rounded to nearest, clipped. Any H, W ≥ 1: the backend pads (edge
            replication) and crops by itself.

        Raises:
            BackendError: the runtime failed, or the network is int8 and max_value not 255.
            ValueError: luma or out is no such array.
        """
        ...

    def close(self) -> None: ...

    def __enter__(self) -> Backend: ...

    def __exit__(self, *exc: object) -> None: ...
