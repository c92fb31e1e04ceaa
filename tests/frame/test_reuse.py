"""Repeating what did not change: bit for bit what computing everything gives.

Also covers whole frames and their chroma: `upscale.frame.repeats`.
"""

from __future__ import annotations

import json
import threading
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from clips import flat_frame, write_video

from upscale import Options, backends, upscale_file
from upscale.backends.base import Backend
from upscale.cli.main import main
from upscale.errors import BackendError
from upscale.frame import reuse as reuse_module
from upscale.frame.reuse import SIDES, ReceptiveField, Reuse, history_length
from upscale.frame.upscaler import FrameUpscaler
from upscale.media.input.convert import filter_graph
from upscale.media.input.siting import measured_chroma_location
from upscale.media.pixels.planes import Plane, plane_view
from upscale.model.weights import find_model

RUNTIMES = [name for name, missing in backends.available().items() if missing is None]
GAN, FAST = find_model("gan"), find_model("fast")


def picture(size: tuple[int, int], seed: int, bits: int = 8) -> Plane:
    """Smooth shapes and grain, far from flat anywhere."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0 : size[0], 0 : size[1]]
    waves = np.sin(x / 7 + seed) * np.cos(y / 11) + np.sin((x + 2 * y) / 23)
    values = np.clip(120 + 45 * waves + rng.normal(0, 6, size), 0, 255) * (1 << (bits - 8))
    return values.astype(np.uint8 if bits == 8 else np.uint16)


def film(size: tuple[int, int], frames: int, seed: int, bits: int = 8) -> Iterator[Plane]:
    """A still picture in which patches and single samples change, also at edges and in corners, and change
    back; and cuts."""
    rng = np.random.default_rng(seed)
    still = picture(size, seed, bits)
    other = picture(size, seed + 1, bits)
    seen = [still]
    for n in range(frames):
        if n % 7 == 5:  # a cut
            still, other = other, picture(size, seed + n, bits)
        kind = n % 4
        if kind == 1:  # a patch anywhere, also over the edge
            y, x = rng.integers(-10, size[0]), rng.integers(-10, size[1])
            rows, columns = (
                slice(max(0, y), y + rng.integers(11, 40)),
                slice(max(0, x), x + rng.integers(11, 60)),
            )
            still = still.copy()
            still[rows, columns] = other[rows, columns]
        elif kind == 2:  # single samples: corners and one somewhere
            still = still.copy()
            for y, x in ((0, 0), (size[0] - 1, size[1] - 1), (rng.integers(size[0]), rng.integers(size[1]))):
                still[y, x] ^= 1
        elif n % 8 == 7:  # as it was three frames ago
            still = seen[-3]
        seen.append(still)
        yield still


@pytest.fixture(scope="module", params=RUNTIMES)
def runtime(request: pytest.FixtureRequest) -> Iterator[Backend]:
    with backends.load(request.param, GAN, threads=2) as backend:
        yield backend


def assert_equal_to_all_computed(
    backend: Backend, reach: ReceptiveField, frames: list[Plane], limit: int
) -> float:
    """Run `frames` through both; returns the share that was repeated."""
    reuse = Reuse(backend, reach)
    for n, frame in enumerate(frames):
        assert np.array_equal(reuse(frame, limit), backend(frame, limit)), f"frame {n}"
    pixels, computed = reuse.counts
    assert pixels == sum(frame.size for frame in frames)
    return 1 - computed / pixels


@pytest.mark.parametrize(("size", "bits"), [((176, 240), 8), ((177, 251), 8), ((150, 198), 10)])
def test_every_runtime_gives_the_same_bits(runtime: Backend, size: tuple[int, int], bits: int) -> None:
    frames = list(film(size, 16, sum(size), bits))
    assert GAN.config is not None
    assert assert_equal_to_all_computed(runtime, ReceptiveField.of(GAN.config), frames, (1 << bits) - 1) > 0.5


@pytest.mark.skipif("tflite" not in RUNTIMES, reason="needs LiteRT")
def test_int8_gives_the_same_bits() -> None:
    assert GAN.config is not None
    with backends.load("tflite", replace(GAN, tflite=None), threads=1) as backend:
        frames = list(film((176, 250), 16, 5))
        assert assert_equal_to_all_computed(backend, ReceptiveField.of(GAN.config), frames, 255) > 0.5


def test_the_fast_model_gives_the_same_bits() -> None:
    """Its border is another."""
    assert FAST.config is not None
    with backends.load("onnx", FAST, threads=1) as backend:
        frames = list(film((176, 250), 16, 6))
        assert assert_equal_to_all_computed(backend, ReceptiveField.of(FAST.config), frames, 255) > 0.5


@pytest.mark.parametrize(("model", "border"), [("gan", 10), ("fast", 12)])
def test_the_border_is_as_far_as_one_pixel_has_an_effect(model: str, border: int) -> None:
    """One pixel less would leave seams; one more would cost time. The check must not have to find out."""
    files = find_model(model)
    assert files.config is not None
    reach = ReceptiveField.of(files.config)
    assert reach == ReceptiveField(border, 2)
    before = picture((120, 120), 1, 16)
    after = before.copy()
    after[60:62, 60:62] += 20000  # one cell of the network's grid
    with backends.load("onnx", files, threads=1) as backend:
        changed = (backend(before, 0xFFFF) != backend(after, 0xFFFF)).reshape(120, 2, 120, 2).any((1, 3))
    rows, columns = np.flatnonzero(changed.any(1)), np.flatnonzero(changed.any(0))
    found = [60 - rows[0], rows[-1] - 61, 60 - columns[0], columns[-1] - 61]
    assert found == [reach.border] * 4


@pytest.mark.parametrize("less", [2, 4])
def test_a_border_that_is_too_narrow_is_found_out(less: int) -> None:
    """The check of crops sees the seams, so that a wrong border can only cost time."""
    with backends.load("onnx", GAN, threads=1) as backend:
        assert assert_equal_to_all_computed(backend, ReceptiveField(10 - less, 2), moving_patches(), 255) == 0


def test_overlapping_calls_give_the_same_bits(runtime: Backend) -> None:
    """Frames in flight at once: each waits for the output of the one before, not for more."""
    assert GAN.config is not None
    reuse = Reuse(runtime, ReceptiveField.of(GAN.config))
    frames = list(film((128, 176), 40, 9))
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(reuse, frames))
    for n, (frame, result) in enumerate(zip(frames, results, strict=True)):
        assert np.array_equal(result, runtime(frame)), f"frame {n}"
    pixels, computed = reuse.counts
    assert computed < 0.5 * pixels


class Blur:
    name, precision, description, scale = "blur", "fp32", "a blur", 2

    name, precision, description, scale = "blur", "fp32", "a blur", 2

    def __init__(self) -> None:
        self.shapes: list[tuple[int, ...]] = []

    def __call__(self, luma: Plane, max_value: int = 255, out: Plane | None = None) -> Plane:
        self.shapes.append(luma.shape)
        wide = np.pad(luma.astype(np.uint32), 2)
        height, width = luma.shape
        total = sum(wide[y : y + height, x : x + width] for y in range(5) for x in range(5))
        result = (total // 25).astype(luma.dtype).repeat(2, 0).repeat(2, 1)
        if out is None:
            return result
        out[...] = result
        return out

    def close(self) -> None: ...

    def __enter__(self) -> Blur:
        return self

    def __exit__(self, *exc: object) -> None: ...


def test_an_unchanged_frame_is_not_computed() -> None:
    backend = Blur()
    reuse = Reuse(backend, ReceptiveField(2, 1))
    frame = picture((100, 120), 3)
    first = reuse(frame)
    out = np.zeros_like(first)
    assert reuse(frame.copy()) is first
    assert reuse(frame.copy(), 255, out) is out
    assert np.array_equal(out, first)
    assert backend.shapes == [(100, 120)]
    assert reuse.counts == (3 * 12000, 12000)


def test_what_comes_again_is_computed_once() -> None:
    """Regression: in slides compressed with B-frames a few states that differ here and there take turns; each
    was computed again whenever it came, five times as much as with this."""
    backend = Blur()
    reuse = Reuse(backend, ReceptiveField(2, 1))
    states = [picture((200, 240), 3) for _ in range(4)]
    for n, state in enumerate(states):
        state[8 * n : 8 * n + 9, 10:50] ^= 3
    first = [reuse(state.copy()) for state in states]
    calls = len(backend.shapes)
    for _ in range(5):
        for state, expected in zip(states, first, strict=True):
            assert reuse(state.copy()) is expected
    assert len(backend.shapes) == calls
    assert np.array_equal(first[3], Blur()(states[3]))


def test_a_state_in_between_is_patched_onto_the_nearest_one() -> None:
    backend = Blur()
    reuse = Reuse(backend, ReceptiveField(2, 1))
    still = picture((200, 300), 3)
    other = still.copy()
    other[:, :20] ^= 3
    near = still.copy()
    near[50:58, 60:70] ^= 5
    for frame in (still, other):
        reuse(frame)
    _, before = reuse.counts
    assert np.array_equal(reuse(near), Blur()(near))
    assert reuse.counts[1] - before < 0.02 * near.size


def test_moving_video_leaves_nothing_in_memory() -> None:
    """Eight frames of everything would be 14 MB more at 360p, for nothing."""
    backend = Blur()
    reuse = Reuse(backend, ReceptiveField(2, 1))
    alive: list[weakref.ref[Plane]] = []
    for n in range(6):
        frame = picture((100, 120), n)
        alive.append(weakref.ref(frame))
        reuse(frame)
        del frame
    assert [ref() is not None for ref in alive] == [False] * 5 + [True]


def test_frames_of_moving_video_are_not_kept() -> None:
    upscaler = FrameUpscaler(Blur(), (256, 192), reuse=FAST.config)
    repeats = upscaler._repeats
    assert repeats is not None
    counts = []
    for n in range(12):
        frame = flat_frame((128, 96), (90, 60, 200))
        plane_view(frame, 0)[...] = picture((96, 128), n)
        upscaler(frame)
        counts.append(len(repeats._past))
    assert counts == [1] * 12


def test_still_frames_that_never_repeat_the_last_one_are_kept() -> None:
    """Regression: A B A C A B A D, as B-frames come: with only the last frame kept none of them was found."""
    backend = Blur()
    upscaler = FrameUpscaler(backend, (256, 192), reuse=FAST.config)
    still = picture((96, 128), 1)
    for state in (*range(1, 12), *(0, 1, 0, 2, 0, 1, 0, 3) * 3):
        frame = flat_frame((128, 96), (90, 60 + state, 200))
        plane_view(frame, 0)[...] = still
        plane_view(frame, 0)[40, 40:50] = state
        upscaler(frame)
    calls = len(backend.shapes)
    for state in (0, 1, 0, 2, 0, 1, 0, 3):
        frame = flat_frame((128, 96), (90, 60 + state, 200))
        plane_view(frame, 0)[...] = still
        plane_view(frame, 0)[40, 40:50] = state
        upscaler(frame)
    assert len(backend.shapes) == calls


def test_how_many_frames_are_kept_depends_on_their_size() -> None:
    """Memory: two groups of four frames at 720p, one at 4K."""
    assert history_length(1280 * 720) == 8
    assert history_length(3840 * 2160) == 4
    assert history_length(1280 * 720 * 2) == 8


def test_another_size_depth_or_limit_is_computed() -> None:
    backend = Blur()
    reuse = Reuse(backend, ReceptiveField(2, 1))
    small, large = picture((40, 60), 1), picture((60, 60), 1)
    deep = small.astype(np.uint16)
    for luma, limit in ((small, 255), (large, 255), (small, 255), (deep, 255), (deep, 1023)):
        assert np.array_equal(reuse(luma, limit), Blur()(luma, limit))
    assert len(backend.shapes) == 5


class ShapeDependent(Blur):
    """Rounds another way in what is narrower than `least`, as runtimes with several kernels do."""

    def __init__(self, least: int) -> None:
        super().__init__()
        self.least = least

    def __call__(self, luma: Plane, max_value: int = 255, out: Plane | None = None) -> Plane:
        result = super().__call__(luma, max_value, out)
        if luma.shape[1] < self.least:
            result[9, 9] += 1
        return result


def moving_patches() -> list[Plane]:
    """Every frame differs from the one before in one patch."""
    frames = [picture((200, 300), 4)]
    for n in range(8):
        frames.append(frames[-1].copy())
        frames[-1][10 * n : 10 * n + 9, 20 * n : 20 * n + 30] ^= 3
    return frames


@pytest.mark.parametrize(("least", "share"), [(0, 0.8), (100, 0.8), (299, 0.0)])
def test_shapes_that_a_runtime_computes_otherwise_are_not_used(least: int, share: float) -> None:
    backend = ShapeDependent(least)
    found = assert_equal_to_all_computed(backend, ReceptiveField(2, 1), moving_patches(), 255)
    assert found > share if share else found == 0


def test_crops_have_few_shapes() -> None:
    backend = Blur()
    reuse = Reuse(backend, ReceptiveField(2, 1))
    for frame in film((200, 300), 60, 8):
        reuse(frame)
    sides = {*SIDES, 200, 300}
    assert all(height in sides and width in sides for height, width in backend.shapes)


class Broken(Blur):
    """Fails on the second whole picture."""

    def __call__(self, luma: Plane, max_value: int = 255, out: Plane | None = None) -> Plane:
        if len(self.shapes) == 1:
            self.shapes.append(luma.shape)
            raise BackendError("out of memory")
        return super().__call__(luma, max_value, out)


def test_a_failure_does_not_leave_the_next_call_waiting() -> None:
    reuse = Reuse(Broken(), ReceptiveField(2, 1))
    frames = [picture((40, 60), n) for n in range(3)]
    reuse(frames[0])
    with pytest.raises(BackendError, match="memory"):
        reuse(frames[1])
    failures: list[BaseException] = []

    def same_again() -> None:
        try:
            reuse(frames[1])
        except BackendError as error:
            failures.append(error)

    thread = threading.Thread(target=same_again)
    thread.start()
    thread.join(10)
    assert not thread.is_alive()
    assert len(failures) == 1
    assert np.array_equal(reuse(frames[2]), Blur()(frames[2]))  # and it continues after a cut


@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuv420p10le"])
@pytest.mark.parametrize("size", [(256, 192), (400, 300), (640, 480)])
def test_frames_are_the_same(size: tuple[int, int], pix_fmt: str) -> None:
    """From 128x96: doubled once, twice and then resampled, three times and then resampled."""
    assert GAN.config is not None
    bits = 8 if pix_fmt == "yuv420p" else 10
    with backends.load("onnx", GAN, threads=1) as backend:
        plain = FrameUpscaler(backend, size)
        reusing = FrameUpscaler(backend, size, reuse=GAN.config)
        for luma in film((96, 128), 10, 12, bits):
            frame = flat_frame((128, 96), (0, 60, 90), pix_fmt)
            plane_view(frame, 0)[...] = luma
            expected, got = plain(frame), reusing(frame)
            for index in range(3):
                assert np.array_equal(plane_view(expected, index), plane_view(got, index))
    assert plain.reused == 0
    assert reusing.reused > 0.3


def test_repeated_frames_have_their_own_times_and_the_same_properties() -> None:
    """An unchanged frame shares the memory of the last output, but nothing else."""
    assert GAN.config is not None
    with backends.load("onnx", GAN, threads=1) as backend:
        upscaler = FrameUpscaler(backend, (256, 192), reuse=GAN.config)
        frames = [marked(flat_frame((128, 96), (90, 60, 200))) for _ in range(4)]
        plane_view(frames[3], 0)[40:50, 40:50] = 17  # luma alone
        outs = []
        for n, frame in enumerate(frames):
            frame.pts, frame.time_base, frame.duration = 100 + n, Fraction(1, 90000), 7 + n
            frame.color_range, frame.colorspace, frame.color_primaries, frame.color_trc = 2, 5, 9, 16
            outs.append(upscaler(frame))
            # What the encoder's side does to a frame must not show in the next one.
            outs[-1].pts, outs[-1].colorspace, outs[-1].color_range = 5, 1, 1
    for n, out in enumerate(outs):
        assert out.duration == 7 + n
        assert Fraction(out.time_base) == Fraction(1, 90000)
        assert (out.color_primaries, out.color_trc) == (9, 16)
        assert measured_chroma_location(out) == 3
    data = [plane_view(out, 0).ctypes.data for out in outs]
    assert data[0] == data[1] == data[2] != data[3]
    assert not np.array_equal(plane_view(outs[2], 0), plane_view(outs[3], 0))
    assert np.array_equal(plane_view(outs[2], 1), plane_view(outs[3], 1))
    assert upscaler.reused > 0.5


def test_frames_that_come_again_share_memory_with_their_first_output() -> None:
    """Regression: only the last frame was remembered."""
    assert GAN.config is not None
    with backends.load("onnx", GAN, threads=1) as backend:
        plain = FrameUpscaler(backend, (256, 192))
        upscaler = FrameUpscaler(backend, (256, 192), reuse=GAN.config)
        outs = []
        for n in range(12):
            frame = flat_frame((128, 96), (90, 60 + n % 3 % 2, 200))  # chroma comes and goes, and so does …
            plane_view(frame, 0)[40:50, 40:50] = 17 * (n % 3)  # … luma
            outs.append(upscaler(frame))
            expected = plain(frame)
            for index in range(3):
                assert np.array_equal(plane_view(expected, index), plane_view(outs[-1], index))
    assert len({plane_view(out, 0).ctypes.data for out in outs}) == 3


def marked(frame: av.VideoFrame) -> av.VideoFrame:
    """With chroma sited top left."""
    graph = filter_graph(frame, "setparams", "chroma_location=topleft")
    graph.vpush(frame)
    return graph.vpull()


def test_changed_chroma_is_scaled_though_luma_is_the_same() -> None:
    assert GAN.config is not None
    with backends.load("onnx", GAN, threads=1) as backend:
        plain = FrameUpscaler(backend, (256, 192))
        reusing = FrameUpscaler(backend, (256, 192), reuse=GAN.config)
        for chroma in ((60, 200), (60, 200), (61, 200), (61, 199)):
            frame = flat_frame((128, 96), (90, *chroma))
            expected, got = plain(frame), reusing(frame)
            for index in range(3):
                assert np.array_equal(plane_view(expected, index), plane_view(got, index))
    assert reusing.reused == 0.75


def typing(n: int) -> av.VideoFrame:
    """A page on which a character appears in every frame."""
    frame = av.VideoFrame(256, 192, "yuv420p")
    plane_view(frame, 0)[...] = picture((192, 256), 1)
    for index in (1, 2):
        plane_view(frame, index)[...] = 128
    for k in range(n):
        plane_view(frame, 0)[40 + 2 * (k // 20) : 48, 8 * k % 240 : 8 * k % 240 + 6] = 16 + 10 * k
    return frame


def test_a_job_writes_the_same_frames_and_says_what_it_saved(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clip = write_video(tmp_path / "page.mkv", range(12), codec="ffv1", size=(256, 192), picture=typing)
    common = Options(scale=2, codec="ffv1", backend="onnx", threads=2)
    with_reuse = upscale_file(str(clip), str(tmp_path / "on.mkv"), common)
    without = upscale_file(str(clip), str(tmp_path / "off.mkv"), replace(common, reuse=False))
    assert without.reused == 0
    assert 0.7 < with_reuse.reused < 1
    with av.open(str(tmp_path / "on.mkv")) as on, av.open(str(tmp_path / "off.mkv")) as off:
        for a, b in zip(on.decode(video=0), off.decode(video=0), strict=True):
            assert all(np.array_equal(plane_view(a, i), plane_view(b, i)) for i in range(3))
    arguments = [str(clip), str(tmp_path / "cli.mkv"), "--scale", "2", "-c:v", "ffv1", "--backend", "onnx"]
    run_command(*arguments, "--json")
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["reused"] > 0.7
    run_command(*arguments, "-y", "-v")
    assert "% of the picture repeated" in capsys.readouterr().err
    run_command(*arguments, "-y", "-v", "--no-reuse")
    assert "repeated" not in capsys.readouterr().err


def run_command(*arguments: str) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(list(arguments))
    assert stopped.value.code == 0


def test_moving_video_is_compared_rarely_and_a_still_picture_is_found_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Regression: comparing every frame cost moving video 4.5 % of the job, and found nothing."""
    compared: list[int] = []
    plain = reuse_module.changed_blocks
    monkeypatch.setattr(
        reuse_module, "changed_blocks", lambda a, b: (compared.append(len(outs)), plain(a, b))[1]
    )
    frames = [frame_of(min(n, 60)) for n in range(80)]
    outs: list[av.VideoFrame] = []
    with backends.load("onnx", GAN, threads=1) as backend:
        upscaler = FrameUpscaler(backend, (256, 192), reuse=GAN.config)
        for frame in frames:
            outs.append(upscaler(frame))
        assert len([n for n in compared if n < 60]) <= 12 + 60 // 6
        assert upscaler.reused > 13 / 80  # all still frames but one, and the six until one is compared
        whole = FrameUpscaler(backend, (256, 192))
        assert all(
            np.array_equal(plane_view(o), plane_view(whole(f))) for o, f in zip(outs, frames, strict=True)
        )


def frame_of(seed: int) -> av.VideoFrame:
    """Luma and chroma are others for every seed."""
    frame = flat_frame((128, 96), (0, 100 + seed, 128))
    plane_view(frame)[...] = picture((96, 128), seed)
    return frame
