"""One frame in, one frame of the wanted size out: luma by the network, chroma by swscale."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from upscale.errors import BackendError
from upscale.planes import bit_depth, gray_frame, max_value, plane_view, write_plane

if TYPE_CHECKING:
    import av

    from upscale.backends.base import Backend
    from upscale.planes import Plane


class FrameUpscaler:
    """Callable that enlarges frames; one per job, safe to call from several threads at once.

    swscale scales the whole frame first: that costs less than a millisecond for 640x360 → 1280x720, it
    honours the frame's chroma siting, and it carries every property of the frame along. The
    network's luma then replaces swscale's.
    """

    def __init__(self, backend: Backend | None, size: tuple[int, int], resampler: str = "lanczos") -> None:
        """
        Args:
            backend: the loaded network; None leaves luma to swscale as well (the baseline).
            size: (width, height) of the frames that come out.
            resampler: swscale's kernel, "lanczos" or "bicubic".
        """
        self.size = size
        self._backend = backend
        self._kernel = resampler.upper()
        self._local = threading.local()

    def __call__(self, frame: av.VideoFrame) -> av.VideoFrame:
        """Enlarge one frame.

        Args:
            frame: planar YUV or gray, 8 … 16 bit; never written to.

        Returns:
            A frame of `size` with the same format, pts, time base, duration and colour tags (the
            frame itself where it has that size already).

        Raises:
            BackendError: the network failed or broke its contract.
        """
        if (frame.width, frame.height) == self.size:
            return frame
        out = self._resize(frame, "all")
        if self._backend is not None:
            write_plane(out, 0, self._luma(frame, self._backend))
        # Times and side data were copied by swscale's wrapper; the tags were replaced for the scaling.
        out.pict_type = 0  # the encoder decides, not the source's GOP
        out.color_range, out.colorspace = frame.color_range, frame.colorspace
        out.color_primaries, out.color_trc = frame.color_primaries, frame.color_trc
        return out

    def _luma(self, frame: av.VideoFrame, backend: Backend) -> Plane:
        """(height, width) luma of `size`: doubled until large enough, then resampled to the exact size."""
        width, height = self.size
        limit = max_value(frame)
        luma = plane_view(frame, 0)
        while luma.shape[1] < width or luma.shape[0] < height:
            wanted = (luma.shape[0] * backend.scale, luma.shape[1] * backend.scale)
            luma = backend(luma, limit)
            if luma.shape != wanted:
                raise BackendError(f"{backend.name} returned {luma.shape} where {wanted} was expected")
        if luma.shape == (height, width):
            return luma
        return plane_view(self._resize(gray_frame(luma, bit_depth(frame.format)), "luma"), 0)

    def _resize(self, frame: av.VideoFrame, role: str) -> av.VideoFrame:
        from av.video.reformatter import Colorspace, VideoReformatter

        # A reformatter keeps its filters as long as size and format stay: one per thread and role.
        reformatter = getattr(self._local, role, None)
        if reformatter is None:
            reformatter = VideoReformatter()
            setattr(self._local, role, reformatter)
        # The same matrix and range on both sides: only sizes change, whatever the frame's tags are.
        result: av.VideoFrame = reformatter.reformat(
            frame,
            *self.size,
            interpolation=self._kernel,
            src_colorspace=Colorspace.ITU709,
            dst_colorspace=Colorspace.ITU709,
            src_color_range="MPEG",
            dst_color_range="MPEG",
            threads=1,
        )
        return result
