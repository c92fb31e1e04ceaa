"""Ways of enlarging a frame, all behind one call: swscale's kernels, our networks, public ONNX networks."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from upscale.backends.base import to_codes, to_network
from upscale.backends.onnx import open_session
from upscale.backends.onnx_file import read_onnx
from upscale.errors import BackendError, ModelError, UsageError
from upscale.media.pixels.planes import plane_view
from upscale.media.pixels.rgb import RGB, to_luma, to_rgb
from upscale.system.closing import Closing
from upscale.system.cores import cores

if TYPE_CHECKING:
    import av

    from upscale.backends.base import Luma


@dataclass(frozen=True, slots=True)
class Picture:
    """One enlarged frame.

    Attributes:
        luma: (H, W) uint8 code values.
        rgb: makes the (H, W, 3) uint8 picture; only asked for where colour is compared.
    """

    luma: npt.NDArray[np.uint8]
    rgb: Callable[[], RGB]


#: A frame of planar 8-bit YUV → its enlarged picture.
Method = Callable[["av.VideoFrame"], Picture]


def picture_of(frame: av.VideoFrame, *, tagged: bool = True) -> Picture:
    """A frame as it is; `tagged` as in `upscale.media.pixels.rgb.to_rgb`."""
    return Picture(plane_view(frame, 0).astype(np.uint8, copy=False), lambda: to_rgb(frame, tagged=tagged))


class OnnxBaseline(Closing):
    """A public ×2 network from an ONNX file: NCHW float32 in 0…1, of luma (one channel) or RGB (three).

    Attributes:
        name: the file's, without its ending.
        channels: 1 or 3.
        scale, description, precision: as of any `Backend`.
    """

    scale = 2
    description = "onnxruntime CPU"
    precision = "fp32"

    def __init__(self, path: Path, *, threads: int | None = None) -> None:
        """
        Args:
            threads: within one call; None is every core.

        Raises:
            ModelError: not such a network.
            BackendError: onnxruntime is not installed.
        """
        self.name = path.stem
        self._path = path
        content = read_onnx(path)
        try:
            self._session = open_session(content, threads=threads or cores())
        except BackendError:
            raise
        except Exception as e:  # onnxruntime's exceptions have no common class
            raise ModelError("not an ONNX network that onnxruntime can load", path=str(path)) from e
        (entry, *_) = self._session.get_inputs()
        self._entry, shape = entry.name, entry.shape
        self.channels = shape[1] if len(shape) == 4 and isinstance(shape[1], int) else 1
        if self.channels not in (1, 3):
            raise ModelError(f"takes {self.channels} channels, not luma or RGB", path=str(path))

    def __call__(self, luma: Luma, max_value: int = 255, out: Luma | None = None) -> Luma:
        """Enlarge a luma plane, as a `Backend` does; a network of RGB is shown gray."""
        entry = to_network(luma, max_value, 1)
        output = self.network(np.repeat(entry[None], self.channels, axis=0))
        return to_codes(np.ascontiguousarray(output.mean(0)), luma, max_value, 2, out)

    def close(self) -> None:
        """Nothing is left to free once the object is gone."""

    def rgb_picture(self, frame: av.VideoFrame, *, tagged: bool = True) -> Picture:
        """Enlarge a frame as RGB, as these networks were trained: its luma is the output's."""
        output = np.clip(self.network(self.planes(frame, tagged=tagged)), 0, 1).transpose(1, 2, 0)
        codes = np.rint(output * np.float32(255)).astype(np.uint8)
        return Picture(to_luma(output, frame, tagged=tagged), lambda: codes)

    def planes(self, frame: av.VideoFrame, *, tagged: bool = True) -> npt.NDArray[np.float32]:
        """What the network takes of a frame: luma or RGB, (channels, H, W) in 0…1."""
        if self.channels == 1:
            return to_network(plane_view(frame, 0), 255, 1)[None]
        return to_rgb(frame, tagged=tagged).transpose(2, 0, 1) * np.float32(1 / 255)

    def network(self, planes: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """The network alone, (channels, H, W) → (channels, 2H, 2W) float32, not clipped.

        Raises:
            ModelError: it fails, or does not double the picture.
        """
        try:
            output = np.asarray(self._session.run(None, {self._entry: planes[None]})[0], np.float32)
        except Exception as e:  # onnxruntime's exceptions have no common class
            raise ModelError("the network failed on a picture", path=str(self._path)) from e
        wanted = (1, self.channels, 2 * planes.shape[1], 2 * planes.shape[2])
        if output.shape != wanted:
            raise ModelError(f"the network's output is {output.shape}, not {wanted}",
                             path=str(self._path))  # fmt: skip
        return output[0]


def load_peers(
    folder: Path, *, taken: Collection[str] = (), threads: int | None = None
) -> dict[str, OnnxBaseline]:
    """Every ``*.onnx`` of a folder, by name; `threads` as `OnnxBaseline` takes it.

    Args:
        taken: names of the other methods in the same comparison.

    Raises:
        UsageError: there is none, or one has a name that is taken.
        ModelError: one of them is no ×2 network of luma or RGB.
    """
    files = sorted(folder.glob("*.onnx"))
    if not files:
        raise UsageError("no *.onnx files", path=str(folder))
    for file in files:
        if file.stem in taken:
            raise UsageError(f"another method here is called {file.stem}: rename this file", path=str(file))
    return {file.stem: OnnxBaseline(file, threads=threads) for file in files}
