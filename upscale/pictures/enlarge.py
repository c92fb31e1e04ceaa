"""Planes of a picture → larger planes: luma by the network, the rest by lanczos.

As in videos: the network doubles luma until it is large enough, and everything else is scaled without
it. A picture's chroma is never computed. What the network finds beyond lanczos is added to red, green and
blue alike, which is the same as replacing luma between two conversions to Y'CbCr (of BT.601, full range,
as JPEG has it), but rounds only once: what is flat keeps its colour exactly.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from upscale.backends.base import Backend
from upscale.frame.reuse import ReceptiveField
from upscale.pictures.picture import Picture, Plane

Floats = npt.NDArray[np.float32]

#: Weights of red, green and blue in luma (BT.601), with which the networks were trained.
WEIGHTS = (0.299, 0.587, 0.114)
#: Pixels of the largest part that a network gets at once: a photograph of 12 megapixels would take gigabytes.
BAND_PIXELS = 1 << 20
#: How far, in pixels, colour spreads into what is fully transparent before scaling.
BLEED = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Enlarger:
    """Scales pictures with one network.

    Attributes:
        backend: the network; None leaves luma to `kernel`, too.
        reach: of the network, to compute a picture in parts; None: always whole.
        workers: parts to compute at once.
        kernel: Pillow's filter for all but the network: "lanczos" or "bicubic".
    """

    backend: Backend | None
    reach: ReceptiveField | None = None
    workers: int = 1
    kernel: str = "lanczos"

    def __call__(self, picture: Picture, size: tuple[int, int]) -> Picture:
        """A picture of `size` (width, height); all but the planes and alpha stays.

        Raises:
            BackendError: the network failed.
        """
        planes = picture.planes if picture.alpha is None else spread(picture.planes, picture.alpha)
        alpha = picture.alpha
        if alpha is not None:
            alpha = _codes(self._resize(alpha, size), np.dtype(np.uint8))
        return replace(picture, planes=self._planes(planes, size), alpha=alpha)

    def _planes(self, planes: tuple[Plane, ...], size: tuple[int, int]) -> tuple[Plane, ...]:
        dtype = planes[0].dtype
        if len(planes) != 3 and self.backend is not None:  # grey, or CMYK: ink takes light away
            inks = self._planes(planes[:3], size) if len(planes) == 4 else ()
            return (*inks, _codes(self._double(planes[-1], size), dtype))
        detail: Floats | None = None
        if self.backend is not None:
            red, green, blue = (np.float32(w) * p for w, p in zip(WEIGHTS, planes, strict=True))
            luma = _codes(red + green + blue, dtype)
            detail = self._double(luma, size) - self._resize(luma, size)
        scaled = []
        for plane in planes:
            values = self._resize(plane, size)
            scaled.append(_codes(values if detail is None else values + detail, dtype))
        return tuple(scaled)

    def _double(self, plane: Plane, size: tuple[int, int]) -> Floats:
        """The network's picture of `plane`, brought to exactly `size`, before rounding."""
        width, height = size
        while plane.shape[1] < width or plane.shape[0] < height:
            plane = self._network(plane)
        if plane.shape == (height, width):
            return plane.astype(np.float32)
        return self._resize(plane, size)

    def _network(self, plane: Plane) -> Plane:
        """One doubling, in bands of rows; the same, bit for bit, as for the whole plane."""
        assert self.backend is not None
        backend, scale, limit = self.backend, self.backend.scale, int(np.iinfo(plane.dtype).max)
        height, width = plane.shape
        bands = max(math.ceil(plane.size / BAND_PIXELS), min(self.workers, plane.size * 8 // BAND_PIXELS))
        if self.reach is None or bands <= 1:
            return backend(plane, limit)
        border, multiple = self.reach.border, self.reach.multiple
        rows = -(-height // bands // multiple) * multiple
        result = np.empty((scale * height, scale * width), plane.dtype)

        def band(top: int) -> None:
            bottom = min(height, top + rows)
            begin = max(0, top - border) // multiple * multiple
            end = min(height, bottom + border)
            part = backend(plane[begin:end], limit)
            result[scale * top : scale * bottom] = part[scale * (top - begin) : scale * (bottom - begin)]

        run_all(band, range(0, height, rows), self.workers)
        return result

    def _resize(self, plane: Plane, size: tuple[int, int]) -> Floats:
        kernel = Image.Resampling.LANCZOS if self.kernel == "lanczos" else Image.Resampling.BICUBIC
        return np.asarray(Image.fromarray(plane.astype(np.float32)).resize(size, kernel))


def run_all(work: Callable[[int], None], items: range, workers: int) -> None:
    """Call `work` with every item, up to `workers` at once; the first error is raised."""
    with ThreadPoolExecutor(workers) as pool:
        futures = [pool.submit(work, item) for item in items]
        try:
            for future in futures:
                future.result()
        except BaseException:  # a signal, too: what has not begun must not be waited for
            pool.shutdown(cancel_futures=True)
            raise


def spread(planes: tuple[Plane, ...], alpha: npt.NDArray[np.uint8]) -> tuple[Plane, ...]:
    """Planes in which what is fully transparent has the colour of what is beside it.

    Editors leave black or white there, which scaling would mix into every edge.
    """
    hidden = alpha == 0
    if not hidden.any() or hidden.all():
        return planes
    weight = _blur(alpha.astype(np.float32))
    filled = hidden & (weight > 0)
    spread_planes = []
    for plane in planes:
        mean = _blur(plane.astype(np.float32) * alpha) / np.maximum(weight, 1e-6)
        spread_planes.append(np.where(filled, _codes(mean, plane.dtype), plane))
    return tuple(spread_planes)


def _blur(values: Floats) -> Floats:
    """Sums over squares of 2·`BLEED` + 1 pixels, by running sums along both sides."""
    for axis in (0, 1):
        pad = [(BLEED + 1, BLEED) if a == axis else (0, 0) for a in (0, 1)]
        sums = np.cumsum(np.pad(values, pad), axis=axis, dtype=np.float64)
        n = values.shape[axis]
        upper, lower = (np.take(sums, range(at, at + n), axis=axis) for at in (2 * BLEED + 1, 0))
        values = (upper - lower).astype(np.float32)
    return values


def _codes(values: npt.NDArray[Any], dtype: np.dtype[Any]) -> Any:
    """Rounded to nearest, limited to what `dtype` holds."""
    return np.clip(np.rint(values), 0, np.iinfo(dtype).max).astype(dtype)
