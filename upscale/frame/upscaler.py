"""One frame in, one frame of the wanted size out: luma by the network, chroma by swscale."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from upscale.errors import BackendError
from upscale.frame.repeats import Repeats
from upscale.frame.reuse import Backoff, ReceptiveField, Reuse
from upscale.media.pixels.planes import bit_depth, gray_frame, max_value, plane_view, write_plane

if TYPE_CHECKING:
    import av

    from upscale.backends.base import Backend
    from upscale.model.config import GeneratorConfig


class FrameUpscaler:
    """Callable that enlarges frames; one per job, safe to call from several threads at once.

    swscale scales the whole frame first: that costs less than a millisecond for 640x360 → 1280x720, it
    honours the frame's chroma siting, and it carries every property of the frame along. The
    network's luma then replaces swscale's.
    """

    def __init__(
        self,
        backend: Backend | None,
        size: tuple[int, int],
        resampler: str = "lanczos",
        reuse: GeneratorConfig | None = None,
    ) -> None:
        """
        Args:
            backend: the loaded network; None leaves luma to swscale as well (the baseline).
            size: (width, height) of the frames that come out.
            resampler: swscale's kernel, "lanczos" or "bicubic".
            reuse: shape of the network, to compute only what changed from frame to frame: the result is
                the same. None computes every frame whole.
        """
        self.size = size
        self._backend = backend
        self._reach = None if reuse is None else ReceptiveField.of(reuse)
        self._repeats = None if reuse is None else Repeats()
        self._reuses: list[Reuse] = []  # one for each doubling of luma
        self._backoff = Backoff()
        self._lock = threading.Lock()
        self._kernel = resampler.upper()
        self._local = threading.local()

    def __call__(self, frame: av.VideoFrame) -> av.VideoFrame:
        """Enlarge one frame.

        Args:
            frame: planar YUV or gray, 8 … 16 bit; never written to.

        Returns:
            A frame of `size` with the same format, pts, time base, duration and colour tags (the
            frame itself if it has that size already).

        Raises:
            BackendError: the network failed or broke its contract.
        """
        if (frame.width, frame.height) == self.size:
            return frame
        compare, keep = self._backoff.next_frame() if self._repeats else (False, False)
        out, whole = self._repeats.find(frame) if self._repeats and compare else (None, False)
        reused = out is not None
        if out is None:
            out = self._resize(frame, "all")
        if whole:
            for reuse in self._reuses:
                reuse.repeated()
        elif self._backend is not None:
            reused |= self._write_luma(frame, out, self._backend, compare)
        if compare:
            self._backoff.report(reused)
        # Times and side data were copied by swscale's wrapper; the colour tags were replaced for the scaling.
        out.pict_type = 0  # the encoder decides, not the source's GOP
        out.color_range, out.colorspace = frame.color_range, frame.colorspace
        out.color_primaries, out.color_trc = frame.color_primaries, frame.color_trc
        if self._repeats and not whole and (keep or reused):
            self._repeats.remember(frame, out)
        return out

    @property
    def reused(self) -> float:
        """Share of the network's pixels, 0 … 1, that were repeated from frames before."""
        counts = [reuse.counts for reuse in self._reuses]
        pixels, computed = (sum(column) for column in zip(*counts, strict=True)) if counts else (0, 0)
        return 1 - computed / pixels if pixels else 0.0

    def _write_luma(self, frame: av.VideoFrame, out: av.VideoFrame, backend: Backend, compare: bool) -> bool:
        """Luma of `out`: doubled until large enough, then resampled to the exact size.

        Returns:
            Whether any of it is that of an earlier frame.
        """
        width, height = self.size
        limit = max_value(frame)
        luma, target = plane_view(frame, 0), plane_view(out, 0)
        step, reused = 0, False
        while luma.shape[1] < width or luma.shape[0] < height:
            wanted = (luma.shape[0] * backend.scale, luma.shape[1] * backend.scale)
            into = target if wanted == target.shape else None
            if self._reach is None:
                luma = backend(luma, limit, into)
            else:
                luma, part = self._reuse(step, backend, self._reach).compute(luma, limit, into, compare)
                reused |= part
            if luma.shape != wanted:
                raise BackendError(f"{backend.name} returned {luma.shape} where {wanted} was expected")
            step += 1
        if luma is not target:
            fitted = self._resize(gray_frame(luma, bit_depth(frame.format)), "luma")
            write_plane(out, 0, plane_view(fitted, 0))
        return reused

    def _reuse(self, number: int, backend: Backend, reach: ReceptiveField) -> Reuse:
        """What doubles luma for the first, second, … time."""
        with self._lock:
            while len(self._reuses) <= number:
                self._reuses.append(Reuse(backend, reach))
            return self._reuses[number]

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
