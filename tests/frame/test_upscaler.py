"""One frame in, one larger frame out."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction

import av
import numpy as np
import pytest
from clips import flat_frame, noise_frame

from upscale.errors import BackendError
from upscale.frame.upscaler import FrameUpscaler
from upscale.media.input.convert import filter_graph
from upscale.media.input.siting import measured_chroma_location
from upscale.media.pixels.planes import Plane, plane_view


class Repeat:
    """A backend that repeats every sample twice in both directions."""

    name, description, scale = "repeat", "nearest neighbour", 2

    def __init__(self, offset: int = 0) -> None:
        self.offset = offset
        self.limits: list[int] = []

    def __call__(self, luma: Plane, max_value: int = 255, out: Plane | None = None) -> Plane:
        self.limits.append(max_value)
        limit = luma.dtype.type(max_value)
        result = np.minimum(luma.repeat(2, 0).repeat(2, 1) + luma.dtype.type(self.offset), limit)
        if out is None:
            return result
        out[...] = result
        return out

    def close(self) -> None: ...

    def __enter__(self) -> Repeat:
        return self

    def __exit__(self, *exc: object) -> None: ...


def marked(frame: av.VideoFrame, location: str) -> av.VideoFrame:
    graph = filter_graph(frame, "setparams", f"chroma_location={location}")
    graph.vpush(frame)
    return graph.vpull()


def edge_frame(axis: int, chroma_offset: float, at: float) -> av.VideoFrame:
    """64x64 4:2:0 with a soft edge of luma and chroma at the same place along an axis.

    Places are continuous: luma sample n lies at n + 0.5, chroma sample n at 2 n + chroma_offset.
    """
    frame = av.VideoFrame(64, 64, "yuv420p10le")  # fine steps: the place is exact to 0.02 samples
    for index in range(3):
        places = np.arange(64) + 0.5 if index == 0 else 2 * np.arange(32) + chroma_offset
        ramp = np.round(160 + 640 * np.clip((places - at) / 16 + 0.5, 0, 1)).astype(np.uint16)
        plane_view(frame, index)[...] = ramp[None, :] if axis == 1 else ramp[:, None]
    return frame


def edge_place(plane: Plane, axis: int) -> float:
    """Index at which the middle row (or column) crosses the edge's half height."""
    line = plane[plane.shape[0] // 2] if axis == 1 else plane[:, plane.shape[1] // 2]
    return float(np.interp(480.0, line.astype(float), np.arange(len(line))))


def edge_distance(out: av.VideoFrame, axis: int, chroma_offset: float) -> float:
    luma = edge_place(plane_view(out, 0), axis) + 0.5
    chroma = 2 * edge_place(plane_view(out, 1), axis) + chroma_offset
    return abs(luma - chroma)


@pytest.mark.parametrize("size", [(128, 128), (180, 180)])
@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize(
    ("location", "horizontal", "vertical"),
    [("left", 0.5, 1.0), ("center", 1.0, 1.0), ("topleft", 0.5, 0.5)],
)
def test_colour_edges_stay_on_luma_edges(
    location: str, horizontal: float, vertical: float, axis: int, size: tuple[int, int]
) -> None:
    """Chroma that is scaled as if centred moves half an output pixel against luma."""
    offset = horizontal if axis == 1 else vertical
    frame = marked(edge_frame(axis, offset, 31.0), location)
    out = FrameUpscaler(None, size)(frame)
    assert edge_distance(out, axis, offset) < 0.1


def test_the_edge_test_sees_a_wrong_siting() -> None:
    """The same frame with the wrong mark is off by half an output pixel: the test above can fail."""
    frame = marked(edge_frame(1, 0.5, 31.0), "center")
    assert edge_distance(FrameUpscaler(None, (128, 128))(frame), 1, 0.5) > 0.35


def test_siting_travels_to_the_output() -> None:
    out = FrameUpscaler(None, (128, 128))(marked(noise_frame((64, 64)), "topleft"))
    assert measured_chroma_location(out) == 3


@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuv422p10le", "yuv444p", "gray", "gray10le"])
def test_luma_is_the_networks(pix_fmt: str) -> None:
    frame = noise_frame((48, 32), pix_fmt)
    backend = Repeat()
    out = FrameUpscaler(backend, (96, 64))(frame)
    assert out.format.name == pix_fmt
    assert np.array_equal(plane_view(out, 0), plane_view(frame, 0).repeat(2, 0).repeat(2, 1))
    assert backend.limits == [1023 if "10" in pix_fmt else 255]


def test_flat_colour_stays_exact() -> None:
    """No rounding drift in chroma, whatever the tags: a grey picture must not turn green."""
    for values in ((16, 128, 128), (235, 16, 240), (100, 90, 200)):
        frame = flat_frame((64, 48), values)
        frame.colorspace, frame.color_range = 5, 2
        out = FrameUpscaler(Repeat(), (200, 150))(frame)
        for index, value in enumerate(values):
            assert (plane_view(out, index) == value).all()


def test_properties_are_kept_and_the_input_is_not_touched() -> None:
    frame = noise_frame((64, 48))
    before = [plane_view(frame, i).copy() for i in range(3)]
    frame.pts, frame.time_base, frame.duration = 4711, Fraction(1, 90000), 3003
    frame.color_range, frame.colorspace, frame.color_primaries, frame.color_trc = 2, 5, 9, 16
    frame.pict_type = 1
    out = FrameUpscaler(Repeat(), (128, 96))(frame)
    assert (out.width, out.height) == (128, 96)
    assert (out.pts, Fraction(out.time_base), out.duration) == (4711, Fraction(1, 90000), 3003)
    assert (out.color_range, out.colorspace, out.color_primaries, out.color_trc) == (2, 5, 9, 16)
    assert (frame.color_range, frame.colorspace, frame.color_primaries, frame.color_trc) == (2, 5, 9, 16)
    assert int(out.pict_type) == 0
    assert all(np.array_equal(plane_view(frame, i), b) for i, b in enumerate(before))


def test_doubles_until_large_enough_then_fits() -> None:
    backend = Repeat()
    out = FrameUpscaler(backend, (150, 112))(flat_frame((32, 24), (77, 128, 128)))
    assert len(backend.limits) == 3
    assert (out.width, out.height) == (150, 112)
    assert (plane_view(out, 0) == 77).all()


def test_luma_of_an_exact_size_is_resampled_without_a_shift() -> None:
    """Network, then swscale: the edge stays where swscale alone puts it."""
    frame = marked(edge_frame(1, 0.5, 31.0), "left")
    by_network = edge_place(plane_view(FrameUpscaler(Repeat(), (90, 90))(frame), 0), 1)
    by_swscale = edge_place(plane_view(FrameUpscaler(None, (90, 90))(frame), 0), 1)
    assert abs(by_network - by_swscale) < 0.1


def test_samples_beyond_the_depth_are_clipped() -> None:
    """libx264 aborts the process on a 10-bit sample above 1023."""
    out = FrameUpscaler(Repeat(offset=60000), (96, 64))(noise_frame((48, 32), "yuv420p10le"))
    assert plane_view(out, 0).max() == 1023


def test_a_backend_of_the_wrong_shape_is_named() -> None:
    class Wrong(Repeat):
        def __call__(self, luma: Plane, max_value: int = 255, out: Plane | None = None) -> Plane:
            return luma

    with pytest.raises(BackendError, match=r"repeat returned \(32, 48\)"):
        FrameUpscaler(Wrong(), (96, 64))(noise_frame((48, 32)))


def test_a_frame_of_the_wanted_size_is_left_alone() -> None:
    frame = noise_frame((64, 48))
    assert FrameUpscaler(Repeat(), (64, 48))(frame) is frame


def test_threads_do_not_disturb_each_other() -> None:
    upscaler = FrameUpscaler(Repeat(), (160, 120))
    frames = [flat_frame((64, 48), (20 + n, 100 + n, 60 + n)) for n in range(40)]
    with ThreadPoolExecutor(4) as pool:
        for n, out in enumerate(pool.map(upscaler, frames)):
            assert [int(plane_view(out, i).min()) for i in range(3)] == [20 + n, 100 + n, 60 + n]
            assert [int(plane_view(out, i).max()) for i in range(3)] == [20 + n, 100 + n, 60 + n]
